// Transport: requests to one upstream, redirects followed. Counts and times them.
//
// Threads: as http::Client::send. Owned by an Endpoint.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "http/address_policy.hpp"
#include "http/client.hpp"
#include "upstream/admission.hpp"
#include "upstream/http_registry.hpp"
#include "upstream/rate_limit.hpp"

namespace sluice::upstream {

struct Metrics {
  Metrics(metrics::Registry& registry, const std::string& upstream);

  void count_status(int status) noexcept;  // 0: no answer

  std::array<metrics::Counter*, 9> requests;  // by the fixed set of statuses in transport.cpp
  metrics::Histogram& request_seconds;
  metrics::Counter& received_bytes;
  metrics::Gauge& connections;
  metrics::Counter& retries;
  metrics::Counter& odd_answers;
  metrics::Counter& token_requests;
  metrics::Counter& token_failures;
  metrics::Histogram& wait_seconds;
  metrics::Gauge& waiting;
  RateLimit rate_limit;
};

class Transport {
 public:
  struct Ask {
    std::string method;
    http::Url url;
    std::vector<http::HeaderField> fields;
    std::string authorization;  // empty: none. Goes to `url`'s own scheme, host and port only.
    std::optional<std::chrono::milliseconds> headers_timeout = std::nullopt;
    // Instead of the connect and headers time-outs, where it is shorter.
    std::optional<std::chrono::milliseconds> patience = std::nullopt;
    std::string body = {};  // of a POST, which is not redirected
    // Counts towards what the upstream gets at a time; nothing: not at all (token servers).
    std::optional<Lane> lane = std::nullopt;
    // As in Admission::enter; may be null.
    std::shared_ptr<Urgency> urgency = nullptr;
    // Set to true when what fails is not `url` itself but where it has led to; may be null.
    bool* failed_behind = nullptr;
    // Set to whether it was a time-out behind a redirect that failed it; may be null.
    bool* timed_out_behind = nullptr;
    // The turn must have come by then.
    std::optional<std::chrono::steady_clock::time_point> turn_until = std::nullopt;
    // As of http::ClientRequest. The wait for a turn is added to it, up to `turn_until`.
    std::optional<std::chrono::steady_clock::time_point> until = std::nullopt;
    bool fresh_connection = false;
    bool* connected = nullptr;
    // A 2xx is a download, which takes as long as it takes. Every other body must have come to its end by the time that
    // counts for all of it, and no later than the headers time-out after its head.
    bool is_download = false;
    // How long the head of the last answer was waited for; may be null.
    std::chrono::steady_clock::duration* waited = nullptr;
    // What a client's Via said; our own entry comes behind it.
    std::string via = {};
    // As in Admission::enter.
    IpAddress client = {};
    // A redirect from https to http is followed: what comes from there is held against its digest.
    bool follows_to_http = false;
    // What to send as Authorization to a registry that the redirects lead to; empty: nothing. May be null. Called and
    // awaited within send().
    std::function<runtime::Task<std::string>(http::Url)> authorize_behind = nullptr;
  };
  struct Answer {
    std::unique_ptr<http::ClientResponse> response;
    bool redirected = false;
    std::string where;          // "GET host/path" of the last request, for messages; without a query
    std::string asked;          // the same of the first request
    std::string authorization;  // what was sent, which an error body may repeat
    Admission::Turn turn = {};  // for as long as the response is needed
    http::Url url = {};         // of the last request
    // Of a redirected one: it is another registry that has answered, which speaks for itself, and not storage.
    bool by_registry = false;
  };

  // Throws std::runtime_error when the CA file cannot be loaded.
  Transport(const HttpRegistry::Params& params, const http::Url& base, http::Client& client, Clock& clock,
            Metrics& metrics, Admission& admission);

  // The answer, whatever its status, but for redirects (301, 302, 303, 307, 308) with a Location: those are followed.
  // Other places than `base` are reached only where the policy permits (http/address_policy.hpp).
  // Errors: those of http::Client::send; overloaded, its turn did not come in time; upstream_protocol, for too many
  // redirects; for whatever else goes wrong behind a redirect the one of failed_behind().
  runtime::Task<Result<Answer>> send(Ask ask);

  // One error for all that a place behind a redirect may do or be, so that nobody learns from it which ports of which
  // machines are open: upstream_failed. `why` goes into the log. What is our own doing (cancelled, overloaded,
  // internal) stays as it is. `asked` and `where` as in Answer.
  Error failed_behind(const std::string& asked, const std::string& where, const Error& why);

 private:
  // Nothing for what the configuration names. `hop`: how many redirects have led there.
  [[nodiscard]] std::optional<http::Referral> referral(const http::Url& url, const std::optional<IpAddress>& sender,
                                                       std::size_t hop) const;
  [[nodiscard]] std::chrono::steady_clock::time_point body_ends_by(const Ask& ask) const;
  [[nodiscard]] std::optional<IpAddress> own_address() const;
  void note_own_address(const http::ClientResponse& response);

  const std::string name_;
  const http::Url base_;
  const std::shared_ptr<const http::AddressPolicy> policy_;
  http::Client& client_;
  Clock& clock_;
  Metrics& metrics_;
  Admission& admission_;
  const std::size_t max_redirects_;
  const std::string via_;  // "1.1 <pseudonym>"; empty: none is sent
  std::shared_ptr<const http::Channel> channel_;

  mutable std::mutex mutex_;              // guards what follows
  std::optional<IpAddress> own_address_;  // the one that answered last for `base`
  std::optional<Clock::Monotonic> warned_at_;
};

}  // namespace sluice::upstream
