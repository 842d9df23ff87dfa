#include "upstream/encoded_body.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "upstream/aside.hpp"
#include "upstream/one_of_few.hpp"

namespace sluice::upstream {
namespace {

using runtime::Task;

constexpr std::size_t kPeekBytes = EncodedBlobs::kPeekBytes;
// By so much the room of one whose length is not told grows.
constexpr std::size_t kRoomStep = std::size_t{1} << 20;
// Beyond it, hashing is not done on the loop.
constexpr std::size_t kHashedInPlace = std::size_t{128} << 10;

// What has been read of a body already, and then the rest of it.
class HeldBody final : public BlobBody {
 public:
  HeldBody(std::string held, std::unique_ptr<BlobBody> rest, EncodedBlobs::Room room)
      : room_(std::move(room)), held_(std::move(held)), rest_(std::move(rest)) {}

  [[nodiscard]] std::optional<std::uint64_t> size() const override { return rest_->size(); }
  [[nodiscard]] std::uint64_t offset() const override { return 0; }
  [[nodiscard]] std::string_view media_type() const override { return rest_->media_type(); }
  [[nodiscard]] bool is_redirected() const override { return rest_->is_redirected(); }
  [[nodiscard]] bool is_wanted() const override { return rest_->is_wanted(); }

  Task<Result<std::size_t>> read(std::span<std::byte> into) override {
    if (at_ < held_.size()) {
      const std::size_t n = std::min(into.size(), held_.size() - at_);
      std::memcpy(into.data(), held_.data() + at_, n);
      at_ += n;
      if (at_ == held_.size()) {
        std::string().swap(held_);
        at_ = 0;
        room_.give_back();
      }
      co_return n;
    }
    co_return co_await rest_->read(into);
  }

 private:
  EncodedBlobs::Room room_;
  std::string held_;
  std::size_t at_ = 0;
  const std::unique_ptr<BlobBody> rest_;
};

// Decodes what comes of another body. It is never "wanted": it could be taken up at its beginning alone.
class DecodedBody final : public BlobBody {
 public:
  DecodedBody(std::unique_ptr<BlobBody> encoded, Coding coding, std::optional<std::uint64_t> size)
      : encoded_(std::move(encoded)), decoder_(Decoder::make(coding)), size_(size), buffer_(kPeekBytes) {}

  [[nodiscard]] std::optional<std::uint64_t> size() const override { return size_; }
  [[nodiscard]] std::uint64_t offset() const override { return 0; }
  [[nodiscard]] std::string_view media_type() const override { return encoded_->media_type(); }
  [[nodiscard]] bool is_redirected() const override { return encoded_->is_redirected(); }

  Task<Result<std::size_t>> read(std::span<std::byte> into) override {
    if (failure_) co_return *failure_;
    for (;;) {
      const Result<Decoder::Step> step = decoder_->step(std::span(buffer_).subspan(from_, until_ - from_), into);
      if (!step) co_return failed(step.error());
      from_ += step->used;
      if (step->made != 0) co_return step->made;
      if (step->used != 0) continue;
      if (ended_) {
        if (from_ == until_ && decoder_->is_complete()) co_return std::size_t{0};
        co_return failed(Error(Errc::size_mismatch, "the encoded body ends too early"));
      }
      // What is left is too little to go on with.
      std::memmove(buffer_.data(), buffer_.data() + from_, until_ - from_);
      until_ -= std::exchange(from_, 0);
      if (until_ == buffer_.size())
        co_return failed(Error(Errc::upstream_protocol, "the encoded body ends in the middle of a stream"));
      const Result<std::size_t> n = co_await encoded_->read(std::span(buffer_).subspan(until_));
      if (!n) co_return failed(n.error());
      until_ += *n;
      ended_ = *n == 0;
    }
  }

 private:
  Error failed(Error error) {
    failure_ = error;
    return error;
  }

  const std::unique_ptr<BlobBody> encoded_;
  const std::unique_ptr<Decoder> decoder_;
  const std::optional<std::uint64_t> size_;
  std::vector<std::byte> buffer_;
  std::size_t from_ = 0;
  std::size_t until_ = 0;
  bool ended_ = false;
  std::optional<Error> failure_;
};

// A body of which only a guess says whether it is encoded.
class GuessedBody final : public BlobBody {
 public:
  explicit GuessedBody(std::unique_ptr<BlobBody> body) : body_(std::move(body)) {}

