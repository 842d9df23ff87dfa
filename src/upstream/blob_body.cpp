#include "upstream/blob_body.hpp"

#include <fmt/format.h>

namespace sluice::upstream {

HttpBlobBody::HttpBlobBody(std::unique_ptr<http::ClientResponse> response, const Extent& extent, std::string where)
    : response_(std::move(response)),
      extent_(extent),
      where_(std::move(where)),
      media_type_(media_type_of(response_->head())),
      position_(extent.offset) {}

runtime::Task<Result<std::size_t>> HttpBlobBody::read(std::span<std::byte> into) {
  const Result<std::size_t> n = co_await response_->read(into);
  if (!n) co_return n.error().in(where_);
  position_ += *n;
  // A Content-Length has been held against the body already; a Content-Range of a chunked answer has not.
  if (extent_.size && (position_ > *extent_.size || (*n == 0 && position_ < *extent_.size))) {
    co_return Error(Errc::size_mismatch, fmt::format("{}: ends at byte {} of {}", where_, position_, *extent_.size));
  }
  co_return n;
}

}  // namespace sluice::upstream
