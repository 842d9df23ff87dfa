#include "access/login_gate.hpp"

#include <crypt.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <utility>

#include <fmt/format.h>
#include <openssl/crypto.h>

#include "base/log.hpp"
#include "runtime/file_stamp.hpp"
#include "upstream/credentials.hpp"

namespace sluice::access {
namespace {

// The same for a wrong password, an unknown user and what is no Basic login.
constexpr const char* kWrongLogin = "this cache does not know that user name and password (auth.htpasswd_file)";

// $2y$10$, 22 characters of salt and 31 of hash.
constexpr std::size_t kHashBytes = 60;
constexpr std::size_t kCostAt = 4;
constexpr unsigned kLeastCost = 4;
constexpr unsigned kMostCost = 16;  // four seconds and more
constexpr std::size_t kMaxFileBytes = std::size_t{4} << 20;
constexpr std::size_t kMaxRemarks = 20;
// Nobody's password has this hash: it is that of random bytes.
constexpr std::string_view kNobodysSaltAndHash = "8Ck6Y1pXw3mVdTqZbN0eLuGfRhSjAoIiE5r7vQ2xKzWcMtByPn4Da";

// The cost of a bcrypt hash; 0 for anything else.
unsigned cost_of(std::string_view hash) {
  if (hash.size() != kHashBytes || !hash.starts_with("$2") || hash[3] != '$' || hash[6] != '$') return 0;
  if (hash[2] != 'y' && hash[2] != 'a' && hash[2] != 'b') return 0;
  unsigned cost = 0;
  const auto [end, ec] = std::from_chars(&hash[kCostAt], &hash[kCostAt] + 2, cost);
  if (ec != std::errc{} || end != &hash[kCostAt] + 2) return 0;
  const std::string_view rest = hash.substr(7);
  const bool plain = std::all_of(rest.begin(), rest.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '/';
  });
  return plain ? cost : 0;
}

bool matches(const std::string& password, const std::string& hash) {
  // 32 KiB, too much for a stack that others share.
  const auto data = std::make_unique<crypt_data>();
  const char* const made = ::crypt_r(password.c_str(), hash.c_str(), data.get());
  const bool same = made != nullptr && std::string_view(made).size() == hash.size() &&
                    CRYPTO_memcmp(made, hash.data(), hash.size()) == 0;
  OPENSSL_cleanse(data.get(), sizeof *data);
  return same;
}

metrics::Counter& counter(metrics::Registry& registry, const char* result) {
  return registry.counter("sluice_logins_total",
                          "Requests where clients need a login: accepted, remembered (it was checked a moment ago), "
                          "refused, missing, overloaded (too many wait to be checked)",
                          {{"result", result}});
}

}  // namespace

Htpasswd Htpasswd::parse(std::string_view text, std::vector<std::string>& remarks) {
  Htpasswd out;
  unsigned most = kLeastCost;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t')) line.remove_suffix(1);
    if (line.empty() || line.front() == '#') continue;
    const std::size_t colon = line.find(':');
    const std::string_view hash = colon == std::string_view::npos ? std::string_view{} : line.substr(colon + 1);
    const unsigned cost = cost_of(hash);
    const auto remark = [&](std::string_view what) { remarks.push_back(fmt::format("line {}: {}", number, what)); };
    if (colon == std::string_view::npos || colon == 0) {
      remark("not user:hash");
    } else if (cost == 0) {
      remark("not a bcrypt hash");
    } else if (cost < kLeastCost || cost > kMostCost) {
      remark(fmt::format("a cost of {}, expected {} to {}", cost, kLeastCost, kMostCost));
    } else if (!out.hashes_.try_emplace(std::string(line.substr(0, colon)), hash).second) {
      remark("a user who has a line above");
    } else {
      most = std::max(most, cost);
    }
  }
  out.most_cost_ = most;
  return out;
}

bool Htpasswd::verify(const std::string& user, const std::string& password, std::uint64_t* rounds) const {
  std::uint64_t computed = 0;
  const auto compute = [&](const std::string& hash, unsigned cost) {
    computed += std::uint64_t{1} << cost;
    return matches(password, hash);
  };
  const auto stand_in = [](unsigned cost) { return fmt::format("$2y${:02}${}", cost, kNobodysSaltAndHash); };
  bool same = false;
  if (const auto at = hashes_.find(user); at == hashes_.end()) {
    (void)compute(stand_in(most_cost_), most_cost_);
  } else {
    const unsigned cost = cost_of(at->second);
    same = compute(at->second, cost);
    // A hash of this cost, and stand-ins of this one and each above it but the most, are as many rounds as the most.
    for (unsigned more = cost; !same && more < most_cost_; ++more) (void)compute(stand_in(more), more);
  }
  if (rounds != nullptr) *rounds = computed;
  return same;
}

