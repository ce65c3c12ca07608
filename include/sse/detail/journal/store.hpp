// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// journal_store: the files of a journal. Knows no thread, no clock and no hub.
//
//   <first id>.log  audience, key and encoded bytes of each event, back to back
//   <first id>.idx  a header, then a record for each event
//   runs            where each run began, which ids it may have given out, and how it ended
//   lock            who writes
//   head            the newest event that other processes may show
//
// Invariants:
//   1. Bytes of a .log stand before their records are written; what has no record is not there.
//   2. A record says up to which id everything was durable when it was written. So a bad record in
//      front of a good one that says so is no torn tail but a broken file.
//   3. Ids above what `runs` reserves are given to nobody; a run that did not end by itself is
//      followed by one that begins above them.
//   4. A segment knows the id in front of its first: what is missing between two is seen.
#pragma once
#ifndef SSEHUB_DETAIL_JOURNAL_STORE_HPP
#define SSEHUB_DETAIL_JOURNAL_STORE_HPP

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/detail/base/assert.hpp>
#include <sse/detail/journal/crc32c.hpp>
#include <sse/detail/journal/files.hpp>
#include <sse/journal_options.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

struct index_record {
  std::uint64_t id;
  std::int64_t time_ms;
  std::uint32_t offset;  ///< in the .log, of the event's bytes; its audience and key stand in front
  std::uint32_t size;
  std::uint32_t behind;  ///< id - behind was durable, with all below it, when this was written
  std::uint32_t crc;     ///< of all but itself and the offset, and of the bytes
  std::uint16_t channel;
  std::uint16_t audience;  ///< bytes
  std::uint16_t key;       ///< bytes
  std::uint16_t flags;     ///< 0

  [[nodiscard]] std::uint32_t begin() const noexcept { return offset - audience - key; }
  [[nodiscard]] std::uint64_t end() const noexcept { return std::uint64_t{offset} + size; }
  [[nodiscard]] std::uint32_t checksum(const char* bytes) const noexcept {
    index_record r = *this;
    r.crc = r.offset = 0;
    return crc32c(bytes, std::size_t{audience} + key + size, crc32c(&r, sizeof r));
  }
};
static_assert(sizeof(index_record) == 40, "as it lies on disk");

struct index_header {
  char magic[8] = {'s', 's', 'e', 'h', 'u', 'b', 'j', '\n'};
  std::uint32_t version = 1;
  std::uint32_t order = 0x01020304;
  std::uint64_t first = 0;
  std::uint64_t before = 0;  ///< the id in front of `first`
  std::uint32_t unused = 0;
  std::uint32_t crc = 0;
  [[nodiscard]] std::uint32_t checksum() const noexcept {
    index_header h = *this;
    h.crc = 0;
    return crc32c(&h, sizeof h);
  }
};
static_assert(sizeof(index_header) == sizeof(index_record));

struct run_record {
  enum : std::uint32_t { begun = 1, reserved = 2, ended = 3, hole = 4 };
  std::uint32_t kind;
  std::uint32_t crc;
  std::uint64_t first;      ///< begun, hole: the first id; reserved, ended: up to this one
  std::uint64_t recovered;  ///< begun: the newest that was found; hole: that was stored
  std::int64_t time_ms;
  [[nodiscard]] std::uint32_t checksum() const noexcept {
    run_record r = *this;
    r.crc = 0;
    return crc32c(&r, sizeof r);
  }
};
static_assert(sizeof(run_record) == 32);

/// Events that are to be written: their bytes and records.
struct journal_batch {
  std::vector<char> bytes;
  std::vector<index_record> records;  ///< without place and checksum

  void add(const journal_event& e) {
    records.push_back({e.id, e.time_ms, 0, static_cast<std::uint32_t>(e.bytes.size()), 0, 0,
                       e.channel, static_cast<std::uint16_t>(e.audience.size()),
                       static_cast<std::uint16_t>(e.key.size()), 0});
    for (const std::string_view part : {e.audience, e.key, e.bytes})
      bytes.insert(bytes.end(), part.begin(), part.end());
  }
  void clear() noexcept {
    bytes.clear();
    records.clear();
  }
  [[nodiscard]] bool empty() const noexcept { return records.empty(); }
  [[nodiscard]] std::size_t size() const noexcept {
    return bytes.size() + records.size() * sizeof(index_record);
  }
};

