// ssehub example logs. SPDX-License-Identifier: MIT
#include "log_follower.hpp"

#include <dirent.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

namespace logs {
namespace {

constexpr std::size_t tail_bytes = 64;
constexpr std::size_t most_rotated = 200;  ///< older files are left alone, so that numbers suffice
constexpr std::size_t unpacked_at_once = std::size_t{16} << 20;
constexpr std::size_t unpacked_by_a_poll = std::size_t{2} << 20;
constexpr std::uint64_t most_unpacked = std::uint64_t{1} << 30;  ///< of one log, at a time
constexpr std::uint64_t scanned_at_once = std::uint64_t{4} << 20;

std::string rotated_data(std::string_view how) {
  return R"({"reason":")" + std::string{how} + R"("})";
}

/// Opens the file of a log that has that key, whatever it is called in its directory by now.
file open_by_key(const folder& in, const std::string& name, const file_key& key) {
  for (int looks = 0; looks < 3; ++looks) {  // a look may miss it while names are shifted
    DIR* const d = ::opendir(in.path.c_str());
    if (d == nullptr) break;
    file f;
    while (const dirent* const e = ::readdir(d)) {
      if (e->d_ino != key.inode) continue;
      f = file::open(in.file(e->d_name), in.follow_links);
      if (f && f.key() == key) break;
      f = file{};
    }
    ::closedir(d);
    if (f) return f;
  }
  for (const rotated_file& r : rotated_files(in, name)) {  // the numbers in d_ino may be others
    if (r.state.key == key) return file::open(r.path, in.follow_links);
  }
  return {};
}

/// The mark that its unpacked file has.
std::uint64_t mark_of_packed(const file& f) {
  const std::string head = unpacked_head(f, mark_bytes + 2);
  const std::uint64_t mark = mark_of_head(head);
  return mark == 0 ? mark_of_line(head) : mark;
}

bool all_nul(std::string_view bytes) noexcept {
  return bytes.find_first_not_of('\0') == std::string_view::npos;
}

}  // namespace

log_follower::log_follower(folder in, std::string name, const follower_options& o)
    : in_{std::move(in)},
      name_{std::move(name)},
      path_{in_.file(name_)},
      options_{o},
      cutter_{o.longest},
      buffer_(tail_bytes + std::min<std::size_t>(o.budget, std::size_t{64} << 10)) {}

// --- opening -------------------------------------------------------------------------------------

bool log_follower::open() {
  current_ = file::open(path_, in_.follow_links);
  error_ = current_ || current_.error() == ENOENT ? 0 : current_.error();
  if (error_ != 0) return false;
  open_rotated(current_);
  std::uint32_t number = 0;
  if (!generations_.empty()) {
    number = now_read().number + 1;
    last_id_ = id_behind(now_read());
  }
  if (!current_) {
    if (generations_.empty() || now_read().packed) return false;
    // Between a rename and the new file: the one that was renamed may still get something.
    current_ = file::open(now_read().path, in_.follow_links);
    if (!current_) return false;
    now_read().closed = false;
    last_id_ = 0;
  } else {
    generations_.push_back(
        {.number = number, .mark = mark_of(current_), .key = current_.key(), .path = path_});
  }
  const std::uint64_t at = last_line_end(current_, current_.size(), options_.longest);
  cutter_ = line_cutter{at, check_at(current_, at), goes_on_at(current_, at), options_.longest};
  std::string before(static_cast<std::size_t>(std::min<std::uint64_t>(tail_bytes, at)), '\0');
  before.resize(current_.read_at(before, at - before.size()));
  tail_ = before;
  if (now_read().mark != 0) last_id_ = std::max(last_id_, id_at(now_read(), current_, at));
  ++changes_;
  return true;
}

/// The files that this log was rotated to, as far as they are of use.
void log_follower::open_rotated(const file& newest) {
  const file_state now = newest ? newest.state() : file_state{};
  const std::uint64_t mark = newest ? mark_of(newest) : 0;
  std::vector<rotated_file> old = rotated_files(in_, name_);
  if (old.size() > most_rotated)
    old.erase(old.begin(), old.end() - static_cast<std::ptrdiff_t>(most_rotated));
  for (const rotated_file& r : old) {
    const file f = file::open(r.path, in_.follow_links);
    if (!f || r.state.size == 0 || r.state.key == now.key) continue;
    generation g{.number = generations_.empty() ? 0 : now_read().number + 1,
                 .closed = true,
                 .packed = r.compressed,
                 .key = f.key(),
                 .path = r.path};
    if (r.compressed) {
      if (!unpacker::available()) continue;
      g.mark = mark_of_packed(f);
      g.end = unpacked_size(f);
    } else {
      g.end = f.size();
      g.mark = mark_of(f);
      g.end_check = check_at(f, g.end).value();
      if (g.mark == 0) {  // one line without an end
        std::string all(static_cast<std::size_t>(g.end), '\0');
        all.resize(f.read_at(all, 0));
        g.mark = mark_of_line(all);
      }
      const std::uint64_t both = std::min(g.end, now.size);
      if (g.mark == mark && check_at(f, both).value() == check_at(newest, both).value())
        continue;  // a copy of what is there, not what was before it
    }
    generations_.push_back(std::move(g));
  }
}

bool log_follower::is_utf16() const {
  std::array<char, 2> first{};
  if (current_.read_at(first, 0) != first.size()) return false;
  const std::string_view mark{first.data(), first.size()};
  return mark == "\xff\xfe" || mark == "\xfe\xff";
}

// --- forwards ------------------------------------------------------------------------------------

log_follower::progress log_follower::poll(sse::time_point now, const follower_events& to) {
  if (unpacking_) {
    for (generation& g : generations_) {
      if (g.number == unpacking_number_) unpack_some(g, unpacked_by_a_poll);
    }
  }
  const progress calm = unpacking_ ? progress::more : progress::idle;
  std::size_t left = options_.budget;
  bool last_look = false;
  // The name first: what a writer put into this file before it began the next one is read below.
  auto named = state_of(path_, in_.follow_links);
  for (;;) {
    if (exhausted_) return progress::over;
    if (current_) {
      const std::uint64_t at = cutter_.end();
      const std::size_t n = current_.read_at(buffer_, at - tail_.size());
      const std::string_view bytes{buffer_.data(), n};
      if (changed_under_us(bytes)) {
        begin_truncated(to);
        named = state_of(path_, in_.follow_links);
        continue;
      }
      const std::string_view fresh = bytes.substr(tail_.size());
      if (!fresh.empty()) {
        renamed_at_ = deleted_at_ = sse::time_point::never();
        if (skip_hole(fresh)) continue;
        remember_tail(bytes);
        cutter_.feed(fresh, [&](const cut_line& l) {
          line(l, to);
          return true;
        });
      }
      if (n == buffer_.size()) {
        if (left <= fresh.size()) return progress::more;
        left -= fresh.size();
        continue;
      }
      if (truncated_) {
        begin_file(std::move(truncated_), "truncated", to);
        return progress::more;
      }
      if (!named && current_.state().links == 0) {
        if (deleted_at_ == sse::time_point::never()) deleted_at_ = now;
        if (now - deleted_at_ >= options_.let_go) {
          current_ = file{};
          ++changes_;
        }
      }
      if (!named || named->key == current_.key()) return calm;
    } else if (!named) {
      return calm;
    }
    const std::string next = successor();
    if (current_ && next != path_ && !last_look) {
      last_look = true;  // nobody writes here any more: whatever came, came before this read
      continue;
    }
    if (renamed_at_ == sse::time_point::never()) renamed_at_ = now;
    if (next == path_ && named->size == 0 && now - renamed_at_ < options_.settle)
      return progress::waiting;
    if (next.ends_with(".gz") && next != path_) {
      if (!begin_packed(next, to)) return progress::more;
      continue;
    }
    file f = file::open(next, in_.follow_links);
    error_ = f || f.error() == ENOENT ? 0 : f.error();
    if (!f || (current_ && f.key() == current_.key()) || was_read(f)) return calm;
    begin_file(std::move(f), "renamed", to);
    return progress::more;
  }
}

void log_follower::line(const cut_line& l, const follower_events& to) {
  generation& g = now_read();
  if (g.mark == 0) g.mark = mark_of(current_);
  if (g.mark == 0) g.mark = mark_of_line(l.text);  // it has one line, without an end
  if (l.end >= largest_offset - 1) exhausted_ = true;
  if (exhausted_) return;
  last_id_ = id_of({g.number, l.end, fold(l.end, g.mark, l.check)});
  if (to.on_line) to.on_line(last_id_, as_utf8(options_.text, l.text, text_), l.goes_on);
}

void log_follower::remember_tail(std::string_view bytes) {
  tail_ = bytes.substr(bytes.size() - std::min(bytes.size(), tail_bytes));
}

/// A writer that does not append leaves a hole when its file is truncated: goes on behind it.
bool log_follower::skip_hole(std::string_view fresh) {
  if (cutter_.has_partial() || !all_nul(fresh)) return false;
  const std::uint64_t at = current_.data_from(cutter_.end());
  if (at <= cutter_.end()) return false;
  cutter_ = line_cutter{at, check_at(current_, at), false, options_.longest};
  tail_.assign(static_cast<std::size_t>(std::min<std::uint64_t>(tail_bytes, at)), '\0');
  tail_.resize(current_.read_at(tail_, at - tail_.size()));
  return true;
}

/// Shorter than it was, or not what it was: truncated, and perhaps written anew.
bool log_follower::changed_under_us(std::string_view overlap) const {
  return !overlap.starts_with(tail_);
}

/// What a copy of the old content has beyond what was read comes first, if there is one.
void log_follower::begin_truncated(const follower_events& to) {
  if (truncated_) {  // the copy was written anew too
    begin_file(std::move(truncated_), "truncated", to);
    return;
  }
  file copy = find_copy();
  if (copy) {
    now_read().key = copy.key();
    now_read().path.clear();
    truncated_ = std::move(current_);
    current_ = std::move(copy);
  } else {
    now_read().key = {};  // nobody has it any more
    begin_file(std::move(current_), "truncated", to);
  }
}

file log_follower::find_copy() const {
  const generation& g = now_read();
  const std::uint64_t at = cutter_.end();
  for (const rotated_file& r : rotated_files(in_, name_)) {
    if (g.mark == 0 || r.compressed || r.state.key == g.key || r.state.size < at) continue;
    file copy = file::open(r.path, in_.follow_links);
    if (copy && mark_of(copy) == g.mark &&
        check_at(copy, cutter_.begin()).value() == cutter_.check() && copy.key() != g.key)
      return copy;
  }
  return {};
}

void log_follower::begin_file(file f, std::string_view how, const follower_events& to) {
  cutter_.finish([&](const cut_line& l) {
    line(l, to);
    return true;
  });
  generation& old = now_read();
  std::uint32_t number = old.number;
  if (old.mark != 0) {
    old.end = end_of(old);
    old.end_check = cutter_.check();
    old.closed = true;
    last_id_ = std::max(last_id_, id_behind(old));
    if (to.on_rotated) to.on_rotated(last_id_, how);
    exhausted_ = exhausted_ || ++number > largest_number;
  } else {
    generations_.pop_back();  // it never had a line
  }
  file next = std::move(f);
  current_ = std::move(next);
  generations_.push_back({.number = number, .key = current_.key(), .path = path_});
  cutter_ = line_cutter{options_.longest};
  tail_.clear();
  renamed_at_ = deleted_at_ = sse::time_point::never();
  ++changes_;
}

/// Whether it is a file that was read to its end: a link may still lead there.
bool log_follower::was_read(const file& f) const {
  const file_state now = f.state();
  return std::any_of(generations_.begin(), generations_.end(), [&](const generation& g) {
    return g.closed && g.key == now.key && now.size >= g.end && mark_of(f) == g.mark &&
           check_at(f, g.end).value() == g.end_check;
  });
}

/// Unpacks the next file and begins it. False: it has to go on with that.
bool log_follower::begin_packed(const std::string& path, const follower_events& to) {
  if (!next_) next_.emplace(file::open(path, in_.follow_links));
  const unpacker::state s = next_->step(unpacked_by_a_poll);
  if (s == unpacker::state::more) return false;
  const file_key key = state_of(path, in_.follow_links).value_or(file_state{}).key;
  file f = s == unpacker::state::done ? next_->take() : file::temporary();
  next_.reset();
  begin_file(f ? f.again() : file{}, "renamed", to);
  generation& g = now_read();
  g.key = key;
  g.path = path;
  g.packed = true;
  g.unpacked = std::move(f);
  return true;
}

/// The file that followed the one that is read now: by its place among the rotated ones, or, if it
/// is not there any more, by its time.
std::string log_follower::successor() const {
  const std::vector<rotated_file> old = rotated_files(in_, name_);
  const file_key now = now_read().key;
  const auto known = [&](const rotated_file& r) {
    if (r.compressed && !unpacker::available()) return true;
    const file f = r.compressed ? file::open(r.path, in_.follow_links) : file{};
    return std::any_of(generations_.begin(), generations_.end(), [&](const generation& g) {
      if (g.key == r.state.key) return true;
      return f && unpacked_size(f) == ((g.closed ? g.end : cutter_.end()) & 0xffffffffU) &&
             mark_of_packed(f) == g.mark;
    });
  };
  auto at = std::find_if(old.begin(), old.end(),
                         [&](const rotated_file& r) { return r.state.key == now; });
  if (at == old.end()) {
    const std::int64_t modified = current_ ? current_.state().modified_ns : INT64_MAX;
    at = std::find_if(old.begin(), old.end(),
                      [&](const rotated_file& r) { return r.state.modified_ns > modified; });
  } else {
    ++at;
  }
  at = std::find_if_not(at, old.end(), known);
  return at == old.end() ? path_ : at->path;
}

// --- where ids lead ------------------------------------------------------------------------------

std::uint64_t log_follower::end_of(const generation& g) const {
  return g.closed ? g.end : cutter_.begin();
}

/// Of the frame that says that the next file follows.
sse::event_id log_follower::id_behind(const generation& g) const {
  const std::uint64_t check = g.closed ? g.end_check : cutter_.check();
  const std::uint64_t at = end_of(g) + 1;
  return id_of({g.number, at, fold(at, g.mark, check)});
}

sse::event_id log_follower::id_at(const generation& g, const file& f, std::uint64_t at) const {
  return id_of({g.number, at, fold(at, g.mark, check_at(f, at).value())});
}

file log_follower::open_file(const generation& g) const {
  if (&g == &generations_.back()) return current_.again();
  if (g.unpacked) return g.unpacked.again();
  if (g.packed || g.key == file_key{}) return {};
  if (!g.path.empty()) {
    file f = file::open(g.path, in_.follow_links);
    if (f && f.key() == g.key) return f;
  }
  return open_by_key(in_, name_, g.key);
}

/// What that position is in that file; absent: it is none of it.
std::optional<sse::event_id> log_follower::place(const generation& g, const position& p) const {
  if (g.mark == 0 || g.broken || (g.packed && !g.unpacked && p.offset != 0)) return std::nullopt;
  const std::uint64_t end = end_of(g);
  const auto is_at = [&](std::uint64_t check) { return p.check == fold(p.offset, g.mark, check); };
  const sse::event_id as_it_is = id_of({g.number, p.offset, p.check});
  if (p.offset == 0) return is_at(0) ? std::optional{as_it_is} : std::nullopt;
  if (g.closed && p.offset == end + 1)
    return is_at(g.end_check) ? std::optional{as_it_is} : std::nullopt;
  if (p.offset > end) return std::nullopt;
  const file f = open_file(g);
  if (!f || f.size() < p.offset) return std::nullopt;
  if (is_at(check_at(f, p.offset).value())) return as_it_is;
  // It had ended there, and got more later.
  return g.closed && is_at(check_at(f, p.offset - 1).value())
             ? std::optional{id_at(g, f, p.offset - 1)}
             : std::nullopt;
}

std::optional<sse::event_id> log_follower::resolve(sse::event_id id) {
  blocked_ = false;
  if (id == 0) {  // everything there is
    for (std::size_t i = 0; i < generations_.size(); ++i) {
      const generation& g = generations_[i];
      if (!prepare(i) && blocked_) return std::nullopt;
      if (g.mark != 0 && open_file(g)) return id_of({g.number, 0, fold(0, g.mark, 0)});
    }
    return last_id_;
  }
  const position p = position_of(id);
  const auto found = [&](std::size_t i, sse::event_id at) -> std::optional<sse::event_id> {
    if (!prepare(i) && blocked_) return std::nullopt;
    return at;
  };
  for (const bool of_this_run : {true, false}) {
    for (std::size_t i = generations_.size(); i-- > 0;) {
      if (of_this_run && generations_[i].number != p.number) continue;
      if (const auto at = place(generations_[i], p)) return found(i, *at);
    }
  }
  for (std::size_t i = generations_.size(); i-- > 0;) {  // those that have to be unpacked for it
    generation& g = generations_[i];
    if (!g.closed || p.offset > g.end + 1 || g.unpacked) continue;
    if (!g.packed && open_file(g)) continue;
    if (!unpack(g)) {
      if (blocked_) return std::nullopt;
      continue;
    }
    if (const auto at = place(g, p)) return found(i, *at);
  }
  // A file of this run that is gone: what follows it is there, and what is missing will be told.
  for (std::size_t i = 0; i + 1 < generations_.size(); ++i) {
    const generation& g = generations_[i];
    if (g.number == p.number && !g.broken && id < id_behind(g) && !open_file(g))
      return found(i, id);
  }
  return std::nullopt;
}

sse::event_id log_follower::begin() const {
  const generation& g = now_read();
  return g.mark != 0 ? id_of({g.number, 0, fold(0, g.mark, 0)}) : last_id_;
}

sse::event_id log_follower::back(std::uint64_t lines, sse::event_id from) {
  blocked_ = false;
  const position p = position_of(from);
  sse::event_id reached = from;
  for (std::size_t i = generations_.size(); i-- > 0 && lines != 0;) {
    generation& g = generations_[i];
    if (g.mark == 0 || g.number > p.number) continue;
    if (i + 1 != generations_.size() && !prepare(i)) return reached;
    const file f = open_file(g);
    if (!f) return reached;
    const std::uint64_t end = g.number == p.number ? std::min(end_of(g), p.offset) : end_of(g);
    reached = id_at(g, f, lines_back(f, end, lines, options_.longest));
  }
  return reached;
}

// --- compressed files ----------------------------------------------------------------------------

/// Sees to it that the closed files from there on can be read. False: one cannot, or not yet.
bool log_follower::prepare(std::size_t from) {
  bool all = true;
  for (std::size_t i = from; i + 1 < generations_.size(); ++i) {
    generation& g = generations_[i];
    if (g.mark == 0 || open_file(g) || unpack(g)) continue;
    all = false;
    if (blocked_) return false;
  }
  return all;
}

/// Unpacks what a closed file became. False: it is not there, or not yet, or no good.
bool log_follower::unpack(generation& g) {
  if (!g.closed || g.broken || !unpacker::available()) return false;
  if (g.unpacked) return true;
  if (unpacking_ && unpacking_number_ != g.number) {
    blocked_ = true;
    return false;
  }
  if (!unpacking_) {
    std::uint64_t room = most_unpacked;
    for (const generation& other : generations_) {
      if (other.unpacked) room -= std::min(room, other.end);
    }
    if (g.end > room) return false;
    for (const rotated_file& r : rotated_files(in_, name_)) {
      if (!r.compressed) continue;
      file f = file::open(r.path, in_.follow_links);
      if (!f || (g.packed ? f.key() != g.key : unpacked_size(f) != (g.end & 0xffffffffU))) continue;
      if (!g.packed && mark_of_packed(f) != g.mark) continue;
      unpacking_.emplace(std::move(f));
      unpacking_number_ = g.number;
      break;
    }
    if (!unpacking_) return false;
  }
  unpack_some(g, unpacked_at_once);
  blocked_ = unpacking_.has_value();
  return static_cast<bool>(g.unpacked);
}

void log_follower::unpack_some(generation& g, std::size_t bytes) {
  const unpacker::state s = unpacking_->step(bytes);
  if (s == unpacker::state::more) return;
  if (s == unpacker::state::done) take_unpacked(g);
  g.broken = !g.unpacked;
  unpacking_.reset();
}

void log_follower::take_unpacked(generation& g) {
  file f = unpacking_->take();
  if (g.packed) {
    g.end = f.size();
    g.end_check = check_at(f, g.end).value();
  } else if (f.size() != g.end || check_at(f, g.end).value() != g.end_check) {
    return;  // it is another one
  }
  g.unpacked = std::move(f);
}

// --- backwards -----------------------------------------------------------------------------------

sse::backfill_state log_follower::read_back(sse::event_id after, sse::event_id before,
                                            std::size_t room, const adder& add) {
  using state = sse::backfill_state;
  position p = position_of(after);
  std::size_t i = 0;
  while (i < generations_.size() && generations_[i].number != p.number) ++i;
  if (i == generations_.size()) return state::lost;
  std::vector<char> bytes(std::size_t{64} << 10);
  std::string converted;
  std::size_t used = 0;
  for (; i < generations_.size(); ++i, p = {}) {
    generation& g = generations_[i];
    if (g.mark == 0) break;
    const bool last = i + 1 == generations_.size();
    const std::uint64_t end = end_of(g);
    file f = open_file(g);
    if (!f && !last && p.offset < end) {  // it was compressed meanwhile
      blocked_ = false;
      if (unpack(g)) f = open_file(g);
      if (blocked_) return used != 0 ? state::more : state::wait;
    }
    if (f && p.offset < end) {
      const content_check in_front = check_at(f, p.offset);
      if (last && p.offset != 0 && fold(p.offset, g.mark, in_front.value()) != p.check)
        return used != 0 ? state::more : state::wait;  // truncated: poll() sees to it
      bool stopped = false;                            // at `before`
      bool refused = false;
      line_cutter lines{p.offset, in_front, goes_on_at(f, p.offset), options_.longest};
      const auto on_line = [&](const cut_line& l) {
        const sse::event_id id = id_of({g.number, l.end, fold(l.end, g.mark, l.check)});
        stopped = id >= before;
        if (stopped) return false;
        refused = !add(
            id, {.type = type_of(l.goes_on), .data = as_utf8(options_.text, l.text, converted)});
        used += l.text.size() + 32;
        return !refused && used < room;
      };
      std::uint64_t at = p.offset;
      std::uint64_t nuls = 0;
      while (at < end && !stopped && !refused && used < room) {
        const std::size_t want =
            static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), end - at));
        const std::size_t n = f.read_at({bytes.data(), want}, at);
        const std::string_view chunk{bytes.data(), n};
        if (!lines.has_partial() && all_nul(chunk)) {
          if (const std::uint64_t data = f.data_from(at); data > at) {
            at = std::min(data, end);
            lines = line_cutter{at, check_at(f, at), false, options_.longest};
            continue;
          }
          nuls += n;
        }
        lines.feed(chunk, on_line);
        at += n;
        if (n < want) break;
        if (nuls >= scanned_at_once && !lines.has_partial() && !stopped && used < room) {
          // Nothing but NULs for that long: a mark in between, so that each turn ends.
          const sse::event_id id = id_of({g.number, at, fold(at, g.mark, lines.check())});
          if (id >= before) return state::done;
          const std::string data = R"({"bytes":)" + std::to_string(nuls) + "}";
          return add(id, {.type = "skipped", .data = data}) ? state::more : state::lost;
        }
      }
      if (refused) return state::lost;
      if (stopped) return state::done;
      if (used >= room) return state::more;
      if (at < end && last) return used != 0 ? state::more : state::wait;  // truncated, see above
      if (at < end) return state::lost;
      if (!last) lines.finish(on_line);
      if (refused) return state::lost;
      if (stopped) return state::done;
      if (used >= room) return state::more;
    }
    if (last) return !f && p.offset < end ? state::lost : state::done;
    // On with the next file, announced.
    if (!f && p.offset < end) {
      const generation& next = generations_[i + 1];
      const sse::event_id gap =
          next.mark != 0 ? id_of({next.number, 0, fold(0, next.mark, 0)}) : id_behind(g);
      if (gap >= before) return state::done;
      if (!add(gap, {.type = "gap",
                     .data = R"({"requested":)" + std::to_string(after) +
                             R"(,"first":null,"lost":null})"}))
        return state::lost;
    } else if (p.offset <= end) {
      const sse::event_id rotated = id_behind(g);
      if (rotated >= before) return state::done;
      if (!add(rotated, {.type = "rotated", .data = rotated_data("renamed")})) return state::lost;
    }
  }
  return state::done;
}

}  // namespace logs
