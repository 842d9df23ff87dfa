#include "upstream/watched_registry.hpp"

#include <atomic>
#include <mutex>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/errc_kind.hpp"
#include "base/log.hpp"
#include "base/units.hpp"

namespace sluice::upstream {
namespace {

using runtime::Task;

// An upstream that comes and goes does not fill the log.
constexpr std::chrono::minutes kQuiet{1};

}  // namespace

class WatchedRegistry::Watch {
 public:
  Watch(std::string name, const Clock& clock, metrics::Registry& metrics, OnChange on_change)
      : name_(std::move(name)),
        clock_(clock),
        on_change_(std::move(on_change)),
        up_(metrics.gauge("sluice_upstream_up", "0 while upstream does not answer", {{"upstream", name_}})) {}

  void show(bool shown) {
    const std::scoped_lock lock(mutex_);
    shown_ = shown;
    if (shown) up_.set(down_since_ ? 0 : 1);
  }

  template <class T>
  void see(const Result<T>& answer) {
    if (!answer && is_ours(answer.error().code)) return;
    if (!answer && is_outage(answer.error().code)) {
      failed(answer.error());
    } else if (!answer && is_odd_answer(answer.error().code)) {
      puzzled(answer.error());
    } else if (down_.load(std::memory_order_relaxed)) {
      answered();
    }
  }

 private:
  void failed(const Error& error) {
    const std::scoped_lock lock(mutex_);
    if (down_since_) return;
    const Clock::Monotonic now = clock_.now();
    down_since_ = now;
    down_.store(true, std::memory_order_relaxed);
    if (!shown_) return;
    up_.set(0);
    if (on_change_) on_change_(error.message);
    told_ = !last_told_ || now - *last_told_ >= kQuiet;
    if (!told_) return;
    last_told_ = now;
    log::warn("upstream", fmt::format("{} does not answer: {}; serving from cache", name_, error.message));
  }

  void answered() {
    const std::scoped_lock lock(mutex_);
    if (!down_since_) return;
    const Clock::Monotonic::duration lasted = clock_.now() - *down_since_;
    down_since_.reset();
    down_.store(false, std::memory_order_relaxed);
    if (!shown_) return;
    up_.set(1);
    if (on_change_) on_change_({});
    if (!told_) return;
    log::warn("upstream", fmt::format("{} answers again, after {}", name_,
                                      format_duration(std::chrono::duration_cast<std::chrono::milliseconds>(lasted))));
  }

  void puzzled(const Error& error) {
    const std::scoped_lock lock(mutex_);
    const Clock::Monotonic now = clock_.now();
    if (last_puzzled_ && now - *last_puzzled_ < kQuiet) {
      ++untold_;
      return;
    }
    last_puzzled_ = now;
    const std::string more = untold_ == 0 ? "" : fmt::format(" ({} others like it before)", untold_);
    untold_ = 0;
    log::warn("upstream", fmt::format("{} sends answers that cannot be used: {}{}", name_, error.message, more));
  }

  const std::string name_;
  const Clock& clock_;
  const OnChange on_change_;
  metrics::Gauge& up_;             // of the upstream's name, which two may have while one takes the other's place
  std::atomic<bool> down_{false};  // down_since_, for a look without the lock
  std::mutex mutex_;               // guards what follows
  bool shown_ = false;
  std::optional<Clock::Monotonic> down_since_;
  std::optional<Clock::Monotonic> last_told_;  // of an outage
  std::optional<Clock::Monotonic> last_puzzled_;
  std::size_t untold_ = 0;
  bool told_ = false;  // the outage that there is
};

WatchedRegistry::WatchedRegistry(std::unique_ptr<Registry> registry, const Clock& clock, metrics::Registry& metrics,
                                 OnChange on_change)
    : registry_(std::move(registry)),
      watch_(std::make_shared<Watch>(std::string(registry_->name()), clock, metrics, std::move(on_change))) {}

WatchedRegistry::WatchedRegistry(std::shared_ptr<Registry> registry, std::shared_ptr<Watch> watch)
    : registry_(std::move(registry)), watch_(std::move(watch)) {}

WatchedRegistry::~WatchedRegistry() = default;

void WatchedRegistry::show(bool shown) { watch_->show(shown); }

Task<Result<oci::Descriptor>> WatchedRegistry::stat_blob(oci::Repository repository, oci::Digest digest) {
  Result<oci::Descriptor> answer = co_await registry_->stat_blob(std::move(repository), digest);
  watch_->see(answer);
  co_return answer;
}

Task<Result<std::unique_ptr<BlobBody>>> WatchedRegistry::open_blob(oci::Repository repository, oci::Digest digest,
                                                                   std::uint64_t offset) {
  Result<std::unique_ptr<BlobBody>> answer = co_await registry_->open_blob(std::move(repository), digest, offset);
  watch_->see(answer);
  co_return answer;
}

Task<Result<std::unique_ptr<BlobBody>>> WatchedRegistry::open_blob_range(oci::Repository repository, oci::Digest digest,
                                                                         std::uint64_t first, std::uint64_t last) {
  Result<std::unique_ptr<BlobBody>> answer =
      co_await registry_->open_blob_range(std::move(repository), digest, first, last);
  watch_->see(answer);
  co_return answer;
}

Task<Result<ManifestAnswer>> WatchedRegistry::get_manifest(oci::Repository repository, oci::Reference reference,
                                                           std::string accept) {
  Result<ManifestAnswer> answer =
      co_await registry_->get_manifest(std::move(repository), std::move(reference), std::move(accept));
  watch_->see(answer);
  co_return answer;
}

Task<Result<ManifestHead>> WatchedRegistry::stat_manifest(oci::Repository repository, oci::Reference reference,
                                                          std::string accept) {
  Result<ManifestHead> answer =
      co_await registry_->stat_manifest(std::move(repository), std::move(reference), std::move(accept));
  watch_->see(answer);
  co_return answer;
}

Task<Result<ListAnswer>> WatchedRegistry::list(oci::Repository repository, std::string what) {
  Result<ListAnswer> answer = co_await registry_->list(std::move(repository), std::move(what));
  watch_->see(answer);
  co_return answer;
}

Task<Result<void>> WatchedRegistry::ping() {
  Result<void> answer = co_await registry_->ping();
  watch_->see(answer);
  co_return answer;
}

std::shared_ptr<Registry> WatchedRegistry::on_behalf_of(std::string authorization) {
  return watched(registry_->on_behalf_of(std::move(authorization)));
}

std::shared_ptr<Registry> WatchedRegistry::behind_others(std::shared_ptr<Urgency> urgency) {
  return watched(registry_->behind_others(std::move(urgency)));
}

std::shared_ptr<Registry> WatchedRegistry::passing_on(std::string via) {
  return watched(registry_->passing_on(std::move(via)));
}

std::shared_ptr<Registry> WatchedRegistry::watched(std::shared_ptr<Registry> registry) const {
  if (!registry) return nullptr;
  return std::shared_ptr<WatchedRegistry>(new WatchedRegistry(std::move(registry), watch_));
}

}  // namespace sluice::upstream
