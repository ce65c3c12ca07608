// The numbers that the hub keeps, held against what really happened.
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sse/mailbox.hpp>
#include <sse/metrics.hpp>
#include <sse/sse.hpp>

#include "catch.hpp"
#include "stage.hpp"

namespace {

using sse::close_reason;
using sse::duration;
using test::frame;
using test::frames;
using test::quiet;
using test::stage;

std::uint64_t all_closed(const sse::hub_stats& s) {
  std::uint64_t n = 0;
  for (const std::uint64_t c : s.closed) n += c;
  return n;
}

template <class Hub>
std::string page_of(const Hub& h) {
  sse::metrics_page page;
  page.add(h);
  return page.text();
}
/// The number of a sample; UINT64_MAX: there is none.
std::uint64_t value_of(const std::string& page, const std::string& sample) {
  const std::size_t at = page.find("\n" + sample + " ");
  return at == page.npos ? UINT64_MAX : std::stoull(page.substr(at + sample.size() + 2));
}
std::uint64_t published(const std::string& page, const std::string& channel) {
  return value_of(page, "sse_channel_published_total{channel=\"" + channel + "\"}");
}

}  // namespace

TEST_CASE("X-29 a channel's numbers: connections, published, delivered, dropped, gaps, replays",
          "[stats]") {
  stage s;
  sse::channel_options o = quiet();
  o.keep = 10;
  o.max_lag = 300;
  o.on_lag = sse::lag_policy::tail;
  o.own_sequence = true;
  sse::channel c = s.open("prices", std::move(o));
  const auto zero = c.stats();
  CHECK(zero.name == "prices");
  CHECK(zero.subscribers + zero.published + zero.delivered + zero.dropped + zero.gaps +
            zero.replays ==
        0);

  const auto fast = s.join(c);
  const auto slow = s.join(c, {.window = frames(1, 3).size() + 7});
  CHECK(c.stats().subscribers == 2);
  for (int i = 0; i < 5; ++i) {
    s.put(c);
    s.flush();
  }
  CHECK(c.stats().published == 5);
  CHECK(c.stats().delivered == 5 + 3);  // the half-sent one is not delivered yet
  s.let(slow, frames(4, 4).size() - 7);
  CHECK(c.stats().delivered == 5 + 4);
  REQUIRE(c.publish({.data = "t"}, {.transient = true}));
  CHECK_FALSE(c.publish({.type = "bad\n", .data = "t"}));
  CHECK(s.hub.send(fast.id, {.data = "u"}) == sse::publish_error::none);
  s.flush();
  CHECK(c.stats().published == 6);
  CHECK(c.stats().delivered == 5 + 4 + 1);  // unicast is nobody's publication
  for (int i = 0; i < 45; ++i) {
    s.put(c);
    s.flush();
  }
  s.let(slow);
  const std::string got = s.take(slow);
  CHECK(got.find(test::gap_frame(50, 4, 51, 46)) != got.npos);
  auto now = c.stats();
  CHECK(now.dropped == 46);
  CHECK(now.gaps == 1);
  CHECK(now.published == 51);
  CHECK(now.delivered == 51 + 5);
  CHECK(now.replays == 0);
  CHECK(now.retained_events == 10);
  CHECK(now.retained_bytes == frames(41, 50).size());
  CHECK(now.last_id == 50);

  const auto back = s.join(c, {.last_event_id = "45"});   // a replay
  const auto older = s.join(c, {.last_event_id = "20"});  // with a gap
  const auto ahead = s.join(c, {.last_event_id = "99"});  // a gap, nothing to replay
  CHECK(s.join(c, {.query = "last_id=x"}).refusal.status == 400);
  now = c.stats();
  CHECK(now.subscribers == 5);
  CHECK(now.replays == 2);
  CHECK(now.gaps == 3);
  CHECK(now.delivered == 51 + 5 + 5 + 10);
  CHECK(now.dropped == 46);  // what a resume asked for in vain was not dropped from a stream
  for (const auto& k : {fast, slow, back, older, ahead}) s.hub.closed(k.id);
  CHECK(c.stats().subscribers == 0);
  CHECK(s.hub.stats().sessions == 0);
}

