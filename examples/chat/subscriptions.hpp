// ssehub example chat. SPDX-License-Identifier: MIT
//
// subscriptions: GraphQL subscriptions that were registered at run time. Each has a stream of plain
// texts, /graphql/subscription/<name>, and answers operations by the graphql-sse protocol in its
// distinct connections mode: `event: next` with a result each, and `event: complete`.
//
// The schema is what was registered: type Subscription and type Query have one field for each, of a
// scalar type (any JSON value). A query answers the latest value.
//
// On the server's thread. One channel for the texts, and one for each name under which somebody
// reads it as a result, so that it is encoded once for all who ask alike.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>

#include <sse/asio.hpp>

#include "graphql.hpp"
#include "streams.hpp"

namespace chat {

class subscriptions {
 public:
  static constexpr std::size_t max_subscriptions = 256;
  static constexpr std::size_t max_initial = 64 << 10;  ///< bytes

  subscriptions(http_server& http, const settings& s) : http_{&http}, settings_{s} {}

  /// POST /graphql/subscriptions
  [[nodiscard]] sse::response add(const sse::request& r, std::string_view body);
  /// Completes its operations, ends its streams. False: it is not there.
  bool remove(std::string_view name);
  /// POST /graphql/subscriptions/<name>: the body is the text.
  [[nodiscard]] sse::response publish(std::string_view name, const sse::request& r,
                                      std::string_view body);
  /// `{"items":[{"name":...,"connections":...}]}`
  [[nodiscard]] std::string json() const;

  /// POST and GET /graphql/sse
  [[nodiscard]] sse::verdict<reader> post(const sse::request& r, std::string_view body);
  [[nodiscard]] sse::verdict<reader> get(const sse::request& r);

  /// Whether a connection that is gone may have left something to tidy() later, not in a hook.
  [[nodiscard]] static bool leaves_something(const reader& r) noexcept {
    return r.stream == endpoint;
  }
  /// Closes the channels of aliases that nobody reads.
  void tidy();

 private:
  static constexpr std::string_view endpoint = "/graphql/sse";

  struct subscription {
    sse::channel texts = {};
    std::map<std::string, sse::channel, std::less<>> results{};  ///< by the field's key
    std::string initial{};                                       ///< JSON; empty: none
    std::string latest{};                                        ///< JSON
  };
  using named = std::map<std::string, subscription, std::less<>>;

  /// Of its channels: they are in memory, also beside a journal, whose ids they do not share.
  [[nodiscard]] sse::channel_options channel_options() const;
  [[nodiscard]] sse::verdict<reader> run(const sse::request& r, std::string_view document,
                                         std::string_view operation_name);
  [[nodiscard]] sse::verdict<reader> subscribe(const sse::request& r, const graphql::operation& op);
  [[nodiscard]] sse::response query(const sse::request& r, const graphql::operation& op) const;
  [[nodiscard]] std::string problem_with(const graphql::operation& op) const;

  http_server* http_;
  settings settings_;
  named all_;
};

}  // namespace chat
