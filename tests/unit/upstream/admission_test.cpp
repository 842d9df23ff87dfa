#include "upstream/admission.hpp"

#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "base/fair_queue.hpp"
#include "upstream/rate_limit.hpp"

namespace sluice::upstream {
namespace {

using namespace std::chrono_literals;

}  // namespace

TEST_CASE("Admission rules: blobs never take all slots", "[upstream]") {
  ManualClock clock;
  AdmissionRules rules({.slots = 8}, clock.now());
  CHECK(rules.reserved() == 1);
  for (int i = 0; i < 7; ++i) CHECK(rules.begin(Lane::heavy, false, clock.now()));
  CHECK_FALSE(rules.begin(Lane::heavy, false, clock.now()));
  CHECK(rules.begin(Lane::light, false, clock.now()));
  CHECK_FALSE(rules.begin(Lane::light, false, clock.now()));
  rules.end(Lane::heavy);
  CHECK(rules.begin(Lane::light, false, clock.now()));
  rules.end(Lane::light);
  CHECK(rules.begin(Lane::heavy, false, clock.now()));
}

TEST_CASE("Admission rules: what nobody waits for comes last, and gets half", "[upstream]") {
  ManualClock clock;
  AdmissionRules rules({.slots = 8}, clock.now());
  CHECK_FALSE(rules.begin(Lane::ahead, true, clock.now()));
  for (int i = 0; i < 4; ++i) CHECK(rules.begin(Lane::ahead, false, clock.now()));
  CHECK_FALSE(rules.begin(Lane::ahead, false, clock.now()));
  for (int i = 0; i < 3; ++i) CHECK(rules.begin(Lane::heavy, false, clock.now()));
  CHECK_FALSE(rules.has_slot(Lane::heavy));
  CHECK(rules.begin(Lane::light, false, clock.now()));
  rules.end(Lane::ahead);
  CHECK(rules.has_slot(Lane::heavy));
  CHECK(rules.begin(Lane::heavy, false, clock.now()));
}

TEST_CASE("Admission rules: what nobody waits for leaves half of the rate", "[upstream]") {
  ManualClock clock;
  AdmissionRules rules({.slots = 100, .per_second = 4}, clock.now());
  for (int i = 0; i < 3; ++i) CHECK(rules.begin(Lane::ahead, false, clock.now()));
  CHECK_FALSE(rules.begin(Lane::ahead, false, clock.now()));
  CHECK(rules.begin(Lane::heavy, false, clock.now()));
}

TEST_CASE("Admission rules: one slot is for everything", "[upstream]") {
  ManualClock clock;
  AdmissionRules rules({.slots = 1}, clock.now());
  CHECK(rules.begin(Lane::heavy, false, clock.now()));
  CHECK_FALSE(rules.begin(Lane::light, false, clock.now()));
  rules.end(Lane::heavy);
  CHECK(rules.begin(Lane::light, false, clock.now()));
}

TEST_CASE("Admission rules: a rate, with a second's worth at once", "[upstream]") {
  ManualClock clock;
  AdmissionRules rules({.slots = 100, .per_second = 4}, clock.now());
  for (int i = 0; i < 4; ++i) CHECK(rules.begin(Lane::light, false, clock.now()));
  CHECK_FALSE(rules.begin(Lane::light, false, clock.now()));
  CHECK(rules.until_next(clock.now()) == 250ms);
  clock.advance(249ms);
  CHECK_FALSE(rules.begin(Lane::heavy, false, clock.now()));
  clock.advance(2ms);
  CHECK(rules.begin(Lane::heavy, false, clock.now()));
  CHECK_FALSE(rules.begin(Lane::light, false, clock.now()));
  clock.advance(1h);
  int begun = 0;
  while (rules.begin(Lane::light, false, clock.now())) ++begun;
  CHECK(begun == 4);
}

TEST_CASE("Admission rules: a rate below one a second", "[upstream]") {
  ManualClock clock;
  AdmissionRules rules({.slots = 1, .per_second = 0.5}, clock.now());
  CHECK(rules.begin(Lane::light, false, clock.now()));
  rules.end(Lane::light);
  CHECK(rules.until_next(clock.now()) == 2s);
}

TEST_CASE("Admission rules: light ones first, but for every fourth turn", "[upstream]") {
  ManualClock clock;
  AdmissionRules rules({.slots = 100}, clock.now());
  std::string order;
  for (int i = 0; i < 9; ++i) {
    const Lane lane = rules.preferred();
    CHECK(rules.begin(lane, true, clock.now()));
    order += lane == Lane::light ? 'l' : 'H';
  }
  CHECK(order == "lllHlllHl");
}

TEST_CASE("Fair queue: clients take turns, and each one's are in order", "[upstream]") {
  const auto client = [](int number) { return *IpAddress::parse("10.0.0." + std::to_string(number)); };
  FairQueue<int> queue;
  for (const int item : {10, 11, 12, 13}) queue.push(client(1), item);
  queue.push(client(2), 20);
  queue.push(client(3), 30);
  queue.push(client(2), 21);
  CHECK_FALSE(queue.erase(client(2), 12));
  CHECK_FALSE(queue.erase(client(4), 12));
  CHECK(queue.erase(client(1), 12));
  CHECK(queue.erase(client(3), 30));
  std::vector<int> order;
  const auto take = [&] {
    order.push_back(queue.front());
    queue.pop();
  };
  take();
  queue.push(client(4), 40);
  while (!queue.empty()) take();
  CHECK(order == std::vector<int>{10, 20, 11, 40, 21, 13});
}

TEST_CASE("Rate limit: Docker Hub's fields", "[upstream]") {
  CHECK(parse_rate_limit("100;w=21600") == 100U);
  CHECK(parse_rate_limit("76") == 76U);
  CHECK(parse_rate_limit("0;w=21600") == 0U);
  for (const char* text : {"", "many", "-1", ";w=1", "99999999999999999999"}) CHECK_FALSE(parse_rate_limit(text));

  metrics::Registry registry;
  RateLimit limit(registry, "docker.io");
  http::ReceivedHead head;
  head.fields = {{"Ratelimit-Limit", "100;w=21600"},
                 {"ratelimit-remaining", "76;w=21600"},
                 {"Docker-RateLimit-Source", "203.0.113.7"}};
  limit.observe(head);
  const metrics::Labels labels{{"upstream", "docker.io"}, {"source", "203.0.113.7"}};
  CHECK(registry.gauge("sluice_upstream_ratelimit_limit", "", labels).value() == 100);
  CHECK(registry.gauge("sluice_upstream_ratelimit_remaining", "", labels).value() == 76);
  // A source that changes all the time does not make ever more series.
  for (int i = 0; i < 100; ++i) {
    head.fields[2].second = "10.0.0." + std::to_string(i);
    limit.observe(head);
  }
  for (const auto& family : registry.collect()) CHECK(family.samples.size() <= 9);
}

}  // namespace sluice::upstream
