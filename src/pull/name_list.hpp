// NameList: sorted names, kept as the text that answers are made of: `"a","b","c"`. A page is a piece of that text, so
// all clients that read a list share one object, however slowly they read.
//
// Immutable once made; shared between threads. Names hold nothing that JSON escapes (tags and repositories do not).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pull/pages.hpp"

namespace sluice::pull {

class NameList {
 public:
  // Takes names in any order. Not thread-safe.
  class Builder {
   public:
    // At most 4 GiB of names in all.
    void add(std::string_view name);
    [[nodiscard]] std::size_t count() const noexcept { return ends_.size(); }
    [[nodiscard]] std::size_t bytes() const noexcept { return text_.size() + ends_.size() * sizeof(std::uint32_t); }
    // In the order of in_lexical_order, each once. Takes some µs a name.
    [[nodiscard]] NameList sorted() const;

   private:
    std::string text_;  // one behind the other
    std::vector<std::uint32_t> ends_;
  };

  NameList() = default;

  [[nodiscard]] std::size_t count() const noexcept { return begins_.size(); }
  [[nodiscard]] bool empty() const noexcept { return begins_.empty(); }
  // What it takes of memory.
  [[nodiscard]] std::size_t bytes() const noexcept { return text_.size() + begins_.size() * sizeof(std::uint32_t); }

  // A page has at most `limit` names, whatever was asked for. It points into this list.
  [[nodiscard]] Page page(const PageRequest& asked, std::size_t limit) const;
  [[nodiscard]] std::string_view name(std::size_t at) const;

 private:
  std::string text_;                   // quoted, with commas between them
  std::vector<std::uint32_t> begins_;  // where the quote before each name stands
};

}  // namespace sluice::pull
