// VerifyJob: one verification of the store at a time, on a thread of its own, with its progress for whoever asks.
//
//   idle ──start()──▶ running ──┬─ the end ──▶ finished        start() again is fine from all but running
//                               ├─ cancel() ─▶ cancelled
//                               └─ an error ─▶ failed
//
// Owned by the composition root; stop() before the store is stopped. Threads: all functions are thread-safe, but
// stop().
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/clock.hpp"
#include "store/verifier.hpp"

namespace sluice::admin {

class VerifyJob {
 public:
  enum class State : std::uint8_t { idle, running, finished, cancelled, failed };
  struct Status {
    State state = State::idle;
    store::VerifyProgress progress;
    std::optional<store::VerifyReport> report;  // finished, cancelled
    std::string error;                          // failed
    Clock::Wall started_at;
    std::chrono::milliseconds took{0};  // so far
  };

  VerifyJob(store::BlobStore& store, const Clock& clock) : store_(store), clock_(clock) {}
  VerifyJob(const VerifyJob&) = delete;
  VerifyJob& operator=(const VerifyJob&) = delete;
  ~VerifyJob() { stop(); }

  // False: one runs already, or stop() was called.
  bool start(const store::VerifyOptions& options);
  // Returns at once; false: none runs.
  bool cancel();
  [[nodiscard]] Status status() const;
  // Cancels and waits; no more can be started. Idempotent.
  void stop();

 private:
  void run(const store::VerifyOptions& options, std::stop_token token);

  store::BlobStore& store_;
  const Clock& clock_;
  mutable std::mutex mutex_;  // guards what follows
  Status status_;
  Clock::Monotonic began_;
  bool stopped_ = false;
  std::jthread thread_;
};

std::string_view name(VerifyJob::State state) noexcept;

}  // namespace sluice::admin
