// Content codings (RFC 9110 section 8.4.1) that upstream has put on content although `identity` was asked for. Go
// clients decode such an answer without a word, so a registry that does it works with them.
//
// Bounded, it reads what strangers wrote. A Decoder belongs to one task at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "http/client_framing.hpp"

namespace sluice::upstream {

enum class Coding : std::uint8_t { gzip, deflate, zstd };

// The one coding that Content-Encoding names; nothing where it names none, several, or one that cannot be decoded here.
// That it is named does not mean that it is there: servers also name it by a file's name, or as the upload did.
std::optional<Coding> coding_of(const http::ReceivedHead& head);

// Whether `bytes`, the first ones of a body, can be the beginning of something in that coding. False only when there
// are enough of them to tell.
bool may_begin(Coding coding, std::string_view bytes) noexcept;

// Whether `bytes` begin something that is compressed.
bool is_compressed(std::string_view bytes) noexcept;

class Decoder {
 public:
  virtual ~Decoder() = default;

  struct Step {
    std::size_t used = 0;  // bytes of `in` that need not come again
    std::size_t made = 0;  // bytes at the front of `out`
  };
  // Neither used nor made: it needs more. Errors: upstream_protocol, for what is not in that coding.
  virtual Result<Step> step(std::span<const std::byte> in, std::span<std::byte> out) = 0;
  // What has been used so far is complete; more may follow (members, frames).
  [[nodiscard]] virtual bool is_complete() const noexcept = 0;

  static std::unique_ptr<Decoder> make(Coding coding);
};

// The whole of it. Errors: upstream_protocol, also for more than `limit` bytes and for an end that is missing.
Result<std::string> decode(Coding coding, std::string_view encoded, std::size_t limit);

}  // namespace sluice::upstream
