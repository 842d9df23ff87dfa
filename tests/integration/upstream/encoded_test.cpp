// Answers that name a Content-Encoding though `identity` was asked for.
#include <zstd.h>

#include "bench.hpp"

#include "oci/media_type.hpp"
#include "support/gzip.hpp"
#include "upstream/coding.hpp"
#include "upstream/encoded_body.hpp"

namespace sluice::upstream {
namespace {

std::string zstd(const std::string& bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 1));
  return out;
}

std::string encode(const std::string& coding, const std::string& bytes) {
  if (coding == "zstd") return zstd(bytes);
  if (coding == "deflate") return test::gzip(bytes, 15);
  return test::gzip(bytes);
}

// Every answer about the blob is `body`, with that Content-Encoding.
std::string add(Bench& bench, const std::string& content, const std::string& coding, std::string body) {
  const std::string name = bench.origin.add_blob("app", content);
  Reply reply;
  reply.fields = {{"Content-Encoding", coding}};
  reply.body = std::move(body);
  bench.origin.respond(Bench::blob(name), [reply](const Request&) { return reply; });
  return name;
}

// On the loop, because a body is destroyed there.
Task<bool> is_plain_guess(upstream::Registry& registry, oci::Repository repository, oci::Digest digest) {
  const auto body = co_await registry.open_blob(std::move(repository), digest, 0);
  co_return body && (*body)->is_guess() && !(*body)->is_redirected();
}

TEST_CASE("Coding: decodes what it was encoded from, in any pieces", "[upstream]") {
  const std::string content = content_of(300'000) + std::string(300'000, 'x');
  for (const std::string coding : {"gzip", "x-gzip", "deflate", "zstd"}) {
    INFO(coding);
    http::ReceivedHead head;
    head.fields = {{"content-encoding", coding}};
    REQUIRE(coding_of(head));
    const std::string encoded = encode(coding, content);
    CHECK(may_begin(*coding_of(head), encoded));
    const auto whole = decode(*coding_of(head), encoded, content.size());
    REQUIRE(whole);
    CHECK((*whole == content));
    CHECK_FALSE(decode(*coding_of(head), encoded, content.size() - 1));
    CHECK_FALSE(decode(*coding_of(head), encoded.substr(0, encoded.size() - 5), content.size()));
    CHECK_FALSE(decode(*coding_of(head), "{\"a\":1}", 1000));
  }
  // Members follow one another.
  CHECK(decode(Coding::gzip, test::gzip("one") + test::gzip("two"), 100).value() == "onetwo");
  CHECK(decode(Coding::deflate, test::gzip("bare", -15), 100).value() == "bare");
  for (const char* other : {"", "identity", "br", "aws-chunked", "gzip, gzip"}) {
    http::ReceivedHead head;
    head.fields = {{"Content-Encoding", other}};
    CHECK_FALSE(coding_of(head));
  }
}

