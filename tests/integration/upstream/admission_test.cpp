#include "bench.hpp"

#include "upstream/admission.hpp"

#include <thread>

namespace sluice::upstream {
namespace {

using namespace std::chrono_literals;

// A slow body, and how many there are.
Reply held(const std::shared_ptr<Gate>& gate) {
  Reply reply;
  reply.body = "content";
  reply.gate = gate;
  return reply;
}

Task<bool> nothing() { co_return true; }

// Requests that enter one Admission. Its gauge tells how many wait.
template <class AnyClock>
struct Queueing {
  using Turned = Result<Admission::Turn>;

  explicit Queueing(AdmissionRules::Params rules) : admission({rules, 20s}, clock, nullptr, &waiting) {}
  ~Queueing() { loops.stop(); }

  static Task<Turned> enter(Admission* in, Lane lane, std::shared_ptr<Urgency> urgency, IpAddress client) {
    co_return co_await in->enter(lane, std::move(urgency), std::nullopt, client);
  }
  auto run(Lane lane, std::shared_ptr<Urgency> urgency = nullptr, IpAddress client = {}) {
    return loops.run(enter(&admission, lane, std::move(urgency), client));
  }
  auto start(Lane lane, std::shared_ptr<Urgency> urgency = nullptr, IpAddress client = {}) {
    return loops.start(enter(&admission, lane, std::move(urgency), client));
  }
  void until_waiting(std::int64_t count) const {
    const auto give_up = std::chrono::steady_clock::now() + 20s;
    while (waiting.value() != count && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
    REQUIRE(waiting.value() == count);
  }

  test::LoopRunner loops;
  AnyClock clock;
  metrics::Registry metrics;
  metrics::Gauge& waiting = metrics.gauge("waiting", "");
  Admission admission;
};

}  // namespace

TEST_CASE("Admission: over all loops, and HEADs do not wait behind blobs", "[upstream]") {
  Bench bench(2);
  bench.params.max_connections = 3;
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.add_manifest("app", "latest", "{}", "application/vnd.oci.image.manifest.v1+json");
  const auto gate = std::make_shared<Gate>();
  bench.origin.respond(Bench::blob(name), [&](const Request& request) {
    return request.method == "GET" ? held(gate) : bench.origin.regular(request);
  });
  HttpRegistry& registry = bench.registry();
  std::vector<std::future<Download>> running;
  for (std::size_t i = 0; i < 6; ++i) {
    running.push_back(bench.loops.start(download(registry, repository("app"), digest(name), 0, 100), i % 2));
  }
  REQUIRE(bench.origin.wait_until([&](const auto& seen) { return seen.count(Bench::blob(name), "GET") == 2; }));
  // Each needs some turns of its loop before it stands in the queue.
  for (int turn = 0; turn < 1000 && bench.metric("sluice_upstream_waiting") != 4; ++turn) {
    for (const std::size_t loop : {0U, 1U}) (void)bench.loops.run(nothing(), loop);
  }
  CHECK(bench.metric("sluice_upstream_waiting") == 4);
  // The third slot is for these.
  CHECK(bench.manifest_head("latest"));
  CHECK(bench.manifest("latest"));
  CHECK(bench.stat(name));
  CHECK(bench.origin.count(Bench::blob(name), "GET") == 2);
  gate->open();
  for (auto& one : running) CHECK(one.get().bytes == "content");
  CHECK(bench.metric("sluice_upstream_waiting") == 0);
  CHECK(bench.metric("sluice_upstream_wait_seconds") == 9);
}

TEST_CASE("Admission: whose turn does not come, and who is cancelled", "[upstream]") {
  Bench bench;
  bench.params.max_connections = 1;
  bench.params.headers_timeout = 500ms;
  const std::string name = bench.origin.add_blob("app", "content");
  const auto gate = std::make_shared<Gate>();
  bench.origin.script(Bench::blob(name), held(gate));
  HttpRegistry& registry = bench.registry();
  auto first = bench.loops.start(download(registry, repository("app"), digest(name), 0, 100));
  REQUIRE(bench.origin.wait_until([](const auto& seen) { return seen.requests.size() == 1; }));
  bench.params.retries = 0;
  const auto late = bench.stat(name);
  REQUIRE_FALSE(late);
  CHECK(late.error().code == Errc::overloaded);

  runtime::TaskGroup group("one");
  auto second = bench.loops.start_in(group, registry.stat_blob(repository("app"), digest(name)));
  group.cancel();
  CHECK(group.wait_for(20s));
  gate->open();
  CHECK(first.get().bytes == "content");
  CHECK(bench.stat(name));
}

TEST_CASE("Admission: what nobody waits for makes room, and waits until it is raised", "[upstream]") {
  Queueing<SystemClock> queue({.slots = 1});
  const auto first = std::make_shared<Urgency>();
  const auto second = std::make_shared<Urgency>();
  auto ahead = queue.run(Lane::heavy, first);
  REQUIRE(ahead);
  CHECK_FALSE(first->must_yield());
  // Behind others of its kind it just waits.
  auto behind = queue.start(Lane::heavy, second);
  queue.until_waiting(1);
  CHECK_FALSE(first->must_yield());
  auto client = queue.start(Lane::heavy);
  while (!first->must_yield()) std::this_thread::yield();
  ahead = Error(Errc::closed);
  auto served = client.get();
  REQUIRE(served);
  queue.until_waiting(1);
  // Now that it is waited for it stands in the queue of the others, before who comes later.
  second->raise();
  auto later = queue.start(Lane::heavy);
  queue.until_waiting(2);
  served = Error(Errc::closed);
  auto raised = behind.get();
  REQUIRE(raised);
  CHECK_FALSE(second->must_yield());
  CHECK(queue.waiting.value() == 1);
  raised = Error(Errc::closed);
  CHECK(later.get());

  // One that was raised keeps its turn, and says that others want one.
  const auto third = std::make_shared<Urgency>();
  ahead = queue.run(Lane::heavy, third);
  REQUIRE(ahead);
  third->raise();
  CHECK_FALSE(ahead->is_wanted());
  client = queue.start(Lane::light);
  queue.until_waiting(1);
  CHECK_FALSE(third->must_yield());
  CHECK(ahead->is_wanted());
  ahead = Error(Errc::closed);
  CHECK(client.get());
}

TEST_CASE("Admission: a question that nobody waits for comes behind others, until it is raised", "[upstream]") {
  Queueing<SystemClock> queue({.slots = 4});
  std::vector<Result<Admission::Turn>> turns;
  for (int i = 0; i < 4; ++i) turns.push_back(queue.run(Lane::light));
  const auto urgency = std::make_shared<Urgency>();
  auto question = queue.start(Lane::light, urgency);
  queue.until_waiting(1);
  auto client = queue.start(Lane::light);
  queue.until_waiting(2);
  turns[0] = Error(Errc::closed);
  auto served = client.get();
  REQUIRE(served);
  queue.until_waiting(1);
  // With the other questions now, which come before blobs.
  auto blob = queue.start(Lane::heavy);
  queue.until_waiting(2);
  urgency->raise();
  turns[1] = Error(Errc::closed);
  auto raised = question.get();
  REQUIRE(raised);
  queue.until_waiting(1);
  turns[2] = Error(Errc::closed);
  auto downloads = blob.get();
  REQUIRE(downloads);
  for (Result<Admission::Turn>* turn : {&turns[3], &served, &raised, &downloads}) *turn = Error(Errc::closed);

  // A download makes room, and not a question, which does not look.
  const auto download = std::make_shared<Urgency>();
  const auto asking = std::make_shared<Urgency>();
  auto first = queue.run(Lane::heavy, download);
  auto second = queue.run(Lane::light, asking);
  REQUIRE((first && second));
  for (const std::size_t i : {0U, 1U}) turns[i] = queue.run(Lane::light);
  client = queue.start(Lane::light);
  while (!download->must_yield()) std::this_thread::yield();
  CHECK_FALSE(asking->must_yield());
  first = Error(Errc::closed);
  CHECK(client.get());
}

TEST_CASE("Admission: clients take turns", "[upstream]") {
  Queueing<SystemClock> queue({.slots = 1});
  const IpAddress many = *IpAddress::parse("10.0.0.1");
  const IpAddress one = *IpAddress::parse("10.0.0.2");
  auto held = queue.run(Lane::light, nullptr, many);
  std::vector<std::future<Result<Admission::Turn>>> queued;
  for (std::int64_t i = 1; i <= 50; ++i) {
    queued.push_back(queue.start(Lane::light, nullptr, many));
    queue.until_waiting(i);
  }
  auto late = queue.start(Lane::light, nullptr, one);
  queue.until_waiting(51);
  held = Error(Errc::closed);
  held = queued.front().get();
  held = Error(Errc::closed);
  held = late.get();
  CHECK(held);
  CHECK(queue.waiting.value() == 49);
  held = Error(Errc::closed);
  for (std::size_t i = 1; i < queued.size(); ++i) CHECK(queued[i].get());
}

TEST_CASE("Admission: what nobody waits for any more makes room, until somebody does again", "[upstream]") {
  Queueing<SystemClock> queue({.slots = 3});
  const auto raised = [] {
    auto urgency = std::make_shared<Urgency>();
    urgency->raise();
    return urgency;
  };
  const auto first = raised();
  const auto second = raised();
  auto one = queue.run(Lane::heavy, first);
  auto two = queue.run(Lane::heavy, second);
  REQUIRE(one);
  REQUIRE(two);
  auto client = queue.start(Lane::heavy);
  queue.until_waiting(1);
  // Both are waited for.
  CHECK_FALSE(first->must_yield());
  CHECK_FALSE(second->must_yield());
  first->lower();
  CHECK(first->must_yield());
  CHECK_FALSE(second->must_yield());
  first->raise();
  CHECK_FALSE(first->must_yield());
  first->lower();
  CHECK(first->must_yield());
  one = Error(Errc::closed);
  auto served = client.get();
  REQUIRE(served);
  // Behind others from now on.
  auto again = queue.start(Lane::heavy, first);
  queue.until_waiting(1);
  auto later = queue.start(Lane::heavy);
  queue.until_waiting(2);
  served = Error(Errc::closed);
  auto before = later.get();
  REQUIRE(before);
  CHECK(queue.waiting.value() == 1);
  before = Error(Errc::closed);
  CHECK(again.get());
  two = Error(Errc::closed);
  // Nobody is told of a turn that has ended, and the slots are all there again.
  second->lower();
  first->lower();
  std::vector<Result<Admission::Turn>> all;
  for (int i = 0; i < 2; ++i) {
    all.push_back(queue.run(Lane::heavy));
    CHECK(all.back());
  }
}

TEST_CASE("Admission: what nobody waits for gives up, or is cancelled", "[upstream]") {
  test::LoopRunner loops;
  SystemClock clock;
  Admission admission({{.slots = 1}, 100ms}, clock, nullptr, nullptr);
  const auto enter = [](Admission* in, std::shared_ptr<Urgency> urgency) -> Task<Result<Admission::Turn>> {
    co_return co_await in->enter(Lane::heavy, std::move(urgency));
  };
  auto first = loops.run(enter(&admission, nullptr));
  REQUIRE(first);
  const auto late = loops.run(enter(&admission, std::make_shared<Urgency>()));
  REQUIRE_FALSE(late);
  CHECK(late.error().code == Errc::overloaded);
  const auto urgency = std::make_shared<Urgency>();
  {
    runtime::TaskGroup group("one");
    auto cancelled = loops.start_in(group, enter(&admission, urgency));
    group.cancel();
    CHECK(group.wait_for(20s));
  }
  urgency->raise();
  first = Error(Errc::closed);
  CHECK(loops.run(enter(&admission, nullptr)));
  loops.stop();
}

TEST_CASE("Admission: a rate makes wait and lets through, whoever leaves", "[upstream]") {
  test::LoopRunner loops;
  SystemClock clock;
  metrics::Registry metrics;
  metrics::Histogram& waits = metrics.histogram("wait", "", metrics::latency_bounds());
  Admission admission({{.slots = 10, .per_second = 200}, 20s}, clock, &waits, nullptr);
  const auto enter = [](Admission* in) -> Task<bool> {
    const Result<Admission::Turn> turn = co_await in->enter(Lane::light);
    co_return turn.has_value();
  };
  std::vector<std::future<bool>> running;
  for (int i = 0; i < 210; ++i) running.push_back(loops.start(enter(&admission)));
  for (auto& one : running) CHECK(one.get());
  CHECK(waits.snapshot().count == 210);
  loops.stop();
}

TEST_CASE("Rate limit: Docker Hub's fields become metrics", "[upstream]") {
  Bench bench;
  Reply reply;
  reply.status = 429;
  reply.fields = {{"ratelimit-limit", "100;w=21600"},
                  {"ratelimit-remaining", "0;w=21600"},
                  {"docker-ratelimit-source", "203.0.113.7"}};
  bench.origin.script(Bench::manifest_path("latest"), 2, reply);  // a HEAD, and the GET that confirms it
  CHECK(bench.manifest_head("latest").error().code == Errc::throttled);
  CHECK(bench.metric("sluice_upstream_ratelimit_limit") == 100);
  CHECK(bench.metric("sluice_upstream_ratelimit_remaining") == 0);
}

TEST_CASE("Admission: being raised while a look is due cancels no wait", "[upstream][doors]") {
  Queueing<ManualClock> queue({.slots = 64, .per_second = 10});
  const auto begun = queue.run(Lane::heavy);
  for (int i = 1; i < 10; ++i) REQUIRE(queue.run(Lane::heavy));
  const auto urgency = std::make_shared<Urgency>();
  auto waits = queue.start(Lane::heavy, urgency);
  queue.until_waiting(1);
  // To give a slot back does not help who waits for the rate.
  CHECK_FALSE(begun->is_wanted());
  // The loop is busy until the look at the rate is due, and raises it just before that look: what then wakes it for its
  // new lane finds it there.
  const runtime::Executor on = queue.loops.pool().at(0).get_executor();
  runtime::asio::post(on, [on, urgency] {
    runtime::asio::post(on, [urgency] { urgency->raise(); });
    std::this_thread::sleep_for(300ms);
  });
  CHECK(waits.wait_for(1s) == std::future_status::timeout);
  queue.clock.advance(1s);
  const auto turn = waits.get();
  CHECK(turn);
  CHECK(queue.waiting.value() == 0);
}

TEST_CASE("Admission: who is cancelled in the moment of its turn loses no slot", "[upstream][doors]") {
  test::LoopRunner loops(2);
  SystemClock clock;
  Admission admission({{.slots = 1}, 20s}, clock, nullptr, nullptr);
  const auto enter = [](Admission* in, std::shared_ptr<Urgency> urgency) -> Task<Result<Admission::Turn>> {
    co_return co_await in->enter(Lane::heavy, std::move(urgency));
  };
  for (int i = 0; i < 200; ++i) {
    auto held = loops.run(enter(&admission, nullptr));
    REQUIRE(held);
    runtime::TaskGroup group("one");
    const auto urgency = i % 2 == 0 ? std::make_shared<Urgency>() : nullptr;
    if (urgency && i % 4 == 0) urgency->raise();
    auto waits = loops.start_in(group, enter(&admission, urgency), 1);
    // From two threads, so that either may come first, or both at once.
    std::thread leaves([&held] { held = Error(Errc::closed); });
    group.cancel();
    leaves.join();
    REQUIRE(group.wait_for(20s));
  }
  // The one slot is free, and there is one.
  CHECK(loops.run(enter(&admission, nullptr)));
  loops.stop();
}

}  // namespace sluice::upstream
