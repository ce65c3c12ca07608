// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// journal_store: writes a journal, or follows what another process writes. Knows no thread, no
// clock and no hub.
//
//   <first id>.log  pieces: encoded bytes of events, then a table of their sizes (format.hpp)
//   <first id>.idx  a header, then a record for each piece
//   runs            where each run began, which ids it may have given out, how it ended (runs.hpp)
//   lock            who writes
//   head            the newest event that other processes may show
//
// How it starts is in recovery.hpp, how it is read in history.hpp.
//
// Invariants:
//   1. Bytes of a .log stand before their records are written; what has no record is not there.
//   2. A record says up to which id everything was durable when it was written. So a bad record in
//      front of a good one that says so is no torn tail but a broken file.
//   3. Ids above what `runs` reserves are given to nobody; a run that did not end by itself is
//      followed by one that begins above them.
//   4. Ids of a segment follow one by one, and it knows the id in front of its first: what is
//      missing between two is seen.
//   5. Whoever may have missed something is told (loss_behind): a run says what its events survive
//      before it shows one, and on which start of the machine; the next one draws the conclusion.
#pragma once
#ifndef SSEHUB_DETAIL_JOURNAL_STORE_HPP
#define SSEHUB_DETAIL_JOURNAL_STORE_HPP

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <sse/detail/base/assert.hpp>
#include <sse/detail/journal/history.hpp>
#include <sse/detail/journal/recovery.hpp>
#include <sse/detail/journal/runs.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class journal_store {
 public:
  struct settings {
    std::uint64_t segment_bytes = std::uint64_t{64} << 20;
    std::uint64_t most_pending = std::uint64_t{32} << 20;  ///< bytes of a batch and its records
    std::uint64_t keep_bytes = 0;
    std::uint64_t keep_events = 0;
    std::int64_t keep_ms = 0;
    bool claims = false;  ///< events are shown once they are synced, not before
    journal_survival survives = journal_survival::nothing;  ///< what is shown
    event_id ids_at_once = 1U << 20U;                       ///< reserved
    bool repair = false;  ///< what is broken is let go, with all that is older
    std::size_t block_memory = std::size_t{16} << 20;  ///< of blocks that were read
  };
  journal_store(journal_files& f, const settings& s) noexcept
      : files_{&f}, settings_{s}, runs_{f}, history_{s.block_memory} {}
  journal_store(const journal_store&) = delete;
  journal_store& operator=(const journal_store&) = delete;
  ~journal_store() {
    if (head_ >= 0) files_->close(head_);
  }

  // --- start -------------------------------------------------------------------------------------

  /// To write: cuts a torn tail off, begins a run. `least`: the first id of a new journal, less
  /// one.
  [[nodiscard]] journal_error open_to_write(std::int64_t now_ms, event_id least,
                                            journal_start& out) {
    std::string holder;
    if (const int e = files_->lock("lock", holder); e != 0) {
      if (e != EWOULDBLOCK) return journal_failed(e, "lock");
      return {journal_errc::in_use,
              {},
              "process " + (holder.empty() ? std::string{"of unknown number"} : holder) +
                  " writes this journal: end it, or use another directory"};
    }
    if (journal_error e = runs_.read(true); e) return e;
    if (journal_error e = recover(true, out); e) return e;
    const bool empty = history_.segments().empty();
    out.recovered = last_;
    out.clean = runs_.clean();
    out.next = (std::max)(last_, empty && runs_.empty() ? least : runs_.reserved()) + 1;
    if (empty) {  // who saw something is told
      out.recovered = last_ = durable_ = durable_floor_ = out.next - 1;
      history_.begin_behind(last_);
    }
    if (const int e = runs_.begin(out.next, last_, now_ms); e != 0)
      return journal_failed(e, "runs");
    if (const int e = reserve(out.next); e != 0) return journal_failed(e, "runs");
    history_.show_up_to(last_);
    int e = files_->open("head", true, head_);
    if (e == 0) e = tell_head();
    return e == 0 ? journal_error{} : journal_failed(e, "head");
  }

  /// Beside a process that writes.
  [[nodiscard]] journal_error open_to_read(journal_start& out) {
    if (journal_error e = runs_.read(false); e) return e;
    out.clean = runs_.clean();
    if (const int e = files_->open("head", false, head_); e != 0) return journal_failed(e, "head");
    if (journal_error e = recover(false, out); e) return e;
    (void)look_for_news();
    out.recovered = newest();
    out.next = out.recovered + 1;
    return {};
  }

  // --- writing: one thread -----------------------------------------------------------------------

  using batch_ptr = std::unique_ptr<journal_batch>;

  /// These are to be written. REQUIRES: it is not empty, and its ids are above all before.
  void take(batch_ptr b) {
    b->finish();
    pending_.push_back(std::move(b));
  }
  /// What was taken and not shown, oldest first.
  [[nodiscard]] const std::vector<batch_ptr>& pending() const noexcept { return pending_; }
  [[nodiscard]] std::size_t pending_bytes() const noexcept {
    std::size_t n = 0;
    for (const batch_ptr& b : pending_) n += b->size();
    return n;
  }
  [[nodiscard]] bool has_unwritten() const noexcept { return written_ != pending_.size(); }

  /// No other run will give the ids of what is pending: then it may be shown before it is written.
  [[nodiscard]] int claim_ids() {
    if (pending_.empty() || pending_.back()->last() <= runs_.reserved()) return 0;
    return reserve(pending_.back()->last());
  }
  /// Writes the next batch. REQUIRES: claim_ids() was 0. An errno: nothing is lost, call it again.
  [[nodiscard]] int write() {
    if (!has_unwritten()) return 0;
    journal_batch& b = *pending_[written_];
    SSEHUB_ASSERT(b.last() <= runs_.reserved());
    if (hole_) {
      if (const int e = runs_.leave_hole(b.first(), last_); e != 0) return e;
      hole_ = false;
    }
    if (active_ != nullptr && written_ == 0 && (full(*active_) || b.first() != last_ + 1)) {
      if (const int e = seal(); e != 0) return e;
    }
    if (active_ == nullptr) {
      if (const int e = begin_segment(b.first()); e != 0) return e;
    }
    journal_segment& s = *active_;
    place(b, s.log_end);
    if (const int e = files_->write(s.log, s.log_end, b.bytes().data(), b.bytes().size()); e != 0)
      return e;
    if (const int e = files_->write(
            s.index, sizeof(index_header) + std::uint64_t{s.written} * sizeof(index_record),
            placed_.data(), placed_.size() * sizeof(index_record));
        e != 0)
      return e;
    s.log_end += b.bytes().size();
    s.written += static_cast<std::uint32_t>(placed_.size());
    history_.count(s);
    ++written_;
    last_ = b.last();
    return 0;
  }

  /// What is pending is not to be stored: it was shown without. Readers are told that it is gone.
  /// f(batch_ptr) gets each.
  template <class F>
  void give_up(F f) {
    written_ = pending_.size();
    leave(f);
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
    if (!settings_.claims) {  // it was shown already
      doubtful_ = true;       // asked again, the kernel would say that all is well
      return e;
    }
    s.written = s.synced;
    s.log_end = s.synced_end;
    (void)files_->cut(s.index,
                      sizeof(index_header) + std::uint64_t{s.written} * sizeof(index_record));
    (void)files_->cut(s.log, s.log_end);
    history_.count(s);
    if (s.written == 0) {
      history_.remove(active_);
      (void)journal_segment::remove(*files_, s.first);
    }
    active_.reset();
    written_ = 0;
    last_ = durable_;
    return e;
  }

  /// What was written may be read now; f(batch_ptr) gets it. What is pending behind that stays.
  template <class F>
  void show(F f) {
    if (written_ == 0) return;
    active_->shown.store(active_->written, std::memory_order_release);
    history_.show_up_to(pending_[written_ - 1]->last());
    leave(f);
  }
  /// For other processes.
  [[nodiscard]] int tell_head() noexcept {
    const std::uint64_t h[2] = {newest(), 0};
    return files_->write(head_, 0, h, sizeof h);
  }

  /// Lets go what is not to be kept. An errno: some of it is still there; call it again.
  [[nodiscard]] int trim(std::int64_t now_ms) {
    bool removed = false;
    while (history_.segments().size() > 1 && over_keep(now_ms)) {
      const segment_ptr oldest = history_.segments().front();
      if (const int e = journal_segment::remove(*files_, oldest->first); e != 0) return e;
      history_.remove(oldest);
      removed = true;
    }
    return removed ? files_->sync_names() : 0;
  }

  /// The run ends by itself. REQUIRES: nothing is pending.
  [[nodiscard]] int end_run(std::int64_t now_ms) {
    if (active_ != nullptr) {
      if (const int e = sync(); e != 0) return e;
    }
    return runs_.end(last_, now_ms);
  }

  /// Beside a process that writes: what it shows since, as far as that can be read now; the rest is
  /// news next time. False: nothing new.
  [[nodiscard]] bool look_for_news() {
    std::uint64_t h[2] = {};
    std::size_t got = 0;
    if (files_->read(head_, 0, h, sizeof h, got) != 0 || got != sizeof h) return false;
    const event_id before = newest();
    if (h[0] == before) return false;
    std::vector<event_id> names;
    if (journal_segment::list(*files_, names) != 0) return false;
    (void)runs_.read(false);
    const auto& segments = history_.segments();
    bool all = true;
    for (const event_id first : names) {
      if (first > h[0] || (!segments.empty() && first <= segments.back()->first)) continue;
      auto s = std::make_shared<journal_segment>(*files_, first);
      std::uint64_t size = 0;
      all = s->open(false, room()) == 0 && files_->size(s->index, size) == 0 &&
            size >= sizeof(index_header);
      if (!all) break;
      s->before = s->header().before;
      history_.add(std::move(s));
    }
    while (segments.size() > 1 && !names.empty() && segments.front()->first < names.front())
      history_.remove(segment_ptr{segments.front()});
    event_id there = before;
    for (const segment_ptr& s : segments) {
      std::uint64_t size = 0;
      if (files_->size(s->index, size) != 0 || size < sizeof(index_header)) {
        all = false;
        break;  // what is behind it would be shown without it
      }
      const auto count =
          static_cast<std::uint32_t>((size - sizeof(index_header)) / sizeof(index_record));
      if (count == s->shown.load(std::memory_order_relaxed)) continue;
      s->written = s->find(h[0], count);
      if (s->written != 0) {
        const index_record last = s->record(s->written - 1);
        s->log_end = last.end();
        there = (std::max)(there, last.last());
      }
      history_.count(*s);
      s->shown.store(s->written, std::memory_order_release);
    }
    history_.show_up_to(all ? h[0] : there);
    return newest() != before;
  }

  [[nodiscard]] event_id durable() const noexcept { return durable_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return history_.bytes(); }

  // --- reading: any thread -----------------------------------------------------------------------

  [[nodiscard]] const journal_history& history() const noexcept { return history_; }
  /// The newest event that may be read.
  [[nodiscard]] event_id newest() const noexcept { return history_.newest(); }
  /// What is at or below it was let go.
  [[nodiscard]] event_id gone() const noexcept { return history_.gone(); }
  /// The next loss behind `after` of what was shown once: what is there ends with `from`, which is
  /// `after` or above it, and goes on with `first`. False: none.
  [[nodiscard]] bool loss_behind(event_id after, event_id& from, event_id& first) const {
    if (!history_.gone_behind(after, first)) return runs_.loss_behind(after, from, first);
    from = after;
    return true;
  }
  /// f(const journal_event&) for each event behind `after` and below `before`, oldest first, until
  /// it answers false. One without bytes cannot be read, or is not what was written.
  template <class F>
  void read(event_id after, event_id before, F f) const {
    history_.read(after, before, std::move(f));
  }
  /// The id behind which a hub's memory begins, so that it has at most so many bytes of the newest
  /// events, and no loss between them or behind.
  [[nodiscard]] event_id back_by(std::uint64_t bytes) const {
    const event_id there = newest();
    const event_id on = runs_.goes_on(there);
    return on == there ? history_.back_by(bytes, runs_.unbroken_behind(there)) : on;
  }

 private:
  using segment_ptr = journal_history::segment_ptr;

  [[nodiscard]] std::uint64_t room() const noexcept {
    return settings_.segment_bytes + settings_.most_pending + sizeof(index_header);
  }
  [[nodiscard]] bool full(const journal_segment& s) const noexcept {
    return s.log_end >= settings_.segment_bytes ||
           std::uint64_t{s.written} * sizeof(index_record) >= settings_.segment_bytes;
  }
  [[nodiscard]] int reserve(event_id upto) {
    return runs_.reserve(upto + settings_.ids_at_once, settings_.survives);
  }
  [[nodiscard]] journal_error recover(bool write, journal_start& out) {
    std::vector<segment_ptr> found;
    journal_recovery r{*files_, room(), write, settings_.repair};
    if (journal_error e = r.read(found, out); e) return e;
    for (segment_ptr& s : found) {
      if (s->written != 0) last_ = s->record(s->written - 1).last();
      history_.add(std::move(s));
    }
    durable_ = durable_floor_ = last_;
    return {};
  }
  [[nodiscard]] int begin_segment(event_id first) {
    auto s = std::make_shared<journal_segment>(*files_, first);
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
    history_.add(std::move(s));
    return 0;
  }
  /// It gets no more events.
  [[nodiscard]] int seal() {
    if (const int e = sync(); e != 0 && settings_.claims) return e;
    durable_floor_ = durable_;
    active_.reset();
    return 0;
  }
  [[nodiscard]] bool over_keep(std::int64_t now_ms) const {
    const journal_segment& oldest = *history_.segments().front();
    if (settings_.keep_bytes != 0 && history_.bytes() > settings_.keep_bytes) return true;
    if (settings_.keep_events != 0 &&
        history_.events() - oldest.counted_events >= settings_.keep_events)
      return true;
    return settings_.keep_ms != 0 && oldest.written != 0 &&
           oldest.record(oldest.written - 1).time_ms < now_ms - settings_.keep_ms;
  }
  /// Those that are written are pending no longer.
  template <class F>
  void leave(F& f) {
    const auto end = pending_.begin() + static_cast<std::ptrdiff_t>(std::exchange(written_, 0));
    for (auto b = pending_.begin(); b != end; ++b) f(std::move(*b));
    pending_.erase(pending_.begin(), end);
  }
  /// Its records as they will stand in the file, from `at` on. The batch may be read meanwhile.
  void place(const journal_batch& b, std::uint64_t at) {
    const event_id durable = settings_.claims ? durable_ : durable_floor_;
    placed_ = b.pieces();
    for (index_record& r : placed_) {
      r.behind = static_cast<std::uint32_t>((std::min<event_id>)(r.first - durable, UINT32_MAX));
      r.crc = r.checksum(b.bytes().data() + r.at);
      r.at += static_cast<std::uint32_t>(at);
    }
  }

  journal_files* files_;
  settings settings_;
  journal_runs runs_;
  journal_history history_;
  int head_ = -1;
  event_id last_ = no_id;           ///< written
  event_id durable_ = no_id;        ///< synced
  event_id durable_floor_ = no_id;  ///< of closed segments
  std::vector<batch_ptr> pending_;
  std::size_t written_ = 0;  ///< of those
  std::vector<index_record> placed_;
  bool doubtful_ = false;  ///< a sync failed of what was shown already
  bool hole_ = false;      ///< what was pending before is not stored
  segment_ptr active_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_STORE_HPP
