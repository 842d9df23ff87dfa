#include "runtime/pause.hpp"

#include <condition_variable>
#include <memory>
#include <mutex>

#include <boost/asio/post.hpp>

namespace sluice::runtime {
namespace {

// Shared with the loops, which may come to it after the caller has given up.
struct Pause {
  std::mutex mutex;  // guards everything below
  std::condition_variable changed;
  std::size_t resting = 0;
  bool over = false;

  void rest() {
    std::unique_lock lock(mutex);
    ++resting;
    changed.notify_all();
    changed.wait(lock, [this] { return over; });
  }
};

}  // namespace

Result<void> while_paused(LoopPool& loops, const std::function<void()>& change, std::chrono::milliseconds patience) {
  const auto pause = std::make_shared<Pause>();
  for (std::size_t i = 0; i < loops.size(); ++i) asio::post(loops.at(i).get_executor(), [pause] { pause->rest(); });
  std::unique_lock lock(pause->mutex);
  const bool all = pause->changed.wait_for(lock, patience, [&] { return pause->resting == loops.size(); });
  // They go on however this ends.
  struct End {
    Pause& of;
    ~End() {
      of.over = true;
      of.changed.notify_all();
    }
  } const end{*pause};
  if (!all) return Error(Errc::timeout, "the event loops are too busy");
  change();
  return {};
}

}  // namespace sluice::runtime
