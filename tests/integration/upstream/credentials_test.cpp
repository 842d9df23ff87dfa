#include "bench.hpp"

#include <fstream>

#include "support/temp_directory.hpp"
#include "upstream/credential_source.hpp"

namespace sluice::upstream {
namespace {

using namespace std::chrono_literals;

void write(const std::filesystem::path& file, const std::string& text) { std::ofstream(file) << text; }

// An origin behind Basic, and a source whose answers the test sets and counts.
struct Fixture {
  Fixture() { name = bench.origin.add_blob("app", "content"); }

  void use(CredentialSource::LookUp look_up, std::optional<std::chrono::nanoseconds> lifetime) {
    bench.params.credential_source = std::make_shared<CredentialSource>(
        CredentialSource::Params{"test", std::move(look_up), lifetime, nullptr}, bench.clock);
  }
  // The password that `current` holds at that time.
  void use_counted(std::optional<std::chrono::nanoseconds> lifetime) {
    use(
        [state = this->state](const std::string&, bool) -> Result<Credentials> {
          const std::scoped_lock lock(state->mutex);
          ++state->asked;
          if (state->password.empty()) return Error(Errc::timeout, "the helper sleeps");
          return Credentials{"alice", state->password};
        },
        lifetime);
  }
  void set(const std::string& password) {
    const std::scoped_lock lock(state->mutex);
    state->password = password;
  }
  int asked() {
    const std::scoped_lock lock(state->mutex);
    return state->asked;
  }

