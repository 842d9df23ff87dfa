// Who a session's client is, and whether it may come in: before the first request, and with each.
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"
#include "http/proxy_protocol.hpp"
#include "http/session.hpp"
#include "runtime/timer.hpp"

namespace sluice::http {

namespace asio = runtime::asio;
using runtime::Task;

namespace {

using runtime::Timer;

std::chrono::nanoseconds now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace

// Whether the connection may go on to its first request.
Task<bool> Session::enter() {
  // The listener has looked at all others.
  if (from_proxy_ && entry_->proxy_protocol) {
    if (!co_await read_proxy_header()) co_return false;
  }
  if (!entry_->tls) co_return true;
  std::string early(buffer_.get(), size_);
  size_ = 0;
  const Connection::Handshake result = co_await connection_.start_tls(entry_->tls, std::move(early), entry_timeout());
  connection_.new_turn();
  switch (result) {
    case Connection::Handshake::done: connection_.metrics().tls_accepted.add(); co_return true;
    case Connection::Handshake::plain_http:
      connection_.metrics().tls_plain.add();
      co_await refuse(Refusal{400, "this port speaks TLS: use https"});
      co_return false;
    case Connection::Handshake::timed_out: connection_.metrics().header_timeouts.add(); [[fallthrough]];
    case Connection::Handshake::failed:
    case Connection::Handshake::closed: connection_.metrics().tls_failed.add(); break;
  }
  if (log::enabled(log::Level::debug)) {
    log::debug(context_.server.params.name,
               fmt::format("TLS handshake with {} failed: {}", peer_, connection_.tls_failure()));
  }
  co_return false;
}

Task<bool> Session::read_proxy_header() {
  connection_.deadline().arm(entry_timeout());
  for (;;) {
    const ProxyHeader header = parse_proxy_header({buffer_.get(), size_});
    if (header.state == ProxyHeader::State::complete) {
      connection_.deadline().disarm();
      head_end_ = header.bytes;
      consume_head();
      co_return !header.source || takes_place(header.source->address, header.source->port);
    }
    if (header.state == ProxyHeader::State::garbage || size_ >= connection_.params().max_header_bytes) break;
    const Connection::Received received = receive_more();
    if (received.error) break;
    if (received.bytes != 0) continue;
    const auto [error] = co_await connection_.socket().async_wait(Socket::wait_read, runtime::kAwaitTuple);
    if (error || connection_.deadline().expired()) break;
  }
  connection_.deadline().disarm();
  connection_.metrics().bad_proxy.add();
  co_return false;
}

// The client behind a PROXY header: the same rules as for one that connects by itself.
bool Session::takes_place(const IpAddress& address, std::uint16_t port) {
  address_ = address;
  peer_ = address.with_port(port);
  request_.set_peer(peer_);
  from_proxy_ = entry_->trusted_proxies.contains(address);
  if (from_proxy_) return true;
  if (!entry_->admits(address)) {
    connection_.metrics().denied.add();
    return false;
  }
  if (entry_->client_max_connections == 0) return true;
  auto place = ClientPlace::take(context_.server.clients.find(address, now()), entry_->client_max_connections);
  if (!place) {
    connection_.metrics().crowded.add();
    return false;
  }
  place_ = std::move(*place);
  return true;
}

// Another entry has come into force since the last request.
void Session::renew_entry() {
  entry_ = context_.entry;
  admitted_ = false;
  rated_.reset();
  // With PROXY headers this connection would have begun with one, and it is the client's own.
  from_proxy_ = entry_->trusted_proxies.contains(address_) && (from_proxy_ || !entry_->proxy_protocol);
  request_.set_peer(peer_);
}

// What of the request says who it is of; nothing: it may be served.
std::optional<Session::Denial> Session::check_client() {
  IpAddress client = address_;
  if (from_proxy_) {
    const std::optional<IpAddress> behind =
        forwarded_client(request_.joined("X-Forwarded-For"), entry_->trusted_proxies);
    forwarded_ = behind ? behind->to_string() : peer_;
    request_.set_peer(forwarded_);
    if (behind) client = *behind;
  }
  if (!admitted_ || from_proxy_) {
    if (!entry_->admits(client)) {
      connection_.metrics().denied.add();
      return Denial{403, oci::ErrorCode::denied, "this address may not use this cache", {}};
    }
    admitted_ = true;
  }
  if (entry_->client_requests_per_second == 0) return std::nullopt;
  if (!rated_ || rated_address_ != client) {
    rated_ = context_.server.clients.find(client, now());
    rated_address_ = client;
  }
  const auto wait = rated_->request(now(), entry_->client_requests_per_second, connection_.params().rate_patience);
  if (wait) {
    wait_for_turn_ = *wait;
    return std::nullopt;
  }
  connection_.metrics().over_rate.add();
  return Denial{503, oci::ErrorCode::too_many_requests, "too many requests from this address",
                std::chrono::duration_cast<std::chrono::seconds>(connection_.params().rate_patience)};
}

Task<void> Session::wait_for_turn() {
  connection_.metrics().delayed.add();
  Timer timer(connection_.socket().get_executor());
  timer.expires_after(std::exchange(wait_for_turn_, std::chrono::nanoseconds{0}));
  (void)co_await timer.async_wait(runtime::kAwaitTuple);
  connection_.new_turn();
}

}  // namespace sluice::http
