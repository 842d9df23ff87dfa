#include <catch2/catch.hpp>

#include "support.hpp"

using namespace sluice;
using namespace sluice::config;
using namespace sluice::config::testing;
using namespace std::chrono_literals;

namespace {

std::string problem(const std::string& text) {
  const Result<Settings> loaded = load_text(text);
  return loaded ? "none" : loaded.error().message;
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("Access: its keys", "[config]") {
  const Result<Settings> loaded = load_text(
      "server: { host_pattern: '*.cache.example' }\n"
      "offline: true\n"
      "upstreams:\n"
      "  ghcr.io: { access: passthrough, grant_ttl: 5s }\n"
      "  quay.io: { offline: true }\n");
  if (!loaded) FAIL(loaded.error().message);
  CHECK(loaded->server.host_pattern == "*.cache.example");
  CHECK(loaded->offline);
  CHECK(loaded->upstreams.at("ghcr.io").access == Access::passthrough);
  CHECK(loaded->upstreams.at("ghcr.io").grant_ttl == 5s);
  CHECK_FALSE(loaded->upstreams.at("ghcr.io").offline);
  CHECK(loaded->upstreams.at("quay.io").offline);
  CHECK(loaded->upstreams.at("quay.io").access == Access::open);
  CHECK(has(describe(*loaded), "host_pattern: \"*.cache.example\""));
}

TEST_CASE("Access: a pattern of hosts has one star, and is a host with a name in its place", "[config]") {
  for (const char* good : {"*.cache.example", "*-cache.example", "cache.*.example"}) {
    INFO(good);
    CHECK(problem(std::string("server: { host_pattern: '") + good + "' }") == "none");
  }
  for (const char* bad :
       {"*", "cache.example", "*.*.example", "*.cache.example:5000", "*.cache/x", "*..x", "*.Cache"}) {
    INFO(bad);
    CHECK(has(problem(std::string("server: { host_pattern: '") + bad + "' }"), ":1: server.host_pattern: found"));
  }
}

TEST_CASE("Access: passthrough has no account of its own", "[config]") {
  CHECK(problem("upstreams: { ghcr.io: { access: passthrough } }") == "none");
  CHECK(has(problem("upstreams: { ghcr.io: { access: passthrough, username: me, password: x } }"),
            "upstreams.ghcr.io.access: found passthrough beside a username"));
  CHECK(has(problem("upstreams: { ghcr.io: { access: closed } }"), "expected open or passthrough"));
  CHECK(has(problem("upstreams: { ghcr.io: { grant_ttl: 2h } }"), "expected a duration from 0s to 1h"));
}
