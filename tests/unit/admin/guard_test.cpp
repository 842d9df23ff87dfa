#include <catch2/catch.hpp>

#include "admin/guard.hpp"

using namespace sluice::admin;

namespace {

bool allowed(std::string_view host, std::string listen = "127.0.0.1", std::vector<std::string> names = {}) {
  return !refusal({.method = "GET", .host = host}, {std::move(listen), std::move(names)});
}

}  // namespace

TEST_CASE("Guard: loopback by any of its names", "[admin]") {
  for (const char* host :
       {"127.0.0.1:5001", "127.0.0.1", "127.9.9.9:1", "localhost:5001", "LOCALHOST", "[::1]:5001", "[::1]"}) {
    INFO(host);
    CHECK(allowed(host));
  }
}

TEST_CASE("Guard: a name that leads here is not ours", "[admin]") {
  for (const char* host : {"attacker.example:5001", "attacker.example", "", "localhost.attacker.example",
                           "127.0.0.1.attacker.example", "127.0.0.1.nip.io:5001", "10.0.0.1", "[fe80::1]", "[::1",
                           "0x7f000001", "2130706433", "127.1", "localhost@attacker.example", "::1"}) {
    INFO(host);
    CHECK_FALSE(allowed(host));
  }
}

TEST_CASE("Guard: the address that is listened on, and every address where that is every one", "[admin]") {
  CHECK(allowed("10.1.2.3:5001", "10.1.2.3"));
  CHECK_FALSE(allowed("10.1.2.4:5001", "10.1.2.3"));
  CHECK(allowed("[fd00::5]:5001", "fd00::5"));
  CHECK(allowed("[FD00:0::5]:5001", "fd00::5"));
  for (const char* everywhere : {"", "0.0.0.0", "::"}) {
    CHECK(allowed("10.1.2.4:5001", everywhere));
    CHECK(allowed("[fd00::5]", everywhere));
    // A name can be pointed here by whoever owns it; an address cannot.
    CHECK_FALSE(allowed("attacker.example:5001", everywhere));
  }
}

TEST_CASE("Guard: names that the configuration gives", "[admin]") {
  CHECK(allowed("sluice:5001", "0.0.0.0", {"sluice", "cache.example"}));
  CHECK(allowed("Cache.Example", "127.0.0.1", {"sluice", "cache.example"}));
  CHECK_FALSE(allowed("attacker.example", "0.0.0.0", {"sluice"}));
  // Any name is any page's that leads here: not for what changes something.
  CHECK_FALSE(allowed("attacker.example", "0.0.0.0", {"*"}));
  CHECK_FALSE(allowed("*", "0.0.0.0", {"*"}));
}

TEST_CASE("Guard: what may be read, by which Host", "[admin]") {
  const OwnHosts plain{"10.1.2.3"};
  for (const char* host : {"10.1.2.3:5001", "127.0.0.1", "localhost:1", ""}) CHECK(is_readable(host, plain));
  for (const char* host : {"attacker.example:5001", "sluice", "10.1.2.4"}) CHECK_FALSE(is_readable(host, plain));
  CHECK(is_readable("sluice:5001", {"10.1.2.3", {"sluice"}}));
  CHECK(is_readable("whatever.example", {"10.1.2.3", {"*"}}));
}

TEST_CASE("Guard: what a page sends by itself is refused", "[admin]") {
  const auto refused = [](std::string_view method, bool origin, std::string_view type) {
    return refusal({method, "127.0.0.1", origin, type}, {"127.0.0.1"}).has_value();
  };
  CHECK(refused("GET", true, ""));
  CHECK(refused("POST", true, "application/json"));
  CHECK(refused("DELETE", true, ""));
  for (const char* simple : {"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
                             "text/plain; application/json", "application/jsonp"}) {
    INFO(simple);
    CHECK(refused("POST", false, simple));
  }
  CHECK_FALSE(refused("POST", false, "application/json"));
  CHECK_FALSE(refused("POST", false, "Application/JSON;charset=utf-8"));
  CHECK_FALSE(refused("GET", false, ""));
  CHECK_FALSE(refused("DELETE", false, ""));
}

TEST_CASE("Guard: what a browser says is for a page of another origin", "[admin]") {
  const auto refused = [](std::string_view site) {
    return refusal({.method = "GET", .host = "localhost", .fetch_site = site}, {"127.0.0.1"}).has_value();
  };
  CHECK(refused("cross-site"));
  CHECK(refused("same-site"));
  CHECK_FALSE(refused("same-origin"));
  CHECK_FALSE(refused("none"));
  CHECK_FALSE(refused(""));
}
