// What lies in Redis, key by key, as distribution's provider writes and reads it.
#include <catch2/catch.hpp>

#include "redis_server.hpp"
#include "support/catch_result.hpp"
#include "support/code_of.hpp"

using namespace sluice;
using test::code_of;
using test::RedisClient;
using test::RedisServer;

namespace {

const oci::Digest kDigest = oci::digest_of(oci::Algorithm::sha256, "blob");
const std::string kText = kDigest.to_string();
const oci::Descriptor kDescriptor{kDigest, 42, "application/vnd.oci.image.layer.v1.tar+gzip"};

}  // namespace

TEST_CASE("Redis keys: what a scoped set leaves is what distribution reads", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient client(test::params_for(server.tcp()));
  REQUIRE(client.run(client.scoped("docker.io/library/busybox")->set_descriptor(kDigest, kDescriptor)));
  CHECK(server.ask({"KEYS", "*"}) ==
        "blobs::" + kText + " repository::library/busybox::blobs repository::library/busybox::blobs::" + kText);
  CHECK(server.ask({"SMEMBERS", "repository::library/busybox::blobs"}) == kText);
  CHECK(server.ask({"HGET", "blobs::" + kText, "digest"}) == kText);
  CHECK(server.ask({"HGET", "blobs::" + kText, "size"}) == "42");
  CHECK(server.ask({"HGET", "blobs::" + kText, "mediatype"}) == kDescriptor.media_type);
  CHECK(server.ask({"HLEN", "blobs::" + kText}) == "3");
  CHECK(server.ask({"HGETALL", "repository::library/busybox::blobs::" + kText}) ==
        kDescriptor.media_type + " mediatype");

  // Another upstream keeps its name, and the first media type stays the global one.
  REQUIRE(client.run(client.scoped("ghcr.io/owner/image")->set_descriptor(kDigest, {kDigest, 42, "text/plain"})));
  CHECK(server.ask({"SISMEMBER", "repository::ghcr.io/owner/image::blobs", kText}) == "1");
  CHECK(server.ask({"HGET", "blobs::" + kText, "mediatype"}) == kDescriptor.media_type);
  CHECK(server.ask({"HGET", "repository::ghcr.io/owner/image::blobs::" + kText, "mediatype"}) == "text/plain");
}

TEST_CASE("Redis keys: what distribution wrote is read", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient client(test::params_for(server.tcp()));
  const auto busybox = client.scoped("docker.io/library/busybox");
  server.run({"SADD", "repository::library/busybox::blobs", kText});
  // A member that nobody describes.
  CHECK(code_of(client.run(busybox->stat(kDigest))) == "blob_unknown");
  server.run({"HMSET", "blobs::" + kText, "digest", kText, "size", "42"});
  // No media type of the repository's own is none at all; globally it does not matter.
  CHECK(code_of(client.run(busybox->stat(kDigest))) == "blob_unknown");
  CHECK(client.run(client.cache->stat(kDigest)).value() == oci::Descriptor{kDigest, 42, "application/octet-stream"});
  server.run({"HSETNX", "blobs::" + kText, "mediatype", "application/octet-stream"});
  server.run({"HSET", "repository::library/busybox::blobs::" + kText, "mediatype", kDescriptor.media_type});
  CHECK(client.run(busybox->stat(kDigest)).value() == kDescriptor);
  CHECK(code_of(client.run(client.scoped("docker.io/library/alpine")->stat(kDigest))) == "blob_unknown");

  // The older field for the size.
  server.run({"HDEL", "blobs::" + kText, "size"});
  server.run({"HSET", "blobs::" + kText, "length", "42"});
  CHECK(code_of(client.run(busybox->stat(kDigest))) == "blob_unknown");
}

TEST_CASE("Redis keys: what is known second-hand undoes nobody's clear", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient client(test::params_for(server.tcp()));
  const auto a = client.scoped("docker.io/library/a");
  REQUIRE(client.run(a->set_second_hand(kDigest, kDescriptor)));
  CHECK(code_of(client.run(a->stat(kDigest))) == "blob_unknown");
  CHECK(server.ask({"DBSIZE"}) == "0");
}

