// Processes that share a Redis and have other rights at an upstream.
#include <catch2/catch.hpp>

#include "redis_server.hpp"
#include "support/catch_result.hpp"
#include "support/code_of.hpp"

using namespace sluice;
using descriptors::RightsMarks;
using test::code_of;
using test::RedisClient;
using test::RedisServer;

namespace {

const oci::Digest kDigest = oci::digest_of(oci::Algorithm::sha256, "blob");
const oci::Descriptor kDescriptor{kDigest, 42, "application/octet-stream"};

// One of them, whose login at ghcr.io is called so.
struct Node {
  Node(RedisServer& server, const std::string& login) : client(test::params_for(server.tcp()), 1, &marks) {
    log_in(login, true);
  }
  void log_in(const std::string& login, bool first) { marks.set({{"ghcr.io", {login, first}}}); }
  std::string stat() { return code_of(client.run(client.scoped("ghcr.io/team/app")->stat(kDigest))); }
  bool set() { return bool(client.run(client.scoped("ghcr.io/team/app")->set_descriptor(kDigest, kDescriptor))); }

  RightsMarks marks;
  RedisClient client;
};

}  // namespace

TEST_CASE("Redis rights: what was asked with another login is not known", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  Node alice(server, "alice");
  Node also_alice(server, "alice");
  Node bob(server, "bob");
  REQUIRE(alice.set());
  CHECK(alice.stat() == "success");
  CHECK(also_alice.stat() == "success");
  CHECK(bob.stat() == "blob_unknown");
  // Nor what this process has asked with the login of before, whatever the clocks say.
  alice.log_in("carol", false);
  CHECK(alice.stat() == "blob_unknown");
  CHECK(also_alice.stat() == "success");
  REQUIRE(alice.set());
  CHECK(alice.stat() == "success");
  CHECK(also_alice.stat() == "blob_unknown");
}

TEST_CASE("Redis rights: what bears no mark counts until a login changes", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient distribution(test::params_for(server.tcp()));
  REQUIRE(distribution.run(distribution.scoped("ghcr.io/team/app")->set_descriptor(kDigest, kDescriptor)));
  Node alice(server, "alice");
  CHECK(alice.stat() == "success");
  alice.log_in("bob", false);
  CHECK(alice.stat() == "blob_unknown");
}
