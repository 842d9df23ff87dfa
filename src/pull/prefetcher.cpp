#include "pull/prefetcher.hpp"

#include <algorithm>
#include <iterator>
#include <ranges>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/units.hpp"
#include "oci/manifest.hpp"
#include "upstream/urgency.hpp"

namespace sluice::pull {
namespace {

constexpr std::size_t kParsedInPlace = 64 * 1024;
// Images have at most some hundred layers.
constexpr std::size_t kMostAsked = 256;
// Of one manifest's.
constexpr std::size_t kAskedAtOnce = 4;

bool fetches_for(const access::Route& route) {
  return route.prefetch != access::Prefetch::none && route.passthrough == nullptr;
}

metrics::Counter& blobs_by(metrics::Registry& registry, std::string_view result) {
  return registry.counter("sluice_prefetch_blobs_total",
                          "Blobs that were to be fetched before a client asks for them: fetched; handed_over to a "
                          "client who asked meanwhile; present, or on its way already; no_room, since it could not be "
                          "stored; failed; left_out, being too large or too many",
                          {{"result", std::string(result)}});
}

}  // namespace

Prefetcher::Metrics::Metrics(metrics::Registry& registry)
    : by_outcome{&blobs_by(registry, "fetched"), &blobs_by(registry, "handed_over"), &blobs_by(registry, "present"),
                 &blobs_by(registry, "no_room")},
      failed(blobs_by(registry, "failed")),
      left_out(blobs_by(registry, "left_out")),
      bytes(registry.counter("sluice_prefetch_bytes_total", "Bytes of the blobs that were fetched ahead to their end")),
      running(registry.gauge("sluice_prefetch_running", "Blobs that are being fetched before a client asks for them")),
      waiting(registry.gauge("sluice_prefetch_waiting", "Blobs that are to be fetched before a client asks for them")) {
}

Prefetcher::Prefetcher(Params params, BlobService& blobs, runtime::LoopPool& loops, runtime::DiskPool& pool,
                       const Clock& clock, runtime::TaskGroup& group, metrics::Registry& registry)
    : params_(params),
      blobs_(blobs),
      loops_(loops),
      pool_(pool),
      group_(group),
      metrics_(registry),
      seen_({.ttl = params.pause, .max_entries = 10'000}, clock) {}

runtime::Executor Prefetcher::next_loop() {
  return loops_.at(next_loop_.fetch_add(1, std::memory_order_relaxed) % loops_.size()).get_executor();
}

void Prefetcher::offer(const access::Route& route, const oci::Digest& digest,
                       std::shared_ptr<const ReadyObject> manifest) {
  if ((!fetches_for(route) && route.equal_rights) || (!manifest->in_memory && !manifest->file)) return;
  std::string key = route.scope.str();
  key.append("@").append(digest.to_string());
  if (seen_.contains(key)) return;
  seen_.add(key);
  // The client does not wait for its manifest to be read.
  group_.spawn(next_loop(), plan(route, digest, std::move(manifest)));
}

runtime::Task<void> Prefetcher::plan(access::Route route, oci::Digest digest,
                                     std::shared_ptr<const ReadyObject> manifest) {
  Result<oci::ManifestInfo> info{Errc::internal};
  if (manifest->in_memory && manifest->size <= kParsedInPlace) {
    info = oci::parse_manifest(manifest->body, manifest->media_type);
  } else {
    info = co_await runtime::offload(pool_, [this, manifest]() -> Result<oci::ManifestInfo> {
      if (manifest->in_memory) return oci::parse_manifest(manifest->body, manifest->media_type);
      const Result<std::string> body = blobs_.read_whole(*manifest->file);
      if (!body) return body.error();
      return oci::parse_manifest(*body, manifest->media_type);
    });
  }
  if (!info) co_return;
  std::vector<oci::Descriptor> blobs = oci::own_blobs(*info);
  if (!route.equal_rights) ask(route, blobs);
  if (!fetches_for(route)) co_return;
  if (route.prefetch == access::Prefetch::config && blobs.size() > 1)
    blobs.resize(1);  // the configuration stands first
  std::uint64_t bytes = 0;
  std::size_t taken = 0;
  {
    const std::scoped_lock lock(mutex_);
    for (oci::Descriptor& blob : blobs) {
      if (blob.size > params_.bytes || waiting_.size() >= params_.max_waiting) continue;
      bytes += blob.size;
      ++taken;
      waiting_.push_back(Job{route, std::move(blob)});
    }
  }
  metrics_.waiting.add(static_cast<std::int64_t>(taken));
  metrics_.left_out.add(blobs.size() - taken);
  log::debug("prefetch", fmt::format("{} of {} names {} blobs, of which {} ({}) are looked for ahead",
                                     digest.to_string(), route.scope.str(), blobs.size(), taken, format_bytes(bytes)));
  start_next();
}

// What one manifest names.
struct Prefetcher::Questions {
  Questions(const access::Route& by, const std::vector<oci::Descriptor>& blobs) : route(by) {
    for (const oci::Descriptor& blob : blobs | std::views::take(kMostAsked)) digests.push_back(blob.digest);
  }
  const access::Route route;
  std::vector<oci::Digest> digests;
  std::atomic<std::size_t> next{0};
};

void Prefetcher::ask(const access::Route& route, const std::vector<oci::Descriptor>& blobs) {
  const auto questions = std::make_shared<Questions>(route, blobs);
  for (std::size_t i = 0; i < std::min(kAskedAtOnce, questions->digests.size()); ++i) {
    group_.spawn(next_loop(), ask_some(questions));
  }
}

runtime::Task<void> Prefetcher::ask_some(std::shared_ptr<Questions> questions) {
  for (;;) {
    const std::size_t i = questions->next.fetch_add(1);
    if (i >= questions->digests.size()) co_return;
    if (!co_await blobs_.ask_ahead(questions->route, questions->digests[i])) co_return;
  }
}

// Counts a job out again, however it ends. It was counted in when it was taken.
class Prefetcher::Running {
 public:
  Running(Prefetcher& owner, const Job& job)
      : owner_(owner), upstream_(job.route.registry->name()), size_(job.blob.size) {
    owner_.metrics_.running.add(1);
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() {
    owner_.metrics_.running.add(-1);
    {
      const std::scoped_lock lock(owner_.mutex_);
      --owner_.running_[upstream_];
      owner_.bytes_ -= size_;
    }
    owner_.start_next();
  }

 private:
  Prefetcher& owner_;
  const std::string upstream_;
  const std::uint64_t size_;
};

std::vector<Prefetcher::Job> Prefetcher::take_startable() {
  std::vector<Job> out;
  const std::scoped_lock lock(mutex_);
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    std::size_t& running = running_[std::string(at->route.registry->name())];
    if (running >= params_.parallel || bytes_ + at->blob.size > params_.bytes) {
      ++at;
      continue;
    }
    ++running;
    bytes_ += at->blob.size;
    out.push_back(std::move(*at));
    at = waiting_.erase(at);
  }
  return out;
}

// Once the group is cancelled nothing is taken back: what is dropped then is not missed.
void Prefetcher::start_next() {
  for (Job& job : take_startable()) {
    metrics_.waiting.add(-1);
    group_.spawn(next_loop(), fetch(std::move(job)));
  }
}

runtime::Task<void> Prefetcher::fetch(Job job) {
  const Running running(*this, job);
  access::Route route = std::move(job.route);
  route.urgency = std::make_shared<upstream::Urgency>();
  route.behind = route.registry->behind_others(route.urgency);
  if (!route.behind) co_return;  // not to be asked without need
  route.registry = route.behind.get();
  route.answer_by = std::chrono::steady_clock::time_point::max();
  const Result<Fills::Ahead> ended = co_await blobs_.fetch_ahead(route, job.blob.digest);
  if (!ended) {
    metrics_.failed.add();
    log::debug("prefetch",
               fmt::format("{} of {}: {}", job.blob.digest.to_string(), route.scope.str(), ended.error().message));
    co_return;
  }
  metrics_.by_outcome.at(static_cast<std::size_t>(*ended))->add();
  if (*ended == Fills::Ahead::fetched) metrics_.bytes.add(job.blob.size);
}

}  // namespace sluice::pull
