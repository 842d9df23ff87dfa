// What was learnt with other rights at an upstream (another login, access or address) counts no more: after a reload,
// after a restart, while upstream is out, and for what is on its way meanwhile.
#include <filesystem>
#include <memory>
#include <string>

#include <catch2/catch.hpp>

#include "client.hpp"
#include "fixture.hpp"
#include "oci/media_type.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;

namespace {

using Claim = pull::RightsLedger::Claim;

const std::string kOciManifest(oci::media_type::kOciManifest);
const Claim kAlice{"https://quay.example", "https://quay.example, alice"};
const Claim kBob{"https://quay.example", "https://quay.example, bob"};
const Claim kElsewhere{"https://other.example", "https://other.example, alice"};
const Claim kHub{"https://hub.example", "https://hub.example"};
const Error kDenied(Errc::denied, "upstream: 403");

Fixture::Params params_of(const Claim& quay, std::filesystem::path data = {}) {
  Fixture::Params params;
  params.data = std::move(data);
  params.rights = {{"docker.io", kHub}, {"quay.io", quay}};
  return params;
}

// A blob, and a manifest with a tag, in team/app of quay.io, which was asked with a login.
struct Learnt {
  explicit Learnt(FakeRegistry& registry) : quay(registry) {
    quay.set_login(true);
    blob = quay.add_blob("team/app", bytes);
    manifest = quay.add_manifest("team/app", "v1", text, kOciManifest);
  }
  static std::string blob_at(const oci::Digest& digest) { return blob_path("quay.io/team/app", digest); }

