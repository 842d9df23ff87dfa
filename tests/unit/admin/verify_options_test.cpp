#include <catch2/catch.hpp>

#include "admin/verify_options.hpp"

using namespace sluice;
using namespace sluice::admin;

TEST_CASE("Verify options: a sample is a share of something", "[admin]") {
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

TEST_CASE("Verify options: what verify is told", "[admin]") {
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
