// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Forward declarations, for headers that only name these types.
#pragma once
#ifndef SSEHUB_FWD_HPP
#define SSEHUB_FWD_HPP

#include <sse/version.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

struct event;
struct request;
struct response;
struct session_id;
class backfill_writer;
class channel;

namespace detail {
class channel_state;
class engine;
struct blob;
struct channel_cell;
struct timer_places;
}  // namespace detail

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_FWD_HPP
