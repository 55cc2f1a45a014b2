# Targets of this project. A core library may link common_base and other core libraries and nothing else: purity is a
# build error (DESIGN 4); ci/tidy checks the includes.

add_library(orch_flags INTERFACE)
target_include_directories(orch_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
target_compile_options(orch_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror
  -ffp-contract=off -fno-fast-math  # class X arithmetic (ENGINE-RULES); the whole tree, so that nothing can be forgotten
  -fno-omit-frame-pointer)
target_compile_definitions(orch_flags INTERFACE _GLIBCXX_ASSERTIONS)
if(ORCH_SANITIZE)
  target_compile_options(orch_flags INTERFACE -fsanitize=${ORCH_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(orch_flags INTERFACE -fsanitize=${ORCH_SANITIZE})
endif()

find_program(ORCH_MOLD mold)
if(ORCH_MOLD)
  add_link_options(-fuse-ld=mold)
endif()
find_program(ORCH_CCACHE ccache)
if(ORCH_CCACHE)
  # Paths below the source folder are hashed as relative ones, so that another clone of the same sources hits the cache.
  # A precompiled header is known by what was read for it (orch_precompiled), not by its own bytes, which name this clone.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_PCH_EXTSUM=1 CCACHE_SLOPPINESS=pch_defines,time_macros ${ORCH_CCACHE})
endif()

# Python with PyYAML for the generators: Debian's own, not a venv's.
find_program(ORCH_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)

# orch_core_library(name SOURCES... [LINK core libraries...])
function(orch_core_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC common_base ${ARG_LINK} PRIVATE orch_flags)
  set_property(TARGET ${name} PROPERTY ORCH_KIND core)
endfunction()

# orch_shell_library(name SOURCES... [LINK anything...])
function(orch_shell_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC common_base ${ARG_LINK} PRIVATE orch_flags)
endfunction()

# orch_executable(name SOURCES... [LINK ...])
function(orch_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} orch_flags)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endfunction()

# How the sources of tests are compiled: in a release without the optimiser and without debug information, which took half of their compile
# time and won nothing in tests that call a library; -pthread, which some libraries ask for, because a precompiled header wants it alike.
set(ORCH_TEST_OPTIONS -pthread)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  list(APPEND ORCH_TEST_OPTIONS -O0 -g0)
endif()

# orch_precompiled(name HEADER [GENERATED...]): build/<preset>/precompiled/<name>.pch, for orch_test(... PRECOMPILED name): a header that
# many tests begin with, read once, after the generated headers it reads. Libraries and programs do without: their includes are to be whole.
function(orch_precompiled name header)
  find_package(GTest REQUIRED)
  set(out ${CMAKE_BINARY_DIR}/precompiled/${name}.pch)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/precompiled)
  file(RELATIVE_PATH build ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  string(TOUPPER "${CMAKE_BUILD_TYPE}" config)
  separate_arguments(flags UNIX_COMMAND "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${config}}")
  get_target_property(options orch_flags INTERFACE_COMPILE_OPTIONS)
  get_target_property(definitions orch_flags INTERFACE_COMPILE_DEFINITIONS)
  list(TRANSFORM definitions PREPEND -D)
  get_target_property(gtest GTest::gtest INTERFACE_COMPILE_OPTIONS)
  set(compile ${CMAKE_CXX_COMPILER} -x c++-header -std=c++20 -fPIE ${flags} ${definitions} ${options} ${gtest} ${ORCH_TEST_OPTIONS})
  add_custom_command(OUTPUT ${out} ${out}.sum
    # Read by relative paths, so that another clone's is the same; compiled by whole ones, which the list of what was read needs;
    # what is compiled names none of them.
    COMMAND ${compile} -I. -I${build} ${header} -E -dD -o ${out}.sum
    COMMAND ${compile} -I${CMAKE_SOURCE_DIR} -I${CMAKE_BINARY_DIR} ${CMAKE_SOURCE_DIR}/${header}
            -fmacro-prefix-map=${CMAKE_SOURCE_DIR}=. -fpch-instantiate-templates -Xclang -fno-pch-timestamp -MD -MF ${out}.d -MT ${out} -o ${out}
    DEPENDS ${header} ${ARGN} DEPFILE ${out}.d WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} COMMAND_EXPAND_LISTS VERBATIM
    COMMENT "Precompiling ${header}")
  add_custom_target(precompiled_${name} DEPENDS ${out})
endfunction()

# orch_test(name SOURCES... [LINK ...] [LABELS fast|io|sim|model|e2e...] [ARGS ...] [TIMEOUT seconds] [COMPUTES] [PRECOMPILED name])
# One gtest binary, one ctest entry; LABELS default to fast. Its sources are compiled with ORCH_TEST_OPTIONS and begin with a precompiled
# header, PRECOMPILED or `tests`; COMPUTES is for tests that do the work themselves, which are compiled like a library.
function(orch_test name)
  cmake_parse_arguments(ARG "COMPUTES" "TIMEOUT;PRECOMPILED" "SOURCES;LINK;LABELS;ARGS" ${ARGN})
  find_package(GTest REQUIRED)
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gmock_main GTest::gmock GTest::gtest orch_flags)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  if(NOT ARG_COMPUTES)
    if(NOT ARG_PRECOMPILED)
      set(ARG_PRECOMPILED tests)
    endif()
    target_compile_options(${name} PRIVATE ${ORCH_TEST_OPTIONS})
    set(tests ${ARG_SOURCES})
    list(FILTER tests INCLUDE REGEX "_test\\.cc$")
    set_source_files_properties(${tests} PROPERTIES COMPILE_OPTIONS "-include-pch;precompiled/${ARG_PRECOMPILED}.pch"
                                OBJECT_DEPENDS ${CMAKE_BINARY_DIR}/precompiled/${ARG_PRECOMPILED}.pch)
  endif()
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  if(NOT ARG_LABELS)
    set(ARG_LABELS fast)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  if(ORCH_SANITIZE)
    math(EXPR ARG_TIMEOUT "10 * ${ARG_TIMEOUT}")  # orchestratord_core_test: 1 s without, 145 s of a core under the thread sanitizer
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
endfunction()

