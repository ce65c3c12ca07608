// completions: answers of a language model as event streams, as clients of the chat completions API
// want them. The model is an echo. One channel per answer, sealed by its [DONE]; a reader that was
// cut goes on at GET /v1/chat/completions/ID with its Last-Event-ID; an answer that nobody reads
// for five seconds is called off.
// Try: curl -N http://127.0.0.1:8080/v1/chat/completions -d
//        '{"stream":true,"messages":[{"role":"user","content":"one two three"}]}'
#include <memory>
#include <string>
#include <unordered_map>

#include <asio/steady_timer.hpp>

#include <sse/asio.hpp>

#include "common/json.hpp"
#include "common/service.hpp"

namespace {

struct answer {
  std::string words;  // that it has not said yet, with a space behind each
  asio::steady_timer next;
  sse::channel channel;
};

class service {
 public:
  service(asio::io_context& io, const examples::common_options& o, std::chrono::milliseconds pace)
      : server{io, options_of(examples::server_setup{o}), o}, io_{io}, pace_{pace} {
    examples::add_common_routes(server);
    server.stream_post("/v1/chat/completions",
                       [this](const sse::request&, std::string_view body) { return ask(body); });
    server.stream_prefix("/v1/chat/completions/", [this](const sse::request& r) -> verdict {
      const sse::channel c = server.hub().find_channel(r.path.substr(r.path.rfind('/') + 1));
      if (!c) return sse::refuse(404, "no such answer\n");
      return verdict{std::string{c.name()}, {}}.join(c);
    });
    server.hub().on_closed([this](auto, const std::string& id, auto) { unread(id); });
    server.hub().on_refused([this](auto&, const std::string& id, auto&) { unread(id); });
    server.on_channel_closed([this](sse::channel c) { answers_.erase(std::string{c.name()}); });
  }

  examples::http_server<std::string> server;  // a stream's user is the name of its answer

 private:
  using verdict = sse::verdict<std::string>;

  /// In chunks, so that a client's next request finds its connection still there.
  static sse::server_options options_of(const examples::server_setup& s) {
    sse::server_options o = s.options;
    o.chunked = true;
    return o;
  }

  verdict ask(std::string_view body) {
    examples::json_document doc;
    if (doc.parse(body) != examples::json_result::object || doc.array_size("messages") == 0 ||
        doc.raw("stream") != "true")
      return sse::refuse(400, "want {\"stream\":true,\"messages\":[...]}\n");
    (void)doc.enter_item("messages", doc.array_size("messages") - 1);
    const std::string prompt{doc.string("content").value_or("")};
    const std::string id = "chatcmpl-" + std::to_string(++asked_);
    sse::channel_options o{.keep = UINT64_MAX, .own_sequence = true, .first_id = 0};
    o.start = sse::start_at::all;
    o.keep_sealed = sse::duration::seconds(60);
    const sse::channel c = server.open_channel(id, std::move(o));
    if (!c) return sse::refuse(503);
    const auto a =
        answers_.emplace(id, answer{"You said: " + prompt + " ", asio::steady_timer{io_}, c});
    generate(a.first->second);
    return verdict{id, {}}.join(c);
  }

  void generate(answer& a) {
    if (a.words.empty()) {
      say(a, "{}", R"("stop")");
      (void)a.channel.publish({.data = "[DONE]"}, {.last = true});
      return;
    }
    const std::size_t end = a.words.find(' ') + 1;
    say(a, examples::json_object{}.text("content", a.words.substr(0, end)).done(), "null");
    a.words.erase(0, end);
    a.next.expires_after(pace_);
    a.next.async_wait([this, id = std::string{a.channel.name()}](const std::error_code& e) {
      if (const auto at = answers_.find(id); !e && at != answers_.end()) generate(at->second);
    });
  }

  static void say(answer& a, const std::string& delta, const char* finish) {
    examples::json_object o;
    o.text("id", a.channel.name()).text("object", "chat.completion.chunk").text("model", "echo");
    o.raw("choices", R"([{"index":0,"delta":)" + delta + R"(,"finish_reason":)" + finish + "}]");
    (void)a.channel.publish({.data = o.done()});
  }

  /// A reader left: an answer that nobody comes back for is called off.
  void unread(const std::string& id) {
    const auto at = answers_.find(id);
    if (at == answers_.end() || at->second.channel.sealed()) return;
    auto timer = std::make_shared<asio::steady_timer>(io_, std::chrono::seconds{5});
    timer->async_wait([this, timer, id](const std::error_code&) {
      const auto a = answers_.find(id);
      if (a != answers_.end() && a->second.channel.subscribers() == 0)
        server.close_channel(a->second.channel);
    });
  }

  asio::io_context& io_;
  std::chrono::milliseconds pace_;
  unsigned long asked_ = 0;
  std::unordered_map<std::string, answer> answers_;
};

}  // namespace

int main(int argc, char** argv) {
  examples::hold_standard_files();
  examples::common_options common{.port = 8080};
  unsigned pace = 20;
  examples::flag_set flags{"completions", "Answers of a language model as streams.",
                           SSEHUB_VERSION};
  examples::add_common_flags(flags, common);
  flags.number("--pace", "MS", "time between two words (20)", pace);
  if (const auto end = flags.parse(argc, argv)) return end->print();
  asio::io_context io{1};
  service s{io, common, std::chrono::milliseconds{pace}};
  return examples::run(io, s.server, flags, common, {});
}
