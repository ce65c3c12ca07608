// Times at the ends of their range: too long is forever, and forever stays it.
#include <chrono>
#include <cstdint>
#include <limits>
#include <vector>

#include <sse/config.hpp>

#include "catch.hpp"

using sse::duration;
using sse::time_point;

namespace {

constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t least = std::numeric_limits<std::int64_t>::min();

}  // namespace

TEST_CASE("time: what is added up ends at never", "[time]") {
  const time_point now = time_point::milliseconds(1000);
  CHECK(now + duration::infinite() == time_point::never());
  CHECK(time_point::never() + duration::infinite() == time_point::never());
  CHECK(time_point::never() + duration::milliseconds(1) == time_point::never());
  CHECK(now + duration::milliseconds(most - 1000) == time_point::never());
  CHECK((now + duration::milliseconds(most - 1001)).ms() == most - 1);
  CHECK((time_point::milliseconds(-1000) + duration::milliseconds(least)).ms() == least);
  CHECK((time_point::milliseconds(-1000) + duration::milliseconds(least + 1000)).ms() == least);
  CHECK((time_point::milliseconds(-1000) + duration::milliseconds(least + 1001)).ms() == least + 1);
  CHECK((now + duration::milliseconds(-1)).ms() == 999);
}

TEST_CASE("time: a difference that is too long is forever", "[time]") {
  const time_point past = time_point::milliseconds(-1000);
  CHECK(time_point::never() - past == duration::infinite());
  CHECK((time_point::never() - time_point::milliseconds(0)) == duration::infinite());
  CHECK((time_point::never() - time_point::milliseconds(1)).ms() == most - 1);
  CHECK((past - time_point::milliseconds(least)) == duration::milliseconds(most - 999));
  CHECK((time_point::milliseconds(0) - time_point::milliseconds(least)) == duration::infinite());
  CHECK((time_point::milliseconds(least) - time_point::milliseconds(1)).ms() == least);
}

TEST_CASE("time: sums and differences are exact, or the end of the range", "[time]") {
  std::vector<std::int64_t> all;
  for (const std::int64_t near : {least, least / 2, std::int64_t{0}, most / 2, most}) {
    for (std::int64_t by = -3; by <= 3; ++by) {
      if ((by < 0 && near < least - by) || (by > 0 && near > most - by)) continue;
      all.push_back(near + by);
    }
  }
  // Halves and what is left of them fit in any case.
  const auto bounded = [](std::int64_t half, std::int64_t rest) {
    half += rest >= 0 ? rest / 2 : -((1 - rest) / 2);
    rest = ((rest % 2) + 2) % 2;
    if (half > most / 2) return most;
    if (half < least / 2) return least;
    return half * 2 + rest;
  };
  const auto floor_half = [](std::int64_t n) { return n / 2 - (n % 2 < 0 ? 1 : 0); };
  const auto odd = [](std::int64_t n) { return n % 2 != 0 ? std::int64_t{1} : std::int64_t{0}; };
  for (const std::int64_t a : all) {
    for (const std::int64_t b : all) {
      CAPTURE(a, b);
      const time_point t = time_point::milliseconds(a);
      CHECK((t + duration::milliseconds(b)).ms() ==
            bounded(floor_half(a) + floor_half(b), odd(a) + odd(b)));
      CHECK((t - time_point::milliseconds(b)).ms() ==
            bounded(floor_half(a) - floor_half(b), odd(a) - odd(b)));
    }
  }
  CHECK(duration::milliseconds(0).is_off());
  CHECK(duration::milliseconds(-1).is_off());
  CHECK_FALSE(duration::milliseconds(1).is_off());
}

TEST_CASE("time: what does not fit into milliseconds is forever", "[time]") {
  using std::chrono::hours;
  CHECK(duration::seconds(most / 1000).ms() == most / 1000 * 1000);
  CHECK(duration::seconds(most / 1000 + 1) == duration::infinite());
  CHECK(duration::seconds(least / 1000 - 1).ms() == least);
  CHECK(duration{std::chrono::seconds::max()} == duration::infinite());
  CHECK(duration{std::chrono::seconds::min()}.ms() == least);
  CHECK(duration{std::chrono::duration<std::int64_t, std::ratio<3600>>::max()} ==
        duration::infinite());
  CHECK(duration{hours{24}}.ms() == 86'400'000);
  CHECK(duration{std::chrono::nanoseconds::max()}.ms() == most / 1'000'000);
  CHECK(duration{std::chrono::microseconds{1'999}}.ms() == 1);
  CHECK(duration{std::chrono::milliseconds::max()} == duration::infinite());
}

TEST_CASE("time: fractions", "[time]") {
  using seconds = std::chrono::duration<double>;
  using minutes = std::chrono::duration<float, std::ratio<60>>;
  CHECK(duration{seconds{1.5}}.ms() == 1500);
  CHECK(duration{minutes{0.5F}}.ms() == 30'000);
  CHECK(duration{seconds{-0.25}}.ms() == -250);
  for (int ms = 0; ms < 2000; ++ms) {  // nothing is lost on the way
    CHECK(duration{std::chrono::duration<double, std::nano>{ms * 1e6}}.ms() == ms);
    CHECK(duration{std::chrono::duration<double, std::micro>{ms * 1e3}}.ms() == ms);
  }
  CHECK(duration{seconds{1e300}} == duration::infinite());
  CHECK(duration{seconds{std::numeric_limits<double>::infinity()}} == duration::infinite());
  CHECK(duration{seconds{-1e300}}.ms() == least);
  using exact = std::chrono::duration<double, std::milli>;  // around the last that fits
  CHECK(duration{exact{0x1p63}} == duration::infinite());
  CHECK(duration{exact{0x1p63 - 1024}}.ms() == most - 1023);
  CHECK(duration{exact{-0x1p63}}.ms() == least);
  CHECK(duration{exact{-0x1p63 - 2048}}.ms() == least);
  CHECK(duration{seconds{std::numeric_limits<double>::quiet_NaN()}}.is_off());
}

static_assert(duration::seconds(most) == duration::infinite());
static_assert(time_point::never() + duration::infinite() == time_point::never());
