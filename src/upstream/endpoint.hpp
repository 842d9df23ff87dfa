// Endpoint: one address at which an upstream can be asked, with its connections, tokens and health. An upstream has one
// or several, which Exchange tries in turn.
//
// Threads: all functions from tasks on any loop. Owned by an Exchange.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/recurring_log.hpp"
#include "upstream/authenticator.hpp"
#include "upstream/breaker.hpp"
#include "upstream/http_registry.hpp"
#include "upstream/refusal.hpp"
#include "upstream/silence.hpp"
#include "upstream/transport.hpp"

namespace sluice::upstream {

class Endpoint {
 public:
  using Answer = Transport::Answer;
  struct Request {
    std::string method;
    std::string path;        // behind the base: "/v2/…"
    std::string repository;  // as upstream names it: what the token is for. Empty: none.
    std::vector<http::HeaderField> fields;
    Wanted wanted = Wanted::registry;
    bool authenticate = true;
    // A client's own Authorization, which takes the place of our credentials and tokens.
    std::optional<std::string> client_authorization = std::nullopt;

    // Looks at a 2xx; an error makes it one of this endpoint, and another one may do better.
    std::function<Result<void>(http::ClientResponse&)> check = nullptr;
    // Goes on with something that has begun: worth waiting for an endpoint that is down to be tried again.
    bool patient = false;
    // Endpoints, by their bits, that are tried behind all others.
    std::uint64_t avoid = 0;
    // Instead of the connect and headers time-outs, where it is shorter.
    std::optional<std::chrono::milliseconds> patience = std::nullopt;
    // As Transport::Ask::failed_behind.
    // As well set when a token server failed after the registry had answered.
    bool* failed_behind = nullptr;
    // Set when there was no token to ask the registry with.
    bool* not_asked = nullptr;
    // Set when no answer of the registry is the reason, but credentials or a token server: another request, whatever
    // its method, would end the same way.
    bool* without_token = nullptr;
    // What is unusual about a 2xx that may be right all the same, empty where nothing is: other endpoints are asked
    // first, and it is accepted where none does better.
    std::function<std::string(const http::ReceivedHead&)> oddity = nullptr;
    // A HEAD whose outcome is settled by a GET unless it can be used: it is not tried again, is given less time, and
    // its failures are not told to the breaker. A refusal behind a redirect is handed on.
    bool is_hint = false;
    // Of a download, or a question about a blob, that nobody waits for yet; null: somebody does.
    std::shared_ptr<Urgency> urgency = nullptr;
    Asker asker = {};
    // The bytes are held against a digest before anybody gets the last of them.
    bool verified = false;
    // The answer to one that has brought no head in time is worth a longer wait.
    bool may_be_slow = false;
    // A GET of a blob whose answer is small, so that all of it must come in time.
    bool is_short = false;
    // Tries of the same question, in another way, that have failed before this one: they count as its own. What
    // upstream said then of when to ask again, and when the question as a whole has to end.
    std::size_t tries_before = 0;
    std::chrono::milliseconds wait_before{0};
    std::optional<std::chrono::steady_clock::time_point> latest = std::nullopt;

    // For the try that is made (exchange.cpp); as in Transport::Ask.
    std::optional<std::chrono::milliseconds> headers_timeout = std::nullopt;
    std::optional<std::chrono::steady_clock::time_point> turn_until = std::nullopt;
    std::optional<std::chrono::steady_clock::time_point> until = std::nullopt;
    bool* timed_out_behind = nullptr;
    bool fresh_connection = false;
    bool* connected = nullptr;
    std::chrono::steady_clock::duration* waited = nullptr;

    // What the breaker counts it as.
    [[nodiscard]] Breaker::Thing thing() const noexcept {
      return Breaker::thing(std::string_view(path).substr(0, path.find('?')));
    }
  };

  Endpoint(const HttpRegistry::Params& params, const http::Url& base, http::Client& client, Clock& clock,
           metrics::Registry& registry, Metrics& metrics, Admission& admission);
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  // One try: the answer, whatever its status. Challenges have been answered as far as they can be.
  runtime::Task<Result<Answer>> ask(const Request& request);
  // GET /v2/ without Authorization, with the Via and in the time of `of`.
  runtime::Task<Result<Answer>> ask_plain(const Request& of);

