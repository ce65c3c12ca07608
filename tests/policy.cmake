# What the library promises about its own sources.
function(ssehub_add_policy_test name)
  add_test(NAME "policy/${name}" COMMAND ${ARGN} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
  set_tests_properties("policy/${name}" PROPERTIES LABELS policy SKIP_RETURN_CODE 77)
endfunction()

ssehub_add_policy_test("single header is fresh" scripts/amalgamate --check)
ssehub_add_policy_test("contracts" scripts/check-contracts)
ssehub_add_policy_test("core has no OS headers" tests/check-core os)
ssehub_add_policy_test("transports bring no server" tests/check-core transports)
ssehub_add_policy_test("rooms know only what stands above them" tests/check-rooms)
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  ssehub_add_policy_test("what must not compile does not" tests/check-must-not-compile ${CMAKE_CXX_COMPILER})
  ssehub_add_policy_test("headers bear the macros of others" tests/check-headers macros ${CMAKE_CXX_COMPILER})
  ssehub_add_policy_test("single headers bear to be copied" tests/check-headers copies ${CMAKE_CXX_COMPILER})
  ssehub_add_policy_test("headers say that they need C++20" tests/check-headers language ${CMAKE_CXX_COMPILER})
endif()
ssehub_add_policy_test("headers have none of Clang's warnings" tests/check-headers warnings clang++-19)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  ssehub_add_policy_test("core is cheap to include" tests/check-core cost ${CMAKE_CXX_COMPILER})
  ssehub_add_policy_test("headers have no warning of g++, with 32 bits neither" tests/check-headers warnings
    ${CMAKE_CXX_COMPILER})
endif()
ssehub_add_policy_test("headers have none of what .clang-tidy looks for" tests/check-headers tidy clang-tidy-19)
ssehub_add_policy_test("reference has no warnings" tests/check-reference "${CMAKE_CURRENT_BINARY_DIR}/reference")

# CTest's discovery cuts a name at a semicolon. The test passes if grep finds none.
ssehub_add_policy_test("no semicolon in a test name" grep -rnP "TEST_CASE[(]\"[^\"]*\\x3b" tests --include=*.cpp)
set_tests_properties("policy/no semicolon in a test name" PROPERTIES WILL_FAIL ON)
