// detail/http/ip_address.hpp: which texts are IP addresses, and the one text of each.
#include <sse/detail/http/ip_address.hpp>

#if __has_include(<arpa/inet.h>)
#include <arpa/inet.h>
#define HAVE_INET 1
#endif

#include <string>
#include <string_view>

#include "catch.hpp"
#include "random_source.hpp"

namespace {

using sse::detail::parse_ip;
using text = std::string_view;

}  // namespace

TEST_CASE("address: IPv6") {
  for (const text good :
       {"::", "::1", "1::", "1:2:3:4:5:6:7:8", "1::8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8",
        "1:2:3:4:5:6:1.2.3.4", "::1.2.3.4", "1:2:3:4:5::1.2.3.4", "::ffff:255.255.255.255",
        "ABCD:ef01::", "0000::0001"}) {
    INFO(good);
    CHECK(parse_ip(good).size == 16);
  }
  for (const text bad : {":",
                         ":::",
                         "1:",
                         ":1",
                         "1:::2",
                         "1::2::3",
                         "::1::",
                         "1:2:3:4:5:6:7",
                         "1:2:3:4:5:6:7:8:9",
                         "1:2:3:4:5:6:7:8::",
                         "1::2:3:4:5:6:7:8",
                         "::1:2:3:4:5:6:7:8",
                         "12345::",
                         "00001::",
                         "g::",
                         "-1::",
                         "::1.2.3",
                         "::1.2.3.4.5",
                         "::256.2.3.4",
                         "::1.2.3.x",
                         "::1..3.4",
                         "::1.2.3.",
                         "::1.2.3.4:1",
                         "1.2.3.4::",
                         "1:2:3:4:5:6:7:1.2.3.4",
                         "1:2:3:4:5:6::1.2.3.4",
                         "1:2:3:4:5:1.2.3.4",
                         "::01.2.3.4",
                         "::0001.2.3.4",
                         "::99999999.0.0.1",
                         "::1%eth0",
                         "::1 ",
                         " ::1",
                         "[::1]"}) {
    INFO(bad);
    CHECK_FALSE(parse_ip(bad));
  }
}

TEST_CASE("address: IPv4") {
  for (const text good : {"0.0.0.0", "1.2.3.4", "255.255.255.255", "10.0.0.9"}) {
    INFO(good);
    CHECK(parse_ip(good).size == 4);
    CHECK(sse::detail::client_ip_text(good) == good);
  }
  for (const text bad : {"",
                         ".",
                         "1",
                         "1.2",
                         "1.2.3",
                         "1.2.3.",
                         ".1.2.3",
                         "1.2.3.4.",
                         "1.2.3.4.5",
                         "1..2.3",
                         "256.1.1.1",
                         "1.1.1.256",
                         "1.1.1.999999999999",
                         "01.2.3.4",
                         "1.2.3.00",
                         "1.2.3.04",
                         "1.2.3.4 ",
                         " 1.2.3.4",
                         "1.2.3.-4",
                         "1.2.3.+4",
                         "0x1.2.3.4",
                         "1.2.3.a",
                         "1,2,3,4",
                         "1.2.3.4/8"}) {
    INFO(bad);
    CHECK_FALSE(parse_ip(bad));
    CHECK(sse::detail::client_ip_text(bad).empty());
  }
  CHECK(parse_ip("1.2.3.4").bytes[0] == 1);
  CHECK(parse_ip("1.2.3.4").bytes[3] == 4);
}

TEST_CASE("address: with a port, as proxies write it") {
  using sse::detail::parse_ip_port;
  for (const text good : {"1.2.3.4", "1.2.3.4:0", "1.2.3.4:65535", "1.2.3.4:00080"}) {
    INFO(good);
    CHECK(parse_ip_port(good).size == 4);
    CHECK(parse_ip_port(good).bytes[3] == 4);
  }
  for (const text good :
       {"::1", "[::1]", "[::1]:0", "[::1]:65535", "1:2:3:4:5:6:7:8", "::1.2.3.1"}) {
    INFO(good);
    CHECK(parse_ip_port(good).size == 16);
  }
  CHECK(parse_ip_port("::1:80").bytes[15] == 0x80);  // without brackets it is a group
  for (const text bad : {"",
                         ":",
                         ":80",
                         "1.2.3.4:",
                         "1.2.3.4:65536",
                         "1.2.3.4:99999999999",
                         "1.2.3.4:x",
                         "1.2.3.4:8x",
                         "1.2.3.4:-1",
                         "1.2.3.4: 80",
                         "1.2.3.4:80:80",
                         "1.2.3:80",
                         "[",
                         "[]",
                         "]",
                         "[::1",
                         "::1]",
                         "[::1]x",
                         "[::1]x:80",
                         "[::1]:",
                         "[::1]:x",
                         "[::1]:65536",
                         "[::1]:80:80",
                         "[::1]80",
                         "[[::1]]",
                         "[1.2.3.4]",
                         "[1.2.3.4]:80",
                         "[::1%eth0]",
                         "x[::1]",
                         "host:80"}) {
    INFO(bad);
    CHECK_FALSE(parse_ip_port(bad));
  }
}

