#include "proxy/cache_status.hpp"

namespace sluice::proxy {

std::string_view cache_fields(CacheResult result) noexcept {
  switch (result) {
    case CacheResult::hit: return "Cache-Status: sluice; hit\r\n";
    case CacheResult::stale:
      return "Cache-Status: sluice; hit; detail=stale\r\nWarning: 110 - \"Response is Stale\"\r\n";
    case CacheResult::join: return "Cache-Status: sluice; fwd=miss; collapsed\r\n";
    case CacheResult::miss: return "Cache-Status: sluice; fwd=miss\r\n";
    case CacheResult::range: return "Cache-Status: sluice; fwd=miss; detail=range\r\n";
    case CacheResult::none:
    case CacheResult::error:
    case CacheResult::unknown:
    case CacheResult::denied: return {};
  }
  return {};
}

}  // namespace sluice::proxy
