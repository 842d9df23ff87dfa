#include "upstream/content.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/ascii.hpp"
#include "oci/media_type.hpp"

namespace sluice::upstream {
namespace {

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  if (text.empty() || text.size() > 18) return std::nullopt;
  if (!std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

Error unfit(std::string text) { return {Errc::upstream_protocol, std::move(text)}; }

bool is_empty_digest(const oci::Digest& digest) {
  return digest == oci::digest_of(digest.algorithm(), std::string_view());
}

}  // namespace

std::optional<ContentRange> parse_content_range(std::string_view value) {
  if (value.size() < 6 || !http::same_field_name(value.substr(0, 5), "bytes") || value[5] != ' ') return std::nullopt;
  value.remove_prefix(6);
  const std::size_t slash = value.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const std::string_view range = value.substr(0, slash);
  const std::string_view size = value.substr(slash + 1);

  ContentRange out;
  if (size != "*") {
    out.size = parse_number(size);
    if (!out.size) return std::nullopt;
  }
  if (range == "*") {
    if (!out.size) return std::nullopt;
    return out;
  }
  const std::size_t dash = range.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  out.first = parse_number(range.substr(0, dash));
  const auto last = parse_number(range.substr(dash + 1));
  if (!out.first || !last || *out.first > *last || (out.size && *last >= *out.size)) return std::nullopt;
  out.last = *last;
  return out;
}

namespace {

bool is_html(const http::ReceivedHead& head) {
  const std::string type = media_type_of(head);
  return http::same_field_name(type, "text/html") || http::same_field_name(type, "application/xhtml+xml");
}

}  // namespace

Result<void> check_content(const http::ReceivedHead& head) {
  if (is_html(head)) return unfit("an HTML page where content of a registry was asked for");
  return {};
}

std::string oddity(const http::ReceivedHead& head, const std::optional<oci::Digest>& asked) {
  if (is_html(head)) return "Content-Type is text/html";
  if (!codings_named(head).empty()) return "it has a Content-Encoding, though identity was asked for";
  const auto named = digest_of(head);
  if (asked && named && named->algorithm() == asked->algorithm() && *named != *asked) {
    return "Docker-Content-Digest is not the digest that was asked for";
  }
  return {};
}

std::vector<std::string_view> codings_named(const http::ReceivedHead& head) {
  std::vector<std::string_view> out;
  for (const auto& [name, value] : head.fields) {
    if (!http::same_field_name(name, "Content-Encoding")) continue;
    for (std::string_view rest = value; !rest.empty();) {
      const std::size_t comma = std::min(rest.find(','), rest.size());
      const std::string_view coding = trim(rest.substr(0, comma));
      if (!coding.empty() && !http::same_field_name(coding, "identity")) out.push_back(coding);
      rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
  }
  return out;
}

std::string media_type_of(const http::ReceivedHead& head) {
  const std::string* type = head.find("Content-Type");
  return type == nullptr ? std::string() : std::string(oci::strip_parameters(*type));
}

std::optional<oci::Digest> digest_of(const http::ReceivedHead& head) {
  const std::string* text = head.find("Docker-Content-Digest");
  if (text == nullptr) return std::nullopt;
  const Result<oci::Digest> digest = oci::Digest::parse(*text);
  if (!digest) return std::nullopt;
  return *digest;
}

namespace {

// Content-Range of a 206 that begins at `offset`.
Result<ContentRange> range_from(const http::ReceivedHead& head, std::optional<std::uint64_t> content_length,
                                std::uint64_t offset) {
  const std::string* field = head.find("Content-Range");
  const auto range = field == nullptr || head.count("Content-Range") != 1 ? std::nullopt : parse_content_range(*field);
  if (!range || !range->first) return unfit("a partial answer without a valid Content-Range");
  if (*range->first != offset) return unfit("a partial answer from another offset than was asked for");
  if (content_length && *content_length != range->last - *range->first + 1) {
    return unfit("a partial answer whose Content-Length contradicts its Content-Range");
  }
  return *range;
}

}  // namespace

Result<std::optional<std::uint64_t>> check_whole(const http::ReceivedHead& head,
                                                 std::optional<std::uint64_t> content_length) {
  if (is_whole(head.status)) return content_length;
  if (head.status != 206) return unfit(fmt::format("status {} where content was asked for", head.status));
  const Result<ContentRange> range = range_from(head, content_length, 0);
  if (!range || !range->size || range->last + 1 != *range->size) {
    return unfit("a partial answer that was not asked for");
  }
  return range->size;
}

Result<Extent> check_blob(const http::ReceivedHead& head, std::optional<std::uint64_t> content_length,
                          const oci::Digest& digest, std::uint64_t offset) {
  if (is_whole(head.status) || offset == 0) {
    const Result<std::optional<std::uint64_t>> size = check_whole(head, content_length);
    if (!size) return size.error();
    if (*size == 0U && !is_empty_digest(digest)) return unfit("an empty body for a blob");
    return Extent{0, *size, std::nullopt};
  }
  if (head.status != 206) return unfit(fmt::format("status {} where a blob was asked for", head.status));

  const Result<ContentRange> range = range_from(head, content_length, offset);
  if (!range) return range.error();
  if (range->size && range->last + 1 != *range->size) return unfit("a partial answer that does not go to the end");
  return Extent{offset, range->size, std::nullopt};
}

Result<Extent> check_blob_range(const http::ReceivedHead& head, std::optional<std::uint64_t> content_length,
                                std::uint64_t first, std::uint64_t last) {
  if (is_whole(head.status)) return Error{Errc::unsupported, "the whole blob where a range of it was asked for"};
  if (head.status != 206) return unfit(fmt::format("status {} where a range of a blob was asked for", head.status));
  const Result<ContentRange> range = range_from(head, content_length, first);
  if (!range) return range.error();
  if (range->last != last) return unfit("a partial answer that ends at another byte than was asked for");
  return Extent{first, range->size, last + 1};
}

}  // namespace sluice::upstream