  [[nodiscard]] std::optional<std::uint64_t> size() const override { return std::nullopt; }
  [[nodiscard]] std::uint64_t offset() const override { return 0; }
  [[nodiscard]] std::string_view media_type() const override { return body_->media_type(); }
  [[nodiscard]] bool is_redirected() const override { return body_->is_redirected(); }
  [[nodiscard]] bool is_guess() const override { return true; }
  Task<Result<std::size_t>> read(std::span<std::byte> into) override { co_return co_await body_->read(into); }

 private:
  const std::unique_ptr<BlobBody> body_;
};

// Reads on, up to `limit` bytes in all. Whether that was the end.
Task<Result<bool>> read_up_to(BlobBody& body, std::string& held, std::size_t limit) {
  std::vector<std::byte> buffer(kPeekBytes);
  while (held.size() < limit) {
    const Result<std::size_t> n =
        co_await body.read(std::span(buffer).first(std::min(buffer.size(), limit - held.size())));
    if (!n) co_return n.error();
    if (*n == 0) co_return true;
    held.append(reinterpret_cast<const char*>(buffer.data()), *n);
  }
  co_return false;
}

// Feeds what `bytes` decode to, to `take`, until that has enough. Whether they are whole.
template <class Take>
bool decode_to(Coding coding, std::string_view bytes, Take take) {
  const std::unique_ptr<Decoder> decoder = Decoder::make(coding);
  std::vector<std::byte> piece(kPeekBytes);
  auto in = std::as_bytes(std::span(bytes));
  for (;;) {
    const Result<Decoder::Step> step = decoder->step(in, piece);
    if (!step) return false;
    if (step->used == 0 && step->made == 0) return in.empty() && decoder->is_complete();
    in = in.subspan(step->used);
    if (!take(std::span<const std::byte>(piece).first(step->made))) return false;
  }
}

// Whether the bytes of a blob that is longer than what is held are still compressed once they are decoded.
bool is_compressed_twice(Coding coding, std::string_view held) {
  std::string begin;
  decode_to(coding, held, [&begin](std::span<const std::byte> bytes) {
    begin.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return begin.size() < 4;
  });
  return is_compressed(begin);
}

bool is_as_sent(const std::string& held, const oci::Digest& digest) {
  return oci::digest_of(digest.algorithm(), held) == digest;
}

// Which form of it has the digest. Takes as long as what it decodes to takes to hash; until nobody waits any more.
Result<EncodedBlobs::Known> judge(const std::string& held, Coding coding, const oci::Digest& digest,
                                  const std::atomic<bool>& given_up) {
  if (is_as_sent(held, digest)) return EncodedBlobs::Known{false, held.size()};
  const std::uint64_t most = std::clamp(held.size() * EncodedBlobs::kMaxTimesDecoded, EncodedBlobs::kAlwaysDecodedBytes,
                                        EncodedBlobs::kMaxDecodedBytes);
  oci::Hasher hasher(digest.algorithm());
  std::uint64_t size = 0;
  const bool whole = decode_to(coding, held, [&](std::span<const std::byte> bytes) {
    hasher.update(bytes);
    size += bytes.size();
    return size <= most && !given_up.load(std::memory_order_relaxed);
  });
  if (whole && hasher.finish() == digest) return EncodedBlobs::Known{true, size};
  return Error(Errc::digest_mismatch,
               "upstream sent bytes that do not have the digest, neither as they are nor decoded");
}

}  // namespace

std::optional<EncodedBlobs::Known> EncodedBlobs::find(const oci::Digest& digest) {
  const std::scoped_lock lock(mutex_);
  const Known* known = known_.find(digest);
  return known == nullptr ? std::nullopt : std::optional(*known);
}

void EncodedBlobs::note(const oci::Digest& digest, Known known) {
  const std::scoped_lock lock(mutex_);
  known_.insert(digest, known);
}

void EncodedBlobs::note_claimed_size(const oci::Digest& digest, std::uint64_t size_bytes) {
  const std::scoped_lock lock(mutex_);
  claimed_.insert(digest, size_bytes);
}

std::optional<std::uint64_t> EncodedBlobs::claimed_size(const oci::Digest& digest) {
  const std::scoped_lock lock(mutex_);
  const std::uint64_t* claimed = claimed_.find(digest);
  return claimed == nullptr ? std::nullopt : std::optional(*claimed);
}

void EncodedBlobs::note_mismatch(const oci::Digest& digest) {
  const std::scoped_lock lock(mutex_);
  const Known* const known = known_.find(digest);
  if (known != nullptr) known_.insert(digest, Known{!known->encoded, std::nullopt});
}

bool EncodedBlobs::Room::grow_to(std::size_t bytes) {
  if (bytes <= bytes_) return true;
  const std::size_t more = bytes - bytes_;
  if (bytes > kMaxHeldBytes) return false;
  if (held_->fetch_add(more) + more > kMaxHeldInAll) {
    held_->fetch_sub(more);
    return false;
  }
  bytes_ = bytes;
  return true;
}

void EncodedBlobs::Room::give_back() {
  if (held_) held_->fetch_sub(std::exchange(bytes_, 0));
}

namespace {

// What a body that is too long to be held is taken for.
bool is_taken_for_encoded(const BlobBody& body, Coding coding, const oci::Digest& digest, const std::string& held,
                          EncodedBlobs& blobs) {
  const auto known = blobs.find(digest);
  if (known) return known->encoded;
  const auto claimed = blobs.claimed_size(digest);
  if (claimed && body.size()) return *claimed != *body.size();
  return is_compressed_twice(coding, held);
}

// Compares in place where that takes no time. Decoding goes to a thread: the output may be many times as long.
Task<Result<EncodedBlobs::Known>> find_form(std::shared_ptr<const std::string> held, Coding coding, oci::Digest digest,
                                            EncodedBlobs& blobs) {
  if (held->size() <= kHashedInPlace && is_as_sent(*held, digest)) {
    co_return EncodedBlobs::Known{false, held->size()};
  }
  OneOfFew judging(blobs.judged, EncodedBlobs::kMostJudged);
  if (!judging.take()) {
    co_return Error(Errc::overloaded, "too many compressed blobs of this upstream are being decoded; try again");
  }
  const auto given_up = std::make_shared<std::atomic<bool>>(false);
  const std::shared_ptr<void> waits(nullptr, [given_up](void*) { *given_up = true; });
  co_return co_await do_aside<EncodedBlobs::Known>(
      [held, coding, digest, given_up] { return judge(*held, coding, digest, *given_up); });
}

// Reads on to the end, as far as there is room. Whether that was the end.
Task<Result<bool>> hold_all(BlobBody& body, std::string& held, EncodedBlobs::Room& room) {
  if (const auto size = body.size()) {
    if (*size > EncodedBlobs::kMaxHeldBytes || !room.grow_to(static_cast<std::size_t>(*size))) co_return false;
    // One byte more, to see the end.
    co_return co_await read_up_to(body, held, static_cast<std::size_t>(*size) + 1);
  }
  Result<bool> ended = false;
  while (ended && !*ended && room.grow_to(std::min(held.size() + kRoomStep, EncodedBlobs::kMaxHeldBytes)) &&
         held.size() < EncodedBlobs::kMaxHeldBytes) {
    ended = co_await read_up_to(body, held, std::min(held.size() + kRoomStep, EncodedBlobs::kMaxHeldBytes));
  }
  co_return ended;
}

}  // namespace

Task<Result<std::unique_ptr<BlobBody>>> open_encoded(std::unique_ptr<BlobBody> body, Coding coding, oci::Digest digest,
                                                     EncodedBlobs& blobs) {
  EncodedBlobs::Room room(blobs);
  const auto held = std::make_shared<std::string>();
  Result<bool> ended = co_await read_up_to(*body, *held, kPeekBytes);
  if (ended && !*ended && may_begin(coding, *held)) ended = co_await hold_all(*body, *held, room);
  if (!ended) co_return ended.error();
  if (*ended) {
    const Result<EncodedBlobs::Known> verdict = co_await find_form(held, coding, digest, blobs);
    if (!verdict) co_return verdict.error();
    blobs.note(digest, *verdict);
    auto whole = std::make_unique<HeldBody>(std::move(*held), std::move(body), std::move(room));
    if (!verdict->encoded) co_return std::unique_ptr<BlobBody>(std::move(whole));
    co_return std::unique_ptr<BlobBody>(std::make_unique<DecodedBody>(std::move(whole), coding, verdict->size));
  }
  // A length that is the claimed one, or is not, is more than a guess.
  const bool is_guess = may_begin(coding, *held) && (!body->size() || !blobs.claimed_size(digest));
  const bool encoded = may_begin(coding, *held) && is_taken_for_encoded(*body, coding, digest, *held, blobs);
  blobs.note(digest, {encoded, std::nullopt});
  std::unique_ptr<BlobBody> whole = std::make_unique<HeldBody>(std::move(*held), std::move(body), std::move(room));
  if (encoded) whole = std::make_unique<DecodedBody>(std::move(whole), coding, std::nullopt);
  if (is_guess) whole = std::make_unique<GuessedBody>(std::move(whole));
  co_return whole;
}

}  // namespace sluice::upstream
