#include "pull/download.hpp"

#include <algorithm>
#include <exception>
#include <optional>
#include <utility>

#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/system_error.hpp>

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/units.hpp"
#include "oci/media_type.hpp"
#include "runtime/deadline.hpp"
#include "runtime/loop.hpp"
#include "store/media_types.hpp"

namespace sluice::pull {

namespace asio = boost::asio;

std::string fill_key(std::string_view upstream, const oci::Digest& digest) {
  std::string key(upstream);
  return key.append(" ").append(digest.to_string());
}

std::pair<std::string_view, std::string_view> parts_of_fill_key(std::string_view key) {
  const std::size_t space = key.rfind(' ');
  if (space == std::string_view::npos) return {{}, key};
  return {key.substr(0, space), key.substr(space + 1)};
}

Download::Download(const Shared& shared, std::string key, access::Route route, oci::Digest digest,
                   streamcache::Writer& writer, TrailingVerifier& verifier, store::Reservation& room,
                   const access::Revocations::Ticket& ticket)
    : shared_(shared),
      key_(std::move(key)),
      route_(std::move(route)),
      digest_(digest),
      writer_(writer),
      verifier_(verifier),
      room_(room),
      ticket_(ticket),
      buffer_(shared.params.read_bytes),
      machine_({.attempts = shared.params.attempts, .part_bytes = writer.part_bytes()}) {}

Download::~Download() = default;

runtime::Task<Result<void>> Download::run() {
  try {
    std::optional<upstream::Urgencies::Listed> listed;
    if (!route_.urgency) {
      route_.urgency = std::make_shared<upstream::Urgency>();
      route_.urgency->raise();
      if (auto behind = route_.registry->behind_others(route_.urgency)) {
        route_.behind = std::move(behind);
        route_.registry = route_.behind.get();
      }
      drops_behind_ = true;
      listed.emplace(shared_.urgencies, key_, route_.urgency);
    }
    co_return co_await follow_machine();
  } catch (const boost::system::system_error& error) {
    const bool cancelled = error.code() == asio::error::operation_aborted;
    co_return Error{cancelled ? Errc::cancelled : Errc::internal, error.what()};
  } catch (const std::exception& error) {
    co_return Error{Errc::internal, error.what()};
  }
}

runtime::Task<Result<void>> Download::follow_machine() {
  using enum FillMachine::Do;
  if (const auto known = shared_.access.peek(route_.scope, digest_);
      known && known->media_type == store::MediaTypes::kNamedByManifest) {
    route_.registry->note_claimed_size(digest_, known->size);
  }
  for (Step step = machine_.start();;) {
    switch (step.what) {
      case ask: step = co_await this->ask(std::move(step)); break;
      case ask_size: step = co_await this->ask_size(); break;
      case check_part: step = co_await this->check_part(); break;
      case drop_part: step = co_await this->drop_part(std::move(step)); break;
      case take_part: step = co_await this->take_part(std::move(step)); break;
      case read: step = co_await this->read(std::move(step)); break;
      case complete: co_return Result<void>{};
      case write: co_return Error{Errc::internal, "a fill that writes outside of its answer"};  // move_bytes() does it
      case fail: co_return *step.error;
    }
  }
}

runtime::Task<Download::Step> Download::ask(Step step) {
  body_.reset();
  if (step.failures_before) {
    log::info("fill", fmt::format("{} of {}: {}; going on from byte {}", digest_.to_string(), route_.scope.str(),
                                  step.error->message, step.from));
    shared_.metrics.fills_resumed.add();
    co_await back_off(shared_.params.backoff, *step.failures_before);
  }
  Result<std::unique_ptr<upstream::BlobBody>> body =
      co_await route_.registry->open_blob(route_.repository, digest_, step.from);
  if (!body) co_return machine_.refused(body.error());
  body_ = std::move(*body);
  hold_back();
  co_return machine_.answered({body_->offset(), body_->size()});
}

runtime::Task<Download::Step> Download::ask_size() {
  const Result<oci::Descriptor> asked = co_await route_.registry->stat_blob(route_.repository, digest_);
  if (!asked) co_return machine_.sized(asked.error());
  co_return machine_.sized(asked->size);
}

// Nothing has to be waited for but the hashing, so nobody sees a byte of the part before it is known to be right.
runtime::Task<Download::Step> Download::check_part() {
  const Result<oci::Digest> computed = co_await verifier_.finish(machine_.part_bytes());
  verifier_.restart();
  co_return machine_.checked(computed && *computed == digest_);
}

runtime::Task<Download::Step> Download::drop_part(Step step) {
  shared_.log.write(log::Level::warn, "fill", fmt::format("{} part {}", origin_name(route_), name(step.error->code)),
                    fmt::format("{}: the part of {} is {}; fetching the whole blob", digest_.to_string(),
                                format_bytes(machine_.part_bytes()), step.error->message));
  if (step.error->code == Errc::digest_mismatch) shared_.metrics.fill_digest_mismatches.add();
  if (const Result<void> dropped = co_await shared_.storage.drop_part(writer_); !dropped) {
    step.what = FillMachine::Do::fail;
    step.error = dropped.error();
    co_return step;
  }
  co_return machine_.dropped();
}

runtime::Task<Download::Step> Download::take_part(Step step) {
  shared_.metrics.parts_adopted.add();
  shared_.metrics.parts_bytes_saved.add(step.saved);
  if (step.is_whole) co_await tell_size();
  writer_.take_part();
  co_await verifier_.advance(writer_.position());
  co_return machine_.took();
}

runtime::Task<Download::Step> Download::read(Step step) {
  if (step.is_first) {
    shared_.told_types.note(fill_key(access::origin_name(route_), digest_), body_->media_type());
    co_await tell_size();
  }
  if (const Result<void> skipped = co_await skip(step.skip); !skipped) co_return machine_.broke(skipped.error());
  Step next = co_await move_bytes();
  writer_.show();
  co_return next;
}

// To readers, who wait for it. Before, it is remembered: whoever joins for the same repository then finds that it may.
runtime::Task<void> Download::tell_size() {
  if (const std::optional<std::uint64_t> size = machine_.size()) {
    shared_.told_types.note_size(fill_key(access::origin_name(route_), digest_), *size);
    co_await shared_.access.remember(route_.scope, {digest_, *size, std::string(oci::media_type::kOctetStream)},
                                     ticket_);
  } else {
    shared_.told_types.forget_size(fill_key(access::origin_name(route_), digest_));
    shared_.access.remember_given(route_.scope, digest_, ticket_);
  }
  writer_.set_size(machine_.size());
}

// Drops the first `count` bytes of an answer, where upstream answered a Range with the whole.
runtime::Task<Result<void>> Download::skip(std::uint64_t count) {
  while (count > 0) {
    const std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(count, buffer_.size()));
    const Result<std::size_t> n = co_await body_->read(std::span(buffer_).first(want));
    if (!n) co_return n.error();
    if (*n == 0) co_return Error{Errc::size_mismatch, "upstream's blob has become shorter"};
    count -= *n;
  }
  co_return Result<void>{};
}

