// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// journal_recovery: which segments are there at a start, and what of the newest is whole.
#pragma once
#ifndef SSEHUB_DETAIL_JOURNAL_RECOVERY_HPP
#define SSEHUB_DETAIL_JOURNAL_RECOVERY_HPP

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <sse/detail/base/size.hpp>
#include <sse/detail/journal/runs.hpp>
#include <sse/detail/journal/segment.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

class journal_recovery {
 public:
  using segment_ptr = std::shared_ptr<journal_segment>;

  /// `room`: bytes of a file. `write`: what is torn is cut off, what was to go goes. `repair`:
  /// broken events stay as what cannot be read; an older file that is broken goes, with all that is
  /// older.
  journal_recovery(journal_files& f, std::uint64_t room, bool write, bool repair) noexcept
      : files_{&f}, room_{room}, write_{write}, repair_{repair} {}

  /// The segments that are there, oldest first, and what was cut.
  [[nodiscard]] journal_error read(std::vector<segment_ptr>& found, journal_start& out) {
    std::vector<event_id> firsts;
    if (const int e = journal_segment::list(*files_, firsts); e != 0)
      return journal_failed(e, "the directory");
    if (repair_ && !firsts.empty()) {
      if (journal_error e = split(firsts); e) return e;
    }
    found.clear();  // newest first
    bool dropping = false;
    for (std::size_t n = firsts.size(); n-- != 0;) {
      auto s = std::make_shared<journal_segment>(*files_, firsts[n]);
      const journal_segment* const newer = found.empty() ? nullptr : found.back().get();
      bool there = false;
      if (!dropping) {  // behind a hole: it was let go, and came back
        if (journal_error e = look_at(s, newer, there, out); e) return e;
      }
      if (there) {
        s->synced = s->written;
        s->synced_end = s->log_end;
        s->shown.store(write_ ? s->written : 0, std::memory_order_relaxed);
        found.push_back(std::move(s));
      } else {
        dropping = dropping || newer != nullptr;
        if (write_) (void)journal_segment::remove(*files_, firsts[n]);
      }
    }
    std::reverse(found.begin(), found.end());
    return {};
  }

 private:
  [[nodiscard]] static journal_error corrupt(event_id first, event_id id, const std::string& what) {
    return {journal_errc::corrupt,
            {},
            journal_segment::name(first, ".idx") + ", at id " + std::to_string(id) + ": " + what +
                ", although it was durable: the disk lost it; `repair` keeps what is whole"};
  }

  /// Not there: it was begun and never synced, was being removed, or what is between it and the
  /// newer one is gone.
  [[nodiscard]] journal_error look_at(segment_ptr& s, const journal_segment* newer, bool& there,
                                      journal_start& out) {
    const event_id first = s->first;
    const std::string log = journal_segment::name(first, ".log");
    const bool makes = write_ && newer == nullptr;
    int e = s->open(makes, room_);
    if (e == ENOENT && newer != nullptr) return {};
    std::uint64_t index_size = 0;
    std::uint64_t log_size = 0;
    if (e == 0) e = files_->size(s->index, index_size);
    if (e == 0) e = files_->size(s->log, log_size);
    if (e == 0 && (index_size > room_ || log_size > room_)) {
      s = std::make_shared<journal_segment>(*files_, first);
      e = s->open(makes, (std::max)(index_size, log_size));
    }
    if (e != 0) return journal_failed(e, log);
    const bool headed = index_size >= sizeof(index_header);
    const index_header h = headed ? s->header() : index_header{};
    const bool magic = headed && std::memcmp(h.magic, index_header{}.magic, sizeof h.magic) == 0;
    const bool whole = magic && h.crc == h.checksum();
    if ((whole && h.version != index_header{}.version) || (magic && h.order == 0x04030201)) {
      return {journal_errc::format,
              {},
              log + ": version " + std::to_string(h.version) +
                  ", or another byte order: written by another version or machine; use that one"};
    }
    if (!whole || h.first != first) {
      if (newer != nullptr && !repair_) return corrupt(first, 0, "its index has no header");
      out.cut_bytes += log_size;
      return {};
    }
    s->before = h.before;
    const auto count =
        static_cast<std::uint32_t>((index_size - sizeof(index_header)) / sizeof(index_record));
    if (makes) {
      if (journal_error bad = check_tail(*s, count, log_size, out); bad) return bad;
      there = s->written != 0;
      return {};
    }
    s->written = s->find(newer == nullptr ? max_event_id : newer->first - 1, count);
    const index_record last = s->written == 0 ? index_record{} : s->record(s->written - 1);
    s->log_end = last.end();
    if (write_ && s->log_end > log_size) {
      return repair_ ? journal_error{}
                     : corrupt(first, last.first, "the .log is shorter than its index says");
    }
    const event_id to = s->written == 0 ? s->before : last.last();
    there = newer == nullptr || to == newer->before;
    return {};
  }

