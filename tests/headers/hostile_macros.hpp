// Names that other libraries and systems take for macros. tests/check-headers includes it in front
// of ours.
#pragma once

// windows.h without NOMINMAX, and what it includes
#undef min
#undef max
#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define near
#define far
#define small char
#define hyper __int64
#define interface struct
#define pascal
#define cdecl
#define IN
#define OUT
#define OPTIONAL
#define CONST const
#define VOID void
#define STRICT 1
#define ERROR 0
#define NO_ERROR 0L
#define DELETE (0x00010000L)
#define IGNORE 0
#define INFINITE 0xFFFFFFFF
#define DOMAIN 1
#define OVERFLOW 3
#define CreateEvent CreateEventW
#define SendMessage SendMessageW
#define GetMessage GetMessageW
#define Yield()

// Qt with its keywords
#define signals public
#define slots
#define emit
#define foreach(variable, container) for (variable : container)
#define forever for (;;)

// macOS AssertMacros.h, glog, and a program's own
#define check(assertion) static_cast<void>(0)
#define verify(assertion) static_cast<void>(0)
#define require(assertion, label) static_cast<void>(0)
#define nil nullptr
#define CHECK(condition) static_cast<void>(0)
#define LOG(severity) static_cast<void>(0)
#define ASSERT(condition) static_cast<void>(0)
#define UNUSED(x) static_cast<void>(x)
#define DEBUG 1
#define INFO 2

// X11
#define Bool int
#define True 1
#define False 0
#define None 0L
#define Always 2
#define Status int
#define Success 0

// glibc's sys/sysmacros.h, and compilers with extensions of the language
#undef major
#undef minor
#define major(device) gnu_dev_major(device)
#define minor(device) gnu_dev_minor(device)
#undef linux
#undef unix
#define linux 1
#define unix 1
