// ssehub example chat. SPDX-License-Identifier: MIT
#include "server.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <vector>

#include <asio/post.hpp>

#include "chat_page.hpp"
#include "common/answers.hpp"
#include "common/body.hpp"
#include "common/clock.hpp"
#include "common/history.hpp"
#include "common/json.hpp"

namespace chat {
namespace {

using examples::error;
using examples::ok;

using request = const sse::request&;
using view = std::string_view;

constexpr view chat_path = "/chat";
/// Of a filter, all together and in number: no connection's query has more.
constexpr std::size_t max_filter = 16 << 10;
constexpr std::size_t max_conditions = parameters::most;

/// The audience that a filter means: an object of plain values. False: it is something else.
bool read_filter(view json, std::string& audience) {
  examples::json_document doc;
  if (json.size() > max_filter || doc.parse(json) != examples::json_result::object) return false;
  const std::vector<view> keys = doc.keys();
  if (keys.size() > max_conditions) return false;  // each is looked for, here and at each reader
  for (const view key : keys) {
    if (const auto text = doc.string(key)) {
      if (!must_be(audience, key, *text)) return false;
      continue;
    }
    const std::string value = doc.raw(key).value_or("");  // as it stands there: 1.50 is not 1.5
    if (value.empty() || value == "null" || value.front() == '{' || value.front() == '[')
      return false;
    if (!must_be(audience, key, value)) return false;
  }
  return true;
}

/// A user in a room, who wants to know of the others; anything else is a plain reader of /chat.
bool is_in_chat(const reader& r) {
  return r.stream == chat_path && r.query.find("presence") && !r.query.get("room").empty() &&
         !r.query.get("user").empty();
}

}  // namespace

server::server(asio::io_context& io, const settings& s)
    : io_{io},
      common_{s.common},
      beats_{io, http_, s.common.heartbeat},
      http_{io, http_options(s, examples::server_setup{s.common}), s.common},
      streams_{http_, s, history_, cluster_},
      subscriptions_{http_, s},
      announce_{io} {
  must_have(in_chat_, "presence");
  examples::add_common_routes(
      http_,
      [this](sse::metrics_page& m) {
        if (history_) examples::add_history(m, history_);
        if (cluster_) cluster_.add_metrics(m);
      },
      {},
      [this] {
        return history_ ? examples::health_of(history_) : cluster_ ? cluster_.health() : ok();
      });
  examples::add_page(http_, page);
  for (const view path : {"/", "/style.css", "/live.js", "/health", "/metrics"})
    streams_.reserve(path);
  add_hooks();
  add_stream_routes();
  add_trigger_routes();
  add_graphql_routes();
  streams_.load();
  for (const view path :
       {"/events", "/notifications", "/chat", "/dashboard", "/data-feed", "/status"}) {
    const add_result r = streams_.add(path);
    if (r != add_result::added && r != add_result::there_already)
      throw std::runtime_error{s.history.directory + ": " + std::string{path} +
                               " cannot be added to the file of the streams"};
  }
  history_.start();
  if (cluster_) cluster_.start();
}

sse::server_options server::http_options(const settings& s, const examples::server_setup& setup) {
  examples::open_history(history_, s.history,
                         {.channels = {std::string{streams::channel_name}},
                          .channel = [s](view) { return channel_options_of(s); },
                          .lane_bytes = 4 * max_event,  // an event takes half of it at most
                          .limits = {.event = max_event}});
  examples::cluster_options c = s.cluster;
  c.hub = "chat";
  c.channels = {std::string{streams::channel_name}};
  c.channel = [s](view) { return channel_options_of(s); };
  c.lane_bytes = 4 * max_event;
  c.limits.event = max_event;
  cluster_.open(std::move(c));
  sse::server_options o = setup.options;
  o.cors.methods = "GET, POST, DELETE, OPTIONS";
  o.limits.body = max_body;
  o.shards = history_ ? &history_.order() : cluster_ ? &cluster_.order() : nullptr;
  return o;
}

server::~server() {
  // What its hooks use goes before the hub does.
  http_.hub().on_opened({});
  http_.hub().on_closed({});
  http_.on_access({});
}

// --- connections ---------------------------------------------------------------------------------

void server::add_hooks() {
  http_.on_access([this](const sse::access_record& r) {
    ++requests_;
    examples::log_access(r);
  });
  http_.hub().on_sees([this](const reader& r, view, view audience) {
    if (!cluster_ || audience.empty()) return sees(r.query, audience);
    if (audience != asked_) {
      asked_ = audience;
      meant_ = from_header(audience);
    }
    return sees(r.query, meant_);
  });
  http_.hub().on_opened([this](sse::session_id id, const reader& r) { came(id, r); });
  http_.hub().on_closed([this](sse::session_id id, const reader& r, sse::close_reason why) {
    beats_.remove(id);
    if (why != sse::close_reason::peer && why != sse::close_reason::drain)
      examples::log_line("a stream was closed: " + std::string{to_string(why)});
    went(id, r);
  });
  http_.hub().on_gap([](const sse::gap_notice& g) {
    examples::log_line("gap: a reader asked for what follows " + std::to_string(g.requested) +
                       ", the first that it can get is " + std::to_string(g.first) +
                       (g.lost_known ? ", lost " + std::to_string(g.lost) : ""));
  });
}

void server::came(sse::session_id id, const reader& r) {
  streams_.came(id, r.stream);
  if (!r.opening.empty()) (void)http_.hub().send(id, {.type = "next", .data = r.opening});
  if (r.query.get("beat") == "1") beats_.add(id);
  const view room = r.query.get("room");
  const view user = r.query.get("user");
  if (!is_in_chat(r)) return;
  if (presence_.enter(room, user)) announce_soon();
  (void)http_.hub().send(id, {.data = presence_.everybody()});
}

void server::went(sse::session_id id, const reader& r) {
  streams_.went(id, r.stream);
  if (subscriptions::leaves_something(r) && !std::exchange(tidy_soon_, true)) {
    asio::post(io_, [this] {
      tidy_soon_ = false;
      subscriptions_.tidy();
    });
  }
  const view room = r.query.get("room");
  const view user = r.query.get("user");
  if (is_in_chat(r) && presence_.leave(room, user)) announce_soon();
}

/// To everybody in the chat, in whatever room, what a moment brought. Not kept: who comes later
/// gets all of it anew.
void server::announce_soon() {
  if (std::exchange(announcing_, true)) return;
  announce_.expires_after(std::chrono::milliseconds{50});
  announce_.async_wait([this](const std::error_code& e) {
    announcing_ = false;
    if (e) return;
    const std::string changes = presence_.changes(examples::iso_time());
    if (!changes.empty())
      streams_.send(chat_path, changes, {.audience = in_chat_, .transient = true});
  });
}

// --- streams -------------------------------------------------------------------------------------

void server::add_stream_routes() {
  http_.get("/streams", [this](request) { return ok(streams_.json()); });
  http_.post("/streams", [this](request r, view body) { return add_stream(r, body); });
  http_.del("/streams", [this](request r) { return remove_stream(r); });
  http_.post("/send", [this](request r, view body) { return send(r, body); });
  for (const view path : {"/streams", "/send"}) streams_.reserve(path);
}

sse::response server::add_stream(request r, view body) {
  examples::body_fields f;
  if (auto wrong = f.read(r, body)) return *std::move(wrong);
  const std::string path = f.required("path");
  if (f.wrong()) return examples::bad_params();
  const add_result result = streams_.add(path);
  switch (result) {
    case add_result::bad_path: return error(400, "bad_path");
    case add_result::reserved: return error(409, "reserved");
    case add_result::full: return error(409, "too_many_streams");
    case add_result::not_stored: return error(503, "not_stored");
    case add_result::added:
    case add_result::there_already: break;
  }
  std::string out = R"({"ok":true,"path":)";
  examples::append_json_string(out, path);
  return sse::response::json(result == add_result::added ? 201 : 200, out + "}");
}

sse::response server::remove_stream(request r) {
  std::string path;
  if (sse::query_value(r.query, "path", path) != sse::lookup::found || path.empty())
    return examples::bad_params();
  if (!streams_.remove(path)) return error(404, "not_found");
  return ok();
}

sse::response server::send(request r, view body) {
  examples::body_fields f;
  if (auto wrong = f.read(r, body)) return *std::move(wrong);
  if (!f.is_json()) return examples::bad_json();
  const std::string data = f.value("data");
  const auto path = f.optional("path");
  if (f.wrong() || !data.starts_with('{')) return examples::bad_params();
  std::string audience;
  if (f.json().has("filter") && !read_filter(f.value("filter"), audience))
    return examples::bad_params();
  if (path && !streams_.has(*path)) return error(404, "not_found");
  const std::size_t n = !path ? streams_.send_to_all(data, audience)
                              : streams_.send(*path, data, {.audience = audience});
  if (streams_.take_refused()) return error(503, "not_stored");
  return ok(R"({"ok":true,"streams":)" + std::to_string(n) + "}");
}

// --- triggers ------------------------------------------------------------------------------------

template <class Trigger>
sse::response server::pull(const char* done, Trigger trigger) {
  const std::string time = examples::iso_time();
  try {
    trigger_events out;
    if (refusal wrong = trigger(time, out)) return *std::move(wrong);
    for (const trigger_event& e : out) {
      streams_.send_to_all(e.json, e.audience);
      if (!e.hint.empty())
        streams_.send(chat_path, e.hint, {.audience = in_chat_, .transient = true});
    }
    if (streams_.take_refused()) return sse::response::text(503, "Not stored");
    return sse::response::text(200, done);
  } catch (const std::exception& e) {
    examples::log_line("error: a trigger failed: " + std::string{e.what()});
    streams_.send_to_all(error_event(time));
    return sse::response::text(500, "Error occurred");
  }
}

void server::add_trigger_routes() {
  const auto post = [this](view path, const char* done, auto trigger) {
    streams_.reserve(path);
    http_.post(path, [this, done, trigger](request r, view body) {
      return pull(done,
                  [&](view time, trigger_events& out) { return trigger(r, body, time, out); });
    });
  };
  post("/trigger", "Event sent",
       [](request r, view, view time, trigger_events& out) { return plain_event(r, time, out); });
  post("/send-alert", "Alert sent", &send_alert);
  post("/webhook/github", "Webhook processed", &github_webhook);
  post("/user-action", "Action processed", &user_action);
  post("/update-metrics", "Metrics updated",
       [this](request, view, view time, trigger_events& out) -> refusal {
         out.push_back({metrics_event(requests_, time), {}, {}});
         return std::nullopt;
       });
  post("/chat/send", "Message sent", &send_chat);
  streams_.reserve("/chat/typing");
  http_.post("/chat/typing", [this](request r, view body) {
    trigger_events out;
    if (refusal wrong = send_typing(r, body, examples::iso_time(), out)) return *std::move(wrong);
    streams_.send(chat_path, out.front().json,
                  {.audience = out.front().audience, .transient = true});
    return sse::response::text(200, "Typing sent");
  });
  streams_.reserve("/broadcast-data");
  http_.get("/broadcast-data", [this](request r) {
    if (r.method == "HEAD") return sse::response::text(200, "Data broadcasted");
    if (!examples::may_change(r, common_)) return error(403, "forbidden");
    return pull("Data broadcasted",
                [&](view time, trigger_events& out) { return broadcast_data(r, time, out); });
  });
}

// --- GraphQL -------------------------------------------------------------------------------------

void server::add_graphql_routes() {
  http_.get("/graphql/subscriptions", [this](request) { return ok(subscriptions_.json()); });
  http_.post("/graphql/subscriptions",
             [this](request r, view body) { return subscriptions_.add(r, body); });
  http_.stream_post("/graphql/sse",
                    [this](request r, view body) { return subscriptions_.post(r, body); });
  http_.stream("/graphql/sse", [this](request r) { return subscriptions_.get(r); });
}

}  // namespace chat
