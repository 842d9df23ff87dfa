#include "oci/manifest.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "oci/json.hpp"
#include "oci/media_type.hpp"

namespace sluice::oci {
namespace {

using nlohmann::json;

Error invalid(std::string_view why) { return {Errc::manifest_invalid, "not a valid manifest: " + std::string(why)}; }

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

// The keys that this reading depends on. One that occurs twice would let two readers see two manifests.
enum Field : std::uint32_t {
  kNoField = 0,
  kSchemaVersion = 1u << 0,
  kMediaType = 1u << 1,
  kArtifactType = 1u << 2,
  kConfig = 1u << 3,
  kLayers = 1u << 4,
  kManifests = 1u << 5,
  kSubject = 1u << 6,
  kSignatures = 1u << 7,
  kFsLayers = 1u << 8,
  kDigest = 1u << 9,
  kSize = 1u << 10,
  kUrls = 1u << 11,
};

Field top_field(std::string_view key) noexcept {
  constexpr std::array<std::pair<std::string_view, Field>, 9> kFields = {{{"schemaVersion", kSchemaVersion},
                                                                          {"mediaType", kMediaType},
                                                                          {"artifactType", kArtifactType},
                                                                          {"config", kConfig},
                                                                          {"layers", kLayers},
                                                                          {"manifests", kManifests},
                                                                          {"subject", kSubject},
                                                                          {"signatures", kSignatures},
                                                                          {"fsLayers", kFsLayers}}};
  for (const auto& [name, field] : kFields) {
    if (key == name) return field;
  }
  return kNoField;
}

Field descriptor_field(std::string_view key) noexcept {
  if (key == "digest") return kDigest;
  if (key == "size") return kSize;
  if (key == "mediaType") return kMediaType;
  if (key == "urls") return kUrls;
  return kNoField;
}

// What stands in the body, before it is decided what it is.
struct Body {
  std::uint32_t present = 0;  // Fields of the top level, also those whose value is null
  bool has_config = false;    // an object, not null
  std::int64_t schema_version = 0;
  std::string media_type;
  std::string artifact_type;
  Descriptor config;
  std::vector<Descriptor> layers;
  std::vector<Descriptor> manifests;
  std::optional<Descriptor> subject;
  std::vector<Digest> foreign;
};

// Reads the body as events, so that memory grows with what is kept and not with what a stranger nests.
//
// Depth 1 is the manifest; depth 2 a descriptor of its own (config, subject) or a list; depth 3 a descriptor in a list.
// Everything deeper, and every value of a key that is not known, passes by unread.
class BodyReader : public nlohmann::json_sax<json> {
 public:
  explicit BodyReader(Body& body) : body_(body) {}

  // Why reading stopped; empty if the text is not JSON.
  const std::string& problem() const noexcept { return problem_; }

  bool null() override { return value_of_no_use(true); }
  bool boolean(bool) override { return value_of_no_use(false); }
  bool number_float(number_float_t, const string_t&) override { return value_of_no_use(false); }
  bool binary(binary_t&) override { return value_of_no_use(false); }

  bool number_integer(number_integer_t value) override {
    if (expected() == kSize) return fail("a size is negative");
    return integer(value);
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return value_of_no_use(false);
    return integer(static_cast<std::int64_t>(value));
  }

  bool string(string_t& value) override {
    switch (expected()) {
      case kMediaType: (in_descriptor_ ? entry_.media_type : body_.media_type) = std::move(value); return true;
      case kArtifactType: body_.artifact_type = std::move(value); return true;
      case kDigest: return digest(value);
      default: return value_of_no_use(false);
    }
  }

  bool start_object(std::size_t) override {
    const Field field = expected();
    const bool in_list = depth_ == 2 && list_ != kNoField;
    if (depth_ == 0 || field == kConfig || field == kSubject || in_list) {
      in_descriptor_ = depth_ > 0;
      if (in_descriptor_) begin_descriptor(field);
    } else if (!value_of_no_use(false)) {
      return false;
    }
    field_ = kNoField;
    return deeper();
  }

  bool end_object() override {
    --depth_;
    if (in_descriptor_ && depth_ == descriptor_depth_) return end_descriptor();
    field_ = kNoField;
    return true;
  }

  bool start_array(std::size_t) override {
    if (depth_ == 0) return fail("it is not an object");
    const Field field = expected();
    if (field == kLayers || field == kManifests) {
      list_ = field;
    } else if (field != kSignatures && field != kFsLayers && !value_of_no_use(false)) {
      return false;
    }
    field_ = kNoField;
    return deeper();
  }

