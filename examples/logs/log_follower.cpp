// ssehub example logs. SPDX-License-Identifier: MIT
#include "log_follower.hpp"

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
constexpr std::uint64_t low_half = 0xffffffff;  ///< of a size: what a compressed file says
constexpr std::int64_t second = 1'000'000'000;  ///< what some compress with keeps of a file's time
constexpr int most_looks = 8;                   ///< at files that are gone before they are opened
constexpr std::uint64_t scanned_at_once = std::uint64_t{4} << 20;

std::string rotated_data(std::string_view how) {
  return R"({"reason":")" + std::string{how} + R"("})";
}

/// The mark of a file that has no more than what it begins with here, or a whole line in that.
std::uint64_t mark_of_whole(std::string_view head) {
  const std::uint64_t mark = mark_of_head(head);
  return mark == 0 ? mark_of_line(head) : mark;
}

/// The mark that it has up to `end`.
std::uint64_t mark_up_to(const file& f, std::uint64_t end) {
  std::array<char, mark_bytes + 2> head{};
  const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(head.size(), end));
  return mark_of_whole({head.data(), f.read_at(std::span{head}.first(n), 0)});
}

/// Whether that is what a copy-truncate has made so far of `of`: the log, or a later copy of it.
/// Such a file is younger than the log, whereas one that was renamed is older.
bool is_copy(const file& f, const file& of, const file& log) {
  const std::uint64_t end = f.size();
  if (end > of.size() || mark_of(f) != mark_of(of) ||
      check_at(f, end).value() != check_at(of, end).value())
    return false;
  const std::int64_t born = f.born_ns();
  return born == 0 || born >= log.born_ns();
}

