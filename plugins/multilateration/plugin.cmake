# The TensorRT plugin library and, with KEYPOSS_BUILD_HARNESS, the program that tests it.
set(CMAKE_CUDA_RUNTIME_LIBRARY Static) # the library runs beside whatever CUDA runtime the program has

string(REPLACE ";" "," nvcc_warnings "${keyposs_warnings}")
function(keyposs_cuda_target target)
  keyposs_cpu_target(${target})
  target_compile_features(${target} PRIVATE cuda_std_17)
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:--Werror=all-warnings;-Xcompiler=${nvcc_warnings}>")
  target_include_directories(${target} SYSTEM PRIVATE "${KEYPOSS_TENSORRT_INCLUDE_DIR}" ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  target_link_libraries(${target} PRIVATE ${CMAKE_DL_LIBS})
endfunction()

add_library(keyposs_multilateration_plugin MODULE multilateration_kernel.cu multilateration_plugin.cpp multilateration_creator.cpp
            multilateration_attributes.cpp plugin_log.cpp plugin_library.cpp)
keyposs_cuda_target(keyposs_multilateration_plugin)
set_target_properties(keyposs_multilateration_plugin PROPERTIES CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden
                      VISIBILITY_INLINES_HIDDEN ON LINK_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/plugin_library.map")
target_link_options(keyposs_multilateration_plugin PRIVATE
                    "LINKER:--version-script=${CMAKE_CURRENT_SOURCE_DIR}/plugin_library.map,--exclude-libs,ALL")
if(NOT keyposs_sanitizers) # whose symbols come from the program
  target_link_options(keyposs_multilateration_plugin PRIVATE "LINKER:--no-undefined,-s")
endif()

# For programs that only open a plugin library.
add_library(keyposs_multilateration_autoload MODULE autoload.cpp)
keyposs_cuda_target(keyposs_multilateration_autoload)
set_target_properties(keyposs_multilateration_autoload PROPERTIES CXX_VISIBILITY_PRESET hidden)

set(libraries keyposs_multilateration_plugin keyposs_multilateration_autoload)
if(SKBUILD)
  install(TARGETS ${libraries} LIBRARY DESTINATION keyposs_trt/lib)
else()
  include(GNUInstallDirs)
  install(TARGETS ${libraries} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()

if(KEYPOSS_BUILD_HARNESS)
  add_executable(keyposs_multilateration_harness harness/main.cpp harness/creation.cpp harness/contract.cpp harness/gpu.cpp
                 harness/timing.cpp harness/empty.cu)
  keyposs_cuda_target(keyposs_multilateration_harness)

  file(STRINGS "${KEYPOSS_TENSORRT_INCLUDE_DIR}/NvInferVersion.h" major REGEX "define (NV_TENSORRT_MAJOR|TRT_MAJOR_ENTERPRISE) [0-9]+")
  string(REGEX MATCH "[0-9]+" major "${major}")
  add_library(keyposs_multilateration_registry SHARED harness/registry.cpp)
  keyposs_cuda_target(keyposs_multilateration_registry)
  target_compile_options(keyposs_multilateration_registry PRIVATE -Wno-deprecated-declarations) # TensorRT 10 has the old plugins too
  set_target_properties(keyposs_multilateration_registry PROPERTIES OUTPUT_NAME nvinfer SOVERSION ${major}
                        LIBRARY_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/registry")
endif()