TEST_CASE("X-29 the hub's numbers: accepted, refused, closed by reason, writes, bytes, heartbeats",
          "[stats]") {
  stage s{{.caps = {.per_user = {.max = 2}}, .write_deadline = duration::seconds(10)}};
  sse::channel_options o = quiet();
  o.heartbeat = {.every = duration::seconds(4)};
  sse::channel c = s.open("c", std::move(o));
  const auto a = s.join(c, {.key = "ann", .preamble = "HEAD"});
  const auto b = s.join(c, {.key = "ann"});
  CHECK_FALSE(s.join(c, {.key = "ann"}));
  CHECK_FALSE(s.request({}));
  CHECK_FALSE(s.request({.method = "POST"}));
  CHECK_FALSE(s.request({.accept = "text/html"}));
  auto now = s.hub.stats();
  CHECK(now.sessions == 2);
  CHECK(now.accepted == 2);
  CHECK(now.refused == 4);
  CHECK(now.writes == 1);
  CHECK(now.bytes == 4);
  s.put(c);
  s.flush();
  now = s.hub.stats();
  CHECK(now.writes == 3);
  CHECK(now.bytes == 4 + 2 * frames(1, 1).size());
  s.at(4000);
  now = s.hub.stats();
  CHECK(now.heartbeats == 2);
  CHECK(now.writes == 5);
  s.peer(b).window = 3;
  s.put(c);
  s.flush();
  CHECK(s.hub.stats().bytes ==
        4 + 3 * frames(1, 1).size() + 2 * std::string(": keep-alive\n\n").size() + 3);
  s.at(14'000);
  s.hub.close(a.id);
  now = s.hub.stats();
  CHECK(now.closed[static_cast<std::size_t>(close_reason::stalled)] == 1);
  CHECK(now.closed[static_cast<std::size_t>(close_reason::host)] == 1);
  CHECK(all_closed(now) == 2);
  CHECK(now.sessions == 0);
  CHECK(now.log_bytes > 0);
  s.hub.close_channel(c);
  CHECK(s.hub.stats().log_bytes <= 512);  // kept for use again
}

TEST_CASE("X-29 after thousands of streams of every fate the numbers are what the clients saw",
          "[stats]") {
  stage s{{.caps = {.total = {.max = 25}}}};
  std::uint64_t announced = 0;
  s.hub.on_gap([&](const sse::gap_notice&) { ++announced; });
  sse::channel_options o = quiet();
  o.keep = 30;
  o.max_lag = 500;
  o.on_lag = sse::lag_policy::tail;
  o.own_sequence = true;
  sse::channel c = s.open("c", std::move(o));
  std::vector<test::caller> open;
  std::uint64_t delivered = 0, gaps = 0, accepted = 0, refused = 0, replays = 0, published = 0,
                bytes = 0, closed = 0;
  const auto read = [&](const test::caller& k) {
    const std::string got = s.take(k);
    bytes += got.size();
    delivered += test::count(got, "\ndata: ev\n\n");
    gaps += test::count(got, "event: gap\n");
  };
  std::uint64_t random = 12345;
  const auto below = [&](std::uint64_t n) {
    random = random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (random >> 33) % n;
  };
  for (int step = 0; step < 30'000; ++step) {
    const std::uint64_t what = below(10);
    if (what < 5) {
      // Whole events only, so that both sides count the same.
      s.put(c, "ev");
      ++published;
      s.flush();
    } else if (what < 7) {
      const bool resumes = below(2) == 0;
      const std::uint64_t after = c.last_id() - below(c.last_id() + 1);
      const auto k = s.join(c, {.last_event_id = resumes ? std::to_string(after) : "",
                                .window = below(3) == 0 ? 0 : SIZE_MAX});
      if (!k) {
        ++refused;
        continue;
      }
      ++accepted;
      if (resumes) ++replays;
      open.push_back(k);
    } else if (!open.empty()) {
      const std::size_t i = below(open.size());
      const auto k = open[i];
      if (what == 7) {
        s.let(k);
      } else {
        if (what == 8 && below(2) == 0) s.peer(k).fails = true;
        if (!s.peer(k).fails) s.hub.closed(k.id);
        s.peer(k).window = SIZE_MAX;
        s.hub.writable(k.id);
        s.put(c, "ev");
        ++published;
        s.flush();
        if (!s.closed(k)) s.hub.closed(k.id);
        ++closed;
        read(k);
        open[i] = open.back();
        open.pop_back();
      }
    }
  }
  for (const auto& k : open) {
    s.let(k);
    read(k);
    s.hub.closed(k.id);
    ++closed;
  }
  const auto n = c.stats();
  CHECK(n.published == published);
  CHECK(n.delivered == delivered);
  CHECK(n.gaps == announced);
  CHECK(gaps <= announced);  // some streams ended before they read it
  CHECK(n.replays == replays);
  CHECK(n.subscribers == 0);
  const auto h = s.hub.stats();
  CHECK(h.accepted == accepted);
  CHECK(h.refused == refused);
  CHECK(h.bytes == bytes);
  CHECK(h.closed[static_cast<std::size_t>(close_reason::peer)] == closed);
  CHECK(all_closed(h) == accepted);
  CHECK(h.sessions == 0);
  CHECK(accepted > 3000);
  CHECK(gaps > 100);
  CHECK(refused > 100);
  CHECK(n.dropped > 1000);
}

TEST_CASE("the numbers of two channels together: sums, and the higher last id", "[stats]") {
  const sse::channel_stats one{.subscribers = 1,
                               .published = 2,
                               .delivered = 3,
                               .dropped = 4,
                               .coalesced = 5,
                               .gaps = 6,
                               .replays = 7,
                               .retained_events = 8,
                               .retained_bytes = 9,
                               .backlog_bytes = 10,
                               .last_id = 11};
  sse::channel_stats two = one;
  two.last_id = 12;
  two.add(one);
  CHECK(two.subscribers == 2);
  CHECK(two.published == 4);
  CHECK(two.delivered == 6);
  CHECK(two.dropped == 8);
  CHECK(two.coalesced == 10);
  CHECK(two.gaps == 12);
  CHECK(two.replays == 14);
  CHECK(two.retained_events == 16);
  CHECK(two.retained_bytes == 18);
  CHECK(two.backlog_bytes == 20);
  CHECK(two.last_id == 12);
  sse::channel_stats lower = one;
  lower.add(two);
  CHECK(lower.last_id == 12);
}

TEST_CASE("heartbeats in the log count as delivered, those for one session do not", "[stats]") {
  stage s;
  sse::channel_options o = quiet();
  o.heartbeat = {.mode = sse::heartbeat_options::pace::fixed, .every = duration::seconds(1)};
  sse::channel fixed = s.open("fixed", std::move(o));
  sse::channel idle = s.open("idle", {.heartbeat = {.every = duration::seconds(1)}});
  (void)s.join(fixed);
  (void)s.join(idle);
  s.at(3000);
  CHECK(fixed.stats().delivered == 3);
  CHECK(fixed.stats().published == 0);
  CHECK(idle.stats().delivered == 0);
  CHECK(s.hub.stats().heartbeats == 6);
}

TEST_CASE("every close reason has a name of its own and a place in the count", "[stats]") {
  std::string all;
  for (std::size_t i = 0; i < sse::close_reason_count; ++i) {
    const std::string name = " " + std::string(to_string(static_cast<close_reason>(i))) + " ";
    CHECK(name != " unknown ");
    CHECK(all.find(name) == all.npos);
    all += name;
  }
  CHECK(to_string(static_cast<close_reason>(sse::close_reason_count)) == "unknown");
  CHECK(to_string(sse::publish_error::none) == "none");
  for (int i = 0; i <= static_cast<int>(sse::publish_error::another_hub); ++i) {
    CHECK(to_string(static_cast<sse::publish_error>(i)) != "unknown");
  }
  CHECK(to_string(static_cast<sse::publish_error>(200)) == "unknown");
}

TEST_CASE("X-29 Prometheus text: each family once, each channel a line, labels escaped",
          "[stats]") {
  stage s;
  sse::channel a = s.open("plain", quiet());
  sse::channel b = s.open("odd \"name\" \\ with\nline", quiet());
  const auto k = s.join(a);
  s.put(a);
  s.put(b);
  s.flush();
  std::string text = page_of(s.hub);
  CHECK(text.starts_with(
      "# HELP sse_sessions Open streams.\n# TYPE sse_sessions gauge\nsse_sessions 1\n"));
  const std::string size = std::to_string(frames(1, 1).size());
  for (const std::string& line :
       {std::string("sse_accepted_total 1"),
        std::string("sse_refused_total{reason=\"draining\"} 0"), std::string("sse_writes_total 1"),
        "sse_bytes_total " + size, std::string("sse_closed_total{reason=\"peer\"} 0"),
        std::string("sse_channel_subscribers{channel=\"plain\"} 1"),
        std::string("sse_channel_published_total{channel=\"plain\"} 1"),
        std::string("sse_channel_delivered_total{channel=\"plain\"} 1"),
        std::string("sse_channel_delivered_total{channel=\"odd \\\"name\\\" \\\\ with\\nline\"} 0"),
        "sse_channel_retained_bytes{channel=\"plain\"} " + size}) {
    CAPTURE(line);
    CHECK(test::count(text, "\n" + line + "\n") == 1);
  }
  // The exposition format, line by line: a comment, or a name, perhaps labels, and a number.
  std::string last_family;
  std::size_t samples = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    REQUIRE(end != text.npos);
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    if (line.starts_with("# TYPE ")) {
      last_family = line.substr(7, line.find(' ', 7) - 7);
      CHECK(test::count(text, "# TYPE " + last_family + " ") == 1);
      CHECK(test::count(text, "# HELP " + last_family + " ") == 1);
      CHECK(line.ends_with(last_family.ends_with("_total") ? " counter" : " gauge"));
    } else if (!line.starts_with("# HELP ")) {
      ++samples;
      CHECK(line.starts_with(last_family));
      CHECK(line.find_last_not_of("0123456789") == line.rfind(' '));
    }
  }
  CHECK(samples == 7 + sse::refusal_reason_count - 1 + sse::close_reason_count + 6 + 10 * 2);
  s.hub.closed(k.id);
  text = page_of(s.hub);
  CHECK(text.find("\nsse_closed_total{reason=\"peer\"} 1\n") != text.npos);
}