# orch_fuzz(name SOURCES... [LINK ...] [COVER libraries whose paths guide it] [MAX_LEN bytes] [CORPUS])
# A libFuzzer target, built with the address sanitizer only. Its inputs come from the generator in its source, from the
# files in corpus/<name> beside that source (CORPUS), and from mutation; a fixed seed makes the test repeatable, and by
# hand it runs as long as one likes. Every other build has ${name}_replay instead, a fast test.
function(orch_fuzz name)
  cmake_parse_arguments(ARG "CORPUS" "MAX_LEN" "SOURCES;LINK;COVER" ${ARGN})
  set(corpus "")
  if(ARG_CORPUS)
    list(GET ARG_SOURCES 0 source)
    get_filename_component(corpus ${CMAKE_CURRENT_SOURCE_DIR}/${source} DIRECTORY)
    get_filename_component(corpus ${corpus} ABSOLUTE)
    string(REGEX REPLACE "_fuzz$" "" stem ${name})
    set(corpus ${corpus}/corpus/${stem})
  endif()
  if(NOT ORCH_SANITIZE MATCHES "address")
    add_executable(${name}_replay ${ARG_SOURCES} ${CMAKE_SOURCE_DIR}/common/testing/fuzz_replay_main.cc)
    target_link_libraries(${name}_replay PRIVATE ${ARG_LINK} orch_flags)
    set_target_properties(${name}_replay PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME ${name}_replay COMMAND ${name}_replay ${corpus})
    set_tests_properties(${name}_replay PROPERTIES LABELS fast TIMEOUT 60)
    return()
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} orch_flags)
  foreach(library ${ARG_COVER})
    target_compile_options(${library} PRIVATE -fsanitize=fuzzer-no-link)
  endforeach()
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  if(NOT ARG_MAX_LEN)
    set(ARG_MAX_LEN 4096)
  endif()
  set(first_inputs "")
  if(ARG_CORPUS)
    # Named one by one: a folder as an argument would be written to.
    file(GLOB files CONFIGURE_DEPENDS ${corpus}/*)
    string(REPLACE ";" "," files "${files}")
    file(WRITE ${CMAKE_BINARY_DIR}/${name}.inputs "${files}")
    set(first_inputs -seed_inputs=@${CMAKE_BINARY_DIR}/${name}.inputs)
  endif()
  add_test(NAME ${name} COMMAND ${name} ${first_inputs} -seed=1 -runs=200000 -max_total_time=15 -max_len=${ARG_MAX_LEN} -timeout=5
                                        -rss_limit_mb=2048 -malloc_limit_mb=512 -artifact_prefix=${CMAKE_BINARY_DIR}/${name}-
                                        -print_final_stats=1 -verbosity=0)
  set_tests_properties(${name} PROPERTIES LABELS "fuzz" TIMEOUT 120)
endfunction()
