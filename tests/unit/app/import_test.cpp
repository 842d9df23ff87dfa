// A store as distribution's registry writes it, taken over.
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <catch2/catch.hpp>

#include "../store/store_fixture.hpp"
#include "app/commands/import.hpp"
#include "app/commands/source.hpp"
#include "oci/media_type.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;

namespace {

namespace fs = std::filesystem;

const std::string kManifest =
    R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":)"
    R"({"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":)"
    R"("sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[]})";

store::BlobStore::Params store_params(const fs::path& root) {
  store::BlobStore::Params params;
  params.root = root;
  return params;
}

struct Bench {
  Bench() {
    settings.data = directory.path() / "data";
    settings.store.max_size = {};
    settings.store.min_free = {};
  }

  void write(const fs::path& path, const std::string& text) const {
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }
  [[nodiscard]] fs::path data_of(const oci::Digest& digest) const {
    const std::string hex = digest.to_string().substr(7);
    return v2 / "blobs" / "sha256" / hex.substr(0, 2) / hex / "data";
  }
  oci::Digest blob(const std::string& content) const {
    const oci::Digest digest = sha256_of(content);
    write(data_of(digest), content);
    return digest;
  }
  void link(const std::string& repository, const std::string& where, const oci::Digest& digest) const {
    const std::string hex = digest.to_string().substr(7);
    write(v2 / "repositories" / repository / where / "sha256" / hex / "link", digest.to_string());
  }
  void tag(const std::string& repository, const std::string& name, const oci::Digest& digest) const {
    write(v2 / "repositories" / repository / "_manifests" / "tags" / name / "current" / "link", digest.to_string());
  }
  Result<app::ImportReport> import(bool dry_run = false, const std::string& upstream = {}) {
    app::Progress quiet(true);
    return app::import_store(runner, settings, {from, upstream, dry_run}, quiet);
  }
  // What the store knows afterwards.
  struct Looked {
    explicit Looked(const config::Settings& settings)
        : store(store_params(settings.data), filesystem, pool, clock, registry) {
      if (const Result<void> started = store.start(); !started) throw std::runtime_error(started.error().message);
      store.wait_for_walk();
    }
    ~Looked() {
      pool.stop();
      store.stop();
    }
    SystemClock clock;
    metrics::Registry registry;
    runtime::PosixFilesystem filesystem;
    runtime::DiskPool pool{1};
    store::BlobStore store;
  };

  TempDirectory directory;
  fs::path from = directory.path() / "registry";
  fs::path v2 = from / "docker" / "registry" / "v2";
  config::Settings settings;
  app::Runner runner;
};

}  // namespace

TEST_CASE("Import: what repositories link comes, as a link, with what was known", "[app]") {
  Bench bench;
  const oci::Digest layer = bench.blob("a layer");
  const oci::Digest manifest = bench.blob(kManifest);
  const oci::Digest orphan = bench.blob("of nobody");
  bench.link("library/app", "_layers", layer);
  bench.link("library/app", "_manifests/revisions", manifest);
  bench.link("library/app", "_layers", manifest);
  bench.link("library/app/deeper", "_layers", layer);
  bench.link("library/app", "_layers", sha256_of("expired"));
  bench.tag("library/app", "v1", manifest);
  bench.tag("library/app", "gone", sha256_of("expired"));
  bench.write(bench.v2 / "repositories/library/app/_layers/sha512" / std::string(128, 'a') / "link",
              "sha512:" + std::string(128, 'a'));

  const Result<app::ImportReport> looked = bench.import(true);
  REQUIRE(looked.has_value());
  CHECK(looked->blobs == 2);
  CHECK_FALSE(fs::exists(bench.settings.data));

  const Result<app::ImportReport> report = bench.import();
  if (!report) FAIL(report.error().message);
  CHECK(report->repositories == 2);
  CHECK(report->linked == 1);
  CHECK(report->copied == 1);  // manifests are
  CHECK(report->memberships == 3);
  CHECK(report->tags == 1);
  CHECK(report->gone == 1);
  CHECK(report->left_out == 2);
  CHECK(report->bad.empty());
  CHECK(report->stopped.empty());
  struct stat found{};
  REQUIRE(::stat(bench.data_of(layer).c_str(), &found) == 0);
  CHECK(found.st_nlink == 2);
  {
    Bench::Looked now(bench.settings);
    CHECK(now.store.find(layer)->size == 7);
    CHECK(now.store.find(manifest)->media_type == oci::media_type::kOciManifest);
    CHECK_FALSE(now.store.find(orphan));
    const auto scope = store::Scope::repository("docker.io/library/app").value();
    const auto member = now.store.catalog().membership(scope, layer);
    REQUIRE(member);
    CHECK(now.clock.wall() - member->checked_at >= bench.settings.descriptors.ttl - 1s);
    const auto tag = now.store.catalog().tag(scope, "v1", oci::kAllManifests);
    REQUIRE(tag);
    CHECK(tag->digest == manifest);
    CHECK(now.clock.wall() - tag->checked_at >= bench.settings.tags.ttl - 1s);
    CHECK_FALSE(now.store.catalog().tag(scope, "gone", oci::kAllManifests));
    // A newer word, which stays.
    now.store.catalog().set_tag(scope, "v1", oci::kAllManifests, layer);
  }
  const Result<app::ImportReport> again = bench.import();
  REQUIRE(again.has_value());
  CHECK(again->present == 2);
  CHECK(again->linked + again->copied + again->memberships + again->tags == 0);
}

