#include "api/multipart.hpp"

#include <random>
#include <span>
#include <string_view>

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "pull/blob_head.hpp"

namespace sluice::api {
namespace {

namespace asio = boost::asio;

// Small parts find room in the socket's buffer, so that nothing else would end a turn before the last of a thousand.
constexpr std::size_t kPartsInATurn = 64;

std::string make_boundary() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("sluice-{:016x}", random());
}

std::string part_head(std::string_view boundary, const http::ByteRange& range, std::uint64_t size) {
  return fmt::format("\r\n--{}\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n", boundary,
                     http::content_range(range, size));
}

}  // namespace

// Every part's head is made twice, because the length of the whole has to be told first, and a thousand heads need not
// be kept.
runtime::Task<Result<void>> send_multipart(http::Exchange& exchange, RangeSource& source, oci::Digest digest,
                                           std::vector<http::ByteRange> ranges, std::uint64_t size,
                                           std::string extra_fields) {
  const runtime::Executor executor = co_await asio::this_coro::executor;
  const std::string boundary = make_boundary();
  const std::string closing = fmt::format("\r\n--{}--\r\n", boundary);
  std::uint64_t total = closing.size();
  for (const http::ByteRange& range : ranges) total += part_head(boundary, range, size).size() + range.size();
  http::ResponseHead head = pull::blob_head(206, digest, fmt::format("multipart/byteranges; boundary={}", boundary));
  head.content_length(total);
  const std::string text = head.str() + extra_fields;
  Result<void> sent = co_await exchange.begin(text);
  for (std::size_t i = 0; sent && i < ranges.size(); ++i) {
    if (i != 0 && i % kPartsInATurn == 0) co_await asio::post(executor, runtime::kAwait);
    const std::string part = part_head(boundary, ranges[i], size);
    sent = co_await exchange.write(std::as_bytes(std::span(part)));
    if (sent) sent = co_await source.send(exchange, ranges[i]);
  }
  if (sent) sent = co_await exchange.write(std::as_bytes(std::span(closing)));
  if (sent) sent = co_await exchange.end();
  co_return sent;
}

}  // namespace sluice::api
