// The bounded maps of the proxy: SieveMap, NegativeCache, ObjectCache.
#include <chrono>
#include <list>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "base/clock.hpp"
#include "base/sieve_map.hpp"
#include "proxy/negative_cache.hpp"
#include "proxy/ready_object.hpp"

using namespace sluice;
using namespace sluice::proxy;
using namespace std::chrono_literals;

namespace {

// SIEVE in the plainest words: a list from new to old, and the key at which the hand stands.
class SieveModel {
 public:
  explicit SieveModel(std::uint64_t capacity) : capacity_(capacity) {}

  bool find(int key) {
    const auto at = position(key);
    if (at == entries_.end()) return false;
    at->visited = true;
    return true;
  }
  void insert(int key, std::uint64_t cost) {
    erase(key);
    if (cost > capacity_) return;
    while (used() + cost > capacity_) evict();
    entries_.push_front({key, cost, false});
  }
  bool erase(int key) {
    const auto at = position(key);
    if (at == entries_.end()) return false;
    remove(at);
    return true;
  }
  [[nodiscard]] std::uint64_t used() const {
    std::uint64_t sum = 0;
    for (const Entry& entry : entries_) sum += entry.cost;
    return sum;
  }
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] bool contains(int key) { return position(key) != entries_.end(); }

 private:
  struct Entry {
    int key;
    std::uint64_t cost;
    bool visited;
  };
  using At = std::list<Entry>::iterator;

  At position(int key) {
    At at = entries_.begin();
    while (at != entries_.end() && at->key != key) ++at;
    return at;
  }
  // One step towards what is newer; none beyond the newest.
  std::optional<int> newer(At at) { return at == entries_.begin() ? std::nullopt : std::optional(std::prev(at)->key); }
  void remove(At at) {
    if (hand_ == at->key) hand_ = newer(at);
    entries_.erase(at);
  }
  void evict() {
    for (;;) {
      const At at = hand_ ? position(*hand_) : std::prev(entries_.end());
      if (!at->visited) {
        hand_ = at->key;
        remove(at);
        return;
      }
      at->visited = false;
      hand_ = newer(at);
    }
  }

  const std::uint64_t capacity_;
  std::list<Entry> entries_;
  std::optional<int> hand_;  // none: at the oldest
};

oci::Digest digest_of(int number) { return oci::digest_of(oci::Algorithm::sha256, std::to_string(number)); }

}  // namespace

TEST_CASE("SieveMap: what was used stays, what was not goes first", "[proxy]") {
  SieveMap<std::string, int> map(3);
  map.insert("a", 1);
  map.insert("b", 2);
  map.insert("c", 3);
  REQUIRE(map.find("a") != nullptr);
  map.insert("d", 4);  // b, the oldest that was not used
  CHECK(map.find("b") == nullptr);
  CHECK(*map.find("a") == 1);
  CHECK(map.size() == 3);
  map.insert("e", 5);  // the hand goes on from where it stood
  CHECK(map.find("c") == nullptr);
  CHECK(map.find("a") != nullptr);
}

TEST_CASE("SieveMap: an entry may be erased where the hand stands", "[proxy]") {
  SieveMap<int, int> map(4);
  for (int i = 0; i < 4; ++i) map.insert(i, i);
  (void)map.find(0);
  map.insert(4, 4);  // evicts 1; the hand stands at 2
  CHECK(map.find(1) == nullptr);
  CHECK(map.erase(2));
  CHECK_FALSE(map.erase(2));
  map.insert(5, 5);
  map.insert(6, 6);  // evicts 3, to which the hand has moved
  CHECK(map.find(3) == nullptr);
  CHECK(map.find(0) != nullptr);
  // The newest, with the hand at it, and then all of them.
  for (const int key : {6, 5, 4, 0}) CHECK(map.erase(key));
  CHECK(map.size() == 0);
  CHECK(map.used() == 0);
  for (int i = 0; i < 10; ++i) map.insert(i, i);
  CHECK(map.size() == 4);
}

TEST_CASE("SieveMap: costs, replacement, and what costs too much", "[proxy]") {
  SieveMap<int, std::string> map(10);
  map.insert(1, "one", 4);
  map.insert(2, "two", 6);
  CHECK(map.used() == 10);
  map.insert(1, "uno", 3);
  CHECK(*map.find(1) == "uno");
  CHECK(map.used() == 9);
  map.insert(3, "too much", 11);
  CHECK(map.find(3) == nullptr);
  CHECK(map.used() == 9);
  map.insert(4, "all of it", 10);
  CHECK(map.size() == 1);
  // What is replaced by something too large is gone: the old value would be wrong.
  map.insert(4, "too much", 11);
  CHECK(map.find(4) == nullptr);
  CHECK(map.used() == 0);
  map.insert(5, "nothing", 0);
  CHECK(map.size() == 1);
  map.clear();
  CHECK(map.size() == 0);

  SieveMap<int, int> unbounded(0);
  for (int i = 0; i < 1000; ++i) unbounded.insert(i, i, 1'000'000);
  CHECK(unbounded.size() == 1000);
}

TEST_CASE("SieveMap: it does what the model does", "[proxy]") {
  const unsigned seed = GENERATE(range(1u, 21u));
  std::mt19937 random(seed);
  const std::uint64_t capacity = 1 + random() % 40;
  SieveMap<int, int> map(capacity);
  SieveModel model(capacity);
  bool same = true;
  for (int step = 0; step < 3000 && same; ++step) {
    const int key = static_cast<int>(random() % 60);
    switch (random() % 8) {
      case 0: same = map.erase(key) == model.erase(key); break;
      case 1:
      case 2:
      case 3: {
        const std::uint64_t cost = random() % 6;
        map.insert(key, step, cost);
        model.insert(key, cost);
        break;
      }
      default: same = (map.find(key) != nullptr) == model.find(key);
    }
    same = same && map.used() <= capacity && map.used() == model.used() && map.size() == model.size();
  }
  CHECK(same);
  for (int key = 0; key < 60; ++key) CHECK((map.find(key) != nullptr) == model.contains(key));
}

TEST_CASE("NegativeCache: remembers for its time", "[proxy]") {
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

TEST_CASE("NegativeCache: bounded, and off", "[proxy]") {
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

TEST_CASE("ObjectCache: bounded by the bytes of what it holds", "[proxy]") {
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

TEST_CASE("ObjectCache: from several threads", "[proxy]") {
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

TEST_CASE("ReadyObject: the heads of blobs and manifests", "[proxy]") {
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
