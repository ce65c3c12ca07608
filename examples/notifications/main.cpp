// ssehub example notifications. SPDX-License-Identifier: MIT
//
// Notifications, realtime updates, chat rooms and the system's status, for users with tokens.
//
// A header of the standard library comes first, see <sse/asio.hpp>.
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include <asio/io_context.hpp>

#include "common/flags.hpp"
#include "common/service.hpp"
#include "notifications/server.hpp"

int main(int argc, char** argv) {
  examples::hold_standard_files();
  notifications::settings s;
  examples::flag_set flags{
      "notifications",
      "Notifications, realtime updates, chat rooms and system status as event streams.",
      SSEHUB_VERSION};
  flags.heading("Users");
  flags.add("--token-secret", "KEY", "take only JSON Web Tokens (HS256) of this key (demo tokens)",
            [&s](std::string_view value) {
              s.token_secret = value;
              return value.empty() ? "not empty" : "";
            });
  flags.add("--private", "ROOM:USER,USER", "a room for these users only; may come several times",
            [&s](std::string_view value) {
              return notifications::add_private_room(value, s.rooms) ? "" : "ROOM:USER,USER";
            });
  flags.seconds("--idle", "a stream without events for so long ends, 0: never (300)", s.idle);
  examples::add_history_flags(flags, s.history);
  examples::add_cluster_flags(flags, s.cluster);
  flags.seconds("--revoke-for", "who is revoked stays out so long: a token's longest life (86400)",
                s.cluster.revoke_for);
  examples::add_common_flags(flags, s.common);
  flags.footer(
      "Without --token-secret a token is the base64 of userId:username:email:roles, which anybody "
      "can make.\nWith --nats, who is in which room, who types, the list of connections and the "
      "status are each "
      "node's\nown; users, their caps and revocations are of all nodes. Without it nobody can be "
      "revoked.\nFor example: curl -N http://127.0.0.1:3000/system/status/stream\n");

  if (const auto end = flags.parse(argc, argv)) return end->print();
  if (!s.token_secret.empty() && !notifications::has_jwt())
    return flags.wrong("--token-secret needs OpenSSL, which this program was built without")
        .print();

  if (const std::string wrong = examples::wrong_history(flags); !wrong.empty())
    return flags.wrong(wrong).print();
  if (const std::string wrong = examples::wrong_cluster(flags); !wrong.empty())
    return flags.wrong(wrong).print();
  if (flags.given("--revoke-for") && !flags.given("--nats"))
    return flags.wrong("--revoke-for needs --nats").print();
  if (s.cluster.revoke_for.is_off())
    return flags.wrong("--revoke-for: more than 0 seconds").print();
  asio::io_context io{1};
  std::unique_ptr<notifications::server> made;
  try {
    made = std::make_unique<notifications::server>(io, s);
  } catch (const std::runtime_error& e) {
    return flags.wrong(e.what()).print();
  }
  notifications::server& server = *made;
  if (s.token_secret.empty()) {
    examples::log_line("demo tokens: anybody can make one, with any name and any role");
  } else if (s.token_secret.size() < 32) {
    examples::log_line("the key of --token-secret has less than 32 bytes: it may be guessed");
  }
  return examples::run(io, server.http(), flags, s.common,
                       {.stop = [&](const std::function<void()>& done) {
                         server.stop();
                         done();
                       }});
}
