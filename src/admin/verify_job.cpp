#include "admin/verify_job.hpp"

#include <pthread.h>

#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"

namespace sluice::admin {

bool VerifyJob::start(const store::VerifyOptions& options) {
  const std::scoped_lock lock(mutex_);
  if (stopped_ || status_.state == State::running) return false;
  status_ = Status{};
  status_.state = State::running;
  status_.started_at = clock_.wall();
  began_ = clock_.now();
  // The one before has set its state as the last thing it did, so this does not wait.
  thread_ = std::jthread([this, options](std::stop_token token) { run(options, std::move(token)); });
  return true;
}

void VerifyJob::run(const store::VerifyOptions& options, std::stop_token token) {
  pthread_setname_np(pthread_self(), "verify");
  const auto note = [this](const store::VerifyProgress& progress) {
    const std::scoped_lock lock(mutex_);
    status_.progress = progress;
  };
  Result<store::VerifyReport> report = store::verify(store_, options, std::move(token), note);
  const std::scoped_lock lock(mutex_);
  status_.took = std::chrono::duration_cast<std::chrono::milliseconds>(clock_.now() - began_);
  if (!report) {
    status_.state = State::failed;
    status_.error = report.error().message;
    return;
  }
  status_.progress = static_cast<const store::VerifyProgress&>(*report);
  status_.state = report->stopped ? State::cancelled : State::finished;
  log::info("admin", fmt::format("verification {}: {} of {} blobs read, {} damaged, {} missing, {} unreadable",
                                 name(status_.state), report->blobs, report->blobs_total, report->damaged,
                                 report->missing, report->unreadable));
  status_.report = std::move(*report);
}

bool VerifyJob::cancel() {
  const std::scoped_lock lock(mutex_);
  return status_.state == State::running && thread_.request_stop();
}

VerifyJob::Status VerifyJob::status() const {
  const std::scoped_lock lock(mutex_);
  Status out = status_;
  if (out.state == State::running) {
    out.took = std::chrono::duration_cast<std::chrono::milliseconds>(clock_.now() - began_);
  }
  return out;
}

void VerifyJob::stop() {
  std::jthread last;
  {
    const std::scoped_lock lock(mutex_);
    stopped_ = true;
    last = std::move(thread_);
  }
  // Its destructor asks it to stop, and waits.
}

std::string_view name(VerifyJob::State state) noexcept {
  switch (state) {
    case VerifyJob::State::idle: return "idle";
    case VerifyJob::State::running: return "running";
    case VerifyJob::State::finished: return "finished";
    case VerifyJob::State::cancelled: return "cancelled";
    case VerifyJob::State::failed: break;
  }
  return "failed";
}

}  // namespace sluice::admin
