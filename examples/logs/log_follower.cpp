// ssehub example logs. SPDX-License-Identifier: MIT
#include "log_follower.hpp"

#include <algorithm>
#include <span>
#include <utility>

namespace logs {
namespace {

constexpr std::uint32_t mark_values = 512;  ///< of a tag: 1 to 511 of these are marks
constexpr std::size_t tail_bytes = 64;
constexpr std::size_t most_rotated = 12;  ///< older files are left alone, so that tags suffice

std::uint32_t short_mark(std::uint64_t mark) noexcept {
  return static_cast<std::uint32_t>(1 + mark % (mark_values - 1));
}

std::string rotated_data(std::string_view how) {
  return R"({"reason":")" + std::string{how} + R"("})";
}

}  // namespace

std::uint32_t next_tag(std::uint32_t last, std::uint64_t mark) noexcept {
  std::uint32_t tag = last / mark_values * mark_values + short_mark(mark);
  if (tag <= last) tag += mark_values;
  return tag <= largest_tag ? tag : 0;
}

bool tag_fits(std::uint32_t tag, std::uint64_t mark) noexcept {
  return tag % mark_values == short_mark(mark);
}

log_follower::log_follower(std::string directory, std::string name, const follower_options& o)
    : directory_{std::move(directory)},
      name_{std::move(name)},
      options_{o},
      cutter_{0, o.longest},
      buffer_(tail_bytes + std::min<std::size_t>(o.budget, std::size_t{64} << 10)) {}

bool log_follower::open() {
  current_ = file::open(path());
  const file_key key = current_ ? current_.key() : file_key{};
  const std::uint64_t mark = current_ ? mark_of(current_) : 0;
  std::vector<rotated_file> old = rotated_files(directory_, name_);
  if (old.size() > most_rotated) old.erase(old.begin(), old.end() - most_rotated);
  std::string last_path;
  for (const rotated_file& r : old) {
    const file f = file::open(r.path);
    if (!f || r.state.size == 0 || r.state.key == key) continue;
    generation g{
        .tagged = true, .closed = true, .mark = mark_of(f), .end = f.size(), .key = f.key()};
    if (g.mark == 0) {  // one line without an end
      std::string all(static_cast<std::size_t>(g.end), '\0');
      all.resize(f.read_at(all, 0));
      g.mark = mark_of_line(all);
    }
    if (g.mark == mark) continue;  // a copy of what is there, not what was before it
    if (!generations_.empty()) g.tag = next_tag(generations_.back().tag, g.mark);
    generations_.push_back(g);
    last_path = r.path;
  }
  if (!current_) {
    if (generations_.empty()) return false;
    // Between a rename and the new file: the one that was renamed may still get something.
    current_ = file::open(last_path);
    if (!current_) return false;
    now_read().closed = false;
  } else {
    const std::uint32_t last = generations_.empty() ? 0 : now_read().tag;
    const bool first = generations_.empty();
    if (!first) last_id_ = id_of({last, now_read().end + 1});
    generations_.push_back({.key = key});
    if (first) now_read().tagged = true;
    now_read().mark = mark;
    if (!first && mark != 0) {
      now_read().tag = next_tag(last, mark);
      now_read().tagged = true;
    }
  }
  const std::uint64_t at = last_line_end(current_, current_.size());
  cutter_.reset(at);
  std::string before(static_cast<std::size_t>(std::min<std::uint64_t>(tail_bytes, at)), '\0');
  before.resize(current_.read_at(before, at - before.size()));
  tail_ = before;
  if (now_read().tagged) last_id_ = std::max(last_id_, id_of({now_read().tag, at}));
  ++changes_;
  return true;
}

// --- forwards ------------------------------------------------------------------------------------

log_follower::progress log_follower::poll(sse::time_point now, const follower_events& to) {
  std::size_t left = options_.budget;
  bool last_look = false;
  // The name first: what a writer put into this file before it began the next one is read below.
  auto named = state_of(path());
  for (;;) {
    if (exhausted_) return progress::over;
    const std::uint64_t at = cutter_.end();
    const std::size_t n = current_.read_at(buffer_, at - tail_.size());
    const std::string_view bytes{buffer_.data(), n};
    if (changed_under_us(bytes)) {
      finish_truncated(to);
      named = state_of(path());
      continue;
    }
    const std::string_view fresh = bytes.substr(tail_.size());
    if (!fresh.empty()) {
      remember_tail(bytes);
      cutter_.feed(fresh, [&](std::string_view text, std::uint64_t end) {
        line(end, text, to);
        return true;
      });
      renamed_at_ = sse::time_point::never();
    }
    if (n == buffer_.size()) {
      if (left <= fresh.size()) return progress::more;
      left -= fresh.size();
      continue;
    }
    if (!named || named->key == current_.key()) return progress::idle;
    const std::string next = successor();
    if (next != path() && !last_look) {
      last_look = true;  // nobody writes here any more: whatever came, came before this read
      continue;
    }
    if (renamed_at_ == sse::time_point::never()) renamed_at_ = now;
    if (next == path() && named->size == 0 && now - renamed_at_ < options_.settle)
      return progress::waiting;
    file f = file::open(next);
    if (!f || f.key() == current_.key()) return progress::idle;
    begin_file(std::move(f), "renamed", to);
    return progress::more;
  }
}

void log_follower::line(std::uint64_t end, std::string_view text, const follower_events& to) {
  if (now_read().mark == 0) name_generation(mark_of_line(text));
  if (end >= largest_offset - 1) exhausted_ = true;
  if (exhausted_) return;
  last_id_ = id_of({now_read().tag, end});
  if (to.on_line) to.on_line(last_id_, text);
}

/// Its first line is there: now it has a mark, and so a tag.
void log_follower::name_generation(std::uint64_t mark) {
  generation& g = now_read();
  g.mark = mark;
  if (g.tagged) return;
  g.tag = next_tag(position_of(last_id_).tag, mark);
  g.tagged = g.tag != 0;
  exhausted_ = exhausted_ || !g.tagged;
}

void log_follower::remember_tail(std::string_view bytes) {
  tail_ = bytes.substr(bytes.size() - std::min(bytes.size(), tail_bytes));
}

/// Shorter than it was, or not what it was: truncated, and perhaps written anew.
bool log_follower::changed_under_us(std::string_view overlap) const {
  return !overlap.starts_with(tail_);
}

/// What a copy of the old content has beyond what was read, then the end.
void log_follower::finish_truncated(const follower_events& to) {
  const std::uint64_t at = cutter_.end();
  for (const rotated_file& r : rotated_files(directory_, name_)) {
    if (now_read().mark == 0 || r.state.key == now_read().key || r.state.size < at) continue;
    const file copy = file::open(r.path);
    std::string before(tail_.size(), '\0');
    if (!copy || mark_of(copy) != now_read().mark ||
        copy.read_at(before, at - before.size()) != before.size() || before != tail_)
      continue;
    for (;;) {
      const std::size_t n = copy.read_at(buffer_, cutter_.end());
      if (n == 0) break;
      cutter_.feed(std::string_view{buffer_.data(), n},
                   [&](std::string_view text, std::uint64_t end) {
                     line(end, text, to);
                     return true;
                   });
    }
    now_read().key = r.state.key;
    break;
  }
  const file_key copied = now_read().key;
  const file_key same = current_.key();
  if (copied == same) now_read().key = {};  // nobody has it any more
  begin_file(std::move(current_), "truncated", to);
  now_read().key = same;
}

void log_follower::begin_file(file f, std::string_view how, const follower_events& to) {
  cutter_.finish([&](std::string_view text, std::uint64_t end) { line(end, text, to); });
  generation& old = now_read();
  if (old.tagged) {
    old.closed = true;
    old.end = cutter_.end();
    last_id_ = std::max(last_id_, id_of({old.tag, old.end + 1}));
    if (to.on_rotated) to.on_rotated(last_id_, how);
  } else {
    generations_.pop_back();  // it never had a line
  }
  current_ = std::move(f);
  generations_.push_back({.key = current_.key()});
  cutter_.reset(0);
  tail_.clear();
  renamed_at_ = sse::time_point::never();
  ++changes_;
}

/// The file that followed the one that is read now.
std::string log_follower::successor() const {
  const std::vector<rotated_file> old = rotated_files(directory_, name_);
  for (std::size_t i = 0; i + 1 < old.size(); ++i) {
    if (old[i].state.key == generations_.back().key) return old[i + 1].path;
  }
  return path();
}

// --- backwards -----------------------------------------------------------------------------------

std::uint64_t log_follower::end_of(const generation& g) const {
  return g.closed ? g.end : cutter_.line_begin();
}

file log_follower::open_file(const generation& g) const {
  if (&g == &generations_.back()) return current_.again();
  for (const rotated_file& r : rotated_files(directory_, name_)) {
    if (r.state.key == g.key) return file::open(r.path);
  }
  return {};
}

bool log_follower::fits(const generation& g, std::uint64_t offset) const {
  if (offset == largest_offset) return true;
  if (g.closed && offset >= g.end) return offset <= g.end + 1;
  const file f = open_file(g);
  return f && f.size() >= offset && is_line_end(f, offset, options_.longest);
}

std::optional<sse::event_id> log_follower::resolve(sse::event_id id) const {
  if (id == 0) {  // everything there is
    for (const generation& g : generations_) {
      if (g.tagged && open_file(g)) return id_of({g.tag, 0});
    }
  }
  const position p = position_of(id);
  if (id > last_id_ && p.tag == generations_.back().tag && generations_.back().tagged &&
      p.offset > cutter_.line_begin())
    return std::nullopt;
  for (std::size_t i = generations_.size(); i-- > 0;) {
    const generation& g = generations_[i];
    if (g.tagged && g.tag == p.tag && fits(g, p.offset)) return id;
  }
  for (std::size_t i = generations_.size(); i-- > 0 && p.tag != 0;) {
    const generation& g = generations_[i];
    if (g.tagged && g.mark != 0 && tag_fits(p.tag, g.mark) && fits(g, p.offset))
      return id_of({g.tag, p.offset});
  }
  return std::nullopt;
}

sse::event_id log_follower::begin() const noexcept {
  const generation& g = generations_.back();
  return g.tagged ? id_of({g.tag, 0}) : last_id_;
}

sse::event_id log_follower::back(std::uint64_t lines, sse::event_id from) const {
  const position p = position_of(from);
  for (std::size_t i = generations_.size(); i-- > 0 && lines != 0;) {
    const generation& g = generations_[i];
    if (!g.tagged || g.tag > p.tag) continue;
    const file f = open_file(g);
    if (!f) return i + 1 < generations_.size() ? id_of({generations_[i + 1].tag, 0}) : from;
    const std::uint64_t end = end_of(g);
    const std::uint64_t at = lines_back(f, g.tag == p.tag ? std::min(end, p.offset) : end, lines);
    if (lines == 0 || i == 0) return id_of({g.tag, at});
  }
  return from;
}

sse::backfill_state log_follower::read_back(sse::event_id after, sse::event_id before,
                                            std::size_t room, const adder& add) const {
  using state = sse::backfill_state;
  position p = position_of(after);
  std::size_t i = 0;
  while (i < generations_.size() && !(generations_[i].tagged && generations_[i].tag == p.tag)) ++i;
  if (i == generations_.size()) return state::lost;
  std::vector<char> bytes(std::size_t{64} << 10);
  std::size_t used = 0;
  for (; i < generations_.size(); ++i, p = {}) {
    const generation& g = generations_[i];
    if (!g.tagged) break;
    const bool last = i + 1 == generations_.size();
    const std::uint64_t end = end_of(g);
    const file f = open_file(g);
    if (f && p.offset < end) {
      bool stopped = false;  // at `before`
      bool refused = false;
      line_cutter lines{p.offset, options_.longest};
      const auto on_line = [&](std::string_view text, std::uint64_t at) {
        const sse::event_id id = id_of({g.tag, at});
        stopped = id >= before;
        if (stopped) return false;
        refused = !add(id, {.data = text});
        used += text.size() + 32;
        return !refused && used < room;
      };
      std::uint64_t at = p.offset;
      while (at < end && !stopped && !refused && used < room) {
        const std::size_t want =
            static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), end - at));
        const std::size_t n = f.read_at({bytes.data(), want}, at);
        lines.feed({bytes.data(), n}, on_line);
        at += n;
        if (n < want) break;
      }
      if (refused) return state::lost;
      if (stopped) return state::done;
      if (used >= room) return state::more;
      if (at < end) return state::lost;  // it was truncated behind our back
      if (!last) lines.finish(on_line);
      if (refused) return state::lost;
      if (stopped) return state::done;
      if (used >= room) return state::more;
    }
    if (last) break;
    // On with the next file, announced.
    const sse::event_id rotated = id_of({g.tag, end + 1});
    if (!f && p.offset < end) {
      const sse::event_id gap = id_of({g.tag, largest_offset});
      if (gap >= before) return state::done;
      if (!add(gap, {.type = "gap",
                     .data = R"({"requested":)" + std::to_string(after) +
                             R"(,"first":null,"lost":null})"}))
        return state::lost;
    } else if (p.offset <= end) {
      if (rotated >= before) return state::done;
      if (!add(rotated, {.type = "rotated", .data = rotated_data("renamed")})) return state::lost;
    }
  }
  return state::done;
}

}  // namespace logs
