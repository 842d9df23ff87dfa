// A 206 with several ranges of a blob (RFC 9110 section 14.6): as many parts as were asked for, in their order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "http/exchange.hpp"
#include "http/range.hpp"
#include "oci/digest.hpp"
#include "runtime/task.hpp"

namespace sluice::api {

// Where the bytes of ranges come from.
class RangeSource {
 public:
  virtual ~RangeSource() = default;
  // Those of one range. Errors: the exchange's and the source's.
  virtual runtime::Task<Result<void>> send(http::Exchange& exchange, http::ByteRange range) = 0;
};

// `ranges` of a blob of `size` bytes; `extra_fields` are lines of the head. Others on the loop have a turn after some
// parts. After an error the answer has been begun and cannot be completed. Both references live until it has ended.
runtime::Task<Result<void>> send_multipart(http::Exchange& exchange, RangeSource& source, oci::Digest digest,
                                           std::vector<http::ByteRange> ranges, std::uint64_t size,
                                           std::string extra_fields);

}  // namespace sluice::api
