// ssehub example chat. SPDX-License-Identifier: MIT
//
// Who may see an event: conditions on the query parameters of a connection. They are stored with
// the event (sse::publish_options::audience) and asked on live delivery and on replay alike.
//
//   std::string audience;
//   chat::must_be(audience, "room", "general");
//   chat::sees(*chat::parameters::read("room=general&user=ann"), audience);  // true
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace chat {

/// The query parameters of a connection, decoded. Of a name that occurs twice the first counts.
class parameters {
 public:
  /// So many at most: every filtered event looks for some of them, also on replay.
  static constexpr std::size_t most = 32;

  /// Absent: a malformed escape, or too many.
  [[nodiscard]] static std::optional<parameters> read(std::string_view raw_query);

  /// Absent: not there.
  [[nodiscard]] std::optional<std::string_view> find(std::string_view name) const noexcept;
  [[nodiscard]] std::string_view get(std::string_view name) const noexcept {
    return find(name).value_or(std::string_view{});
  }
  /// The program's own word, whatever the connection said.
  void set(std::string_view name, std::string_view value) {
    all_.insert_or_assign(std::string{name}, std::string{value});
  }

 private:
  std::map<std::string, std::string, std::less<>> all_;
};

// Each adds a condition; a connection must meet all of them. False, with nothing added: a NUL in
// it.

/// The connection has this parameter with this value, letter for letter.
bool must_be(std::string& audience, std::string_view name, std::string_view value);
/// The connection does not have it, or with this value.
bool unless_other(std::string& audience, std::string_view name, std::string_view value);
/// The connection has this parameter.
bool must_have(std::string& audience, std::string_view name);

[[nodiscard]] bool sees(const parameters& p, std::string_view audience) noexcept;

/// An audience as a message's header can carry it, and back; what is none becomes one that nobody
/// is.
[[nodiscard]] std::string to_header(std::string_view audience);
[[nodiscard]] std::string from_header(std::string_view text);

}  // namespace chat
