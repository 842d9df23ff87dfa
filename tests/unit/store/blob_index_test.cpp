#include <atomic>
#include <thread>

#include <catch2/catch.hpp>

#include "store/blob_index.hpp"

using namespace sluice;
using store::BlobIndex;
using store::IndexEntry;

namespace {

oci::Digest numbered(int n, oci::Algorithm algorithm = oci::Algorithm::sha256) {
  return oci::digest_of(algorithm, std::to_string(n));
}

}  // namespace

TEST_CASE("BlobIndex: sums follow what goes in and out", "[store]") {
  BlobIndex index;
  for (const oci::Algorithm algorithm : {oci::Algorithm::sha256, oci::Algorithm::sha384, oci::Algorithm::sha512}) {
    const oci::Digest digest = numbered(1, algorithm);
    CHECK_FALSE(index.find(digest));
    index.set(digest, IndexEntry{100, 5, 2});
    CHECK(index.find(digest)->size == 100);
    CHECK(index.find(digest)->media_type == 2);
    index.set(digest, IndexEntry{30, 5, 3});  // smaller
    CHECK(index.bytes() == 30);
    CHECK_FALSE(index.add(digest, IndexEntry{1, 1, 1}));
    CHECK(index.find(digest)->size == 30);
    CHECK(index.entries() == 1);
    CHECK(index.erase(digest)->size == 30);
    CHECK_FALSE(index.erase(digest));
    CHECK(index.bytes() == 0);
    CHECK(index.entries() == 0);
  }
}

TEST_CASE("BlobIndex: many entries are kept apart", "[store]") {
  BlobIndex index;
  index.reserve(10'000);
  for (int i = 0; i < 10'000; ++i) REQUIRE(index.add(numbered(i), IndexEntry{static_cast<std::uint64_t>(i), 0, 0}));
  bool right = true;
  for (int i = 0; i < 10'000; ++i) {
    const auto found = index.find(numbered(i));
    right = right && found && found->size == static_cast<std::uint64_t>(i);
  }
  CHECK(right);
  CHECK(index.bytes() == 9999U * 10'000U / 2);
  index.clear();
  CHECK(index.entries() == 0);
  CHECK_FALSE(index.find(numbered(1)));
}

TEST_CASE("BlobIndex: a use is noted in steps, and time does not go back", "[store]") {
  BlobIndex index;
  const oci::Digest digest = numbered(1);
  CHECK_FALSE(index.touch(digest, 1000, 60));
  index.set(digest, IndexEntry{1, 1000, 0});
  CHECK_FALSE(index.touch(digest, 1059, 60));
  CHECK(index.touch(digest, 1060, 60));
  CHECK(index.find(digest)->last_used == 1060);
  CHECK_FALSE(index.touch(digest, 10, 60));
  CHECK(index.find(digest)->last_used == 1060);
}

// For the thread sanitizer.
TEST_CASE("BlobIndex: it is walked while the hand goes round", "[store]") {
  BlobIndex index;
  for (int n = 0; n < 1000; ++n) index.set(numbered(n), IndexEntry{1, 1, 0});
  std::atomic<bool> done{false};
  std::thread hand([&] {
    while (!done) {
      if (const auto victim = index.pick()) index.spare(victim->digest);
    }
  });
  std::size_t seen = 0;
  for (int round = 0; round < 20; ++round) seen += index.between(0, 255).size();
  done = true;
  hand.join();
  CHECK(seen == 20'000);
}
