// What is known of blobs: the interface of the seeds' BlobDescriptorService, and of a cache that offers one for each
// repository and one that is global.
//
// Every implementation passes the contract suite, tests/support/descriptor_contract.hpp.
// Threads: all functions may be called from any loop; what they return runs on the loop that awaits it.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "base/result.hpp"
#include "descriptors/scope.hpp"
#include "oci/descriptor.hpp"
#include "oci/digest.hpp"
#include "runtime/task.hpp"

namespace sluice::descriptors {

class BlobDescriptorService {
 public:
  virtual ~BlobDescriptorService() = default;

  // The descriptor of the blob. Its digest may be another name of the same content (the canonical one).
  // Errors: blob_unknown; anything else means that it could not be found out.
  virtual runtime::Task<Result<oci::Descriptor>> stat(oci::Digest digest) = 0;

  // Remembers that `digest` names what `descriptor` describes. Errors: internal for a descriptor that oci::validate
  // refuses; others when it could not be kept.
  virtual runtime::Task<Result<void>> set_descriptor(oci::Digest digest, oci::Descriptor descriptor) = 0;

  // Forgets `digest`. Whether a digest that is not there is an error is up to the implementation (blob_unknown).
  virtual runtime::Task<Result<void>> clear(oci::Digest digest) = 0;
};

// A cache of descriptors. Itself it is the global scope.
class BlobDescriptorCacheProvider : public BlobDescriptorService {
 public:
  // The view of one repository; usable as long as anybody holds it and the provider lives.
  // Errors: name_invalid (the empty name too).
  virtual Result<std::shared_ptr<BlobDescriptorService>> repository_scoped(std::string_view repository) = 0;

  // What stat would answer, where that can be told without suspending; nothing means "ask stat". For the hot path.
  [[nodiscard]] virtual std::optional<oci::Descriptor> peek(const Scope& /*scope*/, const oci::Digest& /*digest*/) {
    return std::nullopt;
  }
};

}  // namespace sluice::descriptors