TEST_CASE("Encoded: a blob is what has the digest, decoded or not", "[upstream]") {
  const std::string coding = GENERATE("gzip", "deflate", "zstd");
  const std::size_t size = GENERATE(100U, 300'000U);
  const std::string content = content_of(size);
  Bench bench;
  const std::string really = add(bench, content, coding, encode(coding, content));
  const std::string layer = encode(coding, content);  // a blob that is compressed itself
  const std::string only_named = add(bench, layer, coding, layer);
  for (const auto& [name, wanted] : {std::pair(really, content), std::pair(only_named, layer)}) {
    for (int round = 0; round < 2; ++round) {
      const Download got = bench.get(name);
      CHECK_FALSE(got.opening);
      CHECK_FALSE(got.error);
      CHECK((got.bytes == wanted));
      CHECK(got.size == wanted.size());
      CHECK(bench.stat(name)->size == wanted.size());
    }
  }
  // Offsets are those of the blob: what is encoded comes from its beginning.
  const Download rest = bench.get(really, 50);
  CHECK(rest.offset == 0);
  CHECK((rest.bytes == content));
  const Download plain_rest = bench.get(only_named, 50);
  CHECK(plain_rest.offset == 50);
  CHECK((plain_rest.bytes == layer.substr(50)));
  const auto range = [&](const std::string& name) {
    return bench.loops.run(download_range(bench.registry(), repository("app"), digest(name), 10, 19));
  };
  CHECK(range(really).opening->code == Errc::unsupported);
  CHECK(range(only_named).bytes == layer.substr(10, 10));
}

TEST_CASE("Encoded: two fields of Content-Encoding are one list", "[upstream]") {
  const std::string content = content_of(5000);
  Bench bench;
  const std::string name = bench.origin.add_blob("app", content);
  Reply reply;
  reply.fields = {{"Content-Encoding", "identity"}, {"Content-Encoding", "gzip"}};
  reply.body = test::gzip(content);
  bench.origin.respond(Bench::blob(name), [&reply](const Request&) { return reply; });
  Download got = bench.get(name);
  CHECK_FALSE(got.opening);
  CHECK((got.bytes == content));

  const std::string manifest = R"({"schemaVersion":2})";
  const std::string of_manifest = bench.origin.add_manifest("app", "latest", manifest, "application/json");
  Reply encoded = reply;
  encoded.body = test::gzip(manifest);
  bench.origin.respond(Bench::manifest_path(of_manifest), [&encoded](const Request&) { return encoded; });
  CHECK(bench.manifest(of_manifest)->body == manifest);

  // As one field that names both: nothing is decoded, and plain bytes are right.
  reply.fields = {{"Content-Encoding", "gzip"}, {"Content-Encoding", "aws-chunked"}};
  reply.body = content_of(6000);
  const std::string plain = bench.origin.add_blob("app", reply.body);
  bench.origin.respond(Bench::blob(plain), [&reply](const Request&) { return reply; });
  got = bench.get(plain);
  CHECK_FALSE(got.opening);
  CHECK((got.bytes == reply.body));
}

TEST_CASE("Encoded: asked for its size or a range first", "[upstream]") {
  const std::string content = content_of(5000);
  Bench bench;
  const std::string name = add(bench, content, "gzip", test::gzip(content));
  const bool range_first = GENERATE(false, true);
  if (range_first) {
    const auto got = bench.loops.run(download_range(bench.registry(), repository("app"), digest(name), 10, 19));
    CHECK(got.opening->code == Errc::unsupported);
  }
  const auto found = bench.stat(name);
  REQUIRE(found);
  CHECK(found->size == content.size());
  CHECK(found->digest == digest(name));
}

TEST_CASE("Encoded: a size that takes too long to find out is not told", "[upstream]") {
  const std::string content = content_of(100'000);
  Bench bench;
  bench.params.request_timeout = std::chrono::seconds{1};
  bench.params.stall_timeout = std::chrono::seconds{90};
  const std::string name = bench.origin.add_blob("app", content);
  const auto slow = std::make_shared<Gate>(100);
  Reply reply;
  reply.fields = {{"Content-Encoding", "gzip"}};
  reply.body = test::gzip(content);
  bench.origin.respond(Bench::blob(name), [reply, slow](const Request& request) {
    Reply out = reply;
    const bool whole = request.method == "GET" && request.field("Range").empty();
    if (whole) out.gate = slow;
    return out;
  });
  const auto began = std::chrono::steady_clock::now();
  CHECK(bench.stat(name).error().code == Errc::upstream_timeout);
  CHECK(std::chrono::steady_clock::now() - began < std::chrono::seconds{60});
  slow->open();
}

TEST_CASE("Encoded: bytes that are right in no form", "[upstream]") {
  Bench bench;
  const std::string name = add(bench, content_of(5000), "gzip", test::gzip("something else"));
  const Download got = bench.get(name);
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::digest_mismatch);
}

TEST_CASE("Encoded: a decompression bomb is refused", "[upstream]") {
  const std::string coding = GENERATE("gzip", "zstd");
  Bench bench;
  const std::string name = add(bench, std::string(64 << 20, '\0'), coding, encode(coding, std::string(64 << 20, '\0')));
  const Download got = bench.get(name);
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::digest_mismatch);
  // As long as a small layer may be.
  const std::string zeros(8 << 20, '\0');
  CHECK((bench.get(add(bench, zeros, coding, encode(coding, zeros))).bytes == zeros));
}

