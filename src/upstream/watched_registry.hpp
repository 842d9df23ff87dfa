// WatchedRegistry: an upstream and whether it answers. The beginning and the end of an outage are a line in the log
// each, and a gauge (`sluice_upstream_up`); what happens in between is upstream's other metrics.
//
// A refusal (401, 403) of a question that was put with a login of ours is told as well, by a counter, a gauge and a
// line in the log, once in a while: whoever configured the login sees nothing of what clients get. It ends when what
// was asked for with that login comes; a 404 or an outage says nothing of the login. Clients choose the question, so it
// may also be about a repository that this login may not read.
//
// An outage begins with a question that upstream gave no usable answer to, after all its retries: out of reach, timed
// out, 5xx, 429. It ends with any answer, a refusal too. An answer that is none of what was asked for (another digest,
// broken HTTP) is no outage: that is not the network's fault. It is told, of each kind once for a while
// (base/recurring_log.hpp).
//
// Threads: as the Registry that it watches, which it owns.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "upstream/registry.hpp"

namespace sluice::upstream {

class WatchedRegistry final : public Registry {
 public:
  // Called on some thread and under a lock. `why` reads on from the name of the upstream ("does not answer: …"); it is
  // empty when that is over. `on_login` is called again with each further refusal, whose reason may be another.
  using OnChange = std::function<void(const std::string& why)>;
  struct Params {
    OnChange on_outage = {};
    OnChange on_login = {};
    std::string login_setting = {};  // where our login is configured, for the log
  };

  WatchedRegistry(std::unique_ptr<Registry> registry, const Clock& clock, metrics::Registry& metrics, Params params);
  ~WatchedRegistry() override;

  // Whether outages are told: not before this is called with true. One that takes another's place has its gauge.
  void show(bool shown);

  [[nodiscard]] std::string_view name() const override { return registry_->name(); }
  [[nodiscard]] Rights rights(const oci::Repository& repository) const override {
    return registry_->rights(repository);
  }
  runtime::Task<Result<oci::Descriptor>> stat_blob(oci::Repository repository, oci::Digest digest) override;
  runtime::Task<Result<std::unique_ptr<BlobBody>>> open_blob(oci::Repository repository, oci::Digest digest,
                                                             std::uint64_t offset) override;
  runtime::Task<Result<std::unique_ptr<BlobBody>>> open_blob_range(oci::Repository repository, oci::Digest digest,
                                                                   std::uint64_t first, std::uint64_t last) override;
  runtime::Task<Result<ManifestAnswer>> get_manifest(oci::Repository repository, oci::Reference reference,
                                                     std::string accept) override;
  runtime::Task<Result<ManifestHead>> stat_manifest(oci::Repository repository, oci::Reference reference,
                                                    std::string accept) override;
  runtime::Task<Result<ListAnswer>> list(oci::Repository repository, std::string what) override;
  runtime::Task<Result<void>> ping() override;
  void note_claimed_size(const oci::Digest& digest, std::uint64_t size_bytes) override {
    registry_->note_claimed_size(digest, size_bytes);
  }
  void note_mismatch(const oci::Digest& digest) override { registry_->note_mismatch(digest); }
  [[nodiscard]] std::chrono::milliseconds throttled_for(const oci::Repository& repository,
                                                        const oci::Reference& reference) const override {
    return registry_->throttled_for(repository, reference);
  }
  [[nodiscard]] std::shared_ptr<Registry> on_behalf_of(std::string authorization) override;
  [[nodiscard]] std::shared_ptr<Registry> behind_others(std::shared_ptr<Urgency> urgency) override;
  [[nodiscard]] std::shared_ptr<Registry> asking_for(Asker asker) override;

 private:
  class Watch;
  template <class T>
  runtime::Task<Result<T>> told(Rights rights, runtime::Task<Result<T>> question);
  [[nodiscard]] std::shared_ptr<Registry> watched(std::shared_ptr<Registry> registry) const;
  WatchedRegistry(std::shared_ptr<Registry> registry, std::shared_ptr<Watch> watch);

  const std::shared_ptr<Registry> registry_;
  const std::shared_ptr<Watch> watch_;  // shared with those that ask on behalf of clients
};

}  // namespace sluice::upstream
