// detail/http/url.hpp: what a URL reads as, what is refused, where a redirect leads.
#include <sse/detail/http/url.hpp>

#include <string>
#include <string_view>

#include "catch.hpp"

using namespace std::string_literals;
using namespace std::string_view_literals;

namespace {

using sse::url_error;
using sse::detail::url;
using text = std::string_view;

url_error error_of(text s) {
  url u;
  const url_error e = u.parse(s);
  if (e != url_error::none) CHECK(u.href().empty());
  return e;
}

std::string resolved(text base, text reference) {
  url b;
  REQUIRE(b.parse(base) == url_error::none);
  url u;
  const url_error e = u.resolve(b, reference);
  const std::string result{e == url_error::none ? u.href() : to_string(e)};
  CHECK(b.resolve(b, reference) == e);  // in place, as a redirect does
  if (e == url_error::none) CHECK(b.href() == result);
  return result;
}

bool same(text a, text b) {
  url x, y;
  REQUIRE(x.parse(a) == url_error::none);
  REQUIRE(y.parse(b) == url_error::none);
  return same_origin(x, y);
}

}  // namespace

TEST_CASE("url: what is read") {
  struct row {
    text in, host;
    unsigned port;
    bool tls;
    text authority, target, href;
  };
  const row rows[] = {
      {"http://h", "h", 80, false, "h", "/", "http://h/"},
      {"http://h/", "h", 80, false, "h", "/", "http://h/"},
      {"HTTP://Example.COM:80/A", "example.com", 80, false, "example.com", "/A",
       "http://example.com/A"},
      {"https://h:443/?", "h", 443, true, "h", "/?", "https://h/?"},
      {"https://h:8443/a?b=c&d", "h", 8443, true, "h:8443", "/a?b=c&d", "https://h:8443/a?b=c&d"},
      {"http://h:443/", "h", 443, false, "h:443", "/", "http://h:443/"},
      {"http://h:/a", "h", 80, false, "h", "/a", "http://h/a"},
      {"http://h:00080/a", "h", 80, false, "h", "/a", "http://h/a"},
      {"http://h?q", "h", 80, false, "h", "/?q", "http://h/?q"},
      {"http://h#f", "h", 80, false, "h", "/", "http://h/"},
      {"http://h/a?b#c?d", "h", 80, false, "h", "/a?b", "http://h/a?b"},
      {"http://h/a#b/../c", "h", 80, false, "h", "/a", "http://h/a"},
      {"http://127.0.0.1:1/", "127.0.0.1", 1, false, "127.0.0.1:1", "/", "http://127.0.0.1:1/"},
      {"http://[::1]/", "::1", 80, false, "[::1]", "/", "http://[::1]/"},
      {"https://[2001:DB8::A]:8443/x", "2001:db8::a", 8443, true, "[2001:db8::a]:8443", "/x",
       "https://[2001:db8::a]:8443/x"},
      {"http://[::ffff:1.2.3.4]:80", "::ffff:1.2.3.4", 80, false, "[::ffff:1.2.3.4]", "/",
       "http://[::ffff:1.2.3.4]/"},
      {"http://a_b-c.d./", "a_b-c.d.", 80, false, "a_b-c.d.", "/", "http://a_b-c.d./"},
      {"http://h/a/./b/../c", "h", 80, false, "h", "/a/c", "http://h/a/c"},
      {"http://h/../../a", "h", 80, false, "h", "/a", "http://h/a"},
      {"http://h//a//b", "h", 80, false, "h", "//a//b", "http://h//a//b"},
      {"http://h/a b", "h", 80, false, "h", "/a%20b", "http://h/a%20b"},
      {"http://h/\xC3\xA9?\xC3\xA9=\"<>\\^`{|}", "h", 80, false, "h",
       "/%C3%A9?%C3%A9=%22%3C%3E%5C%5E%60%7B%7C%7D",
       "http://h/%C3%A9?%C3%A9=%22%3C%3E%5C%5E%60%7B%7C%7D"},
      {"http://h/%2e%2E/%zz", "h", 80, false, "h", "/%2e%2E/%zz", "http://h/%2e%2E/%zz"},
      {"http://h/a@b:c", "h", 80, false, "h", "/a@b:c", "http://h/a@b:c"},
      {"http://h?a/../b", "h", 80, false, "h", "/?a/../b", "http://h/?a/../b"},
  };
  for (const row& t : rows) {
    INFO(t.in);
    url u;
    CHECK(u.parse(t.in) == url_error::none);
    CHECK(u.host() == t.host);
    CHECK(u.port() == t.port);
    CHECK(u.tls() == t.tls);
    CHECK(u.authority() == t.authority);
    CHECK(u.target() == t.target);
    CHECK(u.href() == t.href);
    CHECK(std::string{u.origin()} + std::string{u.target()} == u.href());
    url again;
    CHECK(again.parse(u.href()) == url_error::none);
    CHECK(again.href() == u.href());
  }
}

