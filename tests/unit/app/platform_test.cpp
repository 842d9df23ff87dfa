#include <catch2/catch.hpp>

#include "app/commands/platform.hpp"

using namespace sluice;
using namespace sluice::app;

namespace {

Platform platform(std::string_view text) {
  const Result<Platform> parsed = Platform::parse(text);
  INFO(text);
  REQUIRE(parsed.has_value());
  return *parsed;
}

}  // namespace

TEST_CASE("Platform: as docker writes it, and uname's words too", "[app]") {
  CHECK(platform("linux/amd64").to_string() == "linux/amd64");
  CHECK(platform("linux/arm/v7").to_string() == "linux/arm/v7");
  CHECK(platform("arm64").to_string() == "linux/arm64");
  CHECK(platform("windows/amd64").to_string() == "windows/amd64");
  CHECK(platform("x86_64").to_string() == "linux/amd64");
  CHECK(platform("linux/aarch64").to_string() == "linux/arm64");
  CHECK(platform("armv7l").to_string() == "linux/arm/v7");
}

TEST_CASE("Platform: what is none is refused", "[app]") {
  for (const char* text :
       {"", "/", "linux/", "/amd64", "linux/arm/", "a/b/c/d", "Linux/AMD64", "linux/arm 64", "linux//v7"}) {
    INFO(text);
    const Result<Platform> parsed = Platform::parse(text);
    REQUIRE(parsed.has_error());
    CHECK(parsed.error().code == Errc::config_invalid);
  }
}

TEST_CASE("Platform: an arm64 is a v8, and who names no variant takes any", "[app]") {
  CHECK(platform("linux/arm64").takes(platform("linux/arm64/v8")));
  CHECK(platform("linux/arm64/v8").takes(platform("linux/arm64")));
  CHECK(platform("linux/arm").takes(platform("linux/arm/v6")));
  CHECK_FALSE(platform("linux/arm/v6").takes(platform("linux/arm/v7")));
  CHECK_FALSE(platform("linux/amd64").takes(platform("linux/arm64")));
  CHECK_FALSE(platform("linux/amd64").takes(platform("windows/amd64")));
  CHECK_FALSE(platform("linux/amd64").takes({"unknown", "unknown", ""}));
}

TEST_CASE("Platform: this machine has one that an image could be for", "[app]") {
  const Platform here = Platform::this_machine();
  CHECK(here.os == "linux");
  CHECK(here.takes(here));
  CHECK(Platform::parse(here.to_string()).has_value());
}