TEST_CASE("Prometheus text is UTF-8, whatever channels are called, and they stay apart",
          "[stats][surface]") {
  stage s;
  for (const std::string_view name :
       {"\xff", "\xfe", "gr\xc3\xbc\xc3\x9f", "cut \xe2\x82", "\xed\xa0\x80"})
    s.put(s.open(name));
  const std::string text = page_of(s.hub);
  CHECK(sse::detail::valid_utf8_prefix(text) == text.size());
  const std::string bad = "\xEF\xBF\xBD";
  for (const std::string& name :
       {bad + "ff", bad + "fe", std::string{"gr\xc3\xbc\xc3\x9f"}, "cut " + bad + "e2" + bad + "82",
        bad + "ed" + bad + "a0" + bad + "80"}) {
    CAPTURE(name);
    CHECK(test::count(text, "\nsse_channel_published_total{channel=\"" + name + "\"} 1\n") == 1);
  }
}

TEST_CASE("Prometheus text: the largest number, and no channel at all", "[stats]") {
  sse::hub_stats h;
  h.bytes = UINT64_MAX;
  sse::metrics_page largest;
  largest.add(h, {});
  const std::string text = largest.text();
  CHECK(text.find("\nsse_bytes_total 18446744073709551615\n") != text.npos);
  CHECK(text.find("{channel=") == text.npos);
}

