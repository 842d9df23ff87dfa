#include "api/cache_status.hpp"

namespace sluice::api {

std::string_view cache_fields(access::CacheResult result) noexcept {
  switch (result) {
    case access::CacheResult::hit: return "Cache-Status: sluice; hit\r\n";
    case access::CacheResult::stale:
      return "Cache-Status: sluice; hit; detail=stale\r\nWarning: 110 - \"Response is Stale\"\r\n";
    case access::CacheResult::join: return "Cache-Status: sluice; fwd=miss; collapsed\r\n";
    case access::CacheResult::miss: return "Cache-Status: sluice; fwd=miss\r\n";
    case access::CacheResult::range: return "Cache-Status: sluice; fwd=miss; detail=range\r\n";
    case access::CacheResult::none:
    case access::CacheResult::error:
    case access::CacheResult::unknown:
    case access::CacheResult::denied: return {};
  }
  return {};
}

std::string_view access_fields() noexcept { return "Cache-Status: sluice; fwd=stale; detail=access\r\n"; }

}  // namespace sluice::api
