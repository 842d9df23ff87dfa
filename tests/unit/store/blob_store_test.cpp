#include <unistd.h>

#include "unit/store/store_fixture.hpp"

using namespace sluice;
using namespace sluice::test;

TEST_CASE("BlobStore: an adopted file is found, opened and counted", "[store]") {
  StoreFixture fixture;
  store::BlobStore& store = fixture.open();
  const std::string bytes(100'000, 'x');
  const oci::Digest digest = sha256_of(bytes);
  CHECK_FALSE(store.find(digest));
  CHECK(fixture.content(digest) == "not_found");

  REQUIRE(fixture.fill(bytes));
  REQUIRE(store.find(digest));
  CHECK(store.find(digest)->size == bytes.size());
  CHECK(store.find(digest)->media_type == "application/x-layer");
  CHECK(store.peek_open(digest) == nullptr);
  CHECK(fixture.content(digest) == bytes);
  REQUIRE(store.peek_open(digest) != nullptr);
  CHECK(store.peek_open(digest)->media_type == "application/x-layer");
  CHECK(store.bytes() == bytes.size());
  CHECK(store.entries() == 1);
  CHECK(fixture.metric("sluice_store_bytes") == static_cast<double>(bytes.size()));
  CHECK(fixture.metric("sluice_store_entries") == 1);
  CHECK(files_below(fixture.incoming()) == 0);
  CHECK(read_file(fixture.path_of(digest)) == bytes);
}

TEST_CASE("BlobStore: stat answers from the index", "[store]") {
  StoreFixture fixture;
  store::BlobStore& store = fixture.open();
  REQUIRE(fixture.fill("abc"));
  CHECK(fixture.run(store.stat(sha256_of("abc"))).value().size == 3);
  CHECK(code_of(fixture.run(store.stat(sha256_of("abd")))) == "not_found");
}

TEST_CASE("BlobStore: the empty blob is a blob", "[store]") {
  StoreFixture fixture;
  store::BlobStore& store = fixture.open();
  REQUIRE(fixture.fill(""));
  CHECK(store.find(sha256_of(""))->size == 0);
  CHECK(fixture.content(sha256_of("")).empty());
  CHECK(fixture.run(store.read_small(sha256_of(""), 10)).value().empty());
}

TEST_CASE("BlobStore: every algorithm has its place", "[store]") {
  StoreFixture fixture;
  store::BlobStore& store = fixture.open();
  for (const oci::Algorithm algorithm : {oci::Algorithm::sha256, oci::Algorithm::sha384, oci::Algorithm::sha512}) {
    const oci::Digest digest = oci::digest_of(algorithm, std::string_view("content"));
    REQUIRE(fixture.run(store.put(digest, "content", "text/plain")));
    CHECK(fixture.run(store.read_small(digest, 100)).value() == "content");
  }
  CHECK(store.entries() == 3);
  fixture.reopen();
  CHECK(fixture.store->entries() == 3);
}

TEST_CASE("BlobStore: adopting twice replaces the file and counts once", "[store]") {
  StoreFixture fixture;
  store::BlobStore& store = fixture.open();
  REQUIRE(fixture.fill("abc"));
  const auto reader = fixture.run(store.open(sha256_of("abc")));
  REQUIRE(reader);
  REQUIRE(fixture.fill("abc", "application/json"));
  CHECK(store.entries() == 1);
  CHECK(store.bytes() == 3);
  CHECK(store.find(sha256_of("abc"))->media_type == "application/json");
  // The old file is not served any more, but who reads it goes on.
  CHECK(store.peek_open(sha256_of("abc")) == nullptr);
  CHECK(fixture.posix.size((*reader)->file).value() == 3);
  CHECK(fixture.content(sha256_of("abc")) == "abc");
  // Who does not know the type does not take it away.
  REQUIRE(fixture.fill("abc", ""));
  CHECK(store.find(sha256_of("abc"))->media_type == "application/json");
}

TEST_CASE("BlobStore: a file of another length is not adopted and stays with the caller", "[store]") {
  StoreFixture fixture;
  store::BlobStore& store = fixture.open();
  write_file(fixture.incoming() / "part", "abcdef");
  const std::uint64_t claimed = GENERATE(0, 5, 7);
  CHECK(code_of(fixture.run(store.adopt(fixture.incoming() / "part", sha256_of("abcdef"), claimed, "a/b"))) ==
        "size_mismatch");
  CHECK(read_file(fixture.incoming() / "part") == "abcdef");
  CHECK(store.entries() == 0);
  CHECK_FALSE(std::filesystem::exists(fixture.path_of(sha256_of("abcdef"))));
}

TEST_CASE("BlobStore: a file that is not there cannot be adopted", "[store]") {
  StoreFixture fixture;
  store::BlobStore& store = fixture.open();
  CHECK(code_of(fixture.run(store.adopt(fixture.incoming() / "nothing", sha256_of("x"), 1, "a/b"))) == "not_found");
  CHECK(store.entries() == 0);
}

TEST_CASE("BlobStore: small objects are written and read whole", "[store]") {
  StoreFixture fixture;
  store::BlobStore& store = fixture.open();
  const std::string manifest = R"({"schemaVersion":2})";
  const oci::Digest digest = sha256_of(manifest);
  CHECK(code_of(fixture.run(store.read_small(digest, 1000))) == "not_found");
  REQUIRE(fixture.run(store.put(digest, manifest, "application/vnd.oci.image.manifest.v1+json")));
  CHECK(fixture.run(store.read_small(digest, manifest.size())).value() == manifest);
  CHECK(code_of(fixture.run(store.read_small(digest, manifest.size() - 1))) == "size_mismatch");
  CHECK(store.find(digest)->media_type == "application/vnd.oci.image.manifest.v1+json");
  // Manifests do not crowd blobs out of the cache of open files.
  CHECK(store.peek_open(digest) == nullptr);
  CHECK(files_below(fixture.incoming()) == 0);
}

TEST_CASE("BlobStore: removing frees the name and leaves readers alone", "[store]") {
  StoreFixture fixture;
  store::BlobStore& store = fixture.open();
  const oci::Digest digest = sha256_of("abc");
  CHECK(code_of(fixture.run(store.remove(digest))) == "not_found");
  REQUIRE(fixture.fill("abc"));
  const auto reader = fixture.run(store.open(digest));
  REQUIRE(reader);
  REQUIRE(fixture.run(store.remove(digest)));
  CHECK_FALSE(store.find(digest));
  CHECK(store.peek_open(digest) == nullptr);
  CHECK(store.bytes() == 0);
  CHECK(fixture.metric("sluice_store_entries") == 0);
  CHECK_FALSE(std::filesystem::exists(fixture.path_of(digest)));
  std::array<std::byte, 3> bytes{};
  CHECK(fixture.posix.read_at((*reader)->file, 0, bytes).value() == 3);
  CHECK(fixture.content(digest) == "not_found");

  // A file that the index does not know is removed as well.
  write_file(fixture.path_of(digest), "abc");
  CHECK(fixture.run(store.remove(digest)));
  CHECK_FALSE(std::filesystem::exists(fixture.path_of(digest)));

  fixture.reopen();
  CHECK(fixture.store->entries() == 0);
}

TEST_CASE("BlobStore: a restart finds everything through the catalog", "[store]") {
  StoreFixture fixture;
  fixture.open();
  REQUIRE(fixture.fill("abc", "application/json"));
  REQUIRE(fixture.fill("defg"));
  fixture.reopen();
  CHECK_FALSE(fixture.store->rebuilding());
  CHECK(fixture.store->entries() == 2);
  CHECK(fixture.store->bytes() == 7);
  CHECK(fixture.store->find(sha256_of("abc"))->media_type == "application/json");
  CHECK(fixture.content(sha256_of("defg")) == "defg");
}

TEST_CASE("BlobStore: a use is written down, in steps", "[store]") {
  StoreFixture fixture;
  store::BlobStore& store = fixture.open();
  REQUIRE(fixture.fill("abc"));
  REQUIRE(store.catalog().flush());
  CHECK(store.catalog().pending() == 0);
  store.touch(sha256_of("abc"));
  CHECK(store.catalog().pending() == 0);
  fixture.clock.advance(std::chrono::seconds{60});
  CHECK(fixture.content(sha256_of("abc")) == "abc");  // notes the use
  store.touch(sha256_of("abc"));
  CHECK(store.catalog().pending() == 1);
  store.touch(sha256_of("unknown"));
  CHECK(store.catalog().pending() == 1);
}

TEST_CASE("BlobStore: two stores never share a root", "[store]") {
  StoreFixture fixture;
  fixture.open();
  metrics::Registry registry;
  {
    store::BlobStore second(fixture.params, fixture.filesystem, fixture.pool, fixture.clock, registry);
    const Result<void> started = second.start();
    REQUIRE(code_of(started) == "exists");
    CHECK(started.error().message.find("process " + std::to_string(::getpid())) != std::string::npos);
    CHECK(started.error().message.find(fixture.params.root.native()) != std::string::npos);
  }
  fixture.store->stop();
  store::BlobStore third(fixture.params, fixture.filesystem, fixture.pool, fixture.clock, registry);
  CHECK(third.start());
}

TEST_CASE("BlobStore: a root that cannot be made stops the start", "[store]") {
  StoreFixture fixture;
  write_file(fixture.params.root, "a file where the root should be");
  store::BlobStore store(fixture.params, fixture.filesystem, fixture.pool, fixture.clock, fixture.registry);
  const Result<void> started = store.start();
  REQUIRE_FALSE(started);
  CHECK(started.error().message.find(fixture.params.root.native()) != std::string::npos);
}
