// ssehub examples. SPDX-License-Identifier: MIT
//
// What every example server does in the same way: its flags, the options that follow from them,
// tokens, the log on stderr, /health and /metrics, and running until a signal.
//
//   examples::common_options common{.port = 8080, .any_origin = {"/events"}};
//   examples::add_common_flags(flags, common);
//   asio::io_context io;
//   examples::http_server<> server{io, examples::server_setup{common}.options, common};
//   examples::add_common_routes(server);
//   return examples::run(io, server, flags, common, {});
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/signal_set.hpp>

#include <sse/asio.hpp>
#include <sse/metrics.hpp>

#include "common/answers.hpp"
#include "common/flags.hpp"
#include "common/tls_asio.hpp"

namespace examples {

struct common_options {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;
  sse::duration heartbeat = sse::duration::seconds(15);
  std::uint64_t keep = 1000;
  sse::duration keep_age = sse::duration::off();
  std::uint64_t max_lag = std::uint64_t{1} << 20;
  sse::lag_policy lag_policy = sse::lag_policy::disconnect;
  std::uint32_t per_user = 0;
  std::uint32_t per_address = 64;
  std::uint32_t total = 0;
  std::vector<std::string> trusted_proxies{};  ///< addresses
  std::vector<std::string> host_names{};       ///< more than those that follow from `host`
  std::string cors{};                          ///< an origin, "*", or empty: none but what follows
  /// Paths that pages of any origin may read, unless --cors says something.
  std::vector<std::string> any_origin{};
  std::string token{};  ///< empty: none is asked for
  tls_files tls{};
};

/// The flags that all servers have, --tls-cert and --tls-key too; defaults are what `out` holds.
void add_common_flags(flag_set& flags, common_options& out);
/// --token, for servers that have no users of their own.
void add_token_flag(flag_set& flags, common_options& out);

/// What a server's connections are.
using tls_stream = stream_on<asio::ip::tcp::socket>;

/// Every program's server: https where --tls-cert names a certificate, see run().
template <class User = sse::no_user>
class http_server : public tls_of_server, public sse::asio_server<User, tls_stream> {
 public:
  http_server(asio::io_context& io, const sse::server_options& s, const common_options& o)
      : tls_of_server{o.tls},
        sse::asio_server<User, tls_stream>{io, s, streams_on<asio::ip::tcp::socket>(*this)} {}
};

/// Options for a server's constructor; views point into this and into what it was made of.
struct server_setup {
  explicit server_setup(const common_options& o);
  server_setup(const server_setup&) = delete;
  server_setup& operator=(const server_setup&) = delete;

