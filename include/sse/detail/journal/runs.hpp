// ssehub: Server-Sent Events for C++. SPDX-License-Identifier: MIT
//
// journal_runs: the file `runs`: where each run began, which ids it may have given out, how it
// ended, and so what was shown and is lost.
#pragma once
#ifndef SSEHUB_DETAIL_JOURNAL_RUNS_HPP
#define SSEHUB_DETAIL_JOURNAL_RUNS_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include <sse/detail/journal/files.hpp>
#include <sse/detail/journal/format.hpp>

namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail {

/// What a call of the operating system said, and of which file.
[[nodiscard]] inline journal_error journal_failed(int e, const std::string& file) {
  return {journal_errc::system,
          {e, std::generic_category()},
          file + ": " + std::generic_category().message(e)};
}

class journal_runs {
 public:
  explicit journal_runs(journal_files& f) noexcept : files_{&f} {}
  journal_runs(const journal_runs&) = delete;
  journal_runs& operator=(const journal_runs&) = delete;
  ~journal_runs() {
    if (file_ >= 0) files_->close(file_);
  }

  /// What stands there, or stands there since. To write: what was never finished is cut off.
  [[nodiscard]] journal_error read(bool write) {
    if (file_ < 0) {
      if (const int e = files_->open("runs", write, file_); e != 0)
        return journal_failed(e, "runs");
    }
    if (write) {
      if (const int e = files_->sync_names(); e != 0) return journal_failed(e, "the directory");
    }
    for (;;) {
      run_record r;
      std::size_t got = 0;
      if (const int e = files_->read(file_, end_, &r, sizeof r, got); e != 0)
        return journal_failed(e, "runs");
      if (got != sizeof r || r.crc != r.checksum()) break;  // the end, or what was never finished
      end_ += sizeof r;
      switch (r.kind) {
        case run_record::begun:
        case run_record::begun_behind_loss: clean_ = false; [[fallthrough]];
        case run_record::hole: note(r); break;
        case run_record::reserved:
          reserved_ = (std::max<event_id>)(reserved_, r.first);
          machine_ = r.recovered;
          survives_ = journal_survival{r.what};
          break;
        case run_record::ended:
          reserved_ = r.first;
          clean_ = true;
          break;
        default:
          return {journal_errc::format,
                  {},
                  "runs: a record of kind " + std::to_string(r.kind) +
                      ": written by a newer version; use that one"};
      }
    }
    if (!write) return {};
    const int e = files_->cut(file_, end_);
    return e == 0 ? journal_error{} : journal_failed(e, "runs");
  }

  /// The run before ended by itself.
  [[nodiscard]] bool clean() const noexcept { return clean_; }
  /// Ids above this one were given to nobody.
  [[nodiscard]] event_id reserved() const noexcept { return reserved_; }
  [[nodiscard]] bool empty() const noexcept { return table_.empty(); }
  /// What the run before has shown may be lost.
  [[nodiscard]] bool may_have_lost() noexcept {
    if (clean_ || survives_ == journal_survival::power_lost) return false;
    return survives_ == journal_survival::nothing || machine_ == 0 ||
           machine_ != files_->machine_start();
  }

  /// Each of these answers an errno. A run begins with id `first`; `recovered` is the newest that
  /// is there.
  [[nodiscard]] int begin(event_id first, event_id recovered, std::int64_t now_ms) {
    const std::uint32_t kind = may_have_lost() ? run_record::begun_behind_loss : run_record::begun;
    return add({kind, 0, first, recovered, now_ms});
  }
  /// What was shown between `stored` and `first` is not stored.
  [[nodiscard]] int leave_hole(event_id first, event_id stored) {
    return add({run_record::hole, 0, first, stored, 0});
  }
  /// Ids up to this one may be given out.
  [[nodiscard]] int reserve(event_id upto, journal_survival s) {
    const int e =
        add({run_record::reserved, 0, upto, files_->machine_start(), static_cast<std::int64_t>(s)});
    if (e == 0) reserved_ = upto;
    return e;
  }
  [[nodiscard]] int end(event_id last, std::int64_t now_ms) {
    return add({run_record::ended, 0, (std::max)(last, table_.back().first - 1), 0, now_ms});
  }

  /// The next loss behind `after` of what was shown once, see journal_store::loss_behind. Any
  /// thread, as what follows.
  [[nodiscard]] bool loss_behind(event_id after, event_id& from, event_id& first) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    for (const run& r : table_) {
      if (after + 1 >= r.first || (!r.lost && after <= r.recovered)) continue;
      from = after > r.recovered ? after : r.recovered;
      first = r.first;
      return true;
    }
    return false;
  }
  /// Who has `newest`, the newest event that is there, goes on behind this id: above it if later
  /// ones may be lost.
  [[nodiscard]] event_id goes_on(event_id newest) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    event_id at = newest;
    for (const run& r : table_) {
      if (r.lost && r.first > at) at = r.first - 1;
    }
    return at;
  }
  /// What is behind this id and not above `newest` was written without a loss between.
  [[nodiscard]] event_id unbroken_behind(event_id newest) const {
    const std::scoped_lock<std::mutex> lock{mutex_};
    event_id least = no_id;
    for (const run& r : table_) {
      if (r.first <= newest && r.first - 1 > least) least = r.first - 1;
    }
    return least;
  }

 private:
  struct run {
    event_id first;
    event_id recovered;
    bool lost;  ///< what is between them may have been shown
  };

  [[nodiscard]] int add(run_record r) {
    r.crc = r.checksum();
    if (const int e = files_->write(file_, end_, &r, sizeof r); e != 0) return e;
    if (const int e = files_->sync(file_); e != 0) return e;
    end_ += sizeof r;
    if (r.kind != run_record::reserved && r.kind != run_record::ended) note(r);
    return 0;
  }
  void note(const run_record& r) {
    const std::scoped_lock<std::mutex> lock{mutex_};
    table_.push_back({r.first, r.recovered, r.kind != run_record::begun});
  }

  journal_files* files_;
  int file_ = -1;
  std::uint64_t end_ = 0;
  bool clean_ = true;
  event_id reserved_ = no_id;
  std::uint64_t machine_ = 0;  ///< of the last run
  journal_survival survives_ = journal_survival::nothing;

  mutable std::mutex mutex_;  ///< of what follows; written by the writing thread only
  std::vector<run> table_;
};

}  // namespace sse::inline SSEHUB_INLINE_NAMESPACE::detail

#endif  // SSEHUB_DETAIL_JOURNAL_RUNS_HPP
