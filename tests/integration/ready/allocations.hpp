// Counts what operator new is asked for on the threads of loops, for tests that promise that it is asked for nothing.
// allocations.cpp replaces operator new for the whole program.
#pragma once

#include <cstddef>

namespace sluice::test {

// False under a sanitizer.
bool allocations_are_counted() noexcept;

// Since the program began. Thread-safe.
std::size_t allocations_on_loops() noexcept;

}  // namespace sluice::test
