#include "api/list_memory.hpp"

#include <optional>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

using namespace sluice;
using namespace sluice::api;

namespace {

const IpAddress kOne = IpAddress::parse("192.0.2.1").value();
const IpAddress kOther = IpAddress::parse("192.0.2.2").value();

}  // namespace

TEST_CASE("ListMemory: a client that reads nothing of ever new lists has its share, and others theirs") {
  ListMemory memory({.of_all = 100, .of_one_client = 40, .too_short_to_count = 1});
  const int lists[8] = {};
  auto first = memory.hold(&lists[0], 20, kOne);
  auto second = memory.hold(&lists[1], 20, kOne);
  REQUIRE(first.has_value());
  REQUIRE(second.has_value());
  const auto third = memory.hold(&lists[2], 20, kOne);
  REQUIRE_FALSE(third.has_value());
  CHECK(third.error().code == Errc::overloaded);
  CHECK(third.error().retry_after.count() > 0);
  // Others, a short one, and one that is being sent already.
  CHECK(memory.hold(&lists[2], 20, kOther).has_value());
  CHECK(memory.hold(&lists[3], 1, kOne).has_value());
  CHECK(memory.hold(&lists[0], 20, kOne).has_value());
  // What is over counts no more.
  {
    const auto over = std::move(first);
  }
  CHECK(memory.hold(&lists[2], 20, kOne).has_value());
}

TEST_CASE("ListMemory: what several read counts once, until the last of them has it") {
  ListMemory memory({.of_all = 50, .of_one_client = 50, .too_short_to_count = 1});
  const int lists[8] = {};
  auto one = memory.hold(&lists[0], 30, kOne);
  REQUIRE(one.has_value());
  {
    const auto other = memory.hold(&lists[0], 30, kOther);
    REQUIRE(other.has_value());
    CHECK(memory.hold(&lists[1], 20, kOther).has_value());
    {
      const auto over = std::move(one);
    }
    CHECK_FALSE(memory.hold(&lists[1], 30, kOther).has_value());
  }
  CHECK(memory.hold(&lists[1], 30, kOther).has_value());
}

TEST_CASE("ListMemory: a list that others go on reading counts no more for who has read it") {
  ListMemory memory({.of_all = 100, .of_one_client = 40, .too_short_to_count = 1});
  const int lists[8] = {};
  auto mine = memory.hold(&lists[0], 30, kOne);
  const auto theirs = memory.hold(&lists[0], 30, kOther);
  REQUIRE((mine.has_value() && theirs.has_value()));
  CHECK_FALSE(memory.hold(&lists[1], 30, kOne).has_value());
  {
    const auto over = std::move(mine);
  }
  CHECK(memory.hold(&lists[1], 30, kOne).has_value());
  CHECK_FALSE(memory.hold(&lists[1], 30, kOther).has_value());
}

TEST_CASE("ListMemory: there is a bound for all, and one list is always served") {
  ListMemory memory({.of_all = 50, .of_one_client = 20, .too_short_to_count = 1});
  const int lists[8] = {};
  {
    const auto longest = memory.hold(&lists[0], 1000, kOne);
    REQUIRE(longest.has_value());
    CHECK_FALSE(memory.hold(&lists[1], 20, kOther).has_value());
  }
  const auto one = memory.hold(&lists[1], 40, kOther);
  REQUIRE(one.has_value());
  CHECK_FALSE(memory.hold(&lists[2], 20, kOne).has_value());
  CHECK(memory.hold(&lists[2], 10, kOne).has_value());
}
