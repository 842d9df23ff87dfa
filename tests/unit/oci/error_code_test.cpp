#include "oci/error_code.hpp"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>

using namespace sluice;
using namespace sluice::oci;
using nlohmann::json;

namespace {

json body_of(std::string_view message, std::string_view detail = {}) {
  const std::string body = error_body(ErrorCode::manifest_unknown, message, detail);
  INFO(body);
  const json parsed = json::parse(body, nullptr, false);
  REQUIRE(parsed.is_object());
  REQUIRE(parsed.size() == 1);
  REQUIRE(parsed.at("errors").size() == 1);
  const json& error = parsed.at("errors").at(0);
  REQUIRE(error.size() == 3);
  CHECK(error.at("code") == "MANIFEST_UNKNOWN");
  return error;
}

}  // namespace

TEST_CASE("Error code: each has the name that stands on the wire", "[oci]") {
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(ErrorCode::unknown); ++i) names.insert(name(static_cast<ErrorCode>(i)));
  CHECK(names == std::set<std::string_view>{
                     "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID",
                     "MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN",
                     "SIZE_INVALID", "UNAUTHORIZED", "DENIED", "UNSUPPORTED", "TOOMANYREQUESTS",
                     "PAGINATION_NUMBER_INVALID", "RANGE_INVALID", "TAG_INVALID", "UNAVAILABLE", "UNKNOWN"});
}

TEST_CASE("Error body: code, message and detail", "[oci]") {
  CHECK(error_body(ErrorCode::blob_unknown, "blob unknown to registry") ==
        R"({"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry","detail":null}]})");
  CHECK(body_of("m").at("detail").is_null());
  CHECK(body_of("m", "text").at("detail") == "text");
  CHECK(body_of("m", R"({"Tag":"latest"})").at("detail") == json{{"Tag", "latest"}});
  CHECK(body_of("m", R"([1,"two"])").at("detail") == json::array({1, "two"}));
}

TEST_CASE("Error body: a detail that only looks like JSON is a text", "[oci]") {
  for (const char* text : {"{", "[1,]", "{}}", "{\"a\":\"\xff\"}", "1", "null", "\"x\"", "[1]x", "{\"a\":\n\"\n\"}"}) {
    CHECK(body_of("m", text).at("detail").is_string());
  }
  CHECK(body_of("m", std::string_view("{}\0\"", 4)).at("detail").is_string());
}

TEST_CASE("Error body: it is valid whatever the texts hold", "[oci]") {
  CHECK(body_of("a \"quoted\" \\ text\n").at("message") == "a \"quoted\" \\ text\n");
  CHECK(body_of("\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xb3").at("message") == "\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xb3");
  std::mt19937 random(8);
  for (int i = 0; i < 2000; ++i) {
    std::string message(random() % 12, '\0');
    std::string detail(random() % 12, '\0');
    for (char& c : message) c = static_cast<char>(random());
    for (char& c : detail) c = random() % 4 == 0 ? "{}[]\":,"[random() % 7] : static_cast<char>(random());
    body_of(message, detail);
  }
}

TEST_CASE("Error body: what is written is read back", "[oci]") {
  const auto error = parse_error_body(error_body(ErrorCode::too_many_requests, "slow down: \"pull\"", "{}"));
  CHECK(error == RegistryError{"TOOMANYREQUESTS", "slow down: \"pull\""});
}

TEST_CASE("Registry error: the first of a list that says something", "[oci]") {
  CHECK(parse_error_body(R"({"errors":[{"code":"DENIED","message":"no"},{"code":"UNKNOWN"}]})") ==
        RegistryError{"DENIED", "no"});
  CHECK(parse_error_body(R"({"errors":[null,{},"x",[],{"detail":"only this"}]})") == RegistryError{"", "only this"});
  CHECK(parse_error_body(R"({"errors":[{"code":"NAME_UNKNOWN"}]})") == RegistryError{"NAME_UNKNOWN", ""});
  CHECK(parse_error_body(R"({"errors":[{"code":403,"message":null}]})") == RegistryError{"403", ""});
  CHECK(parse_error_body(R"({"errors":[{"code":{},"message":"m"}]})") == RegistryError{"", "m"});
}

