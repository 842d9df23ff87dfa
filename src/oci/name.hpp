// Repository, Tag and Reference: the names in a /v2/ path, once they have been checked.
//
// Values: an object exists only if its text obeys the grammar of the distribution-spec ("Pulling manifests"), so what
// takes one need not check again. Nothing is normalised: str() is the text that was parsed. Read from any thread.
#pragma once

#include <compare>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/result.hpp"
#include "oci/digest.hpp"

namespace sluice::oci {

// Longest repository name; distribution's RepositoryNameTotalLengthMax, and what the spec tells registries to expect.
inline constexpr std::size_t kMaxRepositoryBytes = 255;
inline constexpr std::size_t kMaxTagBytes = 128;

// A repository's name without a registry in front: `library/alpine`.
class Repository {
 public:
  // Errors: name_invalid.
  static Result<Repository> parse(std::string_view text);

  const std::string& str() const noexcept { return text_; }

  friend bool operator==(const Repository&, const Repository&) = default;
  friend std::strong_ordering operator<=>(const Repository&, const Repository&) = default;
  friend std::size_t hash_value(const Repository& r) noexcept { return std::hash<std::string>{}(r.text_); }

 private:
  explicit Repository(std::string_view text) : text_(text) {}
  std::string text_;
};

class Tag {
 public:
  // Errors: tag_invalid.
  static Result<Tag> parse(std::string_view text);

  const std::string& str() const noexcept { return text_; }

  friend bool operator==(const Tag&, const Tag&) = default;
  friend std::strong_ordering operator<=>(const Tag&, const Tag&) = default;
  friend std::size_t hash_value(const Tag& t) noexcept { return std::hash<std::string>{}(t.text_); }

 private:
  explicit Tag(std::string_view text) : text_(text) {}
  std::string text_;
};

// What a manifest is asked by: a tag or a digest. A tag cannot hold a colon and a digest must, so there is no doubt.
class Reference {
 public:
  explicit(false) Reference(Tag tag) : value_(std::move(tag)) {}
  explicit(false) Reference(const Digest& digest) : value_(digest) {}

  // Errors: digest_invalid or digest_unsupported for text with a colon, tag_invalid for any other.
  static Result<Reference> parse(std::string_view text);

  bool is_digest() const noexcept { return std::holds_alternative<Digest>(value_); }
  // Preconditions: is_digest(), !is_digest(). Throw std::bad_variant_access otherwise.
  const Digest& digest() const { return std::get<Digest>(value_); }
  const Tag& tag() const { return std::get<Tag>(value_); }

  std::string to_string() const { return is_digest() ? digest().to_string() : tag().str(); }

  friend bool operator==(const Reference&, const Reference&) = default;
  friend std::strong_ordering operator<=>(const Reference&, const Reference&) = default;  // tags before digests
  friend std::size_t hash_value(const Reference& r) noexcept {
    return r.is_digest() ? hash_value(*std::get_if<Digest>(&r.value_)) : hash_value(*std::get_if<Tag>(&r.value_));
  }

 private:
  std::variant<Tag, Digest> value_;
};

}  // namespace sluice::oci

template <>
struct std::hash<sluice::oci::Repository> {
  std::size_t operator()(const sluice::oci::Repository& r) const noexcept { return hash_value(r); }
};
template <>
struct std::hash<sluice::oci::Tag> {
  std::size_t operator()(const sluice::oci::Tag& t) const noexcept { return hash_value(t); }
};
template <>
struct std::hash<sluice::oci::Reference> {
  std::size_t operator()(const sluice::oci::Reference& r) const noexcept { return hash_value(r); }
};
