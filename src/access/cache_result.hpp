// CacheResult: how the cache came by an answer, as the access log, the metrics and Cache-Status say it.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace sluice::access {

enum class CacheResult : std::uint8_t {
  none,     // not a question for the cache: /v2/, a refused request
  hit,      // from what is stored
  join,     // from a fill that was in flight already
  miss,     // upstream was asked for it
  stale,    // from what is stored, because upstream could not be asked
  error,    // no answer could be had
  unknown,  // upstream does not have it
  denied,   // upstream does not let us, or the client, have it
  range,    // a range of what is not here, from upstream, passed through
};
inline constexpr std::array kCacheResults{CacheResult::none,    CacheResult::hit,    CacheResult::join,
                                          CacheResult::miss,    CacheResult::stale,  CacheResult::error,
                                          CacheResult::unknown, CacheResult::denied, CacheResult::range};

std::string_view name(CacheResult result) noexcept;

}  // namespace sluice::access
