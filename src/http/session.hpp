// One connection from its first byte to its last: reads heads, calls the handler, keeps the connection or closes it.
// Internal to the server.
//
//   idle ──a byte──▶ reading ──whole head──▶ answering ──kept──▶ idle
//     │                 │                        └──not kept──▶ finishing ──▶ closed
//     └──time-out, stop─┴──refused, time-out (answered with an error)──▶ finishing
//
// Owned by its own coroutine (serve_connection), in the server's task group, on one loop's thread.
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "http/connection.hpp"
#include "http/entry.hpp"
#include "http/framing.hpp"
#include "http/request.hpp"
#include "oci/error_code.hpp"

namespace sluice::http {

class SocketExchange;

// What the listener knows of a connection.
struct Arrival {
  std::shared_ptr<const Entry> entry;
  IpAddress address;
  std::uint16_t port = 0;
  bool from_proxy = false;  // a trusted one
  ClientPlace place;
  bool refusing = false;  // one connection too many, whose first request is answered 503
};

class Session {
 public:
  Session(LoopContext& context, Socket socket, Arrival arrival);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  runtime::Task<void> run();

  // Ends the session if it waits for a request of which no byte has come. One that has not come so far, and one of
  // which only a part has come, gets a moment. So does a new connection for its first request: it has heard nothing yet
  // that tells it to go elsewhere.
  void stop_if_idle() noexcept;
  // The next session on the same loop.
  [[nodiscard]] Session* next() const noexcept { return next_; }

 private:
  enum class Read : std::uint8_t { head, tls_hello, refused, timed_out, closed };

  // What became of a head that a ready answer was looked for.
  enum class Ready : std::uint8_t {
    none,        // there is none: the long way
    kept,        // it is sent, and the connection goes on
    unfinished,  // finish_ready sends the rest
    closed,      // it could not be sent
  };
  struct ReadyTransfer;

  struct Denial {
    unsigned status;
    oci::ErrorCode code;
    std::string_view reason;
    std::chrono::seconds retry_after;
  };

  // session_entry.cpp
  runtime::Task<bool> enter();
  [[nodiscard]] std::chrono::milliseconds entry_timeout() const;
  runtime::Task<bool> read_proxy_header();
  bool takes_place(const IpAddress& address, std::uint16_t port);
  void renew_entry();
  std::optional<Denial> check_client();
  runtime::Task<void> wait_for_turn();

  // session_ready.cpp
  Ready answer_first(std::size_t n);
  Ready answer_ready(std::string_view head);
  runtime::Task<bool> finish_ready();
  [[nodiscard]] bool may_be_ready() const noexcept;
  void end_ready(ReadyAnswer& answer, const ReadyUse& use, std::uint64_t body_bytes);
  void break_ready(ReadyAnswer& answer, const ReadyUse& use, std::uint64_t body_bytes, std::string_view request_line,
                   const Error& error);

  void begin_idle();
  void end_idle(const boost::system::error_code& error);
  runtime::Task<Read> read_head();
  std::optional<Read> check_head(HeadScanner& scanner);
  Read after_failed_read(const boost::system::error_code& error) noexcept;
  runtime::Task<bool> serve_head();
  runtime::Task<void> serve_handler(SocketExchange& exchange, bool& failed);
  runtime::Task<void> answer_error(SocketExchange& exchange, Denial denial);
  runtime::Task<void> answer_error(SocketExchange& exchange, unsigned status, std::string_view reason);
  runtime::Task<void> refuse(Refusal refusal);
  runtime::Task<void> refuse_tls();
  void report_unfinished(const SocketExchange& exchange, bool failed);
  void arm_for_read(bool waiting_for_first_byte);
  [[nodiscard]] std::size_t most_to_read(std::size_t received) const noexcept;
  Connection::Received receive_more();
  void take_in(std::string_view bytes);
  void consume_head();
  void give_back() noexcept;

  LoopContext& context_;
  Connection connection_;
  std::shared_ptr<const Entry> entry_;
  IpAddress address_;  // of the client, or of the last proxy that is believed
  std::string peer_;   // the same with its port
  bool from_proxy_;    // address_ is a trusted proxy's, so that X-Forwarded-For counts
  bool admitted_ = true;
  ClientPlace place_;
  std::string forwarded_;                 // whom the request's X-Forwarded-For names
  std::shared_ptr<ClientAccount> rated_;  // whose rate counts: that of rated_address_
  IpAddress rated_address_;
  std::chrono::nanoseconds wait_for_turn_{0};
  Request request_;
  const bool refusing_;
  bool idle_ = false;
  bool entering_ = false;  // a PROXY header or a handshake is under way
  bool in_head_ = false;   // some of a head is there, and its deadline is armed
  bool first_request_ = true;
  // Where an idle connection waits for the next head. The head is then copied into a buffer that lives as long as the
  // request. Most heads fit, so they cost one recv; an idle connection still stays below 4 KiB.
  std::array<char, 320> first_;
  std::unique_ptr<char[]> buffer_;
  std::size_t capacity_ = 0;
  std::size_t size_ = 0;
  std::size_t head_begin_ = 0;
  std::size_t head_end_ = 0;
  Refusal refusal_;
  std::shared_ptr<ReadyTransfer> unfinished_;  // between answer_ready and finish_ready
  Session* previous_ = nullptr;
  Session* next_ = nullptr;
};

// Runs a session on a socket until it is closed. `context` outlives the server's tasks.
runtime::Task<void> serve_connection(LoopContext& context, Socket socket, ConnectionCount count, Arrival arrival);

}  // namespace sluice::http
