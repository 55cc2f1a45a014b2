# GLSL compute kernels to SPIR-V at build time (glslang), checked by spirv-val and embedded as arrays.
find_program(ORCH_GLSLANG glslangValidator)
find_program(ORCH_SPIRV_VAL spirv-val)
find_program(ORCH_SPIRV_DIS spirv-dis)

# orch_shader(OUT_HEADER OUT_SPIRV source name [definitions...]): build rules for one kernel variant. The header, included as
# "gen/kernels/<name>.h", defines `const uint32_t <name>[]`.
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
    COMMAND ${ORCH_GLSLANG} --quiet -V --target-env vulkan1.2 ${definitions} --vn ${name} -o ${directory}/${name}.h ${source}
    DEPENDS ${source} ${includes}
    COMMENT "Kernel ${name}"
    VERBATIM)
  set(${out_header} ${directory}/${name}.h PARENT_SCOPE)
  set(${out_spirv} ${directory}/${name}.spv PARENT_SCOPE)
endfunction()
