#include "upstream/watched_registry.hpp"

#include <atomic>
#include <mutex>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/errc_kind.hpp"
#include "base/log.hpp"
#include "base/recurring_log.hpp"
#include "base/units.hpp"

namespace sluice::upstream {
namespace {

using runtime::Task;

// An upstream that comes and goes does not fill the log.
constexpr std::chrono::minutes kQuiet{1};

// Reads on from the name of the upstream.
std::string outage_text(const Error& error) {
  switch (error.code) {
    case Errc::throttled: return "limits our requests (429): " + error.message;
    case Errc::upstream_failed: return "answers with errors: " + error.message;
    default: return "does not answer: " + error.message;
  }
}

}  // namespace

class WatchedRegistry::Watch {
 public:
  Watch(std::string name, const Clock& clock, metrics::Registry& metrics, Params params)
      : name_(std::move(name)),
        clock_(clock),
        log_(clock),
        params_(std::move(params)),
        up_(metrics.gauge("sluice_upstream_up", "0 while upstream gives no usable answers: none, 5xx or 429",
                          {{"upstream", name_}})),
        login_refused_(
            metrics.gauge("sluice_upstream_login_refused",
                          "1 from a 401 or 403 to a request with our login until one brings what it asks for",
                          {{"upstream", name_}})),
        login_refusals_(metrics.counter("sluice_upstream_login_refusals_total",
                                        "Questions with our login that upstream answered with 401 or 403",
                                        {{"upstream", name_}})) {}

  void show(bool shown) {
    const std::scoped_lock lock(mutex_);
    shown_ = shown;
    if (!shown) {
      login_refused_.set(0);
      return;
    }
    up_.set(down_since_ ? 0 : 1);
    login_refused_.set(refused_ ? 1 : 0);
  }

  // `rights`: with which the question was put.
  template <class T>
  void see(const Result<T>& answer, Rights rights) {
    if (!answer) return see_error(answer.error(), rights);
    if (rights == Rights::own_login) login_accepted();
    if (down_.load(std::memory_order_relaxed)) answered();
  }

 private:
  void see_error(const Error& error, Rights rights) {
    if (rights == Rights::own_login && is_about_login(error.code)) login_refused(error);
    if (is_ours(error.code)) return;
    if (is_outage(error.code)) {
      failed(error);
    } else if (is_odd_answer(error.code)) {
      puzzled(error);
    } else if (down_.load(std::memory_order_relaxed)) {
      answered();
    }
  }

  void failed(const Error& error) {
    const std::scoped_lock lock(mutex_);
    if (down_since_) return;
    const Clock::Monotonic now = clock_.now();
    down_since_ = now;
    down_.store(true, std::memory_order_relaxed);
    if (!shown_) return;
    up_.set(0);
    const std::string why = outage_text(error);
    if (params_.on_outage) params_.on_outage(why);
    told_ = !last_told_ || now - *last_told_ >= kQuiet;
    if (!told_) return;
    last_told_ = now;
    log::warn("upstream", fmt::format("{} {}; serving from cache", name_, why));
  }

  void answered() {
    const std::scoped_lock lock(mutex_);
    if (!down_since_) return;
    const Clock::Monotonic::duration lasted = clock_.now() - *down_since_;
    down_since_.reset();
    down_.store(false, std::memory_order_relaxed);
    if (!shown_) return;
    up_.set(1);
    if (params_.on_outage) params_.on_outage({});
    if (!told_) return;
    log::warn("upstream", fmt::format("{} answers again, after {}", name_,
                                      format_duration(std::chrono::duration_cast<std::chrono::milliseconds>(lasted))));
  }

  void login_accepted() {
    if (!refused_.load(std::memory_order_relaxed)) return;
    const std::scoped_lock lock(mutex_);
    if (!refused_.exchange(false, std::memory_order_relaxed) || !shown_) return;
    login_refused_.set(0);
    if (params_.on_login) params_.on_login({});
    log::info("upstream", fmt::format("{} accepts our login again", name_));
  }

  void login_refused(const Error& error) {
    login_refusals_.add();
    const std::string why = "refused our login: " + error.message;
    {
      const std::scoped_lock lock(mutex_);
      refused_.store(true, std::memory_order_relaxed);
      if (!shown_) return;
      login_refused_.set(1);
      if (params_.on_login) params_.on_login(why);
    }
    log_.write(log::Level::warn, "upstream", "login",
               fmt::format("{} {}; check {}, and whether this account may read that repository", name_, why,
                           params_.login_setting));
  }

