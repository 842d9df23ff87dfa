// ReferrerList: the descriptors that refer to one manifest, parsed once and kept as the text that answers are made of.
// All clients that read a list share one object, filtered or not.
//
// Immutable once made; shared between threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pull/list_json.hpp"

namespace sluice::pull {

class ReferrerList {
 public:
  ReferrerList() = default;
  // In the order in which upstream gave them.
  explicit ReferrerList(const std::vector<Referrer>& referrers);

  [[nodiscard]] std::size_t count() const noexcept { return entries_.size(); }
  [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }
  // What it takes of memory.
  [[nodiscard]] std::size_t bytes() const noexcept;
  // The image index of all of them, as it is stored and as parse_referrers reads it.
  [[nodiscard]] std::string index() const;

  // One page of those that have an artifact type, or of all.
  struct Page {
    std::size_t first = 0;  // entries [first, end), of which those count that have the type
    std::size_t end = 0;
    std::uint32_t type = kAnyType;
    std::size_t count = 0;
    std::size_t bytes = 0;   // of the descriptors, with the commas between them
    std::string_view after;  // the digest of the last one, where there is another page behind it; else empty
  };
  // `artifact_type` empty: all. `after` empty: from the beginning; otherwise behind the one of that digest, or from the
  // beginning where it is gone. A page ends before it exceeds `max_bytes`, but has one at least.
  [[nodiscard]] Page page(std::string_view artifact_type, std::string_view after, std::size_t max_bytes) const;

  // The next piece of the text of a page, from entry `at` on, which is moved behind it; empty at the end. A piece is as
  // long as the descriptors of the page stand together, and has no comma at its end.
  [[nodiscard]] std::string_view piece(const Page& page, std::size_t& at) const;

 private:
  static constexpr std::uint32_t kAnyType = 0xffffffff;
  static constexpr std::uint32_t kNoType = 0xfffffffe;

  struct Entry {
    std::uint32_t begin = 0;  // in text_
    std::uint32_t size = 0;
    std::uint32_t type = kNoType;  // in types_
    std::uint32_t digest = 0;      // in digests_, behind that of the entry before
  };
  [[nodiscard]] std::string_view digest_of(std::size_t at) const;
  [[nodiscard]] bool in(const Page& page, std::size_t at) const {
    return page.type == kAnyType || entries_[at].type == page.type;
  }

  std::string text_;  // with commas between them
  std::string digests_;
  std::vector<Entry> entries_;
  std::vector<std::string> types_;
};

// What stands before the descriptors of an index; kListClosing stands behind them.
std::string_view referrers_opening();

}  // namespace sluice::pull
