// Servers that send what is small so slowly that it never ends.
#include <atomic>
#include <thread>

#include "bench.hpp"

namespace sluice::upstream {
namespace {

using namespace std::chrono_literals;

// A byte now and then, so that no stall time-out is ever over; for so long that no test waits for its end.
class Drip {
 public:
  explicit Drip(std::shared_ptr<Gate> gate)
      : thread_([this, gate = std::move(gate)] {
          const auto end = std::chrono::steady_clock::now() + 60s;
          while (!done_ && std::chrono::steady_clock::now() < end) {
            gate->allow(1);
            std::this_thread::sleep_for(50ms);
          }
          gate->open();
        }) {}
  Drip(const Drip&) = delete;
  Drip& operator=(const Drip&) = delete;
  ~Drip() {
    done_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> done_{false};
  std::thread thread_;
};

Reply dripping(const std::shared_ptr<Gate>& gate, int status, std::string body) {
  Reply reply;
  reply.status = status;
  reply.body = std::move(body);
  reply.gate = gate;
  return reply;
}

// JSON that is right, and much longer than what drips in a minute.
std::string long_json(const std::string& fields) {
  return R"({"padding":")" + std::string(8000, 'x') + "\"," + fields + "}";
}

}  // namespace

TEST_CASE("Drip: what is small comes in the time of the request, or not at all", "[upstream][doors]") {
  Bench bench;
  bench.params.retries = 0;
  bench.params.request_timeout = 2s;
  const auto gate = std::make_shared<Gate>();
  SECTION("a manifest") {
    bench.origin.respond(Bench::manifest_path("latest"),
                         [gate](const Request&) { return dripping(gate, 200, long_json(R"("schemaVersion":2)")); });
    const Drip drip(gate);
    const auto got = bench.manifest("latest");
    REQUIRE_FALSE(got);
    CHECK(got.error().code == Errc::upstream_timeout);
  }
  SECTION("a list") {
    bench.origin.respond("/v2/app/tags/list", [gate](const Request&) {
      return dripping(gate, 200, long_json(R"("name":"app","tags":["one"])"));
    });
    const Drip drip(gate);
    const auto got = bench.loops.run(bench.registry().list(repository("app"), "tags/list"));
    REQUIRE_FALSE(got);
    CHECK(got.error().code == Errc::upstream_timeout);
  }
  SECTION("an error") {
    const std::string name = ScriptedOrigin::digest_of("none");
    bench.origin.respond(Bench::blob(name),
                         [gate](const Request&) { return dripping(gate, 404, long_json(R"("errors":[])")); });
    const Drip drip(gate);
    CHECK(bench.get(name).opening->code == Errc::blob_unknown);
    // It was given up, and not read to its end.
    CHECK(bench.origin.seen().body_bytes < 4000);
  }
  SECTION("a short range") {
    const std::string content = content_of(100'000);
    const std::string name = bench.origin.add_blob("app", content);
    bench.origin.respond(Bench::blob(name), [&bench, gate](const Request& request) {
      Reply reply = bench.origin.regular(request);
      reply.gate = gate;
      return reply;
    });
    const Drip drip(gate);
    const Download got =
        bench.loops.run(download_range(bench.registry(), repository("app"), digest(name), 1000, 20'000));
    REQUIRE(got.error);
    CHECK(got.error->code == Errc::upstream_timeout);
  }
}

TEST_CASE("Drip: a token comes in its time, or not at all", "[upstream][doors]") {
  Bench bench;
  bench.params.retries = 0;
  bench.params.request_timeout = 1h;
  bench.params.token_timeout = 2s;
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.require_token(bench.origin.url("/token"));
  const auto gate = std::make_shared<Gate>();
  bench.origin.respond("/token", [gate](const Request&) { return dripping(gate, 200, long_json(R"("token":"t")")); });
  const Drip drip(gate);
  const auto got = bench.stat(name);
  REQUIRE_FALSE(got);
  CHECK(got.error().code == Errc::upstream_timeout);
}

}  // namespace sluice::upstream
