// completions: answers of a language model (an echo) as event streams that clients of the chat
// completions API read, a channel per answer, which goes on at Last-Event-ID. Try
// curl -N localhost:8080/v1/chat/completions -d '{"stream":true,"messages":[{"content":"Hi"}]}'
#include <string>
#include <unordered_map>

#include <asio/post.hpp>
#include <asio/steady_timer.hpp>

#include <sse/asio.hpp>

#include "common/json.hpp"
#include "common/service.hpp"

namespace {

using verdict = sse::verdict<std::string>;  // a stream's user is the name of its answer
struct answer {
  std::string words;  // that it has not said yet, with a space behind each
  asio::steady_timer next;
  sse::channel channel;
  sse::stream_responder<std::string> to;  // whoever asked, until the first word
  std::chrono::milliseconds unread{};     // so long nobody reads it
};

class service {
 public:
  service(asio::io_context& io, const examples::common_options& o, std::chrono::milliseconds pace)
      : server{io, options_of(examples::server_setup{o}.options), o}, io_{io}, pace_{pace} {
    examples::add_common_routes(server);
    server.stream_post("/v1/chat/completions", [this](const auto&, std::string_view body, auto to) {
      ask(body, std::move(to));
    });
    server.stream_prefix("/v1/chat/completions/", [this](const sse::request& r) -> verdict {
      const sse::channel c = server.hub().find_channel(r.path.substr(r.path.rfind('/') + 1));
      if (!c) return sse::refuse(404, "no such answer\n");
      return verdict{std::string{c.name()}, {}}.join(c);
    });
    server.on_channel_closed([this](sse::channel c) { answers_.erase(std::string{c.name()}); });
  }

  examples::http_server<std::string> server;

 private:
  static sse::server_options options_of(sse::server_options o) {
    o.chunked = true;  // so that a client's next request finds its connection still there
    return o;
  }

  void ask(std::string_view body, sse::stream_responder<std::string> to) {
    examples::json_document doc;
    if (doc.parse(body) != examples::json_result::object || doc.array_size("messages") == 0 ||
        doc.raw("stream") != "true")
      return to(sse::refuse(400, "want {\"stream\":true,\"messages\":[...]}\n"));
    (void)doc.enter_item("messages", doc.array_size("messages") - 1);
    std::string words{doc.string("content").value_or("")};
    if (!words.empty()) words = "You said: " + words + " ";
    const auto id = "chatcmpl-" + std::to_string(++asked_);
    to.on_called_off([this, id] { answers_.erase(id); });
    answers_.emplace(id, answer{std::move(words), asio::steady_timer{io_}, {}, std::move(to)});
    asio::post(io_, [this, id] { generate(id); });
  }

  verdict decide(const std::string& id, answer& a) {
    if (a.words.empty()) return sse::refuse(422, "the model has no answer to that\n");
    sse::channel_options o{.keep = UINT64_MAX, .own_sequence = true, .first_id = 0};
    o.start = sse::start_at::all;
    o.keep_sealed = sse::duration::seconds(60);
    a.channel = server.open_channel(id, std::move(o));
    return a.channel ? verdict{id, {}}.join(a.channel) : verdict{sse::refuse(503)};
  }

  void generate(const std::string& id) {
    const auto at = answers_.find(id);
    if (at == answers_.end()) return;
    answer& a = at->second;
    a.unread = a.to || a.channel.subscribers() != 0 ? 0 * pace_ : a.unread + pace_;
    if (a.unread > std::chrono::seconds{5}) return (void)server.close_channel(a.channel);
    if (a.to) a.to(decide(id, a));
    if (!a.channel) return (void)answers_.erase(id);
    if (a.words.empty()) {
      say(a, "{}", R"("stop")");
      return (void)a.channel.publish({.data = "[DONE]"}, {.last = true});
    }
    const auto end = a.words.find(' ') + 1;
    say(a, examples::json_object{}.text("content", a.words.substr(0, end)).done(), "null");
    a.words.erase(0, end);
    a.next.expires_after(pace_);
    a.next.async_wait([this, id](const std::error_code&) { generate(id); });
  }

  static void say(answer& a, const std::string& delta, const char* finish) {
    examples::json_object o;
    o.text("id", a.channel.name()).text("object", "chat.completion.chunk").text("model", "echo");
    o.raw("choices", R"([{"index":0,"delta":)" + delta + R"(,"finish_reason":)" + finish + "}]");
    (void)a.channel.publish({.data = o.done()});
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
  examples::flag_set flags{"completions", "Answers of a language model.", SSEHUB_VERSION};
  examples::add_common_flags(flags, common);
  flags.number("--pace", "MS", "time between two words (20)", pace);
  if (const auto end = flags.parse(argc, argv)) return end->print();
  asio::io_context io{1};
  service s{io, common, std::chrono::milliseconds{pace}};
  return examples::run(io, s.server, flags, common, {});
}
