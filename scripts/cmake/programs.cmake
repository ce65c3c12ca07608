# What the tests, examples and benchmarks share. Nothing here reaches the users of the library.
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
find_package(Threads REQUIRED)
if(NOT DEFINED LINUX AND CMAKE_SYSTEM_NAME STREQUAL "Linux")  # CMake before 3.25
  set(LINUX ON)
endif()

# What programs need beside the core. Each says what is left out without it.
list(PREPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}")
find_package(Asio MODULE QUIET)
find_package(fmt CONFIG QUIET)
find_package(simdjson CONFIG QUIET)
find_package(liburing MODULE QUIET)
find_package(OpenSSL 3 QUIET)
find_package(cnats MODULE QUIET)
if(SSEHUB_WITH_BOOST)
  find_package(Boost 1.79 REQUIRED)
endif()

# Warnings are errors where the preset says so (CMAKE_COMPILE_WARNING_AS_ERROR).
add_library(ssehub_warnings INTERFACE)
target_compile_options(ssehub_warnings INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
if(CMAKE_UNITY_BUILD)  # eight files as one: a name of the first may be one of a function in the second
  target_compile_options(ssehub_warnings INTERFACE -Wno-shadow)
endif()

# For programs with Asio coroutines. Asio 1.22 switches them off on Clang; g++ 12 takes the frame's own operator new and
# delete for a mismatch.
add_library(ssehub_coroutines INTERFACE)
target_compile_definitions(ssehub_coroutines INTERFACE "$<$<CXX_COMPILER_ID:Clang>:ASIO_HAS_CO_AWAIT=1>")
target_compile_options(ssehub_coroutines INTERFACE "$<$<CXX_COMPILER_ID:GNU>:-Wno-mismatched-new-delete>")

if(SSEHUB_SANITIZE)
  add_compile_options(-fsanitize=${SSEHUB_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${SSEHUB_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    add_compile_options(-fno-sanitize=function)  # Clang 14: assembler error in coroutines
  else()
    add_compile_options(-Wno-maybe-uninitialized)  # g++ 12: false in instrumented <regex>
  endif()
  if(SSEHUB_SANITIZE MATCHES "thread")
    add_compile_definitions(ASIO_DISABLE_FENCED_BLOCK)  # ThreadSanitizer does not understand fences
  endif()
endif()
