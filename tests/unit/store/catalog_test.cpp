#include <malloc.h>
#include <sqlite3.h>
#include <sys/resource.h>

#include <csignal>

#include "store/catalog.hpp"
#include "store/catalog_file.hpp"
#include "unit/store/store_fixture.hpp"

using namespace sluice;
using namespace sluice::test;
using store::Catalog;
using store::Scope;

namespace {

struct CatalogFixture {
  CatalogFixture() {
    params.file = directory.path() / "catalog.db";
    params.batch_delay = std::chrono::hours{1};
    params.retry_delay = std::chrono::hours{1};
    clock.advance(std::chrono::hours{1000});
  }

  Catalog::Loaded open() {
    catalog.reset();
    catalog = std::make_unique<Catalog>(params, filesystem, clock, media_types, registry);
    blobs.clear();
    return catalog->load([this](const Catalog::BlobRow& row) { blobs.push_back(row); }, {}, [this] { blobs.clear(); });
  }

  void sql(const char* statement) {
    sqlite3* database = nullptr;
    REQUIRE(sqlite3_open(params.file.c_str(), &database) == SQLITE_OK);
    const int rc = sqlite3_exec(database, statement, nullptr, nullptr, nullptr);
    sqlite3_close(database);
    REQUIRE(rc == SQLITE_OK);
  }

  TempDirectory directory;
  runtime::PosixFilesystem filesystem;
  ManualClock clock;
  metrics::Registry registry;
  store::MediaTypes media_types;
  Catalog::Params params;
  std::vector<Catalog::BlobRow> blobs;
  std::unique_ptr<Catalog> catalog;
  const Scope a = Scope::repository("docker.io/a").value();
  const Scope b = Scope::repository("ghcr.io/b").value();
};

oci::Descriptor descriptor(const std::string& text) { return {sha256_of(text), text.size(), "application/json"}; }

}  // namespace

TEST_CASE("Catalog: memberships are by scope, and survive", "[store][catalog]") {
  CatalogFixture fixture;
  CHECK_FALSE(fixture.open().complete);
  Catalog& catalog = *fixture.catalog;
  const oci::Digest digest = sha256_of("abc");
  const oci::Digest alias = oci::digest_of(oci::Algorithm::sha512, std::string_view("abc"));
  catalog.set_membership(fixture.a, digest, descriptor("abc"));
  catalog.set_membership(fixture.a, alias, descriptor("abc"));
  catalog.set_membership(fixture.b, sha256_of("b"), descriptor("b"));
  catalog.set_membership(Scope(), digest, descriptor("abc"));
  CHECK(catalog.membership(fixture.a, digest)->checked_at == fixture.clock.wall());
  CHECK_FALSE(catalog.membership(fixture.b, digest));
  CHECK_FALSE(catalog.add_membership(fixture.a, digest, descriptor("other")));
  CHECK(catalog.add_membership(fixture.b, sha256_of("c"), descriptor("c")));
  CHECK(catalog.clear_membership(fixture.b, sha256_of("c")));
  CHECK_FALSE(catalog.clear_membership(fixture.b, sha256_of("c")));

  for (int round = 0; round < 2; ++round) {
    CHECK(fixture.catalog->membership(fixture.a, digest)->descriptor == descriptor("abc"));
    CHECK(fixture.catalog->membership(fixture.a, alias)->descriptor == descriptor("abc"));
    CHECK(fixture.catalog->membership(Scope(), digest));
    CHECK_FALSE(fixture.catalog->membership(fixture.b, sha256_of("c")));
    CHECK(fixture.catalog->repositories() == std::vector<std::string>{"docker.io/a", "ghcr.io/b"});
    CHECK(fixture.catalog->scopes_of(digest) == std::vector<std::string>{"docker.io/a"});
    if (round == 0) {
      const Catalog::Loaded loaded = fixture.open();
      CHECK(loaded.discarded.empty());
      CHECK(loaded.memberships == 4);
    }
  }
}

