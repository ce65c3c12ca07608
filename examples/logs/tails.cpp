// ssehub example logs. SPDX-License-Identifier: MIT
#include "tails.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/flags.hpp"
#include "common/service.hpp"

namespace logs {
namespace {

using examples::bad_params;

using std::chrono::milliseconds;

constexpr milliseconds between_looks{5};      ///< at a file that changes all the time
constexpr milliseconds in_any_case{1000};     ///< also where the system tells
constexpr milliseconds without_a_watch{100};  ///< where it does not
constexpr milliseconds while_renamed{50};
constexpr milliseconds longest_hold{500};          ///< that slow readers can make the others wait
constexpr milliseconds linger{3000};               ///< a log without readers stays open
constexpr std::uint64_t most_backlog = 1'000'000;  ///< of ?backlog=

/// What cannot be had now can be had in a moment.
sse::response later() { return sse::refuse(503, "try again\n").add("Retry-After", "1"); }

void cannot_open(const std::string& name, int error) {
  examples::log_line(name + " cannot be opened: " + std::strerror(error));
}

sse::time_point to_time(std::chrono::steady_clock::time_point t) { return t; }

}  // namespace

sse::response refusal_of(int error) {
  if (error == 0) return sse::refuse(404, "not found\n");
  if (error == EACCES || error == EPERM)
    return sse::refuse(403, "this log may not be read: see the permissions of its file\n");
  return later();
}

tails::tails(asio::io_context& io, server& http, tails_options o)
    : io_{io},
      http_{http},
      options_{std::move(o)},
      watcher_{io, options_.in.path, [this](const std::string& name) { changed(name); }} {}

bool tails::known(std::string_view id) const {
  if (!is_log_id(id)) return false;
  const std::string name = file_name_of(id);
  return open_.contains(name) || state_of(options_.in.file(name), options_.in.follow_links) ||
         !rotated_files(options_.in, name).empty();
}

sse::verdict<reader> tails::join(std::string_view id, const sse::request& r) {
  const std::string name = file_name_of(id);
  if (!known(id)) {
    // Nobody sees what is in a directory that may not be entered.
    const bool barred =
        is_log_id(id) && ::access(options_.in.path.c_str(), X_OK) != 0 && errno == EACCES;
    if (barred) cannot_open(name, EACCES);
    return refusal_of(barred ? EACCES : 0);
  }
  const sse::resume_point resume = sse::resume_from(r);
  std::string text;
  std::uint64_t lines = 0;
  const auto backlog = sse::query_value(r.query, "backlog", text);
  if (backlog == sse::lookup::found) {
    const auto n = examples::parse_count(text, 0, UINT64_MAX);
    if (!n) return bad_params();
    lines = std::min(*n, most_backlog);
  }
  sse::event_id at = 0;
  if (const auto found = sse::query_value(r.query, "at", text); found == sse::lookup::found) {
    const auto n = examples::parse_count(text, 0, sse::max_event_id);
    if (!n) return bad_params();
    at = *n;
  }
  if (backlog == sse::lookup::malformed || resume.state == sse::resume_point::kind::malformed)
    return bad_params();

  sse::response refusal;
  tail* const t = open(name, refusal);
  if (t == nullptr) return refusal;
  t->used = clock::now();
  look(name, *t, t->used);  // a reader may have more than this program has read
  if (t->ended) return later();
  if (t->log.is_utf16())
    return sse::refuse(415, "this log is in UTF-16, which is not read: convert it to UTF-8\n");
  reader who{.what = reader::kind::tail};
  sse::event_id after = t->log.last_id();
  if (resume.state == sse::resume_point::kind::given) {
    const auto place = t->log.resolve(resume.after);
    if (t->log.blocked()) return later();
    who.begins_anew = !place;
    who.requested = resume.after;
    after = place.value_or(t->log.begin());
  } else if (lines != 0) {
    const auto place = at == 0 ? std::nullopt : t->log.resolve(at);
    if (!t->log.blocked()) after = t->log.back(lines, place.value_or(after));
    if (t->log.blocked()) return later();
  }
  return sse::verdict<reader>{std::move(who), {}}.join(t->channel).after(after);
}

void tails::greet(sse::session_id session, const reader& who) {
  if (!who.begins_anew) return;
  const std::string data =
      R"({"requested":)" + std::to_string(who.requested) + R"(,"first":null,"lost":null})";
  (void)http_.hub().send(session, {.type = "gap", .data = data});
  (void)http_.hub().send(session, {.type = "rotated", .data = R"({"reason":"unknown"})"});
  examples::log_line("gap: a reader asked for what follows " + std::to_string(who.requested) +
                     ", which is gone: it gets the log from its beginning");
}

tails::tail* tails::open(const std::string& name, sse::response& refusal) {
  if (const auto at = open_.find(name); at != open_.end()) return at->second.get();
  sse::channel_options o = options_.channel();
  follower_options read{.text = options_.text};
  if (o.max_lag != 0)  // what is read at once must not be what makes a reader lag
    read.budget = static_cast<std::size_t>(
        std::clamp<std::uint64_t>(o.max_lag / 4, std::uint64_t{4} << 10, read.budget));
  auto t = std::make_unique<tail>(io_, options_.in, name, read);
  if (!t->log.open()) {
    refusal = refusal_of(t->log.error());
    if (t->log.error() != 0) cannot_open(name, t->log.error());
    return nullptr;
  }
  o.ids = sse::id_mode::given;
  o.own_sequence = true;
  // A line's CR costs a `data:` each; the longest piece has nothing else in the worst case.
  o.limits.event = 16 * longest_line;
  o.keep_bytes = std::uint64_t{1} << 20;  // what is older is in the files
  o.first_id = t->log.last_id();
  o.backfill = [this, name, to = t.get()](const sse::backfill_request& r,
                                          sse::backfill_writer& out) {
    const auto state =
        to->log.read_back(r.after, r.before, r.room,
                          [&out](sse::event_id id, const sse::event& e) { return out.add(id, e); });
    if (state == sse::backfill_state::wait) {
      to->waiting.push_back(r.session);
      plan(name, *to, between_looks);
    }
    return state;
  };
  t->channel = http_.open_channel("logs/" + name, std::move(o));
  if (!t->channel) {
    refusal = later();
    return nullptr;
  }
  t->used = clock::now();
  return open_.emplace(name, std::move(t)).first->second.get();
}

void tails::changed(const std::string& name) {
  const auto at = open_.find(name);
  if (at == open_.end()) return;
  const clock::time_point now = clock::now();
  const clock::time_point next = at->second->polled + between_looks;
  if (next <= now) return poll(name);
  plan(name, *at->second, next - now);
}

void tails::plan(const std::string& name, tail& t, clock::duration in) {
  const clock::time_point when = clock::now() + in;
  if (t.planned <= when) return;
  t.planned = when;
  t.timer.expires_at(when);
  t.timer.async_wait([this, name](const std::error_code& e) {
    if (!e) poll(name);
  });
}

void tails::poll(const std::string& name) {
  const auto at = open_.find(name);
  if (at == open_.end()) return;
  tail& t = *at->second;
  const clock::time_point now = clock::now();
  t.planned = clock::time_point::max();
  if (t.channel.subscribers() != 0) t.used = now;
  if (t.ended || now - t.used > linger) return close(name);
  if (too_far_ahead(t, now)) return plan(name, t, std::chrono::milliseconds{10});
  look(name, t, now);
}

void tails::look(const std::string& name, tail& t, clock::time_point now) {
  t.polled = now;
  const auto progress = t.log.poll(
      to_time(now),
      {.on_line = [&](sse::event_id id, std::string_view text,
                      bool goes_on) { publish(t, {.type = type_of(goes_on), .data = text}, id); },
       .on_rotated =
           [&](sse::event_id id, std::string_view how) {
             const std::string data = R"({"reason":")" + std::string{how} + R"("})";
             publish(t, {.type = "rotated", .data = data}, id);
             examples::log_line(name + " was " + std::string{how});
           }});
  t.ended = t.ended || progress == log_follower::progress::over;
  if (std::exchange(t.error, t.log.error()) != t.log.error() && t.error != 0)
    cannot_open(name, t.error);

  if (!t.log.unpacking()) {
    for (const sse::session_id s : std::exchange(t.waiting, {})) http_.hub().writable(s);
  }

  if (options_.poll.is_off() && std::exchange(t.watched, t.log.changes()) != t.log.changes())
    t.told = watcher_.add(name, t.log.descriptor());
  clock::duration next = t.told                   ? in_any_case
                         : options_.poll.is_off() ? without_a_watch
                                                  : milliseconds{options_.poll.ms()};
  if (progress == log_follower::progress::more || t.ended) next = clock::duration::zero();
  if (progress == log_follower::progress::waiting)
    next = std::min<clock::duration>(next, while_renamed);
  plan(name, t, next);
}

/// Whether somebody has not read what was published yet: then the file can wait a little.
bool tails::too_far_ahead(tail& t, clock::time_point now) {
  const std::uint64_t most = t.channel.options()->max_lag / 2;
  if (http_.hub().worst_lag(t.channel) <= most) {
    t.held = {};
    return false;
  }
  if (t.held == clock::time_point{}) t.held = now;
  return now - t.held < longest_hold;
}

void tails::publish(tail& t, const sse::event& e, sse::event_id id) {
  if (t.ended) return;
  const auto r = http_.publish(t.channel, e, {.id = id});
  if (r) return;
  // Its readers come back, and read it from the file.
  examples::log_line("a line was not published: " + std::string{to_string(r.error)});
  t.ended = true;
}

void tails::close(const std::string& name) {
  const auto at = open_.find(name);
  if (at == open_.end()) return;
  watcher_.remove(name);
  http_.close_channel(at->second->channel);
  open_.erase(at);
}

}  // namespace logs