// To the end of the answer, or of what can be had of it.
runtime::Task<Download::Step> Download::move_bytes() {
  // Clients that stop reading must not keep others from upstream.
  const auto patience = machine_.can_let_go() ? shared_.params.patience : std::chrono::milliseconds{0};
  runtime::Loop& loop = runtime::Loop::of(co_await asio::this_coro::executor);
  runtime::Deadline idle(loop, [this] { body_.reset(); });
  runtime::Deadline pauses(loop, [this] { writer_.show(); });  // of upstream: readers get what there is
  std::chrono::nanoseconds taking{0};                          // how long readers have kept it waiting in all
  for (;;) {
    const auto before = std::chrono::steady_clock::now();
    idle.arm(patience);
    if (const Result<void> room = co_await writer_.wait_window(); !room) co_return machine_.broke(room.error());
    idle.disarm();
    taking += std::chrono::steady_clock::now() - before;
    // Those who take little at a time keep a connection that others wait for as those do who take nothing.
    if (body_ && patience.count() > 0 && taking >= patience && body_->is_wanted()) body_.reset();
    if (!body_) co_return machine_.let_go();
    const Result<std::size_t> n = co_await body_->read(buffer_);
    if (!n) co_return machine_.broke(n.error());
    if (*n == 0) co_return machine_.ended();
    shared_.metrics.of(route_).received_blob_bytes.add(*n);
    if (Step next = machine_.received(*n); next.what != FillMachine::Do::write) co_return next;
    if (const Result<void> stored = co_await store(std::span<const std::byte>(buffer_).first(*n)); !stored) {
      co_return machine_.broke(stored.error());
    }
    machine_.wrote(*n);
    pauses.arm(std::chrono::milliseconds(1));
    if (!must_yield()) continue;
    if (Step next = machine_.must_yield(writer_.abandoned()); next.what != FillMachine::Do::read) co_return next;
  }
}

runtime::Task<Result<void>> Download::store(std::span<const std::byte> bytes) {
  if (!writer_.unstored()) {
    const Result<void> made =
        co_await shared_.storage.make_room(room_, writer_.position() + bytes.size(), machine_.size());
    if (!made) {
      log::warn("fill", fmt::format("{} of {} is passed on without being stored: {}", digest_.to_string(),
                                    route_.scope.str(), made.error().message));
      limited_ = true;
      if (Result<void> passed = writer_.unstore(made.error()); !passed) co_return passed;
    }
  }
  using enum streamcache::Writer::Next;
  Result<void> written = co_await writer_.write(bytes, bytes.size() == buffer_.size() ? is_there : may_take_long);
  if (!written) co_return written;
  if (const std::optional<Error> trouble = writer_.unstored()) {
    if (!limited_) shared_.storage.note(trouble);
    co_await verifier_.append(bytes);
  } else {
    room_.wrote(writer_.position());
    co_await verifier_.advance(writer_.position());
  }
  co_return written;
}

// A registry may redirect to what is nobody's blob, so that an accomplice reads it here. Of what comes from behind a
// redirect no client gets a byte before its digest is right where it is small, as answers of other services are, or
// where its length is not the one that was expected. Nor of what is only guessed to be the blob.
void Download::hold_back() {
  if (body_->is_guess()) writer_.hold_whole();
  if (!body_->is_redirected()) return;
  bool sure = body_->size() && *body_->size() > kHeldWholeBytes;
  if (sure && !machine_.has_begun()) {
    const auto known = shared_.access.peek(route_.scope, digest_);
    sure = !known || known->size == *body_->size();
  }
  if (!sure) writer_.hold_whole();
}

// Whether somebody who is waited for needs the download's connection. While nobody reads it, it comes behind them.
bool Download::must_yield() {
  upstream::Urgency& urgency = *route_.urgency;
  if (drops_behind_ && writer_.abandoned()) {
    urgency.lower();
    // Who has joined in between has raised it in vain.
    if (!writer_.abandoned()) urgency.raise();
  }
  return urgency.must_yield();
}

}  // namespace sluice::pull
