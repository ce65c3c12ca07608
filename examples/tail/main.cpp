// tail: prints the events of a stream, one per line, and keeps at it: reconnects, resumes, tells
// gaps. What `curl -N` shows as raw bytes. Try: tail http://127.0.0.1:8080/events
//
// With --state it goes on where it was also over runs, whatever ended the last one, kill -9 and a
// power failure included. Where stdout is a file that is appended to (`tail --state s URL >> out`),
// each event with an id is in it exactly once; anything that another program wrote behind the last
// save is taken back too, so the file is tail's alone. A pipe or a terminal gets each event at
// least once: those of the last read, 16 KiB at most, may come again. What the server does not keep
// that long is told as a gap. Before the first id there is no place to go on at; our hub gives one
// with the first byte. See state.hpp.
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <asio/post.hpp>
#include <asio/signal_set.hpp>
#include <sse/asio_client.hpp>

#include "common/clock.hpp"
#include "common/flags.hpp"
#include "common/json.hpp"
#include "tail/state.hpp"

#ifdef TAIL_WITH_TLS  // set by CMake where OpenSSL is
#include <asio/ssl.hpp>
#endif

namespace {

struct settings {
  std::string url{};
  std::vector<std::pair<std::string, std::string>> headers{};
  std::string last_id{};
  std::string method{};
  std::string body{};
  std::string resume_query{};
  std::vector<std::string> filter{};
  std::string ca{};
  std::string state{};
  std::string retry_statuses{sse::client_options{}.retry_statuses};
  sse::proxy_environment proxy{};
  std::uint64_t count = 0;  // 0: no end
  std::uint64_t retry_ms = 3000;
  std::optional<sse::duration> stall{};
  bool json = false;
  bool comments = false;
  bool no_colour = false;
  bool quiet = false;
};

std::string add_header(settings& s, std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == 0 || colon == std::string_view::npos) return "\"Name: value\"";
  std::string_view value = line.substr(colon + 1);
  while (value.starts_with(' ')) value.remove_prefix(1);
  s.headers.emplace_back(line.substr(0, colon), value);
  return {};
}

std::optional<examples::early_end> read_settings(int argc, const char* const* argv, settings& s) {
  examples::flag_set flags{"tail", "Prints the events of a stream, one per line.", SSEHUB_VERSION};
  flags.operand("URL", s.url);
  flags.heading("request");
  flags.add("--header", "LINE", "a header, \"Name: value\"; may be repeated",
            [&](std::string_view line) { return add_header(s, line); });
  flags.add("--token", "TOKEN", "Authorization: Bearer TOKEN", [&](std::string_view token) {
    s.headers.emplace_back("Authorization", "Bearer " + std::string{token});
    return std::string{};
  });
  flags.text("--data", "BODY", "sends a POST with this body", s.body);
  flags.text("--method", "NAME", "another method than GET, or POST with --data", s.method);
#ifdef TAIL_WITH_TLS
  flags.text("--ca", "FILE", "trusts these certificates, in PEM, not the system's", s.ca);
#endif
  flags.add("--proxy", "URL",
            "goes through this one (HTTP_PROXY, HTTPS_PROXY, NO_PROXY); \"\": none",
            [&](std::string_view url) {
              s.proxy = {std::string{url}, std::string{url}, {}};
              return std::string{};
            });
  flags.heading("resuming");
  flags.text("--state", "FILE", "goes on where the last run with this file was", s.state);
  flags.text("--last-id", "ID", "begins after this event", s.last_id);
  flags.text("--resume-query", "NAME", "sends the last id in this query field too", s.resume_query);
  flags.number("--retry", "MS", "between connections, until the server says (3000)", s.retry_ms);
  flags.text("--retry-status", "LIST",
             "refusals that are tried again (408,425,429,5xx); \"\": none", s.retry_statuses);
  sse::duration stall;
  flags.seconds("--stall",
                "reconnects after so long without a byte (3 heartbeats, or 90); 0: never", stall);
  flags.heading("output");
  flags.toggle("--json", "one JSON object per event and line", s.json);
  flags.add("--filter", "EVENT", "only events of this type; may be repeated; unnamed: message",
            [&](std::string_view type) {
              s.filter.emplace_back(type);
              return std::string{};
            });
  flags.number("--count", "N", "ends after N events", s.count);
  flags.toggle("--comments", "comments too, on stderr", s.comments);
  flags.toggle("--quiet", "nothing on stderr but what ends the program", s.quiet);
  flags.toggle("--no-colour", "also not on a terminal", s.no_colour);
  flags.footer(
      "Ends when the server wants no reconnection (204: code 0) or refuses (code 1).\n"
      "Gaps and lost connections are told on stderr.\n"
      "With --state and stdout a file (>> FILE), each event is in it once, whatever ends the "
      "program;\n"
      "the file is tail's alone. In a pipe, those of the last moment may come again.\n");

  s.proxy = sse::proxy_from_environment();
  if (auto end = flags.parse(argc, argv)) return end;
  if (flags.given("--stall")) s.stall = stall;
  if (s.url.empty()) return flags.wrong("which URL?");
#ifndef TAIL_WITH_TLS
  if (s.url.starts_with("https:")) return flags.wrong("built without TLS: only http://");
#endif
  if (s.method.empty()) s.method = s.body.empty() ? "GET" : "POST";
  return std::nullopt;
}

