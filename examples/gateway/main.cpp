// ssehub example gateway. SPDX-License-Identifier: MIT
//
// A trading gateway: one stream of all events of an engine, and an HTTP interface to it.
//
// A header of the standard library comes first: Asio 1.22 sees by it how memory is aligned, and has
// to see the same in every file.
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <asio/io_context.hpp>

#include "common/flags.hpp"
#include "common/service.hpp"
#include "server.hpp"

int main(int argc, char** argv) {
  examples::hold_standard_files();
  gateway::settings s;
  examples::flag_set flags{
      "gateway", "A trading gateway: market data and orders as one event stream, and a dashboard.",
      SSEHUB_VERSION};
  flags.heading("Where events come from (without these: a simulated exchange)");
  flags.add("--engine", "COMMAND", "a program that speaks the engine protocol",
            [&s](std::string_view value) {
              if (const auto words = gateway::split_command(value)) s.engine = *words;
              return s.engine.empty() ? "a command with its arguments" : "";
            });
  flags.toggle("--trades", "the simulated exchange trades by itself, and shows its order book",
               s.trades);
  flags.add("--symbols", "N", "the simulated exchange has so many, 1 to 1000; see /watch (1)",
            [&s](std::string_view value) {
              const auto n = examples::parse_count(value, 1, 1000);
              if (n) s.symbols = static_cast<std::uint32_t>(*n);
              return n ? "" : "a number from 1 to 1000";
            });
  flags.add("--replay", "FILE|-", "recorded Binance lines, - is stdin", [&s](std::string_view v) {
    s.replays = true;
    s.replay.file = v;
    return v.empty() ? "a file, or - for stdin" : "";
  });
  flags.add("--speed", "X|max", "times the recorded pace; max: as fast as readers read (1)",
            [&s](std::string_view value) {
              const auto speed = gateway::parse_speed(value);
              if (speed) s.replay.speed = *speed;
              return speed ? "" : "a number above 0, or max";
            });
  flags.toggle("--loop", "replay again and again", s.replay.loop);
  flags.number("--wait-readers", "N", "begin the replay once there are N streams (0)",
               s.wait_readers);
  examples::add_history_flags(flags, s.history);
  flags.add("--follow", "DIR", "serve the journal that another process writes",
            [&s](std::string_view v) {
              s.history.directory = v;
              s.history.follows = true;
              return v.empty() ? "a directory" : "";
            });
  examples::add_cluster_flags(flags, s.cluster);
  examples::add_common_flags(flags, s.common);
  examples::add_token_flag(flags, s.common);
  flags.footer(
      "With --replay the default of --keep is 100000, so that a reader with ?last_id=0 gets all of "
      "it.\nA user is whoever holds the token; without one nobody is known, and --per-user counts "
      "nobody.\nWith --nats --per-user holds over all nodes, as of a second ago; the other caps, "
      "orders and "
      "the\naccount are each node's own.\nFor example: zcat FILE.gz | gateway --replay - --speed "
      "max; several recordings are "
      "merged by\ntheir times: sort -m -n BTC ETH | gateway --replay -\n");

  if (const auto end = flags.parse(argc, argv)) return end->print();
  if (!s.engine.empty() && s.replays)
    return flags.wrong("--engine and --replay exclude each other").print();
  if (s.trades && (!s.engine.empty() || s.replays || s.history.follows))
    return flags.wrong("--trades is for the simulated exchange").print();
  if (flags.given("--symbols") && (!s.engine.empty() || s.replays || s.history.follows))
    return flags.wrong("--symbols is for the simulated exchange").print();
  for (const char* name : {"--speed", "--loop", "--wait-readers"}) {
    if (flags.given(name) && !s.replays)
      return flags.wrong(std::string{name} + " needs --replay").print();
  }
  if (s.replays && !flags.given("--keep")) s.common.keep = gateway::replay_keep;

  if (s.history.follows &&
      (flags.given("--nats") || flags.given("--journal") || !s.engine.empty() || s.replays))
    return flags.wrong("--follow serves what another process writes: alone").print();
  if (const std::string wrong = examples::wrong_history(flags); !wrong.empty())
    return flags.wrong(wrong).print();
  if (const std::string wrong = examples::wrong_cluster(flags); !wrong.empty())
    return flags.wrong(wrong).print();
  asio::io_context io{1};
  std::unique_ptr<gateway::server> made;
  try {
    made = std::make_unique<gateway::server>(io, s);
  } catch (const std::runtime_error& e) {
    return flags.wrong(e.what()).print();
  }
  gateway::server& server = *made;
  return examples::run(io, server.http(), flags, s.common,
                       {.start = [&] { return server.start(); },
                        .stop = [&](std::function<void()> done) { server.stop(std::move(done)); }});
}
