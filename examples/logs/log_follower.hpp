// ssehub example logs. SPDX-License-Identifier: MIT
//
// log_follower: one log, followed through its files: what is appended, rotation by rename, and
// copy-truncate. It opens no socket, waits for nothing and reads no clock: whoever owns it calls
// poll() when the file may have changed.
//
//   log_follower log{directory, "app.log"};
//   if (!log.open()) return not_found();
//   log.poll(now, {.on_line = ..., .on_rotated = ...});
//
// Ids. The id of a line is the offset behind it in its file, in the lower 40 bits. Above them is
// the tag of the file, 0 for one that was never rotated, so that its ids are plain offsets. The
// files that a log was rotated to and those that come later have rising tags, which also hold nine
// bits of a hash of the file's first line: by them an id that a reader brings finds its file again
// after a restart too, without anything being stored. The id behind a file's end by one is that of
// the frame that announces the rotation; the last one of a tag that of a gap.
//
// Errors: a file that cannot be read any more is at its end. Strings may throw std::bad_alloc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sse/channel.hpp>

#include "line_cutter.hpp"
#include "log_files.hpp"

namespace logs {

inline constexpr unsigned offset_bits = 40;
inline constexpr std::uint64_t largest_offset = (std::uint64_t{1} << offset_bits) - 1;
inline constexpr std::uint32_t largest_tag = (std::uint32_t{1} << (53 - offset_bits)) - 1;

struct position {
  std::uint32_t tag = 0;
  std::uint64_t offset = 0;
  friend bool operator==(const position&, const position&) = default;
};
[[nodiscard]] constexpr sse::event_id id_of(position p) noexcept {
  return (sse::event_id{p.tag} << offset_bits) | p.offset;
}
[[nodiscard]] constexpr position position_of(sse::event_id id) noexcept {
  return {static_cast<std::uint32_t>(id >> offset_bits), id & largest_offset};
}
/// The smallest tag above `last` for a file with this mark; 0: there is none any more.
[[nodiscard]] std::uint32_t next_tag(std::uint32_t last, std::uint64_t mark) noexcept;
/// Whether a file with this mark may have had that tag in another run.
[[nodiscard]] bool tag_fits(std::uint32_t tag, std::uint64_t mark) noexcept;

struct follower_options {
  std::size_t longest = longest_line;
  std::size_t budget = std::size_t{256} << 10;  ///< bytes read in one poll
  /// How long a file that was renamed is read on while nothing comes to the new one.
  sse::duration settle = sse::duration::seconds(1);
};

struct follower_events {
  std::function<void(sse::event_id id, std::string_view line)> on_line{};
  /// The lines of the next file follow. `how`: "renamed" or "truncated".
  std::function<void(sse::event_id id, std::string_view how)> on_rotated{};
};

class log_follower {
 public:
  log_follower(std::string directory, std::string name, const follower_options& o = {});

  /// At its end. False: there is no such log, nor one that was rotated.
  [[nodiscard]] bool open();

  enum class progress : std::uint8_t {
    idle,     ///< poll again when it changed, or now and then
    more,     ///< there is more to read: poll again soon
    waiting,  ///< the log was renamed, what it will become is empty: poll in a moment
    over,     ///< the tags are used up: begin with a new follower
  };
  /// Reads what there is, up to the budget.
  [[nodiscard]] progress poll(sse::time_point now, const follower_events& to);

  /// The last id given out, or where following began.
  [[nodiscard]] sse::event_id last_id() const noexcept { return last_id_; }
  /// The descriptor of the file that is read now, for a watch; changes with changes().
  [[nodiscard]] int descriptor() const noexcept { return current_.descriptor(); }
  [[nodiscard]] std::uint64_t changes() const noexcept { return changes_; }

  /// An id that a reader brings, as this run counts: it may come from another one. Absent: its file
  /// is gone, or it never was an id of this log.
  [[nodiscard]] std::optional<sse::event_id> resolve(sse::event_id id) const;
  /// Where the file that is followed now begins.
  [[nodiscard]] sse::event_id begin() const noexcept;
  /// `lines` lines before last_id(), or before an id that resolve() gave.
  [[nodiscard]] sse::event_id back(std::uint64_t lines) const { return back(lines, last_id_); }
  [[nodiscard]] sse::event_id back(std::uint64_t lines, sse::event_id from) const;

  using adder = std::function<bool(sse::event_id id, const sse::event& e)>;
  /// Reads lines with after < id < before back from the files, about `room` bytes.
  [[nodiscard]] sse::backfill_state read_back(sse::event_id after, sse::event_id before,
                                              std::size_t room, const adder& add) const;

 private:
  struct generation {
    std::uint32_t tag = 0;
    bool tagged = false;  ///< it has a line, so that it has a mark
    bool closed = false;  ///< gets no more: `end` is known
    std::uint64_t mark = 0;
    std::uint64_t end = 0;
    file_key key{};
  };

  [[nodiscard]] std::string path() const { return directory_ + "/" + name_; }
  [[nodiscard]] generation& now_read() noexcept { return generations_.back(); }
  [[nodiscard]] std::uint64_t end_of(const generation& g) const;
  [[nodiscard]] bool fits(const generation& g, std::uint64_t offset) const;
  [[nodiscard]] file open_file(const generation& g) const;
  void line(std::uint64_t end, std::string_view text, const follower_events& to);
  void name_generation(std::uint64_t mark);
  void remember_tail(std::string_view bytes);
  [[nodiscard]] bool changed_under_us(std::string_view overlap) const;
  void finish_truncated(const follower_events& to);
  void begin_file(file f, std::string_view how, const follower_events& to);
  [[nodiscard]] std::string successor() const;

  std::string directory_;
  std::string name_;
  follower_options options_;
  std::vector<generation> generations_;  ///< oldest first; the last one is read now
  file current_;
  line_cutter cutter_;
  std::string tail_;  ///< the last bytes read: a file that was rewritten has others there
  std::vector<char> buffer_;
  sse::event_id last_id_ = 0;
  std::uint64_t changes_ = 0;
  sse::time_point renamed_at_ = sse::time_point::never();
  bool exhausted_ = false;
};

}  // namespace logs
