#include "http/connection.hpp"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include <boost/asio/post.hpp>

#include "http/response_head.hpp"
#include "runtime/disk_pool.hpp"

namespace sluice::http {

namespace asio = runtime::asio;
using runtime::Task;

void HeadTail::set(Connection connection, std::string_view date, std::string_view field) noexcept {
  Text& text = texts_[static_cast<std::size_t>(connection)];
  text.size = 0;
  for (const std::string_view part : {std::string_view("Date: "), date, field, std::string_view("\r\n\r\n")}) {
    std::copy(part.begin(), part.end(), text.bytes.begin() + static_cast<std::ptrdiff_t>(text.size));
    text.size += part.size();
  }
}

HeadTail::Text HeadTail::get(Connection connection) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  if (now.tv_sec != second_) {
    second_ = now.tv_sec;
    const std::string date = http_date(second_);
    set(Connection::implied, date, "");
    set(Connection::keep_alive, date, "\r\nConnection: keep-alive");
    set(Connection::close, date, "\r\nConnection: close");
  }
  return texts_[static_cast<std::size_t>(connection)];
}

void Gather::consume(std::size_t bytes) noexcept {
  remaining_ -= bytes;
  while (bytes > 0) {
    iovec& part = parts_[first_];
    if (bytes < part.iov_len) {
      part.iov_base = static_cast<char*>(part.iov_base) + bytes;
      part.iov_len -= bytes;
      return;
    }
    bytes -= part.iov_len;
    ++first_;
  }
}

Connection::Connection(LoopContext& context, Socket socket)
    : context_(context), socket_(std::move(socket)), deadline_(context.loop, [this] {
        boost::system::error_code ignored;
        socket_.cancel(ignored);
      }) {}

Connection::~Connection() {
  // The session may have been cut anywhere. What the client has sent so far must not turn the close into an RST.
  const int fd = socket_.native_handle();
  if (!finished_ && ::shutdown(fd, SHUT_WR) == 0) drop_input(params().linger_bytes);
}

void Connection::drop_input(std::size_t at_most) noexcept {
  for (std::size_t dropped = 0; dropped < at_most;) {
    // MSG_TRUNC: thrown away in the kernel (tcp(7)).
    const ssize_t n = ::recv(socket_.native_handle(), nullptr, kTurnBytes, MSG_TRUNC | MSG_DONTWAIT);
    if (n <= 0) return;
    dropped += static_cast<std::size_t>(n);
  }
}

Result<void> Connection::send_error(int error) noexcept {
  if (error == EPIPE || error == ECONNRESET || error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH) {
    linger_ = false;
    return Error(Errc::cancelled, "the client closed the connection");
  }
  return errno_error(error, "send");
}

