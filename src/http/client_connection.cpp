#include "http/client_connection.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/write.hpp>

#include <fmt/format.h>

namespace sluice::http {
namespace {

using std::chrono::steady_clock;
using tcp = asio::ip::tcp;

constexpr std::size_t kMaxTunnelHeadBytes = std::size_t{16} << 10;
constexpr std::size_t kFirstBufferBytes = std::size_t{16} << 10;

steady_clock::duration left_until(steady_clock::time_point until) {
  return std::max<steady_clock::duration>(until - steady_clock::now(), std::chrono::milliseconds(1));
}

// The other side does not like who we are (RFC 8446 section 6.2), and will not the next time either.
bool refuses_our_certificate(const boost::system::error_code& error) {
  if (error.category() != asio::error::get_ssl_category()) return false;
  switch (ERR_GET_REASON(static_cast<unsigned long>(error.value())) - SSL_AD_REASON_OFFSET) {
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_CERTIFICATE_REQUIRED: return true;
    default: return false;
  }
}

}  // namespace

TlsContext::TlsContext(std::unique_ptr<Native> native) : native_(std::move(native)) {}
TlsContext::~TlsContext() = default;

Result<std::shared_ptr<const TlsContext>> TlsContext::load(const std::string& ca_file, const std::string& cert_file,
                                                           const std::string& key_file) {
  auto native = std::make_unique<Native>();
  asio::ssl::context& context = native->context;
  boost::system::error_code error;
  SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_2_VERSION);
  context.set_verify_mode(asio::ssl::verify_peer, error);
  if (!error) context.set_default_verify_paths(error);
  if (error) return Error(Errc::config_invalid, "cannot set up TLS: " + error.message());
  if (!ca_file.empty()) {
    context.load_verify_file(ca_file, error);
    if (error)
      return Error(Errc::config_invalid, fmt::format("cannot load certificates from {}: {}", ca_file, error.message()));
  }
  if (!cert_file.empty()) {
    context.use_certificate_chain_file(cert_file, error);
    if (error)
      return Error(Errc::config_invalid,
                   fmt::format("cannot load a certificate from {}: {}", cert_file, error.message()));
    context.use_private_key_file(key_file, asio::ssl::context::pem, error);
    if (error)
      return Error(Errc::config_invalid,
                   fmt::format("cannot load the key of {} from {}: {}", cert_file, key_file, error.message()));
  }
  return std::shared_ptr<const TlsContext>(new TlsContext(std::move(native)));
}

Error not_permitted(const Url& url) {
  return {Errc::upstream_protocol,
          fmt::format("{}: not a globally reachable address, and neither of the upstream's own kind of network nor in "
                      "its redirect_networks, or one of our own listeners",
                      url.authority())};
}

Error connection_error(const ClientConnection::Outcome& outcome, std::string_view what, std::string_view authority) {
  const std::string where = fmt::format("{} {}", what, authority);
  if (outcome.timed_out) return {Errc::upstream_timeout, where + ": timed out"};
  if (outcome.error == asio::error::operation_aborted) return {Errc::cancelled, where + ": cancelled"};
  if (outcome.error == asio::error::eof || outcome.error == asio::ssl::error::stream_truncated) {
    return {Errc::upstream_unreachable, where + ": closed by the other side"};
  }
  const Errc code = refuses_our_certificate(outcome.error) ? Errc::upstream_protocol : Errc::upstream_unreachable;
  return {code, fmt::format("{}: {}", where, outcome.error.message())};
}

ClientConnection::ClientConnection(runtime::Loop& loop, runtime::Resolver& resolver,
                                   std::shared_ptr<const Channel> channel)
    : resolver_(resolver),
      channel_(std::move(channel)),
      socket_(loop.get_executor()),
      deadline_(loop, [this] { close(); }) {}

ClientConnection::~ClientConnection() = default;

void ClientConnection::close() noexcept {
  boost::system::error_code ignored;
  socket_.close(ignored);
  counted_.reset();
}

ClientConnection::Outcome ClientConnection::outcome(boost::system::error_code error, std::size_t bytes) const {
  return {error, bytes, error && deadline_.expired()};
}