TEST_CASE("Registry error: the shapes of token servers and clouds", "[oci]") {
  CHECK(parse_error_body(R"({"details":"incorrect username or password"})") ==
        RegistryError{"", "incorrect username or password"});
  CHECK(parse_error_body(R"({"error":"invalid_grant","error_description":"expired"})") ==
        RegistryError{"invalid_grant", "expired"});
  CHECK(parse_error_body(R"({"error":{"code":403,"message":"Permission denied","status":"PERMISSION_DENIED"}})") ==
        RegistryError{"PERMISSION_DENIED", "Permission denied"});
  CHECK(parse_error_body(R"({"message":"Bad credentials","documentation_url":"x"})") ==
        RegistryError{"", "Bad credentials"});
  CHECK(parse_error_body(R"({"errors":[],"message":"fallback"})") == RegistryError{"", "fallback"});
}

TEST_CASE("Registry error: nothing in what is none", "[oci]") {
  for (const char* text :
       {"", " ", "null", "1", "[]", "{}", "{", "<html>404</html>", "404 page not found\n", "\xff", R"({"errors":null})",
        R"({"errors":[]})", R"({"errors":[{}]})", R"({"errors":{"code":"X"}})", R"({"error":{}})", R"({"error":[]})",
        R"({"token":"secret"})", R"({"code":"","message":""})"}) {
    INFO(text);
    CHECK_FALSE(parse_error_body(text));
  }
}

TEST_CASE("Registry error: bounded, on one line", "[oci]") {
  const std::string message = "line\none\ttwo\x7f" + std::string(5000, 'x');
  const auto error = parse_error_body(json{{"code", std::string(500, 'C')}, {"message", message}}.dump());
  REQUIRE(error);
  CHECK(error->code == std::string(64, 'C'));
  CHECK(error->message.size() == 1024);
  CHECK(error->message.starts_with("line one two xxx"));

  // Not cut inside a character.
  std::string wide = "x";
  for (int i = 0; i < 1000; ++i) wide += "\xe2\x82\xac";
  const auto cut = parse_error_body(json{{"message", wide}}.dump());
  REQUIRE(cut);
  CHECK(cut->message.size() == 1024);
  CHECK(json(cut->message).dump().size() == 1026);

  std::string narrower = wide.substr(1);
  const auto shorter = parse_error_body(json{{"message", narrower}}.dump());
  REQUIRE(shorter);
  CHECK(shorter->message.size() == 1023);
  CHECK_NOTHROW(json(shorter->message).dump());
}

TEST_CASE("Registry error: large and deep bodies are not looked at", "[oci]") {
  const std::string small = R"({"message":"m"})";
  CHECK(parse_error_body(small + std::string(kMaxErrorBodyBytes - small.size(), ' ')));
  CHECK_FALSE(parse_error_body(small + std::string(kMaxErrorBodyBytes, ' ')));
  CHECK_FALSE(parse_error_body(std::string(kMaxErrorBodyBytes, '[')));
  const std::string deep = std::string(1'000, '[') + std::string(1'000, ']');
  CHECK_FALSE(parse_error_body(R"({"x":)" + deep + R"(,"message":"m"})"));
  const std::string within = std::string(15, '[') + std::string(15, ']');
  CHECK(parse_error_body(R"({"x":)" + within + R"(,"message":"m"})") == RegistryError{"", "m"});
  std::string many = R"({"message":"m","x":[0)";
  for (int i = 0; i < 1'000; ++i) many += ",0";
  CHECK_FALSE(parse_error_body(many + "]}"));
}
