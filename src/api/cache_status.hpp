// What an answer says of how the cache came by it. Pure.
#pragma once

#include <string_view>

#include "access/cache_result.hpp"

namespace sluice::api {

// Lines of a head, which live for ever: Cache-Status (RFC 9211), and for what is stale a Warning too (RFC 7234 section
// 5.5.1; RFC 9111 has dropped that field, but it is the one that people look for). Empty for what the cache has no part
// in, and for errors.
//
//   hit          Cache-Status: sluice; hit
//   stale        Cache-Status: sluice; hit; detail=stale       upstream could not be asked
//   join         Cache-Status: sluice; fwd=miss; collapsed     another client's download was on its way
//   miss         Cache-Status: sluice; fwd=miss
//   range        Cache-Status: sluice; fwd=miss; detail=range  passed through, and not kept
[[nodiscard]] std::string_view cache_fields(access::CacheResult result) noexcept;

// The same of a HEAD of what is stored, for which upstream had to say whether this repository may have it:
//
//   miss         Cache-Status: sluice; fwd=stale; detail=access
[[nodiscard]] std::string_view access_fields() noexcept;

}  // namespace sluice::api