[[nodiscard]] inline journal_event view(const index_record& r, const char* begin) noexcept {
  const char* const key = begin + r.audience;
  const char* const bytes = key + r.key;
  return {r.id, r.time_ms, r.channel, {begin, r.audience}, {key, r.key}, {bytes, r.size}};
}

/// Two files. Readers hold it while they read, so that it can be removed meanwhile.
class journal_segment {
 public:
  journal_segment(journal_files& f, event_id first_id) noexcept : first{first_id}, files_{&f} {}
  journal_segment(const journal_segment&) = delete;
  journal_segment& operator=(const journal_segment&) = delete;
  ~journal_segment() {
    if (bytes_ != nullptr) files_->unmap(bytes_, room_);
    if (records_ != nullptr) files_->unmap(records_, room_);
    if (log >= 0) files_->close(log);
    if (index >= 0) files_->close(index);
  }

  [[nodiscard]] static std::string name(event_id first, std::string_view kind) {
    std::string digits = std::to_string(first);
    digits.insert(0, digits.size() < 16 ? 16 - digits.size() : 0, '0');
    return digits.append(kind);
  }
  /// Both files, so that `room` bytes of each can be read.
  [[nodiscard]] int open(bool create, std::uint64_t room) {
    if (const int e = files_->open(name(first, ".log"), create, log); e != 0) return e;
    if (const int e = files_->open(name(first, ".idx"), create, index); e != 0) return e;
    room_ = room;
    bytes_ = files_->map(log, room);
    if (bytes_ == nullptr) return errno;
    records_ = files_->map(index, room);
    return records_ == nullptr ? errno : 0;
  }

  [[nodiscard]] index_record record(std::uint32_t i) const noexcept {
    index_record r;
    std::memcpy(&r, records_ + sizeof(index_header) + std::size_t{i} * sizeof r, sizeof r);
    return r;
  }
  [[nodiscard]] index_header header() const noexcept {
    index_header h;
    std::memcpy(&h, records_, sizeof h);
    return h;
  }
  [[nodiscard]] const char* bytes(const index_record& r) const noexcept {
    return bytes_ + r.begin();
  }
  /// The first of `count` records behind id `after`.
  [[nodiscard]] std::uint32_t find(event_id after, std::uint32_t count) const noexcept {
    std::uint32_t lo = 0;
    while (lo < count) {
      const std::uint32_t mid = lo + (count - lo) / 2;
      if (record(mid).id > after) {
        count = mid;
      } else {
        lo = mid + 1;
      }
    }
    return lo;
  }
  [[nodiscard]] std::uint64_t disk_bytes() const noexcept {
    return log_end + sizeof(index_header) + std::uint64_t{written} * sizeof(index_record);
  }

  const event_id first;
  event_id before = no_id;
  int log = -1;
  int index = -1;
  std::uint64_t log_end = 0;  ///< bytes that have records
  std::uint32_t written = 0;  ///< records
  std::uint32_t synced = 0;   ///< of those, durable ones
  std::uint64_t synced_end = 0;
  std::atomic<std::uint32_t> shown{0};  ///< of those, the ones that may be read

 private:
  journal_files* files_;
  const char* bytes_ = nullptr;
  const char* records_ = nullptr;
  std::uint64_t room_ = 0;
};

class journal_store {
 public:
  struct settings {
    std::uint64_t segment_bytes = std::uint64_t{64} << 20;
    std::uint64_t most_pending = std::uint64_t{32} << 20;  ///< bytes of a batch and its records
    std::uint64_t keep_bytes = 0;
    std::uint64_t keep_events = 0;
    std::int64_t keep_ms = 0;
    bool claims = false;               ///< events are shown once they are synced, not before
    event_id ids_at_once = 1U << 20U;  ///< reserved
    bool repair = false;               ///< what is broken is let go, with all that is older
  };
  journal_store(journal_files& f, const settings& s) noexcept : files_{&f}, settings_{s} {}
  journal_store(const journal_store&) = delete;
  journal_store& operator=(const journal_store&) = delete;
  ~journal_store() {
    if (runs_ >= 0) files_->close(runs_);
    if (head_ >= 0) files_->close(head_);
  }

  // --- start -------------------------------------------------------------------------------------

