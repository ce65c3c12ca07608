// ssehub example logs. SPDX-License-Identifier: MIT
#include "server.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <new>
#include <utility>

#include <fmt/format.h>

#include "common/clock.hpp"
#include "common/json.hpp"
#include "common/process_meter.hpp"
#include "common/text.hpp"
#include "logs_home.hpp"
#include "logs_viewer.hpp"

namespace logs {
namespace {

using examples::bad_params;
using examples::ok;

sse::time_point now() { return std::chrono::steady_clock::now(); }

sse::server_options http_options(const examples::server_setup& setup, const settings& s) {
  sse::server_options o = setup.options;
  o.hub.idle = s.idle;
  o.hub.write_deadline = s.write_timeout;
  o.cors.methods = "GET, POST, PUT, DELETE, OPTIONS";
  o.cors.on_every_answer = true;
  o.preflight_status = 200;
  if (!s.common.token.empty()) std::erase(o.any_origin, "/logs/");
  o.head.keep_alive = true;  // E-04, F-02
  return o;
}

/// Whether a request brought the token: its path asks for it, and it was not refused.
bool is_admitted(const sse::access_record& r) {
  const bool guarded = r.target.starts_with("/logs/") || r.target.starts_with("/api/") ||
                       r.target.starts_with("/metrics") ||
                       (r.method == "POST" && r.target.starts_with("/deployments"));
  return guarded && r.status < 400 && r.method != "OPTIONS";
}

/// What is under /logs/ and /deployments/.
std::string_view behind(std::string_view prefix, const sse::request& r) {
  return r.path.substr(prefix.size());
}

sse::response html(std::string body) {
  sse::response r{.body = std::move(body)};
  r.add("Content-Type", "text/html; charset=utf-8").add("Cache-Control", "no-cache");
  r.add("Content-Security-Policy", examples::page_policy);
  return r;
}

}  // namespace

server::server(asio::io_context& io, settings s)
    : settings_{std::move(s)},
      beats_{io, http_, settings_.common.heartbeat},
      http_{io, http_options(examples::server_setup{settings_.common}, settings_),
            settings_.common},
      deployments_{io, settings_.data},
      tails_{io,
             http_,
             {.in = {settings_.data, settings_.follow_links},
              .text = settings_.text,
              .channel = [this] { return examples::channel_options_of(settings_.common); },
              .poll = settings_.poll}},
      began_{now()} {
  entries_ = http_.open_channel(
      "entries", entry_channel(examples::channel_options_of(settings_.common), [this] {
        return heartbeat_json(examples::clock_text(std::time(nullptr)), agents_.online(now()));
      }));
  chats_ = http_.open_channel("chat", {.keep = 0, .own_sequence = true});
  if (!entries_ || !chats_) throw std::bad_alloc{};
  http_.hub().on_opened([this](sse::session_id session, const reader& who) {
    if (who.beats) beats_.add(session);
    if (who.what == reader::kind::tail) tails_.greet(session, who);
    if (who.what == reader::kind::chat) reply(session, who);
  });
  http_.hub().on_closed([this](sse::session_id session, const reader&, sse::close_reason why) {
    beats_.remove(session);
    if (why != sse::close_reason::peer && why != sse::close_reason::drain &&
        why != sse::close_reason::finished)
      examples::log_line("a stream was closed: " + std::string{to_string(why)});
  });
  examples::add_common_routes(
      http_,
      [this](sse::metrics_page& page) {
        page.sample("logs_followed", "gauge", "Log files that are followed.", tails_.followed());
      },
      [this](const sse::request& r) { return examples::has_token(r, settings_.common); });
  http_.on_access([this](const sse::access_record& r) { on_access(r); });
  http_.error_page([](const sse::refused_request& r) {  // E-23, E-24: plain text
    if (r.why != sse::refusal_reason::http) return sse::refusal_response(r);
    return sse::response::text(r.status, std::string{sse::reason_phrase(r.status)} + "\n");
  });
  add_streams();
  add_answers();
  add_pages();
}

std::string server::start() {
  if (::mkdir(settings_.data.c_str(), 0755) != 0 && errno != EEXIST)
    return "cannot make " + settings_.data + ": " + std::strerror(errno);
  struct stat s {};
  if (::stat(settings_.data.c_str(), &s) != 0 || !S_ISDIR(s.st_mode))
    return settings_.data + " is no directory";
  if (::access(settings_.data.c_str(), R_OK | X_OK) != 0)
    return "cannot read " + settings_.data + ": " + std::strerror(errno);
  return {};
}

void server::say(std::string_view level, std::string_view component, std::string_view message) {
  const std::string data =
      to_json(examples::clock_text(std::time(nullptr)), level, component, message);
  const auto r = http_.publish(entries_, {.data = data});
  if (!r) examples::log_line("an entry was not published: " + std::string{to_string(r.error)});
}

/// Every request is an entry, but for those about entries: an agent that sends or reads them must
/// not make more of them by that. Where a token is asked for, strangers write nothing.
void server::on_access(const sse::access_record& r) {
  examples::log_access(r);
  if (r.target.starts_with("/api/logs") || (!settings_.common.token.empty() && !is_admitted(r)))
    return;
  say(r.status >= 500   ? "error"
      : r.status >= 400 ? "warn"
                        : "info",
      "api",
      fmt::format("{} {} in {:.1f} ms",
                  r.method.empty() ? "unreadable request"
                                   : std::string{r.method} + " " + std::string{r.target},
                  r.status, static_cast<double>(r.microseconds) / 1000));
}

// --- streams -------------------------------------------------------------------------------------

void server::add_streams() {
  const auto guarded = [this](auto f) {
    return [this, f](const sse::request& r) -> sse::verdict<reader> {
      if (!examples::has_token(r, settings_.common)) return examples::unauthorized();
      sse::verdict<reader> v = f(r);
      v.user().beats = examples::asks_for_beats(r);
      return v;
    };
  };
  http_.stream("/api/logs/stream", guarded([this](const sse::request& r) -> sse::verdict<reader> {
                 std::string text;
                 const auto found = sse::query_value(r.query, "backlog", text);
                 const auto n = examples::parse_count(text, 0, UINT64_MAX);
                 if (found == sse::lookup::malformed || (found == sse::lookup::found && !n))
                   return bad_params();
                 return sse::verdict<reader>{reader{}, {}}.join(entries_).backlog(n.value_or(0));
               }));
  http_.stream_prefix("/logs/", guarded([this](const sse::request& r) {
                        return tails_.join(behind("/logs/", r), r);
                      }));
  http_.stream("/api/chat/stream", guarded([this](const sse::request& r) { return chat(r); }));
}

/// One question, one answer, the end. A browser that comes back for more is told to stop: it
/// brings the id of the last event.
sse::verdict<reader> server::chat(const sse::request& r) {
  if (r.find("Last-Event-ID") != nullptr) return sse::refuse(204);
  std::string agent;
  std::string message;
  if (sse::query_value(r.query, "agent_id", agent) != sse::lookup::found || agent.empty() ||
      sse::query_value(r.query, "message", message) != sse::lookup::found || message.empty())
    return bad_params();
  if (agents_.find(now(), agent) == nullptr) return examples::error(404, "unknown_agent");
  // A key of its own, so that nobody else sees the answer.
  return sse::verdict<reader>{reader{.what = reader::kind::chat, .agent = std::move(agent)},
                              "chat-" + std::to_string(++chat_number_)}
      .join(chats_);
}

/// There is no model here: what the agent logged last is all that it has to say.
void server::reply(sse::session_id session, const reader& who) {
  const std::string key = "chat-" + std::to_string(chat_number_);
  const agents::seen* const agent = agents_.find(now(), who.agent);
  const auto tell = [&](std::string_view type, std::string_view content) {
    std::string data = R"({"type":")" + std::string{type} + R"(","agent_id":)";
    examples::append_json_string(data, who.agent);
    if (!content.empty()) {
      data += R"(,"content":)";
      examples::append_json_string(data, content);
    }
    (void)http_.publish(chats_, {.data = data + "}"}, {.audience = key});
  };
  tell("thinking", {});
  tell("response", agent == nullptr ? "gone offline"
                                    : fmt::format("{} entries so far, the last: {}", agent->entries,
                                                  agent->last));
  tell("done", {});
  http_.hub().finish(session);
}

// --- answers -------------------------------------------------------------------------------------

void server::add_answers() {
  using request = const sse::request&;
  using view = std::string_view;
  const auto guarded = [this](auto f) {
    return [this, f](request r, view body) {
      return examples::has_token(r, settings_.common) ? f(r, body) : examples::unauthorized();
    };
  };
  http_.post("/api/logs", guarded([this](request, view body) { return post_entry(body); }));
  http_.post("/deployments", guarded([this](request, view) { return deploy(); }));
  http_.get("/api/deployments", guarded([this](request, view) { return ok(list_json()); }));
  http_.get_prefix("/download/", guarded([this](request r, view) { return download(r); }));
  http_.get("/api/status", guarded([this](request, view) { return status(); }));
}

sse::response server::post_entry(std::string_view body) {
  const auto e = read_entry(body);
  if (!e) return bad_params();
  agents_.heard(now(), *e);
  say(e->level, e->component, e->message);
  return sse::response::json(202, R"({"ok":true})");
}

sse::response server::deploy() {
  if (deployments_.running() >= deployments::most)
    return sse::response::text(429, "too many deployments run\n").add("Retry-After", "10");
  const std::string id = deployments_.start();
  if (id.empty()) return sse::response::text(500, "the log cannot be written\n");
  say("info", "orchestrator", "deployment " + id + " started");
  return sse::response{.status = 303}.add("Location", "/deployments/" + id);
}

/// The end of a file as it is, the whole of it unless it is large: a turn does so much and no more.
sse::response server::download(const sse::request& r) {
  constexpr std::uint64_t most = std::uint64_t{16} << 20;
  const std::string_view id = behind("/download/", r);
  if (!is_log_id(id)) return sse::response::text(404, "not found\n");
  const folder in{settings_.data, settings_.follow_links};
  const file f = file::open(in.file(file_name_of(id)), in.follow_links);
  if (!f) return refusal_of(f.error() == ENOENT ? 0 : f.error());
  const std::uint64_t size = f.size();
  std::string body(static_cast<std::size_t>(std::min(size, most)), '\0');
  body.resize(f.read_at(body, size - body.size()));
  if (size > most) body.erase(0, body.find('\n') + 1);
  sse::response out{.body = std::move(body)};
  return out.add("Content-Type", "text/plain; charset=utf-8").add("Cache-Control", "no-store");
}

sse::response server::status() {
  const sse::hub_stats s = http_.hub().stats();
  std::string out = R"({"version":")" SSEHUB_VERSION R"(","uptime":)";
  out += std::to_string((now() - began_).ms() / 1000);
  out += R"(,"agents":)" + std::to_string(agents_.online(now()));
  out += R"(,"models":0,"memory":)" + std::to_string(examples::resident_memory());
  out += R"(,"total_cost":0,"streams":)" + std::to_string(s.sessions);
  return ok(out + R"(,"logs_followed":)" + std::to_string(tails_.followed()) + "}");
}

std::string server::list_json() const {
  std::string out = R"({"items":[)";
  for (const log_name& log : list_logs({settings_.data, settings_.follow_links})) {
    if (out.back() != '[') out += ',';
    out += R"({"id":)";
    examples::append_json_string(out, log.id);
    out += fmt::format(R"(,"size":{},"modified":{}}})", log.size, log.modified_ns / 1'000'000);
  }
  return out + "]}";
}

// --- pages ---------------------------------------------------------------------------------------

void server::add_pages() {
  examples::add_page_files(http_);
  http_.get("/", [this](const sse::request& r) { return index(r); });
  http_.get_prefix("/deployments/", [this](const sse::request& r) {
    const std::string_view id = behind("/deployments/", r);
    // Without the token it is the same page whether there is such a log or not.
    if (examples::has_token(r, settings_.common) ? !tails_.known(id) : !is_log_id(id))
      return sse::response::text(404, "not found\n");
    std::string page =
        examples::replaced(viewer, "{{stream}}", "/logs/" + examples::path_escaped(id));
    page = examples::replaced(page, "{{download}}", "/download/" + examples::path_escaped(id));
    return html(examples::replaced(page, "{{name}}", examples::html_escaped(id)));
  });
}

/// The list is in the page, for those without scripts too; the script keeps it fresh.
sse::response server::index(const sse::request& r) const {
  std::string list;
  if (examples::has_token(r, settings_.common)) {
    for (const log_name& log : list_logs({settings_.data, settings_.follow_links})) {
      list += fmt::format(
          R"(<li data-size="{}" data-modified="{}"><a href="/deployments/{}">{}</a></li>)",
          log.size, log.modified_ns / 1'000'000, examples::path_escaped(log.id),
          examples::html_escaped(log.id));
      list += '\n';
    }
  }
  return html(examples::replaced(home, "{{list}}", list));
}

}  // namespace logs