TEST_CASE("Prometheus text: each number stands under its own name", "[stats]") {
  sse::hub_stats h{.sessions = 1,
                   .accepted = 2,
                   .refused = 3,
                   .writes = 4,
                   .bytes = 5,
                   .heartbeats = 6,
                   .log_bytes = 7};
  for (std::size_t i = 0; i < sse::refusal_reason_count; ++i) h.refused_by[i] = 100 + i;
  for (std::size_t i = 0; i < sse::close_reason_count; ++i) h.closed[i] = 200 + i;
  const sse::channel_stats a{.name = "a",
                             .subscribers = 11,
                             .published = 12,
                             .delivered = 13,
                             .dropped = 14,
                             .coalesced = 15,
                             .gaps = 16,
                             .replays = 17,
                             .retained_events = 18,
                             .retained_bytes = 19,
                             .backlog_bytes = 20,
                             .last_id = 21};
  const sse::channel_stats closed{.published = 1000,
                                  .delivered = 2000,
                                  .dropped = 3000,
                                  .coalesced = 4000,
                                  .gaps = 5000,
                                  .replays = 6000};
  const sse::channel_stats channels[] = {a, closed};
  sse::metrics_page made;
  made.add(h, channels);
  const std::string page = made.text();
  std::vector<std::pair<std::string, std::uint64_t>> all = {
      {"sse_sessions", 1},
      {"sse_channels", 1},
      {"sse_accepted_total", 2},
      {"sse_writes_total", 4},
      {"sse_bytes_total", 5},
      {"sse_heartbeats_total", 6},
      {"sse_log_bytes", 7},
      {"sse_published_total", 1012},
      {"sse_delivered_total", 2013},
      {"sse_dropped_total", 3014},
      {"sse_coalesced_total", 4015},
      {"sse_gaps_total", 5016},
      {"sse_replays_total", 6017},
      {"sse_channel_subscribers{channel=\"a\"}", 11},
      {"sse_channel_published_total{channel=\"a\"}", 12},
      {"sse_channel_delivered_total{channel=\"a\"}", 13},
      {"sse_channel_dropped_total{channel=\"a\"}", 14},
      {"sse_channel_coalesced_total{channel=\"a\"}", 15},
      {"sse_channel_gaps_total{channel=\"a\"}", 16},
      {"sse_channel_replays_total{channel=\"a\"}", 17},
      {"sse_channel_retained_events{channel=\"a\"}", 18},
      {"sse_channel_retained_bytes{channel=\"a\"}", 19},
      {"sse_channel_backlog_bytes{channel=\"a\"}", 20},
  };
  for (std::size_t i = 1; i < sse::refusal_reason_count; ++i) {
    const std::string why{to_string(static_cast<sse::refusal_reason>(i))};
    all.emplace_back("sse_refused_total{reason=\"" + why + "\"}", 100 + i);
  }
  for (std::size_t i = 0; i < sse::close_reason_count; ++i) {
    const std::string why{to_string(static_cast<close_reason>(i))};
    all.emplace_back("sse_closed_total{reason=\"" + why + "\"}", 200 + i);
  }
  for (const auto& [sample, value] : all) {
    CAPTURE(sample);
    CHECK(value_of(page, sample) == value);
  }
  std::size_t lines = 0;
  for (const char c : page) lines += c == '\n' ? 1U : 0U;
  CHECK(lines - test::count(page, "# ") == all.size());
}

