// What a REQUIRES asks for is checked where SSEHUB_CHECKED is on: a caller that breaks it hears of
// it at once. Each broken call runs in a process of its own, which must abort and say where.
#include <string>
#include <string_view>

#include <sse/client.hpp>
#include <sse/detail/engine/chunks.hpp>
#include <sse/detail/engine/lanes.hpp>
#include <sse/detail/log/event_log.hpp>
#include <sse/http1.hpp>
#include <sse/sse.hpp>

#include "catch.hpp"

#if defined(__unix__) || defined(__APPLE__)

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>

namespace {

using sse::detail::none;

/// What a process that runs `f` says on stderr before it aborts; "returned" if it does not.
template <class F>
std::string said_at_abort(F f) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    std::signal(SIGABRT, SIG_DFL);
    ::dup2(ends[1], STDERR_FILENO);
    f();
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string said;
  char part[256];
  for (ssize_t n = 0; (n = ::read(ends[0], part, sizeof part)) > 0;)
    said.append(part, static_cast<std::size_t>(n));
  ::close(ends[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  if (WIFEXITED(status)) return "returned";
  CHECK(WTERMSIG(status) == SIGABRT);
  return said;
}

/// Whether it aborts with a line that names the file, its line, and the condition.
template <class F>
bool refused(std::string_view file, std::string_view condition, F f) {
  const std::string said = said_at_abort(f);
  const std::size_t name = said.find(file);
  const std::size_t what = said.find(": ssehub: required: ");
  const bool told = name != said.npos && what != said.npos && name < what &&
                    said[name + file.size()] == ':' && said.find(condition, what) != said.npos;
  if (!told) WARN(said);
  return told;
}

}  // namespace

TEST_CASE("contracts: a call that keeps them returns", "[contracts]") {
  CHECK(said_at_abort([] {}) == "returned");
  CHECK(said_at_abort([] {
          char out[16];
          sse::encode_retry_to(out, 0);
        }) == "returned");
}

TEST_CASE("contracts: what may not be encoded is not written", "[contracts]") {
  CHECK(refused("encode.hpp", "validate(e", [] {
    char out[64];
    sse::encode_to(out, {.type = "a\nb"});
  }));
  CHECK(refused("encode.hpp", "p.error == encode_error::none", [] {
    char out[64];
    const sse::event e{.id = std::string_view{"\0", 1}};
    sse::encode_to(out, e, sse::plan(e));
  }));
  CHECK(refused("encode.hpp", "text.find", [] {
    char out[64];
    sse::encode_comment_to(out, std::string_view{"\0", 1});
  }));
  CHECK(refused("encode.hpp", "ms >= 0", [] {
    char out[64];
    sse::encode_retry_to(out, -1);
  }));
}

TEST_CASE("contracts: a head that is not there is not read", "[contracts]") {
  CHECK(refused("http1.hpp", "outcome::complete", [] {
    const sse::http1::head_reader r;
    (void)r.head();
  }));
  CHECK(refused("response_reader.hpp", "outcome::complete", [] {
    const sse::detail::response_reader r;
    (void)r.head();
  }));
  CHECK(refused("http1.hpp", "outcome::error", [] {
    sse::http1::head_reader r;
    (void)r.feed("GET / HTTP/9.9\r\n\r\n");
    r.reset();
  }));
}

TEST_CASE("contracts: the engine's parts refuse what they cannot do", "[contracts]") {
  CHECK(refused("lanes.hpp", "size != 0", [] {
    sse::detail::lanes lanes;
    std::uint32_t lane = none;
    (void)lanes.push_padding(lane, 0);
  }));
  CHECK(refused("parts.hpp", "seg != nullptr", [] { (void)sse::detail::subscription{}.offset(); }));
  CHECK(refused("chunks.hpp", "n <= c.left", [] {
    sse::detail::chunks chunks;
    chunks.data_sent(chunks.take(), 1);
  }));
  CHECK(refused("segment.hpp", "fits(e)", [] {
    sse::detail::segment_pool pool;
    sse::detail::new_entry e;
    e.size = 513;
    (void)pool.take(512, 0)->place(e);
  }));
  CHECK(refused("segment.hpp", "s->pins == 0", [] {
    sse::detail::segment_pool pool;
    sse::detail::segment* const s = pool.take(512, 0);
    s->pins = 1;
    pool.give_back(s);
  }));
  CHECK(refused("event_log.hpp", "ordinal", [] {
    sse::detail::segment_pool pool;
    sse::detail::event_log log{pool, {}};
    (void)log.at(0);
  }));
}

TEST_CASE("contracts: containers are not left through their ends", "[contracts]") {
  CHECK(refused("containers.hpp", "i < size_", [] { (void)sse::detail::vec<int>{}[0]; }));
  CHECK(refused("containers.hpp", "size_ != 0", [] { (void)sse::detail::vec<int>{}.back(); }));
  CHECK(refused("containers.hpp", "size_ != 0", [] { sse::detail::vec<int>{}.pop_back(); }));
  CHECK(refused("containers.hpp", "size_ < capacity_",
                [] { sse::detail::vec<int>{}.push_reserved(1); }));
  CHECK(refused("containers.hpp", "n <= capacity_ - size_", [] {
    sse::detail::vec<int> v;
    const int two[] = {1, 2};
    (void)v.reserve(1);
    v.append_reserved(two, 9);
  }));
  CHECK(refused("containers.hpp", "first_ != end_", [] { sse::detail::ring<int>{}.pop_front(); }));
  CHECK(refused("containers.hpp", "ordinal - first_", [] {
    sse::detail::ring<int> r;
    (void)r.reserve_one();
    r.push_reserved(1);
    (void)r[1];
  }));
  CHECK(refused("byte_buffer.hpp", "size <= size_", [] { sse::detail::bytes{}.truncate(1); }));
  CHECK(refused("lines.hpp", "p != end", [] {
    const char text[] = "x";
    (void)sse::detail::skip_line_end(text, text + 1);
  }));
  CHECK(refused("utf8.hpp", "!text.empty()", [] { (void)sse::detail::next_utf8({}); }));
}

#endif
