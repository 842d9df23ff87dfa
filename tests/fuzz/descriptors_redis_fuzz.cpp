// What Redis holds may have been written by anybody: each reply of a few texts is a descriptor, or corrupt.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "descriptors/redis_reply.hpp"
#include "fuzz/expect.hpp"

using namespace sluice;
using namespace sluice::descriptors;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  // A line an element; its first character is the type.
  RedisReply reply;
  reply.type = RedisReply::Type::array;
  while (!text.empty() && reply.elements.size() < 8) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    RedisReply element;
    if (!line.empty()) {
      element.type = static_cast<RedisReply::Type>(static_cast<unsigned char>(line[0]) % 6);
      element.text = line.substr(1);
      element.integer = static_cast<std::int64_t>(line.size());
    }
    static_cast<void>(verdict_on(element));
    static_cast<void>(read_membership(element));
    static_cast<void>(read_count(element));
    reply.elements.push_back(std::move(element));
  }
  static_cast<void>(verdict_on(reply));
  Result<oci::Descriptor> descriptor = read_descriptor(reply);
  if (!descriptor) {
    SLUICE_EXPECT(descriptor.error().code == Errc::corrupt || descriptor.error().code == Errc::blob_unknown);
    descriptor = oci::Descriptor{oci::digest_of(oci::Algorithm::sha256, ""), 0, "application/octet-stream"};
  } else {
    SLUICE_EXPECT(descriptor->digest.to_string() == reply.elements[0].text);
  }
  const std::string before = descriptor->media_type;
  const Result<Clock::Wall> checked = read_repository(reply, *descriptor);
  if (checked && reply.elements[1].type == RedisReply::Type::text) {
    SLUICE_EXPECT(descriptor->media_type == before || descriptor->media_type == reply.elements[0].text);
    // Written again it is the same date.
    RedisReply again = reply;
    again.elements[1] = {RedisReply::Type::text, 0, write_time(*checked), {}};
    oci::Descriptor other = *descriptor;
    const Result<Clock::Wall> back = read_repository(again, other);
    SLUICE_EXPECT(back && *back == *checked);
  }
  static_cast<void>(read_mark(reply));
  return 0;
}
