// ssehub examples. SPDX-License-Identifier: MIT
#include "common/history.hpp"

#include <charconv>
#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include "common/answers.hpp"
#include "common/json.hpp"

namespace examples {

void add_history_flags(flag_set& flags, history_options& out) {
  flags.heading("History");
  flags.add("--journal", "DIR", "history survives the process, in this directory",
            [&out](std::string_view v) {
              out.directory = v;
              return v.empty() ? "a directory" : "";
            });
  flags.add("--durability", "D", "none, page_cache, interval=MS or every_batch (page_cache)",
            [&out](std::string_view v) { return read_durability(v, out); });
}

const char* wrong_history(const flag_set& flags) {
  return flags.given("--durability") && !flags.given("--journal") ? "--durability needs --journal"
                                                                  : "";
}

const char* read_durability(std::string_view text, history_options& out) {
  using enum sse::durability;
  for (const sse::durability d : {none, page_cache, every_batch}) {
    if (text != to_string(d)) continue;
    out.durability = d;
    return "";
  }
  constexpr std::string_view with = "interval=";
  std::int64_t ms = 0;
  if (text.starts_with(with)) {
    const char* const end = text.data() + text.size();
    const auto [at, e] = std::from_chars(text.data() + with.size(), end, ms);
    if (e != std::errc{} || at != end) ms = 0;
  }
  if (ms < 1 || ms > 60'000) return "none, page_cache, every_batch, or interval= and 1 to 60000 ms";
  out.durability = interval;
  out.interval = sse::duration::milliseconds(ms);
  return "";
}

void open_history(sse::journal& j, const history_options& o, sse::journal_options with) {
  if (o.directory.empty()) return;
  with.durability = o.durability;
  with.interval = o.interval;
  const sse::journal_error e =
      o.follows ? j.follow(o.directory, std::move(with)) : j.open(o.directory, std::move(with));
  if (e) throw std::runtime_error{e.text};
}

std::string history_json(const sse::journal& j) {
  std::string out = R"("durability":")" + std::string{to_string(j.options().durability)} +
                    R"(","durable_id":)" + std::to_string(j.durable()) + R"(,"journal_problem":)";
  append_json_string(out, j.problem());
  return out;
}

sse::response health_of(const sse::journal& j) {
  const bool fine = !j.stats().failing;
  return sse::response::json(
      fine ? 200 : 503,
      std::string{R"({"ok":)"} + (fine ? "true," : "false,") + history_json(j) + "}");
}

void add_history(sse::metrics_page& page, const sse::journal& j) {
  const sse::journal_stats s = j.stats();
  page.sample("journal_last_id", "gauge", "The newest id given out.", s.last);
  page.sample("journal_durable_id", "gauge", "As durable as was asked for.", s.durable);
  page.sample("journal_bytes", "gauge", "Of the journal's files.", s.bytes);
  page.sample("journal_waiting_bytes", "gauge", "Waits to be written.", s.waiting_bytes);
  page.sample("journal_syncs_total", "counter", "Calls of fdatasync.", s.syncs);
  page.sample("journal_failures_total", "counter", "Writes and removals that failed.", s.failures);
  page.sample("journal_failing", "gauge", "1: it cannot be written now.",
              std::uint64_t{s.failing ? 1U : 0U});
}

}  // namespace examples