TEST_CASE("the metrics of very many channels: the first by name, the others together", "[stats]") {
  stage s;
  for (int i = 0; i < 5; ++i) {
    sse::channel c = s.open("room" + std::to_string(i));
    for (int n = 0; n <= i; ++n) s.put(c);
  }
  const auto short_page = [&] {
    sse::metrics_page page{2};
    page.add(s.hub);
    return page.text();
  };
  const std::string page = short_page();
  CHECK(published(page, "room0") == 1);
  CHECK(published(page, "room1") == 2);
  CHECK(published(page, "room2") == UINT64_MAX);
  CHECK(published(page, "(others)") == 12);
  CHECK(value_of(page, "sse_published_total") == 15);
  sse::channel big =
      s.open("a name that is long, as names of users are, to see that the page stays short");
  for (int i = 0; i < 100; ++i) (void)s.open(std::string(big.name()) + std::to_string(i));
  CHECK(short_page().size() < page.size() + 100);
}

TEST_CASE("channels of one metrics_name stand together, and no name of a user on the page",
          "[stats][surface]") {
  stage s;
  for (int i = 0; i < 1000; ++i) {
    sse::channel_options o = quiet();
    const std::string kind = i % 2 == 0 ? "rooms" : "users";  // need not live on
    o.metrics_name = kind;
    s.put(s.open("secret" + std::to_string(i), o));
  }
  s.put(s.open("plain"));
  const std::string page = page_of(s.hub);
  CHECK(published(page, "rooms") == 500);
  CHECK(published(page, "users") == 500);
  CHECK(published(page, "plain") == 1);
  CHECK(value_of(page, "sse_channels") == 1001);
  CHECK(page.find("secret") == page.npos);
  CHECK(page.size() < 6000);
}

