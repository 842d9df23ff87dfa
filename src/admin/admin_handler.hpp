// The admin listener: /metrics, /healthz, /readyz, a page for people at / with its stream of /events, and the admin API
// below /api/v1.
//
// Owned by the composition root; outlives the server that it is given to. serve may run on several loops at once; what
// it is constructed with outlives it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "admin/event_stream.hpp"
#include "admin/guard.hpp"
#include "admin/overview.hpp"
#include "admin/readiness.hpp"
#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "http/exchange.hpp"

namespace sluice::admin {

class AdminApi;

class AdminHandler final : public http::Handler {
 public:
  struct Params {
    std::string version;
    AdminApi* api = nullptr;  // outlives it; none: there is nothing below /api
    OwnHosts hosts = {};
    EventStream::Params events = {};
  };

  // Registers the metrics of the process with `registry`.
  AdminHandler(metrics::Registry& registry, const Readiness& readiness, const Clock& clock, Overview& overview,
               Params params);

  runtime::Task<void> serve(http::Exchange& exchange) override;

  struct Answer {
    unsigned status = 200;
    std::string_view content_type;
    std::string body;
    std::string_view allow = {};                                             // with 405: the methods that there are
    std::string_view policy = "default-src 'none'; frame-ancestors 'none'";  // lives for ever
  };
  // What a GET of this path gives. Thread-safe.
  [[nodiscard]] Answer answer(std::string_view path) const;
  [[nodiscard]] const EventStream& events() const noexcept { return events_; }

 private:
  runtime::Task<Answer> answer_request(const http::Request& request);
  [[nodiscard]] std::optional<Answer> refused(const http::Request& request) const;
  runtime::Task<Sections> look();
  [[nodiscard]] Answer ready() const;
  [[nodiscard]] Answer page() const;
  [[nodiscard]] std::string metrics_text() const;

  metrics::Registry& registry_;
  const Readiness& readiness_;
  Overview& overview_;
  const Params params_;
  EventStream events_;
};

}  // namespace sluice::admin
