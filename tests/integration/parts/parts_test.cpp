// What a broken download leaves, and what the next one makes of it.
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include <catch2/catch.hpp>

#include "integration/proxy/client.hpp"
#include "integration/proxy/fixture.hpp"

using namespace sluice;
using namespace sluice::test;

namespace {

const std::string kRepository = "library/app";

std::shared_ptr<const std::string> shared(std::string text) {
  return std::make_shared<const std::string>(std::move(text));
}

void write_part(const std::filesystem::path& data, const oci::Digest& digest, const std::string& bytes) {
  const auto path = store::Layout(data).part(digest, store::Layout::part_tag({"docker.io", Rights::anonymous}));
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
  // As a process leaves it that was killed since the machine was started.
  std::ofstream(store::Layout(data).boot(), std::ios::binary) << store::Parts::current_boot();
}

Fixture::Params at(const std::filesystem::path& data) {
  Fixture::Params params;
  params.data = data;
  params.resume_attempts = 0;
  return params;
}

void check_whole(Fixture& cache, const oci::Digest& digest, const std::string& blob) {
  const Response response = get(cache.port(), blob_path(kRepository, digest));
  CHECK(response.status == 200);
  CHECK(response.complete);
  CHECK((response.body == blob));
  REQUIRE(cache.wait_idle());
  CHECK(cache.store().find(digest).has_value());
  CHECK(cache.incoming_files() == 0);
  CHECK(cache.metric("sluice_parts_bytes") == 0);
}

}  // namespace