// --- output -----------------------------------------------------------------------------------

struct palette {
  explicit palette(bool on)
      : dim{on ? "\x1b[2m" : ""},
        id{on ? "\x1b[33m" : ""},
        type{on ? "\x1b[36m" : ""},
        alarm{on ? "\x1b[31m" : ""},
        off{on ? "\x1b[0m" : ""} {}
  std::string_view dim, id, type, alarm, off;
};

bool wants_colour(const settings& s, int fd) {
  const char* const term = std::getenv("TERM");
  return !s.no_colour && std::getenv("NO_COLOR") == nullptr && ::isatty(fd) != 0 &&
         (term == nullptr || std::string_view{term} != "dumb");
}

/// The text of a stranger, which must not steer a terminal: control characters become '?'. Lines
/// after the first are indented.
void append_readable(std::string& out, std::string_view text, std::size_t indent) {
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (c == '\n') {
      out.append("\n").append(indent, ' ');
    } else {
      out += (code < 0x20 && c != '\t') || code == 0x7f ? '?' : c;
    }
  }
}

class printer {
 public:
  explicit printer(const settings& s)
      : s_{s}, out_{wants_colour(s, STDOUT_FILENO)}, err_{wants_colour(s, STDERR_FILENO)} {}

  /// False: nobody reads any more.
  [[nodiscard]] bool print(const sse::event& e) {
    const std::string_view type = e.type.empty() ? std::string_view{"message"} : e.type;
    sse::gap missed;
    if (sse::read_gap(e, missed)) {
      tell_gap(missed);
      if (!s_.json) return true;
    }
    if (!s_.filter.empty() &&
        std::find(s_.filter.begin(), s_.filter.end(), type) == s_.filter.end())
      return true;
    line_.clear();
    if (s_.json) {
      line_ += R"({"type":)";
      examples::append_json_string(line_, type);
      line_ += R"(,"data":)";
      examples::append_json_string(line_, e.data);
      line_ += R"(,"lastEventId":)";
      examples::append_json_string(line_, e.id);
      line_ += '}';
    } else {
      const std::string time = examples::clock_text(std::time(nullptr));
      std::size_t indent = time.size() + 2 + type.size() + 2;
      line_.append(out_.dim).append(time).append(out_.off).append("  ");
      if (!e.id.empty()) {
        line_.append(out_.id);
        append_readable(line_, e.id, 0);
        line_.append(out_.off).append("  ");
        indent += e.id.size() + 2;
      }
      line_.append(out_.type);
      append_readable(line_, type, 0);
      line_.append(out_.off).append("  ");
      append_readable(line_, e.data, indent);
    }
    line_ += '\n';
    ++printed_;
    return std::fwrite(line_.data(), 1, line_.size(), stdout) == line_.size() &&
           std::fflush(stdout) == 0;
  }
  [[nodiscard]] bool enough() const { return s_.count != 0 && printed_ >= s_.count; }

  void tell_failure(const sse::client_failure& f, std::string_view url) {
    if (s_.quiet && !f.final) return;
    std::string text = sse::explain(f);
    if (!f.final) {
      const std::int64_t tenths = (f.delay.ms() + 50) / 100;
      text +=
          "; again in " + std::to_string(tenths / 10) + '.' + std::to_string(tenths % 10) + " s";
    }
    tell(text + " (" + std::string{url} + ")", f.final);
  }
  void tell_comment(std::string_view text) { tell(": " + std::string{text}, false); }
  void tell(std::string_view text, bool alarm) {
    std::string line{alarm ? err_.alarm : err_.dim};
    line += "tail: ";
    append_readable(line, text, 6);
    line.append(err_.off).append("\n");
    std::fwrite(line.data(), 1, line.size(), stderr);
  }

 private:
  void tell_gap(const sse::gap& g) {
    if (s_.quiet) return;
    const std::string lost = g.lost_known ? std::to_string(g.lost) : "an unknown number of";
    tell("gap: " + lost + " events lost between " + std::to_string(g.requested) + " and " +
             std::to_string(g.first),
         true);
  }

  const settings& s_;
  palette out_;
  palette err_;
  std::string line_;
  std::uint64_t printed_ = 0;
};

// --- running ----------------------------------------------------------------------------------

template <class Source>
class follower {
 public:
  follower(asio::io_context& io, Source source, const settings& s, tail::state_file* state)
      : io_{io},
        signals_{io, SIGINT, SIGTERM},
        source_{std::move(source)},
        printer_{s},
        state_{state},
        comments_{s.comments} {}

