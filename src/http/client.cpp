#include "http/client.hpp"

#include <algorithm>
#include <cstring>
#include <list>
#include <map>
#include <tuple>
#include <utility>

#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "base/log.hpp"
#include "http/client_connection.hpp"
#include "http/client_pool.hpp"

namespace sluice::http {
namespace {

using std::chrono::steady_clock;

constexpr int kMaxInterimAnswers = 16;
constexpr std::size_t kDrainBytes = std::size_t{16} << 10;
constexpr std::chrono::milliseconds kDrainTimeout{2'000};

// Nothing that came from elsewhere may split a request.
bool is_safe(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f; });
}

// With the body.
Result<std::string> request_text(const ClientRequest& request, const Channel& channel, const ProxyServer* proxy) {
  if (request.url.target.find(' ') != std::string::npos || !is_safe(request.url.target)) {
    return Error(Errc::internal, "a request target with a space or a control character");
  }
  // What a proxy does not see it gets no credentials for: through a tunnel the request is as ever.
  const bool by_proxy = proxy != nullptr && !request.url.is_tls();
  // RFC 9112 section 3.2.2.
  const std::string target = by_proxy ? request.url.to_string() : request.url.target;
  std::string head = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n", request.method, target, request.url.authority());
  if (by_proxy && !proxy->authorization.empty()) head += "Proxy-Authorization: " + proxy->authorization + "\r\n";
  if (!channel.user_agent.empty()) head += "User-Agent: " + channel.user_agent + "\r\n";
  for (const auto& [name, value] : request.fields) {
    if (!is_safe(name) || !is_safe(value)) return Error(Errc::internal, "a control character in a request field");
    head += name;
    head += ": ";
    head += value;
    head += "\r\n";
  }
  if (request.method == "POST") head += fmt::format("Content-Length: {}\r\n", request.body.size());
  head += "\r\n";
  head += request.body;
  return head;
}

}  // namespace

// A turn to talk to a host, and the connection for it once there is one.
class Client::Lease {
 public:
  Lease(Pool& pool, Pool::Host& host) : pool_(&pool), host_(&host) {}
  Lease(Lease&& other) noexcept
      : pool_(other.pool_), host_(std::exchange(other.host_, nullptr)), connection_(std::move(other.connection_)) {}
  Lease& operator=(Lease&&) = delete;
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease() {
    if (host_ == nullptr) return;
    connection_.reset();
    pool_->release(*host_);
  }

  // A kept connection, unless `fresh`, or a new one.
  Task<Result<void>> connect(const ClientRequest& request, ClientConnection::Duration timeout, bool fresh) {
    connection_.reset();
    if (fresh) {
      pool_->drop_one_idle(*host_);
    } else {
      connection_ = pool_->take_idle(*host_, request.referral);
      if (connection_) co_return Result<void>{};
    }
    connection_ = std::make_unique<ClientConnection>(pool_->loop(), pool_->resolver(), host_->channel);
    co_return co_await connection_->connect(request.url, timeout, request.referral);
  }
  void keep() { pool_->put_idle(*host_, std::move(connection_)); }
  void drop_kept() { pool_->drop_all_idle(*host_); }
  [[nodiscard]] ClientConnection& connection() noexcept { return *connection_; }

 private:
  Pool* pool_;
  Pool::Host* host_;
  std::unique_ptr<ClientConnection> connection_;
};

// ------------------------------------------------------------------------------------------------------------- client

namespace {

// What is left of `timeout` for a request that must end by its `until`.
std::chrono::milliseconds left_of(const ClientRequest& request, std::chrono::milliseconds timeout) {
  if (!request.until) return timeout;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*request.until - steady_clock::now());
  return std::clamp(left, std::chrono::milliseconds(1), std::max(timeout, std::chrono::milliseconds(1)));
}

struct Answer {
  Result<ReceivedHead> head;
  // The connection was a kept one and ended before any byte of an answer: worth another try on a new one.
  bool was_dead = false;
};

