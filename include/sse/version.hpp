// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
#pragma once

/// The version of the library; CMake, vcpkg and Conan read it from here, its only source.
#define SSEHUB_VERSION_MAJOR 0
#define SSEHUB_VERSION_MINOR 1
#define SSEHUB_VERSION_PATCH 0
#define SSEHUB_VERSION "0.1.0"
