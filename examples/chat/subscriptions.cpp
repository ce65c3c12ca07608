// ssehub example chat. SPDX-License-Identifier: MIT
#include "subscriptions.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include <sse/detail/http/characters.hpp>
#include <sse/encode.hpp>

#include "common/answers.hpp"
#include "common/body.hpp"
#include "common/json.hpp"

namespace chat {
namespace {

/// `{"data":{"<key>":<value>}}`
std::string result_json(std::string_view key, std::string_view value) {
  std::string out = R"({"data":{)";
  examples::append_json_string(out, key);
  return out.append(":").append(value).append("}}");
}

bool asks_for_stream(const sse::request& r) {
  return r.header_value("Accept").find("text/event-stream") != std::string_view::npos;
}

/// One result, and the end. The protocol wants errors in a stream as well, where a stream was asked
/// for: the body of a refusal does not reach the user of an EventSource.
sse::response one_result(const sse::request& r, std::string_view json) {
  if (!sse::accepts_event_stream(r)) return examples::ok(std::string{json});
  sse::response out;
  out.add("Content-Type", "text/event-stream").add("Cache-Control", "no-cache");
  out.body.append("event: next\ndata: ").append(json).append("\n\nevent: complete\ndata: \n\n");
  return out;
}

sse::response errors(const sse::request& r, std::string_view message, graphql::place at = {}) {
  const std::string json = graphql::errors_json(message, at);
  return asks_for_stream(r) ? one_result(r, json) : sse::response::json(400, json);
}

/// A request that is none of GraphQL: refused also where a stream was asked for.
sse::response bad_request(std::string_view message) {
  return sse::response::json(400, graphql::errors_json(message));
}

}  // namespace

sse::channel_options subscriptions::channel_options() const {
  sse::channel_options o = channel_options_of(settings_);
  if (settings_.history.directory.empty() && settings_.cluster.servers.empty()) return o;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  o.own_sequence = true;
  o.first_id = static_cast<sse::event_id>(
      std::chrono::duration_cast<std::chrono::microseconds>(now).count());
  return o;
}

sse::response subscriptions::add(const sse::request& r, std::string_view body) {
  examples::body_fields f;
  if (auto wrong = f.read(r, body)) return *std::move(wrong);
  const std::string name = f.required("name");
  std::string initial = f.value("initial");
  if (f.wrong() || !graphql::is_name(name) || name.starts_with("__")) return examples::bad_params();
  if (initial.size() > max_initial) return examples::error(413, "initial_too_large");
  const bool there = all_.find(name) != all_.end();
  if (!there) {
    if (all_.size() == max_subscriptions) return examples::error(409, "too_many_subscriptions");
    const std::string path = "/graphql/subscription/" + name;
    const sse::channel c = http_->open_channel(path, channel_options());
    if (!c) return examples::error(503, "no_memory");
    http_->stream(path, c);
    const std::string publish_path = "/graphql/subscriptions/" + name;
    http_->post(publish_path, [this, name](const sse::request& q, std::string_view text) {
      return publish(name, q, text);
    });
    http_->del(publish_path, [this, name](const sse::request&) {
      const std::string which = name;  // this handler goes
      remove(which);
      return examples::ok();
    });
    all_[name].texts = c;
  }
  if (!initial.empty()) all_[name].initial = std::move(initial);
  return sse::response::json(
      there ? 200 : 201,
      R"({"ok":true,"name":")" + name + R"(","path":"/graphql/subscription/)" + name + R"("})");
}

bool subscriptions::remove(std::string_view name) {
  const auto at = all_.find(name);
  if (at == all_.end()) return false;
  const subscription gone = std::move(at->second);
  http_->remove("/graphql/subscriptions/" + std::string{name});
  all_.erase(at);
  for (const auto& [key, c] : gone.results) {
    (void)http_->publish(c, {.type = "complete"}, {.transient = true});
  }
  (void)http_->hub().flush();  // what a connection takes at once; the others see their stream end
  for (const auto& [key, c] : gone.results) http_->close_channel(c);
  http_->close_channel(gone.texts);
  return true;
}

sse::response subscriptions::publish(std::string_view name, const sse::request& r,
                                     std::string_view body) {
  const auto at = all_.find(name);
  if (at == all_.end()) return examples::error(404, "not_found");
  if (body.empty() || !sse::detail::text::is_utf8(body)) return examples::bad_params();
  examples::json_document doc;
  const bool is_json = doc.parse(body) != examples::json_result::malformed;
  if (!is_json && examples::says_json(r)) return examples::bad_json();
  std::string value;
  if (is_json) {
    examples::append_json_compact(value, body);
  } else {
    examples::append_json_string(value, body);
  }
  // All or none: with room for ids, types and the longest key, it must fit everywhere.
  constexpr std::size_t room = 1024;
  const sse::encode_limits limits{.event = max_event - room};
  if (sse::validate({.data = body}, limits) != sse::encode_error::none ||
      sse::validate({.data = value}, limits) != sse::encode_error::none) {
    return examples::error(413, "content_too_large");
  }
  subscription& s = at->second;
  (void)http_->publish(s.texts, {.data = body});
  for (const auto& [key, c] : s.results) {
    (void)http_->publish(c, {.type = "next", .data = result_json(key, value)});
  }
  s.latest = std::move(value);
  return examples::ok();
}

std::string subscriptions::json() const {
  std::string out = R"({"items":[)";
  for (const auto& [name, s] : all_) {
    std::size_t n = s.texts.subscribers();
    for (const auto& [key, c] : s.results) n += c.subscribers();
    out += out.back() == '[' ? R"({"name":")" : R"(,{"name":")";
    out += name + R"(","connections":)" + std::to_string(n) + "}";
  }
  return out + "]}";
}

