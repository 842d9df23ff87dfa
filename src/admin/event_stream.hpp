// The live half of the status page: GET /events, a stream of server-sent events (WHATWG HTML, section 9.2).
//
// Each event is a JSON object of the parts of the page that have changed since the last one, by the id of their
// element; the first has all of them. All listeners share one look a second; while nobody listens there is none.
//
//   a listener   counted, refused above Params::listeners ──▶ begun ──▶ gone, stalled or cancelled: no longer counted
//
// Nothing is kept for a listener that is slow: it gets the newest parts once it has taken the last ones, and the
// server's send time-out ends one that takes nothing.
//
// Threads: serve may run on several loops at once. Owned by the AdminHandler.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "http/exchange.hpp"
#include "runtime/task.hpp"

namespace sluice::admin {

// The parts of a page that change, as HTML, by the id of the element that holds them; always the same ones.
using Sections = std::vector<std::pair<std::string, std::string>>;

// What `now` has and `seen` has not, as an event; empty where nothing has changed.
std::string event_of(const Sections& now, const Sections& seen);

class EventStream {
 public:
  struct Params {
    std::int64_t listeners = 16;
    std::chrono::nanoseconds interval = std::chrono::seconds{1};
  };
  using Look = std::function<runtime::Task<Sections>()>;

  EventStream(Params params, const Clock& clock, Look look);
  EventStream(const EventStream&) = delete;
  EventStream& operator=(const EventStream&) = delete;

  // Answers a GET or HEAD; ends when the client is gone. 503 above Params::listeners.
  runtime::Task<void> serve(http::Exchange& exchange);

  [[nodiscard]] std::int64_t listeners() const noexcept { return listening_.value(); }
  // How often it has looked.
  [[nodiscard]] std::size_t looks() const noexcept { return looks_.load(); }

 private:
  runtime::Task<std::shared_ptr<const Sections>> current();
  runtime::Task<void> follow(http::Exchange& exchange);

  const Params params_;
  const Clock& clock_;
  const Look look_;
  metrics::Gauge listening_;
  std::atomic<std::size_t> looks_{0};
  std::mutex mutex_;  // guards what is below
  std::shared_ptr<const Sections> current_;
  Clock::Monotonic looked_at_{};
};

}  // namespace sluice::admin
