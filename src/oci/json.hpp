// JSON that strangers wrote, read in time that grows with its length alone.
//
// nlohmann's parser takes the square of it with a callback that discards values, so nothing here uses one: the text is
// first walked as events, which counts what it holds, and only what is within the bounds becomes a tree.
//
// Pure functions; any thread. A text of more than some 64 KiB does not belong on an event loop.
#pragma once

#include <cstddef>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/result.hpp"

namespace sluice::oci {

// What a text may hold. Each kind of answer has bounds of its own.
struct JsonBounds {
  std::size_t bytes = std::size_t{64} << 10;
  std::size_t depth = 16;       // objects and arrays inside one another
  std::size_t values = 10'000;  // keys included; each becomes up to 100 bytes of the tree
};

// The tree. Errors: upstream_protocol, for what is not one JSON text or beyond a bound; without any of the text.
Result<nlohmann::json> parse_json(std::string_view text, const JsonBounds& bounds);

}  // namespace sluice::oci
