// The names of distribution's keys in Redis (registry/storage/cache/redis/redis.go), so that one Redis serves both:
//
//   repository::<repository>::blobs             a set: the digests that the repository has
//   blobs::<digest>                             a hash: digest, size, mediatype
//   repository::<repository>::blobs::<digest>   a hash: mediatype, where the repository says otherwise; and of our own
//                                               sluice-checked, when upstream last said that it has the blob, in
//                                               seconds since 1970, and sluice-rights, with which rights it was
//                                               asked (rights_marks.hpp)
//
// Immutable, read from any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "descriptors/scope.hpp"
#include "oci/digest.hpp"

namespace sluice::descriptors {

class RedisKeys {
 public:
  static constexpr const char* kCheckedField = "sluice-checked";
  static constexpr const char* kRightsField = "sluice-rights";

  // As in RedisParams.
  RedisKeys(std::string strip_prefix, std::vector<std::string> upstreams);

  // What stands for the scope in a key. Two scopes never share one.
  [[nodiscard]] std::string_view repository(const Scope& scope) const;

  [[nodiscard]] std::string members(const Scope& scope) const;
  [[nodiscard]] std::string blob(const Scope& scope, const oci::Digest& digest) const;
  [[nodiscard]] static std::string blob(const oci::Digest& digest);

 private:
  const std::string strip_prefix_;
  const std::vector<std::string> upstreams_;
};

}  // namespace sluice::descriptors
