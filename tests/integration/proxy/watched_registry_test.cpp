// Whether an upstream answers, as the log and the metrics tell it.
#include <catch2/catch.hpp>

#include "base/log.hpp"
#include "fake_registry.hpp"
#include "support/run_task.hpp"
#include "upstream/watched_registry.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;

namespace {

struct Bench {
  Bench() {
    log::configure({log::Level::off, log::Format::text});
    auto made = std::make_unique<FakeRegistry>("origin.test");
    fake = made.get();
    upstream::WatchedRegistry::Params params;
    params.on_outage = [this](const std::string& why) { outages.push_back(why); };
    params.on_login = [this](const std::string& why) { logins.push_back(why); };
    params.login_setting = "upstreams.origin.test.password_file";
    watched = std::make_unique<upstream::WatchedRegistry>(std::move(made), clock, registry, std::move(params));
    digest = fake->add_blob("library/app", "content");
    watched->show(true);
  }

  Errc ask() {
    const Result<oci::Descriptor> answer = run(watched->stat_blob(repository, digest));
    return answer ? Errc::closed : answer.error().code;
  }
  double up() { return value("sluice_upstream_up"); }
  double value(std::string_view name) {
    for (const metrics::Family& family : registry.collect()) {
      if (family.name == name) return family.samples.front().value;
    }
    return -1;
  }

  ManualClock clock;
  metrics::Registry registry;
  RunTask run;
  oci::Repository repository = oci::Repository::parse("library/app").value();
  oci::Digest digest;
  FakeRegistry* fake;
  std::vector<std::string> outages;
  std::vector<std::string> logins;
  std::unique_ptr<upstream::WatchedRegistry> watched;
};

}  // namespace

TEST_CASE("Watched registry: no usable answer is an outage, until there is any", "[proxy]") {
  Bench bench;
  CHECK(bench.watched->name() == "origin.test");
  CHECK(bench.up() == 1);
  const Errc outage =
      GENERATE(Errc::upstream_unreachable, Errc::upstream_timeout, Errc::upstream_failed, Errc::throttled);
  bench.fake->fail_all(Error{outage});
  CHECK(bench.ask() == outage);
  CHECK(bench.up() == 0);
  CHECK(bench.ask() == outage);
  CHECK(bench.up() == 0);
  // A refusal is an answer too.
  bench.fake->fail_all(Error{GENERATE(Errc::denied, Errc::blob_unknown, Errc::unauthorized)});
  (void)bench.ask();
  CHECK(bench.up() == 1);
}

TEST_CASE("Watched registry: an outage is told as what it is", "[proxy]") {
  Bench bench;
  const auto [code, begin] = GENERATE(table<Errc, std::string>({{Errc::upstream_unreachable, "does not answer: why"},
                                                                {Errc::upstream_timeout, "does not answer: why"},
                                                                {Errc::upstream_failed, "answers with errors: why"},
                                                                {Errc::throttled, "limits our requests (429): why"}}));
  bench.fake->fail_all(Error{code, "why"});
  (void)bench.ask();
  bench.fake->fail_all(std::nullopt);
  (void)bench.ask();
  CHECK(bench.outages == std::vector<std::string>{begin, ""});
}

TEST_CASE("Watched registry: a login of ours that is refused shows, until it is accepted", "[proxy]") {
  Bench bench;
  bench.fake->fail_all(Error{GENERATE(Errc::unauthorized, Errc::denied), "why"});
  // Nobody's login.
  (void)bench.ask();
  CHECK(bench.value("sluice_upstream_login_refusals_total") == 0);
  bench.fake->set_login(true);
  (void)bench.ask();
  (void)bench.ask();
  CHECK(bench.value("sluice_upstream_login_refused") == 1);
  CHECK(bench.value("sluice_upstream_login_refusals_total") == 2);
  // Unknown, or out: that says nothing of the login.
  bench.fake->fail_all(Error{GENERATE(Errc::blob_unknown, Errc::upstream_failed)});
  (void)bench.ask();
  CHECK(bench.value("sluice_upstream_login_refused") == 1);
  bench.fake->fail_all(std::nullopt);
  CHECK(bench.ask() == Errc::closed);
  CHECK(bench.value("sluice_upstream_login_refused") == 0);
  CHECK(bench.logins == std::vector<std::string>{"refused our login: why", "refused our login: why", ""});
}

TEST_CASE("Watched registry: what is our own doing says nothing of upstream", "[proxy]") {
  Bench bench;
  const Errc ours = GENERATE(Errc::cancelled, Errc::overloaded, Errc::shutting_down);
  bench.fake->fail_all(Error{ours});
  CHECK(bench.ask() == ours);
  CHECK(bench.up() == 1);
  bench.fake->fail_all(Error{Errc::upstream_timeout});
  (void)bench.ask();
  bench.fake->fail_all(Error{ours});
  (void)bench.ask();
  CHECK(bench.up() == 0);
}

TEST_CASE("Watched registry: nonsense is no outage", "[proxy]") {
  Bench bench;
  bench.fake->fail_all(Error{Errc::upstream_protocol});
  CHECK(bench.ask() == Errc::upstream_protocol);
  CHECK(bench.up() == 1);
}

TEST_CASE("Watched registry: all kinds of questions are watched, and answered", "[proxy]") {
  Bench bench;
  CHECK(bench.run(bench.watched->open_blob(bench.repository, bench.digest, 0)).has_value());
  CHECK(bench.run(bench.watched->ping()).has_value());
  bench.fake->fail_all(Error{Errc::upstream_failed});
  const oci::Reference reference(oci::Tag::parse("latest").value());
  CHECK(bench.run(bench.watched->get_manifest(bench.repository, reference, "")).has_error());
  CHECK(bench.up() == 0);
  bench.fake->fail_all(std::nullopt);
  CHECK(bench.run(bench.watched->stat_manifest(bench.repository, reference, "")).has_error());
  CHECK(bench.up() == 1);
}

TEST_CASE("Watched registry: one that takes another's place has the gauge", "[proxy]") {
  Bench bench;
  auto made = std::make_unique<FakeRegistry>("origin.test");
  FakeRegistry* const fake = made.get();
  const oci::Digest digest = fake->add_blob("library/app", "content");
  std::vector<std::string> told;
  upstream::WatchedRegistry::Params params;
  params.on_outage = [&told](const std::string& why) { told.push_back(why); };
  upstream::WatchedRegistry next(std::move(made), bench.clock, bench.registry, std::move(params));

  // It is made while the first is down, and may come to nothing.
  bench.fake->fail_all(Error{Errc::upstream_unreachable});
  (void)bench.ask();
  CHECK(bench.up() == 0);
  bench.fake->fail_all(Error{Errc::denied});
  (void)bench.ask();
  CHECK(bench.up() == 1);

  // What becomes of downloads that still use the first one is not told.
  bench.watched->show(false);
  next.show(true);
  bench.fake->fail_all(Error{Errc::upstream_unreachable});
  (void)bench.ask();
  CHECK(bench.up() == 1);
  fake->fail_all(Error{Errc::upstream_timeout, "gone"});
  CHECK_FALSE(bench.run(next.stat_blob(bench.repository, digest)).has_value());
  CHECK(bench.up() == 0);
  fake->fail_all(Error{Errc::denied});
  CHECK_FALSE(bench.run(next.stat_blob(bench.repository, digest)).has_value());
  CHECK(bench.up() == 1);
  CHECK(told.size() == 2);
}
