#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <catch2/catch.hpp>

#include "descriptors/brief_descriptor_cache.hpp"
#include "descriptors/memory_descriptor_cache.hpp"
#include "support/descriptor_contract.hpp"

using namespace sluice;
using namespace std::chrono_literals;
using descriptors::BriefDescriptorCache;
using descriptors::MemoryDescriptorCache;
using descriptors::Scope;
using test::code_of;
using test::descriptor_of;
using test::digest_named;

namespace {

// The provider behind it, as another process sees it.
struct Bench {
  explicit Bench(BriefDescriptorCache::Params params = {}) {
    auto made = std::make_unique<MemoryDescriptorCache>();
    behind = made.get();
    cache = std::make_unique<BriefDescriptorCache>(params, std::move(made), clock);
    a = cache->repository_scoped(scope.str()).value();
  }

  ManualClock clock;
  const Scope scope = Scope::repository("docker.io/a").value();
  MemoryDescriptorCache* behind = nullptr;
  std::unique_ptr<BriefDescriptorCache> cache;
  std::shared_ptr<descriptors::BlobDescriptorService> a;
  test::RunTask run;
  oci::Digest digest = digest_named("blob");
};

// A clock for the contract, which outlives the providers.
ManualClock& contract_clock() {
  static ManualClock clock;
  return clock;
}

}  // namespace

TEST_CASE("BriefDescriptorCache: contract", "[descriptors]") {
  test::check_descriptor_contract([] {
    return std::make_shared<BriefDescriptorCache>(BriefDescriptorCache::Params{},
                                                  std::make_unique<MemoryDescriptorCache>(), contract_clock());
  });
}

TEST_CASE("BriefDescriptorCache: what was asked for is known without waiting, for its time", "[descriptors]") {
  Bench bench;
  REQUIRE(bench.behind->set_now(bench.scope, bench.digest, descriptor_of(bench.digest)));
  CHECK_FALSE(bench.cache->peek(bench.scope, bench.digest));
  REQUIRE(bench.run(bench.a->stat(bench.digest)));
  CHECK(*bench.cache->peek(bench.scope, bench.digest) == descriptor_of(bench.digest));

  // Another process clears it: seen when the time is up.
  bench.behind->clear_now(bench.scope, bench.digest);
  bench.clock.advance(999ms);
  CHECK(bench.run(bench.a->stat(bench.digest)));
  bench.clock.advance(1ms);
  CHECK_FALSE(bench.cache->peek(bench.scope, bench.digest));
  CHECK(code_of(bench.run(bench.a->stat(bench.digest))) == "blob_unknown");
  CHECK(bench.cache->entries() == 0);
}

TEST_CASE("BriefDescriptorCache: what this process clears is gone at once", "[descriptors]") {
  Bench bench;
  REQUIRE(bench.run(bench.a->set_descriptor(bench.digest, descriptor_of(bench.digest))));
  CHECK(bench.cache->peek(bench.scope, bench.digest));
  CHECK(bench.behind->peek(bench.scope, bench.digest));
  REQUIRE(bench.run(bench.a->clear(bench.digest)));
  CHECK_FALSE(bench.cache->peek(bench.scope, bench.digest));
  CHECK(code_of(bench.run(bench.a->stat(bench.digest))) == "blob_unknown");
}

namespace {

// Knows the blob, and does something while it is asked.
class Meddling final : public descriptors::BlobDescriptorService {
 public:
  runtime::Task<Result<descriptors::Entry>> stat(oci::Digest digest) override {
    if (meanwhile) co_await meanwhile();
    co_return descriptors::Entry(descriptor_of(digest));
  }
  runtime::Task<Result<void>> set_descriptor(oci::Digest, descriptors::Entry) override { co_return Result<void>{}; }
  runtime::Task<Result<void>> set_second_hand(oci::Digest, descriptors::Entry) override {
    ++second_hands;
    co_return Result<void>{};
  }
  runtime::Task<Result<void>> clear(oci::Digest) override { co_return Result<void>{}; }

  int second_hands = 0;
  std::function<runtime::Task<void>()> meanwhile;
};
class MeddlingProvider final : public descriptors::BlobDescriptorCacheProvider {
 public:
  runtime::Task<Result<descriptors::Entry>> stat(oci::Digest digest) override { return view->stat(digest); }
  runtime::Task<Result<void>> set_descriptor(oci::Digest digest, descriptors::Entry entry) override {
    return view->set_descriptor(digest, std::move(entry));
  }
  runtime::Task<Result<void>> clear(oci::Digest digest) override { return view->clear(digest); }
  Result<std::shared_ptr<descriptors::BlobDescriptorService>> repository_scoped(std::string_view) override {
    return std::shared_ptr<descriptors::BlobDescriptorService>(view);
  }
  std::shared_ptr<Meddling> view = std::make_shared<Meddling>();
};

runtime::Task<void> clear_it(std::shared_ptr<descriptors::BlobDescriptorService> in, oci::Digest digest) {
  const Result<void> cleared = co_await in->clear(digest);
  static_cast<void>(cleared);
}

}  // namespace

TEST_CASE("BriefDescriptorCache: an answer from before a clear is not kept", "[descriptors]") {
  ManualClock clock;
  auto provider = std::make_unique<MeddlingProvider>();
  const std::shared_ptr<Meddling> view = provider->view;
  BriefDescriptorCache cache({}, std::move(provider), clock);
  const Scope scope = Scope::repository("docker.io/a").value();
  const auto a = cache.repository_scoped(scope.str()).value();
  const oci::Digest digest = digest_named("blob");
  test::RunTask run;
  view->meanwhile = [a, digest] { return clear_it(a, digest); };
  CHECK(run(a->stat(digest)));
  CHECK_FALSE(cache.peek(scope, digest));
  view->meanwhile = nullptr;
  CHECK(run(a->stat(digest)));
  CHECK(cache.peek(scope, digest));
}

TEST_CASE("BriefDescriptorCache: what is known second-hand is kept here, and the provider decides for itself",
          "[descriptors]") {
  ManualClock clock;
  auto provider = std::make_unique<MeddlingProvider>();
  const std::shared_ptr<Meddling> view = provider->view;
  BriefDescriptorCache cache({}, std::move(provider), clock);
  const Scope scope = Scope::repository("docker.io/a").value();
  const auto a = cache.repository_scoped(scope.str()).value();
  const oci::Digest digest = digest_named("blob");
  test::RunTask run;
  CHECK(run(a->set_second_hand(digest, descriptor_of(digest))));
  CHECK(cache.peek(scope, digest));
  CHECK(view->second_hands == 1);
}

TEST_CASE("BriefDescriptorCache: bounded, and dates travel along", "[descriptors]") {
  Bench bench({.max_entries = 100});
  const Clock::Wall time{std::chrono::seconds(1'790'000'000)};
  for (int i = 0; i < 1000; ++i) {
    const oci::Digest digest = digest_named(std::to_string(i));
    REQUIRE(bench.run(bench.a->set_descriptor(digest, {descriptor_of(digest), time})));
  }
  CHECK(bench.cache->entries() == 100);
  const oci::Digest last = digest_named("999");
  CHECK(bench.cache->peek(bench.scope, last)->checked_at == time);
  CHECK(bench.run(bench.a->stat(digest_named("0"))).value().checked_at == time);
}