  /// To write: cuts a torn tail off, begins a run. `least`: the first id of a new journal, less
  /// one.
  [[nodiscard]] journal_error open_to_write(std::int64_t now_ms, event_id least,
                                            journal_start& out) {
    std::string holder;
    if (const int e = files_->lock("lock", holder); e != 0) {
      if (e != EWOULDBLOCK) return failed(e, "lock");
      return {journal_errc::in_use,
              {},
              "process " + (holder.empty() ? std::string{"of unknown number"} : holder) +
                  " writes this journal: end it, or use another directory"};
    }
    event_id reserved = no_id;
    bool clean = true;
    if (journal_error e = read_runs(true, reserved, clean); e) return e;
    if (journal_error e = read_segments(true, out); e) return e;
    out.recovered = last_;
    const bool fresh = segments_.empty() && runs_table_.empty();
    if (fresh) reserved = least;
    out.clean = clean;
    out.next = (std::max)(last_, reserved) + 1;
    if (segments_.empty()) {  // nothing is there: who saw something is told
      out.recovered = last_ = durable_ = durable_floor_ = out.next - 1;
      gone_.store(last_, std::memory_order_release);
    }
    if (const int e = begin_run(run_record::begun, out.next, now_ms); e != 0)
      return failed(e, "runs");
    if (const int e = reserve(out.next); e != 0) return failed(e, "runs");
    newest_.store(last_, std::memory_order_release);
    int e = files_->open("head", true, head_);
    if (e == 0) e = tell_head();
    return e == 0 ? journal_error{} : failed(e, "head");
  }

  /// Beside a process that writes.
  [[nodiscard]] journal_error open_to_read(journal_start& out) {
    event_id reserved = no_id;
    if (journal_error e = read_runs(false, reserved, out.clean); e) return e;
    if (const int e = files_->open("head", false, head_); e != 0) return failed(e, "head");
    if (journal_error e = read_segments(false, out); e) return e;
    (void)look_for_news();
    out.recovered = newest_.load(std::memory_order_relaxed);
    out.next = out.recovered + 1;
    return {};
  }

  // --- writing: one thread -----------------------------------------------------------------------

  [[nodiscard]] journal_batch& pending() noexcept { return pending_; }

  /// No other run will give the ids of what is pending: then it may be shown before it is written.
  [[nodiscard]] int claim_ids() {
    if (pending_.empty() || pending_.records.back().id <= reserved_) return 0;
    return reserve(pending_.records.back().id);
  }
  /// Writes what is pending. REQUIRES: claim_ids() was 0. An errno: nothing is lost, call it again.
  [[nodiscard]] int write() {
    if (pending_written_ == pending_.records.size()) return 0;
    const event_id last = pending_.records.back().id;
    SSEHUB_ASSERT(last <= reserved_);
    if (hole_) {
      if (const int e = begin_run(run_record::hole, pending_.records.front().id, 0); e != 0)
        return e;
      hole_ = false;
    }
    if (active_ != nullptr && pending_written_ == 0 && full(*active_)) {
      if (const int e = seal(); e != 0) return e;
    }
    if (active_ == nullptr) {
      if (const int e = begin_segment(); e != 0) return e;
    }
    journal_segment& s = *active_;
    const std::size_t from = pending_bytes_;
    std::uint64_t at = s.log_end;
    std::size_t bytes = from;
    for (std::size_t i = pending_written_; i != pending_.records.size(); ++i) {
      index_record& r = pending_.records[i];
      const std::size_t size = std::size_t{r.audience} + r.key + r.size;
      r.offset = static_cast<std::uint32_t>(at + r.audience + r.key);
      const event_id durable = settings_.claims ? durable_ : durable_floor_;
      r.behind = static_cast<std::uint32_t>((std::min<event_id>)(r.id - durable, UINT32_MAX));
      r.crc = r.checksum(pending_.bytes.data() + bytes);
      at += size;
      bytes += size;
    }
    if (const int e = files_->write(s.log, s.log_end, pending_.bytes.data() + from, bytes - from);
        e != 0)
      return e;
    const std::size_t records = pending_.records.size() - pending_written_;
    if (const int e = files_->write(
            s.index, sizeof(index_header) + std::uint64_t{s.written} * sizeof(index_record),
            pending_.records.data() + pending_written_, records * sizeof(index_record));
        e != 0)
      return e;
    s.log_end = at;
    s.written += static_cast<std::uint32_t>(records);
    pending_bytes_ = bytes;
    pending_written_ = pending_.records.size();
    last_ = last;
    return 0;
  }

  /// What is pending is not to be stored: it was shown without. Readers are told that it is gone.
  void give_up() {
    pending_.clear();
    pending_written_ = pending_bytes_ = 0;
    hole_ = true;
  }