  bool end_array() override {
    --depth_;
    if (depth_ == 1) list_ = kNoField;
    field_ = kNoField;
    return true;
  }

  bool key(string_t& text) override {
    field_ = kNoField;
    if (depth_ == 1) {
      field_ = top_field(text);
      return note(body_.present);
    }
    if (in_descriptor_ && depth_ == descriptor_depth_ + 1) {
      field_ = descriptor_field(text);
      return note(entry_present_);
    }
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  // The field whose value comes now; kNoField for values that do not matter, and for all elements of arrays.
  Field expected() const noexcept { return field_; }

  bool fail(std::string_view why) {
    problem_ = why;
    return false;
  }

  bool deeper() {
    if (++depth_ > kMaxManifestDepth) return fail("it is nested too deep");
    return true;
  }

  bool note(std::uint32_t& present) {
    if (field_ != kNoField && (present & field_) != 0) return fail("a key occurs twice");
    present |= field_;
    return true;
  }

  // A value that cannot be read into anything: fine unless a field wants one. Null is the same as absent.
  bool value_of_no_use(bool is_null) {
    if (depth_ == 0) return fail("it is not an object");
    if (depth_ == 2 && list_ != kNoField) return fail("a list of descriptors holds something else");
    const bool fits = field_ == kNoField || is_null || (field_ & (kSignatures | kFsLayers | kUrls)) != 0;
    field_ = kNoField;
    return fits || fail("a key has a value of the wrong type");
  }

  bool integer(std::int64_t value) {
    if (field_ == kSize) {
      entry_.size = static_cast<std::uint64_t>(value);
      entry_has_size_ = true;
      return true;
    }
    if (field_ == kSchemaVersion) {
      body_.schema_version = value;
      return true;
    }
    return value_of_no_use(false);
  }

  bool digest(const std::string& text) {
    Result<Digest> parsed = Digest::parse(text);
    if (!parsed) return fail(parsed.error().message);
    entry_.digest = *parsed;
    entry_has_digest_ = true;
    return true;
  }

  void begin_descriptor(Field field) {
    entry_ = Descriptor();
    entry_present_ = 0;
    entry_has_digest_ = entry_has_size_ = false;
    entry_of_ = list_ != kNoField ? list_ : field;
    descriptor_depth_ = depth_;
  }

  bool end_descriptor() {
    in_descriptor_ = false;
    field_ = kNoField;
    if (!entry_has_digest_) return fail("a descriptor has no digest");
    if (!entry_has_size_) return fail("a descriptor has no size");
    // Clients pull such images, so they are not refused; the kind of content is unknown then.
    if (entry_.media_type.empty()) entry_.media_type = media_type::kOctetStream;
    if ((entry_present_ & kUrls) != 0) body_.foreign.push_back(entry_.digest);
    switch (entry_of_) {
      case kConfig:
        body_.config = std::move(entry_);
        body_.has_config = true;
        break;
      case kSubject: body_.subject = std::move(entry_); break;
      case kLayers: body_.layers.push_back(std::move(entry_)); break;
      default: body_.manifests.push_back(std::move(entry_)); break;
    }
    return true;
  }

  Body& body_;
  std::string problem_;
  std::size_t depth_ = 0;
  Field field_ = kNoField;  // of the last key, until its value has come
  Field list_ = kNoField;   // kLayers or kManifests while inside one

  bool in_descriptor_ = false;  // valid only then:
  std::size_t descriptor_depth_ = 0;
  Field entry_of_ = kNoField;
  Descriptor entry_;
  std::uint32_t entry_present_ = 0;
  bool entry_has_digest_ = false;
  bool entry_has_size_ = false;
};

// Content types that say nothing: what servers send for a file that they do not know.
bool is_generic(std::string_view bare) noexcept {
  constexpr std::array<std::string_view, 5> kGeneric = {media_type::kJson, media_type::kOctetStream, "text/plain",
                                                        "binary/octet-stream", "text/json"};
  if (bare.empty()) return true;
  for (const std::string_view type : kGeneric) {
    if (bare.size() != type.size()) continue;
    bool same = true;
    for (std::size_t i = 0; i < type.size(); ++i) {
      const char c = bare[i] >= 'A' && bare[i] <= 'Z' ? static_cast<char>(bare[i] - 'A' + 'a') : bare[i];
      same = same && c == type[i];
    }
    if (same) return true;
  }
  return false;
}

Result<std::string_view> type_by_structure(const Body& body) {
  if ((body.present & kManifests) != 0) return media_type::kOciIndex;
  if (body.has_config) {
    const bool docker = strip_parameters(body.config.media_type) == media_type::kDockerConfig;
    return docker ? media_type::kDockerSchema2 : media_type::kOciManifest;
  }
  if (body.schema_version == 1 && (body.present & kFsLayers) != 0) {
    return (body.present & kSignatures) != 0 ? media_type::kDockerSchema1Signed : media_type::kDockerSchema1;
  }
  return invalid("nothing tells what kind it is");
}

Result<std::string_view> decide_type(const Body& body, std::string_view content_type) {
  const std::string_view by_header = canonical_manifest_type(content_type);
  if (by_header.empty() && !is_generic(strip_parameters(content_type))) {
    return invalid("its content type is not that of a manifest");
  }
  if (body.media_type.empty()) return by_header.empty() ? type_by_structure(body) : by_header;

  const std::string_view by_body = canonical_manifest_type(body.media_type);
  if (by_body.empty()) return invalid("its mediaType is not that of a manifest");
  if (by_header.empty() || by_header == by_body) return by_body;
  // The two schema 1 types differ in the signatures around the same content.
  if (is_schema1(by_header) && is_schema1(by_body)) return by_header;
  return invalid("its mediaType contradicts its content type");
}

// Whether the structure is the one that the type asks for, and no other one's at the same time.
Result<void> check_structure(const Body& body, std::string_view type) {
  const std::int64_t version = is_schema1(type) ? 1 : 2;
  const bool has_version = (body.present & kSchemaVersion) != 0;
  if (has_version && body.schema_version != version) return invalid("its schemaVersion does not fit its type");

  const std::uint32_t image = body.present & (kConfig | kLayers);
  const std::uint32_t index = body.present & kManifests;
  const std::uint32_t schema1 = body.present & kFsLayers;
  if ((image != 0) + (index != 0) + (schema1 != 0) > 1) return invalid("it is an index and an image at once");

  if (is_schema1(type)) {
    if (!has_version || schema1 == 0) return invalid("it has no fsLayers or no schemaVersion");
  } else if (is_index(type)) {
    if (index == 0) return invalid("an index has no manifests");
  } else if (!body.has_config) {
    return invalid("an image has no config");
  }
  return {};
}

bool is_high(char c) noexcept { return (static_cast<unsigned char>(c) & 0x80U) != 0; }

// Fills `body` as far as reading goes. What is read of a manifest is ASCII, so where the text is not UTF-8, bytes that
// are not are read as if they were a '?'.
Result<void> read_body(std::string_view bytes, Body& body) {
  // nlohmann takes a zero byte for the end of its input and would not look at what follows it.
  if (bytes.find('\0') != std::string_view::npos) return invalid("it is not JSON");
  std::string replaced;
  for (;;) {
    BodyReader reader(body);
    if (json::sax_parse(bytes.begin(), bytes.end(), &reader)) return {};
    if (!reader.problem().empty()) return invalid(reader.problem());
    if (!replaced.empty() || std::none_of(bytes.begin(), bytes.end(), is_high)) return invalid("it is not JSON");
    replaced = bytes;
    std::replace_if(replaced.begin(), replaced.end(), is_high, '?');
    bytes = replaced;
    body = Body();
  }
}

// "type/subtype" of RFC 9110 tokens.
bool is_media_type(std::string_view text) noexcept {
  const std::size_t slash = text.find('/');
  if (slash == 0 || slash == std::string_view::npos || slash + 1 == text.size() || text.size() > 255) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return c > ' ' && !is_high(c) && c != 0x7f &&
           std::string_view("\"(),:;<=>?@[\\]{}").find(c) == std::string_view::npos;
  });
}

std::string as_kept(std::string_view type) {
  const std::string_view known = canonical_manifest_type(type);
  return std::string(known.empty() ? strip_parameters(type) : known);
}

}  // namespace

