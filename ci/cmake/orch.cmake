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
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${ORCH_CCACHE})
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

# orch_test(name SOURCES... [LINK ...] [LABELS fast|io|sim|model|e2e...] [ARGS ...] [TIMEOUT seconds] [COMPUTES])
# One gtest binary, one ctest entry; LABELS default to fast. Its own sources are compiled without the optimiser and without debug
# information, which took half of their compile time and won nothing in tests that call a library; COMPUTES keeps both for tests that do
# the work themselves.
function(orch_test name)
  cmake_parse_arguments(ARG "COMPUTES" "TIMEOUT" "SOURCES;LINK;LABELS;ARGS" ${ARGN})
  find_package(GTest REQUIRED)
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gmock_main GTest::gmock GTest::gtest orch_flags)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  if(NOT ARG_COMPUTES)
    target_compile_options(${name} PRIVATE "$<$<CONFIG:Release>:-O0;-g0>")
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
