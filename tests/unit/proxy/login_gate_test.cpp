// Logins by htpasswd, and patterns of repositories.
#include <fstream>

#include <catch2/catch.hpp>

#include "base/clock.hpp"
#include "proxy/login_gate.hpp"
#include "proxy/repository_rules.hpp"
#include "runtime/task_group.hpp"
#include "support/run_task.hpp"
#include "support/temp_directory.hpp"
#include "upstream/credentials.hpp"

using namespace sluice;
using namespace sluice::proxy;
using namespace std::chrono_literals;

namespace {

// bcrypt with a cost of 4.
constexpr const char* kAlice = "alice:$2y$04$abcdefghijklmnopqrstuuPoaPXzWjiVz4HaNq2LJXksWbO79E.S6\n";  // correct-horse
constexpr const char* kBob = "bob:$2b$04$abcdefghijklmnopqrstuugTWdwTf8XNmEQNdyCZrv8m00VeeC2Ga\n";      // battery

std::string basic(const std::string& user, const std::string& password) {
  return upstream::basic_authorization({user, password});
}

struct Setup {
  explicit Setup(LoginGate::Bounds bounds = {}) : gate(bounds, clock, group, registry) {}
  ~Setup() {
    group.cancel();
    run.loop().restart();
    run.loop().run();
    (void)group.wait_for(10s);
  }

  void write(const std::string& text) const { std::ofstream(file) << text; }
  // "in", or the name of the error.
  std::string ask(const std::string& authorization) {
    const Result<void> admitted = run(gate.admit(authorization));
    return admitted ? "in" : std::string(name(admitted.error().code));
  }
  double count(const std::string& result) const {
    for (const metrics::Family& family : registry.collect()) {
      for (const metrics::Sample& sample : family.samples) {
        if (family.name == "sluice_logins_total" && sample.labels[0].second == result) return sample.value;
      }
    }
    return -1;
  }

  test::TempDirectory folder;
  std::filesystem::path file = folder.path() / "htpasswd";
  ManualClock clock;
  metrics::Registry registry;
  test::RunTask run;
  runtime::TaskGroup group{"test"};
  LoginGate gate;
};

}  // namespace

TEST_CASE("Htpasswd: takes bcrypt, and names other lines by their number alone", "[proxy]") {
  std::vector<std::string> remarks;
  const std::string secret = "SECRETSECRET";
  const Htpasswd accounts =
      Htpasswd::parse(std::string("# people\n\n") + kAlice + "bob:$apr1$" + secret + "\nnothing" + secret + "\n:x\r\n" +
                          kBob + kAlice + "eve:$2y$31$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuuabcdefghi\n",
                      remarks);
  CHECK(accounts.size() == 2);
  CHECK(accounts.verify("alice", "correct-horse"));
  CHECK(accounts.verify("bob", "battery"));
  CHECK_FALSE(accounts.verify("alice", "battery"));
  CHECK_FALSE(accounts.verify("carol", "battery"));
  CHECK_FALSE(accounts.verify("", ""));
  REQUIRE(remarks.size() == 5);
  CHECK(remarks[0] == "line 4: not a bcrypt hash");
  CHECK(remarks[1].starts_with("line 5: "));
  CHECK(remarks[3] == "line 8: a user who has a line above");
  CHECK(remarks[4].starts_with("line 9: a cost of 31"));
  for (const std::string& remark : remarks) CHECK(remark.find(secret) == std::string::npos);
}

TEST_CASE("Htpasswd: a Basic Authorization", "[proxy]") {
  const auto login = parse_basic("bAsIc  YTpiOmM=");
  REQUIRE(login);
  CHECK(login->user == "a");
  CHECK(login->password == "b:c");
  for (const char* wrong :
       {"", "Basic", "Basic ", "Bearer YTpi", "Basic ***", "Basic YQ==", "Basic OmI=", "Basic YTpiAGM=", "BasicYTpi"}) {
    CHECK_FALSE(parse_basic(wrong));
  }
}

