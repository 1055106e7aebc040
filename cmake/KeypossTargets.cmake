# How everything native is compiled: strictly, and what runs on the CPU under the sanitizers where KEYPOSS_SANITIZE asks for them.
set(keyposs_warnings -Wall -Wextra -Wconversion -Wshadow -Werror)
string(REPLACE ";" "," keyposs_nvcc_warnings "${keyposs_warnings}")
set(CMAKE_CUDA_RUNTIME_LIBRARY Static) # a library runs beside whatever CUDA runtime the program has
set(keyposs_sanitizers "")
if(KEYPOSS_SANITIZE)
  set(keyposs_sanitizers -fsanitize=address,undefined)
endif()

function(keyposs_cpu_target target)
  target_compile_features(${target} PRIVATE cxx_std_17)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${keyposs_warnings}>)
  if(keyposs_sanitizers)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-g;${keyposs_sanitizers};-fno-sanitize-recover=all>)
    target_link_options(${target} PRIVATE ${keyposs_sanitizers})
  endif()
endfunction()

function(keyposs_cuda_target target)
  keyposs_cpu_target(${target})
  target_compile_features(${target} PRIVATE cuda_std_17)
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:--Werror=all-warnings;-Xcompiler=${keyposs_nvcc_warnings}>")
  target_include_directories(${target} SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  target_link_libraries(${target} PRIVATE ${CMAKE_DL_LIBS})
endfunction()

# Lets a library show the functions of its version script alone.
function(keyposs_export_only target map)
  set_target_properties(${target} PROPERTIES CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
                        LINK_DEPENDS "${map}")
  target_link_options(${target} PRIVATE "LINKER:--version-script=${map},--exclude-libs,ALL")
  if(NOT keyposs_sanitizers) # whose symbols come from the program
    target_link_options(${target} PRIVATE "LINKER:--no-undefined,-s")
  endif()
endfunction()

include(GNUInstallDirs)

# Into the package, or where the system keeps libraries.
function(keyposs_install_libraries)
  if(SKBUILD)
    install(TARGETS ${ARGV} LIBRARY DESTINATION keyposs_trt/lib)
  else()
    install(TARGETS ${ARGV} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  endif()
endfunction()
