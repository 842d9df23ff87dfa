#include "pull/trailing_verifier.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

namespace sluice::pull {
namespace {

constexpr std::uint64_t kPieceBytes = 256 << 10;
constexpr std::uint64_t kMaxLagBytes = 64 << 20;
// What one job hashes before others in the pool have their turn: a download that is always ahead would else keep its
// thread to itself until it ends.
constexpr std::uint64_t kTurnBytes = 2 << 20;

}  // namespace

struct TrailingVerifier::State {
  State(runtime::Filesystem& fs, const runtime::File& read_from, std::shared_ptr<const void> owner,
        oci::Algorithm algorithm, std::uint64_t from_before)
      : filesystem(fs), file(read_from), keep_alive(std::move(owner)), at_hand(from_before), hasher(algorithm) {
    if (algorithm != oci::Algorithm::sha256) canonical_hasher.emplace(oci::Algorithm::sha256);
  }

  void update(std::span<const std::byte> bytes) {
    hasher.update(bytes);
    if (canonical_hasher) canonical_hasher->update(bytes);
  }

  // Hashes whole pieces up to the target, at most `limit` bytes, and with `last` what is left of it too. Whether there
  // are more whole pieces.
  bool hash(bool last, std::uint64_t limit = UINT64_MAX) {
    const std::scoped_lock lock(mutex);
    std::vector<std::byte> buffer(kPieceBytes);
    for (std::uint64_t done = 0;; done += kPieceBytes) {
      const std::uint64_t at = hashed.load(std::memory_order_relaxed);
      const std::uint64_t ready = target.load(std::memory_order_acquire) - at;
      if (error || ready == 0 || (ready < kPieceBytes && !last)) return false;
      if (done >= limit) return true;
      const std::uint64_t length = std::min(ready, kPieceBytes);
      const Result<std::size_t> n = filesystem.read_at(file, at, std::span(buffer).first(length));
      if (!n) {
        error = n.error();
      } else if (*n != length) {
        error = Error{Errc::corrupt, "the file is shorter than what was written to it"};
      } else {
        update(std::span<const std::byte>(buffer).first(length));
        hashed.store(at + length, std::memory_order_relaxed);
      }
    }
  }

  // One job in the pool after the other, as long as there is work.
  static void run(runtime::DiskPool& pool, const std::shared_ptr<State>& state) {
    pool.post(runtime::Lane::bulk, [&pool, state] {
      if (!state->unwanted && state->hash(false, kTurnBytes)) {
        run(pool, state);
      } else {
        state->running = false;
      }
    });
  }

  runtime::Filesystem& filesystem;
  const runtime::File& file;
  const std::shared_ptr<const void> keep_alive;
  const std::uint64_t at_hand;
  std::atomic<std::uint64_t> target{0};  // written by the task, read by the pool
  std::atomic<std::uint64_t> hashed{0};  // the other way round
  std::atomic<bool> running{false};      // a job is posted
  std::atomic<bool> unwanted{false};     // the verifier is gone
  std::mutex mutex;                      // guards what follows; held while hashing
  oci::Hasher hasher;
  std::optional<oci::Hasher> canonical_hasher;
  std::optional<oci::Digest> canonical;  // once finished
  std::optional<Error> error;
};

TrailingVerifier::TrailingVerifier(runtime::DiskPool& pool, runtime::Filesystem& filesystem, const runtime::File& file,
                                   std::shared_ptr<const void> keep_alive, oci::Algorithm algorithm,
                                   std::uint64_t at_hand)
    : pool_(pool), state_(std::make_shared<State>(filesystem, file, std::move(keep_alive), algorithm, at_hand)) {}

TrailingVerifier::~TrailingVerifier() { state_->unwanted = true; }

runtime::Task<void> TrailingVerifier::advance(std::uint64_t written_bytes) {
  state_->target.store(written_bytes, std::memory_order_release);
  const std::uint64_t hashed = state_->hashed.load(std::memory_order_relaxed);
  const std::uint64_t lag = written_bytes - hashed;
  if (written_bytes - std::max(hashed, std::min(state_->at_hand, written_bytes)) > kMaxLagBytes) {
    co_await runtime::offload(pool_, [state = state_] { state->hash(false); });
  } else if (lag >= kPieceBytes && !state_->running.exchange(true)) {
    State::run(pool_, state_);
  }
}

runtime::Task<void> TrailingVerifier::append(std::span<const std::byte> bytes) {
  co_await runtime::offload(pool_, [state = state_, bytes] {
    state->hash(true);
    const std::scoped_lock lock(state->mutex);
    if (state->error) return;
    state->update(bytes);
    const std::uint64_t end = state->hashed.load(std::memory_order_relaxed) + bytes.size();
    state->target.store(end, std::memory_order_release);
    state->hashed.store(end, std::memory_order_relaxed);
  });
}

runtime::Task<Result<oci::Digest>> TrailingVerifier::finish(std::uint64_t total_bytes) {
  state_->target.store(total_bytes, std::memory_order_release);
  const auto finish = [state = state_]() -> Result<oci::Digest> {
    state->hash(true);
    const std::scoped_lock lock(state->mutex);
    if (state->error) return *state->error;
    const oci::Digest computed = state->hasher.finish();
    state->canonical = state->canonical_hasher ? state->canonical_hasher->finish() : computed;
    return computed;
  };
  // A client waits for its last byte: what is small does not wait for what is large.
  const std::uint64_t left = total_bytes - state_->hashed.load(std::memory_order_relaxed);
  co_return co_await runtime::offload(pool_, finish, left <= kTurnBytes ? runtime::Lane::fast : runtime::Lane::bulk);
}

oci::Digest TrailingVerifier::canonical() const {
  const std::scoped_lock lock(state_->mutex);
  return state_->canonical.value();
}

void TrailingVerifier::restart() {
  state_ = std::make_shared<State>(state_->filesystem, state_->file, state_->keep_alive, state_->hasher.algorithm(), 0);
}

}  // namespace sluice::pull
