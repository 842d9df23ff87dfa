#include <catch2/catch.hpp>

#include "admin/query.hpp"

using namespace sluice;
using namespace sluice::admin;

TEST_CASE("Query: parameters are decoded, what is broken is empty", "[admin]") {
  CHECK(query_parameter("a=1&name=ghcr.io%2Fx%3A1&b", "name") == "ghcr.io/x:1");
  CHECK(query_parameter("name=1&name=2", "name") == "1");
  CHECK(query_parameter("rename=1", "name").empty());
  CHECK(query_parameter("name=%zz", "name").empty());
  CHECK(query_parameter("name=%2", "name").empty());
  CHECK(query_parameter("name", "name").empty());
  CHECK(query_parameter("", "name").empty());
}

TEST_CASE("Query: a sample is a share of something", "[admin]") {
  CHECK(parse_sample("5%").value() == Approx(0.05));
  CHECK(parse_sample("0.25").value() == Approx(0.25));
  CHECK(parse_sample("100%").value() == 1);
  CHECK(parse_sample("1").value() == 1);
  for (const char* wrong : {"", "0", "0%", "-1", "101%", "2", "x", "5 %", "nan", "inf", "5%%"}) {
    INFO(wrong);
    const Result<double> parsed = parse_sample(wrong);
    REQUIRE(parsed.has_error());
    CHECK(parsed.error().message.find("5%") != std::string::npos);
  }
}

TEST_CASE("Query: what verify is told", "[admin]") {
  const Result<store::VerifyOptions> all = verify_options("", "", "");
  REQUIRE(all.has_value());
  CHECK(all->sample == 1);
  CHECK(all->bytes_per_second == 0);
  const Result<store::VerifyOptions> some = verify_options("10%", "2MiB", "7");
  REQUIRE(some.has_value());
  CHECK(some->sample == Approx(0.1));
  CHECK(some->bytes_per_second == 2 << 20);
  CHECK(some->seed == 7);
  CHECK(verify_options("x", "", "").has_error());
  CHECK(verify_options("", "0", "").has_error());
  CHECK(verify_options("", "fast", "").has_error());
  CHECK(verify_options("", "", "-1").has_error());
}
