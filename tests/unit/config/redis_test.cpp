#include <catch2/catch.hpp>

#include "config/values.hpp"
#include "support.hpp"

using namespace sluice;
using namespace sluice::config;
using namespace sluice::config::testing;
using namespace std::chrono_literals;

namespace {

std::string problem(const std::string& text) {
  const Result<Settings> loaded = load_text(text);
  return loaded ? "none" : loaded.error().message;
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("Redis: its section", "[config]") {
  const Folder folder;
  const auto secret = folder.write("secret", "hunter2\n");
  const Result<Settings> loaded = load_text(
      "descriptors: { cache: redis }\n"
      "redis:\n  addresses: [redis, 10.0.0.1:7000, '[::1]:7000', 'unix:/run/redis.sock']\n  username: me\n"
      "  password_file: " +
      secret.string() + "\n  db: 4\n  connect_timeout: 2s\n  command_timeout: 50ms\n  pool_size: 3\n");
  if (!loaded) FAIL(loaded.error().message);
  CHECK(loaded->descriptors.cache == DescriptorCache::redis);
  CHECK(loaded->redis.addresses.size() == 4);
  CHECK(loaded->redis.addresses[3] == "unix:/run/redis.sock");
  CHECK(loaded->redis.password == "hunter2");
  CHECK(loaded->redis.db == 4);
  CHECK(loaded->redis.connect_timeout == 2s);
  CHECK(loaded->redis.command_timeout == 50ms);
  CHECK(loaded->redis.pool_size == 3);
  CHECK(loaded->warnings.empty());
  CHECK_FALSE(has(describe(*loaded), "hunter2"));
}

TEST_CASE("Redis: it has to be said where it is, and only when it is used", "[config]") {
  CHECK(has(problem("descriptors: { cache: redis }"), ":1: descriptors.cache: found redis without redis.addresses"));
  const std::string refused = problem("descriptors: { cache: redis }\nredis: { addresses: ['redis://x'] }");
  CHECK(has(refused, ":2: redis.addresses: found"));
  CHECK_FALSE(has(refused, "without redis.addresses"));
  const Result<Settings> unused = load_text("redis: { addresses: [localhost] }");
  REQUIRE(unused.has_value());
  REQUIRE(unused->warnings.size() == 1);
  CHECK(has(unused->warnings[0], "because descriptors.cache is not redis"));
}

TEST_CASE("Redis: a user has a password, a password is in one place", "[config]") {
  const std::string start = "descriptors: { cache: redis }\nredis: { addresses: [localhost], ";
  CHECK(problem(start + "password: x }") == "none");
  CHECK(has(problem(start + "username: me }"), ":2: redis.username: found without password"));
  CHECK(has(problem(start + "password: x, password_file: /nonexistent }"), "found beside password"));
  CHECK(has(problem(start + "password_file: /nonexistent }"), "expected a readable file with the password"));
}

TEST_CASE("Redis: addresses", "[config]") {
  for (const char* text : {"localhost", "Redis.example.com:6379", "10.0.0.1", "[::1]:6379", "unix:/run/redis.sock"}) {
    INFO(text);
    CHECK(is_redis_address(text));
  }
  for (const char* text :
       {"", "redis://localhost", "localhost:", "localhost:0", "::1", "unix:redis.sock", "unix:", "a b"}) {
    INFO(text);
    CHECK_FALSE(is_redis_address(text));
  }
  CHECK_FALSE(is_redis_address("unix:/" + std::string(107, 'x')));
}
