#include "descriptors/redis_descriptor_cache.hpp"

#include <signal.h>

#include <chrono>
#include <csignal>
#include <future>
#include <stdexcept>
#include <utility>
#include <vector>

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "base/log.hpp"
#include "descriptors/redis_keys.hpp"
#include "descriptors/redis_pool.hpp"
#include "descriptors/redis_reply.hpp"
#include "oci/media_type.hpp"

namespace sluice::descriptors {
namespace {

using namespace std::chrono_literals;
using Answer = Result<RedisPool::Answer>;

// What a loop that is stuck gets before it is left alone.
constexpr auto kCloseTimeout = 5s;

metrics::Histogram& latency(metrics::Registry& registry, std::string_view operation) {
  return registry.histogram("sluice_descriptor_redis_seconds", "How long an operation on Redis took, failed ones too",
                            metrics::latency_bounds(), {{"operation", std::string(operation)}});
}

// hiredis writes without MSG_NOSIGNAL: a connection that Redis has reset would end the process. Whoever has chosen
// something else for the signal keeps it.
void ignore_sigpipe() {
  struct sigaction action{};
  if (::sigaction(SIGPIPE, nullptr, &action) == 0 && action.sa_handler == SIG_DFL) std::signal(SIGPIPE, SIG_IGN);
}

// From its making to its end.
class Stopwatch {
 public:
  explicit Stopwatch(metrics::Histogram& histogram) : histogram_(histogram) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() { histogram_.observe(std::chrono::duration<double>(std::chrono::steady_clock::now() - from_).count()); }

 private:
  metrics::Histogram& histogram_;
  std::chrono::steady_clock::time_point from_ = std::chrono::steady_clock::now();
};

// As for the seeds: where the names differ only in what they say, one of them is wrong.
Result<void> check(const oci::Digest& digest, const oci::Descriptor& descriptor) {
  if (Result<void> valid = oci::validate(descriptor); !valid) return valid;
  if (digest != descriptor.digest && digest.algorithm() == descriptor.digest.algorithm()) {
    return Error(Errc::internal,
                 fmt::format("{} cannot be another name of {}", digest.to_string(), descriptor.digest.to_string()));
  }
  return {};
}

// The hash of `digest` itself.
Result<Entry> read_own(const RedisReply& reply, const oci::Digest& digest) {
  Result<oci::Descriptor> found = read_descriptor(reply);
  if (!found) return found.error();
  if (found->digest != digest && found->digest.algorithm() == digest.algorithm()) {
    return Error(Errc::corrupt, "Redis holds another blob's digest");
  }
  return Entry(std::move(*found));
}

void add_global(std::vector<RedisCommand>& commands, const oci::Digest& digest, const oci::Descriptor& descriptor) {
  const std::string key = RedisKeys::blob(digest);
  commands.push_back({"HMSET", key, "digest", descriptor.digest.to_string(), "size", std::to_string(descriptor.size)});
  commands.push_back({"HSETNX", key, "mediatype", descriptor.media_type});
}

RedisCommand remove_global(const oci::Digest& digest) {
  return {"HDEL", RedisKeys::blob(digest), "digest", "size", "mediatype"};
}

}  // namespace

// All of it; shared by the provider and its views.
class RedisDescriptorCache::Core {
 public:
  Core(RedisParams params, runtime::LoopPool& loops, const Clock& clock, metrics::Registry& registry,
       const RightsMarks* marks)
      : params_(std::move(params)),
        marks_(marks),
        keys_(params_.strip_prefix, params_.upstreams),
        metrics_(registry),
        breaker_({.first_pause = params_.first_pause, .last_pause = params_.last_pause}, clock, metrics_.breaker_open,
                 metrics_.skipped),
        stat_(latency(registry, "stat")),
        set_(latency(registry, "set")),
        clear_(latency(registry, "clear")),
        repository_stat_(latency(registry, "repository_stat")),
        repository_set_(latency(registry, "repository_set")),
        repository_clear_(latency(registry, "repository_clear")) {
    if (params_.addresses.empty()) throw std::invalid_argument("Redis needs an address");
    ignore_sigpipe();
    for (std::size_t i = 0; i < loops.size(); ++i) {
      pools_.push_back(std::make_shared<RedisPool>(loops.at(i), resolver_, params_, breaker_, metrics_));
    }
  }

  void close();

  runtime::Task<Result<Entry>> stat(oci::Digest digest);
  runtime::Task<Result<Entry>> stat(Scope scope, oci::Digest digest);
  runtime::Task<Result<void>> set(Scope scope, oci::Digest digest, Entry entry);
  runtime::Task<Result<void>> clear(oci::Digest digest);
  runtime::Task<Result<void>> clear(Scope scope, oci::Digest digest);

 private:
  runtime::Task<Answer> execute(std::vector<RedisCommand> commands, metrics::Histogram& histogram);
  template <class T>
  Result<T> judged(const RedisPool::Answer& answer, std::string_view key, Result<T> result);

