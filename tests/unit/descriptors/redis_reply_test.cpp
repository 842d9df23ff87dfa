#include <catch2/catch.hpp>

#include "descriptors/redis_reply.hpp"
#include "support/catch_result.hpp"
#include "support/code_of.hpp"

using namespace sluice;
using namespace sluice::descriptors;
using test::code_of;

namespace {

using Type = RedisReply::Type;
const std::string kDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

RedisReply nil() { return {}; }
RedisReply text(std::string value) { return {Type::text, 0, std::move(value), {}}; }
RedisReply number(std::int64_t value) { return {Type::integer, value, "", {}}; }
RedisReply failure(std::string value) { return {Type::error, 0, std::move(value), {}}; }
RedisReply array(std::vector<RedisReply> elements) { return {Type::array, 0, "", std::move(elements)}; }

}  // namespace

TEST_CASE("RedisReply: a descriptor is read from its hash", "[descriptors]") {
  const Result<oci::Descriptor> found = read_descriptor(array({text(kDigest), text("42"), text("application/json")}));
  REQUIRE(found);
  CHECK(found->digest.to_string() == kDigest);
  CHECK(found->size == 42);
  CHECK(found->media_type == "application/json");
  const Result<oci::Descriptor> untyped = read_descriptor(array({text(kDigest), text("42"), nil()}));
  REQUIRE(untyped);
  CHECK(untyped->media_type.empty());

  CHECK(code_of(read_descriptor(array({nil(), nil(), nil()}))) == "blob_unknown");
  CHECK(code_of(read_descriptor(array({text(kDigest), nil(), text("a/b")}))) == "blob_unknown");
  CHECK(code_of(read_descriptor(array({nil(), text("42"), text("a/b")}))) == "blob_unknown");
}

TEST_CASE("RedisReply: what is no descriptor is corrupt", "[descriptors]") {
  const RedisReply digest = text(kDigest);
  for (const RedisReply& reply :
       {nil(), number(1), text("x"), failure("ERR"), array({}), array({digest, text("1")}),
        array({digest, text("1"), text("a/b"), nil()}), array({number(1), text("1"), nil()}),
        array({text("sha256:short"), text("1"), nil()}), array({text(""), text("1"), nil()}),
        array({digest, text(""), nil()}), array({digest, text("-1"), nil()}), array({digest, text("1x"), nil()}),
        array({digest, text("9223372036854775808"), nil()}), array({digest, text("99999999999999999999"), nil()}),
        array({digest, text("1"), text("a/b\r\nX-Header: 1")}), array({digest, text("1"), text(std::string(256, 'a'))}),
        array({digest, text("1"), array({})})}) {
    CHECK(code_of(read_descriptor(reply)) == "corrupt");
  }
}

TEST_CASE("RedisReply: a repository's media type is laid over the global one", "[descriptors]") {
  oci::Descriptor descriptor;
  descriptor.media_type = "application/json";
  CHECK(code_of(read_repository(array({nil(), nil()}), descriptor)) == "blob_unknown");
  CHECK(code_of(read_repository(array({nil(), text("1")}), descriptor)) == "blob_unknown");
  CHECK(code_of(read_repository(array({number(1), nil()}), descriptor)) == "corrupt");
  CHECK(code_of(read_repository(array({text("a b"), nil()}), descriptor)) == "corrupt");
  CHECK(code_of(read_repository(array({text("a/b")}), descriptor)) == "corrupt");
  CHECK(code_of(read_repository(text("a/b"), descriptor)) == "corrupt");
  CHECK(read_repository(array({text(""), nil()}), descriptor).value() == Clock::Wall{});
  CHECK(descriptor.media_type == "application/json");
  CHECK(read_repository(array({text("text/plain"), nil()}), descriptor).value() == Clock::Wall{});
  CHECK(descriptor.media_type == "text/plain");
}

TEST_CASE("RedisReply: a date is read as it was written, and nothing else is one", "[descriptors]") {
  oci::Descriptor descriptor;
  const Clock::Wall time{std::chrono::seconds(1'790'000'000)};
  CHECK(write_time(time) == "1790000000");
  CHECK(read_repository(array({text("a/b"), text(write_time(time))}), descriptor).value() == time);
  for (const char* nonsense : {"", "0", "-1", "1.5", "today", "1790000000 ", "4294967296", "99999999999999999999"}) {
    CHECK(code_of(read_repository(array({text("a/b"), text(nonsense)}), descriptor)) == "corrupt");
  }
  CHECK(code_of(read_repository(array({text("a/b"), number(1)}), descriptor)) == "corrupt");
}

TEST_CASE("RedisReply: membership and counts are numbers", "[descriptors]") {
  CHECK(read_membership(number(1)).value());
  CHECK_FALSE(read_membership(number(0)).value());
  CHECK(code_of(read_membership(number(2))) == "corrupt");
  CHECK(code_of(read_membership(text("1"))) == "corrupt");
  CHECK(code_of(read_membership(nil())) == "corrupt");
  CHECK(read_count(number(3)).value() == 3);
  CHECK(code_of(read_count(text("OK"))) == "corrupt");
}

TEST_CASE("RedisReply: an error is about a key, about memory, or about the server", "[descriptors]") {
  CHECK(verdict_on(number(1)) == RedisVerdict::fine);
  CHECK(verdict_on(failure("WRONGTYPE Operation against a key holding the wrong kind of value")) ==
        RedisVerdict::wrong_type);
  CHECK(verdict_on(array({number(1), failure("WRONGTYPE x")})) == RedisVerdict::wrong_type);
  CHECK(verdict_on(failure("OOM command not allowed when used memory > 'maxmemory'.")) == RedisVerdict::full);
  CHECK(verdict_on(failure("EXECABORT Transaction discarded because of previous errors.")) == RedisVerdict::fine);
  for (const char* error :
       {"LOADING Redis is loading the dataset in memory", "NOAUTH Authentication required.",
        "READONLY You can't write against a read only replica.", "NOPERM this user has no permissions",
        "MISCONF Redis is configured to save RDB snapshots", "ERR unknown command", "MOVED 1 127.0.0.1:1", ""}) {
    CHECK(verdict_on(failure(error)) == RedisVerdict::refused);
  }
}
