// ssehub examples. SPDX-License-Identifier: MIT
#include "common/service.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>

#include <fmt/format.h>
#include <asio/ip/address.hpp>

#include "common/clock.hpp"
#include "common/line_queue.hpp"
#include "live_js.hpp"
#include "style_css.hpp"

namespace examples {
namespace {

/// scheme://host[:port], as a browser's Origin says it.
bool is_origin(std::string_view s) {
  const std::size_t scheme = s.find("://");
  if (scheme == 0 || scheme == std::string_view::npos) return false;
  const std::string_view rest = s.substr(scheme + 3);
  return !rest.empty() &&
         s.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
             "-._:[]/+") == std::string_view::npos &&
         rest.find('/') == std::string_view::npos;
}

/// Connections that the descriptors allow, files and pipes of the program aside.
std::uint32_t most_connections() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return 0;
  constexpr rlim_t most = 1'000'000;
  const rlim_t n = std::min(files.rlim_cur, most);
  return static_cast<std::uint32_t>(n - std::min<rlim_t>(n / 2, 64));
}

/// The loopback's names, if that is all that it listens on, and what --host-name adds; empty: any.
std::vector<std::string> hosts_of(const common_options& o) {
  asio::error_code no_address;
  const asio::ip::address at = asio::ip::make_address(o.host, no_address);
  const bool loopback = no_address ? o.host == "localhost" : at.is_loopback();
  if (!loopback && o.host_names.empty()) return {};
  std::vector<std::string> names{o.host};
  names.insert(names.end(), std::begin(sse::loopback_hosts), std::end(sse::loopback_hosts));
  names.insert(names.end(), o.host_names.begin(), o.host_names.end());
  return names;
}

line_queue& log_queue() {
  static line_queue queue{STDERR_FILENO};
  return queue;
}

}  // namespace

std::string_view to_string(sse::lag_policy p) noexcept {
  switch (p) {
    case sse::lag_policy::oldest: return "oldest";
    case sse::lag_policy::tail: return "tail";
    case sse::lag_policy::coalesce: return "coalesce";
    case sse::lag_policy::disconnect: break;
  }
  return "disconnect";
}

void add_common_flags(flag_set& flags, common_options& out) {
  const auto or_off = [](std::uint64_t n) { return n == 0 ? "off" : std::to_string(n); };
  flags.heading("Server");
  flags.add("--host", "ADDRESS", "address to listen on (" + out.host + ")",
            [&out](std::string_view value) {
              out.host = value;
              return value.empty() ? "an address" : "";
            });
  flags.number("--port", "N", fmt::format("port, 0 picks one ({})", out.port), out.port);
  flags.add("--host-name", "NAME",
            "a name that it is asked for by; on loopback others than its own are refused",
            [&out](std::string_view value) {
              out.host_names.emplace_back(value);
              return value.empty() ? "a name" : "";
            });
  flags.add("--cors", "ORIGIN",
            fmt::format("its pages may read and change everything; * any, none ({})",
                        out.any_origin.empty() ? "none" : "any may read what is public"),
            [&out](std::string_view value) {
              if (value != "*" && value != "none" && !is_origin(value))
                return "*, none, or an origin such as https://app.example";
              out.cors = value == "none" ? "" : value;
              out.any_origin.clear();
              return "";
            });
  flags.add("--trusted-proxy", "ADDRESS",
            "whose X-Forwarded-For is believed; may come several times (none)",
            [&out](std::string_view value) {
              asio::error_code no_address;
              (void)asio::ip::make_address(value, no_address);
              out.trusted_proxies.emplace_back(value);
              return no_address ? "an address such as 127.0.0.1" : "";
            });
  add_tls_flags(flags, out.tls, "; read again on SIGHUP");
  flags.heading("Streams");
  flags.seconds("--heartbeat",
                fmt::format("a sign of life when idle, 0: off ({})",
                            static_cast<double>(out.heartbeat.ms()) / 1000),
                out.heartbeat);
  flags.number("--keep", "N", fmt::format("events kept for resuming ({})", out.keep), out.keep);
  flags.seconds("--keep-age", "and how old they may be, 0: any (0)", out.keep_age);
  flags.number("--max-lag", "BYTES",
               fmt::format("how far a reader may be behind, 0: any ({})", out.max_lag),
               out.max_lag);
  flags.add("--lag-policy", "POLICY",
            fmt::format("then: disconnect, or skip to the oldest or the tail ({})",
                        to_string(out.lag_policy)),
            [&out](std::string_view value) {
              for (const auto p :
                   {sse::lag_policy::disconnect, sse::lag_policy::oldest, sse::lag_policy::tail}) {
                if (value != to_string(p)) continue;
                out.lag_policy = p;
                return "";
              }
              return "disconnect, oldest or tail";
            });
  flags.number("--per-user", "N",
               fmt::format("streams of one user, 0: any ({})", or_off(out.per_user)), out.per_user);
  flags.number("--per-address", "N",
               fmt::format("streams of one address, 0: any ({})", or_off(out.per_address)),
               out.per_address);
  flags.number("--total", "N", fmt::format("streams in all, 0: any ({})", or_off(out.total)),
               out.total);
}

