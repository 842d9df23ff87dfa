// One request and its answer, as a handler sees them. Abstract, so that handlers are tested without a socket.
//
//   waiting ──send()────────────────────────────────▶ complete
//      └─────begin()──▶ begun ──write(), send_file()──┬──end()──▶ complete
//                                                     └──break_off(), or an error──▶ broken
//
// An answer is either send() once, or begin(), any number of write() and send_file(), and end(). After an error every
// further call gives that error again; the handler just returns. To a HEAD no byte of a body is sent, whatever is
// passed; the calls succeed. Calls out of order give Errc::closed.
//
// Errors: `cancelled` the client went away; `timeout` it took nothing for the send stall time-out; `io`, `corrupt` the
// file could not be read or is shorter than announced. A connection whose answer is not complete is closed with FIN,
// never RST: clients resume after the one and give up after the other.
//
// Owned by the session, on the loop's thread alone. Every Task here must be awaited at once, one at a time: arguments
// need to live no longer than that.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/result.hpp"
#include "http/request.hpp"
#include "runtime/task.hpp"

namespace sluice::runtime {
class File;
}

namespace sluice::http {

// What is known of the page cache. `unknown`: it is asked, and what it lacks is read on the disk pool. `written`: the
// bytes were written a moment ago, so they are there.
enum class Pages : std::uint8_t { unknown, written };

class ReadyAnswer;

class Exchange {
 public:
  virtual ~Exchange() = default;

  // Valid until the handler returns.
  [[nodiscard]] virtual const Request& request() const noexcept = 0;

  // The whole answer in one gathered write. `head` is ResponseHead::str(); its Content-Length, which is added when it
  // is not there, must be that of `body` (any for a HEAD). Suspends only when the socket is full.
  virtual runtime::Task<Result<void>> send(std::string_view head, std::string_view body = {}) = 0;

  // An answer in pieces. `head` has a Content-Length or `Transfer-Encoding: chunked`; chunks are then framed here, and
  // to an HTTP/1.0 client become a body that the end of the connection ends. The head may wait up to 200 ms in the
  // kernel for the first piece of the body, to share a packet with it.
  virtual runtime::Task<Result<void>> begin(std::string_view head) = 0;
  virtual runtime::Task<Result<void>> write(std::span<const std::byte> bytes) = 0;
  // sendfile of exactly these bytes, which must be in the file already. In turns of 256 KiB to 1 MiB, between which
  // others on the loop run.
  virtual runtime::Task<Result<void>> send_file(const runtime::File& file, std::uint64_t offset, std::uint64_t length,
                                                Pages pages) = 0;
  virtual runtime::Task<Result<void>> end() = 0;

  // The body cannot be completed: the connection is closed, unfinished, when the handler returns.
  virtual void break_off() noexcept = 0;
  // `Connection: close` with this answer. Only before send() or begin().
  virtual void close_after() noexcept = 0;

  // A head was handed to send() or begin().
  [[nodiscard]] virtual bool begun() const noexcept = 0;
  // When that was; the epoch until then.
  [[nodiscard]] virtual std::chrono::steady_clock::time_point begun_at() const noexcept = 0;
  // The whole answer was handed to the kernel.
  [[nodiscard]] virtual bool complete() const noexcept = 0;
  // Of the answer; 0 until it has begun.
  [[nodiscard]] virtual unsigned status() const noexcept = 0;
  // Of the body, without chunk framing, that the kernel has taken.
  [[nodiscard]] virtual std::uint64_t body_bytes_sent() const noexcept = 0;
  // The client has closed or reset the connection (one cheap system call): for a handler that waits for something
  // else, which otherwise learns it with its next send. A client that only shut down its sending side counts as gone.
  [[nodiscard]] virtual bool peer_gone() noexcept = 0;

  // Whether the same request head has come before, on a connection that could take a ready answer (ready.hpp): then one
  // is worth making. For a 200 alone, once it is complete.
  [[nodiscard]] virtual bool comes_again() noexcept { return false; }
  // From now on this is tried first when that head comes.
  virtual void answer_again(std::shared_ptr<ReadyAnswer> /*answer*/) {}
};

// Answers requests. One for a server, called on every loop, concurrently; outlives the server.
class Handler {
 public:
  virtual ~Handler() = default;

  // Answers `exchange`, which lives until the returned task is done. An exception, or a return without an answer, is
  // logged and becomes a 500 with the registry's error JSON; a begun answer is broken off instead.
  virtual runtime::Task<void> serve(Exchange& exchange) = 0;
};

}  // namespace sluice::http