TEST_CASE("Parts: a download that broke for good is gone on with by the next request", "[parts]") {
  TempDirectory directory;
  Fixture cache(at(directory.path() / "data"));
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob(kRepository, blob);
  const Errc how = GENERATE(Errc::upstream_unreachable, Errc::upstream_timeout);
  const bool ignore_range = GENERATE(false, true);
  cache.hub().plan(digest, {.break_at = 400'000, .broken = how});
  CHECK_FALSE(get(cache.port(), blob_path(kRepository, digest)).complete);
  REQUIRE(cache.wait_idle());
  CHECK(cache.incoming_files() == 1);
  CHECK(cache.metric("sluice_parts_bytes") == 400'000);
  cache.hub().plan(digest, {.ignore_range = ignore_range});
  check_whole(cache, digest, blob);
  CHECK(cache.hub().seen().offsets == std::vector<std::uint64_t>{0, 400'000});
  CHECK(cache.metric("sluice_parts_adopted_total") == 1);
  CHECK(cache.metric("sluice_parts_bytes_saved_total") == (ignore_range ? 0 : 400'000));
}

TEST_CASE("Parts: one survives the end of the process", "[parts]") {
  TempDirectory directory;
  const std::string blob = content(1'000'000);
  const auto data = directory.path() / "data";
  {
    Fixture cache(at(data));
    const oci::Digest digest = cache.hub().add_blob(kRepository, blob);
    cache.hub().hold(digest, 300'000);
    Client client(cache.port());
    client.send("GET", blob_path(kRepository, digest));
    client.read_head();
    CHECK(client.read_bytes(250'000).size() == 250'000);
    // All of it is written, so nothing is left to chance.
    REQUIRE(cache.wait_for_metric("sluice_fill_received_bytes_total", 300'000));
    CHECK(cache.stop());
  }
  Fixture cache(at(data));
  const oci::Digest digest = cache.hub().add_blob(kRepository, blob);
  CHECK(cache.parts().bytes() == 300'000);
  check_whole(cache, digest, blob);
  CHECK(cache.hub().seen().offsets == std::vector<std::uint64_t>{300'000});
}

TEST_CASE("Parts: a parked download stops and is gone on with", "[parts]") {
  Fixture::Params params;
  params.abandoned = streamcache::Abandoned::fail;
  Fixture cache(params);
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob(kRepository, blob);
  cache.hub().hold(digest, 200'000);
  {
    Client client(cache.port());
    client.send("GET", blob_path(kRepository, digest));
    client.read_head();
    REQUIRE(cache.wait_for_metric("sluice_fill_received_bytes_total", 200'000));
    client.close();
  }
  // That the client is gone shows when more is sent to it. Then the fill waits for upstream, which says nothing more.
  cache.hub().hold(digest, 500'000);
  REQUIRE(cache.wait_idle());
  CHECK(cache.metric("sluice_parts_bytes") >= 200'000);
  cache.hub().release(digest);
  check_whole(cache, digest, blob);
  // What was being read when it stopped is asked for again.
  CHECK(cache.hub().seen().bytes <= blob.size() + Fixture::Params{}.read_bytes);
}

TEST_CASE("Parts: what a killed process left is taken up by its name", "[parts]") {
  TempDirectory directory;
  const std::string blob = content(500'000);
  const auto data = directory.path() / "data";
  const oci::Digest digest = oci::digest_of(oci::Algorithm::sha256, blob);
  SECTION("the beginning of the blob") {
    write_part(data, digest, blob.substr(0, 123'456));
    Fixture cache(at(data));
    cache.hub().add_blob(kRepository, blob);
    check_whole(cache, digest, blob);
    CHECK(cache.hub().seen().offsets == std::vector<std::uint64_t>{123'456});
  }
  SECTION("all of it") {
    write_part(data, digest, blob);
    Fixture cache(at(data));
    cache.hub().add_blob(kRepository, blob);
    check_whole(cache, digest, blob);
    CHECK(cache.hub().seen().bytes == 0);
  }
  SECTION("more than all of it") {
    write_part(data, digest, blob + "more");
    Fixture cache(at(data));
    cache.hub().add_blob(kRepository, blob);
    const bool ignore_range = GENERATE(false, true);
    if (ignore_range) cache.hub().plan(digest, {.ignore_range = true});
    check_whole(cache, digest, blob);
    CHECK(cache.metric("sluice_parts_adopted_total") == 0);
  }
  SECTION("too little to matter") {
    write_part(data, digest, blob.substr(0, 1000));
    Fixture cache(at(data));
    cache.hub().add_blob(kRepository, blob);
    CHECK(cache.incoming_files() == 0);
    check_whole(cache, digest, blob);
    CHECK(cache.hub().seen().offsets == std::vector<std::uint64_t>{0});
  }
}

TEST_CASE("Parts: one with a hole costs one broken answer and is never kept", "[parts]") {
  TempDirectory directory;
  const std::string blob = content(500'000);
  const auto data = directory.path() / "data";
  const oci::Digest digest = oci::digest_of(oci::Algorithm::sha256, blob);
  write_part(data, digest, blob.substr(0, 100'000) + std::string(50'000, '\0'));
  Fixture cache(at(data));
  cache.hub().add_blob(kRepository, blob);
  const Response broken = get(cache.port(), blob_path(kRepository, digest));
  CHECK_FALSE(broken.complete);
  CHECK(broken.body.size() < blob.size());
  REQUIRE(cache.wait_idle());
  CHECK(cache.incoming_files() == 0);
  check_whole(cache, digest, blob);
  CHECK(cache.hub().seen().offsets == std::vector<std::uint64_t>{150'000, 0});
}

TEST_CASE("Parts: one as long as the blob that is damaged is fetched whole for the same request", "[parts]") {
  TempDirectory directory;
  const std::string blob = content(500'000);
  const auto data = directory.path() / "data";
  const oci::Digest digest = oci::digest_of(oci::Algorithm::sha256, blob);
  write_part(data, digest, blob.substr(0, 400'000) + std::string(100'000, '\0'));
  Fixture cache(at(data));
  cache.hub().add_blob(kRepository, blob);
  check_whole(cache, digest, blob);
  CHECK(cache.hub().seen().bytes == blob.size());
  CHECK(cache.metric("sluice_parts_adopted_total") == 0);
  CHECK(cache.metric("sluice_fill_digest_mismatches_total") == 1);
}

TEST_CASE("Parts: after a power failure the first client gets the right blob", "[parts]") {
  TempDirectory directory;
  const std::string blob = content(500'000);
  const auto data = directory.path() / "data";
  const oci::Digest digest = oci::digest_of(oci::Algorithm::sha256, blob);
  write_part(data, digest, blob.substr(0, 100'000) + std::string(50'000, '\0'));
  std::ofstream(store::Layout(data).boot(), std::ios::binary | std::ios::trunc) << "an earlier run of the machine";
  Fixture cache(at(data));
  cache.hub().add_blob(kRepository, blob);
  CHECK(cache.metric("sluice_parts_distrusted_total") == 1);
  CHECK(cache.incoming_files() == 0);
  check_whole(cache, digest, blob);
  CHECK(cache.hub().seen().offsets == std::vector<std::uint64_t>{0});
}

TEST_CASE("Parts: wrong bytes from upstream leave none", "[parts]") {
  TempDirectory directory;
  Fixture cache(at(directory.path() / "data"));
  const std::string blob = content(500'000);
  const oci::Digest digest = cache.hub().add_blob(kRepository, blob);
  cache.hub().plan(digest, {.content = shared(content(500'000, 2))});
  CHECK_FALSE(get(cache.port(), blob_path(kRepository, digest)).complete);
  REQUIRE(cache.wait_idle());
  CHECK(cache.incoming_files() == 0);
}

TEST_CASE("Parts: a refusal takes no part away", "[parts]") {
  TempDirectory directory;
  const std::string blob = content(500'000);
  const auto data = directory.path() / "data";
  const oci::Digest digest = oci::digest_of(oci::Algorithm::sha256, blob);
  write_part(data, digest, blob.substr(0, 200'000));
  Fixture cache(at(data));
  cache.hub().add_blob(kRepository, blob);
  CHECK(get(cache.port(), blob_path("library/other", digest)).status == 404);
  REQUIRE(cache.wait_idle());
  CHECK(cache.parts().bytes() == 200'000);
  check_whole(cache, digest, blob);
  CHECK(cache.hub().seen().bytes == 300'000);
}

TEST_CASE("parts: junk from one upstream does not spoil another's download", "[parts]") {
  TempDirectory directory;
  Fixture cache(at(directory.path() / "data"));
  const std::string blob = content(2'000'000);
  const oci::Digest digest = cache.hub().add_blob(kRepository, blob);
  // A hostile upstream sends a megabyte of junk for docker.io's digest, and breaks off.
  cache.quay().add_wrong_blob("evil/app", digest, content(2'000'000, 9));
  for (int attempt = 0; attempt < 2; ++attempt) {
    cache.quay().plan(digest, {.break_at = 1 << 20});
    CHECK_FALSE(get(cache.port(), blob_path("evil/app", digest) + "?ns=quay.io").complete);
    REQUIRE(cache.wait_idle());
  }
  REQUIRE(cache.parts().find(digest));
  CHECK((get(cache.port(), blob_path(kRepository, digest)).body == blob));
  REQUIRE(cache.wait_idle());
  CHECK(cache.hub().seen().offsets == std::vector<std::uint64_t>{0});
  CHECK(cache.metric("sluice_fill_digest_mismatches_total") == 0);
}

TEST_CASE("parts: a forged 206 does not give out what came through another upstream", "[parts]") {
  TempDirectory directory;
  Fixture cache(at(directory.path() / "data"));
  const std::string blob = content(2'000'000);
  const oci::Digest digest = cache.hub().add_blob(kRepository, blob);
  cache.hub().set_login(true);
  cache.hub().plan(digest, {.break_at = 1 << 20});
  CHECK_FALSE(get(cache.port(), blob_path(kRepository, digest)).complete);
  REQUIRE(cache.wait_idle());
  REQUIRE(cache.parts().find(digest));
  // The accomplice's upstream claims to have all of it, and would go on wherever it is asked to.
  const std::string forged(blob.size(), 'x');
  cache.quay().add_wrong_blob("evil/app", digest, forged);
  const Response response = get(cache.port(), blob_path("evil/app", digest) + "?ns=quay.io");
  CHECK(cache.quay().seen().offsets == std::vector<std::uint64_t>{0});
  CHECK(response.body.find(blob.substr(0, 64)) == std::string::npos);
  // The owner goes on from his own part.
  check_whole(cache, digest, blob);
  CHECK(cache.hub().seen().offsets == std::vector<std::uint64_t>{0, 1 << 20});
}
