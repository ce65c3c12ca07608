// ssehub examples. SPDX-License-Identifier: MIT
#include "common/cluster.hpp"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "common/json.hpp"

#ifdef EXAMPLES_JETSTREAM
#include <sse/jetstream.hpp>
#endif

namespace examples {

void add_cluster_flags(flag_set& flags, cluster_options& out) {
  flags.heading("Many nodes (NATS JetStream)");
  flags.add("--nats", "URL[,URL...]", "one order for all processes that name these servers",
            [&out](std::string_view v) {
              out.servers.clear();
              while (!v.empty()) {
                const std::size_t comma = v.find(',');
                if (comma != 0) out.servers.emplace_back(v.substr(0, comma));
                v.remove_prefix(comma == v.npos ? v.size() : comma + 1);
              }
              return out.servers.empty() ? "nats://HOST:PORT, or several with commas" : "";
            });
  flags.text("--nats-creds", "FILE", "a user's JWT and seed", out.credentials);
  flags.text("--nats-ca", "FILE", "TLS, and who signed the servers' certificates", out.ca);
  flags.text("--node", "NAME", "what this process is called; no two the same (random)", out.node);
  flags.number("--nats-replicas", "N", "servers that store each event (3)", out.replicas);
}

std::string wrong_cluster(const flag_set& flags) {
  for (const char* name : {"--nats-creds", "--nats-ca", "--node", "--nats-replicas"}) {
    if (flags.given(name) && !flags.given("--nats")) return std::string{name} + " needs --nats";
  }
  return flags.given("--nats") && flags.given("--journal")
             ? "--nats and --journal exclude each other: the servers keep what is published"
             : "";
}

cluster::cluster() noexcept = default;
cluster::~cluster() = default;

#ifdef EXAMPLES_JETSTREAM

struct cluster::order_of_nodes {
  sse::jetstream order;
};

void cluster::open(cluster_options o) {
  if (o.servers.empty()) return;
  auto opened = std::make_unique<order_of_nodes>();
  sse::jetstream_options with;
  with.servers = std::move(o.servers);
  with.credentials = std::move(o.credentials);
  with.tls_ca = std::move(o.ca);
  with.node = std::move(o.node);
  with.replicas = o.replicas;
  with.hub = std::move(o.hub);
  with.channels = std::move(o.channels);
  with.channel = std::move(o.channel);
  with.lane_bytes = o.lane_bytes;
  with.limits = o.limits;
  with.presence = true;
  with.revoke_for = o.revoke_for;
  with.retry_ahead = true;                         // its readers are browsers
  with.connect_wait = sse::duration::seconds(30);  // servers that start too have no leader yet
  if (const sse::jetstream_error e = opened->order.open(std::move(with)))
    throw std::runtime_error{e.text};
  order_ = std::move(opened);
}

sse::sequencer& cluster::order() noexcept { return order_->order.order(); }
void cluster::start() { order_->order.start(); }
void cluster::stop() { order_->order.stop(); }
sse::publish_result cluster::publish(std::size_t channel, const sse::event& e,
                                     const sse::publish_options& o) {
  return o.transient ? order().publish(channel, e, o) : order_->order.publish(channel, e, o);
}
bool cluster::revoke(std::string_view user) { return order_->order.revoke(user); }
std::optional<sse::response> cluster::refusal(std::string_view user,
                                              std::uint64_t issued_ms) const {
  return order_->order.refusal(user, issued_ms);
}
std::vector<std::pair<std::string, std::uint32_t>> cluster::present() const {
  std::vector<std::pair<std::string, std::uint32_t>> all;
  for (std::string& user : order_->order.present()) {
    const std::uint32_t n = order_->order.streams_of(user);
    all.emplace_back(std::move(user), n);
  }
  std::sort(all.begin(), all.end());
  return all;
}
std::uint64_t cluster::waiting_bytes() const { return order_->order.stats().waiting_bytes; }
const std::string& cluster::node() const { return order_->order.options().node; }
std::string cluster::problem() const { return order_->order.problem(); }

std::string cluster::json() const {
  std::string out = R"("node":)";
  append_json_string(out, order_->order.options().node);
  out += R"(,"lag":)" + std::to_string(order_->order.stats().lag) + R"(,"cluster_streams":)" +
         std::to_string(order_->order.streams()) + R"(,"cluster_problem":)";
  append_json_string(out, problem());
  return out;
}

sse::response cluster::health() const {
  const bool fine = order_->order.ready();
  return sse::response::json(fine ? 200 : 503,
                             std::string{R"({"ok":)"} + (fine ? "true," : "false,") + json() + "}");
}

void cluster::add_metrics(sse::metrics_page& page) const {
  const sse::jetstream_stats s = order_->order.stats();
  const auto flag = [](bool b) { return std::uint64_t{b ? 1U : 0U}; };
  page.sample("jetstream_last_id", "gauge", "The newest id shown.", s.last);
  page.sample("jetstream_lag", "gauge", "Events of the stream that are not here yet.", s.lag);
  page.sample("jetstream_streams", "gauge", "Streams on all nodes.", order_->order.streams());
  page.sample("jetstream_users", "gauge", "Users with streams, on all nodes.",
              order_->order.present().size());
  page.sample("jetstream_revoked", "gauge", "Revocations that hold.", s.revoked);
  page.sample("jetstream_following", "gauge", "1: what is stored comes.", flag(s.following));
  page.sample("jetstream_connected", "gauge", "1: to a server.", flag(s.connected));
  page.sample("jetstream_events_total", "counter", "Events that came.", s.events);
  page.sample("jetstream_passed_total", "counter", "Messages for no channel here.", s.passed);
  page.sample("jetstream_invalid_total", "counter", "Messages that are no event.", s.invalid);
  page.sample("jetstream_lost_total", "counter", "Removed before they came here.", s.lost);
  page.sample("jetstream_gaps_total", "counter", "Told to all readers.", s.gaps);
  page.sample("jetstream_epochs_total", "counter", "Times the stream's history changed.", s.epochs);
  page.sample("jetstream_follows_total", "counter", "Times it began to follow.", s.follows);
  page.sample("jetstream_reads_total", "counter", "Reads of old events.", s.reads);
  page.sample("jetstream_published_total", "counter", "Events accepted.", s.published);
  page.sample("jetstream_stored_total", "counter", "Of these, stored by a majority.", s.stored);
  page.sample("jetstream_resent_total", "counter", "Sent again.", s.resent);
  page.sample("jetstream_failed_total", "counter", "Not stored, or given up.", s.failed);
  page.sample("jetstream_waiting", "gauge", "Not yet acknowledged.", s.waiting);
}

#else

struct cluster::order_of_nodes {};

void cluster::open(cluster_options o) {
  if (!o.servers.empty())
    throw std::runtime_error{"--nats needs cnats (Debian: libnats-dev), and it was built without"};
}
sse::sequencer& cluster::order() noexcept { std::abort(); }
void cluster::start() {}
void cluster::stop() {}
sse::publish_result cluster::publish(std::size_t, const sse::event&, const sse::publish_options&) {
  return {sse::no_id, sse::publish_error::closed};
}
bool cluster::revoke(std::string_view) { return false; }
std::optional<sse::response> cluster::refusal(std::string_view, std::uint64_t) const { return {}; }
std::vector<std::pair<std::string, std::uint32_t>> cluster::present() const { return {}; }
std::uint64_t cluster::waiting_bytes() const { return 0; }
const std::string& cluster::node() const { std::abort(); }
std::string cluster::problem() const { return {}; }
std::string cluster::json() const { return {}; }
sse::response cluster::health() const { return sse::response::json(200, "{}"); }
void cluster::add_metrics(sse::metrics_page&) const {}

#endif

}  // namespace examples
