// ssehub example chat. SPDX-License-Identifier: MIT
//
// presence: who is in which room. A user is there from the first connection to the last.
//
//   chat::presence p;
//   if (p.enter("general", "ann")) soon([&] { announce(p.changes(time)); });
//   greet(p.everybody());
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace chat {

class presence {
 public:
  static constexpr std::size_t max_snapshot = 64 << 10;  ///< bytes, about

  /// True: the user's first connection in this room.
  bool enter(std::string_view room, std::string_view user);
  /// True: it was the last one.
  bool leave(std::string_view room, std::string_view user);
  [[nodiscard]] std::size_t users(std::string_view room) const noexcept;

  /// `{"type":"presence","rooms":[{"room":...,"users":[...]}],"complete":true}`; not complete:
  /// there were too many to name all.
  [[nodiscard]] std::string everybody() const;
  /// Who came and went since the last call, all in one, so that a crowd that comes costs one event
  /// and not one each; who went and came back is not in it. Empty: nobody.
  /// `{"type":"presence","changes":[{"room":...,"user":...,"present":...}],"timestamp":...}`
  [[nodiscard]] std::string changes(std::string_view time);

 private:
  using connections = std::map<std::string, std::uint32_t, std::less<>>;  // by user
  void changed(std::string_view room, std::string_view user, bool present);

  std::map<std::string, connections, std::less<>> rooms_;
  std::map<std::pair<std::string, std::string>, bool> changes_;
};

}  // namespace chat
