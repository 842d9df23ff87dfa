// The Redis provider: descriptors in a Redis that others share, in the keys and with the commands of distribution's own
// provider (redis_keys.hpp), so that a sluice and a distribution registry read what the other one wrote.
//
//   scoped stat   SISMEMBER, HMGET, HMGET in one write: a member, with a digest and a size, and a media type of the
//                 repository's own; else blob_unknown
//   scoped set    SADD, HMSET, HSETNX (the first writer's media type stays), HMSET of the repository's, with the date.
//                 Where the descriptor is canonical under another algorithm, that digest is added globally;
//                 distribution adds it to the repository too, which here is left to the caller
//   second-hand   nothing: who has cleared it meanwhile knows better
//   global set    HMSET, HSETNX
//   scoped clear  only for a member, else blob_unknown: SREM, DEL, HDEL in one MULTI, so that the membership is revoked
//                 whatever another repository says of the blob later (distribution from 3.1 on)
//   global clear  HDEL of the three fields; blob_unknown where there was none
//
// When upstream said so stands beside the repository's media type, in a field that distribution neither reads nor
// touches; what distribution wrote has no date. With which rights it was asked stands there too: what another process
// has learnt with others is blob_unknown (rights_marks.hpp). A digest that belongs to another blob (another one of the
// same algorithm) is corrupt; what another algorithm's says is handed on as the claim that it is.
//
// Nothing expires by itself: Redis wants `maxmemory-policy allkeys-lru`.
//
// Redis being gone, slow, or out of its mind costs the requests that find it out at most command_timeout each; the
// others fail at once with Errc::overloaded until it is back (redis_breaker.hpp). A key that holds what it should not
// is Errc::corrupt, want of memory Errc::no_space.
//
//   open ──close()──▶ closed: every call fails with Errc::closed
//
// Threads: all tasks run on the loops that it was made for; each loop has connections of its own. close() is called
// from a thread that is none of theirs. peek() never knows anything: to ask Redis is to wait.
#pragma once

#include <memory>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "descriptors/descriptor_service.hpp"
#include "descriptors/redis_params.hpp"
#include "descriptors/rights_marks.hpp"
#include "runtime/loop.hpp"

namespace sluice::descriptors {

class RedisDescriptorCache final : public BlobDescriptorCacheProvider {
 public:
  // `loops`, `clock`, `registry` and `marks`, which may be null, must outlive it. Connects when it is first asked for
  // something. Throws std::invalid_argument without an address. SIGPIPE is ignored from then on, where nobody has said
  // otherwise.
  RedisDescriptorCache(RedisParams params, runtime::LoopPool& loops, const Clock& clock, metrics::Registry& registry,
                       const RightsMarks* marks = nullptr);
  // The tasks must have ended, and either close() was called or the loops have stopped.
  ~RedisDescriptorCache() override;
  RedisDescriptorCache(const RedisDescriptorCache&) = delete;
  RedisDescriptorCache& operator=(const RedisDescriptorCache&) = delete;

  // Ends all connections while the loops still run; what is in flight fails. Blocks until it is done. Idempotent.
  void close() override;

  runtime::Task<Result<Entry>> stat(oci::Digest digest) override;
  runtime::Task<Result<void>> set_descriptor(oci::Digest digest, Entry entry) override;
  runtime::Task<Result<void>> clear(oci::Digest digest) override;
  Result<std::shared_ptr<BlobDescriptorService>> repository_scoped(std::string_view repository) override;

 private:
  class Core;
  class Scoped;
  const std::shared_ptr<Core> core_;
};

}  // namespace sluice::descriptors