  [[nodiscard]] const http::Url& base() const noexcept { return base_; }
  // The path in front of /v2/, without a slash at its end.
  [[nodiscard]] const std::string& prefix() const noexcept { return prefix_; }

  // As Transport::failed_behind, of an answer that was redirected.
  Error failed_behind(const Answer& answer, const Error& why) {
    return transport_.failed_behind(answer.asked, answer.where, why);
  }

  // Nothing while it counts as down, or that thing rests.
  [[nodiscard]] std::optional<Breaker::Permit> enter(Breaker::Thing thing, bool again) {
    return breaker_.enter(thing, again);
  }
  // Whatever its state.
  [[nodiscard]] Breaker::Permit watch(Breaker::Thing thing) { return breaker_.watch(thing); }
  [[nodiscard]] bool is_well() const { return breaker_.is_closed(); }
  [[nodiscard]] bool is_down() const { return breaker_.is_down(); }
  [[nodiscard]] std::chrono::nanoseconds pause_left(Breaker::Thing thing) const { return breaker_.pause_left(thing); }
  void rest(Breaker::Thing thing) { breaker_.rest(thing); }
  // What has failed last, without what was asked for: clients of other repositories may be told. Empty: nothing yet.
  [[nodiscard]] std::string cause() const;
  // How a request went; `why` goes into the log when it has changed something.
  void succeeded(Breaker::Permit permit);
  void failed(Breaker::Permit permit, Breaker::Failure how, const Error& why);
  // A probe has failed, and yet the endpoint answers: what failed was the thing that the probe asked for.
  void answers_otherwise();
  // What several endpoints of an upstream make of its silence.
  [[nodiscard]] Silence& silence() noexcept { return silence_; }
  // A body that broke after its head was counted as a success.
  void body_broke(Breaker::Thing thing) { breaker_.note_failure(thing); }
  // Whether the endpoint is down is in doubt, and the caller finds out (Breaker::Check).
  [[nodiscard]] std::optional<Breaker::Check> begin_check() { return breaker_.begin_check(); }
  // It answers; `last`: what had failed last.
  void check_passed(Breaker::Check check, const Error& last);
  void check_failed(Breaker::Check check, const Error& why);

 private:
  // A registry that this one redirects to, and what it wants. Bounded by kMaxBehind.
  static constexpr std::size_t kMaxBehind = 32;
  std::shared_ptr<Authenticator> behind(const http::Url& url, bool anonymous, bool make);
  runtime::Task<std::string> authorize_behind(http::Url url, std::string repository, bool anonymous,
                                              std::optional<std::chrono::steady_clock::time_point> until);
  runtime::Task<Result<Answer>> answer_behind(const Request& request, Transport::Ask ask, Answer refused);

  [[nodiscard]] Transport::Ask ask_for(const Request& request, std::string authorization);
  runtime::Task<Result<Answer>> send(const Request& request, std::string authorization);
  runtime::Task<std::vector<http::Challenge>> challenges_of_registry(const Request& of);
  void opened(const Error& why);
  void note_cause(const Error& why);

  const std::string name_;  // of the upstream
  const http::Url base_;
  const std::string prefix_;
  Clock& clock_;
  Metrics& metrics_;
  metrics::Counter& requests_;
  metrics::Counter& openings_;
  metrics::Counter& spared_;
  metrics::Gauge& up_;
  Transport transport_;
  Authenticator authenticator_;
  Breaker breaker_;
  Silence silence_;
  const std::function<std::shared_ptr<Authenticator>(const http::Url&, bool anonymous)> make_behind_;
  const bool http_redirects_;
  RecurringLog log_;
  mutable std::mutex cause_mutex_;  // guards cause_
  std::string cause_;
  std::mutex behind_mutex_;  // guards behind_
  // By scheme, host and port, and whether it is asked without credentials.
  std::map<std::string, std::shared_ptr<Authenticator>> behind_;
};

// Whether `path`, where a redirect has led to, is the end-point of a registry for what `asked` ("/v2/…") names, and not
// an object of its storage.
[[nodiscard]] bool is_end_point_of(std::string_view path, std::string_view asked) noexcept;

// Those of an answer, parsed.
std::vector<http::Challenge> challenges_of(const http::ReceivedHead& head);

// Gives the connection back, or closes it, before another is needed: there may be only this one.
runtime::Task<void> let_go(Transport::Answer answer);

}  // namespace sluice::upstream
