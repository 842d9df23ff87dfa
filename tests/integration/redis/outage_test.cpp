// Redis gone, stopped, come back: what it costs and whom. Counts are asserted, never times.
#include <catch2/catch.hpp>

#include "descriptors/cached_blob_statter.hpp"
#include "descriptors/memory_descriptor_cache.hpp"
#include "redis_server.hpp"
#include "support/catch_result.hpp"
#include "support/code_of.hpp"

using namespace sluice;
using namespace std::chrono_literals;
using test::code_of;
using test::RedisClient;
using test::RedisServer;

namespace {

const oci::Digest kDigest = oci::digest_of(oci::Algorithm::sha256, "blob");
const oci::Descriptor kDescriptor{kDigest, 42, "application/octet-stream"};

descriptors::RedisParams hasty(const descriptors::RedisAddress& address) {
  descriptors::RedisParams params = test::params_for(address);
  params.command_timeout = 250ms;
  return params;
}

// `count` scoped stats at once, over all loops; how many of them ended with `code`.
std::size_t stats(RedisClient& client, std::size_t count, const std::string& code) {
  const auto a = client.scoped("docker.io/library/a");
  std::vector<std::future<Result<descriptors::Entry>>> all;
  for (std::size_t i = 0; i < count; ++i) {
    all.push_back(client.loops.start(a->stat(kDigest), i % client.loops.pool().size()));
  }
  std::size_t out = 0;
  for (auto& one : all) out += code_of(one.get()) == code ? 1 : 0;
  return out;
}

}  // namespace

TEST_CASE("Redis outage: one that is stopped costs one time-out and then nothing", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient client(hasty(server.tcp()), 2);
  REQUIRE(client.recovers());
  REQUIRE(client.run(client.scoped("docker.io/library/a")->set_descriptor(kDigest, kDescriptor)));
  REQUIRE(stats(client, 100, "success") == 100);

  server.pause();
  // Some wait in vain, those that come after do not even wait.
  CHECK(stats(client, 200, "overloaded") == 200);
  CHECK(client.breaker_open());
  const std::uint64_t failed = client.errors("timeout");
  CHECK(failed + client.skipped() == 200);
  const std::uint64_t skipped = client.skipped();
  CHECK(stats(client, 1000, "overloaded") == 1000);
  CHECK(client.errors("timeout") == failed);
  CHECK(client.skipped() == skipped + 1000);

  // The pause is over: a probe goes out, and it is no request that waits for it.
  client.clock.advance(10s);
  CHECK(stats(client, 1000, "overloaded") == 1000);
  CHECK(client.errors("timeout") == failed);
  CHECK(client.skipped() == skipped + 2000);

  server.resume();
  CHECK(client.recovers());
  CHECK(stats(client, 1000, "success") == 1000);
  CHECK(client.errors("timeout") == failed);
}

TEST_CASE("Redis outage: no request fails for want of Redis", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient client(hasty(server.tcp()), 2);
  descriptors::Tracker tracker(client.registry, "redis", "front");
  const auto behind = std::make_shared<descriptors::MemoryDescriptorCache>();
  REQUIRE(behind->set_now(descriptors::Scope(), kDigest, kDescriptor));
  descriptors::CachedBlobStatter statter(client.scoped("docker.io/library/a"), behind, &tracker);
  const auto ask = [&](std::size_t count) {
    std::vector<std::future<Result<descriptors::Entry>>> all;
    for (std::size_t i = 0; i < count; ++i) all.push_back(client.loops.start(statter.stat(kDigest), i % 2));
    std::size_t right = 0;
    for (auto& one : all) {
      const Result<descriptors::Entry> found = one.get();
      right += found && *found == kDescriptor ? 1 : 0;
    }
    return right;
  };
  CHECK(ask(1) == 1);
  CHECK(ask(100) == 100);
  CHECK(tracker.hits.value() == 100);
  CHECK(tracker.misses.value() == 1);

  server.kill();
  CHECK(ask(200) == 200);
  CHECK(tracker.errors.value() == 200);
  CHECK(tracker.misses.value() == 1);
  server.start();
  // It is empty now, and nothing was set while it was gone.
  CHECK(server.ask({"KEYS", "*"}).empty());
  CHECK(client.recovers());
  CHECK(ask(1) == 1);
  CHECK(tracker.misses.value() == 2);
  CHECK(ask(100) == 100);
  CHECK(tracker.hits.value() == 200);
}

TEST_CASE("Redis outage: a restart between two requests is not noticed", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient client(test::params_for(server.unix_socket()));
  for (int i = 0; i < 5; ++i) {
    REQUIRE(client.run(client.scoped("docker.io/library/a")->set_descriptor(kDigest, kDescriptor)));
    server.kill();
    server.start();
    CHECK(code_of(client.run(client.scoped("docker.io/library/a")->stat(kDigest))) == "blob_unknown");
  }
  CHECK(client.errors("broken") == 0);
  CHECK(client.errors("connect") == 0);
  CHECK(client.skipped() == 0);
}

TEST_CASE("Redis outage: connections that are cut under load are made anew", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient client(test::params_for(server.tcp()), 2);
  REQUIRE(client.run(client.scoped("docker.io/library/a")->set_descriptor(kDigest, kDescriptor)));
  const auto a = client.scoped("docker.io/library/a");
  for (int round = 0; round < 10; ++round) {
    std::vector<std::future<Result<descriptors::Entry>>> all;
    for (std::size_t i = 0; i < 100; ++i) all.push_back(client.loops.start(a->stat(kDigest), i % 2));
    server.run({"CLIENT", "KILL", "TYPE", "normal"});
    for (auto& one : all) static_cast<void>(one.get());
  }
  // Whatever it was that they met, afterwards all is well.
  CHECK((!client.breaker_open() || client.recovers()));
  CHECK(stats(client, 100, "success") == 100);
}

