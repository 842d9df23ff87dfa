#include <catch2/catch.hpp>

#include "support/catch_result.hpp"
#include "upstream/token.hpp"

namespace sluice::upstream {
namespace {

using std::chrono::seconds;

TEST_CASE("Token: token, access_token, and how long it lives", "[upstream]") {
  CHECK(parse_token(R"({"token":"a"})")->text == "a");
  CHECK(parse_token(R"({"access_token":"b"})")->text == "b");
  CHECK(parse_token(R"({"token":"","access_token":"b"})")->text == "b");
  CHECK(parse_token(R"({"token":"a","access_token":"b"})")->text == "a");
  CHECK(parse_token(R"({"token":"a"})")->lifetime == seconds(60));
  CHECK(parse_token(R"({"token":"a","expires_in":5})")->lifetime == seconds(60));
  CHECK(parse_token(R"({"token":"a","expires_in":-5})")->lifetime == seconds(60));
  CHECK(parse_token(R"({"token":"a","expires_in":300})")->lifetime == seconds(300));
  CHECK(parse_token(R"({"token":"a","expires_in":300.9})")->lifetime == seconds(300));
  CHECK(parse_token(R"({"token":"a","expires_in":1e300})")->lifetime == seconds(86400));
  CHECK(parse_token(R"({"token":"a","expires_in":"300"})")->lifetime == seconds(60));
}

TEST_CASE("Token: refuses what is none", "[upstream]") {
  for (const std::string text : {"", "x", "[]", "{}", R"({"token":1})", R"({"token":"a b"})",
                                 "{\"token\":\"a\\r\\nX: y\"}", R"({"token":"é"})", R"({"token":"secret")"}) {
    INFO(text);
    const auto token = parse_token(text);
    REQUIRE_FALSE(token);
    CHECK(token.error().code == Errc::upstream_protocol);
    CHECK(token.error().message.find("secret") == std::string::npos);
  }
  std::string deep = R"({"token":"a","x":)";
  for (int i = 0; i < 100'000; ++i) deep += '[';
  CHECK_FALSE(parse_token(deep));
  CHECK_FALSE(parse_token(R"({"token":")" + std::string(100'000, 'a') + "\"}"));
  const std::string small = R"({"token":"a"})";
  CHECK(parse_token(small + std::string(kMaxTokenBodyBytes - small.size(), ' ')));
  CHECK_FALSE(parse_token(small + std::string(kMaxTokenBodyBytes, ' ')));
  std::string many = R"({"token":"a","x":[0)";
  for (int i = 0; i < 1'000; ++i) many += ",0";
  CHECK_FALSE(parse_token(many + "]}"));
}

TEST_CASE("Token: renewed before its end", "[upstream]") {
  CHECK(renewal_margin(seconds(60)) == seconds(15));
  CHECK(renewal_margin(seconds(300)) == seconds(30));
  CHECK(renewal_margin(seconds(43200)) == seconds(30));
}

}  // namespace
}  // namespace sluice::upstream
