#include <thread>

#include <catch2/catch.hpp>

#include "admin/verify_job.hpp"
#include "admin_fixture.hpp"

using namespace sluice;
using namespace sluice::admin;
using namespace sluice::test;

namespace {

VerifyJob::Status wait(const VerifyJob& job) {
  while (job.status().state == VerifyJob::State::running) std::this_thread::yield();
  return job.status();
}

}  // namespace

TEST_CASE("Verify job: finds what is damaged, and may be run again", "[admin]") {
  AdminFixture at;
  at.put("docker.io/a/b", "sound");
  const oci::Digest damaged = at.put("docker.io/a/b", "before");
  write_file(at.path_of(damaged), "after!");
  VerifyJob job(at.store_, at.clock);
  CHECK(job.status().state == VerifyJob::State::idle);
  CHECK_FALSE(job.cancel());
  REQUIRE(job.start({}));
  const VerifyJob::Status first = wait(job);
  CHECK(first.state == VerifyJob::State::finished);
  CHECK(first.progress.blobs == 2);
  CHECK(first.progress.damaged == 1);
  REQUIRE(first.report.has_value());
  REQUIRE(first.report->found.size() == 1);
  CHECK(first.report->found[0].digest == damaged);

  REQUIRE(job.start({}));
  CHECK(wait(job).progress.damaged == 0);
}

TEST_CASE("Verify job: one at a time, and it can be cancelled", "[admin]") {
  AdminFixture at;
  at.put("docker.io/a/b", std::string(3 << 20, 'x'));
  VerifyJob job(at.store_, at.clock);
  // A byte a second: it does not end by itself.
  REQUIRE(job.start({.bytes_per_second = 1}));
  CHECK_FALSE(job.start({}));
  CHECK(job.cancel());
  CHECK(wait(job).state == VerifyJob::State::cancelled);
  CHECK_FALSE(job.cancel());
}

TEST_CASE("Verify job: stop waits for one that runs, and lets no more begin", "[admin]") {
  AdminFixture at;
  at.put("docker.io/a/b", std::string(3 << 20, 'x'));
  VerifyJob job(at.store_, at.clock);
  REQUIRE(job.start({.bytes_per_second = 1}));
  job.stop();
  CHECK(job.status().state == VerifyJob::State::cancelled);
  CHECK_FALSE(job.start({}));
}

TEST_CASE("Verify job: a store that does not run cannot be verified", "[admin]") {
  AdminFixture at;
  at.store_.stop();
  VerifyJob job(at.store_, at.clock);
  REQUIRE(job.start({}));
  CHECK(wait(job).state == VerifyJob::State::failed);
  CHECK_FALSE(job.status().error.empty());
}