bool names_manifest_type(std::string_view content_type) noexcept {
  if (is_manifest(content_type)) return true;
  constexpr std::string_view kApplication = "application/";
  constexpr std::array<std::string_view, 8> kFiles = {"xml",   "gzip",      "x-gzip",       "zip",
                                                      "x-tar", "xhtml+xml", "problem+json", "problem+xml"};
  const std::string_view bare = strip_parameters(content_type);
  if (!is_media_type(bare) || !bare.starts_with(kApplication) || is_generic(bare)) return false;
  return std::find(kFiles.begin(), kFiles.end(), bare.substr(kApplication.size())) == kFiles.end();
}

namespace {

// Bytes that are not UTF-8 are read as if they were a '?': what is looked for is ASCII.
Result<json> read_tree(std::string_view bytes, std::size_t most_bytes) {
  if (bytes.starts_with(kByteOrderMark)) bytes.remove_prefix(kByteOrderMark.size());
  std::string ascii(bytes);
  std::replace_if(ascii.begin(), ascii.end(), is_high, '?');
  return parse_json(ascii, {.bytes = most_bytes, .depth = kMaxManifestDepth});
}

}  // namespace

std::optional<Digest> subject_of(std::string_view bytes) {
  const Result<json> document = read_tree(bytes, kMaxManifestBytes);
  if (!document || !document->is_object()) return std::nullopt;
  const auto subject = document->find("subject");
  if (subject == document->end() || !subject->is_object()) return std::nullopt;
  const auto digest = subject->find("digest");
  if (digest == subject->end() || !digest->is_string()) return std::nullopt;
  const Result<Digest> parsed = Digest::parse(digest->get_ref<const std::string&>());
  return parsed ? std::optional(*parsed) : std::nullopt;
}

