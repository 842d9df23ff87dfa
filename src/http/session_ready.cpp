// What a session answers by itself, without a coroutine: ready answers (ready.hpp).
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <string>

#include <fmt/format.h>

#include "base/log.hpp"
#include "http/session.hpp"
#include "runtime/filesystem.hpp"

namespace sluice::http {

using runtime::Task;
using namespace std::chrono_literals;

namespace {

// A file that was sent so lately has its pages in memory.
constexpr auto kWarm = 1s;

std::uint64_t first_piece(const ReadyUse& use) noexcept {
  return std::min<std::uint64_t>(use.file_size, Connection::kTurnBytes);
}

}  // namespace

// An answer of which the socket has not taken all yet, or which takes more than a turn.
struct Session::ReadyTransfer {
  std::shared_ptr<ReadyAnswer> answer;
  ReadyUse use;
  HeadTail::Text tail;
  std::size_t sent = 0;  // of the head, its tail and the bytes
  std::uint64_t file_sent = 0;
  std::string request_line;

  [[nodiscard]] Gather rest() const noexcept {
    Gather out;
    out.add(answer->head());
    out.add(tail.view());
    out.add(use.bytes);
    out.consume(sent);
    return out;
  }
};

// What has been received, `n` bytes in first_ and what else is there, is answered or taken in.
Session::Ready Session::answer_first(std::size_t n) {
  std::string_view received(first_.data(), n);
  if (n == first_.size()) {
    // The end of the connection, if it follows at once, is seen again by the next read.
    const Connection::Received more = connection_.receive_now(std::min(most_to_read(n), Connection::kReadBytes - n));
    char* const all = connection_.received();
    std::memmove(all + n, all, more.bytes);
    std::memcpy(all, first_.data(), n);
    received = {all, n + more.bytes};
  }
  const Ready ready = answer_ready(received);
  if (ready == Ready::none) take_in(received);
  return ready;
}

// Whether the request that `head` holds, and nothing else, may be answered without a look at it.
bool Session::may_be_ready() const noexcept {
  return connection_.params().ready_answers && !context_.stopping && !refusing_ && admitted_ &&
         entry_ == context_.entry && !entry_->looks_at_requests() && !connection_.is_tls();
}

Session::Ready Session::answer_ready(std::string_view head) {
  if (head.size() > ReadyAnswers::kMaxHeadBytes || !may_be_ready()) return Ready::none;
  const std::shared_ptr<ReadyAnswer>* const found = context_.ready.find(head);
  if (found == nullptr) return Ready::none;
  ReadyAnswer& answer = **found;
  ReadyUse use;
  if (!answer.prepare(use)) {
    context_.ready.drop(head);
    return Ready::none;
  }
  const bool is_warm = use.file == nullptr || use.started - answer.sent_at < kWarm ||
                       connection_.is_resident(use.file->fd(), 0, first_piece(use));
  if (!is_warm) return Ready::none;

  connection_.metrics().requests.add();
  connection_.metrics().ready.add();
  const HeadTail::Text tail = context_.tail.get(HeadTail::Connection::implied);
  Gather gather;
  gather.add(answer.head());
  gather.add(tail.view());
  gather.add(use.bytes);
  const std::size_t all = gather.remaining();
  Result<bool> sent = connection_.send_now(gather, use.file != nullptr ? MSG_MORE : 0);
  std::uint64_t file_sent = 0;
  if (sent && *sent && use.file != nullptr) {
    sent = connection_.send_file_now(use.file->fd(), 0, first_piece(use), file_sent);
    if (sent && *sent) sent = file_sent == use.file_size;
  }
  if (sent && !*sent) {
    answer.note_unfinished(use);
    const std::string_view line = head.substr(0, head.find(" HTTP/"));
    unfinished_ = std::make_shared<ReadyTransfer>(
        ReadyTransfer{*found, std::move(use), tail, all - gather.remaining(), file_sent, std::string(line)});
    return Ready::unfinished;
  }
  const std::size_t body_left = std::min(gather.remaining(), use.bytes.size());
  const std::uint64_t body_bytes = use.bytes.size() - body_left + file_sent;
  if (sent) {
    end_ready(answer, use, body_bytes);
    return Ready::kept;
  }
  break_ready(answer, use, body_bytes, head.substr(0, head.find(" HTTP/")), sent.error());
  return Ready::closed;
}

void Session::end_ready(ReadyAnswer& answer, const ReadyUse& use, std::uint64_t body_bytes) {
  if (use.file != nullptr) answer.sent_at = use.started;
  answer.over(use, {request_.peer(), body_bytes, true});
  first_request_ = false;
  connection_.count_request();
}

void Session::break_ready(ReadyAnswer& answer, const ReadyUse& use, std::uint64_t body_bytes,
                          std::string_view request_line, const Error& error) {
  answer.over(use, {request_.peer(), body_bytes, false});
  if (use.file != nullptr && (error.code == Errc::io || error.code == Errc::corrupt)) answer.file_failed();
  connection_.metrics().broken_off.add();
  if (!log::enabled(log::Level::debug)) return;
  log::debug(context_.server.params.name,
             fmt::format("{} to {} ended after {} bytes: {}", request_line, peer_, body_bytes, error.message));
}

// Sends what is left of a ready answer. Whether the connection goes on.
Task<bool> Session::finish_ready() {
  const std::shared_ptr<ReadyTransfer> transfer = std::move(unfinished_);
  const ReadyUse& use = transfer->use;
  Gather rest = transfer->rest();
  Result<void> sent = co_await connection_.send_rest(rest, use.file != nullptr ? MSG_MORE : 0);
  if (sent && use.file != nullptr) {
    const std::uint64_t from = transfer->file_sent;
    sent = co_await connection_.send_file(use.file->fd(), {from, use.file_size - from, Pages::unknown},
                                          transfer->file_sent);
  }
  const std::size_t body_left = std::min(rest.remaining(), use.bytes.size());
  const std::uint64_t body_bytes = use.bytes.size() - body_left + transfer->file_sent;
  if (!sent) {
    break_ready(*transfer->answer, use, body_bytes, transfer->request_line, sent.error());
    co_return false;
  }
  end_ready(*transfer->answer, use, body_bytes);
  co_return true;
}

}  // namespace sluice::http