void Connection::bound_unsent() noexcept {
  const int bytes = params().unsent_bytes;
  if (unsent_bounded_ || bytes == 0) return;
  unsent_bounded_ = true;
  // Where the kernel does not know it, more is sent in vain.
  (void)::setsockopt(socket_.native_handle(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
}

char* Connection::received() {
  if (!context_.read_scratch) context_.read_scratch = std::make_unique_for_overwrite<char[]>(kReadBytes);
  return context_.read_scratch.get();
}

Connection::Received Connection::receive_now(std::size_t size) {
  for (;;) {
    const ssize_t n = ::recv(socket_.native_handle(), received(), std::min(size, kReadBytes), MSG_DONTWAIT);
    if (n > 0) return {{}, static_cast<std::size_t>(n)};
    if (n == 0) return {asio::error::make_error_code(asio::error::eof), 0};
    if (errno == EAGAIN || errno == EWOULDBLOCK) return {};
    if (errno != EINTR) return {{errno, boost::system::system_category()}, 0};
  }
}

Result<bool> Connection::send_now(Gather& gather, int flags) {
  if (tls_) [[unlikely]]
    return send_tls_now(gather, flags);
  while (gather.remaining() > 0) {
    msghdr message{};
    message.msg_iov = gather.parts();
    message.msg_iovlen = gather.count();
    const ssize_t n = ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT | flags);
    if (n >= 0) {
      gather.consume(static_cast<std::size_t>(n));
      turn_bytes_ += static_cast<std::size_t>(n);
      metrics().sent_bytes.add(static_cast<std::uint64_t>(n));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return false;
    } else if (errno != EINTR) {
      return send_error(errno).error();
    }
  }
  return true;
}

Task<Result<void>> Connection::wait_writable() {
  new_turn();
  deadline_.arm(params().send_timeout);
  const auto [error] = co_await socket_.async_wait(Socket::wait_write, runtime::kAwaitTuple);
  deadline_.disarm();
  if (!error) co_return Result<void>{};
  linger_ = false;
  if (!deadline_.expired()) co_return Error(Errc::cancelled, "the connection was closed");
  metrics().send_timeouts.add();
  co_return Error(Errc::timeout, "client stalled: send timeout");
}

Task<Result<void>> Connection::send_rest(Gather& gather, int flags) {
  for (;;) {
    const Result<bool> sent = send_now(gather, flags);
    if (!sent) co_return sent.error();
    if (*sent) co_return Result<void>{};
    const Result<void> writable = co_await wait_writable();
    if (!writable) co_return writable.error();
  }
}

Task<void> Connection::yield() {
  new_turn();
  co_await asio::post(socket_.get_executor(), runtime::kAwait);
}

namespace {

// Whether a byte is in the page cache. RWF_NOWAIT gives EAGAIN where it is not; a file system that does not know it is
// taken to be warm.
bool resident(int fd, std::uint64_t at) noexcept {
  char byte = 0;
  const iovec part{&byte, 1};
  return ::preadv2(fd, &part, 1, static_cast<off_t>(at), RWF_NOWAIT) >= 0 || errno != EAGAIN;
}

// The first and the last byte stand for all.
bool resident(int fd, std::uint64_t offset, std::size_t length) noexcept {
  return resident(fd, offset) && resident(fd, offset + length - 1);
}

// Blocks until the bytes have been in memory once; starts reading what lies behind them.
int read_through(int fd, std::uint64_t offset, std::size_t length) {
  constexpr std::size_t kPiece = std::size_t{64} << 10;
  (void)::posix_fadvise(fd, static_cast<off_t>(offset), static_cast<off_t>(4 * length), POSIX_FADV_WILLNEED);
  std::vector<char> scratch(std::min(length, kPiece));
  while (length > 0) {
    const ssize_t n = ::pread(fd, scratch.data(), std::min(length, scratch.size()), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return 0;  // sendfile will find the end too
    offset += static_cast<std::uint64_t>(n);
    length -= static_cast<std::size_t>(n);
  }
  return 0;
}

}  // namespace

bool Connection::is_resident(int fd, std::uint64_t offset, std::size_t length) const noexcept {
  return params().disk_pool == nullptr || resident(fd, offset, length);
}

// Where nobody reads for the loop, everything is taken to be in memory.
bool Connection::must_be_looked_at(const FilePart& part) const noexcept {
  return part.pages == Pages::unknown && params().disk_pool != nullptr;
}

Task<Result<void>> Connection::ensure_resident(int fd, std::uint64_t offset, std::size_t length) {
  if (resident(fd, offset, length)) co_return Result<void>{};
  co_return co_await warm(fd, offset, length);
}

Task<Result<void>> Connection::warm(int fd, std::uint64_t offset, std::size_t length) {
  metrics().cold_reads.add();
  const auto read = [fd, offset, length] { return read_through(fd, offset, length); };
  const int error = co_await runtime::offload(*params().disk_pool, read, runtime::Lane::fast);
  new_turn();
  if (error != 0) co_return errno_error(error, "read a file to send");
  co_return Result<void>{};
}

class Connection::SendingFile {
 public:
  explicit SendingFile(LoopContext& context) noexcept : context_(context) { ++context_.sending_files; }
  SendingFile(const SendingFile&) = delete;
  SendingFile& operator=(const SendingFile&) = delete;
  ~SendingFile() { --context_.sending_files; }

 private:
  LoopContext& context_;
};

namespace {

std::int64_t coarse_ms() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace

void Connection::count_request() noexcept {
  ++turn_requests_;
  context_.last_request_ms = coarse_ms();
}

std::size_t Connection::file_turn_bytes() const noexcept {
  constexpr std::int64_t kQuietMs = 100;
  if (coarse_ms() - context_.last_request_ms > kQuietMs) return kFileTurnBytes;
  return std::clamp(kFileRoundBytes / std::max<std::size_t>(context_.sending_files, 1), kTurnBytes, kFileTurnBytes);
}

Task<Result<void>> Connection::send_file(int fd, FilePart part, std::uint64_t& sent) {
  if (tls_) co_return co_await send_file_tls(fd, part, sent);
  const SendingFile sending(context_);
  std::uint64_t offset = part.offset;
  const std::uint64_t end = offset + part.length;
  std::uint64_t known_resident = must_be_looked_at(part) ? offset : end;
  while (offset < end) {
    const std::size_t turn = file_turn_bytes();
    if (turn_bytes_ >= turn) co_await yield();
    if (offset >= known_resident) {
      auto piece = static_cast<std::size_t>(std::min<std::uint64_t>(end - offset, kFileTurnBytes));
      const bool follows = offset > part.offset;  // the byte before has just been sent
      if (!(follows ? resident(fd, offset + piece - 1) : resident(fd, offset, piece))) {
        // The first bytes from a slow disk need not wait for more than a small turn.
        piece = std::min(piece, kTurnBytes);
        const Result<void> warmed = co_await warm(fd, offset, piece);
        if (!warmed) co_return warmed.error();
      }
      known_resident = offset + piece;
    }
    const std::uint64_t piece = std::min<std::uint64_t>(known_resident - offset, turn);
    const std::uint64_t before = sent;
    const Result<bool> now = send_file_now(fd, offset, piece, sent);
    offset += sent - before;
    if (!now) co_return now.error();
    if (*now) continue;
    const Result<void> writable = co_await wait_writable();
    if (!writable) co_return writable.error();
  }
  co_return Result<void>{};
}

Result<bool> Connection::send_file_now(int fd, std::uint64_t offset, std::uint64_t length,
                                       std::uint64_t& sent) noexcept {
  const std::uint64_t end = offset + length;
  while (offset < end) {
    auto at = static_cast<off_t>(offset);
    const ssize_t n = ::sendfile(socket_.native_handle(), fd, &at, end - offset);
    if (n > 0) {
      offset += static_cast<std::uint64_t>(n);
      sent += static_cast<std::uint64_t>(n);
      turn_bytes_ += static_cast<std::size_t>(n);
      metrics().sent_bytes.add(static_cast<std::uint64_t>(n));
    } else if (n == 0) {
      return Error(Errc::corrupt, "the file is shorter than what is to be sent");
    } else if (errno == EAGAIN) {
      return false;
    } else if (errno != EINTR) {
      return send_error(errno).error();
    }
  }
  return true;
}

Task<void> Connection::finish() {
  const int fd = socket_.native_handle();
  if (!linger_) co_return;  // the destructor does what is left
  if (tls_ && close_notify_) {
    tls_->close_notify();
    (void)flush_tls(0);  // a client that takes no bytes gets none
  }
  if (::shutdown(fd, SHUT_WR) != 0) co_return;
  deadline_.arm(params().linger_timeout);
  std::size_t dropped = 0;
  while (dropped < params().linger_bytes) {
    const ssize_t n = ::recv(fd, nullptr, kTurnBytes, MSG_TRUNC | MSG_DONTWAIT);
    if (n > 0) {
      dropped += static_cast<std::size_t>(n);
      continue;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) break;
    const auto [error] = co_await socket_.async_wait(Socket::wait_read, runtime::kAwaitTuple);
    // Expired as well when the time ran out just as bytes came in.
    if (error || deadline_.expired()) break;
  }
  finished_ = true;
  deadline_.disarm();
}

bool Connection::peer_gone() noexcept {
  pollfd entry{socket_.native_handle(), POLLRDHUP, 0};
  return ::poll(&entry, 1, 0) > 0 && (entry.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

}  // namespace sluice::http
