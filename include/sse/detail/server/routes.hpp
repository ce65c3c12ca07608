// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// Which handler answers which path, and what the options of a server look like once they own their
// text. Include the header of a host.
#pragma once
#ifndef SSEHUB_DETAIL_SERVER_ROUTES_HPP
#define SSEHUB_DETAIL_SERVER_ROUTES_HPP

#include <array>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sse/admission.hpp>
#include <sse/channel.hpp>
#include <sse/cors.hpp>
#include <sse/function.hpp>
#include <sse/http1.hpp>
#include <sse/request.hpp>
#include <sse/responder.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE {

namespace detail {

struct channel_hash {
  [[nodiscard]] std::size_t operator()(channel c) const noexcept {
    return std::hash<std::uint64_t>{}(c.number());
  }
};

struct owned_head {
  explicit owned_head(const http1::stream_head& h)
      : head{h}, type{h.content_type}, cache{h.cache_control}, extra{h.extra} {}

  [[nodiscard]] http1::stream_head view(std::string_view lines) const noexcept {
    http1::stream_head h = head;
    h.content_type = type;
    h.cache_control = cache;
    h.extra = lines;
    return h;
  }

  http1::stream_head head;
  std::string type;
  std::string cache;
  std::string extra;
};

struct owned_texts {
  owned_texts() = default;
  template <class Range>
  explicit owned_texts(const Range& r)
      : texts(r.begin(), r.end()), views(texts.begin(), texts.end()) {}
  owned_texts(const owned_texts&) = delete;
  owned_texts& operator=(const owned_texts&) = delete;

  std::vector<std::string> texts;
  std::vector<std::string_view> views;
};

struct owned_cors {
  explicit owned_cors(const cors_policy& p)
      : origins{p.origins}, methods{p.methods}, headers{p.headers}, expose{p.expose}, policy{p} {
    policy.origins = origins.views;
    policy.methods = methods;
    policy.headers = headers;
    policy.expose = expose;
  }
  owned_cors(const owned_cors&) = delete;
  owned_cors& operator=(const owned_cors&) = delete;

  owned_texts origins;
  std::string methods;
  std::string headers;
  std::string expose;
  cors_policy policy;
};

/// The policy, but for pages of any origin.
[[nodiscard]] inline cors_policy for_any_origin(cors_policy p) noexcept {
  static constexpr std::string_view any[] = {"*"};
  p.origins = any;
  p.credentials = false;
  return p;
}

/// What answers one method of one path: exactly one of the four functions is there.
template <class User>
struct http_endpoint {
  function<response(const request&, std::string_view body)> answer{};
  function<void(const request&, std::string_view body, responder)> later{};
  function<verdict<User>(const request&, std::string_view body)> stream{};
  function<void(const request&, std::string_view body, stream_responder<User>)> later_stream{};
  std::unique_ptr<owned_head> head{};  ///< of the stream; nullptr: the server's
  channel bound{};                     ///< what stream(path, channel) named
  bool takes_body = false;
};

enum class http_method : std::uint8_t { get, post, put, del, other };

[[nodiscard]] constexpr http_method method_of(std::string_view m) noexcept {
  if (m == "GET" || m == "HEAD") return http_method::get;
  if (m == "POST") return http_method::post;
  if (m == "PUT") return http_method::put;
  return m == "DELETE" ? http_method::del : http_method::other;
}

template <class User>
struct http_route {
  using endpoint = http_endpoint<User>;
  std::array<std::shared_ptr<endpoint>, 4> by_method{};

  [[nodiscard]] std::shared_ptr<endpoint> find(std::string_view method) const noexcept {
    const http_method m = method_of(method);
    return m == http_method::other ? nullptr : by_method[static_cast<std::size_t>(m)];
  }
  [[nodiscard]] std::string allow() const {
    static constexpr std::string_view names[] = {"GET, HEAD, ", "POST, ", "PUT, ", "DELETE, "};
    std::string out;
    for (std::size_t i = 0; i < by_method.size(); ++i) {
      if (by_method[i] != nullptr) out.append(names[i]);
    }
    return out.append("OPTIONS");
  }
};

/// The exact path decides, else the longest prefix.
template <class User>
class http_routes {
 public:
  using route = http_route<User>;
  using endpoint = http_endpoint<User>;

  void add(http_method m, bool prefix, std::string_view path, std::shared_ptr<endpoint> e) {
    if (e->bound) bound_.emplace(e->bound, place{prefix, std::string{path}});
    route& r = prefix ? prefixes_[std::string{path}] : exact_[std::string{path}];
    std::swap(r.by_method[static_cast<std::size_t>(m)], e);
    if (e != nullptr) unbind(*e, prefix, path);
  }
  bool remove(bool prefix, std::string_view path) noexcept {
    return prefix ? remove_from(prefixes_, true, path) : remove_from(exact_, false, path);
  }
  /// Takes out what stream(path, channel) bound to this channel.
  void remove(channel c) noexcept {
    for (auto at = bound_.find(c); at != bound_.end(); at = bound_.find(c)) {
      const place p = std::move(at->second);
      bound_.erase(at);
      if (p.prefix) {
        unbind_from(prefixes_, c, p.path);
      } else {
        unbind_from(exact_, c, p.path);
      }
    }
  }
  [[nodiscard]] const route* find(std::string_view path) const noexcept {
    if (const auto at = exact_.find(path); at != exact_.end()) return &at->second;
    for (;;) {
      auto at = prefixes_.upper_bound(path);
      if (at == prefixes_.begin()) return nullptr;
      const std::string_view below = (--at)->first;
      if (path.starts_with(below)) return &at->second;
      // Every prefix of the path lies below that one, so it is one of what the two have in common.
      std::size_t common = 0;
      while (path[common] == below[common]) ++common;
      path = path.substr(0, common);
    }
  }
  void clear() noexcept {
    exact_.clear();
    prefixes_.clear();
    bound_.clear();
  }

 private:
  struct place {
    bool prefix = false;
    std::string path{};
  };
  struct text_hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view s) const noexcept {
      return std::hash<std::string_view>{}(s);
    }
  };

  template <class Routes>
  bool remove_from(Routes& routes, bool prefix, std::string_view path) noexcept {
    const auto at = routes.find(path);
    if (at == routes.end()) return false;
    for (const std::shared_ptr<endpoint>& e : at->second.by_method) {
      if (e != nullptr) unbind(*e, prefix, path);
    }
    routes.erase(at);
    return true;
  }
  /// The endpoint leaves this path.
  void unbind(const endpoint& e, bool prefix, std::string_view path) noexcept {
    const auto [first, last] = bound_.equal_range(e.bound);
    for (auto at = first; at != last; ++at) {
      if (at->second.prefix == prefix && at->second.path == path) {
        bound_.erase(at);
        return;
      }
    }
  }
  /// The channel leaves this path.
  template <class Routes>
  static void unbind_from(Routes& routes, channel c, std::string_view path) noexcept {
    const auto at = routes.find(path);
    if (at == routes.end()) return;
    bool left = false;
    for (std::shared_ptr<endpoint>& e : at->second.by_method) {
      if (e != nullptr && e->bound == c) e = nullptr;
      left = left || e != nullptr;
    }
    if (!left) routes.erase(at);
  }

  std::unordered_map<std::string, route, text_hash, std::equal_to<>> exact_;
  std::map<std::string, route, std::less<>> prefixes_;
  std::unordered_multimap<channel, place, channel_hash> bound_;  // what stream(path, channel) named
};

}  // namespace detail

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE

#endif  // SSEHUB_DETAIL_SERVER_ROUTES_HPP
