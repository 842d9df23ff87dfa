// Blobs at rest that were damaged: the same request gets the right bytes, fetched again.
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>

#include <catch2/catch.hpp>

#include "integration/proxy/client.hpp"
#include "integration/proxy/fixture.hpp"
#include "store/verifier.hpp"
#include "support/catch_result.hpp"

using namespace sluice;
using namespace sluice::test;
using Operation = runtime::FaultyFilesystem::Operation;

namespace {

const std::string kRepository = "library/app";

struct Stored {
  explicit Stored(std::size_t size) : blob(content(size)), digest(cache.hub().add_blob(kRepository, blob)) {
    fetch();
    REQUIRE(cache.store().find(digest));
  }
  // The right blob, in one request.
  void fetch() {
    const Response response = get(cache.port(), blob_path(kRepository, digest));
    CHECK(response.status == 200);
    CHECK(response.complete);
    CHECK((response.body == blob));
    REQUIRE(cache.wait_idle());
  }
  [[nodiscard]] std::filesystem::path path() const { return store::Layout(cache.data()).blob(digest); }
  [[nodiscard]] std::size_t downloads() { return cache.hub().seen().downloads; }
  Fixture cache;
  const std::string blob;
  const oci::Digest digest;
};

void overwrite(const std::filesystem::path& path, const std::string& bytes) {
  std::filesystem::remove(path);
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace

TEST_CASE("Damage: missing, shorter or longer: fetched again for the same request", "[parts][damage]") {
  Stored t(GENERATE(3'000, 400'000));
  // Small ones are answered from memory otherwise.
  REQUIRE(t.cache.store().find(t.digest));
  const int how = GENERATE(0, 1, 2, 3);
  if (how == 0) std::filesystem::remove(t.path());
  if (how == 1) overwrite(t.path(), t.blob.substr(0, t.blob.size() - 1));
  if (how == 2) overwrite(t.path(), t.blob + "x");
  if (how == 3) overwrite(t.path(), "");
  t.fetch();
  CHECK(t.downloads() == 2);
  CHECK(t.cache.metric("sluice_store_dropped_total") == 1);
  t.fetch();
  CHECK(t.downloads() == 2);
}

TEST_CASE("Damage: a file that cannot be opened is fetched again for the same request", "[parts][damage]") {
  Stored t(400'000);
  const Operation operation = GENERATE(Operation::open_read, Operation::status);
  const std::string shelf = t.path().parent_path().native();
  t.cache.filesystem().set_rule([=](Operation asked, const runtime::Path& path) {
    if (asked != operation) return 0;
    return path.empty() || path.native().starts_with(shelf) ? EIO : 0;
  });
  const Response response = get(t.cache.port(), blob_path(kRepository, t.digest));
  CHECK(response.complete);
  CHECK((response.body == t.blob));
  CHECK(t.downloads() == 2);
  CHECK(t.cache.metric("sluice_store_dropped_total") >= 1);
}

TEST_CASE("Damage: a small file that cannot be read is fetched again for the same request", "[parts][damage]") {
  Stored t(3'000);
  t.cache.filesystem().set_rule(
      [](Operation asked, const runtime::Path&) { return asked == Operation::read_at ? EIO : 0; });
  const Response response = get(t.cache.port(), blob_path(kRepository, t.digest));
  t.cache.filesystem().set_rule({});
  CHECK(t.cache.metric("sluice_store_dropped_total") == 1);
  CHECK(t.downloads() == 2);
  // The download cannot read either what it has written: nobody takes it for whole.
  CHECK((response.body == t.blob) == response.complete);
  REQUIRE(t.cache.wait_idle());
  t.fetch();
}

TEST_CASE("Damage: with too many open files nothing is dropped", "[parts][damage]") {
  Stored t(400'000);
  t.cache.filesystem().set_rule(
      [](Operation asked, const runtime::Path&) { return asked == Operation::open_read ? EMFILE : 0; });
  CHECK(get(t.cache.port(), blob_path(kRepository, t.digest)).status == 503);
  t.cache.filesystem().set_rule({});
  t.fetch();
  CHECK(t.downloads() == 1);
}

TEST_CASE("Damage: what verify sets aside is fetched again, also where it was open or in memory", "[parts][damage]") {
  Stored t(GENERATE(3'000, 400'000));
  t.fetch();
  CHECK(t.downloads() == 1);
  std::string other = t.blob;
  other[other.size() / 2] ^= 1;
  // In place, so that the open descriptor has the damage too.
  std::fstream(t.path(), std::ios::binary | std::ios::in | std::ios::out) << other;
  const Result<store::VerifyReport> report = store::verify(t.cache.store(), {}, {}, {});
  REQUIRE(report);
  CHECK(report->damaged == 1);
  CHECK(std::filesystem::exists(report->found.at(0).quarantined_to));
  t.fetch();
  CHECK(t.downloads() == 2);
  CHECK(store::verify(t.cache.store(), {}, {}, {})->found.empty());
}

TEST_CASE("Damage: a file that is cut while it is sent breaks one answer, and is fetched again", "[parts][damage]") {
  Stored t(8'000'000);
  Client client(t.cache.port());
  client.send("GET", blob_path(kRepository, t.digest));
  Response response = client.read_head();
  CHECK(client.read_bytes(100'000).size() == 100'000);
  std::filesystem::resize_file(t.path(), 50'000);
  client.read_rest(response);
  CHECK_FALSE(response.complete);
  REQUIRE(t.cache.wait_for_metric("sluice_scrub_damaged_total", 1));
  CHECK_FALSE(t.cache.store().find(t.digest));
  t.fetch();
  CHECK(t.downloads() == 2);
}
