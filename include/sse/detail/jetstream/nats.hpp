// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// cnats with owners for what it makes, and what its subjects and answers say.
#pragma once
#ifndef SSEHUB_DETAIL_JETSTREAM_NATS_HPP
#define SSEHUB_DETAIL_JETSTREAM_NATS_HPP

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <nats/nats.h>

#include <sse/detail/base/decimal.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

template <auto Free>
struct nats_free {
  template <class T>
  void operator()(T* p) const noexcept {
    Free(p);
  }
};
using nats_options = std::unique_ptr<natsOptions, nats_free<natsOptions_Destroy>>;
using nats_connection = std::unique_ptr<natsConnection, nats_free<natsConnection_Destroy>>;
using nats_jetstream = std::unique_ptr<jsCtx, nats_free<jsCtx_Destroy>>;
using nats_stream_info = std::unique_ptr<jsStreamInfo, nats_free<jsStreamInfo_Destroy>>;
using nats_consumer_info = std::unique_ptr<jsConsumerInfo, nats_free<jsConsumerInfo_Destroy>>;
using nats_subscription = std::unique_ptr<natsSubscription, nats_free<natsSubscription_Destroy>>;
using nats_message = std::unique_ptr<natsMsg, nats_free<natsMsg_Destroy>>;
using nats_inbox = std::unique_ptr<natsInbox, nats_free<natsInbox_Destroy>>;
using nats_bucket = std::unique_ptr<kvStore, nats_free<kvStore_Destroy>>;
using nats_entry = std::unique_ptr<kvEntry, nats_free<kvEntry_Destroy>>;

/// make(cnats function, arguments): its first argument is where the result goes.
template <class Owner, class F, class... Args>
[[nodiscard]] natsStatus nats_make(Owner& out, F f, Args... args) {
  typename Owner::pointer p = nullptr;
  const natsStatus s = f(&p, args...);
  out.reset(p);
  return s;
}

[[nodiscard]] inline std::string_view data_of(const natsMsg* m) noexcept {
  const char* const p = natsMsg_GetData(m);
  return p == nullptr ? std::string_view{}
                      : std::string_view{p, static_cast<std::size_t>(natsMsg_GetDataLength(m))};
}
/// Empty: it has none.
[[nodiscard]] inline std::string_view header_of(natsMsg* m, const char* name) noexcept {
  const char* value = nullptr;
  return natsMsgHeader_Get(m, name, &value) == NATS_OK && value != nullptr ? value
                                                                           : std::string_view{};
}
[[nodiscard]] inline std::string_view text_of(const char* s) noexcept {
  return s == nullptr ? std::string_view{} : std::string_view{s};
}

/// What a consumer's message says in its reply subject: `$JS.ACK.<stream>.<consumer>.<deliveries>.
/// <stream sequence>.<consumer sequence>.<time>.<pending>`, from newer servers with the domain and
/// the account in front of the stream.
struct delivery {
  std::uint64_t sequence = 0;  ///< 0: it is not such a message
  std::uint64_t in_consumer = 0;
  std::uint64_t time_ns = 0;
  std::uint64_t pending = 0;  ///< messages behind it
};
[[nodiscard]] inline delivery delivery_of(const natsMsg* m) noexcept {
  std::string_view reply = text_of(natsMsg_GetReply(m));
  if (!reply.starts_with("$JS.ACK.")) return {};
  constexpr std::size_t most = 12;
  std::string_view tokens[most];
  std::size_t n = 0;
  for (; n < most && !reply.empty(); ++n) {
    const std::size_t dot = reply.find('.');
    tokens[n] = reply.substr(0, dot);
    reply.remove_prefix(dot == reply.npos ? reply.size() : dot + 1);
  }
  if (n < 9) return {};
  const std::string_view* const t = tokens + (n < 11 ? 5 : 7);
  delivery d;
  std::uint64_t* const to[] = {&d.sequence, &d.in_consumer, &d.time_ns, &d.pending};
  for (int i = 0; i < 4; ++i) {
    if (read_decimal(t[i], UINT64_MAX, *to[i]) != decimal::number) return {};
  }
  return d;
}

/// The number behind `"name":` in an answer of the server; 0: none.
[[nodiscard]] inline std::uint64_t number_in(std::string_view json,
                                             std::string_view name) noexcept {
  const std::size_t at = json.find(name);
  if (at == json.npos) return 0;
  std::size_t i = at + name.size();
  while (i < json.size() && (json[i] == ' ' || json[i] == ':' || json[i] == '"')) ++i;
  std::size_t end = i;
  while (end < json.size() && json[end] >= '0' && json[end] <= '9') ++end;
  std::uint64_t n = 0;
  return read_decimal(json.substr(i, end - i), UINT64_MAX, n) == decimal::number ? n : 0;
}
/// The text behind `"name":"`; empty: none.
[[nodiscard]] inline std::string_view text_in(std::string_view json,
                                              std::string_view name) noexcept {
  const std::size_t at = json.find(name);
  if (at == json.npos) return {};
  const std::size_t begin = json.find('"', at + name.size() + 1);
  if (begin == json.npos) return {};
  const std::size_t end = json.find('"', begin + 1);
  return json.substr(begin + 1, end == json.npos ? end : end - begin - 1);
}

/// take(message) for what comes, until it is told to stop.
template <class Take>
void hear(natsSubscription* from, const std::atomic<bool>& stopping, Take take) {
  while (!stopping) {
    nats_message m;
    if (nats_make(m, natsSubscription_NextMsg, from, std::int64_t{100}) == NATS_OK) take(m.get());
  }
}

/// Any text as a token of a subject; read_token() is the way back, nullopt: it is none.
[[nodiscard]] inline std::string as_token(std::string_view text) {
  std::string out;
  out.reserve(text.size() * 2);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    out += "0123456789abcdef"[byte >> 4U];
    out += "0123456789abcdef"[byte & 15U];
  }
  return out;
}
[[nodiscard]] inline std::optional<std::string> read_token(std::string_view hex) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  if (hex.size() % 2 != 0) return std::nullopt;
  for (std::size_t i = 0; i != hex.size(); i += 2) {
    const std::size_t high = digits.find(hex[i]);
    const std::size_t low = digits.find(hex[i + 1]);
    if (high == digits.npos || low == digits.npos) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
  }
  return out;
}

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JETSTREAM_NATS_HPP
