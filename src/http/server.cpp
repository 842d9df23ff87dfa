#include "http/server.hpp"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <optional>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>

#include <fmt/format.h>

#include "base/log.hpp"
#include "http/connection.hpp"
#include "http/session.hpp"
#include "runtime/filesystem.hpp"
#include "runtime/timer.hpp"

namespace sluice::http {

namespace asio = runtime::asio;
using asio::ip::tcp;
using runtime::Task;
using namespace std::chrono_literals;

namespace {

using Acceptor = asio::basic_socket_acceptor<tcp, runtime::Executor>;
using runtime::Timer;

// Connections beyond max_connections that are told so, before the rest has to wait in the kernel's queue.
constexpr std::size_t kMaxRefusing = 256;
// Connections accepted before the loop's other work has its turn.
constexpr int kTurnAccepts = 64;
// How long to rest when no more can be accepted.
constexpr auto kAcceptPause = 100ms;
constexpr auto kAcceptLogInterval = 1min;
constexpr auto kDestructorPatience = 10s;

struct ListenAddress {
  std::string host;  // empty: all addresses
  std::uint16_t port = 0;
};

std::optional<ListenAddress> split(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  ListenAddress address;
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (error != std::errc{} || end != port.data() + port.size()) return std::nullopt;
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return std::nullopt;
  }
  address.host = host == "localhost" ? "127.0.0.1" : host;
  return address;
}

// Whether the kernel has IPv6 at all: it can be compiled out or turned off.
bool has_ipv6() noexcept {
  const int fd = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  const bool bound = ::bind(fd, reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0;
  ::close(fd);
  return bound;
}

Result<tcp::endpoint> resolve(std::string_view text) {
  const std::optional<ListenAddress> address = split(text);
  const auto not_an_address = [text] {
    return Error(
        Errc::config_invalid,
        fmt::format("cannot listen on \"{}\": not an address; wanted 127.0.0.1:5000, [::1]:5000 or :5000", text));
  };
  if (!address) return not_an_address();
  if (address->host.empty()) return tcp::endpoint(has_ipv6() ? tcp::v6() : tcp::v4(), address->port);
  boost::system::error_code ec;
  const asio::ip::address parsed = asio::ip::make_address(address->host, ec);
  if (ec) return not_an_address();
  return tcp::endpoint(parsed, address->port);
}

std::string why(const boost::system::error_code& ec) {
  if (ec == asio::error::address_in_use) return "another program is listening there";
  if (ec == asio::error::access_denied) return "not permitted";
  if (ec.value() == EADDRNOTAVAIL) return "this machine has no such address";
  return ec.message();
}

void set_option(int fd, int level, int option, int value) noexcept {
  (void)::setsockopt(fd, level, option, &value, sizeof value);
}

// sendfile has no MSG_NOSIGNAL. A program that has its own handler keeps it.
void ignore_broken_pipes() noexcept {
  struct sigaction action{};
  if (::sigaction(SIGPIPE, nullptr, &action) == 0 && action.sa_handler == SIG_DFL) std::signal(SIGPIPE, SIG_IGN);
}

bool is_listening(int fd) noexcept {
  int listens = 0;
  int domain = 0;
  socklen_t size = sizeof listens;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0) return false;
  size = sizeof domain;
  if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) return false;
  return domain == AF_INET || domain == AF_INET6;
}

}  // namespace

// Accepts on one loop. Made by listen(); afterwards on the loop's thread alone. Shared by the server and by what is
// posted to the loop.
class Listener {
 public:
  Listener(Server::State& server, runtime::Loop& loop) : context_(server, loop), acceptor_(loop), pause_(loop) {
    const std::scoped_lock lock(server.entry_mutex);
    context_.entry = server.entry;
  }

  // Binds and listens; `shared` with the listeners of the other loops.
  void open(const tcp::endpoint& endpoint, bool shared, boost::system::error_code& ec);
  void listen(int backlog, boost::system::error_code& ec) { acceptor_.listen(backlog, ec); }
  // Accepts on `fd`, which listens already and is taken over.
  void take(int fd, boost::system::error_code& ec);
  [[nodiscard]] runtime::Executor executor() const { return context_.loop.get_executor(); }
  [[nodiscard]] tcp::endpoint local() const { return acceptor_.local_endpoint(); }
  [[nodiscard]] std::uint16_t port() const { return local().port(); }
  void close() noexcept {
    boost::system::error_code ignored;
    acceptor_.close(ignored);
  }

  static Task<void> run(std::shared_ptr<Listener> self);
  void set_entry(std::shared_ptr<const Entry> entry) { context_.entry = std::move(entry); }
  void stop();

 private:
  enum class Accepted : std::uint8_t { all, more, exhausted };