TEST_CASE("what was counted stays counted when a channel is closed", "[stats][surface]") {
  stage s;
  sse::channel_options o = quiet();
  o.metrics_name = "jobs";
  const auto job = [&](const std::string& name) {
    sse::channel c = s.open(name, o);
    const auto k = s.join(c);
    s.put(c);
    s.put(c);
    s.flush();
    s.hub.closed(k.id);
    return c;
  };
  sse::channel plain = s.open("plain");
  s.put(plain);
  sse::channel a = job("a");
  (void)job("b");
  s.hub.close_channel(a);
  std::string page = page_of(s.hub);
  CHECK(published(page, "jobs") == 4);
  CHECK(value_of(page, "sse_channel_delivered_total{channel=\"jobs\"}") == 4);
  CHECK(value_of(page, "sse_channel_retained_events{channel=\"jobs\"}") == 2);
  CHECK(value_of(page, "sse_channels") == 2);
  s.hub.close_channel(plain);
  s.hub.close_channel(s.hub.find_channel("b"));
  page = page_of(s.hub);
  CHECK(published(page, "jobs") == 4);
  CHECK(published(page, "plain") == UINT64_MAX);
  CHECK(value_of(page, "sse_published_total") == 5);
  CHECK(value_of(page, "sse_delivered_total") == 4);
  CHECK(value_of(page, "sse_channels") == 0);
  // Of names that never end only the first are remembered; the sums hold all.
  for (int i = 0; i < 3000; ++i) {
    const std::string name = "n" + std::to_string(i);
    o.metrics_name = name;
    sse::channel c = s.open(name, o);
    s.put(c);
    s.hub.close_channel(c);
  }
  std::uint64_t groups = 0;
  s.hub.each_channel_stats([&](const sse::channel_stats&) { ++groups; });
  CHECK(groups <= 1026);
  CHECK(value_of(page_of(s.hub), "sse_published_total") == 3005);
}

TEST_CASE("several hubs, mailboxes and the program's own numbers on one page", "[stats][surface]") {
  stage a;
  stage b;
  a.put(a.open("c"));
  sse::mailbox box{{.limits = {.event = 40}}};
  sse::publisher p = box.make_publisher(1, 1024);
  REQUIRE(p.try_publish("x"));
  REQUIRE_FALSE(p.try_publish(std::string(100, 'x')));
  REQUIRE_FALSE(p.try_publish({.type = "\n"}));
  sse::metrics_page all;
  all.add(a.hub, {{"hub", "a"}});
  all.add(b.hub, {{"hub", "say \"b\""}, {"zone", "\xff"}});
  all.add(box.counts());
  all.sample("orders_open", "gauge", "Orders that wait.", 7);
  all.sample("orders_open", "gauge", "Orders that wait.", 8, {{"desk", "x"}});
  const std::string page = all.text();
  CHECK(test::count(page, "# HELP sse_sessions ") == 1);
  CHECK(test::count(page, "# TYPE orders_open gauge\n") == 1);
  CHECK(page.find("sse_sessions{hub=\"a\"} 0\n"
                  "sse_sessions{hub=\"say \\\"b\\\"\",zone=\"\xEF\xBF\xBD"
                  "ff\"} 0\n") != page.npos);
  CHECK(value_of(page, "sse_channel_published_total{hub=\"a\",channel=\"c\"}") == 1);
  CHECK(value_of(page, "sse_closed_total{hub=\"a\",reason=\"peer\"}") == 0);
  CHECK(value_of(page, "sse_mail_accepted_total") == 1);
  CHECK(value_of(page, "sse_mail_refused_total{reason=\"too_large\"}") == 1);
  CHECK(value_of(page, "sse_mail_refused_total{reason=\"invalid\"}") == 1);
  CHECK(value_of(page, "sse_mail_refused_total{reason=\"full\"}") == 0);
  CHECK(page.find("orders_open 7\norders_open{desk=\"x\"} 8\n") != page.npos);
}
