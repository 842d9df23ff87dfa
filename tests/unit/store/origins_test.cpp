// Through which upstreams a blob came: the table, and what of it survives.
#include <sqlite3.h>

#include <string>

#include "store/origin_sets.hpp"
#include "unit/store/store_fixture.hpp"

using namespace sluice;
using namespace sluice::test;

namespace {

const store::Origin kAnyone{"docker.io", Rights::anonymous};
const store::Origin kHub{"docker.io", Rights::own_login};
const store::Origin kQuay{"quay.io", Rights::client_login};

void put(StoreFixture& fixture, const std::string& bytes, const store::Origin& origin) {
  REQUIRE(fixture.run(fixture.store->put(sha256_of(bytes), bytes, "text/plain", origin)));
}

runtime::Task<Result<void>> added(store::BlobStore* store, oci::Digest digest, store::Origin origin) {
  co_await store->add_origin(digest, std::move(origin));
  co_return Result<void>{};
}

void add_origin(StoreFixture& fixture, const std::string& bytes, const store::Origin& origin) {
  REQUIRE(fixture.run(added(fixture.store.get(), sha256_of(bytes), origin)));
}

bool permits(const StoreFixture& fixture, const std::string& bytes, const std::string& upstream) {
  return fixture.store->find(sha256_of(bytes), upstream).has_value();
}

}  // namespace

TEST_CASE("OriginSets: who may give a file out", "[store]") {
  store::OriginSets sets;
  using Id = store::OriginSets::Id;
  const Id hub = sets.with(store::OriginSets::kUnknown, kHub);
  const Id both = sets.with(hub, kQuay);
  CHECK_FALSE(sets.permits(store::OriginSets::kUnknown, "docker.io"));
  CHECK(sets.permits(store::OriginSets::kPublic, "ghcr.io"));
  CHECK(sets.permits(hub, "docker.io"));
  CHECK_FALSE(sets.permits(hub, "quay.io"));
  CHECK((sets.permits(both, "docker.io") && sets.permits(both, "quay.io")));
  CHECK_FALSE(sets.permits(both, "ghcr.io"));
  CHECK(sets.with(both, kHub) == both);
  CHECK(sets.with(sets.with(store::OriginSets::kUnknown, kQuay), kHub) == both);
  CHECK(sets.with(both, kAnyone) == store::OriginSets::kPublic);
  CHECK(sets.with(store::OriginSets::kPublic, kHub) == store::OriginSets::kPublic);
  // As the catalog has them.
  CHECK(sets.text(both) == "docker.io quay.io");
  CHECK(sets.text(store::OriginSets::kPublic) == "*");
  CHECK(sets.text(store::OriginSets::kUnknown).empty());
  for (const Id id : {store::OriginSets::kUnknown, store::OriginSets::kPublic, hub, both}) {
    CHECK(sets.intern(sets.text(id)) == id);
  }
  // Nothing that a name could be taken for.
  CHECK(sets.with(store::OriginSets::kUnknown, {}) == store::OriginSets::kUnknown);
  CHECK(sets.with(store::OriginSets::kUnknown, {"*", Rights::own_login}) == store::OriginSets::kUnknown);
  CHECK(sets.with(store::OriginSets::kUnknown, {"a b", Rights::own_login}) == store::OriginSets::kUnknown);
}

TEST_CASE("OriginSets: beyond the bound nobody is let in", "[store]") {
  store::OriginSets sets;
  store::OriginSets::Id last = store::OriginSets::kUnknown;
  for (std::size_t i = 0; i < store::OriginSets::kMaxSets; ++i) {
    last = sets.with(store::OriginSets::kUnknown, {"upstream" + std::to_string(i), Rights::own_login});
  }
  CHECK(last == store::OriginSets::kUnknown);
  CHECK(sets.with(store::OriginSets::kUnknown, {"upstream0", Rights::own_login}) != store::OriginSets::kUnknown);
}