TEST_CASE("address: each has one text") {
  using sse::detail::client_ip_text;
  CHECK(client_ip_text("2001:DB8:0:0:0:0:0:1") == "2001:db8::1");
  CHECK(client_ip_text("2001:0db8::0001") == "2001:db8::1");
  CHECK(client_ip_text("0:0:0:0:0:0:0:0") == "::");
  CHECK(client_ip_text("1:0:0:2:0:0:0:3") == "1:0:0:2::3");       // the longest run
  CHECK(client_ip_text("1:0:0:2:0:0:3:4") == "1::2:0:0:3:4");     // the first of two
  CHECK(client_ip_text("1:0:2:3:4:5:6:7") == "1:0:2:3:4:5:6:7");  // one group is no run
  CHECK(client_ip_text("1:2:3:4:5:6:0:0") == "1:2:3:4:5:6::");
  CHECK(client_ip_text("0:0:3:4:5:6:7:8") == "::3:4:5:6:7:8");
  // A mapped address is the IPv4 address, and nothing else is.
  CHECK(client_ip_text("::ffff:1.2.3.4") == "1.2.3.4");
  CHECK(client_ip_text("::FFFF:102:304") == "1.2.3.4");
  CHECK(client_ip_text("0:0:0:0:0:ffff:0102:0304") == "1.2.3.4");
  CHECK(client_ip_text("::1.2.3.4") == "::1.2.3.4");
  CHECK(client_ip_text("::fffe:1.2.3.4") == "::fffe:102:304");
  CHECK(client_ip_text("::ff:1.2.3.4") == "::ff:102:304");
  CHECK(client_ip_text("::ff00:1.2.3.4") == "::ff00:102:304");
  CHECK(client_ip_text("1::ffff:1.2.3.4") == "1::ffff:102:304");
  CHECK(client_ip_text("::1:ffff:1.2.3.4") == "::1:ffff:102:304");
  CHECK(client_ip_text("64:ff9b::1.2.3.4") == "64:ff9b::102:304");
}

#ifdef HAVE_INET
TEST_CASE("address: as strict as inet_pton, and written as inet_ntop does") {
  test::random_source random{7};
  int read = 0;
  const auto compare = [&](const std::string& s) {
    const sse::detail::ip_address ours = parse_ip(s);
    sse::detail::ip_address theirs;
    const int family = s.find(':') != std::string::npos ? AF_INET6 : AF_INET;
    if (::inet_pton(family, s.c_str(), theirs.bytes.data()) == 1) {
      theirs.size = family == AF_INET ? 4 : 16;
      ++read;
    }
    CAPTURE(s, theirs.size);
    REQUIRE(ours.size == theirs.size);
    if (!ours) return;
    char written[INET6_ADDRSTRLEN] = {};
    ::inet_ntop(family, theirs.bytes.data(), written, sizeof written);
    REQUIRE(sse::detail::ip_text(ours) == written);
  };
  // Shapes that are nearly right: groups, runs of zeros, a tail of IPv4, then a byte too many.
  const text pieces[] = {"0",     "0",   "0",       "1",  "ffff", "00a0",
                         "12345", "ABc", "1.2.3.4", "::", "",     "255"};
  for (int i = 0; i < 200'000; ++i) {
    std::string s;
    const std::uint64_t n = 1 + random.below(9);
    const char between = random.one_in(4) ? '.' : ':';
    for (std::uint64_t k = 0; k < n; ++k) {
      if (k != 0) s += between;
      s += pieces[random.below(std::size(pieces))];
    }
    if (random.one_in(3)) s.insert(random.below(s.size() + 1), 1, "0:.f9x "[random.below(7)]);
    if (random.one_in(3) && !s.empty()) s.erase(random.below(s.size()), 1);
    compare(s);
  }
  for (int i = 0; i < 20'000; ++i) {  // random ones, with many zeros
    char written[INET6_ADDRSTRLEN] = {};
    unsigned char bytes[16];
    for (unsigned char& b : bytes) {
      b = random.one_in(3) ? static_cast<unsigned char>(random.below(256)) : 0;
    }
    const bool v4 = random.one_in(4);
    ::inet_ntop(v4 ? AF_INET : AF_INET6, bytes, written, sizeof written);
    compare(written);
  }
  CHECK(read > 25'000);
}
#endif

TEST_CASE("address: under what name a cap counts it") {
  struct row {
    text address;
    unsigned bits;
    text name;
  };
  for (const row& r :
       {row{"2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::/64"},
        row{"2001:db8:1:2ff:3:4:5:6", 63, "2001:db8:1:2fe::/63"},
        row{"2001:db8::1", 127, "2001:db8::/127"}, row{"2001:db8::1", 128, "2001:db8::1"},
        row{"2001:db8::1", 0, "::/0"}, row{"192.0.2.1", 64, "192.0.2.1"},
        row{"192.0.2.1", 8, "192.0.2.1"}, row{"unix:/run/x", 64, "unix:/run/x"}, row{"", 64, ""}}) {
    INFO(r.address << " /" << r.bits);
    std::string room;
    CHECK(sse::detail::counted_address(r.address, r.bits, room) == r.name);
  }
}
