// Digest: the name of a blob by its content, `sha256:<hex>`; and the hashing that produces one.
//
// Digest is a value of fixed size without heap memory: copied freely, compared and hashed cheaply, safe to read from
// any thread. Hasher is a resource: one owner, one thread at a time. Syntax: OCI image-spec descriptor.md, "Digests".
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"

struct evp_md_ctx_st;  // OpenSSL's EVP_MD_CTX, named here so that its headers stay in the source file

namespace sluice::oci {

enum class Algorithm : std::uint8_t { sha256, sha384, sha512 };

inline constexpr std::size_t kMaxDigestBytes = 64;

// How many bytes a digest of that algorithm has; its encoded form has twice as many characters.
constexpr std::size_t digest_bytes(Algorithm algorithm) noexcept {
  switch (algorithm) {
    case Algorithm::sha256: return 32;
    case Algorithm::sha384: return 48;
    case Algorithm::sha512: break;
  }
  return 64;
}

// "sha256", "sha384", "sha512".
std::string_view name(Algorithm algorithm) noexcept;

// The reverse of name(); nothing for any other text.
std::optional<Algorithm> parse_algorithm(std::string_view text) noexcept;

class Digest {
 public:
  // sha256 of 32 zero bytes: a placeholder that no content is known to have.
  constexpr Digest() noexcept = default;

  // Reads `algorithm:encoded`. Errors: digest_invalid for what breaks the grammar, and for a known algorithm whose
  // encoded part is not lowercase hexadecimal of exactly its length; digest_unsupported for a well-formed digest of
  // another algorithm.
  static Result<Digest> parse(std::string_view text);

  // Precondition: `raw` has digest_bytes(algorithm) bytes; anything else is a bug and throws std::invalid_argument.
  static Digest from_raw(Algorithm algorithm, std::span<const std::byte> raw);

  Algorithm algorithm() const noexcept { return algorithm_; }
  std::string_view algorithm_name() const noexcept { return name(algorithm_); }

  // The bytes; they live as long as this digest.
  std::span<const std::byte> raw() const noexcept { return {bytes_.data(), digest_bytes(algorithm_)}; }

  std::string encoded() const;    // "e3b0c4…", lowercase
  std::string to_string() const;  // "sha256:e3b0c4…"

  friend bool operator==(const Digest& a, const Digest& b) noexcept {
    return a.algorithm_ == b.algorithm_ && a.bytes_ == b.bytes_;  // bytes beyond the length are always zero
  }
  // Ordered as the text is: by the algorithm, then by the bytes.
  friend std::strong_ordering operator<=>(const Digest& a, const Digest& b) noexcept;

  // For hash tables in this process; differs from one run to the next. Clients choose the digests they ask for, so all
  // bytes count and a seed keeps colliding ones from being computed beforehand.
  friend std::size_t hash_value(const Digest& digest) noexcept;

 private:
  Algorithm algorithm_ = Algorithm::sha256;
  std::array<std::byte, kMaxDigestBytes> bytes_{};
};

// Computes a digest piece by piece.
//
//   state     | update | finish | move, destroy
//   hashing   | yes    | yes    | yes
//   finished  | no     | no     | yes      (also: moved from)
class Hasher {
 public:
  explicit Hasher(Algorithm algorithm);
  ~Hasher();
  Hasher(Hasher&& other) noexcept;
  Hasher& operator=(Hasher&& other) noexcept;
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  Algorithm algorithm() const noexcept { return algorithm_; }

  // Throws std::logic_error when finished.
  void update(std::span<const std::byte> bytes);
  void update(std::string_view bytes) { update(std::as_bytes(std::span(bytes))); }

  // The digest of everything given so far. Throws std::logic_error when called twice.
  Digest finish();

 private:
  struct ContextDeleter {
    void operator()(evp_md_ctx_st* context) const noexcept;
  };

  Algorithm algorithm_;
  std::unique_ptr<evp_md_ctx_st, ContextDeleter> context_;  // null when finished
};

// The digest of bytes that are all at hand.
Digest digest_of(Algorithm algorithm, std::span<const std::byte> bytes);
Digest digest_of(Algorithm algorithm, std::string_view bytes);

}  // namespace sluice::oci

template <>
struct std::hash<sluice::oci::Digest> {
  using is_avalanching = void;  // tells boost::unordered_flat_map not to mix again
  std::size_t operator()(const sluice::oci::Digest& digest) const noexcept { return hash_value(digest); }
};
