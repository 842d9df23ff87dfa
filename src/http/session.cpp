#include "http/session.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <tuple>

#include <boost/asio/buffer.hpp>
#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "base/log.hpp"
#include "http/response_head.hpp"
#include "http/socket_exchange.hpp"
#include "oci/error_code.hpp"

namespace sluice::http {

namespace asio = runtime::asio;
using runtime::Task;
using namespace std::chrono_literals;

namespace {

// A ClientHello's first byte (RFC 8446 section 5.1).
constexpr char kTlsHandshake = 0x16;
// For connections that are to be told to come back later, and for those that arrive while the server stops.
constexpr std::chrono::milliseconds kHastyTimeout = 2s;

oci::ErrorCode code_of(unsigned status) noexcept {
  switch (status) {
    case 501:
    case 505: return oci::ErrorCode::unsupported;
    case 503: return oci::ErrorCode::unavailable;
    default: return oci::ErrorCode::unknown;
  }
}

}  // namespace

Session::Session(LoopContext& context, Socket socket, Arrival arrival)
    : context_(context),
      connection_(context, std::move(socket)),
      entry_(std::move(arrival.entry)),
      address_(arrival.address),
      peer_(arrival.address.with_port(arrival.port)),
      from_proxy_(arrival.from_proxy),
      place_(std::move(arrival.place)),
      refusing_(arrival.refusing) {
  request_.set_peer(peer_);
  next_ = context_.sessions;
  if (next_ != nullptr) next_->previous_ = this;
  context_.sessions = this;
}

Session::~Session() {
  if (previous_ != nullptr) previous_->next_ = next_;
  if (next_ != nullptr) next_->previous_ = previous_;
  if (context_.sessions == this) context_.sessions = next_;
}

void Session::stop_if_idle() noexcept {
  if (entering_) connection_.deadline().arm(entry_timeout());
  if (in_head_) arm_for_read(false);
  if (!idle_) return;
  if (first_request_) {
    arm_for_read(true);
    return;
  }
  char byte = 0;
  if (::recv(connection_.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0) return;
  boost::system::error_code ignored;
  connection_.socket().cancel(ignored);
}

// For a PROXY header, and for a handshake.
std::chrono::milliseconds Session::entry_timeout() const {
  const std::chrono::milliseconds timeout = context_.server.params.header_timeout;
  return context_.stopping ? std::min(timeout, kHastyTimeout) : timeout;
}

Task<void> Session::run() {
  if (entry_->tls || from_proxy_) {
    entering_ = true;
    const bool entered = co_await enter();
    entering_ = false;
    if (!entered) {
      co_await connection_.finish();
      co_return;
    }
  }
  for (;;) {
    if (size_ == 0 && !connection_.is_tls() && !(context_.stopping && !first_request_)) {
      // Here and not in read_head, whose frame may lie in whatever memory the last request's frames have left: an idle
      // connection holds this one alone.
      begin_idle();
      const auto [error, n] = co_await connection_.socket().async_read_some(asio::buffer(first_), runtime::kAwaitTuple);
      end_idle(error);
      if (error) break;
      Ready ready = answer_first(n);
      if (ready == Ready::unfinished) ready = co_await finish_ready() ? Ready::kept : Ready::closed;
      if (ready == Ready::kept) continue;
      if (ready == Ready::closed) break;
    }
    const Read read = co_await read_head();
    if (read == Read::closed) break;
    if (read == Read::tls_hello) {
      co_await refuse_tls();
      break;
    }
    if (read == Read::timed_out) {
      co_await refuse(Refusal{408, "the request head did not arrive in time"});
      break;
    }
    if (read == Read::refused) {
      connection_.metrics().parse_errors.add();
      co_await refuse(refusal_);
      break;
    }
    const bool kept = co_await serve_head();
    if (!kept) break;
    consume_head();
    first_request_ = false;
    connection_.count_request();
    if (connection_.turn_is_over()) co_await connection_.yield();
  }
  co_await connection_.finish();
}

void Session::arm_for_read(bool waiting_for_first_byte) {
  const Server::Params& params = connection_.params();
  std::chrono::milliseconds timeout = waiting_for_first_byte ? params.idle_timeout : params.header_timeout;
  if (refusing_ || context_.stopping) timeout = std::min(timeout, kHastyTimeout);
  connection_.deadline().arm(timeout);
}

// No byte of the next request is there.
void Session::begin_idle() {
  arm_for_read(true);
  give_back();
  idle_ = true;
}

// The first bytes of it are in first_, or it does not come.
void Session::end_idle(const boost::system::error_code& error) {
  idle_ = false;
  connection_.new_turn();
  if (error) (void)after_failed_read(error);
}

// What has been received of a head; nothing: it goes on.
std::optional<Session::Read> Session::check_head(HeadScanner& scanner) {
  if (first_request_ && buffer_[0] == kTlsHandshake) return Read::tls_hello;
  const HeadScanner::State state = scanner.scan({buffer_.get(), size_});
  if (state == HeadScanner::State::need_more) return std::nullopt;
  refusal_ = scanner.refusal();
  head_begin_ = scanner.begin();
  head_end_ = scanner.end();
  return state == HeadScanner::State::complete ? Read::head : Read::refused;
}

// Leaves a whole head in [head_begin_, head_end_).
Task<Session::Read> Session::read_head() {
  HeadScanner scanner(HeadLimits{connection_.params().max_header_bytes, connection_.params().max_line_bytes});
  for (;;) {
    if (size_ > 0) {
      if (const std::optional<Read> done = check_head(scanner)) {
        connection_.deadline().disarm();
        in_head_ = false;
        co_return *done;
      }
      if (!in_head_) arm_for_read(false);
      in_head_ = true;
    } else {
      if (context_.stopping && !first_request_) co_return Read::closed;
      begin_idle();
    }
    boost::system::error_code error;
    if (connection_.is_tls()) [[unlikely]] {
      const Connection::Received received = co_await connection_.receive_tls(most_to_read(size_));
      error = received.error;
      take_in({connection_.received(), received.bytes});
    } else if (const Connection::Received received = receive_more(); received.bytes == 0) {
      error = received.error;
      if (!error) {
        std::tie(error) = co_await connection_.socket().async_wait(Socket::wait_read, runtime::kAwaitTuple);
      }
    }
    idle_ = false;
    connection_.new_turn();
    if (error) co_return after_failed_read(error);
    // The time ran out just as bytes came in: the deadline does not fire again.
    if (in_head_ && connection_.deadline().expired()) {
      co_return after_failed_read(asio::error::make_error_code(asio::error::operation_aborted));
    }
  }
}

Session::Read Session::after_failed_read(const boost::system::error_code& error) noexcept {
  const bool expired = connection_.deadline().expired();
  connection_.deadline().disarm();
  in_head_ = false;
  if (error == asio::error::operation_aborted && expired) {
    if (size_ == 0) {
      connection_.metrics().idle_timeouts.add();
      return Read::closed;
    }
    connection_.metrics().header_timeouts.add();
    return Read::timed_out;
  }
  // The client has closed (or stop_if_idle has ended the wait): nothing is lost by not waiting for its FIN.
  if (error != asio::error::operation_aborted) connection_.skip_linger();
  return Read::closed;
}

// The scanner refuses a head that fills max_header_bytes, so there always is something to read.
std::size_t Session::most_to_read(std::size_t received) const noexcept {
  const Server::Params& params = connection_.params();
  const std::size_t at_first = std::min(params.read_bytes, params.max_header_bytes);
  return (received < at_first ? at_first : params.max_header_bytes) - received;
}

// What is there now.
Connection::Received Session::receive_more() {
  const Connection::Received received = connection_.receive_now(most_to_read(size_));
  take_in({connection_.received(), received.bytes});
  return received;
}

// What has been received goes behind what is there.
void Session::take_in(std::string_view bytes) {
  constexpr std::size_t kStepBytes = 512;
  if (bytes.empty()) return;
  if (size_ + bytes.size() > capacity_) {
    const std::size_t larger = (size_ + bytes.size() + kStepBytes - 1) / kStepBytes * kStepBytes;
    auto grown = std::make_unique_for_overwrite<char[]>(larger);
    if (size_ > 0) std::memcpy(grown.get(), buffer_.get(), size_);
    buffer_ = std::move(grown);
    capacity_ = larger;
  }
  std::memcpy(&buffer_[size_], bytes.data(), bytes.size());
  size_ += bytes.size();
}

// Moves what follows the head to the front.
void Session::consume_head() {
  size_ -= head_end_;
  if (size_ > 0) std::memmove(buffer_.get(), &buffer_[head_end_], size_);
}

// An idle connection holds no memory for requests: there may be thousands.
void Session::give_back() noexcept {
  buffer_.reset();
  capacity_ = 0;
  request_.give_back();
}

// Whether the connection goes on.
Task<bool> Session::serve_head() {
  const std::string_view head(&buffer_[head_begin_], head_end_ - head_begin_);
  if (const std::optional<Refusal> refusal = parse_request(head, request_)) {
    connection_.metrics().parse_errors.add();
    co_await refuse(*refusal);
    co_return false;
  }
  const bool may_be_kept = may_be_ready() && request_.keep_alive() && request_.version() >= 11 && head_begin_ == 0;
  SocketExchange exchange(connection_, request_, request_.keep_alive() && !refusing_,
                          may_be_kept ? head : std::string_view());
  if (refusing_) {
    connection_.metrics().refused.add();
    co_await answer_error(exchange, 503, "too many connections");
    co_return false;
  }
  if (entry_ != context_.entry) [[unlikely]]
    renew_entry();
  if (entry_->looks_at_requests() || !admitted_) {
    if (const std::optional<Denial> denial = check_client()) {
      co_await answer_error(exchange, *denial);
      co_return false;
    }
    if (wait_for_turn_.count() > 0) co_await wait_for_turn();
  }
  connection_.metrics().requests.add();
  bool failed = false;
  co_await serve_handler(exchange, failed);
  if (exchange.phase() == SocketExchange::Phase::complete) co_return exchange.reusable();
  report_unfinished(exchange, failed);
  if (!exchange.begun()) co_await answer_error(exchange, 500, "internal error");
  co_return false;
}

// `failed`: the handler threw. A cancellation of the session itself passes through.
Task<void> Session::serve_handler(SocketExchange& exchange, bool& failed) {
  std::string what;
  std::exception_ptr cancellation;
  try {
    co_await context_.server.handler.serve(exchange);
    co_return;
  } catch (const std::exception& error) {
    what = error.what();
    cancellation = std::current_exception();
  } catch (...) {
    what = "an unknown exception";
  }
  failed = true;
  const auto state = co_await asio::this_coro::cancellation_state;
  if (state.cancelled() != asio::cancellation_type::none && cancellation) std::rethrow_exception(cancellation);
  connection_.metrics().handler_failures.add();
  log::error(context_.server.params.name, fmt::format("{} {} failed: {}", request_.method(), request_.path(), what));
}

// The handler has returned without completing its answer: by mistake, unless the client has gone or it said so.
void Session::report_unfinished(const SocketExchange& exchange, bool failed) {
  connection_.no_close_notify();
  if (exchange.phase() != SocketExchange::Phase::broken && !connection_.peer_gone()) {
    if (failed) return;  // has been reported
    connection_.metrics().handler_failures.add();
    log::error(context_.server.params.name,
               fmt::format("{} {}: the handler returned {}", request_.method(), request_.path(),
                           exchange.begun() ? "before completing the response" : "without a response"));
    return;
  }
  connection_.metrics().broken_off.add();
  if (!log::enabled(log::Level::debug)) return;
  log::debug(context_.server.params.name,
             fmt::format("{} {} to {} ended after {} bytes: {}", request_.method(), request_.path(), peer_,
                         exchange.body_bytes_sent(),
                         exchange.failure() ? exchange.failure()->message : std::string("broken off")));
}

// The last answer of the connection.
Task<void> Session::answer_error(SocketExchange& exchange, unsigned status, std::string_view reason) {
  const auto wait = status == 503 ? connection_.params().retry_after : std::chrono::seconds{0};
  co_await answer_error(exchange, Denial{status, code_of(status), reason, wait});
}

Task<void> Session::answer_error(SocketExchange& exchange, Denial denial) {
  const std::string body = oci::error_body(denial.code, denial.reason);
  ResponseHead head(denial.status);
  head.add("Content-Type", "application/json").content_length(body.size());
  if (denial.retry_after.count() > 0) {
    head.add("Retry-After", static_cast<std::uint64_t>(denial.retry_after.count()));
  }
  exchange.close_after();
  // Whether it arrives or not, the connection ends now.
  (void)co_await exchange.send(head.str(), body);
}

// The request was not understood, so nothing that it said counts: the answer is that of a plain GET.
Task<void> Session::refuse(Refusal refusal) {
  const Request nothing;
  SocketExchange exchange(connection_, nothing, false);
  co_await answer_error(exchange, refusal.status, refusal.reason);
}

// Go programs (docker's containerd store, BuildKit, podman) try TLS first on loopback addresses. Some of them go on
// with plain HTTP only when an HTTP answer comes back, all of them wait until there is one or the connection ends.
Task<void> Session::refuse_tls() {
  constexpr std::string_view kBody = "This port speaks plain HTTP, not TLS: use http.\n";
  const Request nothing;
  SocketExchange exchange(connection_, nothing, false);
  ResponseHead head(400);
  head.add("Content-Type", "text/plain").content_length(kBody.size());
  // Whether it arrives or not, the connection ends now.
  (void)co_await exchange.send(head.str(), kBody);
}

Task<void> serve_connection(LoopContext& context, Socket socket, ConnectionCount count, Arrival arrival) {
  const ConnectionCount counted = std::move(count);
  Session session(context, std::move(socket), std::move(arrival));
  co_await session.run();
}

}  // namespace sluice::http
