#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "access/revocations.hpp"

using namespace sluice::access;

TEST_CASE("Revocations: a ticket knows what was revoked after it, and nothing else", "[access]") {
  Revocations revocations;
  const Revocations::Ticket before = revocations.begin();
  CHECK_FALSE(revocations.revoked(before, "a"));
  revocations.revoke("a");
  CHECK(revocations.revoked(before, "a"));
  CHECK_FALSE(revocations.revoked(before, "b"));
  const Revocations::Ticket after = revocations.begin();
  CHECK_FALSE(revocations.revoked(after, "a"));
  revocations.revoke("a");
  CHECK(revocations.revoked(after, "a"));
}

TEST_CASE("Revocations: the number grows with each, so that no question is shared across one", "[access]") {
  Revocations revocations;
  const std::uint64_t first = revocations.epoch();
  revocations.revoke("a");
  CHECK(revocations.epoch() > first);
}

TEST_CASE("Revocations: what no ticket can ask for is not kept", "[access]") {
  Revocations revocations;
  revocations.revoke("nobody asks");
  CHECK(revocations.kept() == 0);
  std::optional<Revocations::Ticket> old(revocations.begin());
  revocations.revoke("a");
  std::optional<Revocations::Ticket> young(revocations.begin());
  revocations.revoke("b");
  CHECK(revocations.kept() == 2);
  old.reset();
  // The younger one was taken after "a" went.
  CHECK(revocations.kept() == 1);
  CHECK(revocations.revoked(*young, "b"));
  young.reset();
  CHECK(revocations.kept() == 0);
}

TEST_CASE("Revocations: a ticket that was moved counts once", "[access]") {
  Revocations revocations;
  {
    Revocations::Ticket first = revocations.begin();
    const Revocations::Ticket second(std::move(first));
    revocations.revoke("a");
    CHECK(revocations.revoked(second, "a"));
  }
  CHECK(revocations.kept() == 0);
}

// What an asker and a removal do to a remembered fact, in any order: the removal wins.
TEST_CASE("Revocations: remember, then look again: nothing outlives a removal", "[access]") {
  Revocations revocations;
  std::atomic<bool> remembered{false};
  int outlived = 0;
  for (int round = 0; round < 2000; ++round) {
    remembered = false;
    std::optional<Revocations::Ticket> ticket(revocations.begin());
    std::thread asker([&] {
      if (revocations.revoked(*ticket, "key")) return;
      remembered = true;
      if (revocations.revoked(*ticket, "key")) remembered = false;
    });
    revocations.revoke("key");
    remembered = false;
    asker.join();
    if (remembered) ++outlived;
  }
  CHECK(outlived == 0);
}

TEST_CASE("Revocations: tickets and removals of many threads", "[access]") {
  Revocations revocations;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&revocations, t] {
      for (int i = 0; i < 1000; ++i) {
        const Revocations::Ticket ticket = revocations.begin();
        revocations.revoke(std::to_string((i + t) % 7));
        (void)revocations.revoked(ticket, "3");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(revocations.kept() == 0);
  CHECK(revocations.epoch() == 4000);
}

TEST_CASE("Revocations: an upstream's stands for all of its keys, and removes none", "[access]") {
  Revocations revocations;
  const Revocations::Ticket before = revocations.begin();
  revocations.revoke("ghcr.io/");
  CHECK(revocations.revoked(before, "ghcr.io/team/app@sha256:00"));
  CHECK_FALSE(revocations.removed(before, "ghcr.io/team/app@sha256:00"));
  CHECK_FALSE(revocations.revoked(before, "ghcr.io:5000/team/app@sha256:00"));
  CHECK_FALSE(revocations.revoked(before, "quay.io/ghcr.io/app@sha256:00"));
  revocations.revoke("quay.io/app@sha256:00");
  CHECK(revocations.removed(before, "quay.io/app@sha256:00"));
  const Revocations::Ticket after = revocations.begin();
  CHECK_FALSE(revocations.revoked(after, "ghcr.io/team/app@sha256:00"));
  // For who may not have anything remembered.
  const Revocations::Ticket none = revocations.begin(true);
  CHECK(revocations.revoked(none, "ghcr.io/team/app@sha256:00"));
  CHECK_FALSE(revocations.removed(none, "ghcr.io/team/app@sha256:00"));
}
