// Wrong bytes, wrong lengths and broken downloads: no client gets a complete wrong body, nothing wrong is kept.
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "client.hpp"
#include "fixture.hpp"
#include "support/captured_log.hpp"

using namespace sluice;
using namespace sluice::test;

namespace {

std::shared_ptr<const std::string> shared(std::string text) {
  return std::make_shared<const std::string>(std::move(text));
}

std::string corrupted(std::string text, std::size_t at) {
  text[at] = static_cast<char>(text[at] ^ 1);
  return text;
}

// What holds whenever a download went wrong, and that the next one goes well.
void check_recovers(Fixture& cache, const oci::Digest& digest, const std::string& blob) {
  REQUIRE(cache.wait_idle());
  CHECK_FALSE(cache.store().find(digest).has_value());
  const Response again = get(cache.port(), blob_path("library/app", digest));
  CHECK(again.status == 200);
  CHECK(again.complete);
  CHECK((again.body == blob));
  REQUIRE(cache.wait_idle());
  CHECK(cache.store().find(digest).has_value());
  CHECK(cache.incoming_files() == 0);
}

}  // namespace

TEST_CASE("Proxy: a byte corrupted by upstream reaches no client as a complete body", "[proxy]") {
  Fixture cache;
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const std::size_t at = GENERATE(std::size_t{0}, std::size_t{500'000}, std::size_t{999'999});
  const bool hide_size = GENERATE(false, true);
  cache.hub().plan(digest, {.hide_size = hide_size, .content = shared(corrupted(blob, at))});
  const Response response = get(cache.port(), blob_path("library/app", digest));
  CHECK(response.status == 200);
  CHECK_FALSE(response.complete);
  CHECK_FALSE(response.reset);
  CHECK(response.body.size() < blob.size());
  CHECK(cache.metric("sluice_fill_digest_mismatches_total") == 1);
  check_recovers(cache, digest, blob);
}