  Accepted accept_some();
  // Takes ownership of `fd`.
  void start_session(int fd, const tcp::endpoint& peer, bool refusing);
  [[nodiscard]] bool admit(Arrival& arrival);
  [[nodiscard]] bool full() const noexcept;
  void report(int error);

  LoopContext context_;
  Acceptor acceptor_;
  Timer pause_;
  std::chrono::steady_clock::time_point last_report_{};
};

void Listener::open(const tcp::endpoint& endpoint, bool shared, boost::system::error_code& ec) {
  acceptor_.open(endpoint.protocol(), ec);
  if (ec) return;
  const int fd = acceptor_.native_handle();
  set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (shared) set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  // Accepted sockets inherit both of these (socket(7), tcp(7)), which saves two system calls for each.
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  if (const int bytes = context_.server.params.send_buffer_bytes; bytes > 0) {
    set_option(fd, SOL_SOCKET, SO_SNDBUF, bytes);
  }
  // "[::]" takes IPv4 too, as it does nearly everywhere else.
  if (endpoint.address().is_v6()) acceptor_.set_option(asio::ip::v6_only(false), ec);
  acceptor_.non_blocking(true, ec);
  if (ec) return;
  acceptor_.bind(endpoint, ec);
}

void Listener::take(int fd, boost::system::error_code& ec) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    ec.assign(errno, boost::system::system_category());
    return;
  }
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  acceptor_.assign(address.ss_family == AF_INET6 ? tcp::v6() : tcp::v4(), fd, ec);
  if (!ec) acceptor_.non_blocking(true, ec);
}

Task<void> Listener::run(std::shared_ptr<Listener> self) {
  for (;;) {
    const auto [error] = co_await self->acceptor_.async_wait(Acceptor::wait_read, runtime::kAwaitTuple);
    if (error || !self->acceptor_.is_open()) co_return;
    const Accepted accepted = self->accept_some();
    if (accepted != Accepted::exhausted) continue;
    self->pause_.expires_after(kAcceptPause);
    (void)co_await self->pause_.async_wait(runtime::kAwaitTuple);
    if (!self->acceptor_.is_open()) co_return;
  }
}

bool Listener::full() const noexcept {
  const std::size_t most = context_.server.params.max_connections;
  return most != 0 && context_.server.connections.load(std::memory_order_relaxed) >= most;
}

Listener::Accepted Listener::accept_some() {
  const Server::Params& params = context_.server.params;
  for (int i = 0; i < kTurnAccepts; ++i) {
    const bool refusing = full();
    if (refusing &&
        context_.server.connections.load(std::memory_order_relaxed) >= params.max_connections + kMaxRefusing) {
      return Accepted::exhausted;
    }
    tcp::endpoint peer;
    auto size = static_cast<socklen_t>(peer.capacity());
    const int fd = ::accept4(acceptor_.native_handle(), peer.data(), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      peer.resize(size);
      start_session(fd, peer, refusing);
      continue;
    }
    switch (errno) {
      case EAGAIN: return Accepted::all;
      case EMFILE:
      case ENFILE:
      case ENOBUFS:
      case ENOMEM: report(errno); return Accepted::exhausted;
      default: break;  // accept(2): errors of the connection that was not accepted; try the next one
    }
  }
  return Accepted::more;
}

// Out of descriptors or memory: connections stay in the kernel's queue until some are free again.
void Listener::report(int error) {
  context_.server.metrics.accept_errors.add();
  const auto now = std::chrono::steady_clock::now();
  if (last_report_ != std::chrono::steady_clock::time_point{} && now - last_report_ < kAcceptLogInterval) return;
  last_report_ = now;
  log::error(context_.server.params.name,
             fmt::format("cannot accept connections: {}; {} are open", std::strerror(error),
                         context_.server.connections.load(std::memory_order_relaxed)));
}

// By the address that connects. Those that a trusted proxy connects for are looked at when it has named them.
bool Listener::admit(Arrival& arrival) {
  const Entry& entry = *arrival.entry;
  if (!entry.looks_at_connections()) return true;
  arrival.from_proxy = entry.trusted_proxies.contains(arrival.address);
  if (arrival.from_proxy) return true;
  if (!entry.admits(arrival.address)) {
    context_.server.metrics.denied.add();
    return false;
  }
  if (entry.client_max_connections == 0) return true;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  auto place = ClientPlace::take(context_.server.clients.find(arrival.address, now), entry.client_max_connections);
  if (!place) {
    context_.server.metrics.crowded.add();
    return false;
  }
  arrival.place = std::move(*place);
  return true;
}