Task<Result<void>> ClientConnection::connect(const Url& url, Duration timeout,
                                             const std::optional<Referral>& referral) {
  const auto until = steady_clock::now() + timeout;
  const ProxyServer* const proxy = channel_->proxies ? channel_->proxies->find(url) : nullptr;
  Result<Endpoints> endpoints = proxy != nullptr ? co_await resolve(proxy->host, proxy->port, until)
                                                 : co_await resolve(url.host, url.port, until);
  if (!endpoints) co_return endpoints.error();
  if (proxy == nullptr && referral) {
    std::erase_if(*endpoints, [&](const tcp::endpoint& endpoint) {
      return !referral->policy->permits(IpAddress::from(*endpoint.data()), endpoint.port(), referral->sender);
    });
    if (endpoints->empty()) co_return not_permitted(url);
  }
  const std::string authority = proxy != nullptr ? "the proxy " + proxy->authority() : url.authority();
  Result<void> connected = co_await connect_tcp(authority, std::move(*endpoints), until);
  if (connected && proxy != nullptr && url.is_tls()) connected = co_await tunnel(url, *proxy, until);
  if (!connected) co_return connected.error();
  if (proxy == nullptr) note_peer();
  if (url.is_tls()) {
    connected = co_await handshake(url, until);
    if (!connected) co_return connected.error();
  }
  deadline_.disarm();
  co_return Result<void>{};
}

Task<Result<ClientConnection::Endpoints>> ClientConnection::resolve(std::string host, std::uint16_t port,
                                                                    steady_clock::time_point until) {
  boost::system::error_code not_an_address;
  const auto address = asio::ip::make_address(host, not_an_address);
  if (!not_an_address) co_return Endpoints{tcp::endpoint(address, port)};

  const Result<runtime::Resolver::Addresses> addresses = co_await resolver_.resolve(std::move(host), until);
  if (!addresses) co_return addresses.error();
  Endpoints endpoints;
  for (const asio::ip::address& found : *addresses) endpoints.emplace_back(found, port);
  co_return endpoints;
}

bool ClientConnection::is_foreign(const Url& url) const {
  return !channel_->own_host.empty() && url.host != channel_->own_host;
}

void ClientConnection::note_peer() {
  boost::system::error_code gone;
  const tcp::endpoint remote = socket_.remote_endpoint(gone);
  if (gone) return;
  peer_ = IpAddress::from(*remote.data());
  peer_port_ = remote.port();
}

bool ClientConnection::is_permitted(const std::optional<Referral>& referral) const {
  return !referral || !peer_ || referral->policy->permits(*peer_, peer_port_, referral->sender);
}

Task<Result<void>> ClientConnection::connect_tcp(std::string authority, Endpoints endpoints,
                                                 steady_clock::time_point until) {
  RaceOutcome race = co_await race_to_connect(alternate_families(endpoints), until, kConnectionAttemptDelay);
  if (race.error) co_return connection_error({race.error, 0, race.timed_out}, "connect to", authority);
  socket_ = std::move(race.socket);
  boost::system::error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  if (const std::size_t bytes = channel_->receive_buffer_bytes; bytes != 0) {
    socket_.set_option(asio::socket_base::receive_buffer_size(static_cast<int>(bytes)), ignored);
  }
  if (channel_->connections != nullptr) counted_.emplace(*channel_->connections);
  co_return Result<void>{};
}

Task<Result<void>> ClientConnection::tunnel(const Url& url, const ProxyServer& proxy, steady_clock::time_point until) {
  const std::string target = host_and_port(url);
  std::string text = fmt::format("CONNECT {} HTTP/1.1\r\nHost: {}\r\n", target, target);
  if (!channel_->user_agent.empty()) text += "User-Agent: " + channel_->user_agent + "\r\n";
  if (!proxy.authorization.empty()) text += "Proxy-Authorization: " + proxy.authorization + "\r\n";
  text += "\r\n";
  const std::string where = fmt::format("tunnel to {} through the proxy", url.authority());
  deadline_.arm(left_until(until));
  Outcome done = co_await write_all(text);
  std::size_t end = std::string_view::npos;
  while (!done.error && (end = buffered().find("\r\n\r\n")) == std::string_view::npos) {
    if (buffered().size() > kMaxTunnelHeadBytes) co_return Error(Errc::upstream_protocol, where + ": head too long");
    done = co_await fill();
  }
  if (done.error) co_return connection_error(done, where, proxy.authority());
  const Result<ReceivedHead> head = parse_received_head(buffered().substr(0, end + 4));
  if (!head) co_return head.error().in(where);
  consume(end + 4);
  if (head->status / 100 == 2 && buffered().empty()) co_return Result<void>{};
  if (head->status / 100 == 2) co_return Error(Errc::upstream_protocol, where + ": unexpected bytes behind the answer");
  // 5xx is about the other end, and may pass; everything else is about us.
  const Errc code = head->status >= 500 ? Errc::upstream_unreachable : Errc::upstream_protocol;
  co_return Error(code, fmt::format("{} {}: refused with {}{}", where, proxy.authority(), head->status,
                                    head->status == 407 ? ", it rejected the credentials" : ""));
}

