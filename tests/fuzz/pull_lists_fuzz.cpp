// Lists of tags and of referrers: what is taken of them stands sorted, each once, and makes JSON that reads back.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fuzz/expect.hpp"
#include "oci/name.hpp"
#include "pull/list_json.hpp"
#include "pull/referrer_list.hpp"

using namespace sluice;
using namespace sluice::pull;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  NameList::Builder tags;
  if (parse_tags(text, tags)) {
    const NameList list = tags.sorted();
    SLUICE_EXPECT(list.count() <= tags.count());
    for (std::size_t i = 0; i < list.count(); ++i) {
      SLUICE_EXPECT(oci::Tag::parse(list.name(i)).has_value());
      if (i > 0) SLUICE_EXPECT(list.name(i - 1) != list.name(i));
    }
  }
  const Result<ReadReferrers> read = parse_referrers(text);
  if (!read) {
    SLUICE_EXPECT(read.error().code == Errc::upstream_protocol);
    return 0;
  }
  for (const Referrer& referrer : read->referrers) {
    SLUICE_EXPECT(referrer.descriptor.find_first_of("\r\n") == std::string::npos);
    SLUICE_EXPECT(!referrer.digest || referrer.digest->to_string() == referrer.digest_text);
  }
  // As it is stored it reads back as the same list.
  const ReferrerList list(read->referrers);
  SLUICE_EXPECT(list.count() == read->referrers.size());
  const Result<ReadReferrers> back = parse_referrers(list.index());
  SLUICE_EXPECT(back && back->left_out == 0 && back->referrers.size() == read->referrers.size());
  for (std::size_t i = 0; i < back->referrers.size(); ++i) {
    SLUICE_EXPECT(back->referrers[i].digest_text == read->referrers[i].digest_text);
    SLUICE_EXPECT(back->referrers[i].artifact_type == read->referrers[i].artifact_type);
  }
  return 0;
}
