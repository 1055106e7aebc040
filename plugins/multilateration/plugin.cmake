# The TensorRT plugin library and, with KEYPOSS_BUILD_HARNESS, the program that tests it.
function(keyposs_tensorrt_target target)
  keyposs_cuda_target(${target})
  target_include_directories(${target} SYSTEM PRIVATE "${KEYPOSS_TENSORRT_INCLUDE_DIR}")
endfunction()

add_library(keyposs_multilateration_plugin MODULE multilateration_kernel.cu multilateration_plugin.cpp multilateration_creator.cpp
            multilateration_attributes.cpp plugin_log.cpp plugin_library.cpp)
keyposs_tensorrt_target(keyposs_multilateration_plugin)
keyposs_export_only(keyposs_multilateration_plugin "${CMAKE_CURRENT_SOURCE_DIR}/plugin_library.map")

# For programs that only open a plugin library.
add_library(keyposs_multilateration_autoload MODULE autoload.cpp)
keyposs_tensorrt_target(keyposs_multilateration_autoload)
set_target_properties(keyposs_multilateration_autoload PROPERTIES CXX_VISIBILITY_PRESET hidden)

keyposs_install_libraries(keyposs_multilateration_plugin keyposs_multilateration_autoload)

if(KEYPOSS_BUILD_HARNESS)
  add_executable(keyposs_multilateration_harness harness/main.cpp harness/creation.cpp harness/contract.cpp harness/gpu.cpp
                 harness/timing.cpp harness/empty.cu)
  keyposs_tensorrt_target(keyposs_multilateration_harness)

  file(STRINGS "${KEYPOSS_TENSORRT_INCLUDE_DIR}/NvInferVersion.h" major REGEX "define (NV_TENSORRT_MAJOR|TRT_MAJOR_ENTERPRISE) [0-9]+")
  string(REGEX MATCH "[0-9]+" major "${major}")
  add_library(keyposs_multilateration_registry SHARED harness/registry.cpp)
  keyposs_tensorrt_target(keyposs_multilateration_registry)
  target_compile_options(keyposs_multilateration_registry PRIVATE -Wno-deprecated-declarations) # TensorRT 10 has the old plugins too
  set_target_properties(keyposs_multilateration_registry PROPERTIES OUTPUT_NAME nvinfer SOVERSION ${major}
                        LIBRARY_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/registry")
endif()
