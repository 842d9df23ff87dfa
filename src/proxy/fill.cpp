// The producer of a fill: one download from upstream into the streaming cache, and from there into the store.
#include <algorithm>
#include <random>
#include <vector>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/units.hpp"
#include "oci/media_type.hpp"
#include "proxy/blob_service.hpp"
#include "proxy/trailing_verifier.hpp"

namespace sluice::proxy {
namespace {

namespace asio = boost::asio;

// What may be mended by taking the download up again.
bool is_resumable(Errc code) {
  return code == Errc::upstream_unreachable || code == Errc::upstream_timeout || code == Errc::upstream_failed ||
         code == Errc::throttled || code == Errc::overloaded;
}

// Reads and drops the first `count` bytes, where upstream answered a Range with the whole.
runtime::Task<Result<void>> skip(upstream::BlobBody& body, std::uint64_t count, std::span<std::byte> buffer) {
  while (count > 0) {
    const std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(count, buffer.size()));
    const Result<std::size_t> n = co_await body.read(buffer.first(want));
    if (!n) co_return n.error();
    if (*n == 0) co_return Error{Errc::size_mismatch, "upstream's blob has become shorter"};
    count -= *n;
  }
  co_return Result<void>{};
}

}  // namespace

runtime::Task<void> BlobService::back_off(std::size_t failures) {
  thread_local std::minstd_rand random{std::random_device{}()};
  const auto limit = std::chrono::milliseconds(5000);
  auto wait = params_.resume_backoff * (1 << std::min<std::size_t>(failures, 10));
  wait = std::min<std::chrono::milliseconds>(wait, limit);
  const double factor = 0.5 + 0.5 * std::uniform_real_distribution<double>(0, 1)(random);
  const runtime::Executor executor = co_await asio::this_coro::executor;
  asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, runtime::Executor>
      timer(executor);
  timer.expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(wait * factor));
  co_await timer.async_wait(runtime::kAwait);
}

runtime::Task<Result<void>> BlobService::receive(Route route, oci::Digest digest, streamcache::Writer& writer,
                                                 TrailingVerifier& verifier) {
  std::vector<std::byte> buffer(params_.read_bytes);
  std::optional<std::uint64_t> size;
  std::size_t failures = 0;  // in a row, without a byte in between
  bool first = true;
  for (;;) {
    Error broken{Errc::internal};
    Result<std::unique_ptr<upstream::BlobBody>> body =
        co_await route.registry->open_blob(route.repository, digest, writer.position());
    if (body) {
      if (first) {
        size = (*body)->size();
        // Before the size is told: whoever joins for the same repository then finds that it may.
        if (size) co_await access_.remember(route.scope, {digest, *size, std::string(oci::media_type::kOctetStream)});
        writer.set_size(size);
        first = false;
      } else if (size && (*body)->size() && *(*body)->size() != *size) {
        co_return Error{Errc::size_mismatch, "upstream's blob has changed its length during the download"};
      }
      Result<void> moved{};
      if ((*body)->offset() < writer.position()) {
        moved = co_await skip(**body, writer.position() - (*body)->offset(), buffer);
      }
      while (moved) {
        moved = co_await writer.wait_window();
        if (!moved) co_return moved.error();
        const Result<std::size_t> n = co_await (*body)->read(buffer);
        if (!n) {
          moved = n.error();
          break;
        }
        if (*n == 0) co_return Result<void>{};
        failures = 0;
        metrics_.upstream_bytes.add(*n);
        if (size && *n > *size - writer.position()) {
          // Readers see nothing beyond the size, so a writer that went on would wait for them for ever.
          co_return Error{Errc::size_mismatch, "upstream sent more than it had announced"};
        }
        const Result<void> written = co_await writer.write(std::span<const std::byte>(buffer).first(*n));
        if (!written) co_return written.error();
        co_await verifier.advance(writer.position());
      }
      broken = moved.error();
      if (size == writer.position()) co_return Result<void>{};
    } else {
      broken = body.error();
      // Nothing lies behind what is here: the connection broke between the last byte and the end. The digest decides.
      if (!first && !size && broken.code == Errc::range_invalid) co_return Result<void>{};
      // The registry has its own retries for the first request.
      if (first) co_return broken;
    }
    if (!is_resumable(broken.code) || failures >= params_.resume_attempts) co_return broken;
    log::info("fill", fmt::format("{} of {}: {}; going on from byte {}", digest.to_string(), route.scope.str(),
                                  broken.message, writer.position()));
    metrics_.fills_resumed.add();
    co_await back_off(failures);
    ++failures;
  }
}

runtime::Task<Result<void>> BlobService::fill(Route route, oci::Digest digest,
                                              std::shared_ptr<streamcache::Writer> writer) {
  // Between the caller's look into the store and this fill another one may have ended.
  if (store_.find(digest)) co_return Error{Errc::superseded, "stored meanwhile"};
  TrailingVerifier verifier(pool_, filesystem_, writer->file(), writer, digest.algorithm());
  Result<void> received = co_await receive(route, digest, *writer, verifier);
  if (!received) {
    metrics_.fills_failed.add();
    if (!writer->abandoned() || received.error().code != Errc::abandoned) {
      log::warn("fill", fmt::format("{} of {} failed after {}: {}", digest.to_string(), route.scope.str(),
                                    format_bytes(writer->position()), received.error().message));
    }
    co_return received;
  }
  const std::uint64_t size = writer->position();
  const Result<oci::Digest> computed = co_await verifier.finish(size);
  if (!computed) {
    metrics_.fills_failed.add();
    co_return computed.error();
  }
  if (*computed != digest) {
    metrics_.fills_failed.add();
    metrics_.fill_digest_mismatches.add();
    log::error("fill", fmt::format("{} of {}: upstream sent {} with the digest {}; nothing of it is kept",
                                   digest.to_string(), route.scope.str(), format_bytes(size), computed->to_string()));
    co_return Error{Errc::digest_mismatch,
                    fmt::format("upstream sent bytes that do not have the digest {}", digest.to_string())};
  }
  // Readers need not wait for the disk.
  if (const Result<void> complete = writer->complete(); !complete) {
    metrics_.fills_failed.add();
    co_return complete;
  }
  co_await access_.remember(route.scope, {digest, size, std::string(oci::media_type::kOctetStream)});
  metrics_.fills_completed.add();
  co_return co_await keep(digest, *writer);
}

runtime::Task<Result<void>> BlobService::keep(oci::Digest digest, streamcache::Writer& writer) {
  const Result<void> adopted =
      co_await store_.adopt(writer.path(), digest, writer.position(), std::string(oci::media_type::kOctetStream));
  if (adopted) {
    writer.release_file();
  } else {
    // The readers have their bytes all the same; the next request fetches it again.
    log::error("fill",
               fmt::format("{} was received but cannot be stored: {}", digest.to_string(), adopted.error().message));
  }
  co_return Result<void>{};
}

}  // namespace sluice::proxy
