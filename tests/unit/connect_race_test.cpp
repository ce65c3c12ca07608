// detail/client/connect_race.hpp: several addresses of one host (RFC 8305), in virtual time.
#include <sse/detail/client/connect_race.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"

namespace {

using sse::duration;
using sse::time_point;
using sse::detail::connect_race;

/// The families of addresses, as digits; after alternate_families.
std::string alternated(std::string_view families) {
  std::vector<std::string> addresses;
  for (std::size_t i = 0; i < families.size(); ++i) {
    addresses.push_back(std::string{families[i]} + static_cast<char>('a' + i));
  }
  sse::detail::alternate_families(addresses, [](const std::string& a) { return a[0] == '6'; });
  std::string out;
  for (const std::string& a : addresses) out += a;
  CHECK(addresses.size() == families.size());
  return out;
}

struct race_rig {
  connect_race race;
  std::int64_t ms = 1000;
  [[nodiscard]] time_point now() const { return time_point::milliseconds(ms); }
  /// How many begin now.
  int begin() {
    int n = 0;
    while (race.begin(now())) ++n;
    return n;
  }
  /// When each attempt begins if none of them answers.
  std::vector<std::int64_t> begins() {
    std::vector<std::int64_t> out;
    const std::int64_t start = ms;
    for (;;) {
      for (int n = begin(); n > 0; --n) out.push_back(ms - start);
      if (race.due() == time_point::never()) return out;
      REQUIRE(race.due().ms() > ms);
      ms = race.due().ms();
    }
  }
};

}  // namespace

TEST_CASE("race: families alternate, and keep their order", "[client]") {
  CHECK(alternated("").empty());
  CHECK(alternated("4") == "4a");
  CHECK(alternated("444") == "4a4b4c");
  CHECK(alternated("664444") == "6a4c6b4d4e4f");
  CHECK(alternated("4466") == "4a6c4b6d");
  CHECK(alternated("46664") == "4a6b4e6c6d");
}

TEST_CASE("race: the next begins after the delay, while those before still run", "[client]") {
  race_rig r{{6, duration::milliseconds(250), duration::seconds(30)}};
  CHECK(r.begins() == std::vector<std::int64_t>{0, 250, 500, 750, 1000, 1250});
  CHECK_FALSE(r.race.lost());
  for (int n = 0; n < 6; ++n) {
    CHECK_FALSE(r.race.lost());
    r.race.failed(r.now());
  }
  CHECK(r.race.lost());
  CHECK(r.begin() == 0);
}

TEST_CASE("race: one that fails lets the next begin at once, and only that one", "[client]") {
  race_rig r{{4, duration::milliseconds(250), duration::seconds(30)}};
  CHECK(r.begin() == 1);
  CHECK(r.race.at() == 0);
  r.ms += 100;
  CHECK(r.begin() == 0);
  r.race.failed(r.now());
  CHECK(r.begin() == 1);
  CHECK(r.race.at() == 1);
  CHECK(r.race.due() == r.now() + duration::milliseconds(250));
  r.ms += 249;
  CHECK(r.begin() == 0);
  r.ms += 1;
  CHECK(r.begin() == 1);
  r.race.failed(r.now());
  CHECK(r.begin() == 1);
  CHECK(r.race.due() == time_point::never());
  r.race.failed(r.now());
  CHECK_FALSE(r.race.lost());
  r.race.failed(r.now());
  CHECK(r.race.lost());
}

TEST_CASE("race: without a delay the next one waits for a failure", "[client]") {
  race_rig r{{2, duration::off(), duration::seconds(30)}};
  CHECK(r.begin() == 1);
  CHECK(r.race.due() == time_point::never());
  r.ms += 1'000'000;
  CHECK(r.begin() == 0);
  r.race.failed(r.now());
  CHECK(r.begin() == 1);
}

TEST_CASE("race: every address has its turn within the time there is", "[client]") {
  for (const std::size_t addresses : {1U, 6U, 59U, 60U, 200U, 1000U}) {
    race_rig r{{addresses, duration::milliseconds(250), duration::seconds(30)}};
    const std::vector<std::int64_t> begins = r.begins();
    REQUIRE(begins.size() == addresses);
    CHECK(begins.back() <= 15'000);
    if (addresses > 59) CHECK(begins.back() > 13'900);  // and none hurries without need
    for (std::size_t i = 1; i < begins.size(); ++i) REQUIRE(begins[i] - begins[i - 1] >= 10);
  }
  // No patience, no hurry; and never faster than RFC 8305 allows.
  race_rig patient{{100, duration::milliseconds(250), duration::off()}};
  CHECK(patient.begins().back() == 99 * 250);
  race_rig hasty{{100, duration::milliseconds(250), duration::milliseconds(20)}};
  CHECK(hasty.begins().back() == 990);
  race_rig fine{{3, duration::milliseconds(5), duration::seconds(30)}};
  CHECK(fine.begins() == std::vector<std::int64_t>{0, 5, 10});
}

TEST_CASE("race: one that was won or not begun yet has nothing to do", "[client]") {
  race_rig r{{3, duration::milliseconds(250), duration::seconds(30)}};
  CHECK(r.begin() == 1);
  r.race.stop();
  r.ms += 1000;
  CHECK(r.begin() == 0);
  CHECK(r.race.due() == time_point::never());
  r.race.failed(r.now());  // one that lost is not replaced
  CHECK(r.begin() == 0);
  CHECK(r.race.due() == time_point::never());
  race_rig none{connect_race{}};
  CHECK(none.begin() == 0);
  CHECK(none.race.due() == time_point::never());
}
