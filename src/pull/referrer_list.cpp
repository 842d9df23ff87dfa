#include "pull/referrer_list.hpp"

#include <algorithm>
#include <unordered_map>

#include "oci/media_type.hpp"

namespace sluice::pull {

std::string_view referrers_opening() {
  static const std::string text =
      R"({"schemaVersion":2,"mediaType":")" + std::string(oci::media_type::kOciIndex) + R"(","manifests":[)";
  return text;
}

ReferrerList::ReferrerList(const std::vector<Referrer>& referrers) {
  std::size_t bytes = 0;
  for (const Referrer& referrer : referrers) bytes += referrer.descriptor.size() + 1;
  text_.reserve(bytes);
  entries_.reserve(referrers.size());
  std::unordered_map<std::string_view, std::uint32_t> known;
  for (const Referrer& referrer : referrers) {
    if (!text_.empty()) text_ += ',';
    Entry entry;
    entry.begin = static_cast<std::uint32_t>(text_.size());
    entry.size = static_cast<std::uint32_t>(referrer.descriptor.size());
    entry.digest = static_cast<std::uint32_t>(digests_.size());
    text_ += referrer.descriptor;
    digests_ += referrer.digest_text;
    if (!referrer.artifact_type.empty()) {
      const auto [at, made] = known.try_emplace(referrer.artifact_type, static_cast<std::uint32_t>(types_.size()));
      if (made) types_.push_back(referrer.artifact_type);
      entry.type = at->second;
    }
    entries_.push_back(entry);
  }
}

std::size_t ReferrerList::bytes() const noexcept {
  std::size_t bytes = sizeof(*this) + text_.size() + digests_.size() + entries_.size() * sizeof(Entry);
  for (const std::string& type : types_) bytes += sizeof(std::string) + type.size();
  return bytes;
}

std::string ReferrerList::index() const {
  std::string out(referrers_opening());
  return out.append(text_).append(kListClosing);
}

std::string_view ReferrerList::digest_of(std::size_t at) const {
  const std::size_t begin = entries_[at].digest;
  const std::size_t end = at + 1 == entries_.size() ? digests_.size() : entries_[at + 1].digest;
  return std::string_view(digests_).substr(begin, end - begin);
}

ReferrerList::Page ReferrerList::page(std::string_view artifact_type, std::string_view after,
                                      std::size_t max_bytes) const {
  Page page;
  if (!artifact_type.empty()) {
    const auto type = std::find(types_.begin(), types_.end(), artifact_type);
    if (type == types_.end()) return page;
    page.type = static_cast<std::uint32_t>(type - types_.begin());
  }
  if (!after.empty()) {
    std::size_t at = 0;
    while (at < entries_.size() && digest_of(at) != after) ++at;
    page.first = at == entries_.size() ? 0 : at + 1;
  }
  std::size_t last = 0;
  for (page.end = page.first; page.end < entries_.size(); ++page.end) {
    if (!in(page, page.end)) continue;
    const std::size_t more = entries_[page.end].size + (page.count == 0 ? 0 : 1);
    if (page.count != 0 && page.bytes + more > max_bytes) {
      page.after = digest_of(last);
      break;
    }
    page.bytes += more;
    ++page.count;
    last = page.end;
  }
  return page;
}

std::string_view ReferrerList::piece(const Page& page, std::size_t& at) const {
  while (at < page.end && !in(page, at)) ++at;
  if (at >= page.end) return {};
  const std::size_t begin = entries_[at].begin;
  std::size_t end = begin;
  for (; at < page.end && in(page, at); ++at) end = entries_[at].begin + entries_[at].size;
  return std::string_view(text_).substr(begin, end - begin);
}

}  // namespace sluice::pull