Answer failed(const ClientConnection& connection, const ClientConnection::Outcome& outcome, const Url& url) {
  const bool dead = connection.used && connection.buffered().empty() && !outcome.timed_out &&
                    outcome.error != asio::error::operation_aborted;
  return {connection_error(outcome, "request to", url.authority()), dead};
}

// Sends, and reads one head, the interim ones skipped.
Task<Answer> converse(ClientConnection& connection, const std::string& text, const Url& url) {
  const ClientConnection::Outcome sent = co_await connection.write_all(text);
  if (sent.error) co_return failed(connection, sent, url);
  int interim = 0;
  std::size_t scanned = 0;
  while (true) {
    const std::string_view bytes = connection.buffered();
    const std::size_t end = bytes.find("\r\n\r\n", scanned);
    if (end == std::string_view::npos) {
      if (bytes.size() >= kMaxHeadBytes) {
        co_return Answer{
            Error(Errc::upstream_protocol, "broken HTTP response: head too long, from " + url.authority())};
      }
      scanned = bytes.size() < 3 ? 0 : bytes.size() - 3;
      const ClientConnection::Outcome got = co_await connection.fill();
      if (!got.error) continue;
      Answer answer = failed(connection, got, url);
      answer.was_dead = answer.was_dead && interim == 0;
      co_return answer;
    }
    Result<ReceivedHead> head = parse_received_head(bytes.substr(0, end + 4));
    connection.consume(end + 4);
    scanned = 0;
    if (!head) co_return Answer{head.error().in(url.authority())};
    if (head->status >= 200) co_return Answer{std::move(head)};
    // RFC 9110 section 15.2: interim answers may come unasked. Switching protocols may not.
    if (head->status == 101 || ++interim > kMaxInterimAnswers) {
      co_return Answer{Error(Errc::upstream_protocol, "interim answers without an end, from " + url.authority())};
    }
  }
}

}  // namespace

struct ClientResponse::Source {
  Client::Lease lease;
  std::string authority;  // for messages
};

Client::Client(const Params& params) : params_(params), pools_(std::max<std::size_t>(params.loops, 1)) {}
Client::~Client() = default;

Client::Pool& Client::pool_of(runtime::Loop& loop) {
  std::unique_ptr<Pool>& pool = pools_.at(loop.index());
  if (!pool) pool = std::make_unique<Pool>(loop, params_);
  return *pool;
}

std::size_t Client::hosts(std::size_t loop) const { return pools_.at(loop) ? pools_.at(loop)->hosts() : 0; }
std::size_t Client::idle_connections(std::size_t loop) const { return pools_.at(loop) ? pools_.at(loop)->idle() : 0; }

Task<Result<std::unique_ptr<ClientResponse>>> Client::send(ClientRequest request,
                                                           std::shared_ptr<const Channel> channel) {
  Pool& pool = pool_of(runtime::Loop::of(co_await asio::this_coro::executor));
  const ProxyServer* const proxy = channel->proxies ? channel->proxies->find(request.url) : nullptr;
  const Result<std::string> text = request_text(request, *channel, proxy);
  if (!text) co_return text.error();
  if (request.url.is_tls() && !channel->tls) co_return Error(Errc::internal, "https without a TLS context");
  if (const auto& referral = request.referral; proxy != nullptr && referral) {
    const bool permitted = referral->policy->permits_host(request.url.host, request.url.port, referral->sender);
    if (!permitted) co_return not_permitted(request.url);
  }

  const Result<Pool::Host*> host =
      co_await pool.enter(request.url, channel, left_of(request, channel->headers_timeout));
  if (!host) co_return host.error();
  Lease lease(pool, **host);

  if (request.connected != nullptr) *request.connected = false;
  for (bool fresh = request.fresh_connection;; fresh = true) {
    const auto connect_timeout = left_of(request, request.connect_timeout.value_or(channel->connect_timeout));
    const Result<void> connected = co_await lease.connect(request, connect_timeout, fresh);
    if (!connected) co_return connected.error();
    if (request.connected != nullptr) *request.connected = true;
    ClientConnection& connection = lease.connection();
    connection.arm(left_of(request, request.headers_timeout.value_or(channel->headers_timeout)));
    Answer answer = co_await converse(connection, *text, request.url);
    connection.disarm();
    if (!answer.head) {
      if (answer.was_dead && !fresh) continue;
      if (connection.used && answer.head.error().code == Errc::upstream_timeout) lease.drop_kept();
      co_return answer.head.error();
    }
    if (proxy != nullptr && !request.url.is_tls() && answer.head->status == 407) {
      co_return Error(Errc::upstream_protocol,
                      fmt::format("the proxy {} rejected the credentials (407)", proxy->authority()));
    }
    const Result<BodyFraming> framing = body_framing(*answer.head, request.method);
    if (!framing) co_return framing.error().in(request.url.authority());
    connection.used = true;
    auto source =
        std::unique_ptr<ClientResponse::Source>(new ClientResponse::Source{std::move(lease), request.url.authority()});
    co_return std::unique_ptr<ClientResponse>(new ClientResponse(std::move(*answer.head), *framing, std::move(source)));
  }
}

