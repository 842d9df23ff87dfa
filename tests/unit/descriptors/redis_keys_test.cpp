#include <catch2/catch.hpp>

#include "descriptors/redis_keys.hpp"
#include "descriptors/redis_params.hpp"

using namespace sluice;
using descriptors::RedisAddress;
using descriptors::RedisKeys;
using descriptors::Scope;

namespace {

Scope scope(std::string_view text) { return Scope::repository(text).value(); }

}  // namespace

TEST_CASE("RedisKeys: the keys are those of distribution", "[descriptors]") {
  const RedisKeys keys("docker.io/", {"docker.io", "ghcr.io"});
  const oci::Digest digest = oci::digest_of(oci::Algorithm::sha256, std::string_view());
  const std::string text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
  CHECK(RedisKeys::blob(digest) == "blobs::" + text);
  CHECK(keys.members(scope("docker.io/library/busybox")) == "repository::library/busybox::blobs");
  CHECK(keys.blob(scope("docker.io/library/busybox"), digest) == "repository::library/busybox::blobs::" + text);
  CHECK(keys.members(scope("ghcr.io/owner/image")) == "repository::ghcr.io/owner/image::blobs");
}

TEST_CASE("RedisKeys: no two scopes share a key", "[descriptors]") {
  const RedisKeys keys("docker.io/", {"docker.io", "ghcr.io", "internal"});
  // Without its prefix this would be what ghcr.io's own "a" is called.
  CHECK(keys.repository(scope("docker.io/ghcr.io/a")) == "docker.io/ghcr.io/a");
  CHECK(keys.repository(scope("ghcr.io/a")) == "ghcr.io/a");
  CHECK(keys.repository(scope("docker.io/internal/a")) == "docker.io/internal/a");
  CHECK(keys.repository(scope("internal/a")) == "internal/a");
  // And without this one, "docker.io/ghcr.io/a" would be a third name of it.
  CHECK(keys.repository(scope("docker.io/docker.io/ghcr.io/a")) == "docker.io/docker.io/ghcr.io/a");
  CHECK(keys.repository(scope("docker.io/ghcr.io.example/a")) == "ghcr.io.example/a");
  CHECK(keys.repository(scope("docker.io/ghcr.io")) == "docker.io/ghcr.io");
  CHECK(keys.repository(scope("docker.io/a")) == "a");
  // Another upstream whose name begins like the default one's.
  CHECK(keys.repository(scope("docker.io.example/a")) == "docker.io.example/a");

  const RedisKeys whole("", {});
  CHECK(whole.repository(scope("docker.io/library/busybox")) == "docker.io/library/busybox");
}

TEST_CASE("RedisAddress: hosts, ports and Unix sockets", "[descriptors]") {
  CHECK(RedisAddress::parse("redis.example.com") == RedisAddress{"redis.example.com", 6379, ""});
  CHECK(RedisAddress::parse("10.0.0.1:7000") == RedisAddress{"10.0.0.1", 7000, ""});
  CHECK(RedisAddress::parse("[::1]:7000") == RedisAddress{"::1", 7000, ""});
  CHECK(RedisAddress::parse("[::1]") == RedisAddress{"::1", 6379, ""});
  CHECK(RedisAddress::parse("unix:/run/redis.sock") == RedisAddress{"", 6379, "/run/redis.sock"});
  for (const char* text : {"", ":6379", "redis:", "redis:0", "redis:65536", "redis:6379x", "::1", "[::1", "[::1]6379",
                           "[redis]:6379", "unix:", "unix:redis.sock", "redis://host", "a b:1"}) {
    INFO(text);
    CHECK_FALSE(RedisAddress::parse(text));
  }
  CHECK_FALSE(RedisAddress::parse("unix:/" + std::string(107, 'a')));
  for (const char* text : {"redis:6379", "[::1]:7000", "unix:/run/redis.sock"}) {
    CHECK(RedisAddress::parse(text)->to_string() == text);
  }
}
