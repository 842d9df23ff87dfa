// A blob that is served, and what a multipart answer about it says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "client.hpp"
#include "fixture.hpp"

namespace sluice::test {

struct Part {
  std::string content_range;
  std::string body;
};

// RFC 9110 section 14.6.
inline std::vector<Part> parse_multipart(const Response& response) {
  std::vector<Part> parts;
  const std::string type = response.field("content-type");
  const std::size_t at = type.find("boundary=");
  if (at == std::string::npos) return parts;
  const std::string delimiter = "\r\n--" + type.substr(at + 9);
  std::size_t from = response.body.find(delimiter);
  while (from != std::string::npos) {
    from += delimiter.size();
    if (response.body.compare(from, 4, "--\r\n") == 0) return parts;
    const std::size_t head_end = response.body.find("\r\n\r\n", from);
    const std::size_t next = response.body.find(delimiter, from);
    if (head_end == std::string::npos || next == std::string::npos) break;
    const std::string fields = response.body.substr(from, head_end + 2 - from);
    const std::size_t range = fields.find("Content-Range: ");
    if (range == std::string::npos) break;
    parts.push_back({fields.substr(range + 15, fields.find("\r\n", range) - range - 15),
                     response.body.substr(head_end + 4, next - head_end - 4)});
    from = next;
  }
  return {};  // not closed
}

// A cache with one blob, at rest or held in flight with this many bytes.
struct Served {
  explicit Served(std::size_t size, bool at_rest, std::uint64_t held = 0) : blob(content(size)) {
    digest = cache.hub().add_blob("library/app", blob);
    path = blob_path("library/app", digest);
    if (at_rest) {
      REQUIRE((get(cache.port(), path).body == blob));
      REQUIRE(cache.wait_idle());
    } else {
      cache.hub().hold(digest, held);
      starter.emplace(cache.port());
      starter->send("GET", path);
      REQUIRE(starter->read_head().status == 200);
    }
  }
  Response range(const std::string& value) { return get(cache.port(), path, {{"Range", value}}); }

  Fixture cache;
  std::string blob;
  oci::Digest digest;
  std::string path;
  std::optional<Client> starter;
};

}  // namespace sluice::test
