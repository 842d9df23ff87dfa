#include "streamcache/cache.hpp"

#include <exception>
#include <utility>

#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/system_error.hpp>

#include <fmt/format.h>

#include "streamcache/producer.hpp"

namespace sluice::streamcache {
namespace {

// Ends the pipe for a fill that is dropped before or while it runs.
class Ending {
 public:
  explicit Ending(std::shared_ptr<Pipe> pipe) : pipe_(std::move(pipe)) {}
  Ending(Ending&&) = default;
  Ending& operator=(Ending&&) = delete;
  Ending(const Ending&) = delete;
  Ending& operator=(const Ending&) = delete;
  ~Ending() {
    if (pipe_) (void)pipe_->finish(Error(Errc::cancelled, "the fill was cancelled"));
  }
  [[nodiscard]] const std::shared_ptr<Pipe>& pipe() const noexcept { return pipe_; }

 private:
  std::shared_ptr<Pipe> pipe_;
};

runtime::Task<void> fill_memory(Ending ending, Create create, metrics::GaugeGuard in_flight) {
  (void)in_flight;
  auto writer = std::make_shared<Writer>(ending.pipe());
  (void)ending.pipe()->finish(co_await run_producer(std::move(create), std::move(writer)));
}

PipeParams bounded(PipeParams params) {
  if (!params.window_bytes) params.window_bytes = PipeParams{}.window_bytes;
  params.abandoned = Abandoned::fail;
  return params;
}

}  // namespace

runtime::Task<Result<void>> run_producer(Create create, std::shared_ptr<Writer> writer) {
  try {
    co_return co_await create(std::move(writer));
  } catch (const boost::system::system_error& error) {
    if (error.code() == runtime::asio::error::operation_aborted) {
      co_return Error(Errc::cancelled, "the fill was cancelled");
    }
    co_return Error(Errc::internal, fmt::format("exception in a producer: {}", error.what()));
  } catch (const std::exception& error) {
    co_return Error(Errc::internal, fmt::format("exception in a producer: {}", error.what()));
  } catch (...) {
    co_return Error(Errc::internal, "exception in a producer");
  }
}

std::optional<std::uint64_t> Cache::readable(std::string_view) const { return std::nullopt; }

NullCache::NullCache(const PipeParams& pipe, const Clock& clock, runtime::TaskGroup& fills, metrics::Registry& registry)
    : params_(bounded(pipe)), clock_(clock), fills_(fills), metrics_(registry) {}

runtime::Task<Result<Lookup>> NullCache::find_or_create(std::string, Create create, OpenFile) {
  const runtime::Executor executor = co_await runtime::asio::this_coro::executor;
  auto pipe = std::make_shared<Pipe>(params_, clock_, metrics_);
  pipe->open_unstored(Error(Errc::unsupported, "nothing is stored here"));
  Result<std::unique_ptr<Stream>> stream = pipe->open_reader();
  if (!stream) co_return stream.error();
  const bool spawned = fills_.spawn(
      executor, fill_memory(Ending(std::move(pipe)), std::move(create), metrics::GaugeGuard(metrics_.fills_in_flight)));
  if (!spawned) co_return Error(Errc::shutting_down);
  Lookup lookup;
  lookup.stream = *std::move(stream);
  lookup.created = true;
  co_return lookup;
}

Result<std::unique_ptr<Stream>> NullCache::find(std::string_view) {
  return Error(Errc::not_found, "nothing is kept here");
}

}  // namespace sluice::streamcache
