#include <map>
#include <memory>
#include <optional>

#include <catch2/catch.hpp>

#include "descriptors/cached_blob_statter.hpp"
#include "descriptors/memory_descriptor_cache.hpp"
#include "support/descriptor_contract.hpp"

using namespace sluice;
using descriptors::CachedBlobStatter;
using test::code_of;
using test::descriptor_of;
using test::digest_named;

namespace {

// Answers from a map, fails where it is told to, and counts.
class Scripted final : public descriptors::BlobDescriptorService {
 public:
  runtime::Task<Result<descriptors::Entry>> stat(oci::Digest digest) override {
    ++stats;
    if (stat_error) co_return *stat_error;
    const auto found = known.find(digest);
    if (found == known.end()) co_return Error(Errc::blob_unknown);
    co_return found->second;
  }
  runtime::Task<Result<void>> set_descriptor(oci::Digest digest, descriptors::Entry descriptor) override {
    ++sets;
    if (set_error) co_return *set_error;
    known.insert_or_assign(digest, descriptor);
    co_return Result<void>();
  }
  runtime::Task<Result<void>> set_second_hand(oci::Digest, descriptors::Entry) override {
    ++second_hands;
    co_return Result<void>();
  }
  runtime::Task<Result<void>> clear(oci::Digest digest) override {
    ++clears;
    if (clear_error) co_return *clear_error;
    known.erase(digest);
    co_return Result<void>();
  }

  std::map<oci::Digest, descriptors::Entry> known;
  std::optional<Error> stat_error;
  std::optional<Error> set_error;
  std::optional<Error> clear_error;
  int stats = 0;
  int sets = 0;
  int second_hands = 0;
  int clears = 0;
};

struct Joint {
  metrics::Registry registry;
  descriptors::Tracker tracker{registry, "scripted", "test"};
  std::shared_ptr<Scripted> cache = std::make_shared<Scripted>();
  std::shared_ptr<Scripted> backend = std::make_shared<Scripted>();
  CachedBlobStatter statter{cache, backend, &tracker};
  test::RunTask run;
  oci::Digest digest = digest_named("blob");