  const RedisParams params_;
  const RightsMarks* const marks_;  // may be null
  const RedisKeys keys_;
  RedisMetrics metrics_;
  RedisBreaker breaker_;
  runtime::Resolver resolver_;
  metrics::Histogram& stat_;
  metrics::Histogram& set_;
  metrics::Histogram& clear_;
  metrics::Histogram& repository_stat_;
  metrics::Histogram& repository_set_;
  metrics::Histogram& repository_clear_;
  std::vector<std::shared_ptr<RedisPool>> pools_;  // by the index of the loop
};

void RedisDescriptorCache::Core::close() {
  std::vector<std::future<void>> ends;
  for (const auto& pool : pools_) {
    if (!pool->used()) continue;
    const auto done = std::make_shared<std::promise<void>>();
    ends.push_back(done->get_future());
    boost::asio::post(pool->loop().get_executor(), [pool, done] {
      pool->close();
      done->set_value();
    });
  }
  const auto deadline = std::chrono::steady_clock::now() + kCloseTimeout;
  for (const auto& end : ends) {
    if (end.wait_until(deadline) == std::future_status::ready) continue;
    log::error("descriptors", "timed out closing the connections to Redis");
    return;
  }
}

// On the pool of the loop that the caller runs on. `histogram` is the core's.
runtime::Task<Answer> RedisDescriptorCache::Core::execute(std::vector<RedisCommand> commands,
                                                          metrics::Histogram& histogram) {
  const runtime::Executor executor = co_await runtime::asio::this_coro::executor;
  runtime::Loop& loop = runtime::Loop::of(executor);
  if (loop.index() >= pools_.size() || &pools_[loop.index()]->loop() != &loop) {
    co_return Error(Errc::internal, "Redis was asked on a loop that it was not made for");
  }
  if (!breaker_.closed()) co_return co_await pools_[loop.index()]->execute(std::move(commands));
  const Stopwatch stopwatch(histogram);
  co_return co_await pools_[loop.index()]->execute(std::move(commands));
}

// Tells the breaker what the answer was worth, and the caller in which key it was found.
template <class T>
Result<T> RedisDescriptorCache::Core::judged(const RedisPool::Answer& answer, std::string_view key, Result<T> result) {
  for (const RedisReply& reply : answer.replies) {
    if (verdict_on(reply) == RedisVerdict::full) return Error(Errc::no_space, reply.text.substr(0, 200));
    if (verdict_on(reply) == RedisVerdict::wrong_type) {
      result = Error(Errc::corrupt, reply.text.substr(0, 200));
      break;
    }
  }
  if (result || result.error().code != Errc::corrupt) {
    breaker_.succeeded(answer.epoch);
    return result;
  }
  metrics_.errors(RedisFailure::Reason::nonsense).add();
  Error error = result.error().in(key);
  breaker_.nonsense(answer.epoch, error.message);
  return error;
}

runtime::Task<Result<Entry>> RedisDescriptorCache::Core::stat(oci::Digest digest) {
  const std::string key = RedisKeys::blob(digest);
  std::vector<RedisCommand> commands;
  commands.push_back({"HMGET", key, "digest", "size", "mediatype"});
  const Answer answer = co_await execute(std::move(commands), stat_);
  if (!answer) co_return answer.error();
  Result<Entry> found = judged(*answer, key, read_own(answer->replies[0], digest));
  // distribution does not mind its absence; what a blob is taken for then is what registries call it.
  if (found && found->media_type.empty()) found->media_type = oci::media_type::kOctetStream;
  co_return found;
}

runtime::Task<Result<Entry>> RedisDescriptorCache::Core::stat(Scope scope, oci::Digest digest) {
  const std::string key = keys_.blob(scope, digest);
  const std::string text = digest.to_string();
  std::vector<RedisCommand> commands;
  commands.push_back({"SISMEMBER", keys_.members(scope), text});
  commands.push_back({"HMGET", RedisKeys::blob(digest), "digest", "size", "mediatype"});
  commands.push_back({"HMGET", key, "mediatype", RedisKeys::kCheckedField, RedisKeys::kRightsField});
  const Answer answer = co_await execute(std::move(commands), repository_stat_);
  if (!answer) co_return answer.error();
  // In the order in which distribution asks: what is behind a "no" is not looked at.
  const auto read = [this, &scope, &digest](const std::vector<RedisReply>& replies) -> Result<Entry> {
    const Result<bool> member = read_membership(replies[0]);
    if (!member) return member.error();
    if (!*member) return Error(Errc::blob_unknown);
    Result<Entry> entry = read_own(replies[1], digest);
    if (!entry) return entry;
    const Result<Clock::Wall> checked_at = read_repository(replies[2], *entry);
    if (!checked_at) return checked_at.error();
    if (entry->media_type.empty()) return Error(Errc::blob_unknown);
    // Learnt with another login, or at another address: by another process, or by this one before a reload.
    if (marks_ != nullptr && !marks_->counts(scope, read_mark(replies[2]))) return Error(Errc::blob_unknown);
    entry->checked_at = *checked_at;
    return entry;
  };
  co_return judged(*answer, key, read(answer->replies));
}

// Of the global scope too. The mark is that of the moment of the call: whoever calls has seen that its answer counts.
runtime::Task<Result<void>> RedisDescriptorCache::Core::set(Scope scope, oci::Digest digest, Entry entry) {
  if (Result<void> valid = check(digest, entry); !valid) co_return valid;
  const std::string key = scope.is_global() ? RedisKeys::blob(digest) : keys_.blob(scope, digest);
  std::vector<RedisCommand> commands;
  if (!scope.is_global()) commands.push_back({"SADD", keys_.members(scope), digest.to_string()});
  add_global(commands, digest, entry);
  if (!scope.is_global()) {
    RedisCommand own{"HMSET", key, "mediatype", entry.media_type};
    if (entry.is_dated()) {
      own.emplace_back(RedisKeys::kCheckedField);
      own.push_back(write_time(entry.checked_at));
    }
    if (std::string mark = marks_ == nullptr ? std::string() : marks_->mark(scope); !mark.empty()) {
      own.emplace_back(RedisKeys::kRightsField);
      own.push_back(std::move(mark));
    }
    commands.push_back(std::move(own));
  }
  if (digest != entry.digest) add_global(commands, entry.digest, entry);
  const Answer answer = co_await execute(std::move(commands), scope.is_global() ? set_ : repository_set_);
  if (!answer) co_return answer.error();
  co_return judged(*answer, key, Result<void>());
}

runtime::Task<Result<void>> RedisDescriptorCache::Core::clear(oci::Digest digest) {
  std::vector<RedisCommand> commands;
  commands.push_back(remove_global(digest));
  const Answer answer = co_await execute(std::move(commands), clear_);
  if (!answer) co_return answer.error();
  const Result<std::int64_t> removed = judged(*answer, RedisKeys::blob(digest), read_count(answer->replies[0]));
  if (!removed) co_return removed.error();
  if (*removed == 0) co_return Error(Errc::blob_unknown);
  co_return Result<void>();
}

runtime::Task<Result<void>> RedisDescriptorCache::Core::clear(Scope scope, oci::Digest digest) {
  const std::string members = keys_.members(scope);
  const std::string text = digest.to_string();
  std::vector<RedisCommand> question;
  question.push_back({"SISMEMBER", members, text});
  const Answer asked = co_await execute(std::move(question), repository_clear_);
  if (!asked) co_return asked.error();
  const Result<bool> member = judged(*asked, members, read_membership(asked->replies[0]));
  if (!member) co_return member.error();
  if (!*member) co_return Error(Errc::blob_unknown);

  std::vector<RedisCommand> commands;
  commands.push_back({"MULTI"});
  commands.push_back({"SREM", members, text});
  commands.push_back({"DEL", keys_.blob(scope, digest)});
  commands.push_back(remove_global(digest));
  commands.push_back({"EXEC"});
  const Answer answer = co_await execute(std::move(commands), repository_clear_);
  if (!answer) co_return answer.error();
  const RedisReply& done = answer->replies.back();
  const bool proper = done.type == RedisReply::Type::array && done.elements.size() == 3;
  co_return judged(*answer, members,
                   proper ? Result<void>() : Error(Errc::corrupt, "Redis does not answer EXEC with three answers"));
}

class RedisDescriptorCache::Scoped final : public BlobDescriptorService {
 public:
  Scoped(std::shared_ptr<Core> core, Scope scope) : core_(std::move(core)), scope_(std::move(scope)) {}

