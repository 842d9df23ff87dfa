// The Exchange of a session: frames an answer and sends it on a Connection. Internal to the server.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "http/connection.hpp"
#include "http/exchange.hpp"
#include "http/ready.hpp"
#include "http/response_head.hpp"

namespace sluice::http {

class SocketExchange final : public Exchange {
 public:
  enum class Phase : std::uint8_t { waiting, begun, complete, broken };

  // `head`: the bytes of the request, where a ready answer may be kept for them; else empty.
  SocketExchange(Connection& connection, const Request& request, bool keep_alive, std::string_view head = {}) noexcept
      : connection_(connection), request_(request), keep_alive_(keep_alive), head_(head) {}

  const Request& request() const noexcept override { return request_; }
  runtime::Task<Result<void>> send(std::string_view head, std::string_view body) override;
  runtime::Task<Result<void>> begin(std::string_view head) override;
  runtime::Task<Result<void>> write(std::span<const std::byte> bytes) override;
  runtime::Task<Result<void>> send_file(const runtime::File& file, std::uint64_t offset, std::uint64_t length,
                                        Pages pages) override;
  runtime::Task<Result<void>> end() override;
  void break_off() noexcept override;
  void close_after() noexcept override;
  bool begun() const noexcept override { return phase_ != Phase::waiting; }
  std::chrono::steady_clock::time_point begun_at() const noexcept override { return begun_at_; }
  bool complete() const noexcept override { return phase_ == Phase::complete; }
  unsigned status() const noexcept override { return facts_.status; }
  std::uint64_t body_bytes_sent() const noexcept override { return body_sent_; }
  bool peer_gone() noexcept override { return connection_.peer_gone(); }
  bool comes_again() noexcept override { return !head_.empty() && connection_.context().ready.comes_again(head_); }
  void answer_again(std::shared_ptr<ReadyAnswer> answer) override {
    if (!head_.empty()) connection_.context().ready.keep(head_, std::move(answer));
  }

  [[nodiscard]] Phase phase() const noexcept { return phase_; }
  // Whether the connection may carry another request after this answer.
  [[nodiscard]] bool reusable() const noexcept { return phase_ == Phase::complete && keep_alive_; }
  // Why the phase is broken; nothing when the handler broke it off.
  [[nodiscard]] const std::optional<Error>& failure() const noexcept { return failure_; }

 private:
  [[nodiscard]] HeadTail::Text tail();
  [[nodiscard]] bool sends_body() const noexcept { return !request_.is_head() && !bodiless(facts_.status); }
  Error fail(Error error);
  Error misuse(std::string_view what) const;
  // The body's bytes may follow now; an error where they may not.
  std::optional<Error> may_add(std::uint64_t bytes);
  runtime::Task<Result<void>> send_all(Gather gather, int flags, std::size_t body_bytes, std::size_t behind_body);

  Connection& connection_;
  const Request& request_;
  HeadFacts facts_;
  std::chrono::steady_clock::time_point begun_at_;
  Phase phase_ = Phase::waiting;
  bool keep_alive_;
  const std::string_view head_;
  bool framed_ = false;  // begun with chunks
  std::uint64_t body_sent_ = 0;
  std::optional<Error> failure_;
};

}  // namespace sluice::http