TEST_CASE("url: what is refused") {
  struct row {
    text in;
    url_error error;
  };
  const std::string long_host(253, 'a');
  const std::string longer_host(254, 'a');
  const row rows[] = {
      {"", url_error::scheme},
      {"h", url_error::scheme},
      {"/a", url_error::scheme},
      {"//h/a", url_error::scheme},
      {"ftp://h/", url_error::scheme},
      {"http:/h", url_error::scheme},
      {"http:h", url_error::scheme},
      {" http://h", url_error::scheme},
      {"javascript:alert(1)", url_error::scheme},
      {"ws://h", url_error::scheme},
      {"http://u@h/", url_error::user_info},
      {"http://u:p@h/", url_error::user_info},
      {"http://@h/", url_error::user_info},
      {"http://good.example\\@evil.example/", url_error::user_info},
      {"http://", url_error::host},
      {"http:///a", url_error::host},
      {"http://:80/", url_error::host},
      {"http://h\\a", url_error::host},
      {"http://h h/", url_error::host},
      {"http://h%41/", url_error::host},
      {"http://\xC3\xA9/", url_error::host},
      {"http://a,b/", url_error::host},
      {"http://h /", url_error::host},
      {"http://[::1/", url_error::host},
      {"http://[::1]x/", url_error::host},
      {"http://[]/", url_error::host},
      {"http://[h]/", url_error::host},
      {"http://[fe80::1%25eth0]/", url_error::host},
      {"http://[1.2.3.4]/", url_error::host},
      {"http://::1/", url_error::host},
      {"http://h:0/", url_error::port},
      {"http://h:65536/", url_error::port},
      {"http://h:99999999999999999999/", url_error::port},
      {"http://h:8a/", url_error::port},
      {"http://h:-1/", url_error::port},
      {"http://h:80:80/", url_error::port},
      {"http://a:b:c/", url_error::port},
      {"http://h/\r\nX: y", url_error::character},
      {"http://h/a\tb", url_error::character},
      {"http://h/\0"sv, url_error::character},
      {"http://h/\x7f", url_error::character},
      {"http://h\n/", url_error::character},
  };
  for (const row& t : rows) {
    INFO(t.in);
    if (t.in == "http://::1/") {
      CHECK(error_of(t.in) != url_error::none);
    } else {
      CHECK(to_string(error_of(t.in)) == to_string(t.error));
    }
  }
  CHECK(error_of("http://" + long_host) == url_error::none);
  CHECK(error_of("http://" + longer_host) == url_error::host);
}

TEST_CASE("url: length limit, before and after escaping") {
  const std::size_t max = sse::detail::max_url;
  CHECK(error_of("http://h/" + std::string(max - 9, 'a')) == url_error::none);
  CHECK(error_of("http://h/" + std::string(max - 8, 'a')) == url_error::too_long);
  CHECK(error_of("http://h/" + std::string(max / 3, ' ')) == url_error::too_long);
}

TEST_CASE("url: a failed parse changes nothing") {
  url u;
  REQUIRE(u.parse("http://h/a") == url_error::none);
  CHECK(u.parse("http://u@h/b") == url_error::user_info);
  CHECK(u.resolve(u, "ftp://x/") == url_error::scheme);
  CHECK(u.href() == "http://h/a");
}

