// What is published, and what must be refused.
#pragma once

#include <cstdint>
#include <string>

#include <sse/sse.hpp>

#include "hub.hpp"

namespace simulation {

template <class Transport>
void world<Transport>::publish() {
  publish_to(pick(channel_count));
}

template <class Transport>
void world<Transport>::publish_to(int c) {
  const sse::channel where = channels_[at(c)];
  if (!where || sealed_[at(c)]) return;
  published e;
  e.channel = static_cast<std::int8_t>(c);
  e.at = now_;
  const std::uint64_t most = chance(50) ? 9000 : 120;
  e.pad = chance(2) ? 60 : static_cast<std::uint32_t>(random_.below(most));  // often of one size
  if (chance(3)) e.audience = static_cast<std::int8_t>(1 + pick(audience_count));
  if (chance(2)) e.key = static_cast<std::int8_t>(1 + pick(key_count));
  if (!features_.state_by_audience && e.key != 0)  // a key has one audience
    e.audience = static_cast<std::int8_t>(e.key > 6 ? e.key - 6 : 0);
  e.transient = chance(10);
  if (e.audience > user_count && !facts_.groups) e.audience = 0;
  const std::string data = book_.data_of_next(e.pad);
  const std::string audience = audience_name(e.audience);
  const std::string key = e.key == 0 ? std::string{} : "key-" + std::to_string(e.key);
  sse::publish_options o{.audience = audience, .transient = e.transient, .key = key};
  const bool given = ids_of(c) == id_mode::given && !e.transient;
  if (given) o.id = where.last_id() + 1 + (chance(4) ? random_.below(50) : 0);
  sse::event out{.type = e.transient ? "t" : "e", .data = data};
  std::string whole;
  if (chance(8) && (given || e.transient || ids_of(c) == id_mode::none)) {
    const std::string id = given ? std::to_string(o.id) : std::string{};
    if (sse::encode(whole, {.type = out.type, .data = data, .id = id}) != sse::encode_error::none)
      fail("encode");
    out = {.data = whole};
    o.encoded = true;
  }
  o.last = chance(200);
  if (o.last) {
    sealed_[at(c)] = true;
    sealed_at_[at(c)] = now_;
  }
  const std::uint64_t head = where.last_id();
  const sse::publish_result r = where.publish(out, o);
  if (!r) return wrong("publish was refused");
  e.id = r.id;
  if (given && r.id != o.id) return wrong("another id than the given one");
  const bool numbered = !e.transient && ids_of(c) != id_mode::none;
  if (numbered != (r.id != 0)) return wrong("an id where there is none, or none");
  if (numbered && !given && r.id != head + 1) return wrong("ids are not consecutive");
  book_.add(e, *where.options());
  for (client& k : clients_) {
    if (k.conn.open) judge_.note_lag(k, c);
  }
}

/// What must be refused, and leave no trace.
template <class Transport>
void world<Transport>::publish_badly() {
  const int c = pick(channel_count);
  if (!channels_[at(c)]) return;
  sse::channel where = channels_[at(c)];
  const std::uint64_t head = where.last_id();
  const auto refused = [&](const sse::event& e, const sse::publish_options& o) {
    if (where.publish(e, o) || where.last_id() != head) fail("a bad event was taken");
  };
  if (sealed_[at(c)]) {
    if (!(where.publish({.data = "x"}) == sse::publish_error::sealed))
      fail("a sealed channel took an event");
    return;
  }
  refused({.type = "a\nb"}, {});
  refused({.data = "x", .id = "7"}, {});
  if (ids_of(c) == id_mode::given) {
    refused({.data = "x"}, {.id = head});
    refused({.data = "x"}, {});
  } else {
    refused({.data = "x"}, {.id = head + 5});
  }
}

template <class Transport>
void world<Transport>::send(client& k) {
  if (!k.conn.open || k.conn.retry_only) return;
  const std::uint64_t number = ++whispers_;
  const std::string data = std::to_string(number);
  const sse::publish_error e = hub_->send(k.conn.session, {.type = "whisper", .data = data}).error;
  if (e == sse::publish_error::none) {
    k.conn.whispers.push_back(number);
  } else if (e == sse::publish_error::no_session) {
    // in a hook: one that ended together with the one that the hook is about; a chunked stream
    // whose last chunk is under way takes nothing more
    if (!peer(k).is_closed && hook_depth_ == 0 && !k.conn.chunked) wrong("send: no session");
  } else if (e != sse::publish_error::full) {
    wrong("send was refused");
  }
}

}  // namespace simulation
