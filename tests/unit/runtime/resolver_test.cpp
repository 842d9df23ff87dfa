#include "runtime/resolver.hpp"

#include <atomic>
#include <future>

#include <boost/asio/post.hpp>
#include <catch2/catch.hpp>

#include "support/loop_runner.hpp"

namespace sluice::runtime {
namespace {

using std::chrono::steady_clock;
using namespace std::chrono_literals;

const auto kNever = steady_clock::time_point::max();

// Look-ups of names that start with "slow" wait for release(). Shared with the threads, which the test leaves behind.
struct Names {
  std::promise<void> released;
  std::shared_future<void> release = released.get_future().share();
  std::atomic<int> asked{0};

  static Resolver::LookUp look_up(std::shared_ptr<Names> self) {
    return [self](const std::string& host) -> Result<Resolver::Addresses> {
      ++self->asked;
      if (host.starts_with("slow")) self->release.wait();
      if (host == "none") return Error(Errc::upstream_unreachable, "resolve none: no address");
      return Resolver::Addresses{boost::asio::ip::make_address("127.0.0.1")};
    };
  }
};

}  // namespace

TEST_CASE("Resolver: a name that takes its time holds up no other", "[runtime]") {
  const auto names = std::make_shared<Names>();
  test::LoopRunner loops;
  Resolver resolver(Names::look_up(names));
  const auto late = loops.run(resolver.resolve("slow", steady_clock::now()));
  REQUIRE(late.has_error());
  CHECK(late.error().code == Errc::upstream_timeout);
  // "slow" still hangs.
  CHECK(loops.run(resolver.resolve("fast", kNever)).has_value());
  const auto none = loops.run(resolver.resolve("none", kNever));
  REQUIRE(none.has_error());
  CHECK(none.error().code == Errc::upstream_unreachable);
  names->released.set_value();
}

TEST_CASE("Resolver: a name is looked up once for all who wait", "[runtime]") {
  const auto names = std::make_shared<Names>();
  test::LoopRunner loops;
  Resolver resolver(Names::look_up(names));
  // Has started the look-up that the next one joins.
  CHECK(loops.run(resolver.resolve("slow", steady_clock::now())).has_error());
  CHECK(loops.run(resolver.resolve("slow", steady_clock::now())).has_error());
  names->released.set_value();
  CHECK(loops.run(resolver.resolve("slow", kNever)).has_value());
  // The third has either joined the first look-up or started another one.
  CHECK(names->asked <= 2);
}

TEST_CASE("Resolver: names at the same time are bounded", "[runtime]") {
  const auto names = std::make_shared<Names>();
  test::LoopRunner loops;
  Resolver resolver(Names::look_up(names));
  for (std::size_t i = 0; i < Resolver::kMaxLookups; ++i) {
    const auto late = loops.run(resolver.resolve("slow" + std::to_string(i), steady_clock::now()));
    REQUIRE(late.has_error());
    REQUIRE(late.error().code == Errc::upstream_timeout);
  }
  const auto refused = loops.run(resolver.resolve("fast", kNever));
  REQUIRE(refused.has_error());
  CHECK(refused.error().code == Errc::overloaded);
  names->released.set_value();
}

TEST_CASE("Resolver: goes while names are being looked up", "[runtime]") {
  const auto names = std::make_shared<Names>();
  {
    test::LoopRunner loops;
    Resolver resolver(Names::look_up(names));
    CHECK(loops.run(resolver.resolve("slow", steady_clock::now())).has_error());
  }
  names->released.set_value();
}

TEST_CASE("Resolver: an inquiry is answered on its executor, or not at all when it is given up", "[runtime]") {
  const auto names = std::make_shared<Names>();
  test::LoopRunner loops;
  Resolver resolver(Names::look_up(names));
  std::promise<Result<Resolver::Addresses>> answered;
  const auto fast = resolver.inquire("fast", loops.pool().at(0).get_executor(),
                                     [&](Result<Resolver::Addresses> found) { answered.set_value(std::move(found)); });
  REQUIRE(fast.has_value());
  CHECK(answered.get_future().get().has_value());

  std::atomic<bool> told{false};
  std::promise<void> given_up;
  boost::asio::post(loops.pool().at(0).get_executor(), [&] {
    auto slow = resolver.inquire("slow", loops.pool().at(0).get_executor(), [&](const auto&) { told = true; });
    slow.value().reset();
    given_up.set_value();
  });
  given_up.get_future().wait();
  names->released.set_value();
  CHECK(loops.run(resolver.resolve("slow", kNever)).has_value());
  loops.stop();
  CHECK_FALSE(told);
}

}  // namespace sluice::runtime
