// The bounded maps of the proxy: NegativeCache, ObjectCache.
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "access/negative_cache.hpp"
#include "base/clock.hpp"
#include "pull/ready_object.hpp"

using namespace sluice;
using namespace sluice::access;
using namespace sluice::pull;
using namespace std::chrono_literals;

namespace {

oci::Digest digest_of(int number) { return oci::digest_of(oci::Algorithm::sha256, std::to_string(number)); }

}  // namespace

TEST_CASE("NegativeCache: remembers for its time", "[pull]") {
  ManualClock clock;
  NegativeCache cache({.ttl = 5s}, clock);
  CHECK_FALSE(cache.contains("a"));
  cache.add("a");
  CHECK(cache.contains("a"));
  CHECK_FALSE(cache.contains("b"));
  clock.advance(4999ms);
  CHECK(cache.contains("a"));
  clock.advance(1ms);
  CHECK_FALSE(cache.contains("a"));
  cache.add("a");
  clock.advance(4s);
  cache.add("a");  // begins anew
  clock.advance(4s);
  CHECK(cache.contains("a"));
  cache.erase("a");
  CHECK_FALSE(cache.contains("a"));
  cache.erase("a");
}

TEST_CASE("NegativeCache: bounded, and off", "[pull]") {
  ManualClock clock;
  NegativeCache small({.ttl = 5s, .max_entries = 3}, clock);
  for (int i = 0; i < 100; ++i) small.add(std::to_string(i));
  int kept = 0;
  for (int i = 0; i < 100; ++i) kept += small.contains(std::to_string(i)) ? 1 : 0;
  CHECK(kept == 3);
  NegativeCache off({.ttl = 0s}, clock);
  off.add("a");
  CHECK_FALSE(off.contains("a"));
}

TEST_CASE("ObjectCache: bounded by the bytes of what it holds", "[pull]") {
  ObjectCache cache(100'000);
  for (int i = 0; i < 100; ++i) cache.insert(digest_of(i), ready_blob(digest_of(i), std::string(10'000, 'x')));
  std::size_t bytes = 0;
  for (int i = 0; i < 100; ++i) {
    if (const auto found = cache.find(digest_of(i))) bytes += found->body.size();
  }
  CHECK(bytes <= 100'000);
  CHECK(bytes >= 80'000);
  cache.insert(digest_of(1000), ready_blob(digest_of(1000), std::string(200'000, 'x')));
  CHECK(cache.find(digest_of(1000)) == nullptr);
  cache.insert(digest_of(7), ready_blob(digest_of(7), "seven"));
  CHECK(cache.find(digest_of(7))->body == "seven");
  cache.erase(digest_of(7));
  CHECK(cache.find(digest_of(7)) == nullptr);

  ObjectCache off(0);
  off.insert(digest_of(1), ready_blob(digest_of(1), "one"));
  CHECK(off.find(digest_of(1)) == nullptr);
}

TEST_CASE("ObjectCache: what somebody holds is found, whether it fits or not", "[pull]") {
  const std::uint64_t capacity = GENERATE(as<std::uint64_t>{}, 0, 1000);
  ObjectCache cache(capacity);
  const std::string type = "application/vnd.oci.image.manifest.v1+json";
  const auto make = [&] { return ready_manifest(digest_of(1), type, std::string(50'000, 'x')); };
  std::vector<ObjectCache::Object> clients;
  for (int i = 0; i < 10; ++i) clients.push_back(cache.share(digest_of(1), make()));
  for (const auto& object : clients) CHECK(object == clients.front());
  CHECK(cache.find(digest_of(1)) == clients.front());
  // Another type is another answer.
  CHECK(cache.share(digest_of(1), ready_manifest(digest_of(1), "a/b", std::string(50'000, 'x'))) != clients.front());
  clients.clear();
  CHECK(cache.find(digest_of(1)) == nullptr);
  const auto held = cache.share(digest_of(2), make());
  cache.erase(digest_of(2));
  CHECK(cache.find(digest_of(2)) == nullptr);
  // What nobody holds leaves nothing behind for long.
  for (int i = 0; i < 10'000; ++i) (void)cache.share(digest_of(i), make());
  CHECK(cache.find(digest_of(5'000)) == nullptr);
}

TEST_CASE("ObjectCache: from several threads", "[pull]") {
  ObjectCache cache(20'000);
  std::vector<oci::Digest> digests;
  for (int i = 0; i < 50; ++i) digests.push_back(digest_of(i));
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&cache, &digests, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 3000; ++i) {
        const oci::Digest& digest = digests[random() % digests.size()];
        if (random() % 3 == 0) {
          cache.insert(digest, ready_blob(digest, std::string(500, 'x')));
        } else if (random() % 20 == 0) {
          cache.erase(digest);
        } else {
          (void)cache.find(digest);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  cache.insert(digests[0], ready_blob(digests[0], "zero"));
  CHECK(cache.find(digests[0])->body == "zero");
}

TEST_CASE("ReadyObject: the heads of blobs and manifests", "[pull]") {
  const oci::Digest digest = digest_of(1);
  const std::string text = digest.to_string();
  const auto blob = ready_blob(digest, "12345");
  CHECK(blob->in_memory);
  CHECK(blob->size == 5);
  CHECK(blob->etag == '"' + text + '"');
  for (const std::string field : {"HTTP/1.1 200 OK\r\n", "Content-Type: application/octet-stream\r\n",
                                  "Content-Length: 5\r\n", "Accept-Ranges: bytes\r\n"}) {
    CHECK(blob->head.find(field) != std::string::npos);
  }
  CHECK(blob->head.find("Docker-Content-Digest: " + text + "\r\n") != std::string::npos);
  CHECK(ready_blob_head(digest, 5)->head == blob->head);

  const std::string type = "application/vnd.oci.image.manifest.v1+json";
  const auto manifest = ready_manifest(digest, type, "{}");
  CHECK(manifest->head.find("Content-Type: " + type + "\r\n") != std::string::npos);
  CHECK(manifest->head.find("ETag: \"" + text + "\"\r\n") != std::string::npos);
  const auto told = ready_manifest_head(digest, type, 2);
  CHECK(told->head == manifest->head);
  CHECK_FALSE(told->in_memory);
}