  runtime::Task<Result<Entry>> stat(oci::Digest digest) override { return core_->stat(scope_, digest); }
  runtime::Task<Result<void>> set_descriptor(oci::Digest digest, Entry entry) override {
    return core_->set(scope_, digest, std::move(entry));
  }
  runtime::Task<Result<void>> set_second_hand(oci::Digest, Entry) override { co_return Result<void>(); }
  runtime::Task<Result<void>> clear(oci::Digest digest) override { return core_->clear(scope_, digest); }

 private:
  const std::shared_ptr<Core> core_;
  const Scope scope_;
};

RedisDescriptorCache::RedisDescriptorCache(RedisParams params, runtime::LoopPool& loops, const Clock& clock,
                                           metrics::Registry& registry, const RightsMarks* marks)
    : core_(std::make_shared<Core>(std::move(params), loops, clock, registry, marks)) {}

RedisDescriptorCache::~RedisDescriptorCache() = default;

void RedisDescriptorCache::close() { core_->close(); }

runtime::Task<Result<Entry>> RedisDescriptorCache::stat(oci::Digest digest) { return core_->stat(digest); }

runtime::Task<Result<void>> RedisDescriptorCache::set_descriptor(oci::Digest digest, Entry entry) {
  return core_->set(Scope(), digest, std::move(entry));
}

runtime::Task<Result<void>> RedisDescriptorCache::clear(oci::Digest digest) { return core_->clear(digest); }

Result<std::shared_ptr<BlobDescriptorService>> RedisDescriptorCache::repository_scoped(std::string_view repository) {
  Result<Scope> scope = Scope::repository(repository);
  if (!scope) return scope.error();
  return std::shared_ptr<BlobDescriptorService>(std::make_shared<Scoped>(core_, std::move(*scope)));
}

}  // namespace sluice::descriptors
