#include <stdexcept>

#include <catch2/catch.hpp>

#include "runtime/every.hpp"
#include "runtime/loop.hpp"
#include "runtime/task_group.hpp"

using namespace sluice::runtime;
using namespace std::chrono_literals;

namespace {

struct Upkeep {
  int runs = 0;
  TaskGroup group{"upkeep"};
};

Task<void> fail_at_first(Upkeep& upkeep) {
  if (++upkeep.runs == 1) throw std::runtime_error("once");
  if (upkeep.runs == 3) upkeep.group.cancel();
  co_return;
}

}  // namespace

TEST_CASE("every: what throws once runs again, and a cancellation ends it", "[runtime]") {
  Loop loop;
  Upkeep upkeep;
  upkeep.group.spawn(loop.get_executor(), every("test", 1ms, [&upkeep] { return fail_at_first(upkeep); }));
  loop.run();
  CHECK(upkeep.runs == 3);
  CHECK(upkeep.group.size() == 0);
}
