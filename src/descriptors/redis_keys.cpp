#include "descriptors/redis_keys.hpp"

#include <algorithm>
#include <utility>

namespace sluice::descriptors {

RedisKeys::RedisKeys(std::string strip_prefix, std::vector<std::string> upstreams)
    : strip_prefix_(std::move(strip_prefix)), upstreams_(std::move(upstreams)) {}

std::string_view RedisKeys::repository(const Scope& scope) const {
  const std::string_view whole = scope.str();
  if (strip_prefix_.empty() || !whole.starts_with(strip_prefix_)) return whole;
  const std::string_view rest = whole.substr(strip_prefix_.size());
  // What keeps its prefix begins with the name of an upstream, and what loses it does not: so they never meet.
  const std::string_view first = rest.substr(0, rest.find('/'));
  if (rest.empty() || std::find(upstreams_.begin(), upstreams_.end(), first) != upstreams_.end()) return whole;
  return rest;
}

std::string RedisKeys::members(const Scope& scope) const {
  std::string key = "repository::";
  return key.append(repository(scope)).append("::blobs");
}

std::string RedisKeys::blob(const Scope& scope, const oci::Digest& digest) const {
  return members(scope).append("::").append(digest.to_string());
}

std::string RedisKeys::blob(const oci::Digest& digest) { return "blobs::" + digest.to_string(); }

}  // namespace sluice::descriptors
