#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "descriptors/memory_descriptor_cache.hpp"
#include "descriptors/null_descriptor_cache.hpp"
#include "support/descriptor_contract.hpp"

using namespace sluice;
using descriptors::MemoryDescriptorCache;
using descriptors::Scope;
using test::code_of;
using test::descriptor_of;
using test::digest_named;

TEST_CASE("MemoryDescriptorCache: contract", "[descriptors]") {
  test::check_descriptor_contract([] { return std::make_shared<MemoryDescriptorCache>(); });
}

TEST_CASE("MemoryDescriptorCache: contract without a limit", "[descriptors]") {
  test::check_descriptor_contract(
      [] { return std::make_shared<MemoryDescriptorCache>(MemoryDescriptorCache::Params{.max_entries = 0}); });
}

TEST_CASE("MemoryDescriptorCache: the global entry survives a scoped clear", "[descriptors]") {
  test::RunTask run;
  MemoryDescriptorCache cache;
  const auto scoped = cache.repository_scoped("docker.io/a").value();
  const oci::Digest digest = digest_named("x");
  REQUIRE(run(scoped->set_descriptor(digest, descriptor_of(digest))));
  REQUIRE(run(scoped->clear(digest)));
  CHECK(code_of(run(scoped->stat(digest))) == "blob_unknown");
  CHECK(run(cache.stat(digest)).value() == descriptor_of(digest));
  // Clearing what is not there is a success.
  CHECK(run(scoped->clear(digest)));
  CHECK(run(cache.clear(digest)));
  CHECK(run(cache.clear(digest)));
}

TEST_CASE("MemoryDescriptorCache: a canonical digest is added with the first global entry only", "[descriptors]") {
  MemoryDescriptorCache cache;
  const Scope scope = Scope::repository("docker.io/a").value();
  const oci::Digest local = digest_named("x", oci::Algorithm::sha512);
  const oci::Digest canonical = digest_named("x");
  REQUIRE(cache.set_now(Scope(), local, descriptor_of(local)));
  REQUIRE(cache.set_now(scope, local, descriptor_of(canonical)));
  CHECK(cache.peek(scope, local)->digest == canonical);
  CHECK_FALSE(cache.peek(Scope(), canonical));
  // Two names under one algorithm add nothing.
  const oci::Digest other = digest_named("y");
  REQUIRE(cache.set_now(scope, digest_named("z"), descriptor_of(other)));
  CHECK_FALSE(cache.peek(Scope(), other));
}

TEST_CASE("MemoryDescriptorCache: it never holds more than its limit", "[descriptors]") {
  const std::size_t limit = GENERATE(1, 3, 100, 1000, 10'000);
  MemoryDescriptorCache cache(MemoryDescriptorCache::Params{.max_entries = limit});
  bool within = true;
  for (int i = 0; i < 12'000; ++i) {
    const oci::Digest digest = digest_named(std::to_string(i));
    REQUIRE(cache.set_now(Scope(), digest, descriptor_of(digest)));
    within = within && cache.entries() <= limit;
  }
  CHECK(within);
  CHECK(cache.entries() >= limit * 9 / 10);
}

TEST_CASE("MemoryDescriptorCache: what is asked for stays", "[descriptors]") {
  MemoryDescriptorCache cache(MemoryDescriptorCache::Params{.max_entries = 100});
  const oci::Digest hot = digest_named("hot");
  REQUIRE(cache.set_now(Scope(), hot, descriptor_of(hot)));
  bool stayed = true;
  for (int i = 0; i < 1000; ++i) {
    const oci::Digest digest = digest_named(std::to_string(i));
    REQUIRE(cache.set_now(Scope(), digest, descriptor_of(digest)));
    stayed = stayed && cache.peek(Scope(), hot).has_value();
  }
  CHECK(stayed);
}

TEST_CASE("MemoryDescriptorCache: a scoped view outlives the provider", "[descriptors]") {
  test::RunTask run;
  auto cache = std::make_unique<MemoryDescriptorCache>();
  const auto scoped = cache->repository_scoped("docker.io/a").value();
  cache.reset();
  const oci::Digest digest = digest_named("x");
  REQUIRE(run(scoped->set_descriptor(digest, descriptor_of(digest))));
  CHECK(run(scoped->stat(digest)));
}

TEST_CASE("MemoryDescriptorCache: many threads see whole descriptors", "[descriptors]") {
  MemoryDescriptorCache cache(MemoryDescriptorCache::Params{.max_entries = 600});
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&cache, &wrong, t] {
      const Scope scope = Scope::repository("docker.io/" + std::to_string(t % 2)).value();
      for (unsigned i = 0; i < 4000; ++i) {
        const std::string content = std::to_string((i * 7 + t) % 500);
        const oci::Digest digest = digest_named(content, oci::Algorithm::sha512);
        const oci::Descriptor expected = descriptor_of(digest_named(content), content.size());
        switch (i % 3) {
          case 0: (void)cache.set_now(scope, digest, expected); break;
          case 1:
            if (const auto found = cache.peek(i % 2 == 0 ? scope : Scope(), digest); found && *found != expected)
              ++wrong;
            break;
          default:
            if (i % 30 == 2) cache.clear_now(scope, digest);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(cache.entries() <= 600);
}

TEST_CASE("NullDescriptorCache: knows nothing and never fails", "[descriptors]") {
  test::RunTask run;
  descriptors::NullDescriptorCache cache;
  const oci::Digest digest = digest_named("x");
  const auto scoped = cache.repository_scoped("docker.io/a").value();
  CHECK(code_of(cache.repository_scoped("")) == "name_invalid");
  for (descriptors::BlobDescriptorService* service :
       std::vector<descriptors::BlobDescriptorService*>{&cache, scoped.get()}) {
    CHECK(run(service->set_descriptor(digest, descriptor_of(digest))));
    CHECK(code_of(run(service->stat(digest))) == "blob_unknown");
    CHECK(run(service->clear(digest)));
  }
  CHECK_FALSE(cache.peek(Scope(), digest));
}