  // Each twice, so that the second one may be answered the ready way.
  void pull(Fixture& cache) const {
    for (int i = 0; i < 2; ++i) {
      REQUIRE((get(cache.port(), blob_at(blob)).body == bytes));
      REQUIRE(get(cache.port(), tag_path).body == text);
      REQUIRE(get(cache.port(), manifest_path("quay.io/team/app", manifest)).body == text);
      REQUIRE(cache.wait_idle());
    }
  }
  // Begins a download of the blob, which upstream holds back.
  Response begin(Client& client) const {
    quay.hold(blob, 100'000);
    client.send("GET", blob_at(blob));
    Response begun = client.read_head();
    REQUIRE(begun.status == 200);
    return begun;
  }
  // What everybody gets who asks for it, GET and HEAD.
  void check_status(Fixture& cache, unsigned status) const {
    for (const std::string& path : {blob_at(blob), tag_path, manifest_path("quay.io/team/app", manifest)}) {
      INFO(path);
      CHECK(get(cache.port(), path).status == status);
      CHECK(head(cache.port(), path).status == status);
    }
  }

  FakeRegistry& quay;
  const std::string bytes = content(300'000);
  const std::string text = image_manifest(1, kOciManifest);
  const std::string tag_path = manifest_path("quay.io/team/app", "v1");
  oci::Digest blob;
  oci::Digest manifest;
};

}  // namespace

TEST_CASE("Rights: what another login may not read is not served after a reload", "[proxy][rights]") {
  Fixture::Params params = params_of(kAlice);
  params.ready_answers = GENERATE(true, false);
  Fixture cache(std::move(params));
  const Learnt learnt(cache.quay());
  learnt.pull(cache);
  const FakeRegistry::Seen before = cache.quay().seen();
  CHECK(before.downloads == 1);
  learnt.quay.refuse("team/app", kDenied);
  learnt.check_status(cache, 200U);  // of what it says now nobody has asked
  cache.change_rights("quay.io", kBob);
  learnt.check_status(cache, 403U);
  // Who may is given what is stored: upstream is only asked whether.
  learnt.quay.refuse("team/app", std::nullopt);
  const std::size_t gets = cache.quay().seen().manifest_gets;  // those included that were refused
  learnt.pull(cache);
  CHECK(cache.quay().seen().bytes == before.bytes);
  CHECK(cache.quay().seen().manifest_gets <= gets + 1);  // of the tag
}

TEST_CASE("Rights: those of an upstream that has not changed cost nothing", "[proxy][rights]") {
  Fixture cache(params_of(kAlice));
  const Learnt learnt(cache.quay());
  learnt.pull(cache);
  const std::string bytes = content(200'000, 9);
  const oci::Digest digest = cache.hub().add_blob("library/app", bytes);
  const std::string text = image_manifest(2, kOciManifest);
  cache.hub().add_manifest("library/app", "v1", text, kOciManifest);
  const auto pull_from_hub = [&] {
    REQUIRE((get(cache.port(), blob_path("library/app", digest)).body == bytes));
    REQUIRE(get(cache.port(), manifest_path("library/app", "v1")).body == text);
    REQUIRE(cache.wait_idle());
  };
  pull_from_hub();
  const std::size_t hub = cache.hub().seen().all();
  cache.change_rights("quay.io", kBob);
  pull_from_hub();
  CHECK(cache.hub().seen().all() == hub);
  // A reload in which nothing is different.
  learnt.pull(cache);
  const std::size_t quay = cache.quay().seen().all();
  cache.change_rights("quay.io", kBob);
  learnt.pull(cache);
  CHECK(cache.quay().seen().all() == quay);
}

TEST_CASE("Rights: what another login may not read is not served after a restart", "[proxy][rights]") {
  TempDirectory directory;
  const std::filesystem::path data = directory.path() / "data";
  {
    Fixture cache(params_of(kAlice, data));
    Learnt(cache.quay()).pull(cache);
    REQUIRE(cache.stop());
  }
  const bool changed = GENERATE(true, false);
  {
    Fixture cache(params_of(changed ? kBob : kAlice, data));
    const Learnt learnt(cache.quay());
    learnt.quay.refuse("team/app", kDenied);
    learnt.check_status(cache, changed ? 403U : 200U);
    CHECK((cache.quay().seen().all() == 0) == !changed);
    REQUIRE(cache.stop());
  }
  // It stays taken back, whoever is asked then.
  Fixture cache(params_of(changed ? kBob : kAlice, data));
  const Learnt learnt(cache.quay());
  learnt.quay.refuse("team/app", kDenied);
  learnt.check_status(cache, changed ? 403U : 200U);
  learnt.quay.refuse("team/app", std::nullopt);
  learnt.pull(cache);
  CHECK(cache.quay().seen().downloads == 0);
}

TEST_CASE("Rights: what an older version has learnt counts, and what its rights hang on is noted", "[proxy][rights]") {
  TempDirectory directory;
  const std::filesystem::path data = directory.path() / "data";
  {
    Fixture cache({.data = data});
    Learnt(cache.quay()).pull(cache);
    REQUIRE(cache.stop());
  }
  {
    Fixture cache(params_of(kAlice, data));
    const Learnt learnt(cache.quay());
    learnt.check_status(cache, 200U);
    CHECK(cache.quay().seen().all() == 0);
    REQUIRE(cache.stop());
  }
  Fixture cache(params_of(kBob, data));
  const Learnt learnt(cache.quay());
  learnt.quay.refuse("team/app", kDenied);
  learnt.check_status(cache, 403U);
}

TEST_CASE("Rights: what was learnt while the catalog could not be written is not served with others",
          "[proxy][rights]") {
  TempDirectory directory;
  const std::filesystem::path data = directory.path() / "data";
  const std::filesystem::path file = data / "catalog.db";
  std::filesystem::create_directories(data);
  // What stands in the way of the files that SQLite makes beside it does what a full disk does.
  const std::string beside[] = {file.native() + "-wal", file.native() + "-shm"};
  for (const std::string& path : beside) std::filesystem::create_symlink("nowhere/at-all", path);
  {
    Fixture cache(params_of(kAlice, data));
    Learnt(cache.quay()).pull(cache);
    CHECK_FALSE(cache.store().catalog().flush().has_value());
    for (const std::string& path : beside) std::filesystem::remove(path);
    CHECK(cache.store().catalog().flush().has_value());
    REQUIRE(cache.stop());
  }
  REQUIRE(std::filesystem::is_regular_file(file));
  const Claim other = GENERATE(true, false) ? kBob : kElsewhere;
  Fixture cache(params_of(other, data));
  const Learnt learnt(cache.quay());
  learnt.quay.refuse("team/app", kDenied);
  learnt.check_status(cache, 403U);
}

TEST_CASE("Rights: an outage does not bring back what another login has learnt", "[proxy][rights]") {
  Fixture cache(params_of(kAlice));
  const Learnt learnt(cache.quay());
  learnt.pull(cache);
  const bool changed = GENERATE(true, false);
  cache.quay().fail_all(Error{Errc::upstream_failed, "upstream: 500"});
  if (changed) cache.change_rights("quay.io", kBob);
  cache.clock().advance(25h);  // beyond both times to live
  learnt.check_status(cache, changed ? 502U : 200U);
  const Response list = get(cache.port(), "/v2/quay.io/team/app/tags/list");
  CHECK(list.status == (changed ? 502U : 200U));
}

TEST_CASE("Rights: an upstream that was open gives everybody only what they may read themselves", "[proxy][rights]") {
  Fixture cache(params_of(kAlice));
  const Learnt learnt(cache.quay());
  learnt.pull(cache);
  cache.quay().allow("Bearer alice", "team/app");
  cache.change_rights("quay.io", {kAlice.address, "https://quay.example, passthrough"}, nullptr,
                      access::Passthrough{60s});
  CHECK(get(cache.port(), Learnt::blob_at(learnt.blob)).status == 401);
  CHECK(get(cache.port(), learnt.tag_path).status == 401);
  const Fields alice{{"Authorization", "Bearer alice"}};
  CHECK((get(cache.port(), Learnt::blob_at(learnt.blob), alice).body == learnt.bytes));
  CHECK(get(cache.port(), learnt.tag_path, alice).body == learnt.text);
  CHECK(cache.quay().seen().downloads == 1);
  // And back: what clients were allowed is no word on the cache's own login.
  learnt.quay.refuse("team/app", kDenied);
  cache.change_rights("quay.io", kAlice);
  learnt.check_status(cache, 403U);
}

TEST_CASE("Rights: an upstream at another address is another one", "[proxy][rights]") {
  TempDirectory directory;
  const std::filesystem::path data = directory.path() / "data";
  const bool restart = GENERATE(false, true);
  std::optional<Fixture> cache(params_of(kAlice, data));
  const Learnt learnt(cache->quay());
  learnt.pull(*cache);
  const auto other = std::make_shared<FakeRegistry>("quay.io");
  other->set_login(true);
  if (restart) {
    REQUIRE(cache->stop());
    cache.emplace(params_of(kElsewhere, data));
  }
  cache->change_rights("quay.io", kElsewhere, other);
  const std::string path = Learnt::blob_at(learnt.blob);
  CHECK(get(cache->port(), path).status == 404);  // a download that is refused
  CHECK(get(cache->port(), manifest_path("quay.io/team/app", learnt.manifest)).status == 404);
  cache->clock().advance(1min);  // it was not there a moment ago

  SECTION("one that only says that it has the bytes opens nothing") {
    other->add_wrong_blob("team/app", learnt.blob, content(300'000, 5));
    CHECK(head(cache->port(), path).status == 200);
    CHECK((get(cache->port(), path).body != learnt.bytes));
    CHECK(other->seen().downloads != 0);
  }
  SECTION("one that delivers them is given what is stored from then on") {
    other->add_blob("team/app", learnt.bytes);
    CHECK((get(cache->port(), path).body == learnt.bytes));
    REQUIRE(cache->wait_idle());
    CHECK((get(cache->port(), path).body == learnt.bytes));
    CHECK(other->seen().downloads == 2);
  }
}

TEST_CASE("Rights: what came without a login is not fetched again from another address", "[proxy][rights]") {
  Fixture cache(params_of(kAlice));
  const Learnt learnt(cache.quay());
  learnt.quay.set_login(false);
  learnt.pull(cache);
  const auto other = std::make_shared<FakeRegistry>("quay.io");
  other->add_blob("team/app", learnt.bytes);
  cache.change_rights("quay.io", kElsewhere, other);
  CHECK((get(cache.port(), Learnt::blob_at(learnt.blob)).body == learnt.bytes));
  CHECK(other->seen().downloads == 0);
  CHECK(other->seen().blob_heads == 1);
}

TEST_CASE("Rights: who joins a download of before is asked about with the rights of now", "[proxy][rights]") {
  Fixture cache(params_of(kAlice));
  const Learnt learnt(cache.quay());
  Client first(cache.port());
  Response begun = learnt.begin(first);
  learnt.quay.refuse("team/app", kDenied);
  cache.change_rights("quay.io", kBob);
  CHECK(get(cache.port(), Learnt::blob_at(learnt.blob)).status == 403);
  learnt.quay.release(learnt.blob);
  first.read_rest(begun);
  CHECK((begun.body == learnt.bytes));
  REQUIRE(cache.wait_idle());
  // What it has found out is not remembered either.
  CHECK(get(cache.port(), Learnt::blob_at(learnt.blob)).status == 403);
  learnt.quay.refuse("team/app", std::nullopt);
  CHECK((get(cache.port(), Learnt::blob_at(learnt.blob)).body == learnt.bytes));
  CHECK(learnt.quay.seen().downloads == 1);
}

TEST_CASE("Rights: nobody of another address joins a download of before", "[proxy][rights]") {
  Fixture cache(params_of(kAlice));
  const Learnt learnt(cache.quay());
  Client first(cache.port());
  Response begun = learnt.begin(first);
  const auto other = std::make_shared<FakeRegistry>("quay.io");
  other->add_blob("team/app", learnt.bytes);
  cache.change_rights("quay.io", kElsewhere, other);
  CHECK((get(cache.port(), Learnt::blob_at(learnt.blob)).body == learnt.bytes));
  CHECK(other->seen().downloads == 1);
  learnt.quay.release(learnt.blob);
  first.read_rest(begun);
  CHECK((begun.body == learnt.bytes));
}

TEST_CASE("Rights: an answer to a question of before is not remembered", "[proxy][rights]") {
  Fixture cache(params_of(kAlice));
  const Learnt learnt(cache.quay());
  const std::string path =
      GENERATE_REF(Learnt::blob_at(learnt.blob), learnt.tag_path, manifest_path("quay.io/team/app", learnt.manifest));
  INFO(path);
  learnt.quay.hold_questions();
  Client first(cache.port());
  first.send("HEAD", path);
  REQUIRE(learnt.quay.wait_until([](const FakeRegistry::Seen& seen) { return seen.all() == 1; }));
  cache.change_rights("quay.io", kBob);
  learnt.quay.let_questions();
  CHECK(first.read_head().status == 200);
  learnt.quay.refuse("team/app", kDenied);
  CHECK(get(cache.port(), path).status == 403);
  CHECK(head(cache.port(), path).status == 403);
}

TEST_CASE("Rights: what was not there, and lists, are asked for again", "[proxy][rights]") {
  Fixture cache(params_of(kAlice));
  const Learnt learnt(cache.quay());
  const std::string bytes = content(1000, 8);
  const oci::Digest missing = oci::digest_of(oci::Algorithm::sha256, bytes);
  const std::string path = Learnt::blob_at(missing);
  const std::string list = "/v2/quay.io/team/app/tags/list";
  CHECK(get(cache.port(), path).status == 404);
  CHECK(get(cache.port(), list).status == 200);
  learnt.quay.add_blob("team/app", bytes);
  CHECK(get(cache.port(), path).status == 404);  // remembered
  CHECK(get(cache.port(), list).status == 200);
  CHECK(learnt.quay.seen().lists.size() == 1);
  cache.change_rights("quay.io", kBob);
  CHECK(get(cache.port(), path).status == 200);
  learnt.quay.refuse("team/app", kDenied);
  CHECK(get(cache.port(), list).status == 403);
}

TEST_CASE("Rights: a broken download is gone on with by another login, and not at another address", "[proxy][rights]") {
  Fixture::Params params = params_of(kAlice);
  params.resume_attempts = 0;
  Fixture cache(std::move(params));
  const Learnt learnt(cache.quay());
  learnt.quay.plan(learnt.blob, {.break_at = 100'000, .broken = Errc::upstream_unreachable});
  CHECK_FALSE(get(cache.port(), Learnt::blob_at(learnt.blob)).complete);
  REQUIRE(cache.wait_idle());
  REQUIRE(cache.incoming_files() == 1);
  const bool moves = GENERATE(false, true);
  const auto other = std::make_shared<FakeRegistry>("quay.io");
  other->set_login(true);
  other->add_blob("team/app", learnt.bytes);
  cache.change_rights("quay.io", moves ? kElsewhere : kBob, other);
  CHECK((get(cache.port(), Learnt::blob_at(learnt.blob)).body == learnt.bytes));
  CHECK(other->seen().offsets == std::vector<std::uint64_t>{moves ? 0U : 100'000U});
}
