#include "upstream/credential_helper.hpp"

#include <filesystem>
#include <fstream>

#include <catch2/catch.hpp>

#include "support/catch_result.hpp"
#include "support/temp_directory.hpp"

namespace sluice::upstream {
namespace {

using namespace std::chrono_literals;

struct Fixture {
  test::TempDirectory directory;

  std::string script(const std::string& text) const {
    const std::filesystem::path path = directory.path() / "helper";
    std::ofstream(path) << "#!/bin/sh\n" << text << "\n";
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return path.string();
  }
};

}  // namespace

TEST_CASE("credential helper: which program", "[upstream]") {
  CHECK(helper_program("ecr-login") == "docker-credential-ecr-login");
  CHECK(helper_program("docker-credential-gcr") == "docker-credential-gcr");
  CHECK(helper_program("/opt/login") == "/opt/login");
  CHECK(helper_program("./login") == "./login");
}

TEST_CASE("credential helper: asked by docker's protocol", "[upstream]") {
  const Fixture fixture;
  const std::string program = fixture.script(R"(read -r server
    [ "$1" = get ] && [ $# = 1 ] && printf '{"ServerURL":"%s","Username":"for %s","Secret":"s3cret"}' "$server" "$server")");
  const auto answer = ask_credential_helper(program, "registry.example.com", 20s);
  REQUIRE(answer);
  CHECK(*answer == Credentials{"for registry.example.com", "s3cret"});
}

TEST_CASE("credential helper: what goes wrong, without what it printed", "[upstream]") {
  const Fixture fixture;
  const auto ask = [&](const std::string& text, std::chrono::milliseconds timeout = 20s) {
    const auto answer = ask_credential_helper(fixture.script(text), "registry.example.com", timeout);
    REQUIRE_FALSE(answer);
    CHECK(answer.error().message.find("s3cret") == std::string::npos);
    return answer.error().code;
  };
  CHECK(ask("echo credentials not found in native keychain; exit 1") == Errc::not_found);
  CHECK(ask("echo s3cret is locked; exit 1") == Errc::config_invalid);
  CHECK(ask("echo s3cret") == Errc::config_invalid);
  CHECK(ask("echo '{\"Username\":\"u\",\"Secret\":\"s3cret\"}'; exit 3") == Errc::config_invalid);
  CHECK(ask("exec cat /dev/zero") == Errc::config_invalid);
  CHECK(ask("exec sleep 1000", 50ms) == Errc::timeout);
  CHECK(ask("sleep 1000 & wait", 50ms) == Errc::timeout);
  CHECK(ask_credential_helper("/nonexistent/helper", "x", 1s).error().code == Errc::config_invalid);
  CHECK(ask_credential_helper("surely-no-such-helper", "x", 1s).error().code == Errc::config_invalid);
}

TEST_CASE("credential helper: no shell sees the server's name", "[upstream]") {
  const Fixture fixture;
  const std::string program = fixture.script(R"(read -r server; printf '{"Username":"u","Secret":"%s"}' "${#server}")");
  const auto answer = ask_credential_helper(program, "$(touch /tmp/x);`id`", 20s);
  REQUIRE(answer);
  CHECK(answer->password == "20");
}

}  // namespace sluice::upstream