TEST_CASE("LoginGate: nobody needs a login without a file", "[proxy]") {
  Setup at;
  CHECK_FALSE(at.gate.required());
  CHECK(at.ask("") == "in");
  CHECK_FALSE(at.gate.set({at.folder.path() / "nothing"}).has_value());
  CHECK_FALSE(at.gate.required());
}

TEST_CASE("LoginGate: lets in who has the password, and remembers it for a while", "[proxy]") {
  Setup at;
  at.write(kAlice);
  REQUIRE(at.gate.set({at.file, "a realm", 60s}).has_value());
  CHECK(at.gate.required());
  const Result<void> refused = at.run(at.gate.admit(""));
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code == Errc::unauthorized);
  CHECK(refused.error().challenges == std::vector<std::string>{"Basic realm=\"a realm\""});
  CHECK(at.ask(basic("alice", "correct-horse")) == "in");
  CHECK(at.ask(basic("alice", "correct-horse")) == "in");
  CHECK(at.ask(basic("alice", "wrong")) == "unauthorized");
  CHECK(at.ask(basic("bob", "battery")) == "unauthorized");
  CHECK(at.ask("Bearer x") == "unauthorized");
  CHECK(at.count("missing") == 1);
  CHECK(at.count("accepted") == 1);
  CHECK(at.count("remembered") == 1);
  CHECK(at.count("refused") == 3);
  at.clock.advance(61s);
  CHECK(at.ask(basic("alice", "correct-horse")) == "in");
  CHECK(at.count("accepted") == 2);
}

TEST_CASE("LoginGate: a file that changes counts at once, and one that goes leaves what was there", "[proxy]") {
  Setup at;
  at.write(kAlice);
  REQUIRE(at.gate.set({at.file, "sluice", 1h}).has_value());
  CHECK(at.ask(basic("alice", "correct-horse")) == "in");
  CHECK(at.ask(basic("bob", "battery")) == "unauthorized");
  at.write(std::string("# another\n") + kBob);
  at.gate.refresh();
  CHECK(at.ask(basic("alice", "correct-horse")) == "unauthorized");
  CHECK(at.ask(basic("bob", "battery")) == "in");
  std::filesystem::remove(at.file);
  at.gate.refresh();
  CHECK(at.ask(basic("bob", "battery")) == "in");
  CHECK(at.gate.set({}).has_value());
  CHECK(at.ask("") == "in");
}

TEST_CASE("LoginGate: no more logins wait to be checked than may", "[proxy]") {
  Setup at({.threads = 1, .max_waiting = 0});
  at.write(kAlice);
  REQUIRE(at.gate.set({at.file}).has_value());
  CHECK(at.ask(basic("alice", "correct-horse")) == "overloaded");
  CHECK(at.count("overloaded") == 1);
}

TEST_CASE("RepositoryRules: what is denied stands above what is allowed", "[proxy]") {
  RepositoryRules rules;
  CHECK(rules.permit_all());
  CHECK(rules.permits("docker.io/library/busybox"));
  rules.set({{"docker.io/library/*", "ghcr.io/**"}, {"**/secret", "ghcr.io/own/**"}});
  CHECK_FALSE(rules.permit_all());
  CHECK(rules.permits("docker.io/library/busybox"));
  CHECK_FALSE(rules.permits("docker.io/other/busybox"));
  CHECK(rules.permits("ghcr.io/a/b/c"));
  CHECK_FALSE(rules.permits("ghcr.io/own/b"));
  CHECK_FALSE(rules.permits("docker.io/library/secret"));
  rules.set({{}, {"quay.io/**"}});
  CHECK(rules.permits("docker.io/other/busybox"));
  CHECK_FALSE(rules.permits("quay.io/a"));
  rules.set({});
  CHECK(rules.permits("quay.io/a"));
}
