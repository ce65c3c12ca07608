// ssehub example logs. SPDX-License-Identifier: MIT
//
// Logs as event streams: entries that programs post, and files that anybody writes.
//
// A header of the standard library comes first: Asio 1.22 sees by it how memory is aligned, and has
// to see the same in every file.
#include <string>
#include <string_view>

#include <asio/io_context.hpp>

#include "common/flags.hpp"
#include "common/service.hpp"
#include "server.hpp"

int main(int argc, char** argv) {
  examples::hold_standard_files();
  logs::settings s;
  examples::flag_set flags{
      "logs", "Logs as event streams: entries that programs post, and files that anybody writes.",
      SSEHUB_VERSION};
  flags.heading("Files");
  flags.add("--data", "DIR", "whose *.log files are streams; made if need be (" + s.data + ")",
            [&s](std::string_view value) {
              s.data = value;
              return value.empty() ? "a directory" : "";
            });
  flags.toggle("--follow-links", "symbolic links among them are logs too", s.follow_links);
  flags.add("--encoding", "NAME", "what they are written in: utf-8, latin-1 (utf-8)",
            [&s](std::string_view value) {
              s.text = value == "latin-1" ? logs::encoding::latin1 : logs::encoding::utf8;
              return value == "utf-8" || value == "latin-1" ? "" : "utf-8 or latin-1";
            });
  flags.seconds("--poll", "look at files so often, for network file systems; 0: be told (0)",
                s.poll);
  examples::add_common_flags(flags, s.common);
  examples::add_token_flag(flags, s.common);
  flags.seconds("--idle", "end a stream that got nothing for so long, 0: none (0)", s.idle);
  flags.seconds("--write-timeout", "close a stream that takes nothing for so long, 0: none (10)",
                s.write_timeout);
  flags.footer(
      "The heartbeat is an entry every SECONDS on the stream of entries, and a comment on the\n"
      "stream of a file when it is idle.\n"
      "For example: logs --data /var/log/app, then\n"
      "curl -N http://127.0.0.1:8420/logs/ID?backlog=10\n");

  if (const auto end = flags.parse(argc, argv)) return end->print();
  asio::io_context io{1};
  logs::server server{io, s};
  return examples::run(io, server.http(), flags, s.common,
                       {.start = [&] { return server.start(); }});
}
