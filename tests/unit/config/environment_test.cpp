#include <catch2/catch.hpp>

#include "config/fields.hpp"
#include "support.hpp"

using namespace sluice;
using namespace sluice::config;
using namespace std::chrono_literals;

namespace {

Result<Settings> with(std::map<std::string, std::string> environment) {
  LoadParams params;
  params.environment = std::move(environment);
  return load(params);
}

}  // namespace

TEST_CASE("Environment: keys are written in capitals with underscores", "[config]") {
  const Result<Settings> loaded = with({{"SLUICE_SERVER_HEADER_TIMEOUT", "5s"},
                                        {"SLUICE_LOG_ACCESS_FILE", "/tmp/a"},
                                        {"SLUICE_DATA", "/tmp/b"},
                                        {"SLUICE_UPSTREAMS_DOCKER_IO_URL", "http://localhost:1"},
                                        {"SLUICE_UPSTREAMS_REGISTRY_K8S_IO_MAX_CONNECTIONS", "7"},
                                        {"SLUICE_UPSTREAMS_GHCR_IO_REALM_HOSTS", "a.example,b.example"}});
  REQUIRE(loaded.has_value());
  CHECK(loaded->server.header_timeout == 5s);
  CHECK(loaded->log.access.file == "/tmp/a");
  CHECK(loaded->data == "/tmp/b");
  CHECK(loaded->upstreams.at("docker.io").url == "http://localhost:1");
  CHECK(loaded->upstreams.at("registry.k8s.io").max_connections == 7);
  CHECK(loaded->upstreams.at("ghcr.io").realm_hosts == std::vector<std::string>{"a.example", "b.example"});
}

TEST_CASE("Environment: an upstream of the file can be set too", "[config]") {
  const testing::Folder folder;
  LoadParams params;
  params.file = folder.write("a.yml", "upstreams: { my-registry.example:5000: {} }");
  params.environment = {{"SLUICE_UPSTREAMS_MY_REGISTRY_EXAMPLE_5000_RETRIES", "1"}};
  const Result<Settings> loaded = load(params);
  REQUIRE(loaded.has_value());
  CHECK(loaded->upstreams.at("my-registry.example:5000").retries == 1);
}

TEST_CASE("Environment: what is unknown or wrong stops the start", "[config]") {
  CHECK(with({{"SLUICE_SERVER_LISTN", "x"}}).error().message ==
        "SLUICE_SERVER_LISTN: found an unknown variable, did you mean SLUICE_SERVER_LISTEN?");
  CHECK(with({{"SLUICE_UPSTREAMS_EXAMPLE_ORG_URL", "https://example.org"}})
            .error()
            .message.find("SLUICE_UPSTREAMS_EXAMPLE_ORG_URL: found an unknown variable") == 0);
  CHECK(
      with({{"SLUICE_SOMETHING_ENTIRELY_DIFFERENT", ""}}).error().message ==
      "SLUICE_SOMETHING_ENTIRELY_DIFFERENT: found an unknown variable, expected SLUICE_ and the path of a key, such as "
      "SLUICE_SERVER_LISTEN");
  CHECK(with({{"SLUICE_TAGS_TTL", "soon"}}).error().message ==
        "SLUICE_TAGS_TTL: found \"soon\", expected a duration from 0s to 8760h");
  CHECK(with({{"SLUICE_UPSTREAMS_QUAY_IO_PASSWORD", std::string("hunter2\0", 8)}}).error().message.find("hunter2") ==
        std::string::npos);
}

TEST_CASE("Environment: what others put there under our name is left alone", "[config]") {
  CHECK(with({{"SLUICE_CONFIG", "x"},
              {"SLUICE_SERVICE_HOST", "10.0.0.1"},
              {"SLUICE_SERVICE_PORT", "5000"},
              {"SLUICE_SERVICE_PORT_REGISTRY", "5000"},
              {"SLUICE_PORT", "tcp://10.0.0.1:5000"},
              {"SLUICE_PORT_5000_TCP", "tcp://10.0.0.1:5000"},
              {"SLUICE_PORT_5000_TCP_ADDR", "10.0.0.1"},
              {"SLUICE_JOBS", "2"},
              {"SLUICEX", "y"},
              {"PATH", "/bin"}})
            .has_value());
  CHECK_FALSE(with({{"SLUICE_PORT_X", "1"}}).has_value());
}

TEST_CASE("Environment: no two keys share a variable", "[config]") {
  std::map<std::string, std::string> seen;
  for (const auto& field : settings_fields()) {
    std::string mangled(field.key);
    for (char& c : mangled) c = c == '.' ? '_' : c;
    INFO(field.key);
    CHECK(seen.emplace(mangled, field.key).second);
  }
}

TEST_CASE("Environment: the process's own is read whole", "[config]") {
  CHECK(process_environment().count("PATH") == 1);
}
