// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// client_error, client_failure, url_error: what can go wrong for an event_source, as code, as a
// sentence (describe), and as a line with all that is known (explain). Part of sse/client.hpp.
#pragma once
#ifndef SSEHUB_CLIENT_ERROR_HPP
#define SSEHUB_CLIENT_ERROR_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

#include <sse/config.hpp>
#include <sse/parse.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

/// What is wrong with a URL.
enum class url_error : std::uint8_t {
  none,
  scheme,     ///< not http:// or https://
  user_info,  ///< name or password before the host
  host,       ///< none, not ASCII letters, digits, `-`, `.`, `_`, or a number that is no IP address
  port,       ///< not 1 to 65535
  character,  ///< a control character
  too_long,   ///< 8192 bytes
  no_memory,
};

/// Its name.
[[nodiscard]] constexpr std::string_view to_string(url_error e) noexcept {
  switch (e) {
    case url_error::none: return "none";
    case url_error::scheme: return "scheme";
    case url_error::user_info: return "user_info";
    case url_error::host: return "host";
    case url_error::port: return "port";
    case url_error::character: return "character";
    case url_error::too_long: return "too_long";
    case url_error::no_memory: return "no_memory";
  }
  return "unknown";
}

/// What went wrong.
enum class client_error : std::uint8_t {
  none,
  // told by the host in ended(), or guessed from its silence
  resolve,          ///< the host name has no address
  connect,          ///< no connection
  connect_timeout,  ///< client_options::connect_timeout
  tls,              ///< no secure connection: handshake, certificate
  proxy,            ///< the proxy opened no tunnel, see client_failure::status
  read,             ///< the connection broke
  end_of_stream,    ///< the response ended as it should
  cut,              ///< the connection ended inside the response
  restarted,        ///< restart() was called
  // the response
  head_timeout,  ///< client_options::head_timeout
  stalled,       ///< no byte for client_options::stall_timeout
  bad_head,      ///< not an HTTP/1 response head
  head_too_large,
  bad_framing,         ///< lengths that contradict each other, or a malformed chunk
  bad_stream,          ///< over a limit of client_options::stream, see client_failure::parse
  status,              ///< not 200, and no redirect
  no_content,          ///< 204: the server wants no reconnection
  content_type,        ///< not text/event-stream
  content_encoding,    ///< compressed, though `identity` was asked for
  bad_redirect,        ///< no Location, or not an http or https URL
  insecure_redirect,   ///< from https to http
  too_many_redirects,  ///< client_options::max_redirects
  // ours
  no_memory,
  bad_url,      ///< see client_failure::url
  bad_options,  ///< see client_failure::option
};

/// Its name; explain() has a sentence.
[[nodiscard]] constexpr std::string_view to_string(client_error e) noexcept {
  switch (e) {
    case client_error::none: return "none";
    case client_error::resolve: return "resolve";
    case client_error::connect: return "connect";
    case client_error::connect_timeout: return "connect_timeout";
    case client_error::tls: return "tls";
    case client_error::proxy: return "proxy";
    case client_error::read: return "read";
    case client_error::end_of_stream: return "end_of_stream";
    case client_error::cut: return "cut";
    case client_error::restarted: return "restarted";
    case client_error::head_timeout: return "head_timeout";
    case client_error::stalled: return "stalled";
    case client_error::bad_head: return "bad_head";
    case client_error::head_too_large: return "head_too_large";
    case client_error::bad_framing: return "bad_framing";
    case client_error::bad_stream: return "bad_stream";
    case client_error::status: return "status";
    case client_error::no_content: return "no_content";
    case client_error::content_type: return "content_type";
    case client_error::content_encoding: return "content_encoding";
    case client_error::bad_redirect: return "bad_redirect";
    case client_error::insecure_redirect: return "insecure_redirect";
    case client_error::too_many_redirects: return "too_many_redirects";
    case client_error::no_memory: return "no_memory";
    case client_error::bad_url: return "bad_url";
    case client_error::bad_options: return "bad_options";
  }
  return "unknown";
}

