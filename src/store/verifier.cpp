#include "store/verifier.hpp"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <utility>

namespace sluice::store {
namespace {

// How many blobs are listed at a time; the index is gone through once for each.
constexpr std::size_t kBlobsInATurn = 8192;

// Whether a blob is in the sample: every blob has a number, drawn from its digest and the seed (splitmix64).
class Sample {
 public:
  Sample(double share, std::uint64_t seed) : all_(share >= 1.0), seed_(seed) {
    below_ = share <= 0 ? 0 : static_cast<std::uint64_t>(std::ldexp(std::min(share, 0.9999999), 64));
  }
  [[nodiscard]] bool has(const oci::Digest& digest) const {
    if (all_) return true;
    std::uint64_t x = 0;
    std::memcpy(&x, digest.raw().data(), sizeof x);
    x += seed_ * 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
    return (x ^ (x >> 31U)) < below_;
  }

 private:
  bool all_;
  std::uint64_t seed_;
  std::uint64_t below_;
};

// Sleeps so that no more than so many bytes are read in a second.
class Pace {
 public:
  using Clock = std::chrono::steady_clock;
  Pace(std::uint64_t bytes_per_second, std::stop_token stop) : rate_(bytes_per_second), stop_(std::move(stop)) {}

  // False when told to stop.
  bool after(std::uint64_t bytes) {
    if (rate_ == 0 || bytes == 0) return !stop_.stop_requested();
    const auto cost = std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double>(static_cast<double>(bytes) / static_cast<double>(rate_)));
    // What was not used is not saved up.
    next_ = std::max(next_, Clock::now()) + cost;
    std::unique_lock lock(mutex_);
    wake_.wait_until(lock, stop_, next_, [] { return false; });
    return !stop_.stop_requested();
  }

 private:
  const std::uint64_t rate_;
  const std::stop_token stop_;
  Clock::time_point next_ = Clock::now();
  std::mutex mutex_;  // guards nothing: nobody but the stop token wakes us
  std::condition_variable_any wake_;
};

class Verification {
 public:
  Verification(BlobStore& store, const VerifyOptions& options, std::stop_token stop,
               const std::function<void(const VerifyProgress&)>& on_progress)
      : store_(store),
        after_(options.after),
        sample_(options.sample, options.seed),
        pace_(options.bytes_per_second, stop),
        stop_(std::move(stop)),
        on_progress_(on_progress) {}

  VerifyReport run() {
    store_.for_each_blob([this](const BlobIndex::Blob& blob) {
      if (!wanted(blob.digest)) return;
      ++report_.blobs_total;
      report_.bytes_total += blob.entry.size;
    });
    const std::size_t turns = std::bit_ceil(std::clamp<std::size_t>(store_.entries() / kBlobsInATurn, 1, 256));
    const unsigned step = static_cast<unsigned>(256 / turns);
    for (unsigned first = 0; first < 256 && !report_.stopped; first += step) {
      if (after_ && first + step <= std::to_integer<unsigned>(after_->raw().front())) continue;
      for (const BlobIndex::Blob& blob :
           store_.blobs_between(static_cast<std::uint8_t>(first), static_cast<std::uint8_t>(first + step - 1))) {
        if (!wanted(blob.digest)) continue;
        if (stop_.stop_requested() || !look_at(blob)) {
          report_.stopped = true;
          break;
        }
      }
    }
    return std::move(report_);
  }

 private:
  [[nodiscard]] bool wanted(const oci::Digest& digest) const {
    return (!after_ || BlobIndex::before(*after_, digest)) && sample_.has(digest);
  }

  bool look_at(const BlobIndex::Blob& blob) {
    const BlobStore::Checked checked = store_.check(blob.digest, [this](std::uint64_t bytes) {
      report_.bytes += bytes;
      if (on_progress_) on_progress_(report_);
      return pace_.after(bytes);
    });
    using State = BlobStore::Checked::State;
    switch (checked.state) {
      case State::stopped: return false;
      case State::sound:
      case State::gone: break;
      case State::damaged: ++report_.damaged; break;
      case State::missing: ++report_.missing; break;
      case State::unreadable: ++report_.unreadable; break;
    }
    if (!checked.reason.empty() && report_.found.size() < VerifyReport::kMaxDamaged) {
      report_.found.push_back({blob.digest, checked.reason, checked.quarantined_to});
    }
    ++report_.blobs;
    report_.last = blob.digest;
    if (on_progress_) on_progress_(report_);
    return true;
  }

  BlobStore& store_;
  const std::optional<oci::Digest> after_;
  const Sample sample_;
  Pace pace_;
  const std::stop_token stop_;
  const std::function<void(const VerifyProgress&)>& on_progress_;
  VerifyReport report_;
};

}  // namespace

Result<VerifyReport> verify(BlobStore& store, const VerifyOptions& options, std::stop_token stop,
                            const std::function<void(const VerifyProgress&)>& on_progress) {
  if (!store.running()) return Error(Errc::closed, "the store does not run");
  return Verification(store, options, std::move(stop), on_progress).run();
}

}  // namespace sluice::store