TEST_CASE("Import: what is damaged is named, and the rest comes", "[app]") {
  Bench bench;
  const oci::Digest good = bench.blob("good");
  const oci::Digest bad = bench.blob("bad");
  bench.write(bench.data_of(bad), "bat");
  const oci::Digest no_manifest = bench.blob("no manifest");
  bench.link("a/b", "_layers", good);
  bench.link("a/b", "_layers", bad);
  bench.link("a/b", "_manifests/revisions", no_manifest);
  bench.write(bench.v2 / "repositories/a/b/_layers/sha256" / std::string(64, 'b') / "link", "nonsense");
  bench.write(bench.v2 / "repositories/A/_layers/sha256/x", "");
  const Result<app::ImportReport> report = bench.import(false, "ghcr.io");
  if (!report) FAIL(report.error().message);
  CHECK(report->linked == 1);
  CHECK(report->bad.size() == 4);
  struct stat found{};
  REQUIRE(::stat(bench.data_of(bad).c_str(), &found) == 0);
  CHECK(found.st_nlink == 1);
  Bench::Looked now(bench.settings);
  CHECK(now.store.find(good));
  CHECK_FALSE(now.store.find(bad));
  const auto scope = store::Scope::repository("ghcr.io/a/b").value();
  CHECK(now.store.catalog().membership(scope, good));
  CHECK_FALSE(now.store.catalog().membership(scope, bad));
  CHECK(fs::is_empty(now.store.layout().incoming()));
}

TEST_CASE("Import: it stops where there is no room, and goes on when there is", "[app]") {
  Bench bench;
  for (int i = 0; i < 4; ++i)
    bench.link("a/b", "_layers", bench.blob(std::string(100'000, static_cast<char>('a' + i))));
  bench.settings.store.max_size = {.bytes = 500'000};
  const Result<app::ImportReport> full = bench.import();
  if (!full) FAIL(full.error().message);
  CHECK(full->linked < 4);
  CHECK(full->memberships == full->linked);
  CHECK(full->stopped.find("store.max_size is") == 0);
  bench.settings.store.max_size = {};
  const Result<app::ImportReport> rest = bench.import();
  REQUIRE(rest.has_value());
  CHECK(rest->linked + full->linked == 4);
  CHECK(rest->present == full->linked);
  CHECK(rest->stopped.empty());
}

TEST_CASE("Import: nothing is believed for ever that upstream has not said", "[app]") {
  Bench bench;
  const oci::Digest layer = bench.blob("a layer");
  const oci::Digest manifest = bench.blob(kManifest);
  bench.link("library/app", "_layers", layer);
  bench.link("library/app", "_manifests/revisions", manifest);
  bench.tag("library/app", "v1", manifest);
  bench.settings.descriptors.ttl = {};
  const Result<app::ImportReport> report = bench.import();
  if (!report) FAIL(report.error().message);
  CHECK(report->linked == 1);
  CHECK(report->memberships == 0);
  CHECK(report->tags == 1);
  Bench::Looked now(bench.settings);
  const auto scope = store::Scope::repository("docker.io/library/app").value();
  CHECK_FALSE(now.store.catalog().membership(scope, layer));
}

TEST_CASE("Import: what cannot be taken over at all", "[app]") {
  Bench bench;
  CHECK(bench.import().error().code == Errc::not_found);
  bench.link("a/b", "_layers", bench.blob("x"));
  CHECK(bench.import(false, "nowhere.example").error().code == Errc::not_found);
  const Bench::Looked running(bench.settings);
  CHECK(bench.import().error().code == Errc::exists);
}
