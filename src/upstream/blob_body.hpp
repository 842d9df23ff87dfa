// HttpBlobBody: a BlobBody over a ClientResponse.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "http/client.hpp"
#include "upstream/admission.hpp"
#include "upstream/content.hpp"
#include "upstream/registry.hpp"
#include "upstream/transport.hpp"

namespace sluice::upstream {

class HttpBlobBody final : public BlobBody {
 public:
  // `on_failure` is called once, when a read fails.
  using OnFailure = std::function<void(const Error&)>;
  HttpBlobBody(Transport::Answer answer, const Extent& extent, OnFailure on_failure);

  [[nodiscard]] std::optional<std::uint64_t> size() const override { return extent_.size; }
  [[nodiscard]] std::uint64_t offset() const override { return extent_.offset; }
  [[nodiscard]] std::string_view media_type() const override { return media_type_; }
  [[nodiscard]] bool is_redirected() const override { return redirected_; }
  [[nodiscard]] bool is_wanted() const override { return turn_.is_wanted(); }
  runtime::Task<Result<std::size_t>> read(std::span<std::byte> into) override;

 private:
  Error failed(Error error);

  Admission::Turn turn_;
  std::unique_ptr<http::ClientResponse> response_;
  const Extent extent_;
  const std::string where_;
  const bool redirected_;
  const std::string media_type_;
  OnFailure on_failure_;
  std::uint64_t position_;  // of the next byte in the blob
};

}  // namespace sluice::upstream
