// The heads of answers about a blob: 200, 206, 304 and 416 say the same things about it. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "http/range.hpp"
#include "http/response_head.hpp"
#include "oci/digest.hpp"
#include "oci/media_type.hpp"

namespace sluice::pull {

// Type, digest, entity tag and how long it may be kept: for ever, since its name is its content.
http::ResponseHead blob_head(unsigned status, const oci::Digest& digest,
                             std::string_view media_type = oci::media_type::kOctetStream);

http::ResponseHead whole_blob_head(const oci::Digest& digest, std::uint64_t size,
                                   std::string_view media_type = oci::media_type::kOctetStream);
http::ResponseHead partial_blob_head(const oci::Digest& digest, const http::ByteRange& range, std::uint64_t size,
                                     std::string_view media_type = oci::media_type::kOctetStream);

}  // namespace sluice::pull
