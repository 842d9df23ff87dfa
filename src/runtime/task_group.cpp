#include "runtime/task_group.hpp"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <unordered_set>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/system_error.hpp>

#include <fmt/format.h>

#include "base/log.hpp"

namespace sluice::runtime {
namespace {

// One running task. The signal is touched on `executor` alone.
struct Member {
  explicit Member(Executor on) : executor(std::move(on)) {}
  Executor executor;
  asio::cancellation_signal signal;
  bool cancelled = false;
};

void report(const std::string& group, const std::exception_ptr& failure) {
  if (!failure) return;
  try {
    std::rethrow_exception(failure);
  } catch (const boost::system::system_error& error) {
    if (error.code() == asio::error::operation_aborted) return;
    log::error(group, fmt::format("a task ended with an exception: {}", error.what()));
  } catch (const std::exception& error) {
    log::error(group, fmt::format("a task ended with an exception: {}", error.what()));
  }
}

}  // namespace

struct TaskGroup::State {
  explicit State(std::string group_name) : name(std::move(group_name)) {}

  const std::string name;
  std::mutex mutex;  // guards everything below
  std::condition_variable empty;
  std::unordered_set<std::shared_ptr<Member>> members;
  bool cancelled = false;

  void finished(const std::shared_ptr<Member>& member) {
    const std::scoped_lock lock(mutex);
    members.erase(member);
    if (members.empty()) empty.notify_all();
  }
};

TaskGroup::TaskGroup(std::string name) : state_(std::make_shared<State>(std::move(name))) {}

TaskGroup::~TaskGroup() {
  if (const std::size_t left = size(); left != 0) {
    log::error(state_->name, fmt::format("a task group was destroyed with {} tasks still in it", left));
  }
}

bool TaskGroup::spawn(Executor executor, Task<void> task) {
  auto member = std::make_shared<Member>(executor);
  {
    const std::scoped_lock lock(state_->mutex);
    if (state_->cancelled) return false;
    state_->members.insert(member);
  }
  // On the task's own executor, because the signal must not be touched from another thread once it is connected.
  asio::post(executor, [state = state_, member, started = std::move(task)]() mutable {
    if (member->cancelled) {
      {
        const Task<void> dropped = std::move(started);
      }
      state->finished(member);
      return;
    }
    asio::co_spawn(member->executor, std::move(started),
                   asio::bind_cancellation_slot(member->signal.slot(), [state, member](std::exception_ptr failure) {
                     report(state->name, failure);
                     state->finished(member);
                   }));
  });
  return true;
}

void TaskGroup::cancel() {
  std::unordered_set<std::shared_ptr<Member>> members;
  {
    const std::scoped_lock lock(state_->mutex);
    state_->cancelled = true;
    members = state_->members;
  }
  for (const auto& member : members) {
    asio::post(member->executor, [member] {
      member->cancelled = true;
      member->signal.emit(asio::cancellation_type::terminal);
    });
  }
}

bool TaskGroup::wait_for(std::chrono::nanoseconds timeout) {
  std::unique_lock lock(state_->mutex);
  return state_->empty.wait_for(lock, timeout, [this] { return state_->members.empty(); });
}

std::size_t TaskGroup::size() const {
  const std::scoped_lock lock(state_->mutex);
  return state_->members.size();
}

}  // namespace sluice::runtime
