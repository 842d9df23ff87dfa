#include <catch2/catch.hpp>

#include "admin/pulls.hpp"

using namespace sluice;
using namespace sluice::admin;
using namespace std::chrono_literals;

namespace {

const Clock::Wall kStart{1000h};

// Began `began` after the start.
RequestRecord record(std::chrono::milliseconds began, std::string reference, std::chrono::milliseconds first_byte,
                     std::chrono::milliseconds upstream, std::chrono::milliseconds total) {
  RequestRecord out;
  out.ended = kStart + began + total;
  out.client = "10.0.0.1";
  out.method = "GET";
  out.upstream = "docker.io";
  out.repository = "library/a";
  out.reference = std::move(reference);
  out.cache = "miss";
  out.status = 200;
  out.bytes = 100;
  out.first_byte = first_byte;
  out.upstream_wait = upstream;
  out.total = total;
  return out;
}

}  // namespace

TEST_CASE("Pulls: requests of one client for one repository, and where their time went", "[admin]") {
  RequestRecord cached = record(2s, "sha256:bb", 1ms, 0ms, 11ms);
  cached.cache = "hit";
  RequestRecord failed = record(3s, "sha256:cc", 5ms, 0ms, 5ms);
  failed.status = 502;
  const std::vector<Pull> pulls = group_pulls(
      {failed, record(1s, "sha256:aa", 30ms, 400ms, 500ms), cached, record(0s, "3.18", 20ms, 0ms, 20ms)}, 9);
  REQUIRE(pulls.size() == 1);
  const Pull& pull = pulls[0];
  CHECK(pull.reference == "3.18");
  CHECK(pull.started == kStart);
  CHECK(pull.ended == kStart + 3005ms);
  CHECK(pull.bytes == 400);
  CHECK(pull.fetched == 2);
  CHECK(pull.cached == 1);
  CHECK(pull.failed == 1);
  CHECK(pull.first_byte == 56ms);
  CHECK(pull.upstream_wait == 400ms);
  CHECK(pull.client_time == 80ms);
  REQUIRE(pull.requests.size() == 4);
  CHECK(pull.requests[1].reference == "sha256:aa");
}

TEST_CASE("Pulls: a minute without a request ends one; other clients and repositories have their own", "[admin]") {
  RequestRecord other_client = record(1s, "latest", 1ms, 0ms, 1ms);
  other_client.client = "10.0.0.2";
  RequestRecord other_repository = record(2s, "latest", 1ms, 0ms, 1ms);
  other_repository.repository = "library/b";
  // A download of two minutes is one pull with what follows it within a minute.
  const std::vector<Pull> pulls =
      group_pulls({record(0s, "sha256:aa", 1ms, 0ms, 120s), record(150s, "sha256:bb", 1ms, 0ms, 1ms), other_client,
                   other_repository, record(300s, "latest", 1ms, 0ms, 1ms)},
                  9);
  REQUIRE(pulls.size() == 4);
  CHECK(pulls[0].started == kStart + 300s);
  CHECK(pulls[3].requests.size() == 2);
  CHECK(pulls[3].reference == "sha256:aa");
  CHECK(group_pulls({other_client, other_repository}, 1).size() == 1);
  CHECK(group_pulls({}, 9).empty());
}

TEST_CASE("Pulls: clocks that disagree give no negative time", "[admin]") {
  CHECK(client_time(record(0s, "a", 30ms, 400ms, 100ms)) == 0ms);
}
