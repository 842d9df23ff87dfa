#include <deque>
#include <random>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "base/sieve_map.hpp"

namespace {

using Map = sluice::SieveMap<std::string, int>;

// SIEVE as the paper has it, on a list, to compare with.
class Model {
 public:
  explicit Model(std::uint64_t capacity) : capacity_(capacity) {}

  bool find(const std::string& key) {
    const std::size_t at = position(key);
    if (at == kNone) return false;
    return order_[at].visited = true;
  }
  void insert(const std::string& key, std::uint64_t cost) {
    const std::size_t at = position(key);
    const bool there = at != kNone;
    if (there && order_[at].cost == cost) {
      order_[at].visited = true;
      return;
    }
    if (there) erase_at(at);
    if (cost > capacity_) return;
    while (used() + cost > capacity_) evict();
    order_.push_back({key, cost, there});
  }
  bool erase(const std::string& key) {
    const std::size_t at = position(key);
    if (at == kNone) return false;
    erase_at(at);
    return true;
  }
  [[nodiscard]] std::size_t size() const { return order_.size(); }
  [[nodiscard]] std::uint64_t used() const {
    std::uint64_t sum = 0;
    for (const Node& node : order_) sum += node.cost;
    return sum;
  }

 private:
  struct Node {
    std::string key;
    std::uint64_t cost;
    bool visited;
  };
  std::size_t position(const std::string& key) const {
    for (std::size_t i = 0; i < order_.size(); ++i) {
      if (order_[i].key == key) return i;
    }
    return kNone;
  }
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
  std::uint64_t capacity_;
  std::deque<Node> order_;  // oldest first
  std::size_t hand_ = kNone;
};

}  // namespace

TEST_CASE("SieveMap: what was used survives what was not", "[base]") {
  Map map(3);
  map.insert("a", 1);
  map.insert("b", 2);
  map.insert("c", 3);
  REQUIRE(map.find("a") != nullptr);
  CHECK(map.insert("d", 4) == std::vector<int>{2});  // b went, and is handed out
  CHECK(*map.find("a") == 1);
  CHECK_FALSE(map.contains("b"));
  CHECK(map.size() == 3);
  CHECK(map.insert("e", 5) == std::vector<int>{3});  // the hand goes on from where it stood
  CHECK(map.contains("a"));
}

TEST_CASE("SieveMap: inserting replaces, taking removes", "[base]") {
  Map map(2);
  CHECK(map.insert("a", 1).empty());
  CHECK(map.insert("a", 5) == std::vector<int>{1});
  CHECK(map.size() == 1);
  CHECK(map.take("a") == 5);
  CHECK(map.take("a") == 0);
  CHECK_FALSE(map.erase("a"));
  CHECK(map.size() == 0);
  CHECK(map.find("a") == nullptr);
}

TEST_CASE("SieveMap: an entry may be removed where the hand stands", "[base]") {
  sluice::SieveMap<int, int> map(4);
  for (int i = 0; i < 4; ++i) map.insert(i, i);
  (void)map.find(0);
  map.insert(4, 4);  // evicts 1; the hand stands at 2
  CHECK_FALSE(map.contains(1));
  CHECK(map.erase(2));
  CHECK_FALSE(map.erase(2));
  map.insert(5, 5);
  map.insert(6, 6);  // evicts 3, to which the hand has moved
  CHECK_FALSE(map.contains(3));
  CHECK(map.contains(0));
  // The newest, with the hand at it, and then all of them.
  for (const int key : {6, 5, 4, 0}) CHECK(map.erase(key));
  CHECK(map.size() == 0);
  CHECK(map.used() == 0);
  for (int i = 0; i < 10; ++i) map.insert(i, i);
  CHECK(map.size() == 4);
}

TEST_CASE("SieveMap: costs, and what costs too much", "[base]") {
  sluice::SieveMap<int, std::string> map(10);
  map.insert(1, "one", 4);
  map.insert(2, "two", 6);
  CHECK(map.used() == 10);
  map.insert(1, "uno", 3);
  CHECK(*map.find(1) == "uno");
  CHECK(map.used() == 9);
  CHECK(map.insert(3, "too much", 11) == std::vector<std::string>{"too much"});
  CHECK_FALSE(map.contains(3));
  CHECK(map.used() == 9);
  CHECK(map.insert(4, "all of it", 10).size() == 2);
  CHECK(map.size() == 1);
  // What is replaced by something too large is gone: the old value would be wrong.
  CHECK(map.insert(4, "too much", 11) == std::vector<std::string>{"all of it", "too much"});
  CHECK_FALSE(map.contains(4));
  CHECK(map.used() == 0);
  map.insert(5, "nothing", 0);
  CHECK(map.size() == 1);
  map.clear();
  CHECK(map.size() == 0);
}

TEST_CASE("SieveMap: without a limit nothing is evicted", "[base]") {
  Map map(0);
  for (int i = 0; i < 5000; ++i) map.insert(std::to_string(i), i, 1'000'000);
  CHECK(map.size() == 5000);
  map.clear();
  CHECK(map.size() == 0);
  map.insert("again", 1);
  CHECK(map.contains("again"));
}

TEST_CASE("SieveMap: does what the plain algorithm does", "[base]") {
  const std::uint64_t capacity = GENERATE(1, 2, 7, 64);
  const bool costs = GENERATE(false, true);
  Map map(capacity);
  Model model(capacity);
  std::mt19937 random(42);  // NOLINT(cert-msc51-cpp): the same every time
  bool same = true;
  for (int step = 0; step < 20'000; ++step) {
    const std::string key = std::to_string(random() % (capacity * 3));
    switch (random() % 8) {
      case 0: same = same && map.erase(key) == model.erase(key); break;
      case 1:
      case 2:
      case 3: {
        const std::uint64_t cost = costs ? random() % 6 : 1;
        map.insert(key, step, cost);
        model.insert(key, cost);
        break;
      }
      default: same = same && (map.find(key) != nullptr) == model.find(key); break;
    }
    same = same && map.size() == model.size() && map.used() == model.used() && map.used() <= capacity;
  }
  CHECK(same);
}
