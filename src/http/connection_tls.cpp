// A connection that speaks TLS: records are made in memory and sent in pieces of 64 KiB, which costs a quarter less
// than a write for each record.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "http/connection.hpp"

namespace sluice::http {

namespace asio = runtime::asio;
using runtime::Task;

namespace {

// The first byte of a ClientHello's record (RFC 8446 section 5.1).
constexpr char kHandshakeRecord = 0x16;

// So much may come in a row without a byte for the application.
constexpr std::size_t kMaxSilentBytes = Connection::kTlsPieceBytes;

bool begins_a_method(char c) noexcept { return c >= 'A' && c <= 'Z'; }

}  // namespace

char* Connection::tls_scratch() {
  if (!context_.tls_scratch) context_.tls_scratch = std::make_unique_for_overwrite<char[]>(kTlsPieceBytes);
  return context_.tls_scratch.get();
}

// True: all of it has gone out.
Result<bool> Connection::flush_tls(int flags) noexcept {
  while (!tls_->output().empty()) {
    const std::string_view out = tls_->output();
    const ssize_t n = ::send(socket_.native_handle(), out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT | flags);
    if (n >= 0) {
      tls_->consume_output(static_cast<std::size_t>(n));
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

// A piece of what `gather` has; small parts share a record.
bool Connection::encrypt_some(Gather& gather) {
  char* const scratch = tls_scratch();
  const iovec& first = *gather.parts();
  if (first.iov_len >= kTlsPieceBytes) {
    const std::string_view piece(static_cast<const char*>(first.iov_base), kTlsPieceBytes);
    if (!tls_->write(piece)) return false;
    gather.consume(piece.size());
    return true;
  }
  std::size_t size = 0;
  for (std::size_t i = 0; i < gather.count() && size < kTlsPieceBytes; ++i) {
    const iovec& part = gather.parts()[i];
    const std::size_t n = std::min(part.iov_len, kTlsPieceBytes - size);
    std::memcpy(&scratch[size], part.iov_base, n);
    size += n;
  }
  if (!tls_->write({scratch, size})) return false;
  gather.consume(size);
  return true;
}

Result<bool> Connection::send_tls_now(Gather& gather, int flags) {
  for (;;) {
    const Result<bool> flushed = flush_tls(flags);
    if (!flushed || !*flushed) return flushed;
    if (gather.remaining() == 0) return true;
    if (!encrypt_some(gather)) return Error(Errc::cancelled, "TLS: " + tls_->why());
  }
}

Task<Result<void>> Connection::send_file_tls(int fd, FilePart part, std::uint64_t& sent) {
  std::uint64_t offset = part.offset;
  const std::uint64_t end = offset + part.length;
  std::uint64_t known_resident = must_be_looked_at(part) ? offset : end;
  Gather nothing;
  while (offset < end) {
    if (turn_bytes_ >= kTurnBytes) co_await yield();
    if (offset >= known_resident) {
      const auto turn = static_cast<std::size_t>(std::min<std::uint64_t>(end - offset, kTurnBytes));
      const Result<void> ready = co_await ensure_resident(fd, offset, turn);
      if (!ready) co_return ready.error();
      known_resident = offset + turn;
    }
    const auto piece = static_cast<std::size_t>(std::min<std::uint64_t>(end - offset, kTlsPieceBytes));
    const ssize_t n = ::pread(fd, tls_scratch(), piece, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) co_return errno_error(errno, "read a file to send");
    if (n == 0) co_return Error(Errc::corrupt, "the file is shorter than what is to be sent");
    if (!tls_->write({tls_scratch(), static_cast<std::size_t>(n)})) {
      co_return Error(Errc::cancelled, "TLS: " + tls_->why());
    }
    const Result<void> flushed = co_await send_rest(nothing, 0);
    if (!flushed) co_return flushed.error();
    offset += static_cast<std::uint64_t>(n);
    sent += static_cast<std::uint64_t>(n);
  }
  co_return Result<void>{};
}

// Into tls_scratch, and from there to the stream; returns how much. 0: nothing is there, and `end` says why nothing
// more will come, if so.
std::size_t Connection::feed_tls(boost::system::error_code& end) {
  char* const scratch = tls_scratch();
  const ssize_t n = ::recv(socket_.native_handle(), scratch, kTlsPieceBytes, MSG_DONTWAIT);
  if (n > 0) {
    tls_->feed({scratch, static_cast<std::size_t>(n)});
    return static_cast<std::size_t>(n);
  }
  if (n == 0) {
    end = asio::error::make_error_code(asio::error::eof);
  } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
    end = boost::system::error_code(errno, boost::system::system_category());
  }
  return 0;
}

Task<Connection::Received> Connection::receive_tls(std::size_t size) {
  size = std::min(size, kReadBytes);
  std::size_t fed = 0;
  for (;;) {
    std::size_t n = 0;
    const TlsStream::Step step = tls_->read({received(), size}, n);
    // An answer to a key update (RFC 8446 section 4.6.3); it goes with the next answer where the socket is full.
    if (const Result<bool> flushed = flush_tls(0); !flushed) {
      co_return Received{asio::error::make_error_code(asio::error::connection_reset), 0};
    }
    if (step == TlsStream::Step::done) co_return Received{{}, n};
    if (step != TlsStream::Step::need_input) {
      co_return Received{asio::error::make_error_code(asio::error::eof), 0};
    }
    tls_->shrink();
    // A record that says something is far smaller: these are key updates without end, or the like.
    if (fed > kMaxSilentBytes) co_return Received{asio::error::make_error_code(asio::error::connection_aborted), 0};
    boost::system::error_code end;
    if (const std::size_t more = feed_tls(end); more != 0) {
      fed += more;
      continue;
    }
    if (end) co_return Received{end, 0};
    const auto [error] = co_await socket_.async_wait(Socket::wait_read, runtime::kAwaitTuple);
    if (error) co_return Received{error, 0};
    if (deadline_.expired()) co_return Received{asio::error::make_error_code(asio::error::operation_aborted), 0};
  }
}

std::string Connection::tls_failure() const {
  if (!tls_) return "the client did not speak TLS";
  return tls_->why().empty() ? "the client closed the connection" : tls_->why();
}

Task<Connection::Handshake> Connection::start_tls(std::shared_ptr<const TlsServerContext> context, std::string early,
                                                  std::chrono::milliseconds timeout) {
  tls_ = std::make_unique<TlsStream>(*context);
  bool begun = false;
  deadline_.arm(timeout);
  std::string first = std::move(early);
  for (;;) {
    if (!begun && !first.empty()) {
      if (first[0] != kHandshakeRecord) {
        tls_.reset();
        deadline_.disarm();
        const bool http = begins_a_method(first[0]);
        co_return http ? Handshake::plain_http : Handshake::failed;
      }
      begun = true;
      tls_->feed(first);
      first.clear();
    }
    if (begun) {
      const TlsStream::Step step = tls_->handshake();
      for (;;) {
        const Result<bool> flushed = flush_tls(0);
        if (!flushed) co_return Handshake::closed;
        if (*flushed) break;
        const auto [full] = co_await socket_.async_wait(Socket::wait_write, runtime::kAwaitTuple);
        if (full || deadline_.expired()) co_return deadline_.expired() ? Handshake::timed_out : Handshake::closed;
      }
      if (step == TlsStream::Step::done) break;
      if (step != TlsStream::Step::need_input) co_return Handshake::failed;
    }
    const auto [error] = co_await socket_.async_wait(Socket::wait_read, runtime::kAwaitTuple);
    if (error || deadline_.expired()) co_return deadline_.expired() ? Handshake::timed_out : Handshake::closed;
    char* const scratch = tls_scratch();
    const ssize_t n = ::recv(socket_.native_handle(), scratch, kTlsPieceBytes, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n <= 0) co_return Handshake::closed;
    if (begun) {
      tls_->feed({scratch, static_cast<std::size_t>(n)});
    } else {
      first.assign(scratch, static_cast<std::size_t>(n));
    }
  }
  deadline_.disarm();
  co_return Handshake::done;
}

}  // namespace sluice::http
