#include "store/scrubber.hpp"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/units.hpp"
#include "runtime/guarded.hpp"

namespace sluice::store {
namespace {

constexpr const char* kComponent = "scrub";
// How often it looks whether a pass is due.
constexpr std::chrono::seconds kLook{10};
// How much is read between two notes of how far it has come. A restart reads that much twice.
constexpr std::uint64_t kRememberBytes = 256 << 20;
constexpr std::size_t kMaxSuspects = 1024;

// Keys of the catalog's meta table.
constexpr const char* kBegan = "scrub_began";  // seconds since 1970
constexpr const char* kLast = "scrub_last";    // a digest; empty: the pass has come to its end
constexpr const char* kEnded = "scrub_ended";  // seconds since 1970, of the last pass that did

// Behind everything else, where the kernel's scheduler knows how.
void lower_priority() {
  constexpr int kWhoProcess = 1;
  constexpr int kIdleClass = 3 << 13;
  constexpr int kNice = 10;
  const auto thread = static_cast<id_t>(::gettid());
  (void)::syscall(SYS_ioprio_set, kWhoProcess, 0, kIdleClass);
  (void)::setpriority(PRIO_PROCESS, thread, kNice);
}

std::uint32_t number_of(const std::map<std::string, std::string>& meta, const char* key) {
  const auto at = meta.find(key);
  std::uint32_t out = 0;
  if (at != meta.end()) std::from_chars(at->second.data(), at->second.data() + at->second.size(), out);
  return out;
}

}  // namespace

BlobStore::Scrubber::Scrubber(BlobStore& store, metrics::Registry& registry)
    : store_(store),
      bytes_(registry.counter("sluice_scrub_bytes_total", "Bytes at rest that were read again")),
      blobs_(registry.counter("sluice_scrub_blobs_total", "Blobs at rest that were read again")),
      damaged_(registry.counter("sluice_scrub_damaged_total", "Blobs that reading again has found to be damaged",
                                {{"kind", "damaged"}})),
      missing_(registry.counter("sluice_scrub_damaged_total", "Blobs that reading again has found to be damaged",
                                {{"kind", "missing"}})),
      unreadable_(registry.counter("sluice_scrub_damaged_total", "Blobs that reading again has found to be damaged",
                                   {{"kind", "unreadable"}})),
      running_(registry.gauge("sluice_scrub_running", "1 while blobs at rest are read again")),
      last_pass_(registry.gauge("sluice_scrub_last_pass_timestamp_seconds",
                                "When all blobs at rest had been read again, 0: never yet")) {}

void BlobStore::Scrubber::start(const Meta& meta) {
  began_ = number_of(meta, kBegan);
  last_pass_.set(number_of(meta, kEnded));
  if (const auto at = meta.find(kLast); at != meta.end() && !at->second.empty()) {
    const Result<oci::Digest> last = oci::Digest::parse(at->second);
    if (last) last_ = *last;
    in_pass_ = true;
  }
  thread_ = std::thread([this] { run(); });
}

void BlobStore::Scrubber::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stop_.request_stop();
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void BlobStore::Scrubber::suspect(const oci::Digest& digest) {
  {
    const std::scoped_lock lock(mutex_);
    if (suspects_.size() >= kMaxSuspects) return;
    if (std::find(suspects_.begin(), suspects_.end(), digest) != suspects_.end()) return;
    suspects_.push_back(digest);
  }
  changed_.notify_all();
}

void BlobStore::Scrubber::round() {
  std::unique_lock lock(mutex_);
  const std::uint64_t wanted = ++rounds_wanted_;
  changed_.notify_all();
  changed_.wait(lock, [&] { return rounds_done_ >= wanted || stop_.stop_requested(); });
}

void BlobStore::Scrubber::run() {
  lower_priority();
  std::unique_lock lock(mutex_);
  while (!stop_.stop_requested()) {
    const std::uint64_t asked = rounds_wanted_;
    lock.unlock();
    runtime::guarded("scrub", [this] {
      check_suspects();
      if (due()) pass();
    });
    lock.lock();
    rounds_done_ = asked;
    changed_.notify_all();
    changed_.wait_for(
        lock, kLook, [this] { return stop_.stop_requested() || !suspects_.empty() || rounds_wanted_ != rounds_done_; });
  }
}

bool BlobStore::Scrubber::due() const {
  if (store_.params_.scrub_rate == 0) return false;
  if (in_pass_) return true;
  // What has just been found by a rebuild is not all there yet.
  if (store_.rebuilding()) return false;
  const auto interval = static_cast<std::uint64_t>(store_.params_.scrub_interval.count());
  return store_.now_seconds() >= began_ + interval;
}

void BlobStore::Scrubber::check_suspects() {
  for (;;) {
    oci::Digest digest;
    {
      const std::scoped_lock lock(mutex_);
      if (suspects_.empty() || stop_.stop_requested()) return;
      digest = suspects_.front();
      suspects_.pop_front();
    }
    const Checked checked = store_.check(digest, [this](std::uint64_t bytes) {
      bytes_.add(bytes);
      return !stop_.stop_requested();
    });
    if (checked.state == Checked::State::damaged) damaged_.add();
    if (checked.state == Checked::State::missing) missing_.add();
    if (checked.state == Checked::State::unreadable) unreadable_.add();
  }
}

void BlobStore::Scrubber::pass() {
  if (!std::exchange(in_pass_, true)) {
    began_ = store_.now_seconds();
    last_.reset();
    remember();
  }
  running_.set(1);
  VerifyProgress noted;
  const Result<VerifyReport> report = verify(store_, {.bytes_per_second = store_.params_.scrub_rate, .after = last_},
                                             stop_.get_token(), [&](const VerifyProgress& now) {
                                               note_progress(now, noted);
                                               check_suspects();
                                             });
  running_.set(0);
  if (!report || report->stopped) {
    if (last_) remember();
    return;
  }
  in_pass_ = false;
  last_.reset();
  const std::uint32_t now = store_.now_seconds();
  last_pass_.set(now);
  store_.catalog_.set_meta(kEnded, std::to_string(now));
  remember();
  if (report->blobs == 0) return;
  log::info(kComponent,
            fmt::format("{} blobs ({}) were read again: {} damaged, {} missing, {} unreadable", report->blobs,
                        format_bytes(report->bytes), report->damaged, report->missing, report->unreadable));
}

void BlobStore::Scrubber::note_progress(const VerifyProgress& now, VerifyProgress& noted) {
  bytes_.add(now.bytes - noted.bytes);
  blobs_.add(now.blobs - noted.blobs);
  damaged_.add(now.damaged - noted.damaged);
  missing_.add(now.missing - noted.missing);
  unreadable_.add(now.unreadable - noted.unreadable);
  since_remembered_ += now.bytes - noted.bytes;
  if (now.last) last_ = now.last;
  noted = now;
  if (last_ && since_remembered_ >= kRememberBytes) remember();
}

void BlobStore::Scrubber::remember() {
  since_remembered_ = 0;
  store_.catalog_.set_meta(kBegan, std::to_string(began_));
  store_.catalog_.set_meta(kLast, in_pass_ && last_ ? last_->to_string() : std::string());
}

}  // namespace sluice::store