TEST_CASE("Catalog: a membership is renewed", "[store][catalog]") {
  CatalogFixture fixture;
  fixture.open();
  fixture.catalog->set_membership(fixture.a, sha256_of("x"), descriptor("x"));
  fixture.clock.advance(std::chrono::seconds{100});
  fixture.catalog->set_membership(fixture.a, sha256_of("x"), {sha256_of("x"), 77, "text/plain"});
  fixture.open();
  const auto found = fixture.catalog->membership(fixture.a, sha256_of("x"));
  REQUIRE(found);
  CHECK(found->checked_at == fixture.clock.wall());
  CHECK(found->descriptor == oci::Descriptor{sha256_of("x"), 77, "text/plain"});
}

TEST_CASE("Catalog: tags are by scope and accept class, and survive", "[store][catalog]") {
  CatalogFixture fixture;
  fixture.open();
  fixture.catalog->set_tag(fixture.a, "latest", 1, sha256_of("one"));
  fixture.catalog->set_tag(fixture.a, "latest", 2, sha256_of("two"));
  fixture.catalog->set_tag(fixture.a, "1.0", 1, sha256_of("three"));
  fixture.catalog->set_tag(fixture.a, "latest2", 1, sha256_of("three"));
  fixture.catalog->set_tag(fixture.b, "latest", 1, sha256_of("four"));
  fixture.clock.advance(std::chrono::milliseconds{1500});
  fixture.catalog->set_tag(fixture.a, "latest", 2, sha256_of("five"));
  for (int round = 0; round < 2; ++round) {
    CHECK(fixture.catalog->tag(fixture.a, "latest", 1)->digest == sha256_of("one"));
    CHECK(fixture.catalog->tag(fixture.a, "latest", 2)->digest == sha256_of("five"));
    CHECK(fixture.catalog->tag(fixture.a, "latest", 2)->accept_class == 2);
    CHECK(fixture.catalog->tag(fixture.a, "latest", 2)->checked_at == fixture.clock.wall());
    CHECK(fixture.clock.wall() - fixture.catalog->tag(fixture.a, "latest", 1)->checked_at ==
          std::chrono::milliseconds{1500});
    CHECK_FALSE(fixture.catalog->tag(fixture.a, "latest", 3));
    CHECK_FALSE(fixture.catalog->tag(Scope::repository("docker.io/c").value(), "latest", 1));
    CHECK(fixture.catalog->tags(fixture.a) == std::vector<std::string>{"1.0", "latest", "latest2"});
    CHECK(fixture.catalog->tags(Scope::repository("docker.io/c").value()).empty());
    if (round == 0) CHECK(fixture.open().tags == 5);
  }
  CHECK(fixture.catalog->clear_tag(fixture.a, "latest"));
  CHECK_FALSE(fixture.catalog->clear_tag(fixture.a, "latest"));
  CHECK_FALSE(fixture.catalog->tag(fixture.a, "latest", 2));
  CHECK(fixture.catalog->clear_tag(fixture.b, "latest"));
  fixture.open();
  CHECK(fixture.catalog->tags(fixture.a) == std::vector<std::string>{"1.0", "latest2"});
  CHECK(fixture.catalog->repositories() == std::vector<std::string>{"docker.io/a"});
}

TEST_CASE("Catalog: blobs come back, the last word about each", "[store][catalog]") {
  CatalogFixture fixture;
  fixture.open();
  const auto type = fixture.media_types.intern("application/json");
  fixture.catalog->put_blob({sha256_of("a"), 1, type, 100});
  fixture.catalog->put_blob({sha256_of("b"), 2, type, 100});
  fixture.catalog->put_blob({sha256_of("b"), 3, store::MediaTypes::kOctetStream, 200});
  fixture.catalog->put_blob({sha256_of("c"), 4, type, 100});
  fixture.catalog->remove_blob(sha256_of("c"));
  fixture.catalog->touch_blob(sha256_of("c"), 300);  // nobody's
  fixture.catalog->touch_blob(sha256_of("a"), 300);
  fixture.catalog->set_complete();
  CHECK(fixture.catalog->pending() == 8);
  CHECK(fixture.catalog->flush());
  CHECK(fixture.catalog->pending() == 0);
  const Catalog::Loaded loaded = fixture.open();
  CHECK(loaded.complete);
  CHECK(loaded.blobs == 2);
  REQUIRE(fixture.blobs.size() == 2);
  for (const Catalog::BlobRow& row : fixture.blobs) {
    if (row.digest == sha256_of("a")) {
      CHECK(row.last_used == 300);
      CHECK(row.media_type == type);
    } else {
      CHECK(row.digest == sha256_of("b"));
      CHECK(row.size == 3);
      CHECK(row.media_type == store::MediaTypes::kOctetStream);
    }
  }
}

