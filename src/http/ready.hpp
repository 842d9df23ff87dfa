// Ready answers: what a handler has answered and would answer again, byte for byte, to the same request head.
//
//   a head comes  ──for the first time──▶ Handler::serve
//                 ──again──▶ Handler::serve, which may hand a ReadyAnswer to Exchange::answer_again
//                 ──from then on──▶ prepare() ──true──▶ sent by the session, then over()
//                                             └─false──▶ forgotten; Handler::serve
//
// A session looks for the bytes of a head before it parses them, in the table of its loop. What it finds is sent by
// plain function calls: no coroutine, no allocation, no lock. So prepare() has to look at everything that could make
// the answer another one than serve() would give now.
//
// Owned by the table of one loop (ReadyAnswers). Threads: that loop's alone.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/sieve_map.hpp"

namespace sluice::runtime {
class File;
}

namespace sluice::http {

// One use of a ready answer.
struct ReadyUse {
  // Of the body: bytes in memory, or all of a file; neither where none is sent.
  std::string_view bytes;
  const runtime::File* file = nullptr;
  std::uint64_t file_size = 0;
  std::shared_ptr<const void> holder;             // of the body
  std::chrono::steady_clock::time_point started;  // by the handler's clock
  // By the same, when a part of the answer was sent; not set where it was sent as a whole.
  std::optional<std::chrono::steady_clock::time_point> begun;
};

// How a use ended.
struct ReadyOutcome {
  std::string_view peer;  // as Request::peer
  std::uint64_t body_bytes = 0;
  bool complete = false;
};

class ReadyAnswer {
 public:
  // `head`: of a 200, as ResponseHead::str(), with its Content-Length.
  explicit ReadyAnswer(std::string head) : head_(std::move(head)) {}
  virtual ~ReadyAnswer() = default;
  ReadyAnswer(const ReadyAnswer&) = delete;
  ReadyAnswer& operator=(const ReadyAnswer&) = delete;

  [[nodiscard]] const std::string& head() const noexcept { return head_; }

  // Whether the answer may be given now; fills `use`. Neither blocks nor allocates.
  [[nodiscard]] virtual bool prepare(ReadyUse& use) noexcept = 0;
  // Not all of it could be sent at once; notes `use.begun`.
  virtual void note_unfinished(ReadyUse& use) noexcept = 0;
  // What was prepared and begun has been sent, or has ended before its end.
  virtual void over(const ReadyUse& use, const ReadyOutcome& outcome) = 0;
  // The file could not be read, or is shorter than it was.
  virtual void file_failed() noexcept {}

  // When its file was last sent whole, so that its pages are in memory.
  std::chrono::steady_clock::time_point sent_at{};

 private:
  const std::string head_;
};

// The ready answers of one loop by the bytes of the request heads, bounded in number.
class ReadyAnswers {
 public:
  // Longer heads have none.
  static constexpr std::size_t kMaxHeadBytes = 2048;

  // Null where there is none. Valid until the next keep or drop.
  [[nodiscard]] std::shared_ptr<ReadyAnswer>* find(std::string_view head) { return answers_.find(head); }
  void keep(std::string_view head, std::shared_ptr<ReadyAnswer> answer);
  void drop(std::string_view head) { answers_.erase(head); }
  // Whether the same head has come not long ago; notes that it has now. So what comes once costs no more than this.
  [[nodiscard]] bool comes_again(std::string_view head) noexcept;

 private:
  static constexpr std::size_t kMost = 1024;
  struct Hash {
    std::size_t operator()(std::string_view head) const noexcept { return std::hash<std::string_view>{}(head); }
  };
  SieveMap<std::string, std::shared_ptr<ReadyAnswer>, Hash, std::equal_to<>> answers_{kMost};
  std::array<std::uint32_t, 2 * kMost> seen_{};  // parts of hashes, by other parts of them
};

}  // namespace sluice::http
