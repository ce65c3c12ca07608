// A follower without a server.
//
//   followed f{directory};
//   REQUIRE(f.log.open());
//   CHECK(f.take() == lines(1, 3));   // rotations are "[renamed]", further pieces "...piece"
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "log_directory.hpp"
#include "logs/log_follower.hpp"

namespace test {

using logs::log_follower;
using logs::position_of;
using strings = std::vector<std::string>;

/// A follower and what it told, rotations as "[how]".
struct followed {
  explicit followed(const log_directory& d, const std::string& name = "app.log")
      : log{d.path(), name} {}

  log_follower::progress poll(std::int64_t ms = 0) {
    auto p = log_follower::progress::more;
    while (p == log_follower::progress::more) {
      p = log.poll(sse::time_point::milliseconds(ms),
                   {.on_line =
                        [this](sse::event_id id, std::string_view text, bool goes_on) {
                          ids.push_back(id);
                          told.push_back((goes_on ? "..." : "") + std::string{text});
                        },
                    .on_rotated =
                        [this](sse::event_id id, std::string_view how) {
                          ids.push_back(id);
                          told.push_back("[" + std::string{how} + "]");
                        }});
    }
    return p;
  }
  /// What came since last asked.
  strings take(std::int64_t ms = 0) {
    poll(ms);
    return std::exchange(told, {});
  }
  /// What a reader gets that resumes after `id`, from the files alone.
  strings after(sse::event_id id, std::size_t room = SIZE_MAX) {
    strings out;
    sse::event_id last = id;
    for (;;) {
      const auto s =
          log.read_back(last, log.last_id() + 1, room, [&](sse::event_id at, const sse::event& e) {
            CHECK(at > last);
            last = at;
            const std::string type{e.type};
            out.push_back(type.empty()          ? std::string{e.data}
                          : type == "continued" ? "..." + std::string{e.data}
                                                : "[" + type + "]");
            return true;
          });
      if (s != sse::backfill_state::more) {
        CHECK(s == sse::backfill_state::done);
        return out;
      }
    }
  }
  strings resumed(sse::event_id id) {
    const auto here = log.resolve(id);
    return here ? after(*here) : strings{"lost"};
  }

  log_follower log;
  strings told;
  std::vector<sse::event_id> ids;
};

inline strings operator+(strings a, const strings& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace test