TEST_CASE("Catalog: a batch is written when enough changes wait", "[store][catalog]") {
  CatalogFixture fixture;
  fixture.params.batch_changes = 10;
  fixture.open();
  for (int i = 0; i < 10; ++i) fixture.catalog->put_blob({sha256_of(std::to_string(i)), 1, 0, 1});
  // Without a flush: the delay is an hour.
  while (fixture.catalog->pending() != 0) std::this_thread::yield();
  CHECK(fixture.catalog->flush());
}

TEST_CASE("Catalog: what cannot be written waits, in order, and is written when it can be", "[store][catalog]") {
  CatalogFixture fixture;
  fixture.open();
  fixture.sql("ALTER TABLE blobs RENAME TO hidden");
  fixture.catalog->put_blob({sha256_of("a"), 1, 0, 1});
  CHECK(code_of(fixture.catalog->flush()) == "io");
  fixture.catalog->put_blob({sha256_of("a"), 2, 0, 1});
  CHECK(fixture.catalog->pending() == 2);
  CHECK_FALSE(fixture.catalog->flush());
  CHECK(fixture.catalog->pending() == 2);
  fixture.sql("ALTER TABLE hidden RENAME TO blobs");
  CHECK(fixture.catalog->flush());
  CHECK(fixture.catalog->pending() == 0);
  fixture.open();
  REQUIRE(fixture.blobs.size() == 1);
  CHECK(fixture.blobs[0].size == 2);
}

TEST_CASE("Catalog: what waits is bounded, and removals are kept longest", "[store][catalog]") {
  CatalogFixture fixture;
  fixture.params.max_pending = 100;
  fixture.open();
  fixture.catalog->set_membership(fixture.a, sha256_of("revoked"), descriptor("revoked"));
  REQUIRE(fixture.catalog->flush());
  fixture.sql("ALTER TABLE blobs RENAME TO hidden");
  fixture.catalog->put_blob({sha256_of("first"), 1, 0, 1});
  CHECK_FALSE(fixture.catalog->flush());
  CHECK(fixture.catalog->clear_membership(fixture.a, sha256_of("revoked")));
  for (int i = 0; i < 1000; ++i) fixture.catalog->put_blob({sha256_of(std::to_string(i)), 1, 0, 1});
  CHECK(fixture.catalog->pending() <= 100);
  fixture.sql("ALTER TABLE hidden RENAME TO blobs");
  fixture.open();
  CHECK_FALSE(fixture.catalog->membership(fixture.a, sha256_of("revoked")));
  CHECK(fixture.blobs.size() < 100);
}

TEST_CASE("Catalog: rows that make no sense are skipped", "[store][catalog]") {
  CatalogFixture fixture;
  fixture.open();
  fixture.catalog->put_blob({sha256_of("a"), 1, 0, 1});
  fixture.catalog->close();
  fixture.sql("INSERT INTO blobs VALUES(x'0102', 1, 'a/b', 1, 1, '')");
  fixture.sql("INSERT INTO blobs VALUES(zeroblob(32), -1, 'a/b', 1, 1, '')");
  fixture.sql("INSERT INTO memberships VALUES('x/y', zeroblob(32), x'01', 1, 'a/b', 1)");
  fixture.sql("INSERT INTO tags VALUES('x/y', 'latest', 1, 'text', 1)");
  const Catalog::Loaded loaded = fixture.open();
  CHECK(loaded.discarded.empty());
  CHECK(loaded.blobs == 1);
  CHECK(loaded.memberships == 0);
  CHECK(loaded.tags == 0);
}

TEST_CASE("Catalog: after close the memory side answers and changes go nowhere", "[store][catalog]") {
  CatalogFixture fixture;
  fixture.open();
  fixture.catalog->set_tag(fixture.a, "latest", 1, sha256_of("one"));
  fixture.catalog->close();
  fixture.catalog->close();
  CHECK(fixture.catalog->tag(fixture.a, "latest", 1));
  fixture.catalog->set_tag(fixture.a, "late", 1, sha256_of("one"));
  CHECK(fixture.catalog->pending() == 0);
  // Whoever has removed something must not be told that it stays removed.
  CHECK(fixture.catalog->flush().error().code == Errc::shutting_down);
  fixture.open();
  CHECK(fixture.catalog->tags(fixture.a) == std::vector<std::string>{"latest"});
}