void Listener::start_session(int fd, const tcp::endpoint& peer, bool refusing) {
  Arrival arrival;
  arrival.entry = context_.entry;
  arrival.address = IpAddress::from(*peer.data());
  arrival.port = peer.port();
  arrival.refusing = refusing;
  if (!admit(arrival)) {
    ::close(fd);
    return;
  }
  Socket socket(context_.loop.get_executor());
  boost::system::error_code ec;
  socket.assign(peer.protocol(), fd, ec);
  if (ec) {
    ::close(fd);
    report(ec.value());
    return;
  }
  context_.server.metrics.accepted.add();
  // Dropped, and so closed, where the group has been cancelled.
  (void)context_.server.tasks.spawn(
      context_.loop.get_executor(),
      serve_connection(context_, std::move(socket), ConnectionCount(context_.server), std::move(arrival)));
}

void Listener::stop() {
  if (context_.stopping) return;
  context_.stopping = true;
  // What is in the queue has been connected: closing the listener would reset it.
  while (accept_some() == Accepted::more) {
  }
  close();
  pause_.cancel();
  for (Session* session = context_.sessions; session != nullptr; session = session->next()) session->stop_if_idle();
}

namespace {

metrics::Counter& denied_by(metrics::Registry& registry, const std::string& listener, const char* reason) {
  return registry.counter("sluice_http_denied_total",
                          "Connections and requests that were not let in: by their address, for a client's limit of "
                          "connections or rate of requests, for a broken PROXY header.",
                          {{"listener", listener}, {"reason", reason}});
}

metrics::Counter& handshakes(metrics::Registry& registry, const std::string& listener, const char* result) {
  return registry.counter("sluice_http_tls_handshakes_total",
                          "TLS handshakes: accepted, failed, or begun with plain HTTP.",
                          {{"listener", listener}, {"result", result}});
}

}  // namespace

Server::Metrics::Metrics(metrics::Registry& registry, const std::string& listener)
    : connections(registry.gauge("sluice_http_connections", "Open connections.", {{"listener", listener}})),
      accepted(registry.counter("sluice_http_connections_accepted_total", "Connections accepted.",
                                {{"listener", listener}})),
      refused(registry.counter("sluice_http_connections_refused_total",
                               "Connections beyond the limit that were answered 503.", {{"listener", listener}})),
      accept_errors(
          registry.counter("sluice_http_accept_errors_total",
                           "How often no connection could be accepted because file descriptors or memory ran out.",
                           {{"listener", listener}})),
      requests(registry.counter("sluice_http_requests_total", "Requests with a valid head that were admitted.",
                                {{"listener", listener}})),
      ready(registry.counter("sluice_http_ready_answers_total",
                             "Repeated requests for cached objects that were answered without being parsed.",
                             {{"listener", listener}})),
      sent_bytes(
          registry.counter("sluice_http_sent_bytes_total", "Bytes sent, heads included.", {{"listener", listener}})),
      parse_errors(registry.counter("sluice_http_parse_errors_total", "Requests refused as malformed or ambiguous.",
                                    {{"listener", listener}})),
      handler_failures(registry.counter("sluice_http_handler_failures_total",
                                        "Requests that a mistake in the program left without a complete answer.",
                                        {{"listener", listener}})),
      broken_off(registry.counter("sluice_http_broken_off_total",
                                  "Answers that ended early, because the client left or the rest could not be had.",
                                  {{"listener", listener}})),
      header_timeouts(registry.counter("sluice_http_timeouts_total", "Connections closed by a time-out.",
                                       {{"listener", listener}, {"kind", "header"}})),
      idle_timeouts(registry.counter("sluice_http_timeouts_total", "Connections closed by a time-out.",
                                     {{"listener", listener}, {"kind", "idle"}})),
      send_timeouts(registry.counter("sluice_http_timeouts_total", "Connections closed by a time-out.",
                                     {{"listener", listener}, {"kind", "send"}})),
      cold_reads(registry.counter("sluice_http_cold_reads_total",
                                  "Pieces of files that were not in memory when they were to be sent.",
                                  {{"listener", listener}})),
      denied(denied_by(registry, listener, "address")),
      crowded(denied_by(registry, listener, "connections")),
      bad_proxy(denied_by(registry, listener, "proxy_header")),
      over_rate(denied_by(registry, listener, "rate")),
      delayed(registry.counter("sluice_http_delayed_requests_total",
                               "Requests that waited, because their client had too many in a second.",
                               {{"listener", listener}})),
      tls_accepted(handshakes(registry, listener, "accepted")),
      tls_failed(handshakes(registry, listener, "failed")),
      tls_plain(handshakes(registry, listener, "plain_http")) {}

Server::State::State(runtime::LoopPool& pool, Handler& request_handler, Params parameters, metrics::Registry& registry)
    : loops(pool),
      handler(request_handler),
      params(std::move(parameters)),
      metrics(registry, params.name),
      tasks(params.name),
      entry(std::make_shared<const Entry>()) {}

