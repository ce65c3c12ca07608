# Headers, CMake package and pkg-config file. Nothing installed depends on the processor, so all of it goes under share/.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(SSEHUB_INSTALL_CMAKEDIR "${CMAKE_INSTALL_DATADIR}/cmake/ssehub"
    CACHE STRING "Where the CMake package files go, relative to the prefix")
set(pkgconfigdir "${CMAKE_INSTALL_DATADIR}/pkgconfig")
file(RELATIVE_PATH pc_to_prefix "/${pkgconfigdir}" "/")
string(REGEX REPLACE "/$" "" pc_to_prefix "${pc_to_prefix}")

install(DIRECTORY include/sse DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.hpp")
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}")

install(TARGETS ssehub_core ssehub_asio ssehub_boost_asio ssehub_epoll ssehub_fmt ssehub_io_uring ssehub_jetstream ssehub_journal ssehub_openssl EXPORT ssehub
        INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT ssehub NAMESPACE ssehub:: FILE ssehub-targets.cmake DESTINATION "${SSEHUB_INSTALL_CMAKEDIR}")

configure_package_config_file(scripts/cmake/ssehub-config.cmake.in ssehub-config.cmake
                              INSTALL_DESTINATION "${SSEHUB_INSTALL_CMAKEDIR}")
write_basic_package_version_file(ssehub-config-version.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
configure_file(scripts/cmake/ssehub.pc.in ssehub.pc @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/ssehub-config.cmake" "${PROJECT_BINARY_DIR}/ssehub-config-version.cmake"
              scripts/cmake/FindAsio.cmake scripts/cmake/Findliburing.cmake scripts/cmake/Findcnats.cmake
        DESTINATION "${SSEHUB_INSTALL_CMAKEDIR}")
install(FILES "${PROJECT_BINARY_DIR}/ssehub.pc" DESTINATION "${pkgconfigdir}")
