// What examples/common/json.hpp gives to programs that pass JSON on.
#include "common/json.hpp"

#include <string>

#include "catch.hpp"

using namespace examples;

namespace {

bool reads(const json_document& doc, std::string_view key, std::string_view value) {
  return doc.raw(key).value_or("absent") == value;
}

}  // namespace

TEST_CASE("an object is written on one line, with its strings escaped") {
  CHECK(json_object{}.done() == "{}");
  const std::string made =
      json_object{}.text("a\"", "x\n\xff").number("n", -5).raw("r", "[1]").done();
  json_document doc;
  CHECK(doc.parse(made) == json_result::object);
  CHECK(made == "{\"a\\\"\":\"x\\n\xef\xbf\xbd\",\"n\":-5,\"r\":[1]}");
}

TEST_CASE("a member is read as it was written") {
  const std::string text = R"( { "a" : {"b" : "} , \" \\" , "c":[1, 2 ,
 {}]} ,"n": 12345678901234567890123 , "f":1.10,"\u0064ata": [ "x y" ], "e":{}, "s":" a \\\" b " ,
 "t" : true, "z": "last" } )";
  json_document doc;
  REQUIRE(doc.parse(text) == json_result::object);
  CHECK(reads(doc, "a", R"({"b":"} , \" \\","c":[1,2,{}]})"));
  CHECK(reads(doc, "n", "12345678901234567890123"));
  CHECK(reads(doc, "f", "1.10"));
  CHECK(reads(doc, "data", R"(["x y"])"));
  CHECK(reads(doc, "e", "{}"));
  CHECK(reads(doc, "s", R"(" a \\\" b ")"));
  CHECK(reads(doc, "t", "true"));
  CHECK(reads(doc, "z", R"("last")"));
  CHECK_FALSE(doc.raw("y"));
}

TEST_CASE("of a member that comes twice the last is read") {
  json_document doc;
  const std::string text = R"({"a":1,"b":2,"a":{"c":3}})";
  REQUIRE(doc.parse(text) == json_result::object);
  CHECK(reads(doc, "a", R"({"c":3})"));
  CHECK_FALSE(json_document{}.raw("a"));
}

TEST_CASE("arrays of nothing but strings are read") {
  json_document doc;
  REQUIRE(doc.parse(R"({"a":["x","y"],"b":[],"c":["x",1],"d":"x"})") == json_result::object);
  CHECK(doc.strings("a") == std::vector<std::string_view>{"x", "y"});
  CHECK(doc.strings("b").value_or(std::vector<std::string_view>{"?"}).empty());
  CHECK_FALSE(doc.strings("c"));
  CHECK_FALSE(doc.strings("d"));
  CHECK_FALSE(doc.strings("e"));
}
