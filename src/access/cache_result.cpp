#include "access/cache_result.hpp"

namespace sluice::access {

std::string_view name(CacheResult result) noexcept {
  switch (result) {
    case CacheResult::none: return "none";
    case CacheResult::hit: return "hit";
    case CacheResult::join: return "join";
    case CacheResult::miss: return "miss";
    case CacheResult::stale: return "stale";
    case CacheResult::error: return "error";
    case CacheResult::unknown: return "unknown";
    case CacheResult::denied: return "denied";
    case CacheResult::range: return "range";
  }
  return "none";
}

}  // namespace sluice::access
