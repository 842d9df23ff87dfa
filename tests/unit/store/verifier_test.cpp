// Blobs at rest are read again; what is damaged goes into quarantine.
#include "store/verifier.hpp"

#include <cerrno>
#include <set>
#include <thread>

#include "unit/store/store_fixture.hpp"

using namespace sluice;
using namespace sluice::test;
using store::VerifyOptions;
using store::VerifyReport;

namespace {

struct Verified : StoreFixture {
  VerifyReport verify(const VerifyOptions& options = {}) {
    Result<VerifyReport> report = store::verify(*store, options, {}, {});
    REQUIRE(report);
    return *std::move(report);
  }
  [[nodiscard]] runtime::Path quarantine() const { return store::Layout(params.root).quarantine(); }
  [[nodiscard]] runtime::Path quarantined(const oci::Digest& digest) const {
    return quarantine() / ("sha256-" + digest.encoded());
  }
  // Damages the file of a blob without the store's knowledge.
  void damage(const oci::Digest& digest, const std::string& bytes) { write_file(path_of(digest), bytes); }
  void check_gone(const oci::Digest& digest) {
    CHECK_FALSE(store->find(digest));
    CHECK(store->peek_open(digest) == nullptr);
    CHECK(content(digest) == "not_found");
    CHECK_FALSE(std::filesystem::exists(path_of(digest)));
  }
};

std::string large(int n) { return std::string(700'000, static_cast<char>('a' + n)) + std::to_string(n); }

}  // namespace

TEST_CASE("verify: what is sound stays", "[store][verify]") {
  Verified t;
  t.open();
  for (int n = 0; n < 20; ++n) REQUIRE(t.fill(std::to_string(n)));
  REQUIRE(t.fill(large(1)));
  REQUIRE(t.fill(std::string(256 << 10, 'x')));
  REQUIRE(t.fill(""));
  std::uint64_t calls = 0;
  const Result<VerifyReport> report = store::verify(*t.store, {}, {}, [&](const store::VerifyProgress& now) {
    ++calls;
    if (now.blobs > now.blobs_total || now.bytes > now.bytes_total) calls = 0;
  });
  REQUIRE(report);
  CHECK(report->blobs == 23);
  CHECK(report->blobs_total == 23);
  CHECK(report->bytes == t.store->bytes());
  CHECK(report->bytes_total == t.store->bytes());
  CHECK(report->found.empty());
  CHECK_FALSE(report->stopped);
  CHECK(calls >= 23);
  CHECK(t.store->entries() == 23);
  CHECK_FALSE(std::filesystem::exists(t.quarantine()));
}

TEST_CASE("verify: what is damaged is set aside and can be fetched again", "[store][verify]") {
  Verified t;
  std::vector<oci::Digest> told;
  t.store = std::make_unique<store::BlobStore>(t.params, t.filesystem, t.pool, t.clock, t.registry);
  t.store->set_on_evicted([&](const oci::Digest& digest) { told.push_back(digest); });
  REQUIRE(t.store->start());
  t.store->wait_for_walk();
  REQUIRE(t.fill("sound"));
  const std::string blob = large(3);
  const oci::Digest digest = sha256_of(blob);
  REQUIRE(t.fill(blob));
  CHECK((t.content(digest) == blob));  // and its descriptor is kept open
  std::string other = blob;
  std::string reason = "content";
  SECTION("a byte") { other[300'000] = 'Z'; }
  SECTION("shorter") {
    other.pop_back();
    reason = "bytes instead of";
  }
  SECTION("longer") {
    other += "x";
    reason = "bytes instead of";
  }
  SECTION("empty") {
    other.clear();
    reason = "0 bytes instead of";
  }
  t.damage(digest, other);
  const VerifyReport report = t.verify();
  CHECK(report.blobs == 2);
  CHECK(report.damaged == 1);
  REQUIRE(report.found.size() == 1);
  CHECK(report.found[0].digest == digest);
  CHECK(report.found[0].reason.find(reason) != std::string::npos);
  CHECK(report.found[0].quarantined_to == t.quarantined(digest));
  CHECK((read_file(t.quarantined(digest)) == other));
  CHECK(told == std::vector{digest});
  t.check_gone(digest);
  CHECK(t.metric("sluice_store_dropped_total") == 1);
  CHECK(t.store->entries() == 1);

  REQUIRE(t.fill(blob));
  CHECK((t.content(digest) == blob));
  CHECK(t.verify().found.empty());
  // A second one has a name of its own.
  t.damage(digest, std::string(blob.size(), 'y'));
  CHECK(t.verify().found.at(0).quarantined_to == t.quarantined(digest).native() + ".1");
  t.reopen();
  t.check_gone(digest);
}

TEST_CASE("verify: what is missing is forgotten", "[store][verify]") {
  Verified t;
  t.open();
  REQUIRE(t.fill("abc"));
  std::filesystem::remove(t.path_of(sha256_of("abc")));
  const VerifyReport report = t.verify();
  CHECK(report.missing == 1);
  CHECK(report.damaged == 0);
  t.check_gone(sha256_of("abc"));
  CHECK(t.store->ledger().at_rest() == 0);
}

TEST_CASE("verify: what the disk cannot read is set aside", "[store][verify][faults]") {
  Verified t;
  t.open();
  REQUIRE(t.fill("abc"));
  t.fail(GENERATE(Operation::read_at, Operation::open_read), EIO);
  const VerifyReport report = t.verify();
  t.heal();
  CHECK(report.unreadable == 1);
  CHECK(report.found.at(0).quarantined_to == t.quarantined(sha256_of("abc")));
  t.check_gone(sha256_of("abc"));
}

TEST_CASE("verify: too many open files are no blob's fault", "[store][verify][faults]") {
  Verified t;
  t.open();
  REQUIRE(t.fill("abc"));
  t.fail(Operation::open_read, EMFILE);
  CHECK(t.verify().unreadable == 1);
  t.heal();
  CHECK(t.content(sha256_of("abc")) == "abc");
}

TEST_CASE("verify: what can neither be moved nor removed is not served again", "[store][verify][faults]") {
  Verified t;
  t.open();
  REQUIRE(t.fill("abc"));
  REQUIRE(t.fill("sound"));
  const oci::Digest digest = sha256_of("abc");
  t.damage(digest, GENERATE("abd", "longer than that"));
  t.filesystem.set_rule([&](Operation operation, const runtime::Path& path) {
    const bool forbidden = operation == Operation::rename || operation == Operation::remove;
    return forbidden && path.native().find(digest.encoded()) != std::string::npos ? EPERM : 0;
  });
  CHECK(t.verify().damaged == 1);
  const auto refused = [&] {
    CHECK_FALSE(t.store->find(digest));
    CHECK(code_of(t.run(t.store->stat(digest))) == "not_found");
    CHECK(t.content(digest) == "not_found");
    CHECK(t.content(sha256_of("sound")) == "sound");
  };
  refused();
  // Neither after a restart, which walks and finds the file.
  t.reopen();
  CHECK(std::filesystem::exists(t.path_of(digest)));
  refused();
  // Until it is replaced; then it is as any other.
  t.heal();
  REQUIRE(t.fill("abc"));
  CHECK(t.content(digest) == "abc");
  t.reopen();
  CHECK(t.content(digest) == "abc");
  t.store.reset();
  std::filesystem::remove(store::Layout(t.params.root).catalog());
  t.open();
  CHECK(t.content(digest) == "abc");
}

TEST_CASE("verify: what cannot be set aside is removed", "[store][verify][faults]") {
  Verified t;
  t.open();
  REQUIRE(t.fill("abc"));
  t.damage(sha256_of("abc"), "abd");
  t.fail(GENERATE(Operation::create_directories, Operation::rename), EIO, "quarantine");
  CHECK(t.verify().found.at(0).quarantined_to.empty());
  t.heal();
  t.check_gone(sha256_of("abc"));
}

TEST_CASE("verify: a disk that lets nothing be done keeps no damaged blob in the index", "[store][verify][faults]") {
  Verified t;
  t.open();
  REQUIRE(t.fill("abc"));
  t.damage(sha256_of("abc"), "abd");
  t.filesystem.set_rule([](Operation operation, const runtime::Path&) {
    return operation == Operation::rename || operation == Operation::remove ? EROFS : 0;
  });
  CHECK(t.verify().damaged == 1);
  CHECK_FALSE(t.store->find(sha256_of("abc")));
  t.heal();
  REQUIRE(t.fill("abc"));
  CHECK(t.content(sha256_of("abc")) == "abc");
}

TEST_CASE("verify: a blob that is replaced or removed while it is read is left alone", "[store][verify]") {
  Verified t;
  t.open();
  const std::string blob = large(5);
  const oci::Digest digest = sha256_of(blob);
  REQUIRE(t.fill(blob));
  std::string wrong = blob;
  wrong[10] = 'Z';
  t.damage(digest, wrong);
  const bool replace = GENERATE(true, false);
  bool done = false;
  const Result<VerifyReport> report = store::verify(*t.store, {}, {}, [&](const store::VerifyProgress&) {
    if (std::exchange(done, true)) return;
    // The wrong bytes have been read, and are being hashed.
    const Result<void> changed = replace ? t.fill(blob) : t.run(t.store->remove(digest));
    if (!changed) done = false;
  });
  REQUIRE(report);
  CHECK(done);
  CHECK(report->found.empty());
  CHECK_FALSE(std::filesystem::exists(t.quarantine()));
  if (replace) CHECK((t.content(digest) == blob));
}

TEST_CASE("verify: a sample is a part, and the same one for the same seed", "[store][verify]") {
  Verified t;
  t.open();
  for (int n = 0; n < 200; ++n) REQUIRE(t.run(t.store->put(sha256_of(std::to_string(n)), std::to_string(n), "a/b")));
  const VerifyReport some = t.verify({.sample = 0.25, .seed = 1});
  CHECK(some.blobs == some.blobs_total);
  CHECK(some.blobs > 20);
  CHECK(some.blobs < 90);
  CHECK(t.verify({.sample = 0.25, .seed = 1}).last == some.last);
  CHECK(t.verify({.sample = 0.25, .seed = 2}).bytes != some.bytes);
  CHECK(t.verify({.sample = 0}).blobs == 0);
}

TEST_CASE("verify: it goes on where it was stopped", "[store][verify]") {
  Verified t;
  t.open();
  for (int n = 0; n < 50; ++n) REQUIRE(t.run(t.store->put(sha256_of(std::to_string(n)), std::to_string(n), "a/b")));
  VerifyOptions options;
  std::uint64_t blobs = 0;
  int passes = 0;
  for (bool stopped = true; stopped; ++passes) {
    std::stop_source stop;
    const Result<VerifyReport> report =
        store::verify(*t.store, options, stop.get_token(), [&](const store::VerifyProgress& now) {
          if (now.blobs == 7) stop.request_stop();
        });
    REQUIRE(report);
    blobs += report->blobs;
    stopped = report->stopped;
    if (report->last) options.after = report->last;
  }
  CHECK(blobs == 50);
  CHECK(passes == 8);
}

TEST_CASE("verify: one that is slowed down can be stopped at once", "[store][verify]") {
  Verified t;
  t.open();
  REQUIRE(t.fill(large(1)));
  std::stop_source stop;
  // A byte a second would take days.
  const Result<VerifyReport> report = store::verify(*t.store, {.bytes_per_second = 1}, stop.get_token(),
                                                    [&](const store::VerifyProgress&) { stop.request_stop(); });
  REQUIRE(report);
  CHECK(report->stopped);
  CHECK(report->blobs == 0);
  CHECK_FALSE(report->last);
}

TEST_CASE("verify: a store that does not run is not looked at", "[store][verify]") {
  Verified t;
  t.open();
  t.store->stop();
  CHECK(code_of(store::verify(*t.store, {}, {}, {})) == "closed");
}

TEST_CASE("Quarantine: it counts, is kept for a while, and is the first to go", "[store][verify][limits]") {
  Verified t;
  t.params.max_size = {.bytes = 16 << 20};
  t.params.quarantine_max_age = std::chrono::hours{48};
  t.open();
  const std::string blob(1 << 20, 'q');
  REQUIRE(t.fill(blob));
  t.damage(sha256_of(blob), std::string(1 << 20, 'r'));
  REQUIRE(t.verify().damaged == 1);
  CHECK(t.store->ledger().idle() == 1 << 20);
  CHECK(t.store->ledger().at_rest() == 0);
  CHECK(t.metric("sluice_store_quarantine_bytes") == 1 << 20);
  SECTION("it is found after a restart, and expires") {
    t.reopen();
    CHECK(t.store->ledger().idle() == 1 << 20);
    t.store->maintain();
    CHECK(std::filesystem::exists(t.quarantined(sha256_of(blob))));
    t.clock.advance(std::chrono::hours{24 * 365 * 100});
    t.store->maintain();
  }
  SECTION("it expires") {
    t.clock.advance(std::chrono::hours{49});
    t.store->maintain();
  }
  SECTION("it makes room") {
    for (int n = 0; n < 6; ++n) REQUIRE(t.fill(std::string(2 << 20, static_cast<char>('a' + n))));
    REQUIRE(t.fill(std::string(1 << 20, 'y')));
    REQUIRE(t.fill(std::string(1 << 20, 'z')));
    CHECK(t.store->entries() == 8);
  }
  CHECK_FALSE(std::filesystem::exists(t.quarantined(sha256_of(blob))));
  CHECK(t.store->ledger().idle() == 0);
}

TEST_CASE("Quarantine: what cannot be removed stays counted", "[store][verify][limits][faults]") {
  Verified t;
  t.params.quarantine_max_age = std::chrono::hours{48};
  t.open();
  for (const std::string blob : {"first", "other"}) {
    REQUIRE(t.fill(blob));
    t.damage(sha256_of(blob), "wrong");
  }
  REQUIRE(t.verify().damaged == 2);
  const std::uint64_t idle = t.store->ledger().idle();
  t.clock.advance(std::chrono::hours{49});
  t.fail(Operation::remove, EROFS, t.quarantined(sha256_of("first")).filename().native());
  t.store->maintain();
  CHECK(std::filesystem::exists(t.quarantined(sha256_of("first"))));
  CHECK_FALSE(std::filesystem::exists(t.quarantined(sha256_of("other"))));
  CHECK(t.metric("sluice_store_quarantine_bytes") == 5);
  CHECK(t.store->ledger().idle() == idle / 2);
  t.heal();
  t.store->maintain();
  CHECK_FALSE(std::filesystem::exists(t.quarantined(sha256_of("first"))));
  CHECK(t.metric("sluice_store_quarantine_bytes") == 0);
  CHECK(t.store->ledger().idle() == 0);
}

TEST_CASE("Quarantine: where none is wanted damaged blobs are removed", "[store][verify]") {
  Verified t;
  t.params.quarantine_max_age = std::chrono::seconds{0};
  t.open();
  REQUIRE(t.fill("abc"));
  t.damage(sha256_of("abc"), "abd");
  CHECK(t.verify().found.at(0).quarantined_to.empty());
  t.check_gone(sha256_of("abc"));
  CHECK_FALSE(std::filesystem::exists(t.quarantine()));
}

TEST_CASE("BlobIndex: all of it, and what lies between two bytes", "[store]") {
  store::BlobIndex index;
  std::set<oci::Digest> left;
  for (int n = 0; n < 10'000; ++n) {
    const oci::Digest digest =
        n % 7 == 0 ? oci::digest_of(oci::Algorithm::sha512, std::to_string(n)) : sha256_of(std::to_string(n));
    index.add(digest, {1, 1, 0});
    left.insert(digest);
  }
  for (int n = 1; n < 10'000; n += 3) {
    if (n % 7 == 0) continue;
    index.erase(sha256_of(std::to_string(n)));
    left.erase(sha256_of(std::to_string(n)));
  }
  std::set<oci::Digest> seen;
  index.for_each([&](const store::BlobIndex::Blob& blob) { seen.insert(blob.digest); });
  CHECK((seen == left));
  std::vector<oci::Digest> ordered;
  for (unsigned first = 0; first < 256; first += 64) {
    for (const auto& blob : index.between(static_cast<std::uint8_t>(first), static_cast<std::uint8_t>(first + 63))) {
      ordered.push_back(blob.digest);
    }
  }
  CHECK(ordered.size() == left.size());
  CHECK(std::is_sorted(ordered.begin(), ordered.end(), store::BlobIndex::before));
}