  /// What was written is durable. An errno: nobody knows what is; it is written again, into new
  /// files, by the next write().
  [[nodiscard]] int sync() {
    if (active_ == nullptr) return 0;
    journal_segment& s = *active_;
    int e = files_->sync(s.log);
    if (e == 0) e = files_->sync(s.index);
    if (e == 0) {
      s.synced = s.written;
      s.synced_end = s.log_end;
      if (!doubtful_) durable_ = last_;
      return 0;
    }
    if (!settings_
             .claims) {  // it was shown already; asked again, the kernel would say that all is well
      doubtful_ = true;
      return e;
    }
    s.written = s.synced;
    s.log_end = s.synced_end;
    (void)files_->cut(s.index,
                      sizeof(index_header) + std::uint64_t{s.written} * sizeof(index_record));
    (void)files_->cut(s.log, s.log_end);
    if (s.written == 0) {
      drop(active_);
    }
    active_.reset();
    pending_bytes_ = pending_written_ = 0;
    last_ = durable_;
    return e;
  }

  /// What was written may be read now; `f` gets each event. What is pending behind that stays.
  template <class F>
  void show(F f) {
    if (pending_written_ == 0) return;
    const event_id last = pending_.records[pending_written_ - 1].id;
    active_->shown.store(active_->written, std::memory_order_release);
    newest_.store(last, std::memory_order_release);
    const char* p = pending_.bytes.data();
    for (std::size_t i = 0; i != pending_written_; ++i) {
      const journal_event e = view(pending_.records[i], p);
      p += e.audience.size() + e.key.size() + e.bytes.size();
      f(e);
    }
    forget_written();
  }
  /// For other processes.
  [[nodiscard]] int tell_head() noexcept {
    const std::uint64_t h[2] = {newest_.load(std::memory_order_relaxed), 0};
    return files_->write(head_, 0, h, sizeof h);
  }

  /// Lets go what is not to be kept. An errno: some of it is still there.
  [[nodiscard]] int trim(std::int64_t now_ms) {
    int result = 0;
    bool removed = false;
    while (segments_.size() > 1 && over_keep(now_ms)) {
      const std::shared_ptr<journal_segment> oldest = segments_.front();
      gone_.store(segments_[1]->before, std::memory_order_release);
      result = drop(oldest);
      removed = true;
      if (result != 0) break;
    }
    if (removed && result == 0) result = files_->sync_names();
    return result;
  }

  /// The run ends by itself. REQUIRES: nothing is pending.
  [[nodiscard]] int end_run(std::int64_t now_ms) {
    if (active_ != nullptr) {
      if (const int e = sync(); e != 0) return e;
    }
    return add_run(
        {run_record::ended, 0, (std::max)(last_, runs_table_.back().first - 1), 0, now_ms});
  }

  // --- reading: any thread -----------------------------------------------------------------------