TEST_CASE("BlobStore: a file is for the upstreams that have delivered it", "[store]") {
  StoreFixture fixture;
  fixture.open();
  put(fixture, "private", kHub);
  put(fixture, "public", kAnyone);
  put(fixture, "unknown", {});
  add_origin(fixture, "private", kQuay);
  add_origin(fixture, "nothing", kQuay);
  const auto check = [&fixture] {
    CHECK(permits(fixture, "private", "docker.io"));
    CHECK(permits(fixture, "private", "quay.io"));
    CHECK_FALSE(permits(fixture, "private", "ghcr.io"));
    CHECK(permits(fixture, "public", "ghcr.io"));
    CHECK_FALSE(permits(fixture, "unknown", "docker.io"));
    CHECK_FALSE(permits(fixture, "nothing", "quay.io"));
  };
  check();
  fixture.reopen();
  check();
  // Another file in its place belongs to the same, and to whoever has brought it.
  put(fixture, "private", {"gcr.io", Rights::own_login});
  CHECK(permits(fixture, "private", "gcr.io"));
  check();
  REQUIRE(fixture.run(fixture.store->remove(sha256_of("private"))));
  put(fixture, "private", kQuay);
  CHECK_FALSE(permits(fixture, "private", "docker.io"));
}

TEST_CASE("BlobStore: without its catalog only what was fetched without a login is anybody's", "[store]") {
  StoreFixture fixture;
  fixture.open();
  put(fixture, "private", kHub);
  put(fixture, "public", kAnyone);
  put(fixture, "later", kHub);
  add_origin(fixture, "later", kAnyone);
  fixture.store.reset();
  std::filesystem::remove(fixture.params.root / "catalog.db");
  fixture.open();
  CHECK(fixture.store->entries() == 3);
  CHECK_FALSE(permits(fixture, "private", "docker.io"));
  CHECK(permits(fixture, "public", "quay.io"));
  CHECK(permits(fixture, "later", "quay.io"));
  CHECK(fixture.content(sha256_of("private")) == "private");
}

TEST_CASE("Catalog: version 1 is taken over with what its memberships say", "[store][catalog]") {
  StoreFixture fixture;
  fixture.open();
  put(fixture, "shared", {});
  put(fixture, "alone", {});
  fixture.store.reset();
  sqlite3* database = nullptr;
  REQUIRE(sqlite3_open((fixture.params.root / "catalog.db").c_str(), &database) == SQLITE_OK);
  const std::string shared = sha256_of("shared").encoded();
  const std::string script =
      "ALTER TABLE blobs DROP COLUMN origins; PRAGMA user_version = 1;"
      "INSERT INTO memberships VALUES('docker.io/a', x'" +
      shared +
      "', NULL, 6, 'application/octet-stream', 100);"
      "INSERT INTO memberships VALUES('docker.io/b/c', x'" +
      shared +
      "', NULL, 6, 'application/octet-stream', 100);"
      "INSERT INTO memberships VALUES('quay.io/d', zeroblob(64), x'" +
      shared +
      "', 6, 'application/octet-stream', 100);"
      "INSERT INTO memberships VALUES('', x'" +
      shared + "', NULL, 6, 'application/octet-stream', 100);";
  const int rc = sqlite3_exec(database, script.c_str(), nullptr, nullptr, nullptr);
  INFO(sqlite3_errmsg(database));
  CHECK(rc == SQLITE_OK);
  sqlite3_close(database);
  fixture.open();
  CHECK_FALSE(fixture.store->rebuilding());
  CHECK(permits(fixture, "shared", "docker.io"));
  CHECK(permits(fixture, "shared", "quay.io"));
  CHECK_FALSE(permits(fixture, "shared", "ghcr.io"));
  CHECK_FALSE(permits(fixture, "alone", "docker.io"));
  const auto membership =
      fixture.store->catalog().membership(store::Scope::repository("docker.io/a").value(), sha256_of("shared"));
  REQUIRE(membership);
  CHECK(membership->descriptor.media_type == store::MediaTypes::kNamedByManifest);
}