TEST_CASE("Proxy: an empty body for a digest that is not the empty one's is no blob", "[proxy]") {
  Fixture cache;
  const std::string blob = content(1000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const bool hide_size = GENERATE(false, true);
  cache.hub().plan(digest, {.hide_size = hide_size, .content = shared("")});
  const Response response = get(cache.port(), blob_path("library/app", digest));
  CHECK_FALSE((response.status == 200 && response.complete));
  CHECK_FALSE(response.reset);
  check_recovers(cache, digest, blob);
}

TEST_CASE("Proxy: a blob of zero bytes", "[proxy]") {
  Fixture cache;
  const oci::Digest digest = cache.hub().add_blob("library/app", "");
  for (int round = 0; round < 2; ++round) {
    const Response response = get(cache.port(), blob_path("library/app", digest));
    CHECK(response.status == 200);
    CHECK(response.complete);
    CHECK(response.field("content-length") == "0");
    REQUIRE(cache.wait_idle());
  }
  CHECK(cache.hub().seen().downloads == 1);
  CHECK(head(cache.port(), blob_path("library/app", digest)).field("content-length") == "0");
}

TEST_CASE("Proxy: an upstream that lies about the size", "[proxy]") {
  Fixture cache;
  const std::string blob = content(300'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const std::uint64_t announced =
      GENERATE(std::uint64_t{299'999}, std::uint64_t{300'001}, std::uint64_t{1}, std::uint64_t{10'000'000});
  cache.hub().plan(digest, {.announced = announced});
  const Response response = get(cache.port(), blob_path("library/app", digest));
  CHECK_FALSE((response.status == 200 && response.complete));
  CHECK_FALSE(response.reset);
  REQUIRE(cache.wait_idle());
  // The bytes may have been right nevertheless, and kept.
  const Response again = get(cache.port(), blob_path("library/app", digest));
  CHECK(again.complete);
  CHECK((again.body == blob));
  REQUIRE(cache.wait_idle());
  CHECK(cache.incoming_files() == 0);
  CHECK(head(cache.port(), blob_path("library/app", digest)).field("content-length") == "300000");
}

TEST_CASE("Proxy: a blob of unknown size is sent in chunks, or to an HTTP/1.0 client once its size is known",
          "[proxy]") {
  Fixture cache;
  const std::string blob = content(700'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.hub().plan(digest, {.hide_size = true});
  const bool old = GENERATE(false, true);
  const Response response =
      fetch(cache.port(), "GET", blob_path("library/app", digest), {}, old ? "HTTP/1.0" : "HTTP/1.1");
  CHECK(response.status == 200);
  CHECK(response.complete);
  CHECK((response.body == blob));
  CHECK(response.field("content-length") == (old ? "700000" : ""));
  CHECK(response.field("transfer-encoding") == (old ? "" : "chunked"));
  CHECK(response.field("docker-content-digest") == digest.to_string());
  REQUIRE(cache.wait_idle());
  CHECK(get(cache.port(), blob_path("library/app", digest)).field("content-length") == "700000");
}

TEST_CASE("Proxy: a wrong blob of unknown size never looks complete to an HTTP/1.0 client", "[proxy]") {
  Fixture cache;
  std::string blob = content(700'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  blob[300'000] ^= 1;
  cache.hub().plan(digest, {.hide_size = true, .content = shared(blob)});
  const Response response = fetch(cache.port(), "GET", blob_path("library/app", digest), {}, "HTTP/1.0");
  CHECK(response.status >= 500);
  CHECK(response.body.size() < 2000);
}

TEST_CASE("Proxy: other digest algorithms", "[proxy]") {
  Fixture cache;
  const std::string blob = content(300'000);
  const oci::Digest digest =
      cache.hub().add_blob("library/app", blob, GENERATE(oci::Algorithm::sha384, oci::Algorithm::sha512));
  CHECK((get(cache.port(), blob_path("library/app", digest)).body == blob));
  REQUIRE(cache.wait_idle());
  CHECK((get(cache.port(), blob_path("library/app", digest)).body == blob));
  CHECK(cache.hub().seen().downloads == 1);
}

TEST_CASE("Proxy: a broken download goes on from the byte where it broke", "[proxy]") {
  Fixture cache;
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const Errc how = GENERATE(Errc::upstream_unreachable, Errc::upstream_timeout);
  cache.hub().plan(digest, {.break_at = 0, .broken = how});
  cache.hub().plan(digest, {.break_at = 300'000, .broken = how});
  cache.hub().plan(digest, {.break_at = 300'001, .broken = how});
  cache.hub().plan(digest, {.refuse = Error{Errc::upstream_failed, "503"}});
  cache.hub().plan(digest, {.break_at = 999'999, .broken = how});
  const Response response = get(cache.port(), blob_path("library/app", digest));
  CHECK(response.complete);
  CHECK((response.body == blob));
  CHECK(cache.hub().seen().offsets == std::vector<std::uint64_t>{0, 0, 300'000, 300'001, 300'001, 999'999});
  CHECK(cache.hub().seen().bytes == blob.size());
  CHECK(cache.metric("sluice_fills_resumed_total") == 5);
}

TEST_CASE("Proxy: a download that breaks behind its last byte is complete", "[proxy]") {
  Fixture cache;
  const std::string blob = content(100'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const bool hide_size = GENERATE(false, true);
  cache.hub().plan(digest, {.break_at = 100'000, .hide_size = hide_size});
  const Response response = get(cache.port(), blob_path("library/app", digest));
  CHECK(response.complete);
  CHECK((response.body == blob));
}

TEST_CASE("Proxy: an upstream that ignores Range is read past what is there", "[proxy]") {
  Fixture cache;
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.hub().plan(digest, {.break_at = 400'000});
  cache.hub().plan(digest, {.ignore_range = true});
  const Response response = get(cache.port(), blob_path("library/app", digest));
  CHECK(response.complete);
  CHECK((response.body == blob));
  CHECK(cache.hub().seen().bytes == 1'400'000);
}

TEST_CASE("Proxy: a blob that changes its length during the download is broken off", "[proxy]") {
  Fixture cache;
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.hub().plan(digest, {.break_at = 400'000});
  SECTION("another length announced") { cache.hub().plan(digest, {.announced = 1'000'001}); }
  SECTION("shorter than what is there, without a Range") {
    cache.hub().plan(digest, {.ignore_range = true, .hide_size = true, .content = shared(content(1000, 2))});
  }
  SECTION("shorter than what is there") { cache.hub().plan(digest, {.content = shared(content(1000, 2))}); }
  const Response response = get(cache.port(), blob_path("library/app", digest));
  CHECK_FALSE(response.complete);
  CHECK_FALSE(response.reset);
  check_recovers(cache, digest, blob);
}

TEST_CASE("Proxy: a download that cannot be resumed is broken off in the end", "[proxy]") {
  Fixture::Params params;
  params.resume_attempts = 3;
  Fixture cache(params);
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.hub().plan(digest, {.break_at = 400'000});
  for (int i = 0; i < 3; ++i) cache.hub().plan(digest, {.refuse = Error{Errc::upstream_unreachable, "down"}});
  const Response response = get(cache.port(), blob_path("library/app", digest));
  CHECK_FALSE(response.complete);
  CHECK_FALSE(response.reset);
  CHECK((response.body == blob.substr(0, 400'000)));
  CHECK(cache.hub().seen().downloads == 4);
  CHECK(cache.metric("sluice_fills_failed_total") == 1);
  check_recovers(cache, digest, blob);
}

TEST_CASE("Proxy: what an upstream always sends wrong is told once for a while, and counted each time", "[proxy]") {
  const CapturedLog log;
  Fixture cache;
  const auto pull_wrong = [&](FakeRegistry& registry, const std::string& prefix, unsigned seed) {
    const oci::Digest digest = oci::digest_of(oci::Algorithm::sha256, content(1000, seed));
    registry.add_wrong_blob("library/app", digest, content(1000, seed + 1));
    const Response response = get(cache.port(), blob_path(prefix + "library/app", digest));
    CHECK_FALSE((response.status == 200 && response.complete));
    REQUIRE(cache.wait_idle());
  };
  const std::string told = "do not have the digest";
  for (unsigned seed = 1; seed <= 5; ++seed) pull_wrong(cache.hub(), "", 10 * seed);
  CHECK(log.lines_with(told) == 1);
  CHECK(cache.metric("sluice_fill_digest_mismatches_total") == 5);
  CHECK(cache.metric("sluice_fills_failed_total") == 5);
  // Another upstream's habit is another thing.
  pull_wrong(cache.quay(), "quay.io/", 100);
  pull_wrong(cache.quay(), "quay.io/", 110);
  CHECK(log.lines_with(told) == 2);
  // So is another fault.
  const oci::Digest broken = cache.hub().add_blob("library/app", content(100'000, 200));
  for (int i = 0; i < 6; ++i) cache.hub().plan(broken, {.break_at = 0});
  (void)get(cache.port(), blob_path("library/app", broken));
  REQUIRE(cache.wait_idle());
  CHECK(log.lines_with(broken.to_string() + " of ") == 1);
  cache.clock().advance(std::chrono::minutes(10));
  pull_wrong(cache.hub(), "", 300);
  CHECK(log.lines_with(told) == 3);
  CHECK(log.lines_with("4 more like it") == 1);
}

TEST_CASE("Proxy: a blob that cannot be stored is served all the same", "[proxy]") {
  Fixture cache;
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.filesystem().set_rule([](runtime::FaultyFilesystem::Operation operation, const runtime::Path&) {
    return operation == runtime::FaultyFilesystem::Operation::rename ? ENOSPC : 0;
  });
  const Response response = get(cache.port(), blob_path("library/app", digest));
  CHECK(response.complete);
  CHECK((response.body == blob));
  // The client has everything before the store does.
  REQUIRE(cache.wait_idle());
  cache.filesystem().set_rule({});
  check_recovers(cache, digest, blob);
}

TEST_CASE("Proxy: a write that fails ends no pull and leaves nothing behind", "[proxy]") {
  Fixture cache;
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  std::atomic<int> writes{0};
  cache.filesystem().set_rule([&writes](runtime::FaultyFilesystem::Operation operation, const runtime::Path&) {
    return operation == runtime::FaultyFilesystem::Operation::write_at && ++writes > 5 ? ENOSPC : 0;
  });
  const Response response = get(cache.port(), blob_path("library/app", digest));
  CHECK(response.complete);
  CHECK((response.body == blob));
  // The client has everything before the store does.
  REQUIRE(cache.wait_idle());
  cache.filesystem().set_rule({});
  check_recovers(cache, digest, blob);
}

TEST_CASE("Proxy: a blob whose file is gone or damaged is fetched again within the request", "[proxy]") {
  Fixture cache;
  // A small one is read, a large one is sent from an open file.
  const std::size_t size = GENERATE(std::size_t{5'000}, std::size_t{500'000});
  const std::string blob = content(size);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  REQUIRE((get(cache.port(), blob_path("library/app", digest)).body == blob));
  REQUIRE(cache.wait_idle());
  const bool opened_before = GENERATE(false, true);
  if (opened_before) REQUIRE((get(cache.port(), blob_path("library/app", digest)).body == blob));
  const std::filesystem::path file = cache.store().layout().blob(digest);
  REQUIRE(std::filesystem::is_regular_file(file));
  SECTION("deleted") { std::filesystem::remove(file); }
  SECTION("truncated") { std::filesystem::resize_file(file, 100); }
  SECTION("empty") { std::filesystem::resize_file(file, 0); }
  SECTION("longer") { std::filesystem::resize_file(file, size + 1); }
  for (int round = 0; round < 2; ++round) {
    const Response response = get(cache.port(), blob_path("library/app", digest));
    INFO("size " << size << ", opened before " << opened_before << ", got " << response.body.size());
    CHECK(response.status == 200);
    CHECK(response.complete);
    CHECK((response.body == blob));
    REQUIRE(cache.wait_idle());
  }
  CHECK(cache.hub().seen().downloads <= 2);
}