// ----------------------------------------------------------------------------------------------------------- response

ClientResponse::ClientResponse(ReceivedHead head, BodyFraming framing, std::unique_ptr<Source> source)
    : head_(std::move(head)),
      framing_(framing),
      content_length_(framing.announced),
      stall_timeout_(source->lease.connection().channel()->stall_timeout),
      source_(std::move(source)) {
  peer_ = source_->lease.connection().peer();
  const bool empty =
      framing_.kind == BodyFraming::Kind::none || (framing_.kind == BodyFraming::Kind::length && framing_.length == 0);
  if (empty) finish();
}

ClientResponse::~ClientResponse() = default;

Error ClientResponse::cut_short() const {
  if (framing_.kind == BodyFraming::Kind::length) {
    return {Errc::upstream_unreachable, fmt::format("body from {}: closed by the other side after {} of {} bytes",
                                                    source_->authority, received_, framing_.length)};
  }
  return {Errc::upstream_unreachable,
          fmt::format("body from {}: closed by the other side before its end, after {} bytes", source_->authority,
                      received_)};
}

// The body has been read: the connection goes back, or is closed where it is not clear what would come next. Bytes
// behind the stated end are not the body's: it is whole, and what follows it is never taken for another answer.
void ClientResponse::finish() {
  ended_ = true;
  const std::unique_ptr<Source> source = std::move(source_);
  const ClientConnection::Pending pending = source->lease.connection().pending();
  if (pending == ClientConnection::Pending::nothing && framing_.keep_alive) source->lease.keep();
  if (pending == ClientConnection::Pending::bytes) {
    log::debug("http",
               fmt::format("{} sent bytes behind the end of its answer; the connection is closed", source->authority));
  }
}

// 0 is the end of the connection.
Task<Result<std::size_t>> ClientResponse::read_some(std::span<std::byte> into) {
  ClientConnection& connection = source_->lease.connection();
  const std::string_view bytes = connection.buffered();
  if (!bytes.empty()) {
    const std::size_t n = std::min(bytes.size(), into.size());
    std::memcpy(into.data(), bytes.data(), n);
    connection.consume(n);
    co_return n;
  }
  const ClientConnection::Outcome got = co_await connection.read_some(into);
  if (!got.error) co_return got.bytes;
  if (got.error == asio::error::eof && !got.timed_out) co_return std::size_t{0};
  Error error = connection_error(got, "body from", source_->authority);
  error.message += fmt::format(" after {} bytes", received_);
  co_return error;
}

Task<Result<std::size_t>> ClientResponse::read_until_close(std::span<std::byte> into) {
  Result<std::size_t> n = co_await read_some(into);
  if (n && *n == 0) finish();
  co_return n;
}