/// A failed attempt, or the end of a connection that had been open.
struct client_failure {
  client_error error = client_error::none;  ///< what failed
  bool final = false;                     ///< the source is closed; otherwise it goes on by itself
  bool was_open = false;                  ///< events could come before it
  bool at_proxy = false;                  ///< on the way to the proxy, or by it
  int status = 0;                         ///< of the response, or the proxy's; 0: none came
  parse_error parse = parse_error::none;  ///< with bad_stream
  url_error url = url_error::none;        ///< with bad_url, bad_redirect, bad_options of a proxy
  std::string_view option{};              ///< with bad_options: the name of the first bad one
  /// With resolve, connect, tls, read: what the system, the resolver or the TLS library said, if
  /// the host passed it on.
  std::error_code cause{};
  std::uint32_t attempts = 0;  ///< failed in a row, with this one; 0: it had been stable
  duration delay{};            ///< until the next attempt, unless final
};

namespace detail {

[[nodiscard]] constexpr std::string_view describe_url(url_error e) noexcept {
  switch (e) {
    case url_error::none: break;
    case url_error::scheme: return "the URL does not begin with http:// or https://";
    case url_error::user_info: return "the URL has user information; give an Authorization header";
    case url_error::host: return "the URL has no valid host";
    case url_error::port: return "the URL has no valid port";
    case url_error::character: return "the URL has a control character";
    case url_error::too_long: return "the URL is too long";
    case url_error::no_memory: return "out of memory";
  }
  return "the URL is not valid";
}

[[nodiscard]] constexpr std::string_view describe_stream(parse_error e) noexcept {
  switch (e) {
    case parse_error::none: break;
    case parse_error::line_too_long: return "the stream has a line that is too long";
    case parse_error::event_too_large: return "the stream has an event that is too large";
    case parse_error::too_many_lines: return "the stream has an event of too many lines";
    case parse_error::id_too_long: return "the stream has an id that is too long";
    case parse_error::type_too_long: return "the stream has an event type that is too long";
    case parse_error::no_memory: return "out of memory";
  }
  return "the stream is not valid";
}

}  // namespace detail

/// One sentence without a full stop, for people.
[[nodiscard]] constexpr std::string_view describe(const client_failure& f) noexcept {
  switch (f.error) {
    case client_error::none: return "no failure";
    case client_error::resolve: return "the host name could not be resolved";
    case client_error::connect: return "the connection could not be made";
    case client_error::connect_timeout: return "the connection was not made in time";
    case client_error::tls: return "no secure connection could be made";
    case client_error::proxy: return "the proxy opened no tunnel to the server";
    case client_error::read: return "the connection broke";
    case client_error::end_of_stream: return "the server ended the stream";
    case client_error::cut: return "the connection ended inside the response";
    case client_error::restarted: return "a restart was asked for";
    case client_error::head_timeout: return "the server did not answer in time";
    case client_error::stalled: return "the server fell silent";
    case client_error::bad_head: return "the server did not answer in HTTP/1";
    case client_error::head_too_large: return "the response head is too large";
    case client_error::bad_framing: return "the response has a malformed length or chunk";
    case client_error::bad_stream: break;
    case client_error::status: return "the server refused: its status is not 200";
    case client_error::no_content: return "the server wants no reconnection: 204";
    case client_error::content_type: return "the response is not text/event-stream";
    case client_error::content_encoding:
      return "the response is compressed, which was not asked for";
    case client_error::bad_redirect: return "a redirect does not say where to, in http or https";
    case client_error::insecure_redirect: return "a redirect leads from https to http";
    case client_error::too_many_redirects: return "too many redirects";
    case client_error::no_memory: return "out of memory";
    case client_error::bad_url: return detail::describe_url(f.url);
    case client_error::bad_options: return "an option is not valid";
  }
  return detail::describe_stream(f.parse);
}

/// All that is known, on one line without a full stop: describe(), and the status, the option's
/// name or the cause behind it. For logs, not to be read by programs.
[[nodiscard]] inline std::string explain(const client_failure& f) {
  std::string out{describe(f)};
  if (f.error == client_error::status) out.append(" but ").append(std::to_string(f.status));
  if (f.error == client_error::proxy) {
    if (f.status != 0) out.append(" but answered ").append(std::to_string(f.status));
  } else if (f.at_proxy) {
    out.append(", on the way to the proxy");
  }
  if (!f.option.empty()) {
    out.append(": ").append(f.option);
    if (f.url != url_error::none) out.append(", in its URL: ").append(to_string(f.url));
  }
  if (f.cause) out.append(": ").append(f.cause.message());
  return out;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_CLIENT_ERROR_HPP
