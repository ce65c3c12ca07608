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
// Ids are those of log_id.hpp. Files are numbered from the oldest that is there when the log is
// opened; by its check an id that a reader brings finds its file again after a restart too, without
// anything being stored. The id behind a file's end by one is that of the frame that announces the
// rotation.
//
// No call reads or writes more than some MiB. A compressed file is unpacked when an id or lines
// back lead into it; that may take several polls, see blocked().
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
#include "log_id.hpp"
#include "text_encoding.hpp"
#include "unpacker.hpp"

namespace logs {

struct follower_options {
  std::size_t longest = longest_line;
  std::size_t budget = std::size_t{256} << 10;  ///< bytes read in one poll
  /// How long a file that was renamed is read on while nothing comes to the new one.
  sse::duration settle = sse::duration::seconds(1);
  /// How long a file that was deleted is kept open while nothing comes to it.
  sse::duration let_go = sse::duration::seconds(60);
  encoding text = encoding::utf8;
};

struct follower_events {
  /// `goes_on`: it is a further piece of the line before.
  std::function<void(sse::event_id id, std::string_view line, bool goes_on)> on_line{};
  /// The lines of the next file follow. `how`: "renamed" or "truncated".
  std::function<void(sse::event_id id, std::string_view how)> on_rotated{};
};

/// The type of the event that a line, or a further piece of one, is.
[[nodiscard]] constexpr std::string_view type_of(bool goes_on) noexcept {
  return goes_on ? "continued" : "";
}

class log_follower {
 public:
  log_follower(folder in, std::string name, const follower_options& o = {});

  /// At its end. False: there is no such log, nor one that was rotated, or see error().
  [[nodiscard]] bool open();
  /// Why the log's file could not be opened last, as in errno; 0: it could, or is not there.
  [[nodiscard]] int error() const noexcept { return error_; }
  /// Whether it begins as a file in UTF-16 does, which is not read.
  [[nodiscard]] bool is_utf16() const;

  enum class progress : std::uint8_t {
    idle,     ///< poll again when it changed, or now and then
    more,     ///< there is more to do: poll again soon
    waiting,  ///< the log was renamed, what it will become is empty: poll in a moment
    over,     ///< the numbers are used up: begin with a new follower
  };
  /// Reads what there is, up to the budget.
  [[nodiscard]] progress poll(sse::time_point now, const follower_events& to);

  /// The last id given out, or where following began.
  [[nodiscard]] sse::event_id last_id() const noexcept { return last_id_; }
  /// The descriptor of the file that is read now, for a watch; changes with changes(). -1: none.
  [[nodiscard]] int descriptor() const noexcept { return current_.descriptor(); }
  [[nodiscard]] std::uint64_t changes() const noexcept { return changes_; }

  /// An id that a reader brings, as this run counts: it may come from another one. Absent: its file
  /// is gone, or it never was an id of this log, or see blocked().
  [[nodiscard]] std::optional<sse::event_id> resolve(sse::event_id id);
  /// Where the file that is followed now begins.
  [[nodiscard]] sse::event_id begin() const;
  /// `lines` lines before last_id(), or before an id that resolve() gave; or see blocked().
  [[nodiscard]] sse::event_id back(std::uint64_t lines) { return back(lines, last_id_); }
  [[nodiscard]] sse::event_id back(std::uint64_t lines, sse::event_id from);
  /// The last resolve() or back() has no answer yet: poll, and ask again.
  [[nodiscard]] bool blocked() const noexcept { return blocked_; }
  [[nodiscard]] bool unpacking() const noexcept { return unpacking_.has_value(); }

  using adder = std::function<bool(sse::event_id id, const sse::event& e)>;
  /// Reads lines with after < id < before back from the files, about `room` bytes. When it has to
  /// wait, poll() brings it on.
  [[nodiscard]] sse::backfill_state read_back(sse::event_id after, sse::event_id before,
                                              std::size_t room, const adder& add);

 private:
  struct generation {
    std::uint32_t number = 0;
    bool closed = false;     ///< gets no more: `end` is known
    bool packed = false;     ///< its file is compressed, `end_check` is not known
    bool broken = false;     ///< and cannot be unpacked
    std::uint64_t mark = 0;  ///< 0: it has no line yet
    std::uint64_t end = 0;
    std::uint64_t end_check = 0;
    file_key key{};
    std::string path{};  ///< where it was seen last
    file unpacked{};
  };

  struct found_file {
    file f;
    std::string path;
    file_key key{};
    bool compressed = false;
  };
  struct packed_file {
    unpacker unpacking;
    file_key key;
    std::string path;
  };

  [[nodiscard]] generation& now_read() noexcept { return generations_.back(); }
  [[nodiscard]] const generation& now_read() const noexcept { return generations_.back(); }
  [[nodiscard]] std::uint64_t end_of(const generation& g) const;
  [[nodiscard]] sse::event_id id_behind(const generation& g) const;
  [[nodiscard]] sse::event_id id_at(const generation& g, const file& f, std::uint64_t at) const;
  [[nodiscard]] std::optional<sse::event_id> place(const generation& g, const position& p) const;
  [[nodiscard]] file open_file(const generation& g) const;
  [[nodiscard]] std::optional<bool> open_once();
  void open_rotated(const file& newest);
  [[nodiscard]] bool prepare(std::size_t from);
  [[nodiscard]] bool unpack(generation& g);
  void unpack_some(generation& g, std::size_t bytes);
  void take_unpacked(generation& g);
  void line(const cut_line& l, const follower_events& to);
  void remember_tail(std::string_view bytes);
  [[nodiscard]] bool skip_hole(std::string_view fresh);
  [[nodiscard]] bool changed_under_us(std::string_view bytes) const;
  void begin_truncated(const follower_events& to);
  [[nodiscard]] file find_copy() const;
  void begin_file(found_file next, std::string_view how, const follower_events& to);
  [[nodiscard]] bool unpack_next(const follower_events& to);
  [[nodiscard]] bool is_of(const generation& g, const file& f) const;
  [[nodiscard]] bool is_packed_of(const generation& g, const file& packed) const;
  [[nodiscard]] bool was_read(const file& f) const;
  [[nodiscard]] std::optional<found_file> successor() const;

  folder in_;
  std::string name_;
  std::string path_;
  follower_options options_;
  std::vector<generation> generations_;  ///< oldest first; the last one is read now
  file current_;
  file truncated_;  ///< the log itself, while current_ is a copy that is read to its end
  line_cutter cutter_;
  std::string tail_;  ///< the last bytes read: a file that was rewritten has others there
  std::vector<char> buffer_;
  std::string text_;
  std::optional<unpacker> unpacking_;
  std::uint32_t unpacking_number_ = 0;
  std::optional<packed_file> next_;  ///< what becomes the file that is read
  sse::event_id last_id_ = 0;
  std::uint64_t changes_ = 0;
  sse::time_point renamed_at_ = sse::time_point::never();
  sse::time_point deleted_at_ = sse::time_point::never();
  int error_ = 0;
  bool blocked_ = false;
  bool exhausted_ = false;
};

}  // namespace logs