std::optional<Login> parse_basic(std::string_view authorization) {
  constexpr std::string_view kScheme = "basic";
  if (authorization.size() <= kScheme.size() || authorization[kScheme.size()] != ' ') return std::nullopt;
  for (std::size_t i = 0; i < kScheme.size(); ++i) {
    if ((authorization[i] | 0x20) != kScheme[i]) return std::nullopt;
  }
  authorization.remove_prefix(std::min(authorization.find_first_not_of(' ', kScheme.size()), authorization.size()));
  const Result<std::string> text = upstream::decode_base64(authorization);
  if (!text) return std::nullopt;
  const std::size_t colon = text->find(':');
  // A NUL would end the password early.
  if (colon == std::string::npos || colon == 0 || text->find('\0') != std::string::npos) return std::nullopt;
  return Login{text->substr(0, colon), text->substr(colon + 1)};
}

LoginGate::Counters::Counters(metrics::Registry& registry)
    : accepted(counter(registry, "accepted")),
      remembered(counter(registry, "remembered")),
      refused(counter(registry, "refused")),
      missing(counter(registry, "missing")),
      overloaded(counter(registry, "overloaded")) {}

LoginGate::LoginGate(Bounds bounds, const Clock& clock, runtime::TaskGroup& group, metrics::Registry& registry)
    : bounds_(bounds),
      clock_(clock),
      counters_(registry),
      pool_(bounds.pool),
      state_(std::make_shared<const State>()),
      accepted_(bounds.max_remembered),
      refused_(bounds.max_refusals),
      flights_(group) {}

LoginGate::~LoginGate() { pool_.stop(); }

std::shared_ptr<const LoginGate::State> LoginGate::state() const {
  const std::scoped_lock lock(mutex_);
  return state_;
}

Result<std::shared_ptr<const LoginGate::State>> LoginGate::read(Params params) {
  auto out = std::make_shared<State>();
  out->params = std::move(params);
  out->order = ++reads_;
  out->generation = std::to_string(out->order);
  const std::filesystem::path& file = out->params.file;
  if (file.empty()) return std::shared_ptr<const State>(std::move(out));
  // Before it is read: a change in between is found the next time.
  out->stamp = runtime::file_stamp(file);
  // The same file again, as with every signal to open the logs anew: whoever was let in needs no second look.
  if (const std::shared_ptr<const State> current = state();
      current->params.file == file && current->stamp == out->stamp) {
    out->accounts = current->accounts;
    out->generation = current->generation;
    out->order = current->order;
    return std::shared_ptr<const State>(std::move(out));
  }
  std::ifstream in(file, std::ios::binary);
  std::string text(kMaxFileBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.gcount() == 0 && !in.eof()) {
    return Error(Errc::config_invalid, fmt::format("auth.htpasswd_file: cannot read {}", file.native()));
  }
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kMaxFileBytes) {
    return Error(Errc::config_invalid, fmt::format("auth.htpasswd_file: {} is too large", file.native()));
  }
  std::vector<std::string> remarks;
  out->accounts = Htpasswd::parse(text, remarks);
  for (std::size_t i = 0; i < std::min(remarks.size(), kMaxRemarks); ++i) {
    log::warn("auth", fmt::format("{}: {}; the line is ignored", file.native(), remarks[i]));
  }
  if (remarks.size() > kMaxRemarks) {
    log::warn("auth", fmt::format("{}: {} more such lines", file.native(), remarks.size() - kMaxRemarks));
  }
  if (out->accounts.size() == 0)
    log::warn("auth", fmt::format("{}: no valid line, so nobody can log in", file.native()));
  return std::shared_ptr<const State>(std::move(out));
}

void LoginGate::put(std::shared_ptr<const State> state) {
  const bool required = !state->params.file.empty();
  // Nobody gets in between: first the accounts, then that they are needed, and the other way round.
  if (!required) required_.store(false, std::memory_order_release);
  {
    const std::scoped_lock lock(mutex_);
    state_ = std::move(state);
  }
  if (required) required_.store(true, std::memory_order_release);
}

