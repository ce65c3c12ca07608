// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// The one place that includes Asio: the standalone one, or Boost's where SSEHUB_BOOST_ASIO is
// defined. Not public.
//
// Everything that has a type of Asio's in it is a template over one, or names one in its
// parameters: so files that use the one and files that use the other may be one program.
#pragma once
#ifndef SSEHUB_DETAIL_NET_ASIO_HPP
#define SSEHUB_DETAIL_NET_ASIO_HPP

#include <sse/version.hpp>

#if defined(SSEHUB_BOOST_ASIO)

#if !__has_include(<boost/asio/version.hpp>)
#error "Boost.Asio is not found: its include folder is missing (Debian: libboost1.81-dev)"
#endif
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/basic_socket.hpp>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/compose.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/version.hpp>
#include <boost/asio/write.hpp>
#include <boost/system/error_code.hpp>

#if BOOST_ASIO_VERSION < 102200
#error "ssehub needs Boost 1.79 or newer for SSEHUB_BOOST_ASIO"
#endif

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {
namespace net = ::boost::asio;
using net_error = ::boost::system::error_code;  // converts from and to std::error_code
}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#else

#if !__has_include(<asio/version.hpp>)
#error "Asio is not found (Debian: libasio-dev); for that of Boost define SSEHUB_BOOST_ASIO"
#endif
#include <system_error>

#include <asio/any_io_executor.hpp>
#include <asio/associated_cancellation_slot.hpp>
#include <asio/associated_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/basic_socket.hpp>
#include <asio/basic_stream_socket.hpp>
#include <asio/buffer.hpp>
#include <asio/compose.hpp>
#include <asio/error.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/address.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/ip/v6_only.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>
#include <asio/version.hpp>
#include <asio/write.hpp>

#if ASIO_VERSION < 102200
#error "ssehub needs Asio 1.22 or newer"
#endif

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {
namespace net = ::asio;
using net_error = std::error_code;
}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif

#endif  // SSEHUB_DETAIL_NET_ASIO_HPP
