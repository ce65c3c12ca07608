// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// The core, whole: no dependencies, no I/O, no threads. See hub.hpp for where to begin.
#pragma once
#ifndef SSEHUB_SSE_HPP
#define SSEHUB_SSE_HPP

#include <sse/admission.hpp>
#include <sse/channel.hpp>
#include <sse/config.hpp>
#include <sse/encode.hpp>
#include <sse/event.hpp>
#include <sse/hub.hpp>
#include <sse/parse.hpp>
#include <sse/request.hpp>
#include <sse/session.hpp>
#include <sse/stats.hpp>
#include <sse/transport.hpp>
#include <sse/version.hpp>

#endif  // SSEHUB_SSE_HPP
