// Many clients of one cold blob, and what becomes of a fill when they leave.
#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "client.hpp"
#include "fixture.hpp"

using namespace sluice;
using namespace sluice::test;

namespace {

// So many clients at once; their answers.
std::vector<Response> fetch_all(std::uint16_t port, const std::string& target, std::size_t count) {
  std::vector<Response> responses(count);
  std::vector<std::thread> threads;
  threads.reserve(count);
  for (Response& response : responses) {
    threads.emplace_back([port, &target, &response] { response = get(port, target); });
  }
  for (std::thread& thread : threads) thread.join();
  return responses;
}

std::size_t good(const std::vector<Response>& responses, const std::string& expected) {
  return static_cast<std::size_t>(std::count_if(responses.begin(), responses.end(), [&](const Response& response) {
    return response.status == 200 && response.complete && response.body == expected;
  }));
}

}  // namespace

TEST_CASE("Proxy: fifty clients of a cold blob make one download", "[proxy]") {
  Fixture cache;
  const std::string blob = content(3'000'001);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const std::vector<Response> responses = fetch_all(cache.port(), blob_path("library/app", digest), 50);
  CHECK(good(responses, blob) == 50);
  CHECK(cache.hub().seen().downloads == 1);
  CHECK(cache.hub().seen().bytes == blob.size());
  REQUIRE(cache.wait_idle());
  CHECK(cache.counted_blobs("miss", 1));
  CHECK(cache.wait_for_metric("sluice_client_sent_bytes_total", 50.0 * static_cast<double>(blob.size())));
  CHECK(cache.wait_for_metric("sluice_blob_requests_total", 50));
  CHECK(cache.blobs("miss") + cache.blobs("join") + cache.blobs("hit") == 50);
  CHECK(cache.metric("sluice_fill_received_bytes_total") == static_cast<double>(blob.size()));
  CHECK(cache.metric("sluice_fill_stored_bytes_total", {{"upstream", "docker.io"}}) ==
        static_cast<double>(blob.size()));
  CHECK(cache.metric("sluice_blob_requests_total", {{"upstream", "docker.io"}}) == 50);
  CHECK(cache.metric("sluice_fills_completed_total") == 1);
  CHECK(cache.store().find(digest).has_value());
  CHECK(cache.incoming_files() == 0);
}

