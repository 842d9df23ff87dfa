#include "base/version.hpp"

#include <optional>
#include <thread>

#include <catch2/catch.hpp>

using sluice::Version;
using sluice::Versions;

TEST_CASE("Version: a watch is over with the next change, and stays so", "[base]") {
  Version version;
  const Version::Watch watch = version.watch();
  CHECK(watch.unchanged());
  version.changed();
  CHECK_FALSE(watch.unchanged());
  CHECK(version.watch().unchanged());
  version.changed();
  CHECK_FALSE(watch.unchanged());
  CHECK(Version::Watch().unchanged());
}

TEST_CASE("Versions: a change ends the watches of its key, and few others", "[base]") {
  Versions versions;
  const Version::Watch one = versions.watch(1);
  const Version::Watch two = versions.watch(2);
  versions.changed(1);
  CHECK_FALSE(one.unchanged());
  CHECK(two.unchanged());
  versions.all_changed();
  CHECK_FALSE(two.unchanged());
}

TEST_CASE("Version: whoever sees the state from before a change sees that its watch is over", "[base]") {
  for (int round = 0; round < 200; ++round) {
    Version version;
    std::atomic<int> state{0};
    std::optional<Version::Watch> watch;
    int seen = 0;
    std::thread writer([&] {
      state.store(1, std::memory_order_relaxed);
      version.changed();
    });
    watch = version.watch();
    seen = state.load(std::memory_order_relaxed);
    writer.join();
    if (seen == 0) CHECK_FALSE(watch->unchanged());
  }
}
