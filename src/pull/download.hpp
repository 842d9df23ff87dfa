// Download: one blob, from upstream into the writer of a fill. FillMachine decides what happens next; this does it.
//
// Owner: the fill. Threads: the loop of the fill's task. What it is given outlives it.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "access/blob_access.hpp"
#include "access/upstreams.hpp"
#include "base/recurring_log.hpp"
#include "base/result.hpp"
#include "oci/digest.hpp"
#include "pull/fill_machine.hpp"
#include "pull/fill_storage.hpp"
#include "pull/metrics.hpp"
#include "pull/resume.hpp"
#include "pull/told_types.hpp"
#include "pull/trailing_verifier.hpp"
#include "runtime/task.hpp"
#include "streamcache/cache.hpp"
#include "upstream/registry.hpp"
#include "upstream/urgencies.hpp"

namespace sluice::pull {

// Under which the fill of a blob is known to the streaming cache.
std::string fill_key(std::string_view upstream, const oci::Digest& digest);
// Upstream and digest of such a key, which they live as long as.
std::pair<std::string_view, std::string_view> parts_of_fill_key(std::string_view key);

class Download {
 public:
  // What all downloads share.
  struct Shared {
    TransferParams params;
    access::BlobAccess& access;
    FillStorage& storage;
    upstream::Urgencies& urgencies;
    ToldTypes& told_types;
    RecurringLog& log;  // of what upstreams send, by name and kind
    const Metrics& metrics;
  };

  // `key`: of the fill. `ticket` was taken before upstream is asked.
  Download(const Shared& shared, std::string key, access::Route route, oci::Digest digest, streamcache::Writer& writer,
           TrailingVerifier& verifier, store::Reservation& room, const access::Revocations::Ticket& ticket);
  Download(const Download&) = delete;
  Download& operator=(const Download&) = delete;
  ~Download();

  // Until upstream has no more to send. Once. Errors: upstream's, once asking again has not helped; the writer's;
  // abandoned, cancelled. Never throws.
  runtime::Task<Result<void>> run();

 private:
  using Step = FillMachine::Step;

  runtime::Task<Result<void>> follow_machine();
  runtime::Task<Step> ask(Step step);
  runtime::Task<Step> ask_size();
  runtime::Task<Step> check_part();
  runtime::Task<Step> drop_part(Step step);
  runtime::Task<Step> take_part(Step step);
  runtime::Task<Step> read(Step step);
  runtime::Task<Step> move_bytes();
  runtime::Task<Result<void>> store(std::span<const std::byte> bytes);
  runtime::Task<Result<void>> skip(std::uint64_t count);
  runtime::Task<void> tell_size();
  void hold_back();
  [[nodiscard]] bool must_yield();

  const Shared& shared_;
  const std::string key_;
  access::Route route_;
  const oci::Digest digest_;
  streamcache::Writer& writer_;
  TrailingVerifier& verifier_;
  store::Reservation& room_;
  const access::Revocations::Ticket& ticket_;
  std::vector<std::byte> buffer_;
  FillMachine machine_;
  std::unique_ptr<upstream::BlobBody> body_;
  bool drops_behind_ = false;  // somebody has asked for it: when all have left, it comes behind others
  bool limited_ = false;       // it has no place within the limits of the store, and passes through memory
};

}  // namespace sluice::pull
