#include <deque>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>

#include <catch2/catch.hpp>

#include "descriptors/sieve_map.hpp"

namespace {

using Map = sluice::descriptors::SieveMap<std::string, int, std::hash<std::string>, std::equal_to<>>;

// SIEVE as the paper has it, on a list, to compare with.
class Model {
 public:
  explicit Model(std::size_t capacity) : capacity_(capacity) {}

  bool find(const std::string& key) {
    for (Node& node : order_) {
      if (node.key == key) return node.visited = true;
    }
    return false;
  }
  void insert(const std::string& key) {
    if (find(key)) return;
    if (order_.size() == capacity_) evict();
    order_.push_back({key, false});
  }
  void erase(const std::string& key) {
    for (std::size_t i = 0; i < order_.size(); ++i) {
      if (order_[i].key == key) return erase_at(i);
    }
  }
  [[nodiscard]] std::size_t size() const { return order_.size(); }

 private:
  struct Node {
    std::string key;
    bool visited;
  };
  void evict() {
    std::size_t at = hand_ < order_.size() ? hand_ : 0;
    while (order_[at].visited) {
      order_[at].visited = false;
      at = (at + 1) % order_.size();
    }
    hand_ = at;
    erase_at(at);
  }
  void erase_at(std::size_t at) {
    order_.erase(order_.begin() + static_cast<std::ptrdiff_t>(at));
    if (hand_ != kNone && at < hand_) --hand_;
    if (hand_ >= order_.size()) hand_ = kNone;  // the next hand starts at the oldest
  }

  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  std::size_t capacity_;
  std::deque<Node> order_;  // oldest first
  std::size_t hand_ = kNone;
};

}  // namespace

TEST_CASE("SieveMap: what was used survives what was not", "[descriptors]") {
  Map map(3);
  map.insert_or_assign("a", 1);
  map.insert_or_assign("b", 2);
  map.insert_or_assign("c", 3);
  REQUIRE(map.find(std::string("a")) != nullptr);
  CHECK(map.insert_or_assign("d", 4) == 2);  // b went, and is handed out
  CHECK(map.contains(std::string("a")));
  CHECK_FALSE(map.contains(std::string("b")));
  CHECK(map.size() == 3);
}

TEST_CASE("SieveMap: assigning replaces, taking removes", "[descriptors]") {
  Map map(2);
  map.insert_or_assign("a", 1);
  CHECK(map.insert_or_assign("a", 5) == 1);
  CHECK(map.size() == 1);
  CHECK(map.take(std::string("a")) == 5);
  CHECK(map.take(std::string("a")) == 0);
  CHECK(map.size() == 0);
  CHECK(map.find(std::string("a")) == nullptr);
}

TEST_CASE("SieveMap: without a limit nothing is evicted", "[descriptors]") {
  Map map(0);
  for (int i = 0; i < 5000; ++i) map.insert_or_assign(std::to_string(i), i);
  CHECK(map.size() == 5000);
  map.clear();
  CHECK(map.size() == 0);
  map.insert_or_assign("again", 1);
  CHECK(map.contains(std::string("again")));
}

TEST_CASE("SieveMap: does what the plain algorithm does", "[descriptors]") {
  const std::size_t capacity = GENERATE(1, 2, 7, 64);
  Map map(capacity);
  Model model(capacity);
  std::mt19937 random(42);  // NOLINT(cert-msc51-cpp): the same every time
  bool same = true;
  for (int step = 0; step < 50'000; ++step) {
    const std::string key = std::to_string(random() % (capacity * 3));
    switch (random() % 8) {
      case 0:
        map.take(key);
        model.erase(key);
        break;
      case 1:
      case 2:
      case 3:
        map.insert_or_assign(key, step);
        model.insert(key);
        break;
      default: same = same && (map.find(key) != nullptr) == model.find(key); break;
    }
    same = same && map.size() == model.size();
  }
  CHECK(same);
}
