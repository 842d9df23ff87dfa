#include "pull/fill_machine.hpp"

#include <cassert>
#include <utility>

#include "base/errc_kind.hpp"
#include "pull/resume.hpp"

namespace sluice::pull {

bool FillMachine::keeps_part(Errc code) noexcept {
  return is_resumable(code) || is_verdict(code) || code == Errc::abandoned || code == Errc::cancelled;
}

FillMachine::Step FillMachine::start() {
  assert(state_ == State::fresh);
  return ask(part_bytes_);
}

FillMachine::Step FillMachine::answered(const Answer& answer) {
  assert(state_ == State::asking);
  if (part_bytes_ == 0) return accept(answer);
  answer_ = answer;
  if (answer.size && *answer.size < part_bytes_) return drop({Errc::size_mismatch, "longer than the blob"});
  return take(answer.offset, false);
}

FillMachine::Step FillMachine::refused(const Error& error) {
  assert(state_ == State::asking);
  if (part_bytes_ != 0) {
    if (refuses_ranges(error.code)) return ask(0);
    if (error.code != Errc::range_invalid) return fail(error);
    // Upstream has no byte behind the part: it may be all there is. Asking also says whether we may have it.
    state_ = State::sizing;
    return {.what = Do::ask_size};
  }
  // The registry has its own retries for the first request.
  if (!begun_) return fail(error);
  // Nothing lies behind what is here: the connection broke between the last byte and the end. The digest decides.
  if (!size_ && error.code == Errc::range_invalid) return complete();
  if (asked_from_ != 0 && error.code == Errc::upstream_protocol) return ask(0);
  state_ = State::reading;
  return broke(error);
}

// Some registries and their storage answer a Range with 400, 500 or 501, and the whole blob with 200. From byte 0 there
// is no Range, so this is said once.
bool FillMachine::refuses_ranges(Errc code) const noexcept {
  return asked_from_ != 0 && (code == Errc::upstream_protocol || code == Errc::upstream_failed);
}

FillMachine::Step FillMachine::sized(const Result<std::uint64_t>& size) {
  assert(state_ == State::sizing);
  // Upstream has the blob, no byte of it behind the part, and does not tell its size: the digest of the part does.
  const bool untold = !size && has_without_size(size.error().code);
  if (!size && !untold) return fail(size.error());
  if (!untold && *size != part_bytes_) return drop({Errc::size_mismatch, "longer than the blob"});
  state_ = State::checking;
  return {.what = Do::check_part};
}

FillMachine::Step FillMachine::checked(bool is_right) {
  assert(state_ == State::checking);
  if (!is_right) return drop({Errc::digest_mismatch, "damaged"});
  size_ = part_bytes_;
  return take(part_bytes_, true);
}

FillMachine::Step FillMachine::dropped() {
  assert(state_ == State::dropping);
  part_bytes_ = 0;
  const std::optional<Answer> answer = std::exchange(answer_, std::nullopt);
  return answer && answer->offset == 0 ? accept(*answer) : ask(0);
}

FillMachine::Step FillMachine::took() {
  assert(state_ == State::taking);
  position_ = std::exchange(part_bytes_, 0);
  const std::optional<Answer> answer = std::exchange(answer_, std::nullopt);
  return answer ? accept(*answer) : complete();
}

FillMachine::Step FillMachine::received(std::size_t bytes) {
  assert(state_ == State::reading);
  failures_ = 0;
  // Readers see nothing beyond the size, so a writer that went on would wait for them for ever.
  if (size_ && bytes > *size_ - position_) {
    return fail({Errc::size_mismatch, "upstream sent more than it had announced"});
  }
  return {.what = Do::write};
}

void FillMachine::wrote(std::size_t bytes) {
  assert(state_ == State::reading);
  position_ += bytes;
}

FillMachine::Step FillMachine::ended() {
  assert(state_ == State::reading);
  return complete();
}

FillMachine::Step FillMachine::broke(const Error& error) {
  assert(state_ == State::reading);
  if (is_whole()) return complete();
  if (!is_resumable(error.code) || failures_ >= params_.attempts) return fail(error);
  // A registry that is in trouble for a moment answers so too: not before the last try.
  const bool is_last = failures_ + 1 == params_.attempts;
  Step step = ask(is_last && refuses_ranges(error.code) ? 0 : position_);
  step.failures_before = failures_++;
  step.error = error;
  return step;
}

FillMachine::Step FillMachine::let_go() {
  assert(state_ == State::reading && can_let_go());
  return is_whole() ? complete() : ask(position_);
}

FillMachine::Step FillMachine::must_yield(bool is_abandoned) {
  assert(state_ == State::reading);
  const bool is_cheap = size_ && !repeats_;
  if (is_cheap && !is_whole()) return ask(position_);
  if (!is_cheap && is_abandoned) {
    return fail({Errc::abandoned, "all readers left, and others wait for the connection"});
  }
  return {.what = Do::read};
}

FillMachine::Step FillMachine::ask(std::uint64_t from) {
  state_ = State::asking;
  asked_from_ = from;
  return {.what = Do::ask, .from = from};
}

FillMachine::Step FillMachine::accept(const Answer& answer) {
  if (begun_ && size_ && answer.size && *answer.size != *size_) {
    return fail({Errc::size_mismatch, "upstream's blob has changed its length during the download"});
  }
  Step step{.what = Do::read, .is_first = !begun_};
  if (!std::exchange(begun_, true)) size_ = answer.size;
  if (answer.offset < position_) {
    step.skip = position_ - answer.offset;
    repeats_ = true;
  }
  state_ = State::reading;
  return step;
}

FillMachine::Step FillMachine::take(std::uint64_t saved, bool is_whole) {
  state_ = State::taking;
  return {.what = Do::take_part, .saved = saved, .is_whole = is_whole};
}

FillMachine::Step FillMachine::drop(Error why) {
  state_ = State::dropping;
  Step step{.what = Do::drop_part};
  step.error = std::move(why);
  return step;
}

FillMachine::Step FillMachine::complete() {
  state_ = State::ended;
  return {.what = Do::complete};
}

FillMachine::Step FillMachine::fail(Error error) {
  state_ = State::ended;
  Step step{.what = Do::fail};
  step.error = std::move(error);
  return step;
}

}  // namespace sluice::pull
