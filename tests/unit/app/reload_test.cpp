#include <catch2/catch.hpp>

#include "app/reload.hpp"

using namespace sluice;
using namespace sluice::app;
using Keys = std::vector<std::string>;

TEST_CASE("Reload: says what counts at once, and what only after a restart", "[app]") {
  const config::Settings started;
  config::Settings loaded;
  CHECK(compare(started, started, loaded).changed.empty());
  CHECK(describe(compare(started, started, loaded)) == "nothing is different");
  loaded.server.deny = {"10.0.0.1"};
  loaded.server.client.max_connections = 7;
  loaded.server.listen.port = 1;
  loaded.proxy.https = "http://user:secret@proxy:1";
  loaded.redis.password = "secret";
  loaded.upstreams.at("ghcr.io").password = "secret";
  loaded.upstreams.erase("quay.io");
  loaded.upstreams["example.com"].url = "https://example.com";
  const Reloaded reloaded = compare(started, started, loaded);
  CHECK(reloaded.changed == Keys{"server.deny", "server.client.max_connections", "proxy.https", "upstreams.example.com",
                                 "upstreams.ghcr.io", "upstreams.quay.io"});
  CHECK(reloaded.restart == Keys{"server.listen", "redis.password"});
  CHECK(describe(reloaded).find("secret") == std::string::npos);
  CHECK(to_json(reloaded).find("\"restart\":[\"server.listen\",\"redis.password\"]") != std::string::npos);
  // The next time it is compared with what is in force, and what needs a restart with what was there at the start.
  CHECK(compare(started, loaded, loaded).changed.empty());
  CHECK(compare(started, loaded, loaded).restart == Keys{"server.listen", "redis.password"});
  CHECK(compare(started, loaded, started).changed == reloaded.changed);
  CHECK(compare(started, loaded, started).restart.empty());
}

TEST_CASE("Reload: the names of upstreams are known to Redis", "[app]") {
  config::Settings started;
  started.descriptors.cache = config::DescriptorCache::redis;
  config::Settings loaded = started;
  CHECK(same_names_in_redis(started, loaded));
  loaded.upstreams.erase("quay.io");
  CHECK_FALSE(same_names_in_redis(started, loaded));
  started.descriptors.cache = config::DescriptorCache::memory;
  CHECK(same_names_in_redis(started, loaded));
}