Result<LoginGate::Prepared> LoginGate::prepare(Params params) {
  Result<std::shared_ptr<const State>> made = read(std::move(params));
  if (!made) return made.error();
  return Prepared(std::move(*made));
}

void LoginGate::apply(Prepared prepared) {
  const std::shared_ptr<const State> current = state();
  if (current->params.file != prepared.state_->params.file || current->order <= prepared.state_->order) {
    put(std::move(prepared.state_));
    return;
  }
  auto newer = std::make_shared<State>(*current);
  newer->params = prepared.state_->params;
  put(std::move(newer));
}

Result<void> LoginGate::set(Params params) {
  Result<Prepared> prepared = prepare(std::move(params));
  if (!prepared) return prepared.error();
  apply(std::move(*prepared));
  return {};
}

void LoginGate::refresh() {
  const std::shared_ptr<const State> current = state();
  if (current->params.file.empty()) return;
  const std::string stamp = runtime::file_stamp(current->params.file);
  if (stamp == current->stamp || stamp == complained_about_) return;
  Result<std::shared_ptr<const State>> made = read(current->params);
  if (!made) {
    complained_about_ = stamp;
    log::error("auth", made.error().message + "; the old logins stay in force");
    return;
  }
  complained_about_.clear();
  log::info("auth", fmt::format("{} has changed: {} logins", current->params.file.native(), (*made)->accounts.size()));
  put(std::move(*made));
}

std::optional<bool> LoginGate::recall(const std::string& key) {
  const std::scoped_lock lock(mutex_);
  for (const bool accepted : {true, false}) {
    Remembered& remembered = accepted ? accepted_ : refused_;
    const Clock::Monotonic* const until = remembered.find(key);
    if (until == nullptr) continue;
    if (clock_.now() < *until) return accepted;
    remembered.erase(key);
  }
  return std::nullopt;
}

void LoginGate::remember(const std::string& key, bool accepted, std::chrono::milliseconds ttl) {
  if (ttl.count() <= 0) return;
  const std::scoped_lock lock(mutex_);
  (accepted ? accepted_ : refused_).insert(key, clock_.now() + ttl);
}

Error LoginGate::refusal(const State& state, std::string why) {
  Error out(Errc::unauthorized, std::move(why));
  out.challenges.push_back(fmt::format("Basic realm=\"{}\"", state.params.realm));
  return out;
}

runtime::Task<Result<bool>> LoginGate::check(std::shared_ptr<const State> state, std::string authorization,
                                             std::string key, IpAddress client) {
  const std::optional<Login> login = parse_basic(authorization);
  if (!login) co_return false;
  std::function<bool()> work = [state, login] { return state->accounts.verify(login->user, login->password); };
  const std::optional<bool> right = co_await pool_.run(client, std::move(work));
  if (!right) co_return Error(Errc::overloaded, "too many logins wait to be checked");
  remember(key, *right, *right ? state->params.remember : std::min(state->params.remember, bounds_.remember_refusal));
  co_return *right;
}

runtime::Task<Result<void>> LoginGate::admit(std::string authorization, IpAddress client) {
  const std::shared_ptr<const State> now = state();
  if (now->params.file.empty()) co_return Result<void>{};
  if (authorization.empty()) {
    counters_.missing.add();
    co_return refusal(*now, "this cache requires a login (auth.htpasswd_file); the request has none");
  }
  const std::string key = hash_.of({now->generation, authorization});
  if (const std::optional<bool> known = recall(key)) {
    (*known ? counters_.remembered : counters_.refused).add();
    if (!*known) co_return refusal(*now, kWrongLogin);
    co_return Result<void>{};
  }
  runtime::SingleFlight<std::string, bool>::Work work = [this, now, authorization, key, client] {
    return check(now, authorization, key, client.client_key());
  };
  const auto outcome = co_await flights_.run(key, std::move(work));
  if (!outcome.result) {
    if (outcome.result.error().code == Errc::overloaded) counters_.overloaded.add();
    co_return outcome.result.error();
  }
  (*outcome.result ? counters_.accepted : counters_.refused).add();
  if (!*outcome.result) co_return refusal(*now, kWrongLogin);
  co_return Result<void>{};
}

}  // namespace sluice::access
