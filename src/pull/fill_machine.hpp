// FillMachine: what a download of a blob does next. Pure: the driver (download.hpp) reports events, does what the
// returned Step says, and reports what came of it.
//
//   state     event                     next
//   asking    answered                  reading; with a part: taking, or dropping a part that is longer than the blob
//             refused                   failed, asking again, or complete; with a part: sizing, where upstream has no
//                                       byte behind it
//   sizing    sized                     checking, where the part is as long as the blob or upstream tells no size, else
//                                       dropping
//   checking  checked                   taking a part that has the digest, else dropping
//   dropping  dropped                   asking from byte 0, or reading an answer that begins there
//   taking    took                      reading, or complete where the part is the whole blob
//   reading   received, wrote           reading, or failed
//             broke, let_go, must_yield asking for the rest, complete, or failed
//             ended                     complete
//
// A download that breaks is taken up again where it stands, up to `attempts` times in a row without a byte in between.
// Where upstream refuses the Range (with a 5xx not before the last try, unless it is for what lies behind a part) it is
// asked for the whole blob, of which the bytes that are here are skipped. Complete means that upstream has no more to
// send: whether the bytes are right, the digest decides.
//
// Threads: one at a time. Events that the table does not have for a state are bugs of the driver, and asserted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/result.hpp"

namespace sluice::pull {

class FillMachine {
 public:
  struct Params {
    std::size_t attempts = 5;
    // What an earlier download has left in the file.
    std::uint64_t part_bytes = 0;
  };

  enum class Do : std::uint8_t {
    ask,         // closes the connection, if there is one, and asks for the blob from byte `from`
    ask_size,    // asks how long the blob is
    check_part,  // computes the digest of the part
    drop_part,   // empties the file; `error` is size_mismatch, it is longer than the blob, or digest_mismatch
    take_part,   // goes on behind the part: `saved` bytes need not be sent again
    read,        // reads on from the answer, after dropping `skip` bytes of it
    write,       // appends what was received
    complete,
    fail,  // with `error`
  };

  struct Step {
    Do what = Do::fail;
    std::uint64_t from = 0;
    std::uint64_t skip = 0;
    std::uint64_t saved = 0;
    // ask: wait first, for the longer the more failures in a row there were; `error` was the last one.
    std::optional<std::size_t> failures_before = std::nullopt;
    // read: it is the first answer, so size() is known from here on, or known not to be.
    bool is_first = false;
    // take_part: the part is the whole blob, of which size() is known now.
    bool is_whole = false;
    std::optional<Error> error = std::nullopt;
  };

  // What the head of an answer says.
  struct Answer {
    std::uint64_t offset = 0;  // of its first byte in the blob: 0 from an upstream that ignores Range
    std::optional<std::uint64_t> size;
  };

  explicit FillMachine(const Params& params) : params_(params), part_bytes_(params.part_bytes) {}

  [[nodiscard]] Step start();
  [[nodiscard]] Step answered(const Answer& answer);
  [[nodiscard]] Step refused(const Error& error);
  [[nodiscard]] Step sized(const Result<std::uint64_t>& size);
  [[nodiscard]] Step checked(bool is_right);
  [[nodiscard]] Step dropped();
  [[nodiscard]] Step took();
  [[nodiscard]] Step received(std::size_t bytes);
  void wrote(std::size_t bytes);
  // The end of the answer.
  [[nodiscard]] Step ended();
  // The connection broke, or the bytes have no place to go.
  [[nodiscard]] Step broke(const Error& error);
  // The connection was closed because nobody has read for long. Only where can_let_go().
  [[nodiscard]] Step let_go();
  // Others, whom somebody waits for, need the connection. `is_abandoned`: nobody reads this download.
  [[nodiscard]] Step must_yield(bool is_abandoned);

  // A blob of unknown length could not be taken up again.
  [[nodiscard]] bool can_let_go() const noexcept { return size_.has_value(); }
  // Upstream has answered once.
  [[nodiscard]] bool has_begun() const noexcept { return begun_; }
  // The blob's, once upstream has told it; none before the first answer, and where upstream tells none.
  [[nodiscard]] std::optional<std::uint64_t> size() const noexcept { return size_; }
  [[nodiscard]] std::uint64_t position() const noexcept { return position_; }
  // Of the part that is neither taken nor dropped yet.
  [[nodiscard]] std::uint64_t part_bytes() const noexcept { return part_bytes_; }

  // Whether what has arrived before that error is worth being kept as a part: nothing speaks against it, and the disk
  // took it.
  [[nodiscard]] static bool keeps_part(Errc code) noexcept;

 private:
  enum class State : std::uint8_t { fresh, asking, sizing, checking, dropping, taking, reading, ended };

  Step ask(std::uint64_t from);
  Step accept(const Answer& answer);
  Step take(std::uint64_t saved, bool is_whole);
  Step drop(Error why);
  Step complete();
  Step fail(Error error);
  [[nodiscard]] bool is_whole() const noexcept { return size_ == position_; }
  [[nodiscard]] bool refuses_ranges(Errc code) const noexcept;

  const Params params_;
  State state_ = State::fresh;
  std::uint64_t part_bytes_;
  std::uint64_t position_ = 0;
  std::uint64_t asked_from_ = 0;  // with a Range, where it is not 0
  std::optional<std::uint64_t> size_;
  std::optional<Answer> answer_;  // which waits until the part is taken or dropped
  std::size_t failures_ = 0;      // in a row, without a byte in between
  bool begun_ = false;            // upstream has answered once
  bool repeats_ = false;          // upstream began anew, so another pause would cost all of it again
};

}  // namespace sluice::pull
