// The policies of the simulation, on traces small enough to follow by hand.
#include <catch2/catch.hpp>

#include "bench/eviction_policies.hpp"

using namespace sluice::bench;

namespace {

// Letters are objects of `size` bytes; the answer has a capital where it was a hit.
std::string play(Policy& policy, const std::string& trace, std::uint64_t size = 10) {
  std::string out;
  for (const char c : trace) {
    out += policy.access(static_cast<Object>(c), size) ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return out;
}

}  // namespace

TEST_CASE("Policies: known answers", "[store][eviction]") {
  Lru lru(30);
  CHECK(play(lru, "abcabda") == "abcABdA");
  Sieve sieve(30);
  // a is visited and stays, b goes although it was used no earlier than a; c after it.
  CHECK(play(sieve, "abcadaeb") == "abcAdAeb");
  Gdsf gdsf(30);
  CHECK(play(gdsf, "aabcda") == "aAbcdA");
  S3Fifo s3(100);
  CHECK(play(s3, "aaabcdefghijka") == "aAAbcdefghijkA");
}

TEST_CASE("Policies: none holds more than its capacity, and all keep what fits", "[store][eviction]") {
  for (const std::string_view name : kPolicies) {
    INFO(name);
    const auto all = make_policy(name, 1000);
    CHECK(play(*all, "abcabcabc") == "abcABCABC");
    CHECK_FALSE(all->access(1, 1001));
    CHECK_FALSE(all->access(1, 1001));
    const auto some = make_policy(name, 10'000);
    bool within = true;
    std::uint64_t state = 1;
    for (int i = 0; i < 20'000; ++i) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      const auto object = static_cast<Object>((state >> 33) % 500);
      some->access(object, 1 + object % 97 * 31);
      within = within && some->used() <= 10'000;
    }
    CHECK(within);
  }
}

TEST_CASE("Policies: the store's keeps small blobs longer than large ones", "[store][eviction]") {
  Shipped policy(100'000'000);
  policy.access(1, 1000);
  for (Object object = 10; object < 60; ++object) policy.access(object, 20'000'000);
  CHECK(policy.access(1, 1000));
}
