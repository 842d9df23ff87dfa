#include <catch2/catch.hpp>

#include "base/recurring_log.hpp"

using namespace sluice;

TEST_CASE("RecurringLog: a kind is told once for a while, and how many were left out", "[base]") {
  ManualClock clock;
  RecurringLog lines(clock);
  CHECK(lines.due("ghcr.io digest_mismatch") == 0U);
  for (int i = 0; i < 5; ++i) CHECK_FALSE(lines.due("ghcr.io digest_mismatch"));
  // Another kind, and another upstream.
  CHECK(lines.due("ghcr.io upstream_failed") == 0U);
  CHECK(lines.due("quay.io digest_mismatch") == 0U);
  clock.advance(RecurringLog::kQuiet - std::chrono::seconds(1));
  CHECK_FALSE(lines.due("ghcr.io digest_mismatch"));
  clock.advance(std::chrono::seconds(1));
  CHECK(lines.due("ghcr.io digest_mismatch") == 6U);
  CHECK_FALSE(lines.due("ghcr.io digest_mismatch"));
}