TEST_CASE("Catalog: memberships are bounded, those confirmed longest ago go first", "[store][catalog]") {
  CatalogFixture fixture;
  fixture.params.max_memberships = 1000;
  const auto name = [](int i) { return "blob " + std::to_string(i); };
  {
    fixture.open();
    Catalog& catalog = *fixture.catalog;
    for (int i = 0; i < 3000; ++i) {
      catalog.set_membership(fixture.a, sha256_of(name(i)), descriptor(name(i)));
      fixture.clock.advance(std::chrono::seconds(1));
      // One that upstream confirms again and again.
      if (i % 100 == 0) catalog.set_membership(fixture.a, sha256_of(name(0)), descriptor(name(0)));
    }
    CHECK(catalog.members(fixture.a).size() <= 1250);
    CHECK(catalog.members(fixture.a).size() >= 900);
    CHECK(catalog.membership(fixture.a, sha256_of(name(0))));
    CHECK(catalog.membership(fixture.a, sha256_of(name(2999))));
    CHECK_FALSE(catalog.membership(fixture.a, sha256_of(name(1))));
    // Others that are small lose nothing, and find their place.
    catalog.set_membership(fixture.b, sha256_of("b"), descriptor("b"));
    catalog.set_membership(fixture.b, oci::digest_of(oci::Algorithm::sha512, std::string_view("b")), descriptor("b"));
    CHECK(catalog.members(fixture.b).size() == 2);
    REQUIRE(catalog.flush());
  }
  // The file is bounded with it.
  CHECK(fixture.open().memberships <= 1252);
  CHECK(fixture.catalog->membership(fixture.a, sha256_of(name(0))));
  CHECK_FALSE(fixture.catalog->membership(fixture.a, sha256_of(name(1))));
  // What was loaded counts.
  for (int i = 3000; i < 3500; ++i) fixture.catalog->set_membership(fixture.a, sha256_of(name(i)), descriptor(name(i)));
  CHECK(fixture.catalog->members(fixture.a).size() <= 1250);
}

TEST_CASE("Catalog: tags are bounded, those confirmed longest ago go first", "[store][catalog]") {
  CatalogFixture fixture;
  fixture.params.max_tags = 1000;
  const auto name = [](int i) { return "v" + std::to_string(i); };
  const auto digest = sha256_of("image");
  {
    fixture.open();
    Catalog& catalog = *fixture.catalog;
    for (int i = 0; i < 3000; ++i) {
      catalog.set_tag(fixture.a, name(i), oci::kAllManifests, digest);
      // In two forms, which go together.
      if (i % 2 == 0) catalog.set_tag(fixture.a, name(i), 1, digest);
      fixture.clock.advance(std::chrono::seconds(1));
      if (i % 100 == 0) catalog.set_tag(fixture.a, name(0), oci::kAllManifests, digest);
    }
    CHECK(catalog.tags(fixture.a).size() <= 1250);
    CHECK(catalog.tags(fixture.a).size() >= 900);
    CHECK(catalog.tag(fixture.a, name(0), oci::kAllManifests));
    CHECK(catalog.tag(fixture.a, name(2999), oci::kAllManifests));
    CHECK_FALSE(catalog.tag(fixture.a, name(2), oci::kAllManifests));
    CHECK_FALSE(catalog.tag(fixture.a, name(2), 1));
    catalog.set_tag(fixture.b, "latest", oci::kAllManifests, digest);
    CHECK(catalog.tags(fixture.b).size() == 1);
    REQUIRE(catalog.flush());
  }
  // The file is bounded with it, and what was loaded counts.
  fixture.open();
  CHECK(fixture.catalog->tags(fixture.a).size() <= 1250);
  for (int i = 3000; i < 3500; ++i) fixture.catalog->set_tag(fixture.a, name(i), oci::kAllManifests, digest);
  CHECK(fixture.catalog->tags(fixture.a).size() <= 1250);
}

