// Blobs are read again in the background.
#include <cerrno>

#include "unit/store/store_fixture.hpp"

using namespace sluice;
using namespace sluice::test;

namespace {

struct Scrubbed : StoreFixture {
  Scrubbed() {
    params.scrub_rate = 1ULL << 40;
    params.scrub_interval = std::chrono::hours{24};
    // Nothing has been scrubbed at the first start, so a pass is due; over an empty store it ends at once.
    open().scrub();
  }
  void put(int n) { REQUIRE(run(store->put(sha256_of(std::to_string(n)), std::to_string(n), "a/b"))); }
  void damage(int n) {
    std::string bytes = std::to_string(n);
    bytes.back() ^= 1;
    write_file(path_of(sha256_of(std::to_string(n))), bytes);
  }
};

}  // namespace

TEST_CASE("Scrub: a pass begins when the interval is over, and finds what is damaged", "[store][scrub]") {
  Scrubbed t;
  for (int n = 0; n < 30; ++n) t.put(n);
  t.damage(7);
  t.store->scrub();
  CHECK(t.metric("sluice_scrub_blobs_total") == 0);
  t.clock.advance(std::chrono::hours{24});
  t.store->scrub();
  CHECK(t.metric("sluice_scrub_blobs_total") == 30);
  CHECK(t.metric("sluice_scrub_bytes_total") == 10 + 2 * 20);
  CHECK(t.metric("sluice_scrub_damaged_total", "damaged") == 1);
  CHECK(t.metric("sluice_scrub_running") == 0);
  CHECK_FALSE(t.store->find(sha256_of("7")));
  CHECK(t.metric("sluice_scrub_last_pass_timestamp_seconds") ==
        static_cast<double>(std::chrono::system_clock::to_time_t(t.clock.wall())));
  t.store->scrub();
  CHECK(t.metric("sluice_scrub_blobs_total") == 30);
}

TEST_CASE("Scrub: with a rate of 0 nothing is read", "[store][scrub]") {
  Scrubbed t;
  t.params.scrub_rate = 0;
  t.put(1);
  t.damage(1);
  t.reopen();
  t.clock.advance(std::chrono::hours{48});
  t.store->scrub();
  CHECK(t.metric("sluice_scrub_blobs_total") == 0);
}

TEST_CASE("Scrub: when the last pass was, a restart remembers", "[store][scrub]") {
  Scrubbed t;
  t.put(1);
  t.clock.advance(std::chrono::hours{23});
  t.reopen().scrub();
  CHECK(t.metric("sluice_scrub_blobs_total") == 0);
  t.clock.advance(std::chrono::hours{1});
  t.store->scrub();
  CHECK(t.metric("sluice_scrub_blobs_total") == 1);
}

TEST_CASE("Scrub: a pass that was cut off goes on after the restart", "[store][scrub]") {
  Scrubbed t;
  for (int n = 0; n < 30; ++n) t.put(n);
  // As a process leaves it that ends in the middle: the first half, in the order of the digests, was read.
  std::vector<oci::Digest> digests;
  for (const auto& blob : t.store->blobs_between(0, 255)) digests.push_back(blob.digest);
  REQUIRE(digests.size() == 30);
  t.clock.advance(std::chrono::hours{24});
  t.store->catalog().set_meta("scrub_began", std::to_string(std::chrono::system_clock::to_time_t(t.clock.wall())));
  t.store->catalog().set_meta("scrub_last", digests[14].to_string());
  t.reopen().scrub();
  CHECK(t.metric("sluice_scrub_blobs_total") == 15);
  t.reopen().scrub();
  CHECK(t.metric("sluice_scrub_blobs_total") == 15);
  CHECK(t.metric("sluice_scrub_last_pass_timestamp_seconds") > 0);
}

TEST_CASE("Scrub: a slow pass holds up no stop, and remembers how far it came", "[store][scrub]") {
  Scrubbed t;
  for (int n = 0; n < 30; ++n) t.put(n);
  t.clock.advance(std::chrono::hours{24});
  t.params.scrub_rate = 1;
  t.reopen();
  t.reopen();
  t.params.scrub_rate = 1ULL << 40;
  t.reopen().scrub();
  CHECK(t.metric("sluice_scrub_last_pass_timestamp_seconds") > 0);
}

TEST_CASE("Scrub: a blob that could not be read is checked at once", "[store][scrub][faults]") {
  Scrubbed t;
  REQUIRE(t.fill("abc"));
  REQUIRE(t.fill("sound"));
  CHECK(t.content(sha256_of("abc")) == "abc");
  SECTION("and set aside when it is bad") {
    t.fail(Operation::read_at, EIO);
    t.store->suspect(sha256_of("abc"));
    t.store->scrub();
    t.heal();
    CHECK_FALSE(t.store->find(sha256_of("abc")));
    CHECK(t.metric("sluice_scrub_damaged_total", "unreadable") == 1);
  }
  SECTION("and kept when it is not") {
    t.store->suspect(sha256_of("abc"));
    t.store->suspect(sha256_of("abc"));
    t.store->suspect(sha256_of("nobody's"));
    t.store->scrub();
    CHECK(t.content(sha256_of("abc")) == "abc");
    CHECK(t.metric("sluice_store_dropped_total") == 0);
  }
  CHECK(t.content(sha256_of("sound")) == "sound");
}