/// The files that a log was rotated to. A copy-truncate that is ended in between leaves a copy of
/// which the next one has all: that is left out.
std::vector<rotated_file> rotations_of(const folder& in, const std::string& name) {
  std::vector<rotated_file> all = rotated_files(in, name);
  const file log = file::open(in.file(name), in.follow_links);
  file next;
  for (std::size_t i = all.size(); i-- > 0;) {
    if (all[i].compressed || all[i].state.size == 0) continue;
    file f = open_by_key(in, all[i].path, all[i].state.key);
    if (f && next && is_copy(f, next, log)) {
      all.erase(all.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      next = std::move(f);
    }
  }
  return all;
}

/// The mark that its unpacked file has.
std::uint64_t mark_of_packed(const file& f) {
  return mark_of_whole(unpacked_head(f, mark_bytes + 2));
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
  for (int looks = 1; looks < most_looks; ++looks) {
    if (const auto opened = open_once()) return *opened;
  }
  return open_once().value_or(true);
}

/// Absent: it was truncated meanwhile.
std::optional<bool> log_follower::open_once() {
  last_id_ = 0;
  current_ = file::open(path_, in_.follow_links);
  error_ = current_ || current_.error() == ENOENT ? 0 : current_.error();
  if (error_ != 0) return false;
  std::uint64_t mark = mark_of(current_);
  open_rotated(current_);
  std::uint32_t number = 0;
  if (!generations_.empty()) {
    number = now_read().number + 1;
    last_id_ = id_behind(now_read());
  }
  if (!current_) {
    if (generations_.empty()) return false;
    // Between a rename and the new file: the one that was renamed may still get something.
    if (!now_read().packed) current_ = open_by_key(in_, now_read().path, now_read().key);
    if (!current_) {
      error_ = EAGAIN;
      return false;
    }
    now_read().closed = false;
    last_id_ = 0;
    mark = mark_of(current_);
  } else {
    generations_.push_back({.number = number, .mark = mark, .key = current_.key(), .path = path_});
  }
  const std::uint64_t at = last_line_end(current_, current_.size(), options_.longest);
  cutter_ = line_cutter{at, check_at(current_, at), goes_on_at(current_, at), options_.longest};
  tail_.assign(static_cast<std::size_t>(std::min<std::uint64_t>(tail_bytes, at)), '\0');
  tail_.resize(current_.read_at(tail_, at - tail_.size()));
  if (tail_.size() != std::min<std::uint64_t>(tail_bytes, at) || mark_of(current_) != mark)
    return std::nullopt;
  if (now_read().mark != 0) last_id_ = std::max(last_id_, id_at(now_read(), current_, at));
  ++changes_;
  return true;
}

/// The files that this log was rotated to, as far as they are of use.
void log_follower::open_rotated(const file& newest) {
  const auto open_all = [&] {  // false: one was renamed, compressed or deleted meanwhile
    generations_.clear();
    const file_state now = newest ? newest.state() : file_state{};
    const std::uint64_t mark = newest ? mark_of(newest) : 0;
    std::vector<rotated_file> old = rotations_of(in_, name_);
    if (old.size() > most_rotated)
      old.erase(old.begin(), old.end() - static_cast<std::ptrdiff_t>(most_rotated));
    for (const rotated_file& r : old) {
      if (r.state.key == now.key) break;  // it was rotated since: what follows it is read later
      const file f = open_by_key(in_, r.path, r.state.key);
      if (!f && f.error() == ENOENT) return false;
      if (!f || r.state.size == 0) continue;
      generation g{.number = generations_.empty() ? 0 : now_read().number + 1,
                   .closed = true,
                   .packed = r.compressed,
                   .key = r.state.key,
                   .path = r.path};
      if (r.compressed) {
        if (!unpacker::available()) continue;
        g.mark = mark_of_packed(f);
        g.end = unpacked_size(f);
        if (g.mark == mark && g.end == (now.size & low_half) &&
            r.state.modified_ns / second == now.modified_ns / second)
          break;  // as above
      } else {
        g.end = f.size();
        g.mark = mark_up_to(f, g.end);
        g.end_check = check_at(f, g.end).value();
        if (newest && is_copy(f, newest, newest)) continue;
      }
      generations_.push_back(std::move(g));
    }
    return true;
  };
  for (int looks = 1; !open_all() && looks < most_looks; ++looks) {
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
      if (!truncated_ && !named && current_.state().links == 0) {
        if (deleted_at_ == sse::time_point::never()) deleted_at_ = now;
        if (now - deleted_at_ >= options_.let_go) {
          current_ = file{};
          ++changes_;
        }
      }
      if (!truncated_ && (!named || named->key == current_.key())) return calm;
    } else if (!named) {
      return calm;
    }
    if (next_) {
      if (!unpack_next(to)) return progress::more;
      continue;
    }
    std::optional<found_file> next = successor();
    if (!next) return progress::waiting;
    const bool rotated = next->path != path_;
    if (current_ && rotated && !last_look) {
      last_look = true;  // nobody writes here any more: whatever came, came before this read
      continue;
    }
    error_ = next->f || next->f.error() == ENOENT ? 0 : next->f.error();
    if (!next->f && !truncated_) return calm;
    if (renamed_at_ == sse::time_point::never()) renamed_at_ = now;
    const bool was_truncated{truncated_};  // there may be copies of what it had since
    if (!rotated) {
      const std::uint64_t size = was_truncated ? truncated_.size() : next->f.size();
      if (size == 0 && now - renamed_at_ < options_.settle) return progress::waiting;
      if (was_truncated) {
        next->f = std::exchange(truncated_, {});
      } else if ((current_ && next->f.key() == current_.key()) || was_read(next->f)) {
        return calm;
      }
    }
    if (next->compressed) {
      next_.emplace(packed_file{unpacker{std::move(next->f)}, next->key, std::move(next->path)});
      continue;
    }
    begin_file(std::move(*next), was_truncated ? "truncated" : "renamed", to);
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

/// Shorter than it was, or not what it was: truncated, and perhaps written anew. Also while `bytes`
/// were read, which begin with what was read before.
bool log_follower::changed_under_us(std::string_view bytes) const {
  if (!bytes.starts_with(tail_)) return true;
  if (bytes.size() == tail_.size()) return false;
  std::array<char, tail_bytes> again{};
  const std::string_view first = bytes.substr(0, again.size());
  const std::size_t n =
      current_.read_at(std::span{again}.first(first.size()), cutter_.end() - tail_.size());
  return first != std::string_view{again.data(), n};
}

/// What a copy of the old content has beyond what was read comes first, if there is one.
void log_follower::begin_truncated(const follower_events& to) {
  if (truncated_) {  // the copy was written anew too
    begin_file({std::move(truncated_), path_}, "truncated", to);
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
    begin_file({std::move(current_), path_}, "truncated", to);
  }
}

file log_follower::find_copy() const {
  const generation& g = now_read();
  const std::uint64_t at = cutter_.end();
  for (const rotated_file& r : rotations_of(in_, name_)) {
    if (g.mark == 0 || r.compressed || r.state.key == g.key || r.state.size < at) continue;
    file copy = open_by_key(in_, r.path, r.state.key);
    if (copy && mark_of(copy) == g.mark &&
        check_at(copy, cutter_.begin()).value() == cutter_.check() && copy.key() != g.key)
      return copy;
  }
  return {};
}

void log_follower::begin_file(found_file next, std::string_view how, const follower_events& to) {
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
  current_ = std::move(next.f);
  generations_.push_back({.number = number, .key = current_.key(), .path = std::move(next.path)});
  cutter_ = line_cutter{options_.longest};
  tail_.clear();
  renamed_at_ = deleted_at_ = sse::time_point::never();
  ++changes_;
}

/// Whether a file is the one that was read as `g`. Its number alone does not say so: that of a file
/// that was deleted goes to the next one that is made.
bool log_follower::is_of(const generation& g, const file& f) const {
  const file_state now = f.state();
  if (g.packed || g.key != now.key) return false;
  if (!g.closed) return true;  // it is open here, and keeps its number
  return now.size >= g.end && mark_up_to(f, g.end) == g.mark &&
         check_at(f, g.end).value() == g.end_check;
}

/// Whether that is what became of it.
bool log_follower::is_packed_of(const generation& g, const file& packed) const {
  if (mark_of_packed(packed) != g.mark) return false;
  if (g.packed) return packed.key() == g.key;
  return unpacked_size(packed) == ((g.closed ? g.end : cutter_.end()) & low_half);
}

/// Whether it is a file that was read to its end: a link may still lead there.
bool log_follower::was_read(const file& f) const {
  return std::any_of(generations_.begin(), generations_.end(),
                     [&](const generation& g) { return g.closed && is_of(g, f); });
}

/// Unpacks the next file and begins it. False: it has to go on with that.
bool log_follower::unpack_next(const follower_events& to) {
  const unpacker::state s = next_->unpacking.step(unpacked_by_a_poll);
  if (s == unpacker::state::more) return false;
  file f = s == unpacker::state::done ? next_->unpacking.take() : file::temporary();
  begin_file({f.again(), std::move(next_->path)}, "renamed", to);
  generation& g = now_read();
  g.key = next_->key;
  g.packed = true;
  g.unpacked = std::move(f);
  next_.reset();
  return true;
}

/// The file that followed the one that is read now: by its place among the rotated ones, or, if it
/// is not there any more, by its time. Absent: names change too fast, look again.
std::optional<log_follower::found_file> log_follower::successor() const {
  for (int looks = 0; looks < most_looks; ++looks) {
    // The log first: what follows this one and is older than the log is rotated by then.
    found_file log{file::open(path_, in_.follow_links), path_};
    const std::vector<rotated_file> old = rotations_of(in_, name_);
    bool moved = false;
    const auto open = [&](const rotated_file& r) {
      file f = open_by_key(in_, r.path, r.state.key);
      moved = moved || (!f && f.error() == ENOENT);
      return f;
    };
    const auto is_now = [&](const rotated_file& r) {
      if (!r.compressed) return r.state.key == now_read().key && !now_read().packed;
      const file f = open(r);
      return f && is_packed_of(now_read(), f);
    };
    auto at = std::find_if(old.rbegin(), old.rend(), is_now).base();
    if (at == old.begin()) {
      const std::int64_t modified = current_ ? current_.state().modified_ns : INT64_MAX;
      at = std::find_if(old.begin(), old.end(),
                        [&](const rotated_file& r) { return r.state.modified_ns > modified; });
    }
    for (; at != old.end() && !moved; ++at) {
      if (at->compressed && !unpacker::available()) continue;
      file f = open(*at);
      if (!f) continue;
      if (log.f && at->state.key == log.f.key()) return log;  // a link
      const bool known = std::any_of(
          generations_.begin(), generations_.end(),
          [&](const generation& g) { return at->compressed ? is_packed_of(g, f) : is_of(g, f); });
      if (!known && !(truncated_ && is_copy(f, truncated_, truncated_)))
        return found_file{std::move(f), at->path, at->state.key, at->compressed};
    }
    if (!moved) return log;
  }
  return std::nullopt;
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
  file f = open_by_key(in_, g.path, g.key);
  return f && is_of(g, f) ? std::move(f) : file{};
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
    bool moved = true;
    for (int looks = 0; moved && !unpacking_ && looks < most_looks; ++looks) {
      moved = false;
      for (const rotated_file& r : rotated_files(in_, name_)) {
        if (!r.compressed) continue;
        file f = open_by_key(in_, r.path, r.state.key);
        moved = moved || (!f && f.error() == ENOENT);
        if (!f || !is_packed_of(g, f)) continue;
        unpacking_.emplace(std::move(f));
        unpacking_number_ = g.number;
        break;
      }
    }
    if (!unpacking_) {
      blocked_ = moved;
      return false;
    }
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
        if (last && (mark_of(f) != g.mark || check_at(f, p.offset).value() != in_front.value()))
          return used != 0 ? state::more : state::wait;  // truncated meanwhile, see above
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
