// Logins by htpasswd, and patterns of repositories.
#include <array>
#include <condition_variable>
#include <fstream>
#include <mutex>

#include <catch2/catch.hpp>

#include "access/login_gate.hpp"
#include "access/repository_rules.hpp"
#include "base/clock.hpp"
#include "runtime/task_group.hpp"
#include "support/run_task.hpp"
#include "support/temp_directory.hpp"
#include "upstream/credentials.hpp"

using namespace sluice;
using namespace sluice::access;
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
  std::string ask(const std::string& authorization, const IpAddress& client = IpAddress()) {
    const Result<void> admitted = run(gate.admit(authorization, client));
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

TEST_CASE("Htpasswd: takes bcrypt, and names other lines by their number alone", "[access]") {
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

TEST_CASE("Htpasswd: a Basic Authorization", "[access]") {
  const auto login = parse_basic("bAsIc  YTpiOmM=");
  REQUIRE(login);
  CHECK(login->user == "a");
  CHECK(login->password == "b:c");
  for (const char* wrong :
       {"", "Basic", "Basic ", "Bearer YTpi", "Basic ***", "Basic YQ==", "Basic OmI=", "Basic YTpiAGM=", "BasicYTpi"}) {
    CHECK_FALSE(parse_basic(wrong));
  }
}

TEST_CASE("LoginGate: nobody needs a login without a file", "[access]") {
  Setup at;
  CHECK_FALSE(at.gate.required());
  CHECK(at.ask("") == "in");
  CHECK_FALSE(at.gate.set({at.folder.path() / "nothing"}).has_value());
  CHECK_FALSE(at.gate.required());
}

TEST_CASE("LoginGate: lets in who has the password, and remembers it for a while", "[access]") {
  Setup at;
  at.write(kAlice);
  REQUIRE(at.gate.set({at.file, "a realm", 60s}).has_value());
  CHECK(at.gate.required());
  const Result<void> refused = at.run(at.gate.admit("", IpAddress()));
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

TEST_CASE("LoginGate: a file that changes counts at once, and one that goes leaves what was there", "[access]") {
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

TEST_CASE("LoginGate: a reload does not bring back logins that have changed meanwhile", "[access][doors]") {
  Setup at;
  at.write(kAlice);
  REQUIRE(at.gate.set({at.file, "sluice", 1h}).has_value());
  at.write(std::string("# the same\n") + kAlice);
  Result<LoginGate::Prepared> prepared = at.gate.prepare({at.file, "another realm", 1h});
  REQUIRE(prepared.has_value());
  at.write(std::string("# she has left\n\n") + kBob);
  at.gate.refresh();
  REQUIRE(at.ask(basic("alice", "correct-horse")) == "unauthorized");
  at.gate.apply(std::move(*prepared));
  CHECK(at.ask(basic("alice", "correct-horse")) == "unauthorized");
  CHECK(at.ask(basic("bob", "battery")) == "in");
  // What was read last counts, also when it is the older one that is there again.
  at.write(std::string("# and is back\n") + kAlice);
  prepared = at.gate.prepare({at.file, "another realm", 1h});
  REQUIRE(prepared.has_value());
  at.gate.apply(std::move(*prepared));
  CHECK(at.ask(basic("alice", "correct-horse")) == "in");
}

TEST_CASE("LoginGate: no more logins wait to be checked than may", "[access]") {
  Setup at({.pool = {.threads = 1, .max_waiting = 0}});
  at.write(kAlice);
  REQUIRE(at.gate.set({at.file}).has_value());
  CHECK(at.ask(basic("alice", "correct-horse")) == "overloaded");
  CHECK(at.count("overloaded") == 1);
}

TEST_CASE("LoginGate: wrong passwords without end drive out no right one", "[access]") {
  Setup at({.pool = {}, .max_remembered = 4, .max_refusals = 4});
  at.write(kAlice);
  REQUIRE(at.gate.set({at.file, "sluice", 1h}).has_value());
  CHECK(at.ask(basic("alice", "correct-horse")) == "in");
  for (int i = 0; i < 20; ++i) CHECK(at.ask(basic("alice", "wrong" + std::to_string(i))) == "unauthorized");
  CHECK(at.ask(basic("alice", "correct-horse")) == "in");
  CHECK(at.count("accepted") == 1);
  CHECK(at.count("remembered") == 1);
}

TEST_CASE("Htpasswd: every refusal computes as many rounds as the costliest hash", "[access]") {
  std::vector<std::string> remarks;
  // carol's cost is 8; nobody needs her password.
  const Htpasswd accounts = Htpasswd::parse(
      std::string(kAlice) + "carol:$2y$08$abcdefghijklmnopqrstuuPoaPXzWjiVz4HaNq2LJXksWbO79E.S6\n", remarks);
  REQUIRE(remarks.empty());
  for (const char* user : {"alice", "carol", "nobody"}) {
    std::uint64_t rounds = 0;
    CHECK_FALSE(accounts.verify(user, "wrong", &rounds));
    CHECK(rounds == 256);
  }
  std::uint64_t rounds = 0;
  CHECK(accounts.verify("alice", "correct-horse", &rounds));
  CHECK(rounds == 16);
}

namespace {

// Work that waits for the test, which sees in which order it begins.
struct Rounds {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<int> begun;
  bool held = true;

  std::function<bool()> work(int number) {
    return [this, number] {
      std::unique_lock lock(mutex);
      begun.push_back(number);
      changed.notify_all();
      changed.wait(lock, [this] { return !held; });
      return true;
    };
  }
};

runtime::Task<void> run_into(FairPool& pool, IpAddress client, std::function<bool()> work,
                             std::optional<std::optional<bool>>* out) {
  *out = co_await pool.run(client, std::move(work));
}

}  // namespace

TEST_CASE("FairPool: who asks for much waits for himself", "[access]") {
  const IpAddress flood = *IpAddress::parse("192.0.2.1");
  const IpAddress other = *IpAddress::parse("192.0.2.2");
  Rounds rounds;
  test::RunTask run;
  runtime::TaskGroup group{"test"};
  FairPool pool({.threads = 1, .max_waiting = 100, .max_waiting_per_client = 3});
  std::array<std::optional<std::optional<bool>>, 6> outcomes;
  const auto ask = [&](int number, const IpAddress& client) {
    group.spawn(run.loop().get_executor(),
                run_into(pool, client, rounds.work(number), &outcomes.at(static_cast<std::size_t>(number))));
    run.loop().restart();
    run.loop().poll();
  };
  ask(0, flood);
  {
    std::unique_lock lock(rounds.mutex);
    REQUIRE(rounds.changed.wait_for(lock, 20s, [&] { return rounds.begun.size() == 1; }));
  }
  ask(1, flood);
  ask(2, flood);
  ask(3, flood);  // one too many of this client
  ask(4, other);
  ask(5, other);
  run.loop().restart();
  run.loop().poll();
  REQUIRE(outcomes[3]);
  CHECK_FALSE(*outcomes[3]);
  {
    const std::scoped_lock lock(rounds.mutex);
    rounds.held = false;
    rounds.changed.notify_all();
  }
  run.loop().restart();
  run.loop().run();
  // In turns: the other client's first one comes before the second that the flood had waiting.
  CHECK(rounds.begun == std::vector<int>{0, 1, 4, 2, 5});
  for (const int number : {0, 1, 2, 4, 5}) {
    CHECK(outcomes.at(static_cast<std::size_t>(number)) == std::optional<std::optional<bool>>(true));
  }
  (void)group.wait_for(10s);
  pool.stop();
}

TEST_CASE("RepositoryRules: what is denied stands above what is allowed", "[access]") {
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
