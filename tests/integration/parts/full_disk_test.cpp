// A disk that refuses: pulls go on through memory, and what is stored is whole.
#include <atomic>
#include <cerrno>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include "integration/proxy/client.hpp"
#include "integration/proxy/fixture.hpp"

using namespace sluice;
using namespace sluice::test;
using Operation = runtime::FaultyFilesystem::Operation;

namespace {

const std::string kRepository = "library/app";

double degraded(const Fixture& cache) { return cache.metric("sluice_store_degraded"); }

void check_heals(Fixture& cache, const oci::Digest& digest, const std::string& blob) {
  REQUIRE(cache.wait_idle());
  CHECK(cache.incoming_files() == 0);
  CHECK_FALSE(cache.store().find(digest).has_value());
  CHECK(degraded(cache) == 1);
  cache.filesystem().set_rule({});
  const Response again = get(cache.port(), blob_path(kRepository, digest));
  CHECK(again.complete);
  CHECK((again.body == blob));
  REQUIRE(cache.wait_idle());
  CHECK(cache.store().find(digest).has_value());
  CHECK(degraded(cache) == 0);
}

}  // namespace

TEST_CASE("Full disk: a file that cannot be made does not end the pull", "[parts]") {
  Fixture cache;
  const std::string blob = content(3'000'000);
  const oci::Digest digest = cache.hub().add_blob(kRepository, blob);
  const int error = GENERATE(ENOSPC, EDQUOT, EIO, EROFS);
  cache.filesystem().set_rule(
      [=](Operation operation, const runtime::Path&) { return operation == Operation::create ? error : 0; });
  for (int i = 0; i < 2; ++i) {
    const Response response = get(cache.port(), blob_path(kRepository, digest));
    CHECK(response.status == 200);
    CHECK(response.complete);
    CHECK((response.body == blob));
    REQUIRE(cache.wait_idle());
  }
  CHECK(cache.metric("sluice_fills_unstored_total") == 2);
  CHECK(cache.metric("sluice_store_degraded", {{"reason", error == ENOSPC || error == EDQUOT ? "no_space" : "io"}}) ==
        1);
  check_heals(cache, digest, blob);
}

TEST_CASE("Full disk: a write that fails half way does not end the pull", "[parts]") {
  Fixture cache;
  const std::string blob = content(3'000'000);
  const oci::Digest digest = cache.hub().add_blob(kRepository, blob);
  const int error = GENERATE(ENOSPC, EIO);
  const int good = GENERATE(0, 1, 20);
  const bool hide_size = GENERATE(false, true);
  cache.hub().plan(digest, {.hide_size = hide_size});
  std::atomic<int> writes = 0;
  cache.filesystem().set_rule([&](Operation operation, const runtime::Path&) {
    return operation == Operation::write_at && writes++ >= good ? error : 0;
  });
  const Response response = get(cache.port(), blob_path(kRepository, digest));
  CHECK(response.status == 200);
  CHECK(response.complete);
  CHECK((response.body == blob));
  check_heals(cache, digest, blob);
}

TEST_CASE("Full disk: readers of one pull all get it, and who comes later joins them", "[parts]") {
  Fixture cache;
  const std::string blob = content(3'000'000);
  const oci::Digest digest = cache.hub().add_blob(kRepository, blob);
  cache.hub().hold(digest, 500'000);
  std::atomic<bool> full = false;
  cache.filesystem().set_rule(
      [&](Operation operation, const runtime::Path&) { return operation == Operation::write_at && full ? ENOSPC : 0; });
  Client fast(cache.port());
  Client slow(cache.port());
  Client part(cache.port());
  fast.send("GET", blob_path(kRepository, digest));
  Response fast_response = fast.read_head();
  slow.send("GET", blob_path(kRepository, digest));
  Response slow_response = slow.read_head();
  part.send("GET", blob_path(kRepository, digest), {{"Range", "bytes=2500000-"}});
  Response part_response = part.read_head();
  REQUIRE(cache.wait_for_metric("sluice_fill_received_bytes_total", 500'000));
  full = true;
  cache.hub().hold(digest, 600'000);
  REQUIRE(cache.wait_for_metric("sluice_store_degraded", 1));
  Client late(cache.port());
  late.send("GET", blob_path(kRepository, digest));
  // Nothing that it needs has been forgotten yet, so no second download is begun.
  Response late_response = late.read_head();
  cache.hub().release(digest);
  // All at once: the slowest paces the others.
  {
    const std::jthread fast_thread([&] { fast.read_rest(fast_response); });
    const std::jthread slow_thread([&] { slow.read_rest(slow_response); });
    const std::jthread part_thread([&] { part.read_rest(part_response); });
    late.read_rest(late_response);
  }
  CHECK(fast_response.complete);
  CHECK((fast_response.body == blob));
  CHECK(slow_response.complete);
  CHECK((slow_response.body == blob));
  CHECK(part_response.complete);
  CHECK((part_response.body == blob.substr(2'500'000)));
  CHECK(late_response.complete);
  CHECK((late_response.body == blob));
  CHECK(cache.hub().seen().downloads == 1);
  check_heals(cache, digest, blob);
}

TEST_CASE("Full disk: what cannot be synced or named was served all the same", "[parts]") {
  Fixture cache;
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob(kRepository, blob);
  cache.filesystem().set_rule(
      [](Operation operation, const runtime::Path&) { return operation == Operation::rename ? EIO : 0; });
  const Response response = get(cache.port(), blob_path(kRepository, digest));
  CHECK(response.complete);
  CHECK((response.body == blob));
  check_heals(cache, digest, blob);
}

TEST_CASE("Full disk: wrong bytes are no more complete than otherwise", "[parts]") {
  Fixture cache;
  std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob(kRepository, blob);
  std::string wrong = blob;
  wrong.back() = static_cast<char>(wrong.back() ^ 1);
  cache.hub().plan(digest, {.content = std::make_shared<const std::string>(wrong)});
  std::atomic<int> writes = 0;
  cache.filesystem().set_rule([&](Operation operation, const runtime::Path&) {
    return operation == Operation::write_at && writes++ >= 3 ? ENOSPC : 0;
  });
  CHECK_FALSE(get(cache.port(), blob_path(kRepository, digest)).complete);
  REQUIRE(cache.wait_idle());
  CHECK(cache.metric("sluice_fill_digest_mismatches_total") == 1);
  CHECK(cache.incoming_files() == 0);
}
