// The scrubber: a thread that reads all blobs at rest again, slowly, to find what was damaged on the disk. Internal to
// the store.
//
//   made ──start()──▶ running ──stop()──▶ stopped
//
// A pass goes through the blobs in the order of their digests, at the rate of Params::scrub_rate, and begins when the
// one before began Params::scrub_interval ago. How far it has come is in the catalog, so that a restart goes on from
// there. Blobs that somebody could not read (suspect) are checked between, at once. What is damaged goes into
// quarantine (store/verifier.hpp).
//
// start and stop from the store's owner; suspect and round from any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "store/blob_store.hpp"
#include "store/verifier.hpp"

namespace sluice::store {

class BlobStore::Scrubber {
 public:
  using Meta = std::map<std::string, std::string>;

  Scrubber(BlobStore& store, metrics::Registry& registry);
  Scrubber(const Scrubber&) = delete;
  Scrubber& operator=(const Scrubber&) = delete;
  ~Scrubber() { stop(); }

  // `meta`: what the catalog remembers.
  void start(const Meta& meta);
  void stop();
  void suspect(const oci::Digest& digest);
  // Blocks until the suspects of now are checked, and a pass that is due has ended.
  void round();

 private:
  void run();
  void check_suspects();
  [[nodiscard]] bool due() const;
  void pass();
  void note_progress(const VerifyProgress& now, VerifyProgress& noted);
  void remember();

  BlobStore& store_;
  metrics::Counter& bytes_;
  metrics::Counter& blobs_;
  metrics::Counter& damaged_;
  metrics::Counter& missing_;
  metrics::Counter& unreadable_;
  metrics::Gauge& running_;
  metrics::Gauge& last_pass_;

  // The thread's alone once it runs.
  std::uint32_t began_ = 0;          // seconds since 1970; 0: never
  std::optional<oci::Digest> last_;  // of the pass that runs: the last blob it has looked at
  bool in_pass_ = false;
  std::uint64_t since_remembered_ = 0;

  std::stop_source stop_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<oci::Digest> suspects_;
  std::uint64_t rounds_wanted_ = 0;
  std::uint64_t rounds_done_ = 0;
  std::thread thread_;
};

}  // namespace sluice::store
