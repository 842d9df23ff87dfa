#include "upstream/credentials.hpp"

#include <vector>

#include <catch2/catch.hpp>

#include "support/catch_result.hpp"
#include "upstream/docker_config.hpp"

namespace sluice::upstream {

TEST_CASE("Credentials: Basic and back", "[upstream]") {
  CHECK(basic_authorization({"alice", "wonder:land"}) == "Basic YWxpY2U6d29uZGVyOmxhbmQ=");
  CHECK(basic_authorization({}).empty());
  CHECK(*decode_base64("YWxpY2U6d29uZGVyOmxhbmQ=") == "alice:wonder:land");
  CHECK(*decode_base64("YWxpY2U6d29uZGVyOmxhbmQ") == "alice:wonder:land");
  CHECK(*decode_base64("YQAA") == "a");
  CHECK(decode_base64("").value().empty());
  CHECK_FALSE(decode_base64("a b"));
  CHECK_FALSE(decode_base64("ab\n"));
}

TEST_CASE("Credentials: patterns of repositories", "[upstream]") {
  const std::vector<std::tuple<std::string, std::string, bool>> cases = {{"team/app", "team/app", true},
                                                                         {"team/app", "team/apps", false},
                                                                         {"team/*", "team/app", true},
                                                                         {"team/*", "team/app/sub", false},
                                                                         {"team/**", "team/app/sub", true},
                                                                         {"team/**", "team", false},
                                                                         {"**", "anything/at/all", true},
                                                                         {"*", "one", true},
                                                                         {"*", "one/two", false},
                                                                         {"**/base", "a/b/base", true},
                                                                         {"**/base", "base", false},
                                                                         {"a*c/d", "abbc/d", true},
                                                                         {"a*c/d", "ab/c/d", false},
                                                                         {"*/x/*", "a/x/b", true},
                                                                         {"**/x/*", "a/b/x/c", true},
                                                                         {"**/x/*", "a/b/x/c/d", false},
                                                                         {"", "", true},
                                                                         {"", "a", false},
                                                                         {"**a**b", "xxaxxbxxb", true},
                                                                         {"team/*-base", "team/x-y-base", true}};
  for (const auto& [pattern, repository, fits] : cases) {
    INFO(pattern << " on " << repository);
    CHECK(matches_repository(pattern, repository) == fits);
  }
}

TEST_CASE("Credentials: what upstream repeats of them is blotted out", "[upstream]") {
  const Credentials alice{"alice", "wonderland"};
  const std::string echo = "no such user alice:wonderland (YWxpY2U6d29uZGVybGFuZA==), password wonderland";
  for (const std::string& text : {without_secrets(echo, alice), without_secrets(echo, basic_authorization(alice))}) {
    CHECK(text.find("wonderland") == std::string::npos);
    CHECK(text.find("YWxpY2U6") == std::string::npos);
  }
  CHECK(without_secrets("bad token abc.def", "Bearer abc.def") == "bad token ***");
  CHECK(without_secrets("a refresh-me b", Credentials{{}, {}, "refresh-me"}) == "a *** b");
  CHECK(without_secrets("nothing", "") == "nothing");
}

TEST_CASE("docker config: logins", "[upstream]") {
  const auto config = DockerConfig::parse(R"({
    "auths": {
      "https://index.docker.io/v1/": {"auth": "aHViOmh1YnB3"},
      "registry.example.com:5000": {"username": "u", "password": "p"},
      "https://acr.example.com/v2/": {"auth": "MDAwOg==", "identitytoken": "refresh"},
      "empty.example.com": {}
    }, "HttpHeaders": {}})");
  REQUIRE(config);
  const auto find = [&](const std::string& authority) { return config->find(docker_servers(authority)); };
  REQUIRE(find("registry-1.docker.io"));
  CHECK(find("registry-1.docker.io")->credentials == Credentials{"hub", "hubpw"});
  CHECK(find("registry.example.com:5000")->credentials == Credentials{"u", "p"});
  CHECK(find("acr.example.com")->credentials == Credentials{"000", "", "refresh"});
  CHECK_FALSE(find("registry.example.com"));
  CHECK_FALSE(find("empty.example.com"));
}

TEST_CASE("docker config: helpers and the store", "[upstream]") {
  const auto config = DockerConfig::parse(R"({
    "auths": {"gcr.io": {"auth": "YTpi"}, "quay.io": {"auth": "YTpi"}, "https://index.docker.io/v1/": {}},
    "credHelpers": {"gcr.io": "gcloud", "https://index.docker.io/v1/": "hub"}, "credsStore": "desktop"})");
  REQUIRE(config);
  CHECK(config->find(docker_servers("gcr.io"))->helper == "gcloud");
  const auto hub = config->find(docker_servers("registry-1.docker.io"));
  CHECK(hub->helper == "hub");
  CHECK(helper_key(hub->server) == "https://index.docker.io/v1/");
  CHECK(config->find(docker_servers("quay.io"))->helper == "desktop");
  CHECK(config->find(docker_servers("quay.io"))->server == "quay.io");
}

TEST_CASE("docker config: what is none", "[upstream]") {
  for (const char* text :
       {"", "[]", "{\"auths\": []}", "{\"auths\": {\"a\": 1}}", "{\"auths\": {\"a\": {\"auth\": \"?\"}}}",
        "{\"auths\": {\"a\": {\"auth\": \"c2VjcmV0\"}}}", "{\"credHelpers\": 1}"}) {
    INFO(text);
    const auto config = DockerConfig::parse(text);
    REQUIRE_FALSE(config);
    CHECK(config.error().message.find("c2VjcmV0") == std::string::npos);
    CHECK(config.error().message.find("secret") == std::string::npos);
  }
}

TEST_CASE("docker credential helper: its answer", "[upstream]") {
  CHECK(*parse_helper_answer(R"({"ServerURL":"x","Username":"u","Secret":"s"})") == Credentials{"u", "s"});
  CHECK(*parse_helper_answer(R"({"Username":"<token>","Secret":"s"})") == Credentials{"", "", "s"});
  for (const char* text : {"", "hello", "{}", R"({"Username":"u"})", R"({"Username":"u","Secret":""})"}) {
    CHECK_FALSE(parse_helper_answer(text));
  }
}

}  // namespace sluice::upstream