TEST_CASE("Encoded: more than is held", "[upstream]") {
  const std::string content = content_of(EncodedBlobs::kMaxHeldBytes + 1'000'000);
  const std::string layer = test::gzip(content);
  Bench bench;
  const std::string only_named = add(bench, layer, "gzip", layer);
  const std::string twice = add(bench, layer + "x", "gzip", test::gzip(layer + "x"));
  const Download plain = bench.get(only_named);
  CHECK_FALSE(plain.error);
  // A guess: its length is not told, and nobody gets a byte before the digest is right.
  CHECK_FALSE(plain.size);
  CHECK(bench.loops.run(is_plain_guess(bench.registry(), repository("app"), digest(only_named))));
  CHECK((plain.bytes == layer));
  const Download decoded = bench.get(twice);
  CHECK_FALSE(decoded.error);
  CHECK_FALSE(decoded.size);
  CHECK((decoded.bytes == layer + "x"));
}

TEST_CASE("Encoded: many small ones at once are all held", "[upstream]") {
  // More than there are places of the largest size.
  constexpr int kMany = EncodedBlobs::kMaxHeldInAll / EncodedBlobs::kMaxHeldBytes + 4;
  const std::string content = content_of(300'000);
  const bool tells_length = GENERATE(true, false);
  Bench bench;
  bench.params.max_connections = std::size_t{2} * kMany;
  std::vector<std::unique_ptr<BlobBody>> bodies;
  for (int i = 0; i < kMany; ++i) {
    const std::string blob = content + std::to_string(i);
    Reply reply;
    reply.fields = {{"Content-Encoding", "gzip"}};
    if (!tells_length) reply.framing = Framing::chunked;
    reply.body = test::gzip(blob);
    const std::string name = bench.origin.add_blob("app", blob);
    bench.origin.respond(Bench::blob(name), [reply](const Request&) { return reply; });
    auto body = bench.loops.run(bench.registry().open_blob(repository("app"), digest(name), 0));
    REQUIRE(body);
    // Known and not guessed.
    CHECK((*body)->size() == blob.size());
    CHECK_FALSE((*body)->is_guess());
    bodies.push_back(std::move(*body));
  }
}

TEST_CASE("Encoded: what is held is bounded by bytes", "[upstream]") {
  EncodedBlobs blobs;
  constexpr std::size_t kPiece = EncodedBlobs::kMaxHeldBytes;
  std::vector<EncodedBlobs::Room> rooms;
  for (std::size_t held = 0; held < EncodedBlobs::kMaxHeldInAll; held += kPiece) {
    rooms.emplace_back(blobs);
    CHECK_FALSE(rooms.back().grow_to(kPiece + 1));
    CHECK(rooms.back().grow_to(kPiece / 2));
    CHECK(rooms.back().grow_to(kPiece));
    CHECK(rooms.back().grow_to(1));
  }
  CHECK(blobs.held_bytes() == EncodedBlobs::kMaxHeldInAll);
  EncodedBlobs::Room one_more(blobs);
  CHECK_FALSE(one_more.grow_to(1));
  rooms.back().give_back();
  CHECK(one_more.grow_to(kPiece));
  rooms.clear();
  CHECK(blobs.held_bytes() == kPiece);
}

TEST_CASE("Encoded: a long blob that is compressed once is told by the size that a manifest has claimed",
          "[upstream]") {
  const std::string content = content_of(EncodedBlobs::kMaxHeldBytes + 1'000'000);
  const std::string layer = test::gzip(content);
  Bench bench;
  const std::string really = add(bench, content, "gzip", layer);
  const std::string only_named = add(bench, layer, "gzip", layer);
  const auto claim = [&bench](const std::string& name, std::uint64_t size) {
    bench.registry().note_claimed_size(digest(name), size);
  };
  bool claimed = true;
  SECTION("rightly") {
    claim(really, content.size());
    claim(only_named, layer.size());
  }
  SECTION("wrongly, which the digest shows") {
    claim(really, layer.size());
    claim(only_named, content.size());
    CHECK((bench.get(really).bytes == layer));
    CHECK((bench.get(only_named).bytes == content));
    for (const std::string& name : {really, only_named}) bench.registry().note_mismatch(digest(name));
  }
  SECTION("not at all, which the digest shows") {
    claimed = false;
    CHECK((bench.get(really).bytes == layer));
    bench.registry().note_mismatch(digest(really));
  }
  for (int round = 0; round < 2; ++round) {
    const Download decoded = bench.get(really);
    CHECK_FALSE(decoded.error);
    CHECK_FALSE(decoded.size);
    CHECK((decoded.bytes == content));
    const Download plain = bench.get(only_named);
    CHECK_FALSE(plain.error);
    CHECK(plain.size.has_value() == claimed);
    if (claimed) CHECK(plain.size == layer.size());
    CHECK((plain.bytes == layer));
  }
}

TEST_CASE("Encoded: a mismatch says nothing of a blob that has come without a coding", "[upstream]") {
  Bench bench;
  const std::string content = content_of(5000);
  const std::string name = bench.origin.add_blob("app", content);
  bench.registry().note_mismatch(digest(name));
  const Download got = bench.get(name);
  CHECK((got.bytes == content));
  CHECK(got.size == content.size());
}

TEST_CASE("Encoded: lists", "[upstream]") {
  const std::string list = R"({"name":"app","tags":["one","two"]})";
  const std::string coding = GENERATE("gzip", "deflate", "zstd");
  const bool really = GENERATE(true, false);
  Bench bench;
  Reply reply;
  reply.fields = {{"Content-Type", "application/json"}, {"Content-Encoding", coding}};
  reply.body = really ? encode(coding, list) : list;
  bench.origin.respond("/v2/app/tags/list", [reply](const Request&) { return reply; });
  const auto got = bench.loops.run(bench.registry().list(repository("app"), "tags/list"));
  REQUIRE(got);
  CHECK(got->body == list);
}

TEST_CASE("Encoded: manifests", "[upstream]") {
  const std::string manifest = R"({"schemaVersion":2})";
  const std::string type(oci::media_type::kOciManifest);
  Bench bench;
  const std::string name = bench.origin.add_manifest("app", "latest", manifest, type);
  for (const bool named : {true, false}) {
    for (const bool really : {true, false}) {
      Reply reply;
      reply.fields = {{"Content-Encoding", "gzip"}, {"Content-Type", type}};
      if (named) reply.fields.emplace_back("Docker-Content-Digest", name);
      reply.body = really ? test::gzip(manifest) : manifest;
      for (const std::string& asked : {std::string("latest"), name}) {
        bench.origin.script(Bench::manifest_path(asked), reply);
        const auto got = bench.manifest(asked);
        REQUIRE(got);
        CHECK(got->body == manifest);
        CHECK(got->digest == digest(name));
      }
    }
  }
  Reply bomb;
  bomb.fields = {{"Content-Encoding", "gzip"}};
  bomb.body = test::gzip("{" + std::string(8 << 20, ' '));
  bench.origin.script(Bench::manifest_path("latest"), bomb);
  CHECK_FALSE(bench.manifest("latest"));
}

TEST_CASE("get_manifest: signed docker schema 1, by the digest of its payload", "[upstream]") {
  // The payload ends where the signatures have been put in.
  const std::string payload = "{\n   \"schemaVersion\": 1,\n   \"fsLayers\": []\n}";
  const std::string kept = payload.substr(0, payload.size() - 2);
  // {"formatLength":42,"formatTail":"Cn0"}
  REQUIRE(kept.size() == 42);
  const std::string body = kept +
                           ",\n   \"signatures\": [{\"signature\": \"xyz\", \"protected\": "
                           "\"eyJmb3JtYXRMZW5ndGgiOjQyLCJmb3JtYXRUYWlsIjoiQ24wIn0\"}]\n}";
  const std::string type(oci::media_type::kDockerSchema1Signed);
  const std::string name = ScriptedOrigin::digest_of(payload);
  Bench bench;
  Reply reply;
  reply.fields = {{"Content-Type", type}, {"Docker-Content-Digest", name}};
  reply.body = body;
  for (const std::string& asked : {std::string("old"), name}) {
    bench.origin.script(Bench::manifest_path(asked), reply);
    const auto got = bench.manifest(asked);
    REQUIRE(got);
    CHECK(got->body == body);
    CHECK(got->digest == digest(name));
  }
  // Another payload does not pass.
  reply.body[reply.body.find("1,")] = '2';
  bench.origin.script(Bench::manifest_path(name), reply);
  CHECK(bench.manifest(name).error().code == Errc::digest_mismatch);
}

}  // namespace
}  // namespace sluice::upstream