void add_token_flag(flag_set& flags, common_options& out) {
  flags.add("--token", "TOKEN", "ask for it, as a bearer or ?token= (none)",
            [&out](std::string_view value) {
              for (const char c : value) {
                if (c <= ' ' || c > '~') return "of visible ASCII characters";
              }
              out.token = value;
              return value.empty() ? "not empty" : "";
            });
}

server_setup::server_setup(const common_options& o) : origin{o.cors} {
  options.max_connections = most_connections();
  options.hosts = hosts_of(o);
  options.check_origin = true;
  options.any_origin = o.any_origin;
  options.trusted_proxies = o.trusted_proxies;
  options.hub.caps.total = {.max = o.total, .status = 429};
  options.hub.caps.per_user.max = o.per_user;
  const std::uint32_t half = std::max(options.max_connections / 2, 1U);  // some is for others
  options.hub.caps.per_address.max = std::min(o.per_address, half);
  if (!origin.empty()) options.cors.origins = {&origin, 1};
  options.cors.headers = "Content-Type, Authorization, Last-Event-ID, Cache-Control";
}

sse::channel_options channel_options_of(const common_options& o) {
  sse::channel_options c;
  c.keep = o.keep;
  c.keep_age = o.keep_age;
  c.max_lag = o.max_lag;
  c.on_lag = o.lag_policy;
  c.heartbeat.every = o.heartbeat;
  if (o.heartbeat.is_off()) c.heartbeat.mode = sse::heartbeat_options::pace::off;
  return c;
}

bool has_token(const sse::request& r, const common_options& o) {
  if (o.token.empty()) return true;
  std::string given;
  const bool in_query = sse::query_value(r.query, "token", given) == sse::lookup::found &&
                        sse::equal_secret(given, o.token);
  return sse::equal_secret(sse::bearer_token(r), o.token) || in_query;
}

bool may_change(const sse::request& r, const common_options& o) {
  const std::string_view origin = o.cors;
  const sse::cors_policy policy{.origins = {&origin, origin.empty() ? 0U : 1U}};
  const std::string_view site = r.header_value("Sec-Fetch-Site");
  if (o.cors == "*" || r.find("Origin") != nullptr) return sse::origin_allowed(policy, r);
  return site.empty() || site == "same-origin" || site == "none";
}

std::string_view style_sheet() noexcept { return style_css; }
std::string_view live_script() noexcept { return live_js; }

void hold_standard_files() {
  int fd = 0;
  do {
    fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) ::close(fd);
}

void log_line(std::string_view text) { log_queue().push(fmt::format("{} {}\n", iso_time(), text)); }
std::uint64_t log_dropped() { return log_queue().dropped(); }

void log_access(const sse::access_record& r) {
  const std::string size = r.stream ? "stream" : std::to_string(r.bytes) + "B";
  log_line(fmt::format("{} {} {} {} {} {:.1f}ms", r.address.empty() ? "-" : r.address,
                       r.method.empty() ? "-" : r.method, r.target.empty() ? "-" : r.target,
                       r.status, size, static_cast<double>(r.microseconds) / 1000));
}

namespace detail {

std::string url_of(std::string_view host, std::uint16_t port, bool tls) {
  const bool bare_v6 = host.find(':') != std::string_view::npos && !host.starts_with('[');
  return fmt::format("http{}://{}{}{}:{}/", tls ? "s" : "", bare_v6 ? "[" : "", host,
                     bare_v6 ? "]" : "", port);
}

void announce(std::string_view host, std::uint16_t port, bool tls) {
  std::signal(SIGPIPE, SIG_IGN);
  const std::string line = "listening on " + url_of(host, port, tls) + "\n";
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fflush(stdout);
}

sse::drain_options drain_options() { return {.deadline = sse::duration::seconds(2)}; }

}  // namespace detail

}  // namespace examples