  void start() {
    signals_.async_wait([this](const std::error_code& e, int) {
      if (!e) finish(0);
    });
    source_.on_error([this](const sse::client_failure& f) {
      printer_.tell_failure(f, source_.url());
      if (f.final) finish(code_of(f.error));
      if (f.error == sse::client_error::tls && !with_tls) finish(1);
    });
    if (comments_) {
      source_.on_comment([this](std::string_view text) { printer_.tell_comment(text); });
    }
    source_.on_event([this](const sse::event& e) { take(e); });
    source_.on_position([this](std::string_view) { save_soon(); });
    source_.start();
  }
  [[nodiscard]] int code() const { return code_; }

 private:
#ifdef TAIL_WITH_TLS
  static constexpr bool with_tls = true;
#else
  static constexpr bool with_tls = false;
#endif

  void take(const sse::event& e) {
    if (!printer_.print(e)) {
      state_ = nullptr;  // this one did not leave
      return finish(1);
    }
    if (printer_.enough()) return finish(0);
    save_soon();
  }

  /// After all of this read.
  void save_soon() {
    if (state_ == nullptr || saving_) return;
    saving_ = true;
    asio::post(io_, [this] {
      saving_ = false;
      if (!save()) finish(1);
    });
  }
  /// Everything up to the last event ID has left.
  [[nodiscard]] bool save() {
    if (state_ == nullptr) return true;
    const std::string wrong = state_->save(source_.last_event_id());
    if (wrong.empty()) return true;
    printer_.tell(wrong, true);
    state_ = nullptr;
    return false;
  }

  [[nodiscard]] static int code_of(sse::client_error e) {
    if (e == sse::client_error::no_content) return 0;
    return e == sse::client_error::bad_url || e == sse::client_error::bad_options ? 2 : 1;
  }

  void finish(int code) {
    code_ = save() ? code : 1;
    state_ = nullptr;
    source_.close();
    signals_.cancel();
  }

  asio::io_context& io_;
  asio::signal_set signals_;
  Source source_;
  printer printer_;
  tail::state_file* state_;  // nullptr: none, or no more
  bool comments_;
  bool saving_ = false;
  int code_ = 0;
};

template <class Source>
int follow(asio::io_context& io, Source source, const settings& s, tail::state_file* state) {
  follower<Source> f{io, std::move(source), s, state};
  f.start();
  io.run();
  return f.code();
}

int run(const settings& s) {
  std::vector<sse::header> headers;
  for (const auto& [name, value] : s.headers) headers.push_back({name, value});
  const auto ms = static_cast<std::int64_t>(std::min<std::uint64_t>(s.retry_ms, 86'400'000));
  sse::asio_client_options o;
  o.client.method = s.method;
  o.client.body = s.body;
  o.client.headers = headers;
  tail::state_file state{s.state};
  tail::state_file* const kept = s.state.empty() ? nullptr : &state;
  if (kept != nullptr) {
    if (const std::string wrong = state.load(); !wrong.empty()) {
      std::fprintf(stderr, "tail: %s\n", wrong.c_str());
      return 1;
    }
  }
  o.client.last_event_id = state.id().empty() ? std::string_view{s.last_id} : state.id();
  o.client.proxy = s.proxy.options();
  o.client.retry_statuses = s.retry_statuses;
  o.client.resume_query = s.resume_query;
  o.client.retry = sse::duration::milliseconds(ms);
  o.client.stall_timeout = s.stall;

  asio::io_context io{1};
#ifdef TAIL_WITH_TLS
  using tls = asio::ssl::stream<asio::ip::tcp::socket>;
  asio::ssl::context context{asio::ssl::context::tls_client};
  context.set_verify_mode(asio::ssl::verify_peer);
  s.ca.empty() ? context.set_default_verify_paths() : context.load_verify_file(s.ca);
  const auto make = [&context](asio::ip::tcp::socket socket, const std::string& host) {
    tls t{std::move(socket), context};
    std::error_code not_an_address;
    asio::ip::make_address(host, not_an_address);
    X509_VERIFY_PARAM* const expected = SSL_get0_param(t.native_handle());
    if (not_an_address) {
      SSL_set_tlsext_host_name(t.native_handle(), host.c_str());
      X509_VERIFY_PARAM_set1_host(expected, host.data(), host.size());
    } else {
      X509_VERIFY_PARAM_set1_ip_asc(expected, host.c_str());
    }
    return t;
  };
  return follow(io, sse::asio_event_source<tls>{io, s.url, o, make}, s, kept);
#else
  return follow(io, sse::asio_event_source<>{io, s.url, o}, s, kept);
#endif
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  if (const auto end = read_settings(argc, argv, s)) return end->print();
  try {
    return run(s);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "tail: %s\n", e.what());
    return 1;
  }
}