Server::Server(runtime::LoopPool& loops, Handler& handler, Params params, metrics::Registry& registry)
    : state_(std::make_unique<State>(loops, handler, std::move(params), registry)) {
  registry
      .gauge("sluice_http_max_connections", "The limit of open connections; beyond it clients are answered 503.",
             {{"listener", state_->params.name}})
      .set(static_cast<std::int64_t>(state_->params.max_connections));
}

Server::~Server() {
  cancel();
  if (drain(kDestructorPatience)) return;
  log::error(state_->params.name, "the server is destroyed while connections are open: the handler does not return");
  // Their memory is better lost than freed beneath them.
  [[maybe_unused]] State* const lost = state_.release();
}

Result<void> Server::listen(std::string_view address) {
  if (!state_->listeners.empty() || state_->stopped)
    return Error(Errc::closed, "the server has been listening already");
  Result<tcp::endpoint> resolved = resolve(address);
  if (!resolved) return resolved.error();
  tcp::endpoint endpoint = *resolved;

  ignore_broken_pipes();

  const auto cannot = [address](const boost::system::error_code& ec) {
    const Errc code = ec == asio::error::address_in_use ? Errc::exists : Errc::config_invalid;
    return Error(code, fmt::format("cannot listen on {}: {}", address, why(ec)));
  };
  boost::system::error_code ec;
  if (endpoint.port() != 0) {
    // With SO_REUSEPORT two processes of one user would share the port without a word; this bind finds the other one.
    Listener probe(*state_, state_->loops.at(0));
    probe.open(endpoint, false, ec);
    if (ec) return cannot(ec);
  }
  std::vector<std::shared_ptr<Listener>> listeners;
  for (std::size_t i = 0; i < state_->loops.size(); ++i) {
    auto listener = std::make_shared<Listener>(*state_, state_->loops.at(i));
    listener->open(endpoint, true, ec);
    if (ec) return cannot(ec);
    endpoint.port(listener->port());
    listeners.push_back(std::move(listener));
  }
  for (const auto& listener : listeners) {
    listener->listen(state_->params.backlog, ec);
    if (ec) return cannot(ec);
  }
  state_->accept_with(std::move(listeners));
  return {};
}

// A supervisor's sockets are few, and each loop accepts on all of them: whichever is free takes the next connection.
Result<void> Server::listen_on(const std::vector<int>& sockets) {
  if (!state_->listeners.empty() || state_->stopped)
    return Error(Errc::closed, "the server has been listening already");
  ignore_broken_pipes();
  std::vector<std::shared_ptr<Listener>> listeners;
  for (const int given : sockets) {
    const runtime::File socket(given);
    if (!is_listening(socket.fd())) {
      return Error(Errc::config_invalid, fmt::format("descriptor {} is no listening TCP socket", given));
    }
    for (std::size_t i = 0; i < state_->loops.size(); ++i) {
      boost::system::error_code ec;
      auto listener = std::make_shared<Listener>(*state_, state_->loops.at(i));
      listener->take(::fcntl(socket.fd(), F_DUPFD_CLOEXEC, 0), ec);
      if (ec) return Error(Errc::config_invalid, fmt::format("descriptor {}: {}", given, ec.message()));
      listeners.push_back(std::move(listener));
    }
  }
  state_->accept_with(std::move(listeners));
  return {};
}

void Server::State::accept_with(std::vector<std::shared_ptr<Listener>> with) {
  port = with.front()->port();
  if (params.own_listeners) {
    for (const auto& listener : with) {
      const tcp::endpoint at = listener->local();
      params.own_listeners->add(IpAddress::from(*at.data()), at.port());
    }
  }
  listeners = std::move(with);
  for (const auto& listener : listeners) (void)tasks.spawn(listener->executor(), Listener::run(listener));
}

void Server::set_entry(std::shared_ptr<const Entry> entry) {
  {
    const std::scoped_lock lock(state_->entry_mutex);
    state_->entry = entry;
  }
  for (const auto& listener : state_->listeners) {
    asio::post(listener->executor(), [listener, entry] { listener->set_entry(entry); });
  }
}

void Server::exchange_entry(std::shared_ptr<const Entry> entry) {
  const std::scoped_lock lock(state_->entry_mutex);
  state_->entry = entry;
  for (const auto& listener : state_->listeners) listener->set_entry(entry);
}

std::uint16_t Server::port() const noexcept { return state_->port; }

std::size_t Server::connections() const noexcept { return state_->connections.load(std::memory_order_relaxed); }

void Server::stop_accepting() {
  if (state_->stopped.exchange(true)) return;
  for (const auto& listener : state_->listeners) {
    asio::post(listener->executor(), [listener] { listener->stop(); });
  }
}

bool Server::drain(std::chrono::nanoseconds timeout) { return state_->tasks.wait_for(timeout); }

void Server::cancel() {
  stop_accepting();
  state_->tasks.cancel();
}

}  // namespace sluice::http
