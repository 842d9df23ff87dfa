// What a registry only refers us to: no client gets a byte of it before it is known to be the blob, unless it is large
// and as long as it should be.
#include <memory>
#include <string>

#include <catch2/catch.hpp>

#include "client.hpp"
#include "fixture.hpp"

using namespace sluice;
using namespace sluice::test;

namespace {

constexpr std::size_t kSmall = 1'000'000;
constexpr std::size_t kLarge = 2'500'000;

std::shared_ptr<const std::string> other(std::size_t size) {
  return std::make_shared<const std::string>(content(size, 99));
}

// A download that gave nothing, and the next one, of the registry's own bytes, that does.
void check_nothing_came(Fixture& cache, const Response& response, const oci::Digest& digest, const std::string& blob) {
  CHECK_FALSE(response.complete);
  CHECK(response.body.empty());
  REQUIRE(cache.wait_idle());
  CHECK_FALSE(cache.store().find(digest).has_value());
  const Response again = get(cache.port(), blob_path("library/app", digest));
  CHECK(again.complete);
  CHECK((again.body == blob));
}

}  // namespace

TEST_CASE("Redirected: of a small answer that is not the blob nobody gets a byte", "[proxy]") {
  Fixture cache;
  const std::string blob = content(kSmall);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  // An answer of another service, as long as the accomplice says that it is.
  const std::size_t size = GENERATE(std::size_t{2}, std::size_t{155}, kSmall);
  cache.hub().plan(digest, {.redirected = true, .content = other(size)});
  check_nothing_came(cache, get(cache.port(), blob_path("library/app", digest)), digest, blob);
}

TEST_CASE("Redirected: a small blob comes whole, at once or after a broken connection", "[proxy]") {
  Fixture cache;
  const std::string blob = content(kSmall);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  if (GENERATE(false, true)) cache.hub().plan(digest, {.break_at = 400'000, .redirected = true});
  cache.hub().plan(digest, {.redirected = true});
  const Response response = get(cache.port(), blob_path("library/app", digest));
  CHECK(response.complete);
  CHECK((response.body == blob));
}

TEST_CASE("Redirected: what goes on elsewhere is held back from there", "[proxy]") {
  Fixture cache;
  const std::string blob = content(kSmall);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  // The registry begins by itself, breaks off, and then sends us to what is not the blob.
  cache.hub().plan(digest, {.break_at = 10});
  cache.hub().plan(digest, {.redirected = true, .content = other(kSmall)});
  const Response response = get(cache.port(), blob_path("library/app", digest));
  CHECK_FALSE(response.complete);
  CHECK((response.body == blob.substr(0, response.body.size())));
  CHECK(response.body.size() <= 10);
}

TEST_CASE("Redirected: a large blob streams where its length is the expected one", "[proxy]") {
  Fixture cache;
  const std::string blob = content(kLarge);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  if (GENERATE(false, true)) CHECK(head(cache.port(), blob_path("library/app", digest)).status == 200);
  cache.hub().plan(digest, {.redirected = true});
  cache.hub().hold(digest, 1'500'000);
  Client client(cache.port());
  client.send("GET", blob_path("library/app", digest));
  Response response = client.read_head();
  CHECK(response.status == 200);
  CHECK((client.read_bytes(1'200'000) == blob.substr(0, 1'200'000)));
  cache.hub().release(digest);
  CHECK((client.read_bytes(kLarge - 1'200'000) == blob.substr(1'200'000)));
}

TEST_CASE("Redirected: of another length, or of none, nothing comes before the digest is right", "[proxy]") {
  Fixture cache;
  const std::string blob = content(kLarge);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  CHECK(head(cache.port(), blob_path("library/app", digest)).field("content-length") == std::to_string(kLarge));
  SECTION("longer than the registry had said") {
    cache.hub().plan(digest, {.redirected = true, .content = other(kLarge + 1)});
    check_nothing_came(cache, get(cache.port(), blob_path("library/app", digest)), digest, blob);
  }
  SECTION("without a length, and wrong") {
    cache.hub().plan(digest, {.hide_size = true, .redirected = true, .content = other(kLarge)});
    check_nothing_came(cache, get(cache.port(), blob_path("library/app", digest)), digest, blob);
  }
  SECTION("without a length, and right") {
    cache.hub().plan(digest, {.hide_size = true, .redirected = true});
    const Response response = get(cache.port(), blob_path("library/app", digest));
    CHECK(response.complete);
    CHECK((response.body == blob));
  }
}

TEST_CASE("Guessed: of what is only guessed to be the blob nothing comes before the digest is right", "[proxy]") {
  Fixture cache;
  const std::string blob = content(kLarge);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  if (GENERATE(false, true)) CHECK(head(cache.port(), blob_path("library/app", digest)).status == 200);
  const bool right = GENERATE(true, false);
  if (right) {
    cache.hub().plan(digest, {.guessed = true});
    CHECK((get(cache.port(), blob_path("library/app", digest)).body == blob));
  } else {
    cache.hub().plan(digest, {.guessed = true, .content = other(kLarge)});
    check_nothing_came(cache, get(cache.port(), blob_path("library/app", digest)), digest, blob);
  }
}

TEST_CASE("Redirected: a range, which cannot be verified, is passed through only of what is large and says its length",
          "[proxy]") {
  Fixture cache;
  const bool small = GENERATE(true, false);
  const std::string blob = content(small ? kSmall : kLarge);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.hub().plan_range(digest, {.hide_size = !small, .redirected = true, .content = other(blob.size())});
  const Response response = get(cache.port(), blob_path("library/app", digest), {{"Range", "bytes=900000-900099"}});
  CHECK(response.status == 206);
  CHECK(response.complete);
  CHECK((response.body == blob.substr(900'000, 100)));
}
