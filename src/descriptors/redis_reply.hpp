// What Redis says, as plain values, and what it means for a descriptor. Pure: nothing here does I/O.
//
// Values, read from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "oci/descriptor.hpp"

struct redisReply;  // of hiredis

namespace sluice::descriptors {

// The words of one command: its name, a key, arguments.
using RedisCommand = std::vector<std::string>;

struct RedisReply {
  enum class Type : std::uint8_t { nil, integer, text, status, error, array };

  Type type = Type::nil;
  std::int64_t integer = 0;
  std::string text;  // of text, status and error
  std::vector<RedisReply> elements;

  // A copy of what hiredis parsed; what it does not know becomes an error.
  static RedisReply from(const redisReply& reply);
};

// What can be wrong with an answer.
enum class RedisVerdict : std::uint8_t {
  fine,
  // This key holds what it should not: the rest may be in order.
  wrong_type,
  // It has no room for more; what is there may be read.
  full,
  // The server as a whole does not serve us: LOADING, NOAUTH, NOPERM, READONLY, MISCONF, unknown commands…
  refused,
};
RedisVerdict verdict_on(const RedisReply& reply);

// 1 or 0 of SISMEMBER. Errors: corrupt.
Result<bool> read_membership(const RedisReply& reply);

// The three values of HMGET `blobs::<digest>` digest size mediatype. Without a digest or a size: blob_unknown. Without
// a media type the descriptor has an empty one. Errors: blob_unknown; corrupt for what no descriptor looks like.
Result<oci::Descriptor> read_descriptor(const RedisReply& reply);

// HMGET `repository::<repository>::blobs::<digest>` mediatype sluice-checked sluice-rights: the type laid over
// `descriptor`, where an empty text changes nothing, as in distribution; and the date, 1970 where there is none.
// Errors: blob_unknown where there is no type; corrupt.
Result<Clock::Wall> read_repository(const RedisReply& reply, oci::Descriptor& descriptor);

// The third value of the same answer; empty where there is none. It lives as long as the answer.
std::string_view read_mark(const RedisReply& reply);

// A date as read_repository reads it.
std::string write_time(Clock::Wall time);

// How many HDEL or SREM removed. Errors: corrupt.
Result<std::int64_t> read_count(const RedisReply& reply);

}  // namespace sluice::descriptors
