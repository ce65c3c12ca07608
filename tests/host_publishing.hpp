// An event leaves at once, whichever way it was published, whatever the host.
#pragma once

#include <string>

#include "catch.hpp"
#include "http_client.hpp"

namespace test {

/// `Server`: test::server<> or a test::loop_server. Nothing else is sent, so that what waits for a
/// heartbeat never comes.
template <class Server>
void every_way_to_publish_is_prompt() {
  Server s;
  sse::channel ticks = s.open("ticks", {.heartbeat = {.mode = sse::heartbeat_options::pace::off}});
  sse::session_id opened{};
  s.on_loop([&] {
    s->hub().on_opened([&](sse::session_id o, const sse::no_user&) { opened = o; });
    s->stream("/events", [&](const sse::request&) { return sse::admit("user").join(ticks); });
  });
  client c{s.port()};
  REQUIRE(c.open("/events").status == 200);
  const sse::session_id id = s.on_loop([&] { return opened; });
  REQUIRE(id);

  s.on_loop([&] { REQUIRE(ticks.publish({.data = "by the channel"})); });
  CHECK(c.data() == "by the channel");
  s.on_loop([&] { REQUIRE(s->hub().publish(ticks, {.data = "by the hub"})); });
  CHECK(c.data() == "by the hub");
  s.on_loop([&] { REQUIRE(s->hub().publish_all({.data = "to all"}) == 1); });
  CHECK(c.data() == "to all");
  s.on_loop([&] { REQUIRE(ticks.publish({.data = "once"}, {.transient = true})); });
  CHECK(c.data() == "once");
  s.on_loop([&] { REQUIRE(ticks.publish({.data = "for one"}, {.audience = "user"})); });
  CHECK(c.data() == "for one");
  s.on_loop(
      [&] { REQUIRE(s->hub().send(id, {.data = "to a stream"}) == sse::publish_error::none); });
  CHECK(c.data() == "to a stream");
  s.on_loop([&] { REQUIRE(s->hub().send_user("user", {.data = "to a user"}) == 1); });
  CHECK(c.data() == "to a user");
  s.on_loop([&] { s->hub().finish(id); });
  CHECK(c.rest().empty());
}

/// Sealed by another thread, through the mailbox; in chunks or not.
template <class Server>
void a_sealed_stream_ends(bool chunked) {
  Server s{{.chunked = chunked}};
  sse::channel job = s.open("job", {.start = sse::start_at::all,
                                    .heartbeat = {.mode = sse::heartbeat_options::pace::off}});
  s.on_loop([&] { s->stream("/job", job); });
  client live{s.port()};
  REQUIRE(live.open("/job").status == 200);
  const sse::event_id first = s.on_loop([&] { return job.last_id(); }) + 1;
  sse::publisher worker = s.on_loop([&] { return s->make_publisher(job); });
  REQUIRE(worker.try_publish("one") == sse::publish_error::none);
  REQUIRE(worker.try_publish({.data = "[DONE]"}, {.last = true}) == sse::publish_error::none);
  const std::string id = std::to_string(first);
  const std::string next = std::to_string(first + 1);
  const std::string whole = "id: " + id + "\ndata: one\n\nid: " + next + "\ndata: [DONE]\n\n";
  const auto body = [&](client& c) {
    bool ended = true;
    const std::string all = chunked ? c.until("0\r\n\r\n") : c.rest();  // that one is kept
    const std::string plain = chunked ? dechunk(all, ended) : all;
    CHECK(ended);
    return plain;
  };
  CHECK(body(live) == whole);
  CHECK_FALSE(live.was_reset);

  client late{s.port()};
  REQUIRE(late.open("/job", last_id(first)).status == 200);
  CHECK(body(late) == "id: " + next + "\ndata: [DONE]\n\n");
  client done{s.port()};
  const answer a = done.get("/job", last_id(first + 1));
  CHECK(a.status == 204);
  CHECK(a.body.empty());
  CHECK(done.get("/job", last_id(first + 1)).status == 204);  // the connection goes on

  sse::channel brief = s.open("brief", {.keep_sealed = sse::duration::milliseconds(1)});
  s.on_loop([&] {
    s->stream("/brief", brief);
    s->hub().seal(brief);
  });
  CHECK(s.eventually([&] { return !s->hub().find_channel("brief"); }));
  CHECK(done.get("/brief").status == 404);
}

}  // namespace test
