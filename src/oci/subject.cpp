#include "oci/subject.hpp"

#include <algorithm>
#include <string>

#include <nlohmann/json.hpp>

#include "oci/manifest.hpp"

namespace sluice::oci {
namespace {

using nlohmann::json;

// Depth 1 is the manifest, depth 2 its subject; everything else passes by unread.
class SubjectReader : public nlohmann::json_sax<json> {
 public:
  [[nodiscard]] const std::optional<Digest>& subject() const noexcept { return subject_; }

  bool null() override { return pass(); }
  bool boolean(bool) override { return pass(); }
  bool number_integer(number_integer_t) override { return pass(); }
  bool number_unsigned(number_unsigned_t) override { return pass(); }
  bool number_float(number_float_t, const string_t&) override { return pass(); }
  bool binary(binary_t&) override { return pass(); }

  bool string(string_t& value) override {
    if (at_ == At::digest) {
      const Result<Digest> digest = Digest::parse(value);
      if (!digest || subject_) return false;
      subject_ = *digest;
    }
    return pass();
  }

  bool key(string_t& name) override {
    at_ = At::elsewhere;
    if (depth_ == 1 && name == "subject") {
      at_ = At::subject;
      return ++subjects_ == 1;
    }
    if (depth_ == 2 && in_subject_ && name == "digest") at_ = At::digest;
    return true;
  }

  bool start_object(std::size_t) override {
    in_subject_ = in_subject_ || at_ == At::subject;
    return deeper();
  }
  bool start_array(std::size_t) override { return depth_ != 0 && deeper(); }
  bool end_object() override {
    if (--depth_ == 1) in_subject_ = false;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  enum class At : std::uint8_t { elsewhere, subject, digest };  // the value that comes next

  bool pass() noexcept {
    at_ = At::elsewhere;
    return depth_ != 0;
  }
  bool deeper() noexcept {
    at_ = At::elsewhere;
    return ++depth_ <= kMaxManifestDepth;
  }

  std::size_t depth_ = 0;
  At at_ = At::elsewhere;
  bool in_subject_ = false;
  int subjects_ = 0;
  std::optional<Digest> subject_;
};

}  // namespace

std::optional<Digest> subject_of(std::string_view manifest) {
  // nlohmann takes a zero byte for the end of its input and would not look at what follows it.
  if (manifest.size() > kMaxManifestBytes || manifest.find('\0') != std::string_view::npos) return std::nullopt;
  // A digest is ASCII, so bytes that may not be UTF-8 do not matter.
  std::string ascii(manifest);
  std::replace_if(ascii.begin(), ascii.end(), [](char c) { return (static_cast<unsigned char>(c) & 0x80U) != 0; }, '?');
  if (manifest.starts_with("\xef\xbb\xbf")) ascii.erase(0, 3);
  SubjectReader reader;
  if (!json::sax_parse(ascii.begin(), ascii.end(), &reader)) return std::nullopt;
  return reader.subject();
}

}  // namespace sluice::oci