TEST_CASE("url: RFC 3986 5.4 references") {
  const text base = "http://a/b/c/d;p?q";
  const text rows[][2] = {
      // 5.4.1 normal
      {"g", "http://a/b/c/g"},
      {"./g", "http://a/b/c/g"},
      {"g/", "http://a/b/c/g/"},
      {"/g", "http://a/g"},
      {"//g", "http://g/"},
      {"?y", "http://a/b/c/d;p?y"},
      {"g?y", "http://a/b/c/g?y"},
      {"#s", "http://a/b/c/d;p?q"},
      {"g#s", "http://a/b/c/g"},
      {"g?y#s", "http://a/b/c/g?y"},
      {";x", "http://a/b/c/;x"},
      {"g;x", "http://a/b/c/g;x"},
      {"g;x?y#s", "http://a/b/c/g;x?y"},
      {"", "http://a/b/c/d;p?q"},
      {".", "http://a/b/c/"},
      {"./", "http://a/b/c/"},
      {"..", "http://a/b/"},
      {"../", "http://a/b/"},
      {"../g", "http://a/b/g"},
      {"../..", "http://a/"},
      {"../../", "http://a/"},
      {"../../g", "http://a/g"},
      // 5.4.2 abnormal
      {"../../../g", "http://a/g"},
      {"../../../../g", "http://a/g"},
      {"/./g", "http://a/g"},
      {"/../g", "http://a/g"},
      {"g.", "http://a/b/c/g."},
      {".g", "http://a/b/c/.g"},
      {"g..", "http://a/b/c/g.."},
      {"..g", "http://a/b/c/..g"},
      {"./../g", "http://a/b/g"},
      {"./g/.", "http://a/b/c/g/"},
      {"g/./h", "http://a/b/c/g/h"},
      {"g/../h", "http://a/b/c/h"},
      {"g;x=1/./y", "http://a/b/c/g;x=1/y"},
      {"g;x=1/../y", "http://a/b/c/y"},
      {"g?y/./x", "http://a/b/c/g?y/./x"},
      {"g?y/../x", "http://a/b/c/g?y/../x"},
      {"g#s/../x", "http://a/b/c/g"},
      {"http:g", "scheme"},  // strict: it is absolute, and has no host
      // ours
      {"https://H:444/x/../y", "https://h:444/y"},
      {"//u@g/", "user_info"},
      {"///g", "host"},
      {"g:h", "scheme"},
      {"./g:h", "http://a/b/c/g:h"},
      {"1:2", "http://a/b/c/1:2"},
      {"mailto:a@b", "scheme"},
      {"a b\xC3\xA9", "http://a/b/c/a%20b%C3%A9"},
      {"a\r\nb", "character"},
      {"\\\\g", "http://a/b/c/%5C%5Cg"},
  };
  for (const auto& [reference, result] : rows) {
    INFO(reference);
    CHECK(resolved(base, reference) == result);
  }
  CHECK(resolved("https://a:444", "//b/x") == "https://b/x");
  CHECK(resolved("https://a:444", "x?y") == "https://a:444/x?y");
  CHECK(resolved("http://[::1]:8080/a/b?c/d", "e") == "http://[::1]:8080/a/e");
  CHECK(resolved("http://a/", std::string(9000, 'x')) == "too_long");
}

TEST_CASE("url: origins") {
  CHECK(same("http://h/a", "HTTP://H:80/b?c"));
  CHECK(same("https://h", "https://h:443"));
  CHECK_FALSE(same("http://h", "https://h"));
  CHECK_FALSE(same("http://h:443", "https://h:443"));
  CHECK_FALSE(same("http://h", "http://h:8080"));
  CHECK_FALSE(same("http://h", "http://h.evil.example"));
  CHECK_FALSE(same("http://h", "http://x.h"));
  CHECK_FALSE(same("http://h", "http://h."));
  CHECK_FALSE(same("http://[::1]", "http://[0::1]"));  // another spelling is another origin
}

TEST_CASE("url: addresses in their plain form, and no other way to write a number") {
  const auto host = [](text authority) {
    url u;
    const url_error e = u.parse("http://" + std::string{authority} + "/");
    return std::string{e == url_error::none ? u.host() : to_string(e)};
  };
  CHECK(host("127.0.0.1") == "127.0.0.1");
  CHECK(host("[::ffff:127.0.0.1]") == "::ffff:127.0.0.1");
  for (const text name :
       {"1.2.3.4.example", "4x", "0x7g", "a1", "1a", "1.b", "localhost.", "x0x1"}) {
    INFO(name);
    CHECK(host(name) == name);
  }
  // A number that grew beyond a signed int made this an address.
  CHECK(host("[::99999999.0.0.1]") == "host");
  CHECK(host("[::4294967295.0.0.1]") == "host");
  // What a resolver would read as an address all the same: 127.0.0.1, nearly always.
  for (const text other : {"127.1", "127.0.1", "2130706433", "0x7f000001", "0X7F.1", "0x",
                           "017700000001", "0177.0.0.1", "127.0.0.01", "127.0.0.1.", "127.0.0.256",
                           "1.2.3.4.5", "1.2.3", "x.1", "a.0x1", "[1::%1]"}) {
    INFO(other);
    CHECK(host(other) == "host");
  }
}

TEST_CASE("url: a default one is empty") {
  const url u;
  CHECK(u.href().empty());
  CHECK(u.host().empty());
  CHECK(u.origin().empty());
  CHECK(u.authority().empty());
  CHECK(u.target().empty());
}
