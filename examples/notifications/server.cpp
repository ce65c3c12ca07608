// ssehub example notifications. SPDX-License-Identifier: MIT
#include "notifications/server.hpp"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "notifications_page.hpp"

namespace notifications {

server::server(asio::io_context& io, const settings& s, desk_clock clock)
    : beats_{io, http_, s.common.heartbeat},
      http_{io, http_options(s, examples::server_setup{s.common}, clock), s.common},
      timer_{io},
      desk_{s, host(), std::move(clock)} {
  auto& hub = http_.hub();
  hub.on_sees([this](const visitor& v, std::string_view key, std::string_view audience) {
    return desk_.sees(v, key, audience);
  });
  hub.on_opened([this](sse::session_id id, const visitor& v) {
    if (v.beats) beats_.add(id);
    desk_.opened(id, v);
  });
  hub.on_closed([this](sse::session_id id, const visitor& v, sse::close_reason why) {
    beats_.remove(id);
    desk_.closed(id, v);
    using enum sse::close_reason;
    if (why != peer && why != drain && why != host)  // the last is the desk's own, which it tells
      examples::log_line("a stream was closed: " + std::string{to_string(why)});
  });
  add_routes();
  history_.start();
  if (cluster_) cluster_.start();
  wait();
}

sse::server_options server::http_options(const settings& s, const examples::server_setup& setup,
                                         const desk_clock& clock) {
  examples::open_history(history_, s.history,
                         {.channels = {std::begin(channel_names), std::end(channel_names)},
                          .channel = [s, wall = clock.wall_ms](std::string_view name) {
                            return channel_options_of(s, name, wall);
                          }});
  examples::cluster_options c = s.cluster;
  c.hub = "notifications";
  c.channels.assign(std::begin(channel_names), std::end(channel_names));
  c.channel = [s, wall = clock.wall_ms](std::string_view name) {
    return channel_options_of(s, name, wall);
  };
  cluster_.open(std::move(c));
  if (cluster_) run_ = cluster_.node() + "-" + std::to_string(clock.wall_ms()) + "-";
  sse::server_options o = setup.options;
  o.limits.body = 64 << 10;
  o.shards = history_ ? &history_.order() : cluster_ ? &cluster_.order() : nullptr;
  apply(s, o.hub);
  return o;
}

/// What the journal takes has its id, and is shown once it is as safe as was asked for. What the
/// cluster takes gets it there.
sse::publish_result server::publish(sse::channel to, const sse::event& e,
                                    const sse::publish_options& o) {
  if (!history_ && !cluster_) return to.publish(e, o);
  const auto at = std::find(std::begin(channel_names), std::end(channel_names), to.name());
  const auto n = static_cast<std::size_t>(at - std::begin(channel_names));
  return cluster_ ? cluster_.publish(n, e, o) : history_.publish(n, e, o);
}

std::string server::next_id(sse::channel to) {
  if (cluster_) return run_ + std::to_string(++named_);
  return std::to_string((history_ ? history_.stats().last : to.last_id()) + 1);
}

desk_host server::host() {
  desk_host h{
      .open_channel =
          [this](std::string_view name, sse::channel_options o) {
            return history_ || cluster_ ? http_.hub().find_channel(name)
                                        : sse::channel{http_.open_channel(name, std::move(o))};
          },
      .publish = [this](sse::channel to, const sse::event& e,
                        const sse::publish_options& o) { return publish(to, e, o); },
      .next_id = [this](sse::channel to) { return next_id(to); },
      .send = [this](sse::session_id id, const sse::event& e) { (void)http_.hub().send(id, e); },
      .close = [this](sse::session_id id) { http_.hub().close(id); },
      .find = [this](sse::session_id id) -> const visitor* { return http_.hub().user(id); },
      .wake = [this] { timer_.cancel(); },  // it then looks what comes first
  };
  if (!cluster_) return h;
  h.refusal = [this](const identity& who) {
    auto no = cluster_.refusal(who.id, static_cast<std::uint64_t>(who.issued_ms));
    if (no && no->status == 401) return std::optional{examples::unauthorized()};
    return no;
  };
  h.revoke = [this](std::string_view user) { return cluster_.revoke(user); };
  h.more = [this](examples::json_object& out) { tell_cluster(out); };
  return h;
}

void server::tell_cluster(examples::json_object& out) const {
  std::string users = "[";
  for (const auto& [user, n] : cluster_.present())
    users.append(users.size() > 1 ? "," : "")
        .append(examples::json_object{}.text("userId", user).number("streams", n).done());
  out.raw("cluster", "{" + cluster_.json() + R"(,"users":)" + users + "]}");
}

/// One timer, for the first of what the desk waits for.
void server::wait() {
  const std::int64_t ms = std::clamp<std::int64_t>(desk_.tick(), 1, 60'000);
  timer_.expires_after(std::chrono::milliseconds{ms});
  timer_.async_wait([this](const std::error_code&) { wait(); });
}

void server::add_routes() {
  examples::add_common_routes(
      http_,
      [this](sse::metrics_page& m) {
        if (history_) examples::add_history(m, history_);
        if (cluster_) cluster_.add_metrics(m);
      },
      {},
      [this] {
        return history_   ? examples::health_of(history_)
               : cluster_ ? cluster_.health()
                          : examples::ok();
      });
  examples::add_page(http_, page);

  const auto stream = [this](std::string_view path, stream_kind kind) {
    http_.stream(path, [this, kind](const sse::request& r) { return desk_.open(kind, r); });
  };
  stream("/notifications/stream", stream_kind::notifications);
  stream("/realtime/stream", stream_kind::realtime);
  stream("/chat/stream", stream_kind::chat);
  stream("/system/status/stream", stream_kind::system);
  stream("/stream", stream_kind::all);

  using request = const sse::request&;
  using answer = sse::response (desk::*)(request, std::string_view);
  const auto post = [this](std::string_view path, answer f) {
    http_.post(path, [this, f](request r, std::string_view body) { return (desk_.*f)(r, body); });
  };
  post("/notifications/send", &desk::send_notification);
  post("/notifications/broadcast", &desk::broadcast);
  post("/realtime/update", &desk::send_update);
  post("/chat/send", &desk::send_message);
  post("/chat/typing", &desk::typing);
  post("/system/maintenance", &desk::maintenance);
  if (cluster_) post("/system/revoke", &desk::revoke);
  http_.get("/system/status", [this](request) { return desk_.status(); });
  http_.get("/system/connections", [this](request r) { return desk_.connections(r); });
  http_.get("/session", [this](request r) { return desk_.session(r); });
  http_.get("/chat/rooms", [this](request r) { return desk_.rooms(r); });
}

}  // namespace notifications
