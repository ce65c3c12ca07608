// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// SSEHUB_ASSERT(condition): what a REQUIRES of the library asks for, checked. Off unless the
// program says SSEHUB_CHECKED=1 (the tests do) or defines SSEHUB_ASSERT itself before the first
// header, for example as its own assertion. A failed check tells where on stderr and aborts.
#pragma once
#ifndef SSEHUB_DETAIL_BASE_ASSERT_HPP
#define SSEHUB_DETAIL_BASE_ASSERT_HPP

#ifndef SSEHUB_ASSERT
#if defined(SSEHUB_CHECKED) && SSEHUB_CHECKED
#include <cstdio>
#include <cstdlib>
#define SSEHUB_ASSERT(...)                                                                  \
  ((__VA_ARGS__) ? static_cast<void>(0)                                                     \
                 : (static_cast<void>(std::fprintf(stderr, "%s:%d: ssehub: required: %s\n", \
                                                   __FILE__, __LINE__, #__VA_ARGS__)),      \
                    std::abort()))
#else
#define SSEHUB_ASSERT(...) static_cast<void>(0)
#endif
#endif

#endif  // SSEHUB_DETAIL_BASE_ASSERT_HPP
