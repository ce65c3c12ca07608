// ssehub examples. SPDX-License-Identifier: MIT
//
// history: a journal (sse/journal.hpp) as the programs offer it: their flags, and what /health and
// /metrics say of it.
#pragma once

#include <string>

#include <sse/journal.hpp>
#include <sse/metrics.hpp>
#include <sse/request.hpp>

#include "common/flags.hpp"

namespace examples {

struct history_options {
  std::string directory{};  ///< empty: history is in memory
  bool follows = false;     ///< another process writes it
  sse::durability durability = sse::durability::page_cache;
  sse::duration interval = sse::duration::milliseconds(50);
};

/// --journal and --durability.
void add_history_flags(flag_set& flags, history_options& out);
/// What is wrong with how they go together; empty: nothing.
[[nodiscard]] const char* wrong_history(const flag_set& flags);
/// "none", "page_cache", "interval=MS" or "every_batch"; what it should be if it is none of these.
[[nodiscard]] const char* read_durability(std::string_view text, history_options& out);

/// Opens, or follows, unless there is no directory. Throws std::runtime_error with a sentence.
void open_history(sse::journal& j, const history_options& o, sse::journal_options with);

/// 200 with the last durable id; 503 with a sentence while it cannot be written.
[[nodiscard]] sse::response health_of(const sse::journal& j);
void add_history(sse::metrics_page& page, const sse::journal& j);
/// `"durability":"page_cache","durable_id":7,"journal_problem":""`
[[nodiscard]] std::string history_json(const sse::journal& j);

}  // namespace examples
