#include <catch2/catch.hpp>

#include "http/challenge.hpp"

namespace sluice::http {
namespace {

TEST_CASE("Challenge: Docker Hub's", "[http]") {
  const auto found = parse_challenges(
      R"(Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push")");
  REQUIRE(found.size() == 1);
  CHECK(found[0].scheme == "bearer");
  CHECK(found[0].parameter("realm") == "https://auth.docker.io/token");
  CHECK(found[0].parameter("service") == "registry.docker.io");
  CHECK(found[0].parameter("scope") == "repository:library/alpine:pull,push");
  CHECK_FALSE(found[0].parameter("error"));
}

TEST_CASE("Challenge: several in one field", "[http]") {
  const auto found = parse_challenges(R"(Basic realm="a, b", Bearer realm = "c" , Scope=d,  Negotiate, NTLM abc==)");
  REQUIRE(found.size() == 4);
  CHECK(found[0].scheme == "basic");
  CHECK(found[0].parameter("realm") == "a, b");
  CHECK(found[1].scheme == "bearer");
  CHECK(found[1].parameter("realm") == "c");
  CHECK(found[1].parameter("scope") == "d");
  CHECK(found[2].scheme == "negotiate");
  CHECK(found[2].parameters.empty());
  CHECK(found[3].token68 == "abc==");
}

TEST_CASE("Challenge: quoted strings with escapes", "[http]") {
  const auto found = parse_challenges(R"(BEARER REALM="say \"hi\" \\ there",x="")");
  REQUIRE(found.size() == 1);
  CHECK(found[0].parameter("realm") == R"(say "hi" \ there)");
  CHECK(found[0].parameter("x") == "");
}

TEST_CASE("Challenge: careless servers", "[http]") {
  auto found = parse_challenges("Bearer realm=https://host/token,service=host");
  REQUIRE(found.size() == 1);
  CHECK(found[0].parameter("realm") == "https://host/token");
  CHECK(found[0].parameter("service") == "host");

  found = parse_challenges(R"( , ,Bearer  realm="x",,service="y",)");
  REQUIRE(found.size() == 1);
  CHECK(found[0].parameters.size() == 2);
}

TEST_CASE("Challenge: reading ends where the grammar does", "[http]") {
  CHECK(parse_challenges("").empty());
  CHECK(parse_challenges("  ").empty());
  CHECK(parse_challenges("=\"x\"").empty());
  CHECK(parse_challenges("\x01").empty());
  const auto open = parse_challenges(R"(Bearer realm="x",service="never ends)");
  REQUIRE(open.size() == 1);
  CHECK(open[0].parameters.size() == 1);
  const auto escape = parse_challenges("Bearer realm=\"x\\");
  REQUIRE(escape.size() == 1);
  CHECK(escape[0].parameters.empty());
}

TEST_CASE("Challenge: bounded", "[http]") {
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "Basic realm=a,";
  CHECK(parse_challenges(many).size() == 16);
  std::string wide = "Bearer ";
  for (int i = 0; i < 1000; ++i) wide += "p" + std::to_string(i) + "=x,";
  CHECK(parse_challenges(wide)[0].parameters.size() == 32);
}

}  // namespace
}  // namespace sluice::http
