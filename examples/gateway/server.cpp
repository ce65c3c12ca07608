// ssehub example gateway. SPDX-License-Identifier: MIT
#include "server.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/json.hpp"
#include "gateway_page.hpp"
#include "gateway_watch.hpp"
#include "payload.hpp"

namespace gateway {
namespace {

using examples::bad_params;
using examples::error;
using examples::ok;

sse::response accepted(std::string_view client_order_id) {
  std::string body = R"({"ok":true,"client_order_id":)";
  examples::append_json_string(body, client_order_id);
  return ok(body + "}");
}

}  // namespace

server::server(asio::io_context& io, settings s)
    : settings_{std::move(s)},
      beats_{io, http_, settings_.common.heartbeat},
      http_{io, http_options(examples::server_setup{settings_.common}), settings_.common},
      feed_{make_feed(io)} {
  events_ = history_ || cluster_ ? http_.hub().find_channel("events")
                                 : sse::channel{http_.open_channel("events", stream_options())};
  if (!events_) throw std::bad_alloc{};
  desk_.emplace(http_.hub(), events_,
                sse::watch_names{.expand = [](const std::string& symbol, auto& keys) {
                  keys.push_back(symbol);
                  keys.push_back(symbol + "/book");
                }});
  http_.hub().on_gap([](const sse::gap_notice& g) {
    examples::log_line("gap: a reader asked for what follows " + std::to_string(g.requested) +
                       ", the first that it can get is " + std::to_string(g.first) +
                       (g.lost_known ? ", lost " + std::to_string(g.lost) : ""));
  });
  http_.hub().on_closed([this](sse::session_id id, const reader&, sse::close_reason why) {
    beats_.remove(id);
    desk_->closed(id);
    if (why != sse::close_reason::peer && why != sse::close_reason::drain)
      examples::log_line("a stream was closed: " + std::string{to_string(why)});
  });
  http_.hub().on_opened([this](sse::session_id id, const reader& r) {
    if (r.beats) beats_.add(id);
    desk_->opened(id);
    if (waiting_ != nullptr && http_.hub().sessions() >= settings_.wait_readers)
      std::exchange(waiting_, nullptr)->play();
  });
  add_routes();
}

sse::server_options server::http_options(const examples::server_setup& setup) {
  examples::open_history(history_, settings_.history,
                         {.channel = [this](std::string_view) { return stream_options(); }});
  examples::cluster_options c = settings_.cluster;
  c.hub = "gateway";
  c.channels = {"events"};
  c.channel = [this](std::string_view) { return stream_options(); };
  cluster_.open(std::move(c));
  sse::server_options o = setup.options;
  o.cors.methods = "GET,POST,OPTIONS";
  o.cors.on_every_answer = true;
  o.hub.position = history_ || cluster_;  // V-17: nothing but keep-alives while it is idle
  o.head.keep_alive = true;               // V-03
  o.head.content_type = "text/event-stream; charset=utf-8";
  o.shards = history_ ? &history_.order() : cluster_ ? &cluster_.order() : nullptr;
  return o;
}

sse::channel_options server::stream_options() const {
  sse::channel_options o = examples::channel_options_of(settings_.common);
  o.max_keys = 20'000;
  o.max_selected = 2'000;
  o.own_sequence = settings_.history.directory.empty() && settings_.cluster.servers.empty();
  return o;
}

std::unique_ptr<feed> server::make_feed(asio::io_context& io) {
  feed_host host{
      .on_line = [this](std::string_view line) { on_line(line); },
      .log = [](std::string_view text) { examples::log_line(text); },
      .too_long = [this](std::size_t lines) { note_unreadable(lines); },
      .readers_are_behind =
          [this] {
            if (history_ && history_.stats().waiting_bytes > std::size_t{1} << 20) return true;
            if (cluster_ && cluster_.waiting_bytes() > std::size_t{1} << 20) return true;
            const std::uint64_t lag = settings_.common.max_lag;
            return http_.hub().worst_lag(events_) > (lag == 0 ? std::uint64_t{1} << 20 : lag) / 2;
          },
  };
  if (!settings_.engine.empty())
    return std::make_unique<engine_feed>(io, std::move(host), settings_.engine);
  if (!settings_.replays) {
    simulator_options o;
    if (settings_.trades) o.trade_every_ns = 3'000'000'000;
    o.others = settings_.symbols - 1;
    return std::make_unique<simulator_feed>(io, std::move(host), std::move(o));
  }
  replay_options o = settings_.replay;
  if (settings_.common.max_lag != 0)  // a batch must not be what makes a reader lag
    o.batch = std::clamp<std::size_t>(settings_.common.max_lag / 1024, 1, o.batch);
  auto replay = std::make_unique<replay_feed>(io, std::move(host), std::move(o));
  waiting_ = replay.get();
  return replay;
}

std::string server::start() {
  if (settings_.history.follows) {
    history_.start();
    return {};
  }
  remember_orders();
  history_.start();
  if (cluster_) cluster_.start();
  const std::string wrong = feed_->start();
  if (wrong.empty() && waiting_ != nullptr && settings_.wait_readers == 0)
    std::exchange(waiting_, nullptr)->play();
  return wrong;
}

/// What the journal says of orders and the account; prices come again by themselves.
void server::remember_orders() {
  history_.read(0, sse::max_event_id + 1, [this](const sse::journal_event& e) {
    constexpr std::string_view data = "\ndata: ";  // one line of JSON each, as on_line wrote it
    const std::size_t at = e.bytes.find(data);
    if (at != e.bytes.npos && e.bytes.find("\nevent: market\n") == e.bytes.npos) {
      const std::string_view line = e.bytes.substr(at + data.size());
      (void)store_.consume(line.substr(0, line.find('\n')));
    }
    return true;
  });
}

void server::stop(std::function<void()> done) {
  feed_->stop([this, done = std::move(done)] {
    history_.stop();
    if (cluster_) cluster_.stop();
    done();
  });
}

void server::on_line(std::string_view line) {
  const std::uint64_t before = store_.unreadable();
  const auto event = store_.consume(line);
  if (!event) return note_unreadable(store_.unreadable() - before);
  const sse::event out{.type = event->type, .data = event->data};
  const sse::publish_options how{.key = event->key};
  const auto r = history_   ? history_.publish(0, out, how)
                 : cluster_ ? cluster_.publish(0, out, how)
                            : http_.publish(events_, out, how);
  if (!r && unpublished_log_.allow(steady_ns()))
    examples::log_line("an event was not published: " + std::string{to_string(r.error)} + " " +
                       (cluster_ ? cluster_.problem() : history_.problem()));
}

/// V-45: such a line is no event; but somebody has to hear of it.
void server::note_unreadable(std::uint64_t lines) {
  unreadable_ += lines;
  if (lines != 0 && unreadable_log_.allow(steady_ns()))
    examples::log_line(
        "a line of the engine could not be read: no JSON object with a type, not "
        "UTF-8, or longer than 1 MiB (" +
        std::to_string(unreadable_) + " so far)");
}

// --- the HTTP interface --------------------------------------------------------------------------

void server::add_routes() {
  examples::add_common_routes(
      http_,
      [this](sse::metrics_page& m) {
        m.sample("gateway_refused_lines_total", "counter", "Lines that were no event.",
                 store_.refused());
        m.sample("gateway_unreadable_lines_total", "counter",
                 "Lines that should have been events and could not be read.", unreadable_);
        if (history_) examples::add_history(m, history_);
        if (cluster_) cluster_.add_metrics(m);
      },
      {}, [this] { return health(); });
  examples::add_page(http_, page);
  http_.page("/watch", watch, {.content_security_policy = examples::page_policy});
  http_.stream("/api/stream", [this](const sse::request& r) { return open_stream(r); });

  // What tells of orders and money asks for the token, as the stream does.
  using request = const sse::request&;
  using view = std::string_view;
  const auto guarded = [this](auto answer) {
    return [this, answer](request r, view body) {
      return examples::has_token(r, settings_.common) ? answer(r, body) : examples::unauthorized();
    };
  };
  http_.post("/api/stream",
             guarded([this](request r, view body) { return desk_->change(r, body); }));
  http_.post("/api/order", guarded([this](request r, view body) { return place(r, body); }));
  http_.post("/api/cancel", guarded([this](request r, view body) { return cancel(r, body); }));
  http_.get("/api/orders", guarded([this](request, view) { return ok(store_.orders_json()); }));
  http_.get("/api/orders_state",
            guarded([this](request, view) { return ok(store_.orders_state_json()); }));
  http_.get("/api/order_state", guarded([this](request r, view) { return order_state(r); }));
  http_.get("/api/account", guarded([this](request, view) { return ok(store_.account_json()); }));
  http_.get("/api/market", [this](request r) { return market(r); });
  http_.get("/api/symbols", [this](request) { return ok(store_.symbols_json()); });
  http_.get("/api/config", [this](request) { return ok(config()); });
}

/// All events; or with `symbols` the newest prices and books of those, and everything else.
sse::verdict<reader> server::open_stream(const sse::request& r) {
  if (!examples::has_token(r, settings_.common)) return examples::unauthorized();
  auto asked = desk_->read(r);
  if (asked.bad()) return asked.refusal();
  auto v =
      sse::admit(reader{examples::asks_for_beats(r)}, settings_.common.token.empty() ? "" : "token")
          .join(events_, asked.options());
  // Prices have no ids: without one from the start a reconnect would miss orders.
  return asked.watches() ? std::move(v).position(true) : std::move(v);
}

sse::response server::health() const {
  return history_ ? examples::health_of(history_) : cluster_ ? cluster_.health() : ok();
}

sse::response server::place(const sse::request& r, std::string_view body) {
  auto [wrong, order] = read_order(r.header_value("Content-Type"), body);
  if (wrong != request_error::none) return error(400, to_string(wrong));
  if (!feed_->ready()) return error(500, "execution_unavailable");
  if (order.client_order_id.empty()) order.client_order_id = ids_.next(wall_ns());
  store_.placed(order);
  feed_->send(to_line(order));
  return accepted(order.client_order_id);
}

sse::response server::cancel(const sse::request& r, std::string_view body) {
  const auto [wrong, order] = read_cancel(r.header_value("Content-Type"), body);
  if (wrong != request_error::none) return error(400, to_string(wrong));
  if (!feed_->ready()) return error(500, "execution_unavailable");
  feed_->send(to_line(order));
  return accepted(order.client_order_id);
}

sse::response server::order_state(const sse::request& r) const {
  std::string id;
  if (sse::query_value(r.query, "client_order_id", id) != sse::lookup::found || id.empty())
    return bad_params();
  auto state = store_.order_state_json(id);
  return state ? ok(*std::move(state)) : error(404, "not_found");
}

sse::response server::market(const sse::request& r) const {
  std::string symbol;
  const auto found = sse::query_value(r.query, "symbol", symbol);
  if (found == sse::lookup::malformed) return bad_params();
  if (found == sse::lookup::absent) return ok(store_.market_json());
  auto answer = store_.market_json(symbol);
  return answer ? ok(*std::move(answer)) : error(404, "not_found");
}

std::string server::config() const {
  const examples::common_options& o = settings_.common;
  const auto seconds = [](sse::duration d) { return static_cast<double>(d.ms()) / 1000; };
  std::string out = R"({"version":")" SSEHUB_VERSION R"(","source":")";
  out += !settings_.engine.empty() ? "engine" : settings_.replays ? "replay" : "simulator";
  out += R"(","heartbeat":)";
  examples::append_json_number(out, seconds(o.heartbeat));
  out += R"(,"keep":)" + std::to_string(o.keep) + R"(,"keep_age":)";
  examples::append_json_number(out, seconds(o.keep_age));
  out += R"(,"max_lag":)" + std::to_string(o.max_lag) + R"(,"lag_policy":")";
  out.append(examples::to_string(o.lag_policy)).append(R"(","token":)");
  out += o.token.empty() ? "false" : "true";
  out += R"(,"unreadable_lines":)" + std::to_string(unreadable_);
  if (history_) {
    out += "," + examples::history_json(history_);
  }
  if (cluster_) out += "," + cluster_.json();
  return out + "}";
}

}  // namespace gateway