TEST_CASE("Catalog: what is known is bounded in bytes, repositories with nothing left are forgotten",
          "[store][catalog]") {
  CatalogFixture fixture;
  fixture.params.max_bytes = 1'000'000;
  fixture.open();
  Catalog& catalog = *fixture.catalog;
  const auto scope = [](int i) { return Scope::repository("docker.io/crawled/" + std::to_string(i)).value(); };
  for (int i = 0; i < 10'000; ++i) {
    // Every other one under another name.
    catalog.set_membership(scope(i), sha256_of(std::to_string(i)), descriptor(i % 2 == 0 ? "x" : std::to_string(i)));
    catalog.set_tag(scope(i), "latest", oci::kAllManifests, sha256_of(std::to_string(i)));
    fixture.clock.advance(std::chrono::seconds(1));
  }
  CHECK(catalog.memory_bytes() <= 1'250'000);
  CHECK(catalog.memory_bytes() >= 800'000);
  CHECK(catalog.repositories().size() < 2'500);
  CHECK(catalog.membership(scope(9'999), sha256_of("9999")));
  CHECK(catalog.tag(scope(9'999), "latest", oci::kAllManifests));
  CHECK_FALSE(catalog.membership(scope(0), sha256_of("0")));
  CHECK_FALSE(catalog.tag(scope(0), "latest", oci::kAllManifests));
  // Whatever is taken out again leaves nothing.
  for (const std::string& name : catalog.repositories()) {
    const Scope one = Scope::repository(name).value();
    for (const std::string& tag : catalog.tags(one)) catalog.clear_tag(one, tag);
    for (const store::Member& member : catalog.members(one)) catalog.clear_membership(one, member.digest);
  }
  CHECK(catalog.memory_bytes() == 0);
  CHECK(catalog.repositories().empty());
}

#if !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
TEST_CASE("Catalog: what a known repository takes of memory", "[store][catalog]") {
  CatalogFixture fixture;
  fixture.params.batch_delay = std::chrono::milliseconds{0};
  fixture.open();
  Catalog& catalog = *fixture.catalog;
  constexpr int kCount = 50'000;
  const auto scope = [](int i) {
    return Scope::repository("docker.io/organisation/image-" + std::to_string(i)).value();
  };
  // Nothing waits to be written when it is measured.
  const auto used = [&] {
    REQUIRE(catalog.flush());
    const auto info = ::mallinfo2();
    return static_cast<std::int64_t>(info.uordblks + info.hblkhd);
  };
  const std::int64_t before = used();
  for (int i = 0; i < kCount; ++i) {
    catalog.set_membership(scope(i), sha256_of(std::to_string(i)), descriptor(std::to_string(i)));
    if (i % 10'000 == 0) REQUIRE(catalog.flush());
  }
  const std::int64_t with_member = used();
  for (int i = 0; i < kCount; ++i) {
    catalog.set_tag(scope(i), "latest", oci::kAllManifests, sha256_of(std::to_string(i)));
    if (i % 10'000 == 0) REQUIRE(catalog.flush());
  }
  const std::int64_t with_tag = used();
  const std::int64_t repository = (with_member - before) / kCount;
  const std::int64_t tag = (with_tag - with_member) / kCount;
  WARN("a repository with one manifest: " << repository << " bytes; its first tag: " << tag << " bytes");
  CHECK(repository < 450);
  CHECK(tag < 400);
  // What is counted is not less than what it takes, by much.
  CHECK(static_cast<std::int64_t>(catalog.memory_bytes()) * 5 / 4 >= with_tag - before);
}
#endif

TEST_CASE("Catalog: a tag that its upstream has not confirmed for long is forgotten, but not in an outage",
          "[store][catalog]") {
  CatalogFixture fixture;
  fixture.params.max_tag_age = std::chrono::hours{24 * 90};
  fixture.open();
  Catalog& catalog = *fixture.catalog;
  const Scope other = Scope::repository("docker.io/other").value();
  catalog.set_tag(fixture.a, "old", oci::kAllManifests, sha256_of("x"));
  catalog.set_tag(fixture.a, "old", 1, sha256_of("y"));
  catalog.set_tag(fixture.b, "old", oci::kAllManifests, sha256_of("x"));
  fixture.clock.advance(std::chrono::hours{24 * 80});
  catalog.set_tag(fixture.a, "newer", oci::kAllManifests, sha256_of("x"));
  fixture.clock.advance(std::chrono::hours{24 * 20});
  // Nobody has confirmed anything: upstream may be out, or the cache alone.
  catalog.forget_old_tags();
  CHECK(catalog.tags(fixture.a) == std::vector<std::string>{"newer", "old"});
  // docker.io says something about another repository; ghcr.io stays silent.
  catalog.set_membership(other, sha256_of("blob"), descriptor("blob"));
  catalog.forget_old_tags();
  CHECK(catalog.tags(fixture.a).size() == 2);  // looked at an hour ago
  fixture.clock.advance(std::chrono::hours{1});
  catalog.forget_old_tags();
  CHECK(catalog.tags(fixture.a) == std::vector<std::string>{"newer"});
  CHECK_FALSE(catalog.tag(fixture.a, "old", 1));
  CHECK(catalog.tags(fixture.b) == std::vector<std::string>{"old"});
  REQUIRE(catalog.flush());
  fixture.open();
  CHECK(fixture.catalog->tags(fixture.a) == std::vector<std::string>{"newer"});
}

namespace {

// No file can be opened while it lives.
class NoDescriptors {
 public:
  NoDescriptors() {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    rlimit none = before_;
    none.rlim_cur = 0;
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;
  ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

// A membership, a tag and a blob with its type, in a file that was closed.
void prepare(CatalogFixture& fixture) {
  fixture.open();
  fixture.catalog->set_membership(fixture.a, sha256_of("old"), descriptor("old"));
  fixture.catalog->set_membership(fixture.a, sha256_of("revoked"), descriptor("revoked"));
  fixture.catalog->set_tag(fixture.a, "old", 1, sha256_of("old"));
  fixture.catalog->set_tag(fixture.a, "revoked", 1, sha256_of("old"));
  fixture.catalog->set_tag(fixture.b, "revoked", 1, sha256_of("old"));
  fixture.catalog->put_blob({sha256_of("old"), 3, fixture.media_types.intern("application/json"), 100});
  fixture.catalog->set_complete();
  fixture.catalog->close();
}

}  // namespace

// UBSan looks at the type of an object through a pipe, and takes it for a wrong one when there is no descriptor left.
#if !__has_feature(undefined_behavior_sanitizer)
TEST_CASE("Catalog: a file that cannot be read at the start keeps the rows that nobody has read", "[store][catalog]") {
  CatalogFixture fixture;
  // With too little room for what waits, what is in memory is written instead, and that takes nothing away either.
  const bool dropped = GENERATE(false, true);
  prepare(fixture);
  if (dropped) fixture.params.max_pending = 8;
  {
    const NoDescriptors none;
    const Catalog::Loaded loaded = fixture.open();
    CHECK_FALSE(loaded.complete);
    CHECK(loaded.discarded.find("stays where it is") != std::string::npos);
    CHECK(fixture.blobs.empty());
    fixture.catalog->set_tag(fixture.a, "new", 1, sha256_of("other"));
    CHECK_FALSE(fixture.catalog->flush());
  }
  CHECK(std::filesystem::exists(fixture.params.file));
  CHECK_FALSE(std::filesystem::exists(fixture.params.file.native() + ".bad-1"));
  // Learnt and revoked meanwhile: of what was revoked nothing is in memory.
  CHECK_FALSE(fixture.catalog->clear_membership(fixture.a, sha256_of("revoked")));
  CHECK_FALSE(fixture.catalog->clear_tag(fixture.b, "revoked"));
  fixture.catalog->set_tag(fixture.a, "new", 1, sha256_of("new"));
  CHECK_FALSE(fixture.catalog->clear_tag(fixture.a, "revoked"));
  fixture.catalog->found_blob({sha256_of("old"), 3, store::MediaTypes::kOctetStream, 200});
  for (int n = 0; dropped && n < 20; ++n) fixture.catalog->set_tag(fixture.a, "new", 1, sha256_of("new"));
  CHECK(fixture.catalog->flush());

  const Catalog::Loaded loaded = fixture.open();
  CHECK(loaded.complete);
  CHECK(loaded.discarded.empty());
  CHECK(fixture.catalog->membership(fixture.a, sha256_of("old")));
  CHECK_FALSE(fixture.catalog->membership(fixture.a, sha256_of("revoked")));
  CHECK(fixture.catalog->tags(fixture.a) == std::vector<std::string>{"new", "old"});
  CHECK(fixture.catalog->tags(fixture.b).empty());
  REQUIRE(fixture.blobs.size() == 1);
  CHECK(fixture.media_types.text(fixture.blobs[0].media_type) == "application/json");
  CHECK(fixture.blobs[0].last_used == 100);
}
#endif

namespace {

// No file can grow beyond that while it lives, as on a disk that is full.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before_) == 0);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

}  // namespace

// It says with which rights the rows were learnt, so no crash may leave them without it.
TEST_CASE("Catalog: what is remembered of a file comes before its rows when it is written again", "[store][catalog]") {
  CatalogFixture fixture;
  fixture.params.max_pending = 100'000;
  fixture.open();
  fixture.catalog->set_meta("rights:docker.io", "those of now");
  for (int n = 0; n < 20'000; ++n) {
    const std::string name = std::to_string(n);
    const Scope scope = Scope::repository("docker.io/" + std::to_string(n % 500)).value();
    fixture.catalog->set_membership(scope, sha256_of(name), descriptor(name));
  }
  REQUIRE(fixture.catalog->flush());
  const std::string file = fixture.params.file.native();
  const std::vector<std::string> beside{"", "-wal", "-shm"};
  for (const std::string& suffix : beside) std::filesystem::remove(file + suffix);

  // What is on the disk when the process dies in the middle of it.
  CatalogFixture dead;
  {
    const FileSizeLimit limit(1 << 20);
    fixture.catalog->check_file();
    fixture.catalog->set_tag(fixture.a, "new", 1, sha256_of("new"));
    CHECK_FALSE(fixture.catalog->flush());
    for (const std::string& suffix : beside) {
      if (std::filesystem::exists(file + suffix)) {
        std::filesystem::copy_file(file + suffix, dead.params.file.native() + suffix);
      }
    }
  }
  const Catalog::Loaded loaded = dead.open();
  CHECK(loaded.memberships > 0);
  CHECK(loaded.memberships < 20'000);
  CHECK(dead.catalog->meta("rights:docker.io") == "those of now");
}

TEST_CASE("Catalog: a file that cannot be written at the start is read all the same", "[store][catalog]") {
  CatalogFixture fixture;
  const std::string shm = fixture.params.file.native() + "-shm";
  const std::string wal = fixture.params.file.native() + "-wal";
  prepare(fixture);
  // What stands in the way of the files that SQLite makes beside it does what a full disk does.
  std::filesystem::create_symlink("nowhere/at-all", shm);
  const bool none_beside = GENERATE(false, true);
  if (none_beside) std::filesystem::create_symlink("nowhere/at-all", wal);
  const Catalog::Loaded loaded = fixture.open();
  CHECK(loaded.complete);
  CHECK(loaded.discarded.empty());
  CHECK(loaded.memberships == 2);
  CHECK(loaded.tags == 3);
  CHECK(fixture.blobs.size() == 1);
  CHECK_FALSE(std::filesystem::exists(fixture.params.file.native() + ".bad-1"));
  fixture.catalog->set_tag(fixture.a, "new", 1, sha256_of("new"));
  CHECK_FALSE(fixture.catalog->flush());

  std::filesystem::remove(shm);
  std::filesystem::remove(wal);
  CHECK(fixture.catalog->flush());
  CHECK(fixture.catalog->clear_tag(fixture.a, "revoked"));
  const Catalog::Loaded again = fixture.open();
  CHECK(again.complete);
  CHECK(again.memberships == 2);
  CHECK(fixture.catalog->tags(fixture.a) == std::vector<std::string>{"new", "old"});
}

TEST_CASE("Catalog: what waits in the WAL is read from a disk where nothing can be made", "[store][catalog]") {
  CatalogFixture fixture;
  prepare(fixture);
  fixture.open();
  fixture.catalog->set_tag(fixture.a, "late", 1, sha256_of("late"));
  REQUIRE(fixture.catalog->clear_tag(fixture.a, "revoked"));
  REQUIRE(fixture.catalog->flush());
  // As a process that was killed leaves it.
  const runtime::Path killed = fixture.directory.path() / "killed.db";
  for (const char* suffix : {"", "-wal"}) {
    std::filesystem::copy_file(fixture.params.file.native() + suffix, killed.native() + suffix);
  }
  REQUIRE(std::filesystem::file_size(killed.native() + "-wal") > 0);
  fixture.catalog.reset();
  fixture.params.file = killed;
  std::filesystem::create_symlink("nowhere/at-all", killed.native() + "-shm");
  CHECK(fixture.open().complete);
  CHECK(fixture.catalog->tags(fixture.a) == std::vector<std::string>{"late", "old"});
  CHECK(std::filesystem::file_size(killed.native() + "-wal") > 0);
}

TEST_CASE("Catalog: one that vanishes while it cannot be written is made again whole", "[store][catalog]") {
  CatalogFixture fixture;
  prepare(fixture);
  const std::string shm = fixture.params.file.native() + "-shm";
  std::filesystem::create_symlink("nowhere/at-all", shm);
  REQUIRE(fixture.open().complete);
  fixture.catalog->set_tag(fixture.a, "new", 1, sha256_of("new"));
  std::filesystem::remove(fixture.params.file);
  std::filesystem::remove(shm);
  CHECK(fixture.catalog->flush());
  CHECK(fixture.open().memberships == 2);
  CHECK(fixture.catalog->tags(fixture.a) == std::vector<std::string>{"new", "old", "revoked"});
}

TEST_CASE("CatalogFile: a database that cannot have a WAL is told apart", "[store][catalog]") {
  store::MediaTypes media_types;
  // SQLite answers the wish for a WAL with the mode that there is, here that of a database in memory.
  CHECK_FALSE(store::CatalogFile::open(":memory:", media_types).value()->has_wal());
  const TempDirectory directory;
  CHECK(store::CatalogFile::open(directory.path() / "catalog.db", media_types).value()->has_wal());
}

TEST_CASE("Catalog: what is no regular file is moved aside", "[store][catalog]") {
  CatalogFixture fixture;
  const std::filesystem::path precious = fixture.directory.path() / "precious";
  write_file(precious, "precious");
  std::filesystem::create_hard_link(precious, fixture.params.file);
  CHECK_FALSE(fixture.open().discarded.empty());
  fixture.catalog->set_meta("a", "b");
  CHECK(fixture.catalog->flush());
  CHECK(read_file(precious) == "precious");
}

TEST_CASE("Catalog: what an upstream's repositories have is forgotten at once, also in the file", "[store][catalog]") {
  CatalogFixture fixture;
  fixture.open();
  const oci::Digest digest = sha256_of("abc");
  const Scope longer = Scope::repository("ghcr.io:5000/b").value();
  const Scope sibling = Scope::repository("ghcr.iq/b").value();
  const oci::Digest alias = oci::digest_of(oci::Algorithm::sha512, std::string_view("abc"));
  const auto learn = [&](const Scope& scope) {
    fixture.catalog->set_membership(scope, digest, descriptor("abc"));
    fixture.catalog->set_membership(scope, alias, descriptor("abc"));
    fixture.catalog->set_tag(scope, "v1", 1, digest);
  };
  for (const Scope* scope : {&fixture.a, &longer, &sibling}) learn(*scope);
  const std::size_t bytes = fixture.catalog->memory_bytes();
  learn(fixture.b);
  REQUIRE(fixture.catalog->flush());
  const Version::Watch watch = fixture.catalog->watch_tag(fixture.b, "v1");
  CHECK(fixture.catalog->forget_upstream("ghcr.io"));
  CHECK_FALSE(watch.unchanged());
  CHECK(fixture.catalog->memory_bytes() == bytes);
  CHECK_FALSE(fixture.catalog->forget_upstream("ghcr.io"));
  fixture.catalog->set_meta("key", "value");
  const auto check = [&] {
    const Catalog& catalog = *fixture.catalog;
    CHECK_FALSE(catalog.membership(fixture.b, digest).has_value());
    CHECK_FALSE(catalog.tag(fixture.b, "v1", 1).has_value());
    CHECK(catalog.repositories() == std::vector{fixture.a.str(), longer.str(), sibling.str()});
    for (const Scope* scope : {&fixture.a, &longer, &sibling}) {
      CHECK(catalog.membership(*scope, digest).has_value());
      CHECK(catalog.membership(*scope, alias).has_value());
      CHECK(catalog.tag(*scope, "v1", 1).has_value());
    }
    CHECK(catalog.meta("key") == "value");
    CHECK_FALSE(catalog.meta("another").has_value());
  };
  check();
  fixture.open();
  check();
}
