# GLSL compute kernels to SPIR-V at build time (glslang), checked by spirv-val and embedded as arrays.
find_program(ORCH_GLSLANG glslangValidator)
find_program(ORCH_SPIRV_VAL spirv-val)
find_program(ORCH_SPIRV_DIS spirv-dis)

# orch_shader(OUT_HEADER OUT_SPIRV source name [definitions...]): build rules for one kernel variant. The header,
# included as "gen/kernels/<name>.h", defines `const uint32_t <name>[]`.
function(orch_shader out_header out_spirv source name)
  set(directory ${CMAKE_BINARY_DIR}/gen/kernels)
  file(MAKE_DIRECTORY ${directory})
  get_filename_component(folder ${source} DIRECTORY)
  file(GLOB includes CONFIGURE_DEPENDS ${folder}/*.glsl)
  set(definitions ${ARGN})
  list(TRANSFORM definitions PREPEND -D)
  add_custom_command(
    OUTPUT ${directory}/${name}.spv ${directory}/${name}.h
    COMMAND ${ORCH_GLSLANG} --quiet -V --target-env vulkan1.2 ${definitions} -o ${directory}/${name}.spv ${source}
    COMMAND ${ORCH_SPIRV_VAL} --target-env vulkan1.2 ${directory}/${name}.spv
    COMMAND ${ORCH_GLSLANG} --quiet -V --target-env vulkan1.2 ${definitions} --vn ${name}
      -o ${directory}/${name}.h ${source}
    DEPENDS ${source} ${includes}
    COMMENT "Kernel ${name}"
    VERBATIM)
  set(${out_header} ${directory}/${name}.h PARENT_SCOPE)
  set(${out_spirv} ${directory}/${name}.spv PARENT_SCOPE)
endfunction()

# orch_mutant_shader(OUT_HEADER name kernel file from to [from to]...): the kernel with texts of one of its files
# replaced, for tests that a wrong kernel is seen. Fails at configure time when a text is gone.
function(orch_mutant_shader out_header name kernel file)
  set(kernels ${CMAKE_SOURCE_DIR}/worker/kernels)
  set(directory ${CMAKE_BINARY_DIR}/gen/mutants/${name})
  math(EXPR last "${ARGC} - 1")
  file(GLOB sources CONFIGURE_DEPENDS ${kernels}/*.glsl ${kernels}/${kernel}.comp)
  foreach(source ${sources})
    get_filename_component(base ${source} NAME)
    file(READ ${source} text)
    if(base STREQUAL file)
      foreach(at RANGE 4 ${last} 2)
        math(EXPR next "${at} + 1")
        string(REPLACE "${ARGV${at}}" "${ARGV${next}}" changed "${text}")
        if(changed STREQUAL text)
          message(FATAL_ERROR "Mutant ${name}: ${file} does not contain '${ARGV${at}}'")
        endif()
        set(text "${changed}")
      endforeach()
    endif()
    file(CONFIGURE OUTPUT ${directory}/${base} CONTENT "@text@" @ONLY)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
  endforeach()
  orch_shader(header spirv ${directory}/${kernel}.comp ${name})
  set(${out_header} ${header} PARENT_SCOPE)
endfunction()
