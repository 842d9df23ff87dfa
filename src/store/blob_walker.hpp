// The walk that finds blobs on the disk which the index lacks: all of them after the catalog was lost, those of the
// last moments before a crash otherwise. Internal to the store.
//
//   made ──start()──▶ walking ──▶ done        stop() ends it early, from any state
//
// start and stop from the store's owner; wait from any thread. It has a thread of its own, so that a store of many
// blobs does not hold up the disk pool.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "store/blob_store.hpp"

namespace sluice::store {

class BlobStore::Walker {
 public:
  explicit Walker(BlobStore& store) : store_(store) {}
  Walker(const Walker&) = delete;
  Walker& operator=(const Walker&) = delete;
  ~Walker() { stop(); }

  // Pauses after each directory, so that the disk is free for requests.
  void start(std::chrono::milliseconds pause);
  void stop();
  void wait();

 private:
  void run(std::chrono::milliseconds pause);
  void walk_algorithm(oci::Algorithm algorithm, std::chrono::milliseconds pause);
  void walk_shelf(oci::Algorithm algorithm, const std::string& shelf);
  // Nothing when it cannot be listed, which is counted unless it does not exist.
  std::vector<runtime::DirectoryEntry> list(const runtime::Path& directory);
  // False when the walk must end.
  bool rest(std::chrono::milliseconds pause);
  [[nodiscard]] bool stopping();

  BlobStore& store_;
  std::size_t found_ = 0;    // the walker's thread alone, as the next two
  std::size_t strange_ = 0;  // files that are no blob by their name
  bool failed_ = false;

  std::mutex mutex_;  // guards the two flags
  std::condition_variable changed_;
  bool stop_ = false;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace sluice::store
