#include "runtime/loop.hpp"

#include <pthread.h>
#include <sched.h>

#include <exception>

#include <fmt/format.h>

#include "base/log.hpp"

namespace sluice::runtime {

Loop::Loop(const Params& params) : asio::io_context(1), index_(params.index), deadlines_(*this, params.tick) {}

Loop::~Loop() = default;

bool Loop::running_in_this_thread() const noexcept {
  return const_cast<Loop*>(this)->get_executor().running_in_this_thread();
}

std::size_t usable_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  const int count = CPU_COUNT(&set);
  return count > 0 ? static_cast<std::size_t>(count) : 1;
}

LoopPool::LoopPool(std::size_t count, std::chrono::milliseconds tick) {
  if (count == 0) count = usable_processors();
  for (std::size_t i = 0; i < count; ++i) {
    loops_.push_back(std::make_unique<Loop>(Loop::Params{i, tick}));
    work_.emplace_back(loops_.back()->get_executor());
  }
}

LoopPool::~LoopPool() { stop(); }

void LoopPool::start() {
  for (const auto& loop : loops_) {
    threads_.emplace_back([&running = *loop] {
      pthread_setname_np(pthread_self(), fmt::format("loop-{}", running.index()).c_str());
      running.run();
    });
  }
}

void LoopPool::stop() {
  work_.clear();
  for (const auto& loop : loops_) loop->stop();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace sluice::runtime
