// Prefetcher: what an image needs, fetched while its client still reads the manifest.
//
//   offer(manifest) ──▶ its blobs, without what is here ──▶ wait ──▶ at most `parallel` of an upstream, at most `bytes`
//
// A download ahead is a fill like any other, so a client that asks for the blob joins it. Upstream is asked behind all
// who are waited for (upstream/urgency.hpp) until then. It has no client that would pace it: it goes to the disk as
// fast as upstream gives it, but only where it can be stored.
//
// Where a manifest's word does not let its repository have a blob (Route::equal_rights), what is at rest already is
// asked about ahead instead, a few blobs at a time and behind all that somebody waits for, while the client reads the
// manifest. That is one HEAD for a blob that another repository has brought, and none again before descriptors.ttl.
//
// Nothing is fetched for an index, because nobody has said which platform he wants; nothing that may lie elsewhere
// (layers with `urls`); nothing from an upstream with passthrough, since a client's login is for what the client asks;
// and nothing twice for a manifest that is asked for often.
//
// Threads: offer() from any thread. What it starts runs in the task group, which must be empty before this is
// destroyed.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "access/negative_cache.hpp"
#include "access/upstreams.hpp"
#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "oci/descriptor.hpp"
#include "pull/blob_service.hpp"
#include "pull/ready_object.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/loop.hpp"
#include "runtime/task_group.hpp"

namespace sluice::pull {

class Prefetcher {
 public:
  struct Params {
    // Blobs of one upstream at a time.
    std::size_t parallel = 8;
    // What those of all upstreams may come to, by what their manifests say. What is larger by itself is left to whoever
    // asks for it.
    std::uint64_t bytes = std::uint64_t{1} << 30;
    // Further ones are left out.
    std::size_t max_waiting = 1000;
    // For how long a manifest that was looked at is not looked at again; most of these are remembered.
    std::chrono::milliseconds pause{600'000};
  };

  Prefetcher(Params params, BlobService& blobs, runtime::LoopPool& loops, runtime::DiskPool& pool, const Clock& clock,
             runtime::TaskGroup& group, metrics::Registry& registry);

  // A client is given this manifest. Returns at once.
  void offer(const access::Route& route, const oci::Digest& digest, std::shared_ptr<const ReadyObject> manifest);

 private:
  struct Metrics {
    explicit Metrics(metrics::Registry& registry);
    std::array<metrics::Counter*, 4> by_outcome;  // of Fills::Ahead
    metrics::Counter& failed;
    metrics::Counter& left_out;
    metrics::Counter& bytes;
    metrics::Gauge& running;
    metrics::Gauge& waiting;
  };
  struct Job {
    access::Route route;
    oci::Descriptor blob;
  };
  class Running;
  struct Questions;

  runtime::Task<void> plan(access::Route route, oci::Digest digest, std::shared_ptr<const ReadyObject> manifest);
  runtime::Task<void> fetch(Job job);
  void ask(const access::Route& route, const std::vector<oci::Descriptor>& blobs);
  runtime::Task<void> ask_some(std::shared_ptr<Questions> questions);
  void start_next();
  [[nodiscard]] std::vector<Job> take_startable();
  [[nodiscard]] runtime::Executor next_loop();

  const Params params_;
  BlobService& blobs_;
  runtime::LoopPool& loops_;
  runtime::DiskPool& pool_;
  runtime::TaskGroup& group_;
  const Metrics metrics_;
  access::NegativeCache seen_;  // manifests that were looked at lately
  std::atomic<std::size_t> next_loop_{0};

  std::mutex mutex_;  // guards everything below
  std::deque<Job> waiting_;
  std::map<std::string, std::size_t, std::less<>> running_;  // by upstream
  std::uint64_t bytes_ = 0;                                  // of those that run
};

}  // namespace sluice::pull