Task<Result<std::size_t>> ClientResponse::read_chunked(std::span<std::byte> into) {
  ClientConnection& connection = source_->lease.connection();
  while (chunks_.data() == 0) {
    const Result<std::size_t> used = chunks_.feed(connection.buffered());
    if (!used) co_return used.error().in("body from " + source_->authority);
    connection.consume(*used);
    if (chunks_.done()) {
      finish();
      co_return std::size_t{0};
    }
    if (chunks_.data() > 0) break;
    const ClientConnection::Outcome got = co_await connection.fill();
    if (!got.error) continue;
    if (got.error == asio::error::eof && !got.timed_out) co_return cut_short();
    co_return connection_error(got, "body from", source_->authority);
  }
  const std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), chunks_.data()));
  const Result<std::size_t> n = co_await read_some(into.first(want));
  if (!n) co_return n.error();
  if (*n == 0) co_return cut_short();
  chunks_.took(*n);
  co_return *n;
}

Task<Result<std::size_t>> ClientResponse::read_piece(std::span<std::byte> into) {
  if (framing_.kind == BodyFraming::Kind::chunked) co_return co_await read_chunked(into);
  if (framing_.kind != BodyFraming::Kind::length) co_return co_await read_until_close(into);
  const std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), framing_.length - received_));
  const Result<std::size_t> n = co_await read_some(into.first(want));
  if (!n) co_return n.error();
  if (*n == 0) co_return cut_short();
  if (received_ + *n == framing_.length) finish();
  co_return *n;
}

// For the next piece; zero when the time of the whole is over.
std::chrono::milliseconds ClientResponse::time_left() const {
  if (ends_by_ == steady_clock::time_point::max()) return stall_timeout_;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(ends_by_ - steady_clock::now());
  return std::clamp(left, std::chrono::milliseconds(0), stall_timeout_);
}

Task<Result<std::size_t>> ClientResponse::read(std::span<std::byte> into) {
  if (failure_) co_return *failure_;
  if (ended_) co_return std::size_t{0};
  if (into.empty()) co_return Error(Errc::internal, "a read into nothing");
  const std::shared_ptr<const Channel> channel = source_->lease.connection().channel();
  Result<std::size_t> n =
      Error(Errc::upstream_timeout, fmt::format("body from {}: timed out before its end", source_->authority));
  if (const auto left = time_left(); left.count() > 0) {
    source_->lease.connection().arm(left);
    n = co_await read_piece(into);
  }
  if (source_) source_->lease.connection().disarm();
  if (!n) {
    failure_ = n.error();
    source_.reset();
    co_return n;
  }
  received_ += *n;
  if (channel->received_bytes != nullptr) channel->received_bytes->add(*n);
  co_return n;
}

Task<Result<std::string>> ClientResponse::read_all(std::size_t limit) {
  std::string out;
  std::size_t size = 0;
  while (true) {
    if (size == out.size()) {
      const std::uint64_t announced = framing_.kind == BodyFraming::Kind::length ? framing_.length - received_ : 0;
      const std::uint64_t step = std::clamp<std::uint64_t>(announced, 4 << 10, 64 << 10);
      out.resize(std::min<std::size_t>(limit, size + static_cast<std::size_t>(step)) + 1);
    }
    const Result<std::size_t> n = co_await read(std::as_writable_bytes(std::span(out)).subspan(size));
    if (!n) co_return n.error();
    if (*n == 0) break;
    size += *n;
    if (size > limit) {
      co_return Error(Errc::upstream_protocol, fmt::format("the body is larger than the limit of {} bytes", limit));
    }
  }
  out.resize(size);
  co_return out;
}

Task<void> ClientResponse::drain() {
  if (!source_ || framing_.kind == BodyFraming::Kind::until_close) co_return;
  if (framing_.kind == BodyFraming::Kind::length && framing_.length - received_ > kDrainBytes) co_return;
  stall_timeout_ = std::min(stall_timeout_, kDrainTimeout);
  ends_by_ = std::min(ends_by_, steady_clock::now() + kDrainTimeout);
  // What it says is of no interest, only that it ends.
  const Result<std::string> ignored = co_await read_all(kDrainBytes);
  if (!ignored) source_.reset();
}

}  // namespace sluice::http
