#include <catch2/catch.hpp>

#include "config/settings.hpp"
#include "config/values.hpp"

using namespace sluice::config;

TEST_CASE("Endpoint: what is one and what is not", "[config]") {
  CHECK(Endpoint::parse("127.0.0.1:5000") == Endpoint{"127.0.0.1", 5000});
  CHECK(Endpoint::parse("[::1]:80") == Endpoint{"::1", 80});
  CHECK(Endpoint::parse("localhost:0") == Endpoint{"127.0.0.1", 0});
  CHECK(Endpoint::parse(":65535") == Endpoint{"", 65535});
  for (const char* bad :
       {"", ":", "5000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:5 ", "::1:80",
        "[::1]", "[127.0.0.1]:5", "[]:5", "example.org:80", "256.0.0.1:1", "tcp://1.2.3.4:5"}) {
    INFO(bad);
    CHECK_FALSE(Endpoint::parse(bad).has_value());
  }
}

TEST_CASE("Endpoint: printing and parsing agree", "[config]") {
  for (const char* text : {"127.0.0.1:5000", "[::1]:80", ":5000", "0.0.0.0:0"}) {
    CHECK(Endpoint::parse(text)->to_string() == text);
  }
}

TEST_CASE("Upstream URL: normalised, or refused", "[config]") {
  CHECK(parse_upstream_url("https://Example.ORG/") == "https://example.org");
  CHECK(parse_upstream_url("HTTP://localhost:5000/a/b//") == "http://localhost:5000/a/b");
  CHECK(parse_upstream_url("https://[2001:DB8::1]:443") == "https://[2001:db8::1]:443");
  for (const char* bad :
       {"", "example.org", "ftp://x", "https://", "https:///x", "https://u@x", "https://u:p@x/", "https://x?y",
        "https://x/y#z", "https://x:0", "https://x:99999", "https://x:y", "https://x y", "https://a..b", "https://-a",
        "https://[::1", "https://[]", "https://x/a b", "https://x/\n"}) {
    INFO(bad);
    CHECK_FALSE(parse_upstream_url(bad).has_value());
  }
  CHECK(url_authority("https://x:1/y") == "x:1");
  CHECK(url_authority("https://x") == "x");
}

TEST_CASE("Upstream name: a host with an optional port", "[config]") {
  for (const char* good : {"docker.io", "localhost:5000", "a-b.c_d.example", "10.0.0.1:80"})
    CHECK(is_upstream_name(good));
  for (const char* bad : {"", "Docker.io", "a/b", "a:", "a:b", "..", "a b", "https://a", "*"}) {
    INFO(bad);
    CHECK_FALSE(is_upstream_name(bad));
  }
}

TEST_CASE("Suggestions: typing mistakes count, other words do not", "[config]") {
  CHECK(edit_distance("listen", "listen") == 0);
  CHECK(edit_distance("lisetn", "listen") == 1);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance(std::string(1000, 'a'), "a") == 1000);
  const std::vector<std::string> words{"server", "store", "tags"};
  CHECK(closest("srever", words) == "server");
  CHECK(closest("tag", words) == "tags");
  CHECK_FALSE(closest("compression", words).has_value());
}