TEST_CASE("Proxy: a late joiner gets its first bytes while the fill is held up", "[proxy]") {
  Fixture cache;
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.hub().hold(digest, 100'000);
  Client first(cache.port());
  first.send("GET", blob_path("library/app", digest));
  Response first_response = first.read_head();
  REQUIRE(first_response.status == 200);
  CHECK(first_response.field("content-length") == "1000000");
  first_response.body = first.read_bytes(100'000);
  CHECK((first_response.body == blob.substr(0, 100'000)));

  Client late(cache.port());
  late.send("GET", blob_path("library/app", digest));
  Response late_response = late.read_head();
  late_response.body = late.read_bytes(100'000);
  CHECK((late_response.body == blob.substr(0, 100'000)));

  cache.hub().release(digest);
  first.read_rest(first_response);
  late.read_rest(late_response);
  CHECK(first_response.complete);
  CHECK((first_response.body == blob));
  CHECK(late_response.complete);
  CHECK((late_response.body == blob));
  CHECK(cache.hub().seen().downloads == 1);
  CHECK(cache.wait_for_metric("sluice_blob_requests_total", 1, {{"result", "join"}}));
  CHECK(cache.counted_blobs("miss", 1));
}

TEST_CASE("Proxy: the first client leaves half way and the others finish", "[proxy]") {
  Fixture cache;
  const std::string blob = content(2'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.hub().hold(digest, 200'000);
  Client first(cache.port());
  first.send("GET", blob_path("library/app", digest));
  REQUIRE(first.read_head().status == 200);
  CHECK(first.read_bytes(100'000).size() == 100'000);

  std::vector<Response> responses(4);
  std::vector<std::thread> others;
  for (Response& response : responses) {
    others.emplace_back(
        [&cache, &response, &digest] { response = get(cache.port(), blob_path("library/app", digest)); });
  }
  const bool joined = cache.wait_for_metric("sluice_fill_readers", 5);
  first.close();
  cache.hub().release(digest);
  for (std::thread& other : others) other.join();
  CHECK(joined);
  CHECK(good(responses, blob) == 4);
  CHECK(cache.hub().seen().downloads == 1);
}

TEST_CASE("Proxy: a client that stops reading holds up nobody", "[proxy]") {
  Fixture cache;
  const std::string blob = content(4'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  Client stuck(cache.port(), 8 * 1024);
  stuck.send("GET", blob_path("library/app", digest));
  REQUIRE(stuck.read_head().status == 200);
  const std::vector<Response> responses = fetch_all(cache.port(), blob_path("library/app", digest), 3);
  CHECK(good(responses, blob) == 3);
  CHECK(cache.hub().seen().downloads == 1);
}

TEST_CASE("Proxy: when all clients stop reading, upstream's bytes stop within the window", "[proxy]") {
  Fixture cache;
  const std::string blob = content(16'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  std::vector<Client> clients;
  std::vector<Response> responses;
  for (int i = 0; i < 2; ++i) {
    clients.emplace_back(cache.port(), 8 * 1024);
    clients.back().send("GET", blob_path("library/app", digest));
    responses.push_back(clients.back().read_head());
    REQUIRE(responses.back().status == 200);
  }
  // Nobody takes anything: the fill comes to rest when the sockets are full and the window is. Requests that are
  // answered meanwhile are the time that it would have to go on.
  std::uint64_t before = 0;
  for (int unchanged = 0; unchanged < 100;) {
    REQUIRE(get(cache.port(), "/v2/").status == 200);
    const std::uint64_t now = cache.hub().seen().bytes;
    unchanged = now == before && now >= 256 * 1024 ? unchanged + 1 : 0;
    before = now;
  }
  // The window, one write beyond it, and what two sockets hold.
  CHECK(before <= 256 * 1024 + 64 * 1024 + 1'000'000);
  CHECK(cache.metric("sluice_fills_in_flight") == 1);

  for (std::size_t i = 0; i < clients.size(); ++i) {
    // One after the other: the second one has everything still to read when the first has finished.
    clients[i].read_rest(responses[i]);
    CHECK(responses[i].complete);
    CHECK((responses[i].body == blob));
  }
  CHECK(cache.hub().seen().bytes == blob.size());
}

TEST_CASE("Proxy: clients that stop reading do not keep a connection to upstream", "[proxy]") {
  Fixture::Params params;
  params.window_patience = std::chrono::milliseconds(1);
  Fixture cache(params);
  const std::string blob = content(16'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  Client client(cache.port(), 8 * 1024);
  client.send("GET", blob_path("library/app", digest));
  Response response = client.read_head();
  REQUIRE(response.status == 200);
  while (cache.hub().seen().open != 0) REQUIRE(get(cache.port(), "/v2/").status == 200);
  const std::size_t downloads = cache.hub().seen().downloads;
  client.read_rest(response);
  CHECK(response.complete);
  CHECK((response.body == blob));
  // The rest was asked for, and nothing twice.
  CHECK(cache.hub().seen().downloads > downloads);
  CHECK(cache.hub().seen().bytes == blob.size());
}

TEST_CASE("Proxy: a fill that everybody has left is finished, or given up where that is wanted", "[proxy]") {
  Fixture::Params params;
  params.abandoned = GENERATE(streamcache::Abandoned::finish, streamcache::Abandoned::fail);
  Fixture cache(params);
  const std::string blob = content(2'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.hub().hold(digest, 100'000);
  {
    Client only(cache.port());
    only.send("GET", blob_path("library/app", digest));
    REQUIRE(only.read_head().status == 200);
    CHECK(only.read_bytes(1000).size() == 1000);
    only.close();
  }
  // The session learns of it when it has something to send.
  cache.hub().release(digest);
  REQUIRE(cache.wait_idle());
  CHECK(cache.store().find(digest).has_value() == (params.abandoned == streamcache::Abandoned::finish));
  const Response again = get(cache.port(), blob_path("library/app", digest));
  CHECK(again.complete);
  CHECK((again.body == blob));
  CHECK(cache.wait_for_metric("sluice_fill_readers", 0));
}

TEST_CASE("Proxy: two upstreams' repositories share one download of the same blob", "[proxy]") {
  Fixture cache;
  const std::string blob = content(500'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.quay().add_blob("team/app", blob);
  CHECK((get(cache.port(), blob_path("app", digest)).body == blob));
  REQUIRE(cache.wait_idle());
  const Response other = get(cache.port(), blob_path("quay.io/team/app", digest));
  CHECK((other.body == blob));
  CHECK(cache.quay().seen().downloads == 0);
  CHECK(cache.quay().seen().blob_heads == 1);
}

TEST_CASE("Proxy: shutting down while fills are in flight ends everything", "[proxy]") {
  Fixture cache;
  const std::string blob = content(1'000'000);
  const oci::Digest held = cache.hub().add_blob("library/app", blob);
  cache.hub().hold(held, 1000);
  Client reading(cache.port());
  reading.send("GET", blob_path("library/app", held));
  Response response = reading.read_head();
  REQUIRE(response.status == 200);

  cache.hub().hold_questions();
  Client asking(cache.port());
  asking.send("GET", manifest_path("library/app", "latest"));
  Client statting(cache.port());
  statting.send("HEAD", blob_path("library/other", held));
  Client opening(cache.port());
  opening.send("GET", blob_path("library/app", cache.hub().add_blob("library/app", content(10, 2))));
  REQUIRE(cache.hub().wait_until(
      [](const auto& seen) { return seen.manifest_gets == 1 && seen.blob_heads == 1 && seen.downloads == 2; }));

  CHECK(cache.stop());
  reading.read_rest(response);
  CHECK_FALSE(response.complete);
  CHECK_FALSE(cache.store().find(held).has_value());
}
