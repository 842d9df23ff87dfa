#include "admin/event_stream.hpp"

#include <optional>
#include <span>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "http/response_head.hpp"
#include "runtime/every.hpp"

namespace sluice::admin {

std::string event_of(const Sections& now, const Sections& seen) {
  nlohmann::ordered_json changed = nlohmann::ordered_json::object();
  for (std::size_t i = 0; i < now.size(); ++i) {
    if (i >= seen.size() || seen[i] != now[i]) changed[now[i].first] = now[i].second;
  }
  if (changed.empty()) return {};
  // JSON has no line breaks in it, so one data field holds it all.
  return "event: parts\ndata: " + changed.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) +
         "\n\n";
}

EventStream::EventStream(Params params, const Clock& clock, Look look)
    : params_(params), clock_(clock), look_(std::move(look)) {}

// Two loops may look at the same time, which costs a look; nobody waits for another.
runtime::Task<std::shared_ptr<const Sections>> EventStream::current() {
  {
    const std::scoped_lock lock(mutex_);
    if (current_ && clock_.now() - looked_at_ < params_.interval) co_return current_;
  }
  ++looks_;
  Sections sections = co_await look_();
  auto made = std::make_shared<const Sections>(std::move(sections));
  const std::scoped_lock lock(mutex_);
  current_ = made;
  looked_at_ = clock_.now();
  co_return made;
}

runtime::Task<void> EventStream::serve(http::Exchange& exchange) {
  std::optional<metrics::GaugeGuard> counted(std::in_place, listening_);
  // Two that come at the same moment may both be refused the last place; a page asks again.
  if (listening_.value() > params_.listeners) {
    counted.reset();
    const std::string body = fmt::format(
        "{} pages listen already, which is the limit; close one, or reload this page to see newer figures\n",
        params_.listeners);
    http::ResponseHead head(503);
    head.add("Content-Type", "text/plain; charset=utf-8").add("Cache-Control", "no-store").add("Retry-After", "30");
    head.content_length(body.size());
    static_cast<void>(co_await exchange.send(head.str(), body));
    co_return;
  }
  http::ResponseHead head(200);
  head.add("Content-Type", "text/event-stream")
      .add("Cache-Control", "no-store")
      .add("X-Content-Type-Options", "nosniff");
  // nginx would collect the events of an hour before it passes them on.
  head.add("X-Accel-Buffering", "no").chunked();
  const Result<void> begun = co_await exchange.begin(head.str());
  if (!begun) co_return;
  if (exchange.request().is_head()) {
    static_cast<void>(co_await exchange.end());
    co_return;
  }
  co_await follow(exchange);
  exchange.break_off();
}

runtime::Task<void> EventStream::follow(http::Exchange& exchange) {
  auto seen = std::make_shared<const Sections>();
  // After a break browsers ask again, in three seconds.
  std::string event = "retry: 3000\n";
  for (;;) {
    std::shared_ptr<const Sections> now = co_await current();
    event += event_of(*now, *seen);
    seen = std::move(now);
    if (!event.empty()) {
      const Result<void> sent = co_await exchange.write(std::as_bytes(std::span(event)));
      if (!sent) co_return;
    }
    event.clear();
    co_await runtime::sleep_for(params_.interval);
    if (exchange.peer_gone()) co_return;
  }
}

}  // namespace sluice::admin