  // requests, hits, misses, errors
  [[nodiscard]] std::vector<std::uint64_t> counted() const {
    return {tracker.requests.value(), tracker.hits.value(), tracker.misses.value(), tracker.errors.value()};
  }
};

using Counts = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("CachedBlobStatter: a miss fills the cache, and the cached value wins from then on", "[descriptors]") {
  Joint joint;
  joint.backend->known.emplace(joint.digest, descriptor_of(joint.digest));
  CHECK(joint.run(joint.statter.stat(joint.digest)).value() == descriptor_of(joint.digest));
  CHECK(joint.cache->sets == 1);
  CHECK(joint.counted() == Counts{1, 0, 1, 0});

  // The backend changes its mind; the cache does not.
  joint.backend->known.insert_or_assign(joint.digest, descriptor_of(joint.digest, 99));
  CHECK(joint.run(joint.statter.stat(joint.digest)).value().size == 10);
  CHECK(joint.backend->stats == 1);
  CHECK(joint.counted() == Counts{2, 1, 1, 0});
}

TEST_CASE("CachedBlobStatter: what the backend has second-hand is told so to the cache", "[descriptors]") {
  Joint joint;
  joint.backend->known.emplace(joint.digest, descriptor_of(joint.digest));
  bool first_hand = false;
  CachedBlobStatter statter(joint.cache, joint.backend, &joint.tracker, [&] { return first_hand; });
  CHECK(joint.run(statter.stat(joint.digest)));
  CHECK(joint.cache->sets == 0);
  CHECK(joint.cache->second_hands == 1);
  first_hand = true;
  CHECK(joint.run(statter.stat(joint.digest)));
  CHECK(joint.cache->sets == 1);
  CHECK(joint.cache->second_hands == 1);
  CHECK(joint.counted() == Counts{2, 0, 2, 0});
}

TEST_CASE("CachedBlobStatter: a cache that fails is asked for nothing more", "[descriptors]") {
  Joint joint;
  joint.cache->stat_error = Error(Errc::timeout);
  joint.backend->known.emplace(joint.digest, descriptor_of(joint.digest));
  CHECK(joint.run(joint.statter.stat(joint.digest)).value() == descriptor_of(joint.digest));
  CHECK(joint.run(joint.statter.stat(joint.digest)).value() == descriptor_of(joint.digest));
  CHECK(joint.cache->sets == 0);
  CHECK(joint.counted() == Counts{2, 0, 0, 2});
}

TEST_CASE("CachedBlobStatter: an error of the backend is returned uncounted and not remembered", "[descriptors]") {
  Joint joint;
  SECTION("the cache does not know it") {}
  SECTION("the cache fails") { joint.cache->stat_error = Error(Errc::io); }
  joint.backend->stat_error = GENERATE(Error(Errc::blob_unknown), Error(Errc::denied), Error(Errc::upstream_timeout));
  const auto found = joint.run(joint.statter.stat(joint.digest));
  REQUIRE_FALSE(found);
  CHECK(found.error().code == joint.backend->stat_error->code);
  CHECK(joint.cache->sets == 0);
  CHECK(joint.counted() == Counts{1, 0, 0, 0});
}

TEST_CASE("CachedBlobStatter: a set that fails is swallowed", "[descriptors]") {
  Joint joint;
  joint.cache->set_error = Error(Errc::io);
  joint.backend->known.emplace(joint.digest, descriptor_of(joint.digest));
  CHECK(joint.run(joint.statter.stat(joint.digest)).value() == descriptor_of(joint.digest));
  CHECK(joint.counted() == Counts{1, 0, 1, 0});
  CHECK(joint.run(joint.statter.set_descriptor(joint.digest, descriptor_of(joint.digest))));
}

TEST_CASE("CachedBlobStatter: setting touches the cache alone", "[descriptors]") {
  Joint joint;
  CHECK(joint.run(joint.statter.set_descriptor(joint.digest, descriptor_of(joint.digest))));
  CHECK(joint.cache->sets == 1);
  CHECK(joint.backend->sets == 0);
  CHECK(joint.counted() == Counts{0, 0, 0, 0});
}

TEST_CASE("CachedBlobStatter: clearing begins with the cache and stops there when it fails", "[descriptors]") {
  Joint joint;
  CHECK(joint.run(joint.statter.clear(joint.digest)));
  CHECK(joint.cache->clears == 1);
  CHECK(joint.backend->clears == 1);

  joint.backend->clear_error = Error(Errc::unsupported);
  CHECK(code_of(joint.run(joint.statter.clear(joint.digest))) == "unsupported");

  joint.cache->clear_error = Error(Errc::io);
  CHECK(code_of(joint.run(joint.statter.clear(joint.digest))) == "io");
  CHECK(joint.backend->clears == 2);
}

TEST_CASE("CachedBlobStatter: joints chain", "[descriptors]") {
  Joint joint;
  joint.backend->known.emplace(joint.digest, descriptor_of(joint.digest));
  auto memory = std::make_shared<descriptors::MemoryDescriptorCache>();
  auto middle = std::make_shared<CachedBlobStatter>(joint.cache, joint.backend, nullptr);
  CachedBlobStatter front(memory->repository_scoped("docker.io/a").value(), middle, &joint.tracker);
  CHECK(joint.run(front.stat(joint.digest)));
  CHECK(joint.cache->known.count(joint.digest) == 1);
  joint.cache->stat_error = Error(Errc::io);
  joint.backend->stat_error = Error(Errc::upstream_unreachable);
  CHECK(joint.run(front.stat(joint.digest)));
  CHECK(joint.counted() == Counts{2, 1, 1, 0});
}

TEST_CASE("Tracker: counters carry provider and joint", "[descriptors]") {
  metrics::Registry registry;
  descriptors::Tracker tracker(registry, "memory", "front");
  tracker.count_peek();
  bool seen = false;
  for (const metrics::Family& family : registry.collect()) {
    if (family.name != "sluice_descriptor_cache_hits_total") continue;
    REQUIRE(family.samples.size() == 1);
    CHECK(family.samples[0].labels == metrics::Labels{{"provider", "memory"}, {"joint", "front"}});
    CHECK(family.samples[0].value == 1);
    seen = true;
  }
  CHECK(seen);
}