  struct State {
    std::mutex mutex;
    std::string password = "wonderland";
    int asked = 0;
  };
  const std::shared_ptr<State> state = std::make_shared<State>();
  test::TempDirectory directory;
  Bench bench;
  std::string name;
};

}  // namespace

TEST_CASE("Credential source: looked up once, each time, or after its lifetime", "[upstream]") {
  Fixture f;
  f.bench.origin.require_basic("alice", "wonderland");
  SECTION("without a lifetime once") {
    f.use_counted(std::nullopt);
    for (int i = 0; i < 3; ++i) {
      CHECK(f.bench.stat(f.name));
      f.bench.clock.advance(24h);
    }
    CHECK(f.asked() == 1);
  }
  SECTION("with none each time") {
    f.use_counted(0s);
    CHECK(f.bench.stat(f.name));
    CHECK(f.asked() == 1);
    CHECK(f.bench.stat(f.name));
    CHECK(f.bench.stat(f.name));
    CHECK(f.asked() == 3);
  }
  SECTION("after its lifetime") {
    f.use_counted(1h);
    CHECK(f.bench.stat(f.name));
    f.bench.clock.advance(59min);
    CHECK(f.bench.stat(f.name));
    CHECK(f.asked() == 1);
    f.bench.clock.advance(2min);
    CHECK(f.bench.stat(f.name));
    CHECK(f.asked() == 2);
  }
  SECTION("after an error there are none, until it is asked again") {
    f.use_counted(std::nullopt);
    f.set("");
    CHECK(f.bench.stat(f.name).error().code == Errc::unauthorized);
    f.set("wonderland");
    f.bench.clock.advance(29s);
    CHECK(f.bench.stat(f.name).error().code == Errc::unauthorized);
    CHECK(f.asked() == 1);
    f.bench.clock.advance(1s);
    CHECK(f.bench.stat(f.name));
    CHECK(f.asked() == 2);
  }
}

TEST_CASE("Credential source: refused credentials are looked up once more", "[upstream]") {
  Fixture f;
  f.use_counted(std::nullopt);
  const bool token = GENERATE(false, true);
  INFO(token);
  if (token) {
    f.bench.origin.require_token(f.bench.origin.url("/token"));
    f.bench.origin.set_token_credentials("alice", "wonderland");
  } else {
    f.bench.origin.require_basic("alice", "wonderland");
  }
  CHECK(f.bench.stat(f.name));
  CHECK(f.asked() == 1);
  // Changed at both ends.
  if (token) {
    f.bench.origin.set_token_credentials("alice", "new");
    f.bench.origin.revoke_tokens();
  } else {
    f.bench.origin.require_basic("alice", "new");
  }
  f.set("new");
  f.bench.clock.advance(2s);
  CHECK(f.bench.stat(f.name));
  CHECK(f.asked() == 2);
  // And wrong ones are not looked up again and again.
  if (token) {
    f.bench.origin.set_token_credentials("alice", "other");
    f.bench.origin.revoke_tokens();
  } else {
    f.bench.origin.require_basic("alice", "other");
  }
  f.bench.clock.advance(2s);
  for (int i = 0; i < 3; ++i) CHECK(f.bench.stat(f.name).error().code == Errc::unauthorized);
  CHECK(f.asked() == 3);
}

TEST_CASE("Credential source: a password file is read again", "[upstream]") {
  Fixture f;
  const auto file = f.directory.path() / "password";
  write(file, "wonderland\nand a second line\n");
  f.use(from_password_file("alice", file), 10s);
  f.bench.origin.require_basic("alice", "wonderland");
  CHECK(f.bench.stat(f.name));
  write(file, "new");
  f.bench.origin.require_basic("alice", "new");
  f.bench.clock.advance(2s);
  CHECK(f.bench.stat(f.name));
  // Gone for a moment: what it said last stands in, and it is looked at again soon.
  std::filesystem::remove(file);
  f.bench.clock.advance(11s);
  CHECK(f.bench.stat(f.name));
  write(file, "newer");
  f.bench.clock.advance(2s);
  f.bench.origin.require_basic("alice", "newer");
  CHECK(f.bench.stat(f.name));
  CHECK(f.bench.metric("sluice_upstream_requests_total", "401") == 2);
  // What was refused does not stand in.
  std::filesystem::remove(file);
  f.bench.origin.require_basic("alice", "newest");
  f.bench.clock.advance(11s);
  CHECK(f.bench.stat(f.name).error().code == Errc::unauthorized);
  CHECK(f.bench.stat(f.name).error().code == Errc::unauthorized);
}

TEST_CASE("Credential source: docker's config.json, with an identity token and a helper", "[upstream]") {
  Fixture f;
  const auto file = f.directory.path() / "config.json";
  const std::string host = f.bench.origin.authority();
  f.use(from_docker_config(file, 20s, 10min), 10s);
  SECTION("a password") {
    write(file, R"({"auths":{")" + host + R"(":{"auth":"YWxpY2U6d29uZGVybGFuZA=="}}})");
    f.bench.origin.require_basic("alice", "wonderland");
    CHECK(f.bench.stat(f.name));
  }
  SECTION("somebody else's") {
    write(file, R"({"auths":{"other.example.com":{"auth":"YWxpY2U6d29uZGVybGFuZA=="}}})");
    f.bench.origin.require_basic("alice", "wonderland");
    CHECK(f.bench.stat(f.name).error().code == Errc::unauthorized);
  }
  SECTION("a helper") {
    const auto helper = f.directory.path() / "helper";
    write(helper, "#!/bin/sh\necho x >>" + (f.directory.path() / "runs").string() + "\nread -r s; [ \"$s\" = " + host +
                      " ] && echo '{\"Username\":\"alice\",\"Secret\":\"wonderland\"}'\n");
    std::filesystem::permissions(helper, std::filesystem::perms::owner_all);
    write(file, R"({"credHelpers":{")" + host + R"(":")" + helper.string() + R"("}})");
    f.bench.origin.require_basic("alice", "wonderland");
    CHECK(f.bench.stat(f.name));
    f.bench.clock.advance(11s);
    CHECK(f.bench.stat(f.name));
    CHECK(std::filesystem::file_size(f.directory.path() / "runs") == 2);
  }
  SECTION("an identity token") {
    write(file, R"({"auths":{")" + host + R"(":{"auth":"MDAwOg==","identitytoken":"refresh me"}}})");
    f.bench.origin.respond("/token", [](const Request& request) {
      Reply reply;
      if (request.method != "POST") reply.status = 405;
      reply.body = R"({"access_token":"token-1","expires_in":300})";
      return reply;
    });
    f.bench.origin.respond(Bench::blob(f.name), [](const Request& request) {
      if (request.field("Authorization") == "Bearer token-1") {
        Reply reply;
        reply.body = "content";
        return reply;
      }
      Reply reply;
      reply.status = 401;
      reply.fields = {{"WWW-Authenticate", "Bearer realm=\"/token\",service=\"the service\""}};
      return reply;
    });
    CHECK(f.bench.stat(f.name));
    const auto requests = f.bench.origin.requests();
    REQUIRE(requests.size() == 3);
    CHECK(requests[1].method == "POST");
    CHECK(requests[1].target == "/token");
    CHECK(requests[1].field("Authorization").empty());
    CHECK(requests[1].field("Content-Type") == "application/x-www-form-urlencoded");
    CHECK(requests[1].body ==
          "grant_type=refresh_token&service=the%20service&client_id=sluice&scope=repository%3Aapp%3Apull&refresh_token="
          "refresh%20me");
  }
}

TEST_CASE("Credential rules: other credentials for some repositories", "[upstream]") {
  Fixture f;
  f.bench.params.credentials = {"everybody", "default"};
  const auto source = [&](const std::string& user) {
    return std::make_shared<CredentialSource>(
        CredentialSource::Params{"test", configured({user, "password"}), std::nullopt, nullptr}, f.bench.clock);
  };
  f.bench.params.credential_rules = {{{"team-a/*"}, source("a")}, {{"public/**", "open"}, nullptr}};
  f.bench.origin.require_token(f.bench.origin.url("/token"));
  const auto ask = [&](const std::string& text) {
    const std::string blob = f.bench.origin.add_blob(text, "content of " + text);
    CHECK(f.bench.loops.run(f.bench.registry().stat_blob(repository(text), digest(blob))));
    const auto requests = f.bench.origin.requests();
    return requests.at(requests.size() - 2).field("Authorization");
  };
  CHECK(ask("team-a/app") == basic_authorization({"a", "password"}));
  CHECK(ask("team-a/app/sub") == basic_authorization({"everybody", "default"}));
  CHECK(ask("public/some/app").empty());
  CHECK(ask("open").empty());
  CHECK(ask("app") == basic_authorization({"everybody", "default"}));
}

TEST_CASE("Credentials: an upstream that repeats them tells nobody", "[upstream]") {
  Fixture f;
  f.bench.params.credentials = {"alice", "wonderland"};
  const auto echo = [](const Request& request) {
    Reply reply;
    reply.status = request.field("Authorization").empty() ? 401 : 403;
    reply.fields = {{"WWW-Authenticate", "Basic realm=x"}};
    reply.body =
        R"({"errors":[{"code":"DENIED","message":"alice:wonderland, )" + request.field("Authorization") + "\"}]}";
    return reply;
  };
  f.bench.origin.respond(Bench::blob(f.name), echo);
  const Download refused = f.bench.get(f.name);
  REQUIRE(refused.opening);
  CHECK(refused.opening->code == Errc::denied);
  CHECK(refused.opening->message.find("DENIED") != std::string::npos);
  CHECK(refused.opening->message.find("wonderland") == std::string::npos);
  CHECK(refused.opening->message.find("YWxpY2U6") == std::string::npos);

  f.bench.origin.require_token(f.bench.origin.url("/token"));
  f.bench.origin.respond("/token", echo);
  const auto other = f.bench.origin.add_blob("app", "other");
  const Download no_token = f.bench.get(other);
  REQUIRE(no_token.opening);
  CHECK(no_token.opening->message.find("DENIED") != std::string::npos);
  CHECK(no_token.opening->message.find("wonderland") == std::string::npos);
}

TEST_CASE("Challenge: a scheme that nobody knows here", "[upstream]") {
  Fixture f;
  Reply reply;
  reply.status = 401;
  reply.fields = {{"WWW-Authenticate", "Negotiate"}, {"WWW-Authenticate", "NTLM"}};
  f.bench.origin.respond(Bench::blob(f.name), [reply](const Request&) { return reply; });
  const Download refused = f.bench.get(f.name);
  REQUIRE(refused.opening);
  CHECK(refused.opening->code == Errc::unauthorized);
  CHECK(refused.opening->message.find("negotiate, ntlm") != std::string::npos);
}

}  // namespace sluice::upstream
