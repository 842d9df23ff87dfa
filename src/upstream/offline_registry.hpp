// OfflineRegistry: an upstream that is never asked. All questions end at once, as if it were out of reach, so that what
// is stored is served and nothing else.
//
// Threads: as Registry.
#pragma once

#include <string>
#include <utility>

#include "upstream/registry.hpp"

namespace sluice::upstream {

class OfflineRegistry final : public Registry {
 public:
  explicit OfflineRegistry(std::string name) : name_(std::move(name)) {}

  [[nodiscard]] std::string_view name() const override { return name_; }
  runtime::Task<Result<oci::Descriptor>> stat_blob(oci::Repository repository, oci::Digest digest) override;
  runtime::Task<Result<std::unique_ptr<BlobBody>>> open_blob(oci::Repository repository, oci::Digest digest,
                                                             std::uint64_t offset) override;
  runtime::Task<Result<ManifestAnswer>> get_manifest(oci::Repository repository, oci::Reference reference,
                                                     std::string accept) override;
  runtime::Task<Result<ManifestHead>> stat_manifest(oci::Repository repository, oci::Reference reference,
                                                    std::string accept) override;
  runtime::Task<Result<ListAnswer>> list(oci::Repository repository, std::string what) override;
  runtime::Task<Result<void>> ping() override;
  [[nodiscard]] std::shared_ptr<Registry> on_behalf_of(std::string authorization) override;

 private:
  [[nodiscard]] Error offline() const;

  const std::string name_;
};

}  // namespace sluice::upstream
