#include "upstream/blob_body.hpp"

#include <utility>

#include <fmt/format.h>

namespace sluice::upstream {

HttpBlobBody::HttpBlobBody(Transport::Answer answer, const Extent& extent, OnFailure on_failure)
    : turn_(std::move(answer.turn)),
      response_(std::move(answer.response)),
      extent_(extent),
      where_(std::move(answer.where)),
      redirected_(answer.redirected),
      media_type_(media_type_of(response_->head())),
      on_failure_(std::move(on_failure)),
      position_(extent.offset) {}

Error HttpBlobBody::failed(Error error) {
  if (on_failure_) std::exchange(on_failure_, nullptr)(error);
  return error;
}

runtime::Task<Result<std::size_t>> HttpBlobBody::read(std::span<std::byte> into) {
  const Result<std::size_t> n = co_await response_->read(into);
  if (!n) co_return failed(n.error().in(where_));
  position_ += *n;
  // A Content-Length has been held against the body already; a Content-Range of a chunked answer has not.
  const std::optional<std::uint64_t> end = extent_.end ? extent_.end : extent_.size;
  if (end && (position_ > *end || (*n == 0 && position_ < *end))) {
    co_return failed(Error(Errc::size_mismatch, fmt::format("{}: ends at byte {} of {}", where_, position_, *end)));
  }
  co_return n;
}

}  // namespace sluice::upstream