TEST_CASE("Redis keys: clearing in a repository revokes its membership", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient client(test::params_for(server.unix_socket()));
  const auto a = client.scoped("docker.io/library/a");
  const auto b = client.scoped("docker.io/library/b");
  CHECK(code_of(client.run(a->clear(kDigest))) == "blob_unknown");
  REQUIRE(client.run(a->set_descriptor(kDigest, kDescriptor)));
  // Not a member: it may not clear what others have.
  CHECK(code_of(client.run(b->clear(kDigest))) == "blob_unknown");
  CHECK(client.run(a->stat(kDigest)));

  REQUIRE(client.run(a->clear(kDigest)));
  CHECK(server.ask({"KEYS", "*"}).empty());
  CHECK(code_of(client.run(a->stat(kDigest))) == "blob_unknown");
  REQUIRE(client.run(b->set_descriptor(kDigest, kDescriptor)));
  CHECK(code_of(client.run(a->stat(kDigest))) == "blob_unknown");
  CHECK(server.ask({"EXISTS", "repository::library/a::blobs", "repository::library/a::blobs::" + kText}) == "0");

  CHECK(client.run(client.cache->clear(kDigest)));
  CHECK(code_of(client.run(client.cache->clear(kDigest))) == "blob_unknown");
  // b is a member of what nobody knows any more.
  CHECK(code_of(client.run(b->stat(kDigest))) == "blob_unknown");
}

TEST_CASE("Redis keys: two names of one content, and two contents of one kind", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient client(test::params_for(server.tcp()));
  const auto a = client.scoped("docker.io/library/a");
  const oci::Digest local = oci::digest_of(oci::Algorithm::sha512, "blob");
  REQUIRE(client.run(a->set_descriptor(local, kDescriptor)));
  CHECK(server.ask({"SMEMBERS", "repository::library/a::blobs"}) == local.to_string());
  CHECK(server.ask({"HGET", "blobs::" + local.to_string(), "digest"}) == kText);
  CHECK(server.ask({"HGET", "blobs::" + kText, "digest"}) == kText);

  const oci::Digest other = oci::digest_of(oci::Algorithm::sha256, "other");
  CHECK(code_of(client.run(a->set_descriptor(other, kDescriptor))) == "internal");
  CHECK(server.ask({"EXISTS", "blobs::" + other.to_string()}) == "0");
}

TEST_CASE("Redis keys: the date of upstream's word stands where distribution does not look", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient client(test::params_for(server.tcp()));
  const auto a = client.scoped("docker.io/library/a");
  const std::string own = "repository::library/a::blobs::" + kText;
  const Clock::Wall time{std::chrono::seconds(1'790'000'000)};
  REQUIRE(client.run(a->set_descriptor(kDigest, {kDescriptor, time})));
  CHECK(server.ask({"HGET", own, "sluice-checked"}) == "1790000000");
  CHECK(client.run(a->stat(kDigest)).value().checked_at == time);
  // distribution sets the same again, and the date stays; what it alone has written has none.
  server.run({"HSET", own, "mediatype", kDescriptor.media_type});
  CHECK(client.run(a->stat(kDigest)).value().checked_at == time);
  server.run({"HDEL", own, "sluice-checked"});
  CHECK_FALSE(client.run(a->stat(kDigest)).value().is_dated());
  // Globally there is no word of upstream on any repository.
  CHECK_FALSE(client.run(client.cache->stat(kDigest)).value().is_dated());
  REQUIRE(client.run(a->clear(kDigest)));
  CHECK(server.ask({"KEYS", "*"}).empty());
}

TEST_CASE("Redis keys: two clients of one Redis know the same", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient first(test::params_for(server.tcp()));
  RedisClient second(test::params_for(server.unix_socket()));
  REQUIRE(first.run(first.scoped("docker.io/library/a")->set_descriptor(kDigest, kDescriptor)));
  CHECK(second.run(second.scoped("docker.io/library/a")->stat(kDigest)).value() == kDescriptor);
}
