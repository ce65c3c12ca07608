// ssehub example chat. SPDX-License-Identifier: MIT
//
// Streams registered at run time, broadcast, triggers and GraphQL subscriptions; its page is a
// chat.
//
// A header of the standard library comes first: Asio 1.22 sees by it how memory is aligned, and has
// to see the same in every file.
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>

#include <asio/io_context.hpp>

#include "common/flags.hpp"
#include "common/service.hpp"
#include "server.hpp"

int main(int argc, char** argv) {
  examples::hold_standard_files();
  chat::settings s;
  examples::flag_set flags{
      "chat", "A chat, and streams that are registered at run time: broadcast, filters, GraphQL.",
      SSEHUB_VERSION};
  examples::add_history_flags(flags, s.history);
  examples::add_cluster_flags(flags, s.cluster);
  examples::add_common_flags(flags, s.common);
  flags.footer(
      "A user is whoever says so with ?user=; --per-user counts by that name.\n"
      "With --nats, streams that are registered, GraphQL subscriptions, who is in which room and "
      "who "
      "types\nare each node's own; what is sent, users' caps and the six streams of the start are "
      "of "
      "all nodes.\n"
      "For example: curl -N \"http://127.0.0.1:3000/chat?room=general\"\n");
  if (const auto end = flags.parse(argc, argv)) return end->print();

  if (const std::string wrong = examples::wrong_history(flags); !wrong.empty())
    return flags.wrong(wrong).print();
  if (const std::string wrong = examples::wrong_cluster(flags); !wrong.empty())
    return flags.wrong(wrong).print();
  asio::io_context io{1};
  std::optional<chat::server> server;
  try {
    server.emplace(io, s);
  } catch (const std::runtime_error& e) {
    return flags.wrong(e.what()).print();
  }
  return examples::run(io, server->http(), flags, s.common,
                       {.stop = [&](const std::function<void()>& done) {
                         server->stop();
                         done();
                       }});
}
