#include "pull/list_json.hpp"

#include <algorithm>
#include <optional>

#include <nlohmann/json.hpp>

#include "base/log.hpp"
#include "oci/json.hpp"
#include "oci/name.hpp"

namespace sluice::pull {
namespace {

using nlohmann::json;

// Lists need four levels; annotations of a descriptor make it five.
constexpr std::size_t kMaxDepth = 32;
// Of all kinds, keys included, in one page. A tag takes four bytes at least.
constexpr std::size_t kMaxValues = 20'000'000;
// A descriptor has ten values, and annotations.
constexpr oci::JsonBounds kDescriptorBounds{.bytes = std::size_t{1} << 20, .depth = kMaxDepth, .values = 10'000};

Error no_list(std::string_view why) { return {Errc::upstream_protocol, std::string(why)}; }

// What both lists have in common: an object, of which one key holds the list. Calls of values that do not belong to the
// list pass by. Everything is within the bounds, or reading stops.
class ListReader : public nlohmann::json_sax<json> {
 public:
  explicit ListReader(std::string_view key) : list_key_(key) {}

  // Whether the whole was one JSON text with a list; otherwise why not.
  [[nodiscard]] std::string_view problem() const noexcept { return problem_; }
  [[nodiscard]] bool has_list() const noexcept { return has_list_; }

  bool null() override {
    if (list_comes_) has_list_ = true;
    return value();
  }
  bool boolean(bool) override { return value(); }
  bool number_integer(number_integer_t) override { return value(); }
  bool number_unsigned(number_unsigned_t) override { return value(); }
  bool number_float(number_float_t, const string_t&) override { return value(); }
  bool binary(binary_t&) override { return value(); }
  bool string(string_t& text) override {
    if (!in_elements()) return value();
    return count() && element(text);
  }

  bool key(string_t& text) override {
    list_comes_ = depth_ == 1 && text == list_key_;
    return count();
  }

  bool start_object(std::size_t) override {
    if (in_elements() && !begin_element()) return false;
    if (depth_ != 0 && list_comes_) return fail("it is no list");
    return deeper();
  }
  bool end_object() override {
    --depth_;
    return !in_elements() || end_element();
  }
  bool start_array(std::size_t) override {
    if (depth_ == 0) return fail("it is not an object");
    if (in_elements() && !odd_element()) return false;
    if (list_comes_) {
      has_list_ = in_list_ = true;
      begin_list();
    }
    return deeper();
  }
  bool end_array() override {
    if (--depth_ == 1) in_list_ = false;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 protected:
  bool fail(std::string_view why) {
    problem_ = why;
    return false;
  }

  // A list begins; of two under the same key the last one counts.
  virtual void begin_list() = 0;
  // Elements of the list: a text, or an object, as its first and its last character have been read.
  virtual bool element(const std::string& text) = 0;
  virtual bool begin_element() = 0;
  virtual bool end_element() = 0;
  // Anything else, as it begins.
  virtual bool odd_element() { return fail("it holds something else"); }

 private:
  [[nodiscard]] bool in_elements() const noexcept { return in_list_ && depth_ == 2; }

  bool count() { return ++values_ <= kMaxValues || fail("it holds too many values"); }
  bool value() {
    if (depth_ == 0) return fail("it is not an object");
    if (in_elements() && !odd_element()) return false;
    if (list_comes_ && !has_list_) return fail("it is no list");
    list_comes_ = false;
    return count();
  }
  bool deeper() {
    list_comes_ = false;
    if (++depth_ > kMaxDepth) return fail("it is nested too deep");
    return count();
  }

  const std::string_view list_key_;
  std::string_view problem_;
  std::size_t depth_ = 0;
  std::size_t values_ = 0;
  bool list_comes_ = false;  // the key has been read, its value has not
  bool in_list_ = false;
  bool has_list_ = false;
};

class TagReader final : public ListReader {
 public:
  explicit TagReader(NameList::Builder& into) : ListReader("tags"), into_(into) {}

 private:
  void begin_list() override {}
  bool element(const std::string& text) override {
    if (oci::Tag::parse(text)) into_.add(text);
    return true;
  }
  bool begin_element() override { return fail("it holds something else"); }
  bool end_element() override { return true; }

  NameList::Builder& into_;
};

// Where the descriptors of an index stand in its text: `read` is how much of it the parser has taken.
class DescriptorFinder final : public ListReader {
 public:
  DescriptorFinder(std::string_view text, const std::size_t& read)
      : ListReader("manifests"), text_(text), read_(read) {}

  std::vector<std::string_view> found;
  std::size_t others = 0;  // elements that are no objects

 private:
  void begin_list() override {
    found.clear();
    others = 0;
  }
  bool element(const std::string&) override { return odd_element(); }
  bool odd_element() override {
    ++others;
    return true;
  }
  bool begin_element() override {
    begin_ = read_ - 1;
    return true;
  }
  bool end_element() override {
    found.push_back(text_.substr(begin_, read_ - begin_));
    return true;
  }

  const std::string_view text_;
  const std::size_t& read_;
  std::size_t begin_ = 0;
};

// Walks a text and counts in `*read` what was taken of it. A brace is taken with no character behind it, so that the
// count says where it stands.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, std::size_t* read) : at_(at), read_(read) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    ++*read_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  friend bool operator==(const CountingIterator& a, const CountingIterator& b) { return a.at_ == b.at_; }

 private:
  const char* at_;
  std::size_t* read_;
};

std::string text_of(const json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

bool is_high(char c) noexcept { return (static_cast<unsigned char>(c) & 0x80U) != 0; }

// What is looked for is ASCII, so bytes that are not UTF-8 (Latin-1 in an annotation) need not be read: every one
// beyond ASCII becomes a '?', and all stand where they stood.
std::string as_ascii(std::string_view text) {
  std::string out(text);
  std::replace_if(out.begin(), out.end(), is_high, '?');
  return out;
}

// The descriptor in one line. Where it is not UTF-8 it is as it came, but for what stands between its values: JSON has
// no line ends inside of them.
std::string one_line(std::string_view text) {
  std::string out(text);
  std::replace_if(out.begin(), out.end(), [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
  return out;
}

// `ascii`: the same text with as_ascii() applied, or itself. Nothing where it is no descriptor: without a digest there
// is nothing that it could describe. What else may be wrong with it is for the client to judge. Errors:
// upstream_protocol, for one that is too large.
Result<std::optional<Referrer>> read_referrer(std::string_view text, std::string_view ascii) {
  Result<json> parsed = oci::parse_json(text, kDescriptorBounds);
  const bool is_utf8 = parsed.has_value();
  if (!is_utf8 && text.data() != ascii.data()) parsed = oci::parse_json(ascii, kDescriptorBounds);
  if (!parsed || !parsed->is_object()) {
    return no_list("its list of referrers has a descriptor that is too large, too deep or holds too many values");
  }
  Referrer referrer;
  referrer.digest_text = text_of(*parsed, "digest");
  const Result<oci::Digest> digest = oci::Digest::parse(referrer.digest_text);
  if (!digest && digest.error().code != Errc::digest_unsupported) return std::optional<Referrer>();
  if (digest) referrer.digest = *digest;
  referrer.artifact_type = text_of(*parsed, "artifactType");
  referrer.descriptor = is_utf8 ? parsed->dump() : one_line(text);
  return std::optional(std::move(referrer));
}

// Reads `text` to its end; nothing where it is right.
template <class Iterator>
std::optional<Error> read_list(std::string_view text, Iterator first, Iterator last, ListReader& reader,
                               std::string_view what) {
  // nlohmann takes a zero byte for the end of its input and would not look at what follows it.
  const bool json_text = text.find('\0') == std::string_view::npos && json::sax_parse(first, last, &reader);
  if (json_text && reader.has_list()) return std::nullopt;
  const std::string_view why = json_text                  ? std::string_view("it has none")
                               : reader.problem().empty() ? std::string_view("it is not JSON")
                                                          : reader.problem();
  std::string message(what);
  return no_list(message.append(": ").append(why));
}

}  // namespace

Result<void> parse_tags(std::string_view body, NameList::Builder& into) {
  TagReader reader(into);
  if (auto wrong = read_list(body, body.begin(), body.end(), reader, "its list of tags")) return *wrong;
  return {};
}

Result<ReadReferrers> parse_referrers(std::string_view body) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (body.starts_with(kByteOrderMark)) body.remove_prefix(kByteOrderMark.size());
  std::string ascii;
  if (std::any_of(body.begin(), body.end(), is_high)) ascii = as_ascii(body);
  const std::string_view walked = ascii.empty() ? body : std::string_view(ascii);
  std::size_t read = 0;
  DescriptorFinder finder(body, read);
  const CountingIterator first(walked.data(), &read);
  const CountingIterator last(walked.data() + walked.size(), &read);
  if (auto wrong = read_list(walked, first, last, finder, "its list of referrers")) return *wrong;
  ReadReferrers out;
  out.left_out = finder.others;
  out.referrers.reserve(finder.found.size());
  for (const std::string_view descriptor : finder.found) {
    const auto at = static_cast<std::size_t>(descriptor.data() - body.data());
    Result<std::optional<Referrer>> referrer = read_referrer(descriptor, walked.substr(at, descriptor.size()));
    if (!referrer) return referrer.error();
    if (*referrer) {
      out.referrers.push_back(std::move(**referrer));
    } else {
      ++out.left_out;
    }
  }
  // An empty list would say that nothing refers to the manifest.
  if (out.referrers.empty() && out.left_out > 0)
    return no_list("its list of referrers has no entry with a valid digest");
  return out;
}

std::string tags_opening(std::string_view repository) {
  std::string out = R"({"name":")";
  log::append_json_escaped(out, repository);
  return out.append(R"(","tags":[)");
}

}  // namespace sluice::pull