// --- operations ----------------------------------------------------------------------------------

sse::verdict<reader> subscriptions::post(const sse::request& r, std::string_view body) {
  examples::json_document doc;
  switch (doc.parse(body)) {
    case examples::json_result::malformed:
      return sse::response::text(400, "Invalid JSON in the request body\n");
    case examples::json_result::other: return bad_request("The body must be a JSON object");
    case examples::json_result::object: break;
  }
  const auto document = doc.string("query");
  const auto name = doc.string("operationName");
  if (!document) return bad_request("Missing query");
  if (!name && doc.has("operationName")) return bad_request("Invalid operationName");
  for (const char* object : {"variables", "extensions"}) {
    if (doc.has(object) && !doc.enter(object)) return bad_request("Invalid " + std::string{object});
    doc.leave();
  }
  return run(r, *document, name.value_or(std::string_view{}));
}

sse::verdict<reader> subscriptions::get(const sse::request& r) {
  std::string document;
  std::string name;
  std::string variables;
  if (sse::query_value(r.query, "query", document) != sse::lookup::found)
    return bad_request("Missing query");
  if (sse::query_value(r.query, "operationName", name) == sse::lookup::malformed)
    return bad_request("Invalid operationName");
  examples::json_document doc;
  if (sse::query_value(r.query, "variables", variables) != sse::lookup::absent &&
      doc.parse(variables) != examples::json_result::object) {
    return bad_request("Invalid variables");
  }
  return run(r, document, name);
}

sse::verdict<reader> subscriptions::run(const sse::request& r, std::string_view document,
                                        std::string_view operation_name) {
  const graphql::read_result read = graphql::read(document, operation_name);
  if (!read.error.empty()) return errors(r, read.error, read.at);
  if (const std::string wrong = problem_with(read.op); !wrong.empty()) return errors(r, wrong);
  if (read.op.kind == graphql::operation_kind::subscription) return subscribe(r, read.op);
  return query(r, read.op);
}

std::string subscriptions::problem_with(const graphql::operation& op) const {
  using graphql::operation_kind;
  if (op.kind == operation_kind::mutation) return "Schema is not configured for mutations.";
  const bool subscribes = op.kind == operation_kind::subscription;
  if (subscribes && op.fields.size() != 1) {
    return (op.name.empty() ? "Anonymous Subscription" : "Subscription \"" + op.name + "\"") +
           " must select only one top level field.";
  }
  for (const graphql::field& f : op.fields) {
    if (f.name == "__typename" && !subscribes && !f.has_selection) continue;
    if (all_.find(f.name) == all_.end()) {
      return "Cannot query field \"" + f.name + "\" on type \"" +
             (subscribes ? "Subscription" : "Query") + "\".";
    }
    if (f.has_selection) {
      return "Field \"" + f.name +
             "\" must not have a selection since type \"JSON\" has no subfields.";
    }
  }
  return {};
}

sse::response subscriptions::query(const sse::request& r, const graphql::operation& op) const {
  std::string out = R"({"data":{)";
  for (const graphql::field& f : op.fields) {
    if (out.back() != '{') out += ',';
    examples::append_json_string(out, f.key);
    out += ':';
    if (f.name == "__typename") {
      out += R"("Query")";
      continue;
    }
    const subscription& s = all_.find(f.name)->second;
    out += !s.latest.empty() ? s.latest : !s.initial.empty() ? s.initial : "null";
    if (out.size() > 2 * max_event) return errors(r, "The answer is too large");
  }
  return one_result(r, out + "}}");
}

sse::verdict<reader> subscriptions::subscribe(const sse::request& r, const graphql::operation& op) {
  const graphql::field& f = op.fields.front();
  subscription& s = all_.find(f.name)->second;
  auto at = s.results.find(f.key);
  if (at == s.results.end()) {
    tidy();
    const std::string name = "graphql " + f.name + " " + f.key;  // no path has this form
    const sse::channel c = http_->open_channel(name, channel_options());
    if (!c) return examples::error(503, "no_memory");
    at = s.results.emplace(f.key, c).first;
  }
  reader who{.stream = std::string{endpoint}};
  // Whoever comes back knows it already, and gets what followed.
  if (!s.initial.empty() && sse::resume_from(r).state == sse::resume_point::kind::absent)
    who.opening = result_json(f.key, s.initial);
  return sse::verdict<reader>{std::move(who), std::string{}}.join(at->second).position(false);
}

void subscriptions::tidy() {
  for (auto& [name, s] : all_) {
    for (auto at = s.results.begin(); at != s.results.end();) {
      if (at->first == name || at->second.subscribers() != 0) {
        ++at;
        continue;
      }
      http_->close_channel(at->second);
      at = s.results.erase(at);
    }
  }
}

}  // namespace chat
