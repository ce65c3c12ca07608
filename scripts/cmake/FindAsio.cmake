# Finds standalone Asio as the target asio::asio: one that exists already, a CMake package (vcpkg, Conan), or plain
# headers (Debian, Homebrew). Sets Asio_FOUND, and Asio_VERSION where headers were found.
if(NOT TARGET asio::asio)
  find_package(asio CONFIG QUIET)
endif()
if(TARGET asio::asio)
  set(Asio_FOUND TRUE)
  return()
endif()

find_package(Threads QUIET)
find_path(Asio_INCLUDE_DIR NAMES asio.hpp)
mark_as_advanced(Asio_INCLUDE_DIR)
if(Asio_INCLUDE_DIR)
  # "#define ASIO_VERSION 102201 // 1.22.1"
  file(STRINGS "${Asio_INCLUDE_DIR}/asio/version.hpp" Asio_VERSION REGEX "define ASIO_VERSION ")
  string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" Asio_VERSION "${Asio_VERSION}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Asio REQUIRED_VARS Asio_INCLUDE_DIR Threads_FOUND VERSION_VAR Asio_VERSION)
if(Asio_FOUND)
  add_library(asio::asio INTERFACE IMPORTED)
  target_include_directories(asio::asio INTERFACE "${Asio_INCLUDE_DIR}")
  target_compile_definitions(asio::asio INTERFACE ASIO_STANDALONE)
  target_link_libraries(asio::asio INTERFACE Threads::Threads)
endif()
