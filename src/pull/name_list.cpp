#include "pull/name_list.hpp"

#include <algorithm>

namespace sluice::pull {

void NameList::Builder::add(std::string_view name) {
  text_ += name;
  ends_.push_back(static_cast<std::uint32_t>(text_.size()));
}

NameList NameList::Builder::sorted() const {
  std::vector<std::string_view> names;
  names.reserve(ends_.size());
  std::uint32_t begin = 0;
  for (const std::uint32_t end : ends_) {
    names.push_back(std::string_view(text_).substr(begin, end - begin));
    begin = end;
  }
  std::sort(names.begin(), names.end(), in_lexical_order);
  names.erase(std::unique(names.begin(), names.end()), names.end());
  NameList out;
  std::size_t bytes = 0;
  for (const std::string_view name : names) bytes += name.size() + 3;
  out.text_.reserve(bytes);
  out.begins_.reserve(names.size());
  for (const std::string_view name : names) {
    if (!out.text_.empty()) out.text_ += ',';
    out.begins_.push_back(static_cast<std::uint32_t>(out.text_.size()));
    out.text_.append("\"").append(name).append("\"");
  }
  return out;
}

std::string_view NameList::name(std::size_t at) const {
  const std::size_t begin = begins_[at] + 1;
  const std::size_t end = at + 1 == begins_.size() ? text_.size() : begins_[at + 1] - 1;
  return std::string_view(text_).substr(begin, end - 1 - begin);
}

Page NameList::page(const PageRequest& asked, std::size_t limit) const {
  std::size_t first = 0;
  if (!asked.last.empty()) {
    std::size_t end = begins_.size();
    while (first < end) {
      const std::size_t middle = first + (end - first) / 2;
      if (in_lexical_order(asked.last, name(middle))) {
        end = middle;
      } else {
        first = middle + 1;
      }
    }
  }
  const std::size_t left = begins_.size() - first;
  Page page;
  page.count = std::min({left, asked.n.value_or(limit), limit});
  if (page.count == 0) return page;
  const std::size_t behind = first + page.count;
  const std::size_t end = behind == begins_.size() ? text_.size() : begins_[behind] - 1;
  page.names = std::string_view(text_).substr(begins_[first], end - begins_[first]);
  page.last = name(behind - 1);
  page.more = page.count < left;
  return page;
}

}  // namespace sluice::pull
