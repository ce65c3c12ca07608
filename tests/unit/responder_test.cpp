// responder.hpp by itself: one answer, or none, told once.
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <sse/responder.hpp>

#include "catch.hpp"

namespace {

using text_responder = sse::basic_responder<std::string>;

/// What a server is told.
struct told_answers {
  text_responder make() {
    return text_responder{[this](std::string* a) { all.push_back(a != nullptr ? *a : "none"); },
                          late};
  }
  std::vector<std::string> all{};
  std::shared_ptr<sse::detail::late_answer> late = std::make_shared<sse::detail::late_answer>();
};

}  // namespace

TEST_CASE("a responder answers once, and says so when it is dropped before that", "[responder]") {
  told_answers s;
  using answers = std::vector<std::string>;
  {
    text_responder r = s.make();
    CHECK(r);
    r("one");
    CHECK_FALSE(r);
    CHECK(s.all == answers{"one"});
    r("two");
  }
  CHECK(s.all == answers{"one"});
  { const text_responder r = s.make(); }
  CHECK(s.all == answers{"one", "none"});
  s.all.clear();
  {
    text_responder r = s.make();
    text_responder to{std::move(r)};
    CHECK_FALSE(r);
    CHECK(to);
    text_responder& same = to;
    to = std::move(same);
    CHECK(to);
    CHECK(s.all.empty());
    to = s.make();  // what it had before is not answered any more
    CHECK(s.all == answers{"none"});
    to = text_responder{};
    CHECK_FALSE(to);
    CHECK(s.all == answers{"none", "none"});
    to("late");
  }
  CHECK(s.all == answers{"none", "none"});
}

TEST_CASE("a responder that cannot say that it was dropped keeps quiet", "[responder]") {
  int calls = 0;
  {
    const text_responder r{[&](std::string*) {
      ++calls;
      throw std::runtime_error("memory is out");
    }};
  }
  CHECK(calls == 1);
}

TEST_CASE("a responder knows when nobody waits for it any more", "[responder]") {
  told_answers s;
  text_responder r = s.make();
  CHECK_FALSE(r.called_off());
  int ended = 0;
  r.on_called_off([&] { ++ended; });
  REQUIRE(s.late->on_called_off);
  s.late->on_called_off();
  CHECK(ended == 1);
  s.late->called_off = true;
  CHECK(r.called_off());
  text_responder none;
  none.on_called_off([&] { ++ended; });
  CHECK_FALSE(none.called_off());
  text_responder moved{std::move(r)};
  CHECK(moved.called_off());
  none = std::move(moved);
  CHECK(none.called_off());
}
