#include "http/socket_exchange.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "base/log.hpp"
#include "runtime/filesystem.hpp"

namespace sluice::http {

using runtime::Task;

namespace {

// A part that is asked for may be broken off: containerd asks for the rest of a blob and reads a piece. Up to this it
// is not worth a bound.
constexpr std::uint64_t kShortBytes = std::uint64_t{256} << 10;

struct Digits {
  std::array<char, 40> text{};
  std::size_t size = 0;
  [[nodiscard]] std::string_view view() const noexcept { return {text.data(), size}; }
};

Digits chunk_head(std::uint64_t bytes) noexcept {
  Digits digits;
  char* end = std::to_chars(digits.text.data(), digits.text.data() + 16, bytes, 16).ptr;
  *end++ = '\r';
  *end++ = '\n';
  digits.size = static_cast<std::size_t>(end - digits.text.data());
  return digits;
}

Digits length_field(std::uint64_t bytes) noexcept {
  constexpr std::string_view kName = "Content-Length: ";
  Digits digits;
  char* const number = std::copy(kName.begin(), kName.end(), digits.text.data());
  char* end = std::to_chars(number, number + 20, bytes).ptr;
  *end++ = '\r';
  *end++ = '\n';
  digits.size = static_cast<std::size_t>(end - digits.text.data());
  return digits;
}

}  // namespace

HeadTail::Text SocketExchange::tail() {
  using Tail = HeadTail::Connection;
  // An answer that starts after the server began to stop is the last one of its connection.
  if (connection_.context().stopping) keep_alive_ = false;
  const Tail kept = request_.version() >= 11 ? Tail::implied : Tail::keep_alive;
  return connection_.context().tail.get(keep_alive_ ? kept : Tail::close);
}

Error SocketExchange::fail(Error error) {
  phase_ = Phase::broken;
  failure_ = error;
  return error;
}

Error SocketExchange::misuse(std::string_view what) const {
  if (failure_) return *failure_;
  log::error(connection_.params().name,
             fmt::format("a handler's answer to {} {}: {}", request_.method(), request_.path(), what));
  return {Errc::closed, std::string(what)};
}

// Sends, and keeps count of how much of the body, which has `behind_body` bytes of framing after it, has gone out.
Task<Result<void>> SocketExchange::send_all(Gather gather, int flags, std::size_t body_bytes, std::size_t behind_body) {
  Result<bool> now = connection_.send_now(gather, flags);
  Result<void> sent{};
  if (!now) {
    sent = now.error();
  } else if (!*now) {
    sent = co_await connection_.send_rest(gather, flags);
  }
  const std::size_t left = gather.remaining() - std::min(gather.remaining(), behind_body);
  body_sent_ += body_bytes - std::min(left, body_bytes);
  if (!sent) co_return fail(sent.error());
  co_return Result<void>{};
}

Task<Result<void>> SocketExchange::send(std::string_view head, std::string_view body) {
  if (phase_ != Phase::waiting) co_return misuse("sent twice");
  const HeadFacts facts = read_head(head);
  const bool with_body = !request_.is_head() && !bodiless(facts.status);
  if (facts.is_chunked || (with_body && facts.has_length && facts.length != body.size())) {
    co_return misuse("its head announces another length");
  }
  facts_ = facts;
  begun_at_ = std::chrono::steady_clock::now();
  phase_ = Phase::begun;
  Gather gather;
  gather.add(head);
  Digits length;
  if (with_body && !facts.has_length) {
    length = length_field(body.size());
    gather.add(length.view());
  }
  const HeadTail::Text rest = tail();
  gather.add(rest.view());
  if (with_body) gather.add(body);
  const std::size_t body_bytes = with_body ? body.size() : 0;
  // Nearly every small answer ends here, without another coroutine.
  if (const Result<bool> now = connection_.send_now(gather, 0); now && *now) {
    body_sent_ = body_bytes;
    phase_ = Phase::complete;
    co_return Result<void>{};
  }
  const Result<void> sent = co_await send_all(gather, 0, body_bytes, 0);
  if (sent) phase_ = Phase::complete;
  co_return sent;
}

Task<Result<void>> SocketExchange::begin(std::string_view head) {
  if (phase_ != Phase::waiting) co_return misuse("begun twice");
  const HeadFacts facts = read_head(head);
  if (!facts.has_length && !facts.is_chunked && !request_.is_head() && !bodiless(facts.status)) {
    co_return misuse("its head announces no length");
  }
  facts_ = facts;
  begun_at_ = std::chrono::steady_clock::now();
  phase_ = Phase::begun;
  framed_ = facts.is_chunked && request_.version() >= 11;
  Gather gather;
  if (facts.is_chunked && !framed_) {
    keep_alive_ = false;
    gather.add(head.substr(0, facts.chunked_at));
    gather.add(head.substr(facts.chunked_at + facts.chunked_bytes));
  } else {
    gather.add(head);
  }
  const HeadTail::Text rest = tail();
  gather.add(rest.view());
  // With MSG_MORE the head shares a packet with the first bytes of the body, as TCP_CORK would do it with two more
  // system calls and an uncork to forget. The kernel waits 200 ms at most.
  const bool body_follows = sends_body() && (facts.is_chunked || facts.length > 0);
  if (body_follows && facts.status == 206 && facts.length > kShortBytes) connection_.bound_unsent();
  co_return co_await send_all(gather, body_follows ? MSG_MORE : 0, 0, 0);
}

std::optional<Error> SocketExchange::may_add(std::uint64_t bytes) {
  if (phase_ != Phase::begun) return misuse("a body without a head");
  if (facts_.has_length && bytes > facts_.length - body_sent_ && sends_body()) {
    return fail(misuse("its body is longer than announced"));
  }
  return std::nullopt;
}

Task<Result<void>> SocketExchange::write(std::span<const std::byte> bytes) {
  if (auto error = may_add(bytes.size())) co_return *error;
  if (!sends_body() || bytes.empty()) co_return Result<void>{};
  if (connection_.turn_is_over()) co_await connection_.yield();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  Gather gather;
  Digits head;
  if (framed_) {
    head = chunk_head(bytes.size());
    gather.add(head.view());
  }
  gather.add(text);
  if (framed_) gather.add("\r\n");
  co_return co_await send_all(gather, 0, bytes.size(), framed_ ? 2 : 0);
}

Task<Result<void>> SocketExchange::send_file(const runtime::File& file, std::uint64_t offset, std::uint64_t length,
                                             Pages pages) {
  if (auto error = may_add(length)) co_return *error;
  if (!sends_body() || length == 0) co_return Result<void>{};
  if (framed_) {
    const Digits head = chunk_head(length);
    Gather gather;
    gather.add(head.view());
    const Result<void> sent = co_await send_all(gather, MSG_MORE, 0, 0);
    if (!sent) co_return sent.error();
  }
  const Result<void> sent = co_await connection_.send_file(file.fd(), {offset, length, pages}, body_sent_);
  if (!sent) co_return fail(sent.error());
  if (!framed_) co_return Result<void>{};
  Gather gather;
  gather.add("\r\n");
  co_return co_await send_all(gather, 0, 0, 0);
}

Task<Result<void>> SocketExchange::end() {
  if (phase_ != Phase::begun) co_return misuse("ended without a head");
  if (sends_body() && facts_.has_length && body_sent_ != facts_.length) {
    co_return fail(misuse("its body is shorter than announced"));
  }
  if (framed_ && sends_body()) {
    Gather gather;
    gather.add("0\r\n\r\n");
    const Result<void> sent = co_await send_all(gather, 0, 0, 0);
    if (!sent) co_return sent.error();
  }
  phase_ = Phase::complete;
  co_return Result<void>{};
}

void SocketExchange::break_off() noexcept {
  if (phase_ == Phase::complete) return;
  phase_ = Phase::broken;
  keep_alive_ = false;
}

void SocketExchange::close_after() noexcept { keep_alive_ = false; }

}  // namespace sluice::http
