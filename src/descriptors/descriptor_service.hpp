// What is known of blobs: the interface of the seeds' BlobDescriptorService, and of a cache that offers one for each
// repository and one that is global.
//
// Every implementation passes the contract suite, tests/support/descriptor_contract.hpp.
// Threads: all functions may be called from any loop; what they return runs on the loop that awaits it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "descriptors/scope.hpp"
#include "oci/descriptor.hpp"
#include "oci/digest.hpp"
#include "runtime/task.hpp"

namespace sluice::descriptors {

// A descriptor, and when upstream last said so. Two are equal when the descriptors are.
struct Entry : oci::Descriptor {
  Entry() = default;
  explicit(false) Entry(oci::Descriptor descriptor, Clock::Wall checked = {})
      : oci::Descriptor(std::move(descriptor)), checked_at(checked) {}
  Entry(const oci::Digest& named, std::uint64_t size_bytes, std::string type)
      : oci::Descriptor{named, size_bytes, std::move(type)} {}

  [[nodiscard]] bool is_dated() const noexcept { return checked_at != Clock::Wall{}; }

  Clock::Wall checked_at{};  // 1970: nobody has noted it, as where distribution wrote the entry
};

class BlobDescriptorService {
 public:
  virtual ~BlobDescriptorService() = default;

  // What is known of the blob. Its digest may be another name of the same content (the canonical one), which is a
  // claim: whoever would hand out what lies under that name has it verified first.
  // Errors: blob_unknown; anything else means that it could not be found out.
  virtual runtime::Task<Result<Entry>> stat(oci::Digest digest) = 0;

  // Remembers that `digest` names what `entry` describes. Errors: internal for a descriptor that oci::validate
  // refuses; others when it could not be kept.
  virtual runtime::Task<Result<void>> set_descriptor(oci::Digest digest, Entry entry) = 0;

  // As set_descriptor, for what the caller has not from who decides but from its own memory: where others read what is
  // kept too, it is kept for this process alone, or not at all. Else it would undo what one of them has cleared.
  virtual runtime::Task<Result<void>> set_second_hand(oci::Digest digest, Entry entry) {
    return set_descriptor(digest, std::move(entry));
  }

  // Forgets `digest`. Whether a digest that is not there is an error is up to the implementation (blob_unknown).
  virtual runtime::Task<Result<void>> clear(oci::Digest digest) = 0;
};

// A cache of descriptors. Itself it is the global scope.
class BlobDescriptorCacheProvider : public BlobDescriptorService {
 public:
  // The view of one repository; usable as long as anybody holds it and the provider lives.
  // Errors: name_invalid (the empty name too).
  virtual Result<std::shared_ptr<BlobDescriptorService>> repository_scoped(std::string_view repository) = 0;

  // Ends what it has running on the loops, while they still run; from a thread that is none of theirs. Idempotent.
  virtual void close() {}

  // Lets go of what is kept in this process of all repositories. What others share is still there.
  virtual void forget_all() {}

  // What stat would answer, where that can be told without suspending; nothing means "ask stat". For the hot path.
  [[nodiscard]] virtual std::optional<Entry> peek(const Scope& /*scope*/, const oci::Digest& /*digest*/) {
    return std::nullopt;
  }
  // How long what peek says now may be believed, if nobody changes it through this provider: others may elsewhere.
  [[nodiscard]] virtual Clock::Monotonic peek_holds_until(const Scope& /*scope*/, const oci::Digest& /*digest*/) {
    return Clock::Monotonic::max();
  }
};

}  // namespace sluice::descriptors
