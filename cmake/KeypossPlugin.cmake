# What the libraries for the GPU are built with: the CUDA compiler, the GPU architectures, and for the plugin TensorRT's headers.
# No library of TensorRT is linked, so its headers are enough.

# Sets `result` to whether the plugin is to be built. Says in one sentence what is missing, and stops there if the plugin was asked for.
function(keyposs_find_plugin_tools result)
  set(${result} OFF PARENT_SCOPE)
  if(NOT KEYPOSS_BUILD_PLUGIN)
    message(STATUS "TensorRT plugin: not built; -DKEYPOSS_BUILD_PLUGIN=ON builds it, with pip KEYPOSS_BUILD_PLUGIN=1 (docs/plugin.md)")
    return()
  endif()

  keyposs_find_nvcc(missing)
  find_path(KEYPOSS_TENSORRT_INCLUDE_DIR NvInferRuntime.h HINTS ${TENSORRT_ROOT} $ENV{TENSORRT_ROOT}
            PATHS /usr/include/x86_64-linux-gnu /usr/include/aarch64-linux-gnu /usr/local/tensorrt /opt/tensorrt
            PATH_SUFFIXES include DOC "The folder of NvInferRuntime.h, TensorRT 10.3 or newer")
  keyposs_tensorrt_version(version)

  if(NOT missing AND NOT KEYPOSS_TENSORRT_INCLUDE_DIR)
    set(missing "TensorRT's headers (NvInferRuntime.h) were not found; install TensorRT's developer package, set TENSORRT_ROOT, or give \
-DKEYPOSS_TENSORRT_INCLUDE_DIR=/path/to/include")
  elseif(NOT missing AND version AND version VERSION_LESS 10.3)
    set(missing "the headers in ${KEYPOSS_TENSORRT_INCLUDE_DIR} are of TensorRT ${version}, and 10.3 or newer is needed")
  endif()
  keyposs_conclude("TensorRT plugin" "TensorRT plugin" KEYPOSS_BUILD_PLUGIN "TensorRT ${version} headers in ${KEYPOSS_TENSORRT_INCLUDE_DIR}, ")
endfunction()

# The same for the preprocessing library, which needs no TensorRT.
function(keyposs_find_preprocess_tools result)
  set(${result} OFF PARENT_SCOPE)
  if(NOT KEYPOSS_BUILD_PREPROCESS)
    message(STATUS "Preprocessing library: not built; -DKEYPOSS_BUILD_PREPROCESS=ON builds it (docs/preprocess.md)")
    return()
  endif()

  keyposs_find_nvcc(missing)
  keyposs_conclude("Preprocessing library" "preprocessing library" KEYPOSS_BUILD_PREPROCESS "")
endfunction()

# The end of both, in whose place it stands: with `missing` it is told, and an error where `setting` asked for what cannot be built; with
# nothing missing CUDA is made ready and `result` is ON.
macro(keyposs_conclude title name setting found)
  if(missing AND ${setting} STREQUAL "AUTO")
    message(STATUS "${title}: not built, because ${missing}")
    return()
  elseif(missing)
    message(FATAL_ERROR "The ${name} cannot be built: ${missing}.")
  endif()
  set(CMAKE_CUDA_COMPILER "${KEYPOSS_NVCC}" CACHE FILEPATH "The CUDA compiler") # the one that CMake compiles with
  keyposs_cuda_architectures(architectures)
  set(CMAKE_CUDA_ARCHITECTURES "${architectures}" PARENT_SCOPE)
  string(REPLACE ";" " " shown "${architectures}")
  message(STATUS "${title}: ${found}${KEYPOSS_NVCC}, GPUs ${shown}")
  set(${result} ON PARENT_SCOPE)
endmacro()

# Finds the CUDA compiler; `missing` says in one sentence why there is none, and is empty where there is one.
function(keyposs_find_nvcc missing)
  foreach(named IN ITEMS "${CMAKE_CUDA_COMPILER}" "$ENV{CUDACXX}") # where CMake itself would look
    if(named AND NOT DEFINED KEYPOSS_NVCC)
      set(KEYPOSS_NVCC "${named}" CACHE FILEPATH "The CUDA compiler")
    endif()
  endforeach()
  find_program(KEYPOSS_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin PATHS /usr/local/cuda/bin DOC "The CUDA compiler")
  set(why "")
  if(NOT KEYPOSS_NVCC)
    set(why "there is no CUDA compiler (nvcc); put it on PATH or give -DKEYPOSS_NVCC=/path/to/nvcc")
  elseif(NOT EXISTS "${KEYPOSS_NVCC}")
    set(why "there is no file ${KEYPOSS_NVCC}; give the CUDA compiler by -DKEYPOSS_NVCC=/path/to/nvcc")
  endif()
  set(${missing} "${why}" PARENT_SCOPE)
endfunction()

# MAJOR.MINOR from NvInferVersion.h; empty where it cannot be told.
function(keyposs_tensorrt_version result)
  set(${result} "" PARENT_SCOPE)
  if(NOT EXISTS "${KEYPOSS_TENSORRT_INCLUDE_DIR}/NvInferVersion.h")
    return()
  endif()
  file(READ "${KEYPOSS_TENSORRT_INCLUDE_DIR}/NvInferVersion.h" text)
  # Written as numbers up to 10.8 or so, by way of TRT_MAJOR_ENTERPRISE since.
  if(text MATCHES "(NV_TENSORRT_MAJOR|TRT_MAJOR_ENTERPRISE) ([0-9]+)")
    set(major ${CMAKE_MATCH_2})
    if(text MATCHES "(NV_TENSORRT_MINOR|TRT_MINOR_ENTERPRISE) ([0-9]+)")
      set(${result} "${major}.${CMAKE_MATCH_2}" PARENT_SCOPE)
    endif()
  endif()
endfunction()

# KEYPOSS_CUDA_ARCHITECTURES, or machine code for every GPU family from Turing on that nvcc knows, and PTX for those to come.
function(keyposs_cuda_architectures result)
  set(KEYPOSS_CUDA_ARCHITECTURES "" CACHE STRING "GPU architectures such as 87 or 75-real;120, empty for all that nvcc knows from 75 on")
  if(KEYPOSS_CUDA_ARCHITECTURES)
    set(${result} "${KEYPOSS_CUDA_ARCHITECTURES}" PARENT_SCOPE)
    return()
  endif()
  execute_process(COMMAND "${KEYPOSS_NVCC}" --list-gpu-arch OUTPUT_VARIABLE listed ERROR_QUIET)
  string(REGEX MATCHALL "compute_[0-9]+" listed "${listed}")
  list(TRANSFORM listed REPLACE "compute_" "")
  set(chosen "")
  # RTX 20, A100, RTX 30, Orin, RTX 40, H100, B200, Thor, RTX 50, Spark. Code for 8.6 runs on 8.8 and so on within a family.
  foreach(arch IN ITEMS 75 80 86 87 89 90 100 110 120 121)
    if(arch IN_LIST listed)
      list(APPEND chosen "${arch}-real")
      set(newest ${arch})
    endif()
  endforeach()
  if(NOT chosen)
    message(FATAL_ERROR "${KEYPOSS_NVCC} names no GPU architecture; give -DKEYPOSS_CUDA_ARCHITECTURES, for example 86.")
  endif()
  list(APPEND chosen "${newest}-virtual")
  set(${result} "${chosen}" PARENT_SCOPE)
endfunction()