bool is_error_document(std::string_view bytes) {
  const Result<json> document = read_tree(bytes, JsonBounds().bytes);
  if (!document || !document->is_object() || !document->contains("errors")) return false;
  constexpr std::array<const char*, 3> kOfManifests = {"schemaVersion", "mediaType", "artifactType"};
  return std::none_of(kOfManifests.begin(), kOfManifests.end(),
                      [&document](const char* key) { return document->contains(key); });
}

std::string served_type(std::string_view bytes, std::string_view content_type) {
  if (names_manifest_type(content_type)) return as_kept(content_type);
  Body body;
  // Whether it is well formed does not matter: what came before the fault may tell.
  static_cast<void>(read_body(bytes, body));
  if (names_manifest_type(body.media_type)) return as_kept(body.media_type);
  if (const Result<std::string_view> type = type_by_structure(body)) return std::string(*type);
  return std::string(looks_like_json(bytes) ? media_type::kJson : media_type::kOctetStream);
}

bool looks_like_json(std::string_view bytes) noexcept {
  if (bytes.starts_with(kByteOrderMark)) bytes.remove_prefix(kByteOrderMark.size());
  const std::size_t first = bytes.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && bytes[first] == '{';
}

Result<ManifestInfo> parse_manifest(std::string_view bytes, std::string_view content_type) {
  if (bytes.size() > kMaxManifestBytes) return invalid("it is too large");
  Body body;
  if (const Result<void> read = read_body(bytes, body); !read) return read.error();
  const Result<std::string_view> type = decide_type(body, content_type);
  if (!type) return type.error();
  if (Result<void> checked = check_structure(body, *type); !checked) return checked.error();

  ManifestInfo info;
  info.media_type = *type;
  info.is_index = is_index(*type);
  info.subject = std::move(body.subject);
  info.artifact_type = std::move(body.artifact_type);
  info.foreign = std::move(body.foreign);
  if (info.is_index) {
    info.references = std::move(body.manifests);
  } else if (body.has_config) {
    info.references.reserve(1 + body.layers.size());
    info.references.push_back(std::move(body.config));
    std::move(body.layers.begin(), body.layers.end(), std::back_inserter(info.references));
  }
  return info;
}

std::vector<Descriptor> own_blobs(const ManifestInfo& info) {
  std::vector<Descriptor> out;
  if (info.is_index) return out;
  const auto is_elsewhere = [&info](const Descriptor& blob) {
    return blob.media_type.find("nondistributable") != std::string::npos ||
           blob.media_type.find(".foreign.") != std::string::npos ||
           std::find(info.foreign.begin(), info.foreign.end(), blob.digest) != info.foreign.end();
  };
  for (const Descriptor& blob : info.references) {
    if (!is_elsewhere(blob) && !is_manifest(blob.media_type)) out.push_back(blob);
  }
  return out;
}

}  // namespace sluice::oci
