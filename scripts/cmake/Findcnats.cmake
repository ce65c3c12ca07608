# Finds cnats, the NATS client in C, as the target cnats::nats. Sets cnats_FOUND. The package file that cnats itself installs
# comes second: Debian's names a static library that Debian does not install, which ends the configuration of whoever loads it.
if(TARGET cnats::nats)
  set(cnats_FOUND TRUE)
  return()
endif()

find_path(cnats_INCLUDE_DIR NAMES nats/nats.h)
find_library(cnats_LIBRARY NAMES nats)
mark_as_advanced(cnats_INCLUDE_DIR cnats_LIBRARY)
if(NOT cnats_LIBRARY)  # static only, with libraries of its own
  find_package(cnats CONFIG QUIET)
  if(TARGET cnats::nats_static AND NOT TARGET cnats::nats)
    add_library(cnats::nats INTERFACE IMPORTED)
    set_target_properties(cnats::nats PROPERTIES INTERFACE_LINK_LIBRARIES cnats::nats_static)
  endif()
  return()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(cnats REQUIRED_VARS cnats_LIBRARY cnats_INCLUDE_DIR)
if(cnats_FOUND)
  find_package(Threads REQUIRED)
  add_library(cnats::nats UNKNOWN IMPORTED)
  set_target_properties(cnats::nats PROPERTIES IMPORTED_LOCATION "${cnats_LIBRARY}"
                        INTERFACE_INCLUDE_DIRECTORIES "${cnats_INCLUDE_DIR}" INTERFACE_LINK_LIBRARIES Threads::Threads)
endif()
