#include <catch2/catch.hpp>

#include "redis_server.hpp"
#include "support/descriptor_contract.hpp"

using namespace sluice;
using test::RedisClient;
using test::RedisServer;

namespace {

// The contract runs its tasks on a loop that must come to rest, which one with open connections does not: so each call
// is carried over to the client's loops, and waited for.
class Carried final : public descriptors::BlobDescriptorCacheProvider {
 public:
  explicit Carried(std::shared_ptr<RedisClient> client) : client_(std::move(client)) {}

  runtime::Task<Result<descriptors::Entry>> stat(oci::Digest digest) override {
    co_return client_->run(client_->cache->stat(digest));
  }
  runtime::Task<Result<void>> set_descriptor(oci::Digest digest, descriptors::Entry descriptor) override {
    co_return client_->run(client_->cache->set_descriptor(digest, descriptor));
  }
  runtime::Task<Result<void>> clear(oci::Digest digest) override {
    co_return client_->run(client_->cache->clear(digest));
  }
  Result<std::shared_ptr<descriptors::BlobDescriptorService>> repository_scoped(std::string_view repository) override {
    const auto inner = client_->cache->repository_scoped(repository);
    if (!inner) return inner.error();
    return std::shared_ptr<descriptors::BlobDescriptorService>(std::make_shared<View>(client_, *inner));
  }

 private:
  class View final : public descriptors::BlobDescriptorService {
   public:
    View(std::shared_ptr<RedisClient> client, std::shared_ptr<descriptors::BlobDescriptorService> inner)
        : client_(std::move(client)), inner_(std::move(inner)) {}
    runtime::Task<Result<descriptors::Entry>> stat(oci::Digest digest) override {
      co_return client_->run(inner_->stat(digest));
    }
    runtime::Task<Result<void>> set_descriptor(oci::Digest digest, descriptors::Entry descriptor) override {
      co_return client_->run(inner_->set_descriptor(digest, descriptor));
    }
    runtime::Task<Result<void>> clear(oci::Digest digest) override { co_return client_->run(inner_->clear(digest)); }

   private:
    std::shared_ptr<RedisClient> client_;
    std::shared_ptr<descriptors::BlobDescriptorService> inner_;
  };

  std::shared_ptr<RedisClient> client_;
};

void check_contract(RedisServer& server, const descriptors::RedisParams& params) {
  test::check_descriptor_contract([&] {
    server.run({"FLUSHALL"});
    return std::make_shared<Carried>(std::make_shared<RedisClient>(params));
  });
}

}  // namespace

TEST_CASE("RedisDescriptorCache: contract, over TCP", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  check_contract(server, test::params_for(server.tcp()));
}

TEST_CASE("RedisDescriptorCache: contract, over a Unix socket with a password", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server({"--requirepass", "open sesame"});
  descriptors::RedisParams params = test::params_for(server.unix_socket());
  params.password = "open sesame";
  check_contract(server, params);
}

TEST_CASE("RedisDescriptorCache: a user who may touch these keys alone, in another database", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server({"--user", "sluice", "on", ">secret", "~blobs::*", "~repository::*", "+@all"});
  descriptors::RedisParams params = test::params_for(server.tcp());
  params.username = "sluice";
  params.password = "secret";
  params.database = 3;
  RedisClient client(params);
  const oci::Digest digest = test::digest_named("blob");
  REQUIRE(client.run(client.scoped("docker.io/a")->set_descriptor(digest, test::descriptor_of(digest))));
  CHECK(client.run(client.scoped("docker.io/a")->stat(digest)).value() == test::descriptor_of(digest));
  CHECK(server.ask({"KEYS", "*"}, 0).empty());
  CHECK(server.ask({"SMEMBERS", "repository::a::blobs"}, 3) == digest.to_string());
}

TEST_CASE("RedisDescriptorCache: a host name is looked up", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  descriptors::RedisParams params = test::params_for(server.tcp());
  params.addresses[0].host = "localhost";
  RedisClient client(params);
  CHECK(test::code_of(client.run(client.cache->stat(test::digest_named("none")))) == "blob_unknown");
}

TEST_CASE("RedisDescriptorCache: a thousand at once on two loops", "[redis]") {
  REQUIRE_REDIS();
  RedisServer server;
  RedisClient client(test::params_for(server.tcp()), 2);
  const auto a = client.scoped("docker.io/library/a");
  std::vector<oci::Digest> digests;
  std::vector<std::future<Result<void>>> sets;
  for (std::size_t i = 0; i < 1000; ++i) {
    digests.push_back(test::digest_named(std::to_string(i)));
    sets.push_back(client.loops.start(a->set_descriptor(digests[i], test::descriptor_of(digests[i], i)), i % 2));
  }
  std::size_t set = 0;
  for (auto& one : sets) set += one.get() ? 1 : 0;
  CHECK(set == 1000);

  std::vector<std::future<Result<descriptors::Entry>>> stats;
  for (std::size_t i = 0; i < 1000; ++i) stats.push_back(client.loops.start(a->stat(digests[i]), (i + 1) % 2));
  std::size_t right = 0;
  for (std::size_t i = 0; i < 1000; ++i) {
    const Result<descriptors::Entry> found = stats[i].get();
    right += found && *found == test::descriptor_of(digests[i], i) ? 1 : 0;
  }
  CHECK(right == 1000);
  CHECK(client.connects() >= 2);
  CHECK(client.connects() <= 4);  // pool_size for each loop
  CHECK_FALSE(client.breaker_open());
}