Task<Result<void>> ClientConnection::handshake(const Url& url, steady_clock::time_point until) {
  const TlsContext& context = channel_->own_tls && !is_foreign(url) ? *channel_->own_tls : *channel_->tls;
  tls_.emplace(socket_, context.native().context);
  // RFC 6066 section 3: no addresses in SNI.
  if (!url.has_ip_host()) SSL_set_tlsext_host_name(tls_->native_handle(), url.host.c_str());
  boost::system::error_code error;
  tls_->set_verify_callback(asio::ssl::host_name_verification(url.host), error);
  if (error) co_return connection_error({error, 0, false}, "TLS with", url.authority());
  deadline_.arm(left_until(until));
  const auto [failed] = co_await tls_->async_handshake(asio::ssl::stream_base::client, runtime::kAwaitTuple);
  if (!failed) co_return Result<void>{};
  const Outcome ended = outcome(failed, 0);
  deadline_.disarm();
  close();
  const long verified = SSL_get_verify_result(tls_->native_handle());
  if (verified != X509_V_OK && !ended.timed_out) {
    // Not unreachable: another try would end the same way.
    co_return Error(Errc::upstream_protocol, fmt::format("TLS with {}: certificate: {}", url.authority(),
                                                         X509_verify_cert_error_string(verified)));
  }
  co_return connection_error(ended, "TLS with", url.authority());
}

Task<ClientConnection::Outcome> ClientConnection::write_all(std::string_view bytes) {
  if (tls_) {
    const auto [error, n] = co_await asio::async_write(*tls_, asio::buffer(bytes), runtime::kAwaitTuple);
    co_return outcome(error, n);
  }
  const auto [error, n] = co_await asio::async_write(socket_, asio::buffer(bytes), runtime::kAwaitTuple);
  co_return outcome(error, n);
}

Task<ClientConnection::Outcome> ClientConnection::read_record(std::span<std::byte> into) {
  const auto [error, n] = co_await tls_->async_read_some(asio::buffer(into.data(), into.size()), runtime::kAwaitTuple);
  co_return outcome(error, n);
}

Task<ClientConnection::Outcome> ClientConnection::read_some(std::span<std::byte> into) {
  if (held_back_) co_return *held_back_;
  if (!tls_) {
    const auto [error, n] =
        co_await socket_.async_read_some(asio::buffer(into.data(), into.size()), runtime::kAwaitTuple);
    co_return outcome(error, n);
  }
  Outcome got = co_await read_record(into);
  const std::size_t wanted = std::min(into.size(), kGatherBytes);
  boost::system::error_code ignored;
  while (!got.error && got.bytes < wanted && socket_.available(ignored) > 0) {
    const Outcome more = co_await read_record(into.subspan(got.bytes));
    got.bytes += more.bytes;
    if (more.error) {
      held_back_ = more;
      held_back_->bytes = 0;
      break;
    }
  }
  co_return got;
}

void ClientConnection::consume(std::size_t n) noexcept {
  consumed_ += n;
  if (consumed_ == end_) consumed_ = end_ = 0;
}

Task<ClientConnection::Outcome> ClientConnection::fill() {
  if (consumed_ > 0 && end_ == buffer_.size()) {
    buffer_.erase(0, consumed_);
    end_ -= consumed_;
    consumed_ = 0;
  }
  if (end_ == buffer_.size()) buffer_.resize(std::max(kFirstBufferBytes, buffer_.size() * 2));
  const Outcome got = co_await read_some(std::as_writable_bytes(std::span(buffer_)).subspan(end_));
  end_ += got.bytes;
  co_return got;
}

ClientConnection::Pending ClientConnection::pending() {
  if (end_ > consumed_) return Pending::bytes;
  if (tls_ && SSL_pending(tls_->native_handle()) > 0) return Pending::bytes;
  if (held_back_ || !socket_.is_open()) return Pending::unknown;
  char byte = 0;
  ssize_t n = 0;
  do {
    n = ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Pending::nothing;
  return n > 0 && !tls_ ? Pending::bytes : Pending::unknown;
}

void ClientConnection::trim() {
  if (buffer_.size() > kFirstBufferBytes) std::string().swap(buffer_);
}

}  // namespace sluice::http
