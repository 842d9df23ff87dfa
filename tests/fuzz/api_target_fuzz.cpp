// The path of a request: what is found in it stands in it, and names one thing only.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "api/target.hpp"
#include "fuzz/expect.hpp"
#include "http/query.hpp"

using namespace sluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using Kind = api::Target::Kind;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string_view path = text.substr(0, text.find('?'));
  const api::Target target = api::parse_target(path);
  SLUICE_EXPECT(target.name.empty() || (target.name.data() >= path.data() &&
                                        target.name.data() + target.name.size() <= path.data() + path.size()));
  if (target.kind != Kind::unknown) SLUICE_EXPECT(path.starts_with("/v2"));
  const bool has_reference =
      target.kind == Kind::blob || target.kind == Kind::manifest || target.kind == Kind::referrers;
  if (!has_reference) SLUICE_EXPECT(target.reference.empty());
  SLUICE_EXPECT(target.reference.find('/') == std::string::npos);
  if (has_reference && !target.name.empty()) {
    // Written again it is the same.
    const char* const kind = target.kind == Kind::blob       ? "blobs"
                             : target.kind == Kind::manifest ? "manifests"
                                                             : "referrers";
    const std::string again = "/v2/" + std::string(target.name) + "/" + kind + "/" + target.reference;
    const api::Target back = api::parse_target(again);
    SLUICE_EXPECT(back.kind == target.kind && back.reference == target.reference);
  }
  if (text.size() > path.size()) {
    const std::string_view query = text.substr(path.size() + 1);
    const auto found = http::find_query_parameter(query, "ns");
    SLUICE_EXPECT(found.value_or("") == http::query_parameter(query, "ns"));
    if (found) SLUICE_EXPECT(found->size() <= query.size() && query.find("ns") != std::string_view::npos);
  }
  return 0;
}
