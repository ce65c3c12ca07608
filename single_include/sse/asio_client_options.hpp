// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
// Generated from include/ by scripts/amalgamate. Do not edit.
#pragma once
#if defined(SSEHUB_VERSION_MAJOR) && \
    (SSEHUB_VERSION_MAJOR != 0 || SSEHUB_VERSION_MINOR != 1 || SSEHUB_VERSION_PATCH != 0)
#error "two versions of ssehub are included in one source file"
#endif

// ---- sse/asio_client_options.hpp
//
// What an asio_event_source takes and gives: asio_client_options, received_event, client_error and
// the reasons against a certificate as std::error_code, the environment's proxies, dialers. Part of
// sse/asio_client.hpp.
#ifndef SSEHUB_ASIO_CLIENT_OPTIONS_HPP
#define SSEHUB_ASIO_CLIENT_OPTIONS_HPP

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

#include "client.hpp"
// ---- sse/detail/net/asio.hpp
//
// The one place that includes Asio: the standalone one, or Boost's where SSEHUB_BOOST_ASIO is
// defined. Not public.
//
// Everything that has a type of Asio's in it is a template over one, or names one in its
// parameters: so files that use the one and files that use the other may be one program.
#ifndef SSEHUB_DETAIL_NET_ASIO_HPP
#define SSEHUB_DETAIL_NET_ASIO_HPP

#include "sse.hpp"

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

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

namespace detail {
class client_category_type final : public std::error_category {
 public:
  [[nodiscard]] const char* name() const noexcept override { return "sse.client"; }
  [[nodiscard]] std::string message(int value) const override {
    client_failure f;
    f.error = static_cast<client_error>(value);
    return std::string{describe(f)};
  }
};

class certificate_category_type final : public std::error_category {
 public:
  [[nodiscard]] const char* name() const noexcept override { return "sse.certificate"; }
  [[nodiscard]] std::string message(int value) const override {
    std::string_view what = "it was not accepted";
    switch (value) {
      case 1: what = "it is not for this host, or the program's own check refused it"; break;
      case 2:
      case 20:
      case 21: what = "its issuer is not trusted, or the server sends no chain to one"; break;
      case 9: what = "it is not valid yet (is the clock right?)"; break;
      case 10: what = "it has expired (is the clock right?)"; break;
      case 18:
      case 19: what = "it is self-signed, or signed by an authority that is not trusted"; break;
      case 23: what = "it was revoked"; break;
      case 26: what = "it is not meant for a server"; break;
      case 62:
      case 64: what = "it is for another host"; break;
      default: break;
    }
    return std::string{"the server's certificate: "}
        .append(what)
        .append(" (X509 error ")
        .append(std::to_string(value))
        .append(")");
  }
};
}  // namespace detail

/// The category of client_error as a std::error_code.
[[nodiscard]] inline const std::error_category& client_category() noexcept {
  static const detail::client_category_type the_one;
  return the_one;
}
/// For `ec == client_error::...`.
[[nodiscard]] inline std::error_code make_error_code(client_error e) noexcept {
  return {static_cast<int>(e), client_category()};
}

/// The category of client_failure::cause where a server's certificate was not accepted: the values
/// are OpenSSL's X509_V_ERR_*, the texts say what to look at.
[[nodiscard]] inline const std::error_category& certificate_category() noexcept {
  static const detail::certificate_category_type the_one;
  return the_one;
}

/// An event that lives by itself.
struct received_event {
  std::string type{};           ///< empty: unnamed, "message" to a browser
  std::string data{};           ///< its lines, with a line feed between them
  std::string last_event_id{};  ///< the stream's position with this event
  std::optional<gap> missed{};  ///< a gap frame, of type "gap": events were lost here
};

/// Of asio_event_source: the client's own, and what it holds.
struct asio_client_options {
  client_options client{};  ///< a seed that is the default is replaced by a random one
  std::size_t queue = 64;   ///< events that wait for async_next; then reading pauses. REQUIRES: > 0
  std::size_t queue_bytes = std::size_t{1} << 20;   ///< the same, by size; one event may exceed it
  std::size_t read_buffer = std::size_t{16} << 10;  ///< bytes, while connected. REQUIRES: > 0
  /// Of several addresses of a host, the next one is tried so long after the begin of the one
  /// before, or at once when that failed; the first that connects is taken (RFC 8305). Shorter
  /// where all could not be tried in half of client_options::connect_timeout, but not below 10 ms.
  /// Off: only when the one before failed.
  duration attempt_delay = duration::milliseconds(250);
};

/// Proxies as the environment names them; see proxy_from_environment().
struct proxy_environment {
  std::string http{};    ///< for http:// URLs; empty: none
  std::string https{};   ///< for https:// URLs; empty: none
  std::string except{};  ///< see proxy_options::except

  /// Valid while this lives.
  [[nodiscard]] proxy_options options() const noexcept { return {http, https, except}; }
};

/// Reads `http_proxy`, `https_proxy` and `no_proxy`, or those in capitals where one is not there or
/// empty. "host:port" without a scheme is taken for http://. HTTP_PROXY counts for nothing in a CGI
/// program, where it is a header of the request (REQUEST_METHOD is set). What they say is checked
/// when it is used (client_options::proxy). Not to be called while another thread changes the
/// environment.
[[nodiscard]] inline proxy_environment proxy_from_environment() {
  const auto value = [](const char* first, const char* second) {
    for (const char* const name : {first, second}) {
      const char* const text = name == nullptr ? nullptr : std::getenv(name);
      if (text != nullptr && *text != '\0') return std::string{text};
    }
    return std::string{};
  };
  const auto proxy = [&](const char* first, const char* second) {
    std::string url = value(first, second);
    if (!url.empty() && url.find("://") == std::string::npos) url.insert(0, "http://");
    return url;
  };
  const bool cgi = std::getenv("REQUEST_METHOD") != nullptr;
  return {proxy("http_proxy", cgi ? nullptr : "HTTP_PROXY"), proxy("https_proxy", "HTTPS_PROXY"),
          value("no_proxy", "NO_PROXY")};
}

/// What an asio_event_source connects to: the host of the URL, or a proxy.
struct dial_request {
  std::string_view host{};  ///< a name or an address; IPv6 without brackets
  std::uint16_t port = 0;   ///< of that host
};

/// Connects in place of asio_event_source: `done` takes a connected socket, or why there is none.
/// It may be called at once or later, on the source's executor; calls after the first have no
/// effect, nor has one that comes too late. client_options::connect_timeout counts.
using dialer = function<void(const dial_request& to,
                             function<void(std::error_code, detail::net::ip::tcp::socket)> done)>;

namespace detail {
struct connect_options {
  duration attempt_delay{};
  duration connect_timeout{};
};
}  // namespace detail

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

template <>
struct std::is_error_code_enum<sse::client_error> : std::true_type {};

#endif  // SSEHUB_ASIO_CLIENT_OPTIONS_HPP