  /// Of the newest segment, which has to be whole: what is whole behind the last broken event
  /// becomes a segment of its own. In the older one that is left, broken events may be.
  [[nodiscard]] journal_error split(std::vector<event_id>& firsts) {
    journal_segment s{*files_, firsts.back()};
    std::uint64_t size = 0;
    int e = s.open(false, room_);
    if (e == 0) e = files_->size(s.index, size);
    if (e != 0 || size < sizeof(index_header) || size > room_) return {};  // look_at() says more
    const index_header h = s.header();
    if (h.crc != h.checksum() || h.version != index_header{}.version || h.first != s.first)
      return {};
    s.before = h.before;
    const auto count =
        static_cast<std::uint32_t>((size - sizeof(index_header)) / sizeof(index_record));
    std::vector<index_record> whole;  // those behind the last broken one
    event_id in_front = s.before;     // of these
    event_id last = s.before;         // in front of the first broken one
    event_id previous = s.before;
    bool broken = false;
    bool gap = false;      // since `whole`
    bool durable = false;  // though it stands behind a broken one
    for (std::uint32_t i = 0; i != count;) {
      journal_block b;
      b.from = b.to = i;
      s.load(b, s.block_end(i, count));
      for (const index_record& r : b.records) {
        gap = gap || r.size == 0 || (!whole.empty() && r.at != whole.back().end());
        broken = broken || gap;
        if (r.size != 0) {
          if (std::exchange(gap, false)) whole.clear();
          if (whole.empty()) in_front = previous;
          durable = durable || (broken && r.first - r.behind > last);
          if (!broken) last = r.last();
          whole.push_back(r);
        }
        previous = r.last();
      }
      i = b.to;
    }
    if (!durable) return {};  // nothing, or a torn tail
    journal_segment made{*files_, whole.front().first};
    e = made.open(true, room_);
    if (e == 0) e = files_->cut(made.log, 0);  // of a repair that was ended in between
    if (e == 0) e = files_->cut(made.index, 0);
    if (e == 0) e = copy(s, whole, in_front, made);
    if (e != 0) return journal_failed(e, journal_segment::name(made.first, ".log"));
    firsts.push_back(made.first);
    return {};
  }
  /// `records`: they stand one behind the other.
  [[nodiscard]] int copy(const journal_segment& from, std::vector<index_record>& records,
                         event_id before, const journal_segment& to) {
    const std::uint32_t begin = records.front().at;
    std::vector<char> bytes(to_size(records.back().end() - begin));
    std::size_t got = 0;
    int e = files_->read(from.log, begin, bytes.data(), bytes.size(), got);
    if (e == 0 && got != bytes.size()) e = EIO;
    if (e == 0) e = files_->write(to.log, 0, bytes.data(), bytes.size());
    if (e == 0) e = files_->sync(to.log);
    for (index_record& r : records) r.at -= begin;
    index_header h;
    h.first = to.first;
    h.before = before;
    h.crc = h.checksum();
    if (e == 0)
      e = files_->write(to.index, sizeof h, records.data(), records.size() * sizeof records[0]);
    if (e == 0) e = files_->write(to.index, 0, &h, sizeof h);  // until then it is not there
    if (e == 0) e = files_->sync(to.index);
    return e == 0 ? files_->sync_names() : e;
  }

  /// Where the good records of the newest segment end; the rest is cut off.
  [[nodiscard]] journal_error check_tail(journal_segment& s, std::uint32_t count,
                                         std::uint64_t log_size, journal_start& out) {
    event_id last = s.before;
    bool good = true;
    for (std::uint32_t i = 0; i != count;) {
      journal_block b;
      b.from = b.to = i;
      s.load(b, s.block_end(i, count));
      // What was written is there perhaps, and must not be cut off.
      if (b.error != 0 && !repair_)
        return journal_failed(b.error, journal_segment::name(s.first, ".log"));
      for (const index_record& r : b.records) {
        const bool whole = r.size != 0;
        good = good && whole && r.at == s.log_end;
        if (good) {
          s.log_end = r.end();
          last = r.last();
          ++s.written;
        } else if (whole && !repair_ && r.first - r.behind > last) {
          return corrupt(s.first, last + 1, "what stands there is not what was written");
        }
      }
      i = b.to;
    }
    out.cut_events += count - s.written;
    out.cut_bytes += log_size - s.log_end;
    int e = files_->cut(s.index,
                        sizeof(index_header) + std::uint64_t{s.written} * sizeof(index_record));
    if (e == 0) e = files_->cut(s.log, s.log_end);
    if (e == 0) e = files_->sync(s.index);
    if (e == 0) e = files_->sync(s.log);
    return e == 0 ? journal_error{} : journal_failed(e, journal_segment::name(s.first, ".log"));
  }

  journal_files* files_;
  std::uint64_t room_;
  bool write_;
  bool repair_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_RECOVERY_HPP
