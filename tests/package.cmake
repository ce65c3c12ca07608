# A project outside this one uses the library in every way that the README offers.
set(stage "${CMAKE_CURRENT_BINARY_DIR}/stage")
add_test(NAME "package/install" COMMAND ${CMAKE_COMMAND} --install "${PROJECT_BINARY_DIR}" --prefix "${stage}")
set_tests_properties("package/install" PROPERTIES LABELS package FIXTURES_SETUP stage)

function(ssehub_add_consumer how)
  add_test(NAME "package/${how}"
    COMMAND ${CMAKE_CTEST_COMMAND} --build-and-test
      "${CMAKE_CURRENT_SOURCE_DIR}/consumer" "${CMAKE_CURRENT_BINARY_DIR}/consumer-${how}"
      --build-generator "${CMAKE_GENERATOR}" --build-project consumer
      --build-options "-DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}" "-DHOW=${how}" "-DVERSION=${PROJECT_VERSION}"
        "-DSOURCE=${PROJECT_SOURCE_DIR}" "-DWITH_ASIO=${Asio_FOUND}" "-DWITH_BOOST=${SSEHUB_WITH_BOOST}" ${ARGN}
      --test-command consumer)
  set_tests_properties("package/${how}" PROPERTIES LABELS package FIXTURES_REQUIRED stage)
endfunction()

ssehub_add_consumer(find_package "-DCMAKE_PREFIX_PATH=${stage}")
ssehub_add_consumer(bare "-DCMAKE_PREFIX_PATH=${stage}")
set_property(TEST "package/bare" PROPERTY PASS_REGULAR_EXPRESSION
  "this is ssehub::core alone[^\n]*find_package.ssehub CONFIG REQUIRED COMPONENTS asio.*hello ${PROJECT_VERSION}")
# What cannot be found is told in a sentence, with what to do.
function(ssehub_add_lost_consumer how says)
  ssehub_add_consumer(${how} "-DCMAKE_PREFIX_PATH=${stage}")
  set_property(TEST "package/${how}" PROPERTY PASS_REGULAR_EXPRESSION "${says}")
endfunction()
ssehub_add_lost_consumer(unknown "has[ \n]+no[ \n]+component[ \n]+'nonsense':[ \n]+it[ \n]+has[ \n]+core,[ \n]+asio")
ssehub_add_lost_consumer(lacking "ssehub::asio[ \n]+needs[ \n]+Asio,[ \n]+which[ \n]+was[ \n]+not[ \n]+found:[ \n]+install[ \n]+it")
set(with_targets asio fmt io_uring jetstream openssl)
set(targets asio::asio fmt::fmt liburing::liburing cnats::nats OpenSSL::SSL)
set(components "core")
if(LINUX)
  string(APPEND components ",epoll")
endif()
if(UNIX)
  string(APPEND components ",journal")
endif()
foreach(component target IN ZIP_LISTS with_targets targets)
  if(TARGET ${target})
    string(APPEND components ",${component}")
  endif()
endforeach()
ssehub_add_consumer(components "-DCMAKE_PREFIX_PATH=${stage}" "-DCOMPONENTS=${components}")
ssehub_add_consumer(add_subdirectory)
ssehub_add_consumer(single_include)
if(TARGET asio::asio)  # with which the README's first program is compiled
  foreach(way IN ITEMS one-header add-subdirectory installed vcpkg conan)
    add_test(NAME "package/as README says: ${way}" COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/check-ways" ${way})
    set_tests_properties("package/as README says: ${way}" PROPERTIES LABELS package ENVIRONMENT "CXX=${CMAKE_CXX_COMPILER}" TIMEOUT 300
      SKIP_RETURN_CODE 77)
  endforeach()
endif()
# Who has no Catch2 configures the library without its tests, in a sentence, and is stopped where they are asked for.
foreach(asked IN ITEMS AUTO ON)
  set(name "package/without Catch2, tests ${asked}")
  add_test(NAME "${name}" COMMAND ${CMAKE_COMMAND} -S "${PROJECT_SOURCE_DIR}" -B "${CMAKE_CURRENT_BINARY_DIR}/without-catch2-${asked}"
    -G "${CMAKE_GENERATOR}" "-DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}" -DCMAKE_DISABLE_FIND_PACKAGE_Catch2=ON
    -DSSEHUB_BUILD_TESTS=${asked})
  set_tests_properties("${name}" PROPERTIES LABELS package)
endforeach()
set_property(TEST "package/without Catch2, tests AUTO" PROPERTY PASS_REGULAR_EXPRESSION "the tests are left out.*Build files have been written")
set_property(TEST "package/without Catch2, tests ON" PROPERTY PASS_REGULAR_EXPRESSION "install it, or[ \n]+say -DSSEHUB_BUILD_TESTS=OFF")
find_program(SSEHUB_PKG_CONFIG pkg-config)
mark_as_advanced(SSEHUB_PKG_CONFIG)
if(SSEHUB_PKG_CONFIG)
  ssehub_add_consumer(pkg-config)
  set_property(TEST "package/pkg-config" PROPERTY ENVIRONMENT "PKG_CONFIG_PATH=${stage}/share/pkgconfig")
endif()