TEST_CASE("Redis outage: nobody listens, nobody waits", "[redis]") {
  RedisClient client(test::params_for({"127.0.0.1", test::free_port(), ""}), 2);
  CHECK(stats(client, 100, "overloaded") == 100);
  CHECK(client.breaker_open());
  CHECK(client.errors("connect") + client.skipped() == 100);
  CHECK(client.errors("connect") >= 1);
  CHECK(client.connects() == 0);

  RedisClient nowhere(test::params_for({"", 6379, "/nonexistent/redis.sock"}));
  CHECK(stats(nowhere, 10, "overloaded") == 10);
}

TEST_CASE("Redis outage: addresses are tried in turn", "[redis]") {
  REQUIRE_REDIS();
  RedisServer replica({"--replicaof", "127.0.0.1 1"});
  RedisServer server;
  descriptors::RedisParams params = test::params_for({"127.0.0.1", test::free_port(), ""});
  // Nobody, one that is read-only, and the right one.
  params.addresses.push_back(replica.tcp());
  params.addresses.push_back(server.unix_socket());
  RedisClient client(params);
  REQUIRE(client.run(client.scoped("docker.io/library/a")->set_descriptor(kDigest, kDescriptor)));
  CHECK(server.ask({"SCARD", "repository::library/a::blobs"}) == "1");
  CHECK(client.skipped() == 0);

  // And over again when that one goes.
  server.kill();
  CHECK(code_of(client.run(client.cache->stat(kDigest))) == "overloaded");
  replica.run({"REPLICAOF", "NO", "ONE"});
  CHECK(client.recovers());
  CHECK(code_of(client.run(client.cache->stat(kDigest))) == "blob_unknown");
}

TEST_CASE("Redis outage: one that does not serve us is done without", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server({"--requirepass", "right"});
  descriptors::RedisParams params = test::params_for(server.tcp());
  SECTION("without a password") {}
  SECTION("with a wrong password") { params.password = "wrong"; }
  SECTION("with a database that it does not have") {
    params.password = "right";
    params.database = 10'000;
  }
  RedisClient client(params);
  CHECK(stats(client, 10, "overloaded") == 10);
  CHECK(client.errors("refused") >= 1);
  CHECK(client.connects() == 0);
}

TEST_CASE("Redis outage: one that becomes read-only is done without", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient client(test::params_for(server.tcp()));
  const auto a = client.scoped("docker.io/library/a");
  REQUIRE(client.run(a->set_descriptor(kDigest, kDescriptor)));
  server.run({"REPLICAOF", "127.0.0.1", "1"});
  CHECK(code_of(client.run(a->set_descriptor(kDigest, kDescriptor))) == "overloaded");
  CHECK(client.errors("refused") == 1);
  CHECK(client.breaker_open());
  server.run({"REPLICAOF", "NO", "ONE"});
  CHECK(client.recovers());
  CHECK(client.run(a->set_descriptor(kDigest, kDescriptor)));
}

TEST_CASE("Redis outage: who leaves does not mix up the answers of others", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  descriptors::RedisParams params = test::params_for(server.tcp());
  params.pool_size = 1;
  RedisClient client(params);
  const auto a = client.scoped("docker.io/library/a");
  REQUIRE(client.run(a->set_descriptor(kDigest, kDescriptor)));
  server.pause();
  runtime::TaskGroup leaving("leaving");
  std::vector<std::future<Result<descriptors::Entry>>> gone;
  std::vector<std::future<Result<descriptors::Entry>>> staying;
  for (int i = 0; i < 50; ++i) {
    gone.push_back(client.loops.start_in(leaving, a->stat(kDigest)));
    staying.push_back(client.loops.start(client.cache->stat(kDigest)));
  }
  leaving.cancel();
  CHECK(leaving.wait_for(20s));
  server.resume();
  std::size_t right = 0;
  for (auto& one : staying) {
    const Result<descriptors::Entry> found = one.get();
    right += found && *found == kDescriptor ? 1 : 0;
  }
  CHECK(right == 50);
  CHECK(client.connects() == 1);
  CHECK_FALSE(client.breaker_open());
}

TEST_CASE("Redis outage: closing ends what is in flight", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient client(test::params_for(server.tcp()), 2);
  const auto a = client.scoped("docker.io/library/a");
  REQUIRE(client.run(a->set_descriptor(kDigest, kDescriptor)));
  server.pause();
  std::vector<std::future<Result<descriptors::Entry>>> all;
  for (std::size_t i = 0; i < 100; ++i) all.push_back(client.loops.start(a->stat(kDigest), i % 2));
  // Behind them, so that they are in flight or wait for a connection.
  for (std::size_t i = 0; i < 2; ++i) static_cast<void>(client.run(client.cache->set_descriptor(kDigest, {}), i));
  client.cache->close();
  std::size_t closed = 0;
  for (auto& one : all) closed += code_of(one.get()) == "closed" ? 1 : 0;
  CHECK(closed == 100);
  CHECK(code_of(client.run(a->stat(kDigest))) == "closed");
  client.cache->close();
  CHECK(client.registry.gauge("sluice_descriptor_redis_connections", "").value() == 0);
}
