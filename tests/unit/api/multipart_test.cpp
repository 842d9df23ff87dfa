// A 206 of many parts does not keep the loop to itself.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/post.hpp>

#include <catch2/catch.hpp>

#include "api/multipart.hpp"
#include "support/catch_result.hpp"
#include "support/run_task.hpp"

using namespace sluice;
using namespace sluice::api;

namespace {

// A client whose socket takes everything at once.
class Taking final : public http::Exchange {
 public:
  [[nodiscard]] const http::Request& request() const noexcept override { return request_; }
  runtime::Task<Result<void>> send(std::string_view head, std::string_view) override { return begin(head); }
  runtime::Task<Result<void>> begin(std::string_view head) override {
    head_ = head;
    co_return Result<void>{};
  }
  runtime::Task<Result<void>> write(std::span<const std::byte> bytes) override {
    body_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    co_return Result<void>{};
  }
  runtime::Task<Result<void>> send_file(const runtime::File&, std::uint64_t, std::uint64_t, http::Pages) override {
    co_return Error(Errc::unsupported);
  }
  runtime::Task<Result<void>> end() override { co_return Result<void>{}; }
  void break_off() noexcept override {}
  void close_after() noexcept override {}
  [[nodiscard]] bool begun() const noexcept override { return !head_.empty(); }
  [[nodiscard]] std::chrono::steady_clock::time_point begun_at() const noexcept override { return {}; }
  [[nodiscard]] bool complete() const noexcept override { return false; }
  [[nodiscard]] unsigned status() const noexcept override { return 206; }
  [[nodiscard]] std::uint64_t body_bytes_sent() const noexcept override { return body_.size(); }
  [[nodiscard]] bool peer_gone() noexcept override { return false; }

  [[nodiscard]] const std::string& head() const noexcept { return head_; }

 private:
  http::Request request_;
  std::string head_;
  std::string body_;
};

// Counts the parts; the turns of another one on the loop are noted with how many there were.
class Counting final : public RangeSource {
 public:
  explicit Counting(runtime::Executor on) : on_(std::move(on)) {}
  runtime::Task<Result<void>> send(http::Exchange& exchange, http::ByteRange range) override {
    if (parts_++ == 0) take_turns();
    const std::string bytes(range.size(), 'x');
    co_return co_await exchange.write(std::as_bytes(std::span(bytes)));
  }
  [[nodiscard]] std::size_t parts() const noexcept { return parts_; }
  [[nodiscard]] std::size_t longest_turn() const noexcept { return longest_; }

 private:
  void take_turns() {
    runtime::asio::post(on_, [this] {
      longest_ = std::max(longest_, parts_ - seen_);
      seen_ = parts_;
      if (parts_ < 1024) take_turns();
    });
  }
  const runtime::Executor on_;
  std::size_t parts_ = 0;
  std::size_t seen_ = 0;
  std::size_t longest_ = 0;
};

runtime::Task<Result<void>> send(http::Exchange* exchange, Counting* source, std::vector<http::ByteRange> ranges) {
  const oci::Digest digest = oci::digest_of(oci::Algorithm::sha256, "blob");
  co_return co_await send_multipart(*exchange, *source, digest, std::move(ranges), 100'000, "X-Extra: 1\r\n");
}

}  // namespace

TEST_CASE("Multipart: others on the loop have their turn between a thousand parts", "[api][doors]") {
  test::RunTask run;
  Taking exchange;
  Counting source(run.loop().get_executor());
  std::vector<http::ByteRange> ranges;
  for (std::uint64_t i = 0; i < 1024; ++i) ranges.push_back({i * 10, i * 10});
  REQUIRE(run(send(&exchange, &source, ranges)));
  CHECK(source.parts() == 1024);
  CHECK(source.longest_turn() <= 64);
  CHECK(exchange.head().find("Content-Length: " + std::to_string(exchange.body_bytes_sent()) + "\r\n") !=
        std::string::npos);
  CHECK(exchange.head().find("X-Extra: 1\r\n") != std::string::npos);
}
