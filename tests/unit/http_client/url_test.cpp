#include <catch2/catch.hpp>

#include "http/url.hpp"
#include "support/catch_result.hpp"

namespace sluice::http {
namespace {

TEST_CASE("Url: takes an absolute URL apart", "[http]") {
  const auto url = Url::parse("https://Registry-1.Docker.IO/v2/a/b?x=1&y=%2f#here");
  REQUIRE(url);
  CHECK(url->scheme == "https");
  CHECK(url->host == "registry-1.docker.io");
  CHECK(url->port == 443);
  CHECK(url->target == "/v2/a/b?x=1&y=%2f");
  CHECK(url->path() == "/v2/a/b");
  CHECK(url->authority() == "registry-1.docker.io");
  CHECK(url->to_string() == "https://registry-1.docker.io/v2/a/b?x=1&y=%2f");
  CHECK(url->is_tls());
}

TEST_CASE("Url: ports and addresses", "[http]") {
  CHECK(Url::parse("http://host")->target == "/");
  CHECK(Url::parse("http://host?q")->target == "/?q");
  CHECK(Url::parse("http://host:/x")->port == 80);
  CHECK(Url::parse("http://host:80/x")->authority() == "host");
  CHECK(Url::parse("http://host:5000/x")->authority() == "host:5000");
  CHECK(Url::parse("HTTP://host/x")->scheme == "http");
  const auto v6 = Url::parse("http://[::1]:5000/v2/");
  REQUIRE(v6);
  CHECK(v6->host == "::1");
  CHECK(v6->authority() == "[::1]:5000");
  CHECK(v6->has_ip_host());
  CHECK(Url::parse("http://127.0.0.1")->has_ip_host());
  CHECK_FALSE(Url::parse("http://localhost")->has_ip_host());
}

TEST_CASE("Url: refuses what is no address of a server", "[http]") {
  for (const char* text : {"",
                           "/v2/",
                           "//host/x",
                           "ftp://host/",
                           "file:///etc/passwd",
                           "http://",
                           "http:///x",
                           "http://user:secret@host/",
                           "http://user@host/",
                           "http://host:0/",
                           "http://host:65536/",
                           "http://host:5x/",
                           "http://ho st/",
                           "http://host\r\nX: y/",
                           "http://host/a\r\nb",
                           "http://ho%20st/",
                           "mailto:a@b",
                           "http://[::1/",
                           "http://[1.2.3.4]/",
                           "http://[::1%25lo]/",
                           "http://[::1]x/",
                           "http://[::1]:/x\x01",
                           "http:/host/",
                           "http:host"}) {
    INFO(text);
    const auto url = Url::parse(text);
    REQUIRE_FALSE(url);
    CHECK(url.error().code == Errc::upstream_protocol);
    CHECK(url.error().message.find("secret") == std::string::npos);
  }
  CHECK_FALSE(Url::parse("http://host/" + std::string(20'000, 'a')));
  CHECK_FALSE(Url::parse(std::string_view("http://[::1\0]/", 14)));
}

TEST_CASE("Url: mends what is met in real Location fields", "[http]") {
  CHECK(Url::parse("https://s3/x?name=\"a b\"|{c}")->target == "/x?name=%22a%20b%22%7C%7Bc%7D");
  CHECK(Url::parse("https://s3/100%/x")->target == "/100%25/x");
  CHECK(Url::parse("https://s3/\xc3\xa9")->target == "/%C3%A9");
  CHECK(Url::parse("https://s3/a[1]")->target == "/a%5B1%5D");
}

TEST_CASE("Url: resolves a Location against the request", "[http]") {
  const Url base = *Url::parse("https://registry:5000/v2/app/blobs/sha256:abc?x=1");
  CHECK(base.resolve("https://cdn.example/a?sig=1")->to_string() == "https://cdn.example/a?sig=1");
  CHECK(base.resolve("/v2/other")->to_string() == "https://registry:5000/v2/other");
  CHECK(base.resolve("//cdn.example/x")->to_string() == "https://cdn.example/x");
  CHECK(base.resolve("?again=1")->to_string() == "https://registry:5000/v2/app/blobs/sha256:abc?again=1");
  CHECK(base.resolve("../manifests/x")->to_string() == "https://registry:5000/v2/app/manifests/x");
  CHECK(base.resolve("http://registry:5000/x")->scheme == "http");
  CHECK(base.resolve("")->target == base.target);
  CHECK(base.resolve("#x")->target == base.target);
  CHECK(base.resolve("x")->target == "/v2/app/blobs/x");
  CHECK(base.resolve("./a/../b/.")->target == "/v2/app/blobs/b/");
  CHECK(base.resolve("../../../../..")->target == "/");
  CHECK(base.resolve("/a/./b/../c?x=/../y")->target == "/a/c?x=/../y");
  CHECK(base.resolve("https://other")->target == "/");
  CHECK_FALSE(base.resolve("javascript:alert(1)"));
  CHECK_FALSE(base.resolve("http://u:p@h/"));
}

TEST_CASE("Url: origins are scheme, host and port", "[http]") {
  const Url url = *Url::parse("https://host/a");
  CHECK(url.same_origin(*Url::parse("https://HOST:443/b")));
  CHECK_FALSE(url.same_origin(*Url::parse("https://host:444/a")));
  CHECK_FALSE(url.same_origin(*Url::parse("http://host:443/a")));
  CHECK_FALSE(url.same_origin(*Url::parse("https://host2/a")));
}

TEST_CASE("percent_encode: leaves only unreserved characters", "[http]") {
  CHECK(percent_encode("repository:a/b:pull x~") == "repository%3Aa%2Fb%3Apull%20x~");
}

}  // namespace
}  // namespace sluice::http