  void puzzled(const Error& error) {
    log_.write(log::Level::warn, "upstream", std::string(sluice::name(error.code)),
               fmt::format("{} sends answers that cannot be used: {}", name_, error.message));
  }

  const std::string name_;
  const Clock& clock_;
  RecurringLog log_;
  const Params params_;
  // Of the upstream's name, which two may have while one takes the other's place.
  metrics::Gauge& up_;
  metrics::Gauge& login_refused_;
  metrics::Counter& login_refusals_;
  std::atomic<bool> down_{false};     // down_since_, for a look without the lock
  std::atomic<bool> refused_{false};  // written under the lock
  std::mutex mutex_;                  // guards what follows
  bool shown_ = false;
  std::optional<Clock::Monotonic> down_since_;
  std::optional<Clock::Monotonic> last_told_;  // of an outage
  bool told_ = false;                          // the outage that there is
};

WatchedRegistry::WatchedRegistry(std::unique_ptr<Registry> registry, const Clock& clock, metrics::Registry& metrics,
                                 Params params)
    : registry_(std::move(registry)),
      watch_(std::make_shared<Watch>(std::string(registry_->name()), clock, metrics, std::move(params))) {}

WatchedRegistry::WatchedRegistry(std::shared_ptr<Registry> registry, std::shared_ptr<Watch> watch)
    : registry_(std::move(registry)), watch_(std::move(watch)) {}

WatchedRegistry::~WatchedRegistry() = default;

void WatchedRegistry::show(bool shown) { watch_->show(shown); }

// The answer, which is looked at as it passes.
template <class T>
Task<Result<T>> WatchedRegistry::told(Rights rights, Task<Result<T>> question) {
  Result<T> answer = co_await std::move(question);
  watch_->see(answer, rights);
  co_return answer;
}

Task<Result<oci::Descriptor>> WatchedRegistry::stat_blob(oci::Repository repository, oci::Digest digest) {
  const Rights with = registry_->rights(repository);
  return told(with, registry_->stat_blob(std::move(repository), digest));
}

Task<Result<std::unique_ptr<BlobBody>>> WatchedRegistry::open_blob(oci::Repository repository, oci::Digest digest,
                                                                   std::uint64_t offset) {
  const Rights with = registry_->rights(repository);
  return told(with, registry_->open_blob(std::move(repository), digest, offset));
}

Task<Result<std::unique_ptr<BlobBody>>> WatchedRegistry::open_blob_range(oci::Repository repository, oci::Digest digest,
                                                                         std::uint64_t first, std::uint64_t last) {
  const Rights with = registry_->rights(repository);
  return told(with, registry_->open_blob_range(std::move(repository), digest, first, last));
}

Task<Result<ManifestAnswer>> WatchedRegistry::get_manifest(oci::Repository repository, oci::Reference reference,
                                                           std::string accept) {
  const Rights with = registry_->rights(repository);
  return told(with, registry_->get_manifest(std::move(repository), std::move(reference), std::move(accept)));
}

Task<Result<ManifestHead>> WatchedRegistry::stat_manifest(oci::Repository repository, oci::Reference reference,
                                                          std::string accept) {
  const Rights with = registry_->rights(repository);
  return told(with, registry_->stat_manifest(std::move(repository), std::move(reference), std::move(accept)));
}

Task<Result<ListAnswer>> WatchedRegistry::list(oci::Repository repository, std::string what) {
  const Rights with = registry_->rights(repository);
  return told(with, registry_->list(std::move(repository), std::move(what)));
}

Task<Result<void>> WatchedRegistry::ping() {
  return told(Rights::anonymous, registry_->ping());  // no login is sent
}

std::shared_ptr<Registry> WatchedRegistry::on_behalf_of(std::string authorization) {
  return watched(registry_->on_behalf_of(std::move(authorization)));
}

std::shared_ptr<Registry> WatchedRegistry::behind_others(std::shared_ptr<Urgency> urgency) {
  return watched(registry_->behind_others(std::move(urgency)));
}

std::shared_ptr<Registry> WatchedRegistry::asking_for(Asker asker) {
  return watched(registry_->asking_for(std::move(asker)));
}

std::shared_ptr<Registry> WatchedRegistry::watched(std::shared_ptr<Registry> registry) const {
  if (!registry) return nullptr;
  return std::shared_ptr<WatchedRegistry>(new WatchedRegistry(std::move(registry), watch_));
}

}  // namespace sluice::upstream
