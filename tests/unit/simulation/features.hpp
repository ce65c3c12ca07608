// What the simulation asks of the hub, switch by switch. All are on; SSEHUB_SIM_WITHOUT=1,7 turns
// some off, to see whether something else is wrong beside a fault that is known.
#pragma once

#include <cstdlib>
#include <string_view>

namespace simulation {

struct features {
  /// 1: while a snapshot fills, what was published after the join is announced if it is lost.
  bool snapshot_tells_losses = true;
  /// 2: a value belongs to (key, audience), not to a key alone.
  bool state_by_audience = true;
  /// 3: a channel opened again goes on at its old head.
  bool reopened_goes_on = true;
  /// 4: coalescing announces each loss before the next value, not the newest loss alone.
  bool each_loss_told = true;
  /// 5: of several gap frames in a row only the last moves the id.
  bool last_gap_moves_id = true;
  /// 7: on_opened, on_closed and on_presence may publish, end streams and drain.
  bool hooks_end_streams = true;
  /// 8: on_closed of one that is evicted may end others.
  bool evicted_ends_others = true;
  /// 18: time may jump further than 24 days.
  bool long_jumps = true;
  /// 19: keep_bytes counts audiences.
  bool keep_bytes_counts_audiences = true;
  /// 20: what a hook inside a flush asks of the hub is refused.
  bool flush_hooks_refused = true;

  /// 21: a chunked stream that was skipped forward inside a chunk that was announced has a clean
  /// end all the same.
  bool skipped_ends_cleanly = true;

  [[nodiscard]] static features from_environment() {
    features f;
    const char* text = std::getenv("SSEHUB_SIM_WITHOUT");
    for (const char* p = text; p != nullptr && *p != '\0';) {
      char* end = nullptr;
      f.turn_off(std::strtoul(p, &end, 10));
      p = *end == ',' ? end + 1 : end;
      if (p == text) break;
    }
    return f;
  }

 private:
  void turn_off(unsigned long number) {
    switch (number) {
      case 1: snapshot_tells_losses = false; break;
      case 2: state_by_audience = false; break;
      case 3: reopened_goes_on = false; break;
      case 4: each_loss_told = false; break;
      case 5: last_gap_moves_id = false; break;
      case 7: hooks_end_streams = false; break;
      case 8: evicted_ends_others = false; break;
      case 18: long_jumps = false; break;
      case 19: keep_bytes_counts_audiences = false; break;
      case 20: flush_hooks_refused = false; break;
      case 21: skipped_ends_cleanly = false; break;
      default: break;
    }
  }
};

}  // namespace simulation
