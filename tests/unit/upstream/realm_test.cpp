#include <catch2/catch.hpp>

#include "upstream/realm.hpp"

namespace sluice::upstream {
namespace {

bool may(const char* registry, const char* realm, const std::vector<std::string>& trusted = {}) {
  return may_see_credentials(*http::Url::parse(registry), *http::Url::parse(realm), trusted);
}

TEST_CASE("registrable_domain: two labels, or three below a shared suffix", "[upstream]") {
  CHECK(registrable_domain("auth.docker.io") == "docker.io");
  CHECK(registrable_domain("docker.io") == "docker.io");
  CHECK(registrable_domain("io") == "io");
  CHECK(registrable_domain("a.b.example.co.uk") == "example.co.uk");
  CHECK(registrable_domain("co.uk") == "co.uk");
  CHECK(registrable_domain("alice.github.io") == "alice.github.io");
  CHECK(registrable_domain("1.dkr.ecr.eu-west-1.amazonaws.com") == "1.dkr.ecr.eu-west-1.amazonaws.com");
  CHECK(registrable_domain("docker.io.") == "docker.io");
}

TEST_CASE("may_see_credentials: related hosts", "[upstream]") {
  CHECK(may("https://registry-1.docker.io", "https://auth.docker.io/token"));
  CHECK(may("https://ghcr.io", "https://ghcr.io/token"));
  CHECK(may("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"));
  CHECK(may("https://registry.example.com:5000", "https://auth.example.com:5001/token"));
  CHECK(may("http://registry.example.com", "https://auth.example.com/token"));
}

TEST_CASE("may_see_credentials: strangers", "[upstream]") {
  CHECK_FALSE(may("https://registry-1.docker.io", "https://evil.example/token"));
  CHECK_FALSE(may("https://registry-1.docker.io", "https://docker.io.evil.example/token"));
  CHECK_FALSE(may("https://registry-1.docker.io", "https://evildocker.io/token"));
  CHECK_FALSE(may("https://a.co.uk", "https://b.co.uk/token"));
  CHECK_FALSE(may("https://a.github.io", "https://b.github.io/token"));
  CHECK_FALSE(may("https://1.dkr.ecr.eu-west-1.amazonaws.com", "https://bucket.s3.amazonaws.com/token"));
  CHECK_FALSE(may("https://registry.example.com", "http://registry.example.com/token"));
}

TEST_CASE("may_see_credentials: addresses and local names are exact", "[upstream]") {
  CHECK(may("http://127.0.0.1:5000", "http://127.0.0.1:5000/token"));
  CHECK_FALSE(may("http://127.0.0.1:5000", "http://127.0.0.1:5001/token"));
  CHECK_FALSE(may("http://10.0.0.1", "http://10.0.0.2/token"));
  CHECK_FALSE(may("http://1.2.3.4", "http://9.9.3.4/token"));
  CHECK_FALSE(may("http://localhost:5000", "http://localhost:5001/token"));
  CHECK_FALSE(may("http://registry:5000", "http://auth:5000/token"));
  CHECK(may("http://[::1]:5000", "http://[::1]:5000/token"));
}

TEST_CASE("may_see_credentials: trusted by name", "[upstream]") {
  CHECK(may("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", {"127.0.0.1:5001"}));
  CHECK(may("https://a.example", "https://auth.other.example/token", {"x", "auth.other.example"}));
  CHECK_FALSE(may("https://a.example", "https://auth.other.example:444/t", {"auth.other.example:443"}));
  // Trust in a host is no trust in the line to it.
  CHECK_FALSE(may("https://a.example", "http://auth.other.example/token", {"auth.other.example"}));
}

}  // namespace
}  // namespace sluice::upstream