  /// The newest event that may be read.
  [[nodiscard]] event_id newest() const noexcept { return newest_.load(std::memory_order_acquire); }
  /// What is at or below it was let go.
  [[nodiscard]] event_id gone() const noexcept { return gone_.load(std::memory_order_acquire); }
  /// The next loss behind `after` of what was shown once: what is there ends with `from`, which is
  /// `after` or above it, and goes on with `first`. False: none.
  [[nodiscard]] bool loss_behind(event_id after, event_id& from, event_id& first) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    if (after < gone_.load(std::memory_order_relaxed)) {
      from = after;
      first =
          segments_.empty() ? gone_.load(std::memory_order_relaxed) + 1 : segments_.front()->first;
      return true;
    }
    for (const run& r : runs_table_) {
      if (after + 1 >= r.first || (!r.hole && after <= r.recovered)) continue;
      from = after > r.recovered ? after : r.recovered;
      first = r.first;
      return true;
    }
    return false;
  }
  /// f(const journal_event&) for each event behind `after` and below `before`, oldest first, until
  /// it answers false.
  template <class F>
  void read(event_id after, event_id before, F f) const {
    for (;;) {
      const std::shared_ptr<journal_segment> s = segment_behind(after);
      if (s == nullptr) return;
      const std::uint32_t count = s->shown.load(std::memory_order_acquire);
      for (std::uint32_t i = s->find(after, count); i < count; ++i) {
        const index_record r = s->record(i);
        if (r.id >= before || !f(view(r, s->bytes(r)))) return;
        after = r.id;
      }
    }
  }
  /// The id in front of the newest events that have at most so many bytes, and were written by one
  /// run, without a loss.
  [[nodiscard]] event_id back_by(std::uint64_t bytes) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    event_id at = newest_.load(std::memory_order_relaxed);
    event_id least = no_id;
    for (const run& r : runs_table_) {
      if (r.first <= at && r.first - 1 > least) least = r.first - 1;
    }
    for (std::size_t n = segments_.size(); n-- != 0;) {
      const journal_segment& s = *segments_[n];
      for (std::uint32_t i = s.shown.load(std::memory_order_relaxed); i-- != 0;) {
        const index_record r = s.record(i);
        const std::uint64_t size = std::uint64_t{r.audience} + r.key + r.size + 64;
        if (size > bytes || r.id <= least) return at;
        bytes -= size;
        at = r.id - 1;
      }
    }
    return at;
  }

  /// Beside a process that writes: what it shows since. False: nothing new.
  [[nodiscard]] bool look_for_news() {
    std::uint64_t h[2] = {};
    std::size_t got = 0;
    if (files_->read(head_, 0, h, sizeof h, got) != 0 || got != sizeof h) return false;
    if (h[0] == newest_.load(std::memory_order_relaxed)) return false;
    std::vector<event_id> names;
    if (list_segments(names) != 0) return false;
    const std::scoped_lock<std::mutex> lock{mutex_};
    event_id reserved = no_id;
    bool clean = true;
    (void)read_runs(false, reserved, clean);
    for (const event_id first : names) {
      if (first > h[0] || (!segments_.empty() && first <= segments_.back()->first)) continue;
      auto s = std::make_shared<journal_segment>(*files_, first);
      if (s->open(false, room()) != 0) break;
      s->before = s->header().before;
      segments_.push_back(std::move(s));
    }
    while (segments_.size() > 1 && !names.empty() && segments_.front()->first < names.front()) {
      segments_.erase(segments_.begin());
      gone_.store(segments_.front()->before, std::memory_order_release);
    }
    for (const auto& s : segments_) {
      std::uint64_t size = 0;
      if (files_->size(s->index, size) != 0 || size < sizeof(index_header)) continue;
      const auto count =
          static_cast<std::uint32_t>((size - sizeof(index_header)) / sizeof(index_record));
      if (count == s->shown.load(std::memory_order_relaxed)) continue;
      s->written = s->find(h[0], count);
      if (s->written != 0) s->log_end = s->record(s->written - 1).end();
      s->shown.store(s->written, std::memory_order_release);
    }
    newest_.store(h[0], std::memory_order_release);
    return true;
  }

  /// Reads everything again: bad(file, id) for each record that is not as it was written.
  template <class F>
  void each_broken(F bad) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    for (const auto& s : segments_) {
      event_id before = s->before;
      std::uint64_t at = 0;
      std::uint64_t size = 0;
      const std::string name = journal_segment::name(s->first, ".log");
      if (files_->size(s->log, size) != 0) size = 0;
      for (std::uint32_t i = 0; i != s->shown.load(std::memory_order_relaxed); ++i) {
        const index_record r = s->record(i);
        const bool whole =
            r.id > before && r.begin() == at && r.end() <= size && r.crc == r.checksum(s->bytes(r));
        if (!whole) bad(name, r.id);
        before = r.id;
        at = r.end();
      }
    }
  }

  [[nodiscard]] std::uint64_t files() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    return segments_.size() * 2;
  }
  [[nodiscard]] std::uint64_t bytes() const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    std::uint64_t n = 0;
    for (const auto& s : segments_) n += s->disk_bytes();
    return n;
  }
  [[nodiscard]] event_id durable() const noexcept { return durable_; }
  [[nodiscard]] event_id last() const noexcept { return last_; }

 private:
  struct run {
    event_id first;
    event_id recovered;
    bool hole;  ///< what is between them was shown for certain
  };

  [[nodiscard]] static journal_error failed(int e, const std::string& file) {
    return {journal_errc::system,
            {e, std::generic_category()},
            file + ": " + std::generic_category().message(e)};
  }
  [[nodiscard]] std::uint64_t room() const noexcept {
    return settings_.segment_bytes + settings_.most_pending + sizeof(index_header);
  }
  [[nodiscard]] bool full(const journal_segment& s) const noexcept {
    return s.log_end >= settings_.segment_bytes ||
           std::uint64_t{s.written} * sizeof(index_record) >= settings_.segment_bytes;
  }

  // --- runs

  [[nodiscard]] int add_run(run_record r) {
    r.crc = r.checksum();
    if (const int e = files_->write(runs_, runs_end_, &r, sizeof r); e != 0) return e;
    if (const int e = files_->sync(runs_); e != 0) return e;
    runs_end_ += sizeof r;
    return 0;
  }
  /// What is behind the newest that is there, and below `first`, is gone.
  [[nodiscard]] int begin_run(std::uint32_t kind, event_id first, std::int64_t now_ms) {
    const int e = add_run({kind, 0, first, last_, now_ms});
    if (e != 0) return e;
    const std::scoped_lock<std::mutex> lock{mutex_};
    runs_table_.push_back({first, last_, kind == run_record::hole});
    return 0;
  }
  [[nodiscard]] int reserve(event_id upto) {
    const event_id end = upto + settings_.ids_at_once;
    const int e = add_run({run_record::reserved, 0, end, 0, 0});
    if (e == 0) reserved_ = end;
    return e;
  }
  [[nodiscard]] journal_error read_runs(bool write, event_id& reserved, bool& clean) {
    if (runs_ < 0) {
      if (const int e = files_->open("runs", write, runs_); e != 0) return failed(e, "runs");
    }
    if (write) {
      if (const int e = files_->sync_names(); e != 0) return failed(e, "the directory");
    }
    clean = true;
    for (;;) {
      run_record r;
      std::size_t got = 0;
      if (const int e = files_->read(runs_, runs_end_, &r, sizeof r, got); e != 0)
        return failed(e, "runs");
      if (got != sizeof r || r.crc != r.checksum()) break;  // the end, or what was never finished
      runs_end_ += sizeof r;
      switch (r.kind) {
        case run_record::begun: clean = false; [[fallthrough]];
        case run_record::hole:
          runs_table_.push_back({r.first, r.recovered, r.kind == run_record::hole});
          break;
        case run_record::reserved: reserved = (std::max<event_id>)(reserved, r.first); break;
        case run_record::ended:
          reserved = r.first;
          clean = true;
          break;
        default:
          return {journal_errc::format,
                  {},
                  "runs: a record of kind " + std::to_string(r.kind) +
                      ": written by a newer version; use that one"};
      }
    }
    if (!write) return {};
    const int e = files_->cut(runs_, runs_end_);
    return e == 0 ? journal_error{} : failed(e, "runs");
  }

  // --- segments

  [[nodiscard]] int list_segments(std::vector<event_id>& firsts) {
    std::vector<std::string> names;
    if (const int e = files_->list(names); e != 0) return e;
    firsts.clear();
    for (const std::string& name : names) {
      if (name.size() < 20 || name.substr(name.size() - 4) != ".log") continue;
      event_id first = 0;
      bool digits = true;
      for (const char c : name.substr(0, name.size() - 4)) {
        digits = digits && c >= '0' && c <= '9';
        first = first * 10 + static_cast<event_id>(c - '0');
      }
      if (digits && first <= max_event_id) firsts.push_back(first);
    }
    std::sort(firsts.begin(), firsts.end());
    return 0;
  }

  [[nodiscard]] journal_error read_segments(bool write, journal_start& out) {
    std::vector<event_id> firsts;
    if (const int e = list_segments(firsts); e != 0) return failed(e, "the directory");
    std::vector<std::shared_ptr<journal_segment>> found;  // newest first
    event_id next = max_event_id + 1;                     // where the newer one begins
    bool dropping = false;
    for (std::size_t n = firsts.size(); n-- != 0;) {
      auto s = std::make_shared<journal_segment>(*files_, firsts[n]);
      const std::string log = journal_segment::name(s->first, ".log");
      const bool newest = found.empty();
      if (dropping) {  // behind a hole: it was let go, and came back
        if (write) (void)drop(s);
        continue;
      }
      const int e = s->open(write && newest, room());
      if (e == ENOENT && !newest) {  // it was being removed
        if (write) (void)drop(s);
        dropping = true;
        continue;
      }
      if (e != 0) return failed(e, log);
      std::uint64_t index_size = 0;
      std::uint64_t log_size = 0;
      if (const int f = files_->size(s->index, index_size); f != 0) return failed(f, log);
      if (const int f = files_->size(s->log, log_size); f != 0) return failed(f, log);
      if (index_size > room() || log_size > room()) {
        s = std::make_shared<journal_segment>(*files_, firsts[n]);
        if (const int f = s->open(write && newest, (std::max)(index_size, log_size)); f != 0)
          return failed(f, log);
      }
      const bool headed = index_size >= sizeof(index_header);
      const index_header h = headed ? s->header() : index_header{};
      const bool magic = headed && std::memcmp(h.magic, index_header{}.magic, sizeof h.magic) == 0;
      const bool whole = magic && h.crc == h.checksum();
      if ((whole && h.version != 1) || (magic && h.order == 0x04030201)) {
        return {journal_errc::format,
                {},
                log + ": version " + std::to_string(h.version) +
                    ", or another byte order: written by another version or machine; use that one"};
      }
      if (!whole || h.first != s->first) {
        if (!newest && !settings_.repair) return corrupt(s->first, 0, "its index has no header");
        dropping = !newest;
        out.cut_bytes += log_size;
        if (write) (void)drop(s);  // begun, and never synced
        continue;
      }
      s->before = h.before;
      const auto count =
          static_cast<std::uint32_t>((index_size - sizeof(index_header)) / sizeof(index_record));
      if (newest && write) {
        if (journal_error bad = check_tail(*s, count, log_size, out); bad) return bad;
      } else {
        s->written = s->find(next - 1, count);
        if (s->written != 0) {
          const index_record r = s->record(s->written - 1);
          s->log_end = r.end();
          if (write && s->log_end > log_size) {
            if (!settings_.repair)
              return corrupt(s->first, r.id, "the .log is shorter than its index says");
            (void)drop(s);
            dropping = true;
            continue;
          }
        }
      }
      if (s->written == 0 && newest && write) {  // nothing of it is there
        (void)drop(s);
        continue;
      }
      if (!newest && s->written != 0 && s->record(s->written - 1).id != found.back()->before) {
        dropping = true;  // what was between them is gone, and so is this
        if (write) (void)drop(s);
        continue;
      }
      s->synced = s->written;
      s->synced_end = s->log_end;
      s->shown.store(write ? s->written : 0, std::memory_order_relaxed);
      next = s->first;
      found.push_back(std::move(s));
    }
    std::reverse(found.begin(), found.end());
    const std::scoped_lock<std::mutex> lock{mutex_};
    segments_ = std::move(found);
    if (!segments_.empty()) {
      gone_.store(segments_.front()->before, std::memory_order_relaxed);
      const journal_segment& s = *segments_.back();
      if (s.written != 0) last_ = s.record(s.written - 1).id;
    }
    durable_ = durable_floor_ = last_;
    return {};
  }

  [[nodiscard]] static journal_error corrupt(event_id first, event_id id, const std::string& what) {
    return {journal_errc::corrupt,
            {},
            journal_segment::name(first, ".idx") + ", at id " + std::to_string(id) + ": " + what +
                ", although it was durable: the disk lost it; `repair` keeps what is whole"};
  }

  /// Where the good records of the newest segment end; the rest is cut off.
  [[nodiscard]] journal_error check_tail(journal_segment& s, std::uint32_t count,
                                         std::uint64_t log_size, journal_start& out) {
    event_id last = s.before;
    std::uint32_t good = 0;
    const auto whole = [&](const index_record& r) {
      return r.offset >= std::uint32_t{r.audience} + r.key && r.end() <= log_size &&
             r.crc == r.checksum(s.bytes(r));
    };
    std::uint64_t end = 0;
    for (; good != count; ++good) {
      const index_record r = s.record(good);
      if (r.id <= last || r.begin() != end || !whole(r)) break;
      end = r.end();
      last = r.id;
    }
    for (std::uint32_t i = good; i != count && !settings_.repair; ++i) {
      const index_record r = s.record(i);
      if (r.id > last && whole(r) && r.id - r.behind > last)
        return corrupt(s.first, last + 1, "what stands there is not what was written");
    }
    s.written = good;
    s.log_end = end;
    out.cut_events += count - good;
    out.cut_bytes += log_size - end;
    const std::uint64_t index_end =
        sizeof(index_header) + std::uint64_t{good} * sizeof(index_record);
    int e = files_->cut(s.index, index_end);
    if (e == 0) e = files_->cut(s.log, end);
    if (e == 0) e = files_->sync(s.index);
    if (e == 0) e = files_->sync(s.log);
    return e == 0 ? journal_error{} : failed(e, journal_segment::name(s.first, ".log"));
  }

  [[nodiscard]] int begin_segment() {
    auto s = std::make_shared<journal_segment>(*files_, pending_.records[pending_written_].id);
    s->before = last_;
    if (const int e = s->open(true, room()); e != 0) return e;
    if (const int e = files_->cut(s->log, 0); e != 0) return e;
    if (const int e = files_->cut(s->index, 0); e != 0) return e;
    index_header h;
    h.first = s->first;
    h.before = s->before;
    h.crc = h.checksum();
    if (const int e = files_->write(s->index, 0, &h, sizeof h); e != 0) return e;
    if (const int e = files_->sync_names(); e != 0) return e;
    files_->reserve(s->log, settings_.segment_bytes);
    active_ = s;
    const std::scoped_lock<std::mutex> lock{mutex_};
    segments_.push_back(std::move(s));
    return 0;
  }
  /// It gets no more events.
  [[nodiscard]] int seal() {
    if (const int e = sync(); e != 0 && settings_.claims) return e;
    durable_floor_ = durable_;
    active_.reset();
    return 0;
  }
  int drop(const std::shared_ptr<journal_segment>& s) {
    {
      const std::scoped_lock<std::mutex> lock{mutex_};
      segments_.erase(std::remove(segments_.begin(), segments_.end(), s), segments_.end());
    }
    int e = files_->remove(journal_segment::name(s->first, ".idx"));
    if (e == ENOENT) e = 0;
    if (e == 0) e = files_->remove(journal_segment::name(s->first, ".log"));
    return e == ENOENT ? 0 : e;
  }
  [[nodiscard]] bool over_keep(std::int64_t now_ms) const {
    std::uint64_t bytes = 0;
    std::uint64_t events = 0;
    for (const auto& s : segments_) {
      bytes += s->disk_bytes();
      events += s->written;
    }
    const journal_segment& oldest = *segments_.front();
    if (settings_.keep_bytes != 0 && bytes > settings_.keep_bytes) return true;
    if (settings_.keep_events != 0 && events - oldest.written >= settings_.keep_events) return true;
    return settings_.keep_ms != 0 && oldest.written != 0 &&
           oldest.record(oldest.written - 1).time_ms < now_ms - settings_.keep_ms;
  }
  void forget_written() {
    if (pending_written_ == pending_.records.size()) {
      pending_.clear();
    } else {
      const auto n = static_cast<std::ptrdiff_t>(pending_written_);
      pending_.records.erase(pending_.records.begin(), pending_.records.begin() + n);
      const auto b = static_cast<std::ptrdiff_t>(pending_bytes_);
      pending_.bytes.erase(pending_.bytes.begin(), pending_.bytes.begin() + b);
    }
    pending_written_ = pending_bytes_ = 0;
  }
  /// The segment that has the first event behind `after`; nullptr: none may be read.
  [[nodiscard]] std::shared_ptr<journal_segment> segment_behind(event_id after) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    if (after >= newest_.load(std::memory_order_relaxed)) return nullptr;
    auto i = std::upper_bound(segments_.begin(), segments_.end(), after,
                              [](event_id id, const auto& s) { return id < s->first; });
    if (i != segments_.begin()) {
      const auto& s = *(i - 1);
      const std::uint32_t count = s->shown.load(std::memory_order_relaxed);
      if (count != 0 && s->record(count - 1).id > after) return s;
    }
    for (; i != segments_.end(); ++i) {
      if ((*i)->shown.load(std::memory_order_relaxed) != 0) return *i;
    }
    return nullptr;
  }

  journal_files* files_;
  settings settings_;
  int runs_ = -1;
  std::uint64_t runs_end_ = 0;
  int head_ = -1;
  event_id reserved_ = no_id;
  event_id last_ = no_id;           ///< written
  event_id durable_ = no_id;        ///< synced
  event_id durable_floor_ = no_id;  ///< of closed segments
  journal_batch pending_;
  std::size_t pending_written_ = 0;  ///< records
  std::size_t pending_bytes_ = 0;    ///< of those
  bool doubtful_ = false;            ///< a sync failed of what was shown already
  bool hole_ = false;                ///< what was pending before is not stored
  std::shared_ptr<journal_segment> active_;

  std::atomic<event_id> newest_{no_id};
  std::atomic<event_id> gone_{no_id};
  mutable std::mutex mutex_;  ///< of what follows; written by the writing thread only
  std::vector<std::shared_ptr<journal_segment>> segments_;
  std::vector<run> runs_table_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_STORE_HPP
