# sluice_module(<name> SOURCES … [PUBLIC …] [PRIVATE …] [COROUTINES])
#
# One static library for one folder of src/, called sluice_<name> with the alias sluice::<name>. Headers are included
# from the root of src/ ("oci/digest.hpp"). PUBLIC are the modules and libraries that its headers need, PRIVATE those
# that only its sources need. A module that is not named here does not link: that is how the layers are kept.
# COROUTINES reuses runtime's precompiled Asio headers.
function(sluice_module name)
  cmake_parse_arguments(ARG "COROUTINES" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(sluice_${name} STATIC ${ARG_SOURCES})
  add_library(sluice::${name} ALIAS sluice_${name})
  target_include_directories(sluice_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(sluice_${name} PUBLIC ${ARG_PUBLIC} PRIVATE sluice_warnings ${ARG_PRIVATE})
  if(ARG_COROUTINES)
    target_precompile_headers(sluice_${name} REUSE_FROM sluice_runtime)
  endif()
endfunction()