  std::string_view origin;
  sse::server_options options;  ///< changes are refused to pages of other origins
};
[[nodiscard]] sse::channel_options channel_options_of(const common_options& o);
[[nodiscard]] std::string_view to_string(sse::lag_policy p) noexcept;

/// Whether the request brings the token, as a bearer or as `?token=`, or none is asked for.
[[nodiscard]] bool has_token(const sse::request& r, const common_options& o);

/// Whether a GET that changes something comes from where a POST would be served: browsers send no
/// Origin with an image or a link, but say whether it is another site's (W3C Fetch Metadata).
[[nodiscard]] bool may_change(const sse::request& r, const common_options& o);

/// Whoever starts a program may have closed its stdin, stdout or stderr: then a connection would
/// get that number, and with it what is meant for the log. Call it first.
void hold_standard_files();

/// One line on stderr, with the time. Returns at once, whoever reads it: see line_queue.
void log_line(std::string_view text);
/// Lines that nobody read, and that were dropped.
[[nodiscard]] std::uint64_t log_dropped();
void log_access(const sse::access_record& r);

/// The log, /health and /metrics. `more` adds to the metrics; who is not `admitted` gets none.
/// `health`: the answer of /health; none: all is well.
template <class User, class Stream>
void add_common_routes(sse::asio_server<User, Stream>& server,
                       std::function<void(sse::metrics_page&)> more = {},
                       std::function<bool(const sse::request&)> admitted = {},
                       std::function<sse::response()> health = {}) {
  server.on_access(&log_access);
  server.on_error([](std::string_view what, const std::error_code& e) {
    log_line("error: " + std::string{what} + (e ? ": " + e.message() : ""));
  });
  server.get("/health", [health = std::move(health)](const sse::request&) {
    return health ? health() : ok();
  });
  server.get("/metrics", [&server, more = std::move(more),
                          admitted = std::move(admitted)](const sse::request& request) {
    if (admitted && !admitted(request)) return unauthorized();
    sse::response r{.headers = "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"};
    sse::metrics_page page;
    page.add(server.hub());
    page.add(server.mail().counts());
    page.sample("log_lines_dropped_total", "counter", "Lines of the log that nobody read.",
                log_dropped());
    if (more) more(page);
    r.body = page.text();
    return r;
  });
}

/// What every page may do: scripts and styles of its own and of this server, and talk to it alone.
inline constexpr std::string_view page_policy =
    "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; img-src data:";
[[nodiscard]] std::string_view style_sheet() noexcept;  ///< web/style.css
[[nodiscard]] std::string_view live_script() noexcept;  ///< web/live.js

/// The two files that all pages share.
template <class User, class Stream>
void add_page_files(sse::asio_server<User, Stream>& server) {
  server.page("/style.css", style_sheet(), {.content_type = "text/css; charset=utf-8"});
  server.page("/live.js", live_script(), {.content_type = "text/javascript; charset=utf-8"});
}

/// The program's page, and these files.
template <class User, class Stream>
void add_page(sse::asio_server<User, Stream>& server, std::string_view html) {
  server.page("/", html, {.content_security_policy = page_policy});
  add_page_files(server);
}

/// What a program adds to run().
struct run_hooks {
  /// Once the port is taken: begins. Returns what is wrong with what the flags name, empty if
  /// nothing is.
  std::function<std::string()> start = {};
  /// A signal came: nothing may be published any more once `done` was called.
  std::function<void(std::function<void()> done)> stop = [](const auto& done) { done(); };
};

namespace detail {
/// `http://HOST:PORT/`
[[nodiscard]] std::string url_of(std::string_view host, std::uint16_t port, bool tls);
/// "listening on ..." on stdout; ignores SIGPIPE.
void announce(std::string_view host, std::uint16_t port, bool tls);
[[nodiscard]] sse::drain_options drain_options();
}  // namespace detail

/// Listens, says so, and serves until SIGINT or SIGTERM; then streams are told when to come back
/// and ended. A second signal ends it at once. SIGHUP reads the certificate again, if there is one.
/// Returns the program's exit code.
template <class User>
int run(asio::io_context& io, http_server<User>& server, const flag_set& flags,
        const common_options& o, const run_hooks& hooks) {
  if (const std::string wrong = server.load(); !wrong.empty()) return flags.unusable(wrong).print();
  if (const std::error_code e = server.listen(o.host, o.port)) {
    const std::string url = detail::url_of(o.host, o.port, server.is_on());
    return flags.failed("cannot listen on " + url + ": " + e.message()).print();
  }
  if (const std::string wrong = hooks.start ? hooks.start() : ""; !wrong.empty())
    return flags.unusable(wrong).print();

  asio::signal_set signals{io, SIGINT, SIGTERM};
  signals.async_wait([&](const std::error_code& e, int) {
    if (e) return;
    signals.async_wait([&io](const std::error_code& again, int) {
      if (!again) io.stop();
    });
    log_line("draining");
    hooks.stop([&] {
      server.async_drain([&io](const std::error_code&) { io.stop(); }, detail::drain_options());
    });
  });
  asio::signal_set reload{io};
  std::function<void()> await_reload = [&] {
    reload.async_wait([&](const std::error_code& e, int) {
      if (e) return;
      const std::string wrong = server.load();
      log_line(wrong.empty() ? "the certificate was read again" : "kept the certificate: " + wrong);
      await_reload();
    });
  };
  if (server.is_on()) {
    reload.add(SIGHUP);
    await_reload();
  }
  detail::announce(o.host, server.port(), server.is_on());
  io.run();
  log_line("stopped");
  return 0;
}

}  // namespace examples
