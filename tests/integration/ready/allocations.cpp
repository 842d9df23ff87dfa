#include "allocations.hpp"

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <new>
#include <string_view>

// The sanitizers have an operator new of their own, and are to keep it.
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)

namespace sluice::test {
bool allocations_are_counted() noexcept { return false; }
std::size_t allocations_on_loops() noexcept { return 0; }
}  // namespace sluice::test

#else

namespace {

std::atomic<std::size_t> on_loops{0};

// runtime::LoopPool names its threads so.
bool is_loop() noexcept {
  thread_local const bool loop = [] {
    std::array<char, 16> name{};
    return pthread_getname_np(pthread_self(), name.data(), name.size()) == 0 &&
           std::string_view(name.data()).starts_with("loop-");
  }();
  return loop;
}

void* allocate(std::size_t size, std::size_t alignment) {
  if (is_loop()) on_loops.fetch_add(1, std::memory_order_relaxed);
  const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
  void* const memory = alignment == 0 ? nullptr : std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

namespace sluice::test {
bool allocations_are_counted() noexcept { return true; }
std::size_t allocations_on_loops() noexcept { return on_loops.load(std::memory_order_relaxed); }
}  // namespace sluice::test

// The other forms call these.
void* operator new(std::size_t size) { return allocate(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

#endif
