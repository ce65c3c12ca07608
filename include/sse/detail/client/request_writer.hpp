// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// client_request: what an event_source sends, checked once and written for each connection. Not
// public.
#pragma once
#ifndef SSEHUB_DETAIL_CLIENT_REQUEST_WRITER_HPP
#define SSEHUB_DETAIL_CLIENT_REQUEST_WRITER_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <sse/config.hpp>
#include <sse/detail/base/byte_buffer.hpp>
#include <sse/detail/base/decimal.hpp>
#include <sse/detail/base/lines.hpp>
#include <sse/detail/client/proxy.hpp>
#include <sse/detail/http/characters.hpp>
#include <sse/detail/http/url.hpp>
#include <sse/request.hpp>
#include <sse/version.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class client_request {
 public:
  /// What redirects made of it.
  struct changes {
    bool get = false;      // the method became GET: no body, no header that describes one
    bool foreign = false;  // it left its origin: no header of the user but those of the body
  };

  /// Takes the options that make a request. Returns the name of the first bad one; empty: all good.
  /// `memory` becomes false if there is none.
  [[nodiscard]] std::string_view set(std::string_view method, std::string_view body,
                                     std::span<const header> headers, std::string_view resume_query,
                                     bool& memory) noexcept {
    using text::equal_fold;
    if (!text::is_token(method) || equal_fold(method, "CONNECT") || equal_fold(method, "HEAD") ||
        equal_fold(method, "TRACE")) {
      return "method";
    }
    if (!body.empty() && method == "GET") return "body";
    memory = method_.assign(method) && body_.assign(body) && resume_query_.assign(resume_query);
    for (const header& h : headers) {
      const std::string_view value = text::trim(h.value);
      if (!text::is_token(h.name) || !text::is_field_value(value) || is_ours(h.name)) {
        return "headers";
      }
      memory = memory && headers_.append(h.name) && headers_.append(": ") &&
               headers_.append(value) && headers_.append("\r\n");
    }
    return {};
  }

  [[nodiscard]] std::string_view method(const changes& c) const noexcept {
    return c.get ? std::string_view{"GET"} : method_.view();
  }

  /// Writes head and body. `proxy`: the request goes to this one, which forwards it; it then names
  /// the whole URL (RFC 9112 3.2.2). False: no memory.
  [[nodiscard]] bool write(bytes& out, const url& to, const changes& c,
                           std::string_view last_event_id,
                           const proxy_server* proxy) const noexcept {
    out.clear();
    const bool good =
        out.append(method(c)) && out.append(" ") && (proxy == nullptr || out.append(to.origin())) &&
        append_target(out, to.target(), last_event_id) && out.append(" HTTP/1.1\r\n") &&
        add(out, "Host", to.authority()) && add_default(out, c, "Accept", "text/event-stream") &&
        add_default(out, c, "Cache-Control", "no-cache") &&
        add_default(out, c, "User-Agent", "ssehub/" SSEHUB_VERSION) &&
        add(out, "Accept-Encoding", "identity") &&
        (last_event_id.empty() || add(out, "Last-Event-ID", last_event_id)) &&
        (proxy == nullptr || add_authorization(out, *proxy)) && add(out, "Connection", "close");
    return good && append_headers(out, c) && append_body(out, c);
  }

  /// Writes what asks `proxy` for a tunnel (RFC 9110 9.3.6). False: no memory.
  [[nodiscard]] static bool write_connect(bytes& out, const url& to,
                                          const proxy_server& proxy) noexcept {
    out.clear();
    // The authority with its port, also where that is the scheme's own, which it leaves out.
    const bool own_port = to.port() == (to.tls() ? 443 : 80);
    const auto add_host = [&] {
      return out.append(to.authority()) && (!own_port || out.append(to.tls() ? ":443" : ":80"));
    };
    return out.append("CONNECT ") && add_host() && out.append(" HTTP/1.1\r\nHost: ") &&
           add_host() && out.append("\r\n") && add(out, "User-Agent", "ssehub/" SSEHUB_VERSION) &&
           add_authorization(out, proxy) && out.append("\r\n");
  }

 private:
  /// Headers that frame the message, name the connection, or are an option of their own.
  [[nodiscard]] static bool is_ours(std::string_view name) noexcept {
    constexpr std::string_view ours[] = {
        "Accept-Encoding", "Connection",          "Content-Length",   "Expect", "Host",
        "Keep-Alive",      "Last-Event-ID",       "Proxy-Connection", "TE",     "Trailer",
        "Upgrade",         "Proxy-Authorization", "Transfer-Encoding"};
    for (const std::string_view o : ours) {
      if (text::equal_fold(name, o)) return true;
    }
    return false;
  }

  [[nodiscard]] static bool is_sent(std::string_view name, const changes& c) noexcept {
    const bool of_body = text::starts_fold(name, "Content-");
    return of_body ? !c.get : !c.foreign;
  }

  [[nodiscard]] static bool add(bytes& out, std::string_view name,
                                std::string_view value) noexcept {
    return out.append(name) && out.append(": ") && out.append(value) && out.append("\r\n");
  }

  [[nodiscard]] static bool add_authorization(bytes& out, const proxy_server& proxy) noexcept {
    return proxy.authorization().empty() || add(out, "Proxy-Authorization", proxy.authorization());
  }

  [[nodiscard]] bool add_default(bytes& out, const changes& c, std::string_view name,
                                 std::string_view value) const noexcept {
    bool given = false;
    for_each_field(headers_.view(), [&](std::string_view n, std::string_view) {
      given = given || (text::equal_fold(n, name) && is_sent(n, c));
    });
    return given || add(out, name, value);
  }

  [[nodiscard]] bool append_headers(bytes& out, const changes& c) const noexcept {
    bool good = true;
    for_each_field(headers_.view(), [&](std::string_view name, std::string_view value) {
      if (is_sent(name, c)) good = good && add(out, name, value);
    });
    return good;
  }

  [[nodiscard]] bool append_body(bytes& out, const changes& c) const noexcept {
    const std::string_view body = c.get ? std::string_view{} : body_.view();
    // RFC 9110 8.6: a method that may have content says so when it has none.
    if (body.empty() && (c.get || method_.view() == "GET")) return out.append("\r\n");
    char digits[max_digits];
    const char* const end = put_decimal(digits, body.size());
    return add(out, "Content-Length", {digits, static_cast<std::size_t>(end - digits)}) &&
           out.append("\r\n") && out.append(body);
  }

  /// The query field of that name says where to resume, in place of what the URL says.
  [[nodiscard]] bool append_target(bytes& out, std::string_view target,
                                   std::string_view last_event_id) const noexcept {
    const std::string_view name = resume_query_.view();
    if (name.empty() || last_event_id.empty()) return out.append(target);
    std::string_view query = target;
    bool good = out.append(text::next_part(query, '?'));
    char separator = '?';
    while (!query.empty()) {
      const std::string_view field = text::next_part(query, '&');
      if (spells(field.substr(0, field.find('=')), name, false)) continue;
      good = good && out.append({&separator, 1}) && out.append(field);
      separator = '&';
    }
    return good && out.append({&separator, 1}) && append_component(out, name) && out.append("=") &&
           append_component(out, last_event_id);
  }

  bytes method_{};
  bytes body_{};
  bytes headers_{};  // "Name: value\r\n" each
  bytes resume_query_{};
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_CLIENT_REQUEST_WRITER_HPP
