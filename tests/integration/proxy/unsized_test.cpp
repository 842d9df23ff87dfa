// Blobs whose length upstream does not tell: who asks while they arrive, and who cannot be waited for. And what a HEAD
// says of a blob on its way.
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "client.hpp"
#include "fixture.hpp"
#include "oci/media_type.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;

namespace {

// No byte finds its place on the disk.
void refuse_writes(Fixture& cache) {
  cache.filesystem().set_rule([](runtime::FaultyFilesystem::Operation operation, const runtime::Path&) {
    return operation == runtime::FaultyFilesystem::Operation::write_at ? ENOSPC : 0;
  });
}

// Those that wait for an answer now wait on; what is asked from now on is answered.
void leave_questions_unanswered(FakeRegistry& registry) {
  registry.hold_questions();
  registry.let_questions();
}

}  // namespace

TEST_CASE("Unsized: who asks while the blob arrives for that repository is asked for nothing", "[proxy]") {
  Fixture cache;
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const std::string path = blob_path("library/app", digest);
  cache.hub().hide_sizes(true);
  cache.hub().hold(digest, 1'000);
  std::vector<Response> responses(4);
  std::vector<std::thread> clients;
  clients.emplace_back([&] { responses.front() = get(cache.port(), path); });
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.bytes == 1'000; }));
  cache.hub().hold_questions();
  for (std::size_t i = 1; i < responses.size(); ++i) {
    clients.emplace_back([&, i] { responses[i] = get(cache.port(), path); });
  }
  Response to_head;
  clients.emplace_back([&] { to_head = head(cache.port(), path); });
  CHECK(cache.counted_blobs("miss", 1));  // the HEAD
  CHECK(cache.wait_for_metric("sluice_fill_readers", 4));
  cache.hub().release(digest);
  CHECK(cache.counted_blobs("join", 3));
  cache.hub().let_questions();
  for (std::thread& client : clients) client.join();
  CHECK(to_head.status == 200);
  CHECK(to_head.field("content-length").empty());
  for (const Response& response : responses) {
    CHECK(response.status == 200);
    CHECK(response.complete);
    CHECK((response.body == blob));
  }
  CHECK(cache.hub().seen().all() == 1);
}

TEST_CASE("Unsized: what a repository has given is not given to another one, nor for ever", "[proxy]") {
  Fixture cache{{.descriptor_ttl = 1min}};
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.hub().hide_sizes(true);
  cache.hub().hold(digest, 1'000);
  Response first;
  std::thread client([&] { first = get(cache.port(), blob_path("library/app", digest)); });
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.bytes == 1'000; }));
  CHECK(get(cache.port(), blob_path("library/other", digest)).status == 404);
  CHECK(cache.hub().seen().blob_heads == 1);
  CHECK(head(cache.port(), blob_path("library/app", digest)).status == 200);
  CHECK(cache.hub().seen().blob_heads == 1);
  cache.clock().advance(61s);
  CHECK(head(cache.port(), blob_path("library/app", digest)).status == 200);
  CHECK(cache.hub().seen().blob_heads == 2);
  cache.hub().release(digest);
  client.join();
  CHECK((first.body == blob));
}

TEST_CASE("Unsized: who waits for upstream's word goes on once a download has told it", "[proxy]") {
  Fixture cache;
  const std::string blob = content(100'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const std::string path = blob_path("library/app", digest);
  cache.hub().hide_sizes(GENERATE(false, true));
  cache.hub().hold_questions();
  std::vector<Response> responses(2);
  std::vector<std::thread> clients;
  clients.emplace_back([&] { responses[0] = head(cache.port(), path); });
  clients.emplace_back([&] { responses[1] = get(cache.port(), path, {{"Range", "bytes=50000-50999"}}); });
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.blob_heads >= 1; }));
  leave_questions_unanswered(cache.hub());
  const Response whole = get(cache.port(), path);
  CHECK((whole.body == blob));
  CHECK(cache.wait_for_metric("sluice_blob_requests_total", 3));
  cache.stop();
  for (std::thread& client : clients) client.join();
  CHECK(responses[0].status == 200);
  CHECK(responses[1].status == 206);
  CHECK((responses[1].body == blob.substr(50'000, 1'000)));
}

TEST_CASE("Unsized: who is let in after the fill has gone by gets the blob all the same", "[proxy]") {
  Fixture cache;
  const std::string blob = content(2'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.hub().add_blob("library/other", blob);
  cache.hub().hide_sizes(true);
  refuse_writes(cache);
  cache.hub().hold(digest, 1'000);
  std::vector<Response> responses(2);
  std::vector<std::thread> clients;
  clients.emplace_back([&] { responses[0] = get(cache.port(), blob_path("library/app", digest)); });
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.bytes == 1'000; }));
  cache.hub().hold_questions();
  clients.emplace_back([&] { responses[1] = get(cache.port(), blob_path("library/other", digest)); });
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.blob_heads == 1; }));
  cache.hub().release(digest);
  // It reads nothing while it is asked about, so the other one does not wait for it for long.
  clients[0].join();
  REQUIRE(cache.wait_idle());
  cache.hub().let_questions();
  clients[1].join();
  for (const Response& response : responses) {
    CHECK(response.status == 200);
    CHECK(response.complete);
    CHECK((response.body == blob));
  }
  // Upstream was asked about the other repository once, by HEAD and by what it sends.
  CHECK(cache.hub().seen().blob_heads == 1);
  CHECK(cache.hub().seen().downloads == 3);
}

TEST_CASE("Unsized: a manifest that is on its way as a blob has one type for HEAD and GET", "[proxy]") {
  Fixture cache;
  const std::string type(GENERATE(oci::media_type::kOciManifest, oci::media_type::kOciIndex));
  const std::string manifest = image_manifest(1, type);
  const oci::Digest digest = cache.hub().add_blob("library/app", manifest);
  const std::string path = blob_path("library/app", digest);
  const bool hide = GENERATE(false, true);
  cache.hub().hide_sizes(hide);
  cache.hub().plan(digest, {.media_type = type});
  cache.hub().hold(digest, 10);
  Response whole;
  std::thread client([&] { whole = get(cache.port(), path); });
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.bytes == 10; }));
  CHECK(head(cache.port(), path).field("content-type") == type);
  cache.hub().release(digest);
  client.join();
  REQUIRE(cache.wait_idle());
  CHECK(whole.field("content-type") == type);
  CHECK(head(cache.port(), path).field("content-type") == type);
  CHECK(get(cache.port(), path).field("content-type") == type);
}

TEST_CASE("Unsized: what upstream has given and no longer has is unknown, to HEAD too", "[proxy]") {
  Fixture cache;
  const std::string blob = content(100'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const std::string path = blob_path("library/app", digest);
  cache.hub().hide_sizes(true);
  refuse_writes(cache);
  CHECK(get(cache.port(), path).complete);
  REQUIRE(cache.wait_idle());
  cache.hub().fail_all(Error{Errc::blob_unknown, "gone"});
  CHECK(get(cache.port(), path).status == 404);
  CHECK(head(cache.port(), path).status == 404);
}
