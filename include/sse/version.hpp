// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
#pragma once
#ifndef SSEHUB_VERSION_HPP
#define SSEHUB_VERSION_HPP

// One line instead of a thousand: the include stops the compiler.
#if defined(_MSVC_LANG) ? _MSVC_LANG < 202002L : __cplusplus < 202002L
#error "ssehub needs C++20: -std=c++20, /std:c++20, or CMake's cxx_std_20"
#include <ssehub_needs_cxx20>
#endif

/// The version of the library; CMake, vcpkg and Conan read it from here, its only source.
#define SSEHUB_VERSION_MAJOR 0
#define SSEHUB_VERSION_MINOR 1
#define SSEHUB_VERSION_PATCH 0
#define SSEHUB_VERSION "0.1.0"
/// Every name of the library is in it, so that libraries which brought different versions are one
/// program: each has its own. No program writes it.
#define SSEHUB_INLINE_NAMESPACE v0_1_0

#endif  // SSEHUB_VERSION_HPP
