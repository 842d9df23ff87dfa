#include "fake_registry.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "oci/media_type.hpp"
#include "upstream/urgency.hpp"

namespace sluice::test {
namespace {

constexpr std::uint64_t kEverything = UINT64_MAX;

}  // namespace

class FakeRegistry::Body final : public upstream::BlobBody {
 public:
  Body(FakeRegistry& registry, std::shared_ptr<const std::string> content, std::shared_ptr<Cursor> gate, Plan plan,
       std::uint64_t offset, std::uint64_t end)
      : registry_(registry),
        content_(std::move(content)),
        gate_(std::move(gate)),
        plan_(std::move(plan)),
        offset_(offset),
        end_(end),
        at_(offset) {}
  ~Body() override { registry_.note_closed(); }
  Body(const Body&) = delete;
  Body& operator=(const Body&) = delete;

  [[nodiscard]] std::optional<std::uint64_t> size() const override {
    if (plan_.hide_size) return std::nullopt;
    return plan_.announced.value_or(content_->size());
  }
  [[nodiscard]] std::uint64_t offset() const override { return offset_; }
  [[nodiscard]] bool is_redirected() const override { return plan_.redirected; }
  [[nodiscard]] bool is_guess() const override { return plan_.guessed; }
  [[nodiscard]] std::string_view media_type() const override { return plan_.media_type; }

  runtime::Task<Result<std::size_t>> read(std::span<std::byte> into) override {
    const std::uint64_t end = std::min({std::uint64_t{content_->size()}, end_, plan_.break_at.value_or(kEverything)});
    if (at_ >= end) {
      if (plan_.break_at && at_ >= *plan_.break_at) co_return plan_.broken;
      co_return std::size_t{0};
    }
    std::uint64_t allowed = end;
    if (gate_) {
      const Result<std::uint64_t> passed = co_await gate_->wait_past(at_);
      if (!passed) co_return passed.error();
      allowed = std::min(*passed, end);
    }
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), allowed - at_));
    std::memcpy(into.data(), content_->data() + at_, count);
    at_ += count;
    registry_.note([&](Seen& seen) { seen.bytes += count; });
    co_return count;
  }

 private:
  FakeRegistry& registry_;
  const std::shared_ptr<const std::string> content_;
  const std::shared_ptr<Cursor> gate_;
  const Plan plan_;
  const std::uint64_t offset_;
  const std::uint64_t end_;
  std::uint64_t at_;
};

template <class Change>
void FakeRegistry::note(Change change) {
  const std::scoped_lock lock(mutex_);
  change(seen_);
  changed_.notify_all();
}

void FakeRegistry::note_closed() {
  note([](Seen& seen) { --seen.open; });
}

oci::Digest FakeRegistry::add_blob(const std::string& repository, std::string content, oci::Algorithm algorithm) {
  const oci::Digest digest = oci::digest_of(algorithm, content);
  add_wrong_blob(repository, digest, std::move(content));
  return digest;
}

void FakeRegistry::add_wrong_blob(const std::string& repository, const oci::Digest& digest, std::string content) {
  const std::scoped_lock lock(mutex_);
  contents_[digest] = std::make_shared<const std::string>(std::move(content));
  blobs_.emplace(repository, digest);
}

oci::Digest FakeRegistry::add_manifest(const std::string& repository, const std::string& tag, std::string content,
                                       std::string media_type, oci::Algorithm algorithm) {
  const oci::Digest digest = oci::digest_of(algorithm, content);
  const std::scoped_lock lock(mutex_);
  const Manifest made{std::move(content), std::move(media_type), digest};
  manifests_[{repository, digest.to_string()}] = made;
  if (!tag.empty()) manifests_[{repository, tag}] = made;
  return digest;
}

void FakeRegistry::set_narrow(const std::string& repository, const std::string& tag, std::string content,
                              std::string media_type) {
  const oci::Digest digest = oci::digest_of(oci::Algorithm::sha256, content);
  const std::scoped_lock lock(mutex_);
  const Manifest made{std::move(content), std::move(media_type), digest};
  manifests_[{repository, digest.to_string()}] = made;
  narrow_[{repository, tag}] = made;
}

void FakeRegistry::remove_manifest(const std::string& repository, const std::string& reference) {
  const std::scoped_lock lock(mutex_);
  manifests_.erase({repository, reference});
}

void FakeRegistry::refuse(const std::string& repository, std::optional<Error> error) {
  const std::scoped_lock lock(mutex_);
  refusals_.erase(repository);
  if (error) refusals_.emplace(repository, *error);
}

void FakeRegistry::fail_all(std::optional<Error> error) {
  const std::scoped_lock lock(mutex_);
  failure_ = std::move(error);
}

void FakeRegistry::hide_digests(bool hide) {
  const std::scoped_lock lock(mutex_);
  hide_digests_ = hide;
}

void FakeRegistry::claim(const oci::Digest& digest, const oci::Digest& canonical) {
  const std::scoped_lock lock(mutex_);
  claims_.insert_or_assign(digest, canonical);
}

void FakeRegistry::spoil(const oci::Digest& digest, bool spoilt) {
  const std::scoped_lock lock(mutex_);
  if (spoilt) {
    spoilt_.insert(digest);
  } else {
    spoilt_.erase(digest);
  }
}

void FakeRegistry::plan(const oci::Digest& digest, Plan plan) {
  const std::scoped_lock lock(mutex_);
  plans_[digest].push_back(std::move(plan));
}

void FakeRegistry::plan_range(const oci::Digest& digest, Plan plan) {
  const std::scoped_lock lock(mutex_);
  range_plans_[digest].push_back(std::move(plan));
}

void FakeRegistry::hold(const oci::Digest& digest, std::uint64_t bytes) {
  const std::scoped_lock lock(mutex_);
  std::shared_ptr<Cursor>& held = gates_[digest];
  if (!held) {
    held = std::make_shared<Cursor>();
    held->attach();
  }
  held->advance(bytes);
}

void FakeRegistry::release(const oci::Digest& digest) { hold(digest, kEverything); }

void FakeRegistry::hold_questions() {
  const std::scoped_lock lock(mutex_);
  questions_ = std::make_shared<Cursor>();
  questions_->attach();
}

void FakeRegistry::let_questions() {
  const std::scoped_lock lock(mutex_);
  if (questions_) questions_->advance(1);
  questions_.reset();
}

FakeRegistry::Seen FakeRegistry::seen() const {
  const std::scoped_lock lock(mutex_);
  return seen_;
}

bool FakeRegistry::wait_until(const std::function<bool(const Seen&)>& done) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return done(seen_); });
}

std::shared_ptr<FakeRegistry::Cursor> FakeRegistry::gate(const oci::Digest& digest) {
  const auto at = gates_.find(digest);
  return at == gates_.end() ? nullptr : at->second;
}

std::shared_ptr<FakeRegistry::Cursor> FakeRegistry::questions() const {
  const std::scoped_lock lock(mutex_);
  return questions_;
}

std::optional<Error> FakeRegistry::refusal(const std::string& repository) const {
  if (failure_) return failure_;
  const auto at = refusals_.find(repository);
  if (at == refusals_.end()) return std::nullopt;
  return at->second;
}

runtime::Task<Result<oci::Descriptor>> FakeRegistry::stat_blob(oci::Repository repository, oci::Digest digest) {
  note([](Seen& seen) { ++seen.blob_heads; });
  if (const std::shared_ptr<Cursor> held = questions()) {
    const Result<std::uint64_t> passed = co_await held->wait_past(0);
    if (!passed) co_return passed.error();
  }
  const std::scoped_lock lock(mutex_);
  if (const std::optional<Error> refused = refusal(repository.str())) co_return *refused;
  if (!blobs_.contains({repository.str(), digest})) co_return Error{Errc::blob_unknown, "upstream: blob unknown"};
  if (hide_sizes_) co_return Error{Errc::unsupported, "upstream does not tell the size of the blob"};
  const auto claimed = claims_.find(digest);
  co_return oci::Descriptor{claimed == claims_.end() ? digest : claimed->second, contents_.at(digest)->size(),
                            std::string(oci::media_type::kOctetStream)};
}

runtime::Task<Result<std::unique_ptr<upstream::BlobBody>>> FakeRegistry::open_blob(oci::Repository repository,
                                                                                   oci::Digest digest,
                                                                                   std::uint64_t offset) {
  note([&](Seen& seen) {
    ++seen.downloads;
    seen.offsets.push_back(offset);
  });
  if (const std::shared_ptr<Cursor> held = questions()) {
    const Result<std::uint64_t> passed = co_await held->wait_past(0);
    if (!passed) co_return passed.error();
  }
  const std::scoped_lock lock(mutex_);
  if (const std::optional<Error> refused = refusal(repository.str())) co_return *refused;
  if (!blobs_.contains({repository.str(), digest})) co_return Error{Errc::blob_unknown, "upstream: blob unknown"};
  Plan plan = next_plan(plans_[digest]);
  plan.hide_size = plan.hide_size || hide_sizes_;
  if (plan.refuse) co_return *plan.refuse;
  std::shared_ptr<const std::string> content = plan.content ? plan.content : contents_.at(digest);
  if (plan.ignore_range) offset = 0;
  if (offset > 0 && offset >= content->size()) co_return Error{Errc::range_invalid, "upstream: no byte there"};
  ++seen_.open;
  std::unique_ptr<upstream::BlobBody> body =
      std::make_unique<Body>(*this, std::move(content), gate(digest), std::move(plan), offset, kEverything);
  co_return std::move(body);
}

FakeRegistry::Plan FakeRegistry::next_plan(std::deque<Plan>& planned) {
  Plan plan;
  if (!planned.empty()) {
    plan = std::move(planned.front());
    planned.pop_front();
  }
  return plan;
}

runtime::Task<Result<std::unique_ptr<upstream::BlobBody>>> FakeRegistry::open_blob_range(oci::Repository repository,
                                                                                         oci::Digest digest,
                                                                                         std::uint64_t first,
                                                                                         std::uint64_t last) {
  note([&](Seen& seen) { seen.ranges.emplace_back(first, last); });
  if (const std::shared_ptr<Cursor> held = questions()) {
    const Result<std::uint64_t> passed = co_await held->wait_past(0);
    if (!passed) co_return passed.error();
  }
  const std::scoped_lock lock(mutex_);
  if (const std::optional<Error> refused = refusal(repository.str())) co_return *refused;
  if (!blobs_.contains({repository.str(), digest})) co_return Error{Errc::blob_unknown, "upstream: blob unknown"};
  Plan plan = next_plan(range_plans_[digest]);
  if (plan.refuse) co_return *plan.refuse;
  if (plan.ignore_range || hide_sizes_) co_return Error{Errc::unsupported, "upstream: the whole"};
  std::shared_ptr<const std::string> content = plan.content ? plan.content : contents_.at(digest);
  if (last >= content->size()) co_return Error{Errc::range_invalid, "upstream: no byte there"};
  ++seen_.open;
  std::unique_ptr<upstream::BlobBody> body =
      std::make_unique<Body>(*this, std::move(content), nullptr, std::move(plan), first, last + 1);
  co_return std::move(body);
}

Result<FakeRegistry::Manifest> FakeRegistry::manifest(const oci::Repository& repository,
                                                      const oci::Reference& reference,
                                                      const std::string& accept) const {
  const std::scoped_lock lock(mutex_);
  if (const std::optional<Error> refused = refusal(repository.str())) return *refused;
  const std::pair key{repository.str(), reference.to_string()};
  const bool wants_index = accept.empty() || accept.find(oci::media_type::kOciIndex) != std::string::npos;
  if (const auto at = narrow_.find(key); at != narrow_.end() && !wants_index) return at->second;
  const auto at = manifests_.find(key);
  if (at == manifests_.end()) return Error{Errc::manifest_unknown, "upstream: manifest unknown"};
  return at->second;
}

runtime::Task<Result<upstream::ManifestAnswer>> FakeRegistry::get_manifest(oci::Repository repository,
                                                                           oci::Reference reference,
                                                                           std::string accept) {
  note([&](Seen& seen) {
    ++seen.manifest_gets;
    seen.accepts.push_back(accept);
  });
  if (const std::shared_ptr<Cursor> held = questions()) {
    const Result<std::uint64_t> passed = co_await held->wait_past(0);
    if (!passed) co_return passed.error();
  }
  const Result<Manifest> found = manifest(repository, reference, accept);
  if (!found) co_return found.error();
  {
    // As the real one does.
    const std::scoped_lock lock(mutex_);
    if (spoilt_.contains(found->digest)) co_return Error{Errc::digest_mismatch, "upstream: other bytes"};
  }
  co_return upstream::ManifestAnswer{found->digest, found->media_type, found->content};
}

runtime::Task<Result<upstream::ManifestHead>> FakeRegistry::stat_manifest(oci::Repository repository,
                                                                          oci::Reference reference,
                                                                          std::string accept) {
  note([&](Seen& seen) {
    ++seen.manifest_heads;
    seen.accepts.push_back(accept);
  });
  if (const std::shared_ptr<Cursor> held = questions()) {
    const Result<std::uint64_t> passed = co_await held->wait_past(0);
    if (!passed) co_return passed.error();
  }
  const Result<Manifest> found = manifest(repository, reference, accept);
  if (!found) co_return found.error();
  upstream::ManifestHead head{found->digest, found->content.size(), found->media_type};
  {
    const std::scoped_lock lock(mutex_);
    if (hide_digests_) head.digest.reset();
  }
  co_return head;
}

void FakeRegistry::set_page_size(std::size_t tags) {
  const std::scoped_lock lock(mutex_);
  page_size_ = tags;
}

void FakeRegistry::set_tags_body(std::optional<std::string> body) {
  const std::scoped_lock lock(mutex_);
  tags_body_ = std::move(body);
}

void FakeRegistry::script_lists(ListScript script) {
  const std::scoped_lock lock(mutex_);
  list_script_ = std::move(script);
}

void FakeRegistry::set_referrers(const std::string& repository, const oci::Digest& subject, std::string index) {
  const std::scoped_lock lock(mutex_);
  referrers_[{repository, subject}] = std::move(index);
}

void FakeRegistry::allow(const std::string& authorization, const std::string& repository) {
  const std::scoped_lock lock(mutex_);
  allowed_.emplace(authorization, repository);
}

void FakeRegistry::disallow(const std::string& authorization, const std::string& repository) {
  const std::scoped_lock lock(mutex_);
  allowed_.erase({authorization, repository});
}

runtime::Task<Result<upstream::ListAnswer>> FakeRegistry::list(oci::Repository repository, std::string what) {
  note([&](Seen& seen) { seen.lists.push_back(what); });
  if (const std::shared_ptr<Cursor> held = questions()) {
    const Result<std::uint64_t> passed = co_await held->wait_past(0);
    if (!passed) co_return passed.error();
  }
  const std::scoped_lock lock(mutex_);
  if (const std::optional<Error> refused = refusal(repository.str())) co_return *refused;
  if (list_script_) {
    if (std::optional<Result<upstream::ListAnswer>> scripted = list_script_(what)) co_return std::move(*scripted);
  }
  if (what.starts_with("referrers/")) {
    const Result<oci::Digest> subject = oci::Digest::parse(what.substr(10));
    if (!subject || referrers_.empty()) co_return Error{Errc::manifest_unknown, "upstream: 404"};
    const auto at = referrers_.find({repository.str(), *subject});
    const std::string none = R"({"schemaVersion":2,"manifests":[]})";
    co_return upstream::ListAnswer{at == referrers_.end() ? none : at->second, std::string(oci::media_type::kOciIndex),
                                   ""};
  }
  std::vector<std::string> tags;
  for (const auto& [key, made] : manifests_) {
    if (key.first == repository.str() && key.second.find(':') == std::string::npos) tags.push_back(key.second);
  }
  if (tags.empty() && !tags_body_) co_return Error{Errc::name_unknown, "upstream: name unknown"};
  std::reverse(tags.begin(), tags.end());
  // The page is a number in what next() gave: "/page/3".
  const std::size_t from = what.starts_with("/page/") ? std::stoul(what.substr(6)) : 0;
  std::string body = R"({"name":"x","tags":[)";
  std::size_t at = from;
  for (; at < tags.size() && (page_size_ == 0 || at < from + page_size_); ++at) {
    body += (at == from ? "\"" : ",\"") + tags[at] + "\"";
  }
  body += "]}";
  co_return upstream::ListAnswer{tags_body_.value_or(body), "application/json",
                                 at < tags.size() ? "/page/" + std::to_string(at) : std::string()};
}

runtime::Task<Result<void>> FakeRegistry::ping() {
  note([](Seen& seen) { ++seen.pings; });
  const std::scoped_lock lock(mutex_);
  if (failure_) co_return *failure_;
  co_return Result<void>{};
}

std::optional<Error> FakeRegistry::check(const std::string& authorization, const std::string& repository) {
  note([&](Seen& seen) { seen.behalves.push_back(authorization); });
  const std::scoped_lock lock(mutex_);
  if (failure_ || allowed_.contains({authorization, repository})) return std::nullopt;
  if (!authorization.empty() && !repository.empty()) return Error{Errc::denied, "upstream: denied"};
  if (!authorization.empty()) return std::nullopt;
  Error error{Errc::unauthorized, "upstream: authentication required"};
  error.challenges = {R"(Bearer realm="https://auth.test/token",service="registry.test",scope="repository:)" +
                      repository + R"(:pull")"};
  return error;
}

// What a client gets that sends `authorization`.
class FakeRegistry::OnBehalf final : public upstream::Registry {
 public:
  OnBehalf(FakeRegistry& registry, std::string authorization)
      : registry_(registry), authorization_(std::move(authorization)) {}

  [[nodiscard]] std::string_view name() const override { return registry_.name(); }
  [[nodiscard]] Rights rights(const oci::Repository&) const override {
    return authorization_.empty() ? Rights::anonymous : Rights::client_login;
  }
  runtime::Task<Result<oci::Descriptor>> stat_blob(oci::Repository repository, oci::Digest digest) override {
    if (const auto refused = registry_.check(authorization_, repository.str())) co_return *refused;
    co_return co_await registry_.stat_blob(std::move(repository), digest);
  }
  runtime::Task<Result<std::unique_ptr<upstream::BlobBody>>> open_blob(oci::Repository repository, oci::Digest digest,
                                                                       std::uint64_t offset) override {
    if (const auto refused = registry_.check(authorization_, repository.str())) co_return *refused;
    co_return co_await registry_.open_blob(std::move(repository), digest, offset);
  }
  runtime::Task<Result<std::unique_ptr<upstream::BlobBody>>> open_blob_range(oci::Repository repository,
                                                                             oci::Digest digest, std::uint64_t first,
                                                                             std::uint64_t last) override {
    if (const auto refused = registry_.check(authorization_, repository.str())) co_return *refused;
    co_return co_await registry_.open_blob_range(std::move(repository), digest, first, last);
  }
  runtime::Task<Result<upstream::ManifestAnswer>> get_manifest(oci::Repository repository, oci::Reference reference,
                                                               std::string accept) override {
    if (const auto refused = registry_.check(authorization_, repository.str())) co_return *refused;
    // A login may end while upstream thinks.
    const std::string name = repository.str();
    Result<upstream::ManifestAnswer> answer =
        co_await registry_.get_manifest(std::move(repository), std::move(reference), std::move(accept));
    if (const auto refused = registry_.check(authorization_, name)) co_return *refused;
    co_return answer;
  }
  runtime::Task<Result<upstream::ManifestHead>> stat_manifest(oci::Repository repository, oci::Reference reference,
                                                              std::string accept) override {
    if (const auto refused = registry_.check(authorization_, repository.str())) co_return *refused;
    co_return co_await registry_.stat_manifest(std::move(repository), std::move(reference), std::move(accept));
  }
  runtime::Task<Result<upstream::ListAnswer>> list(oci::Repository repository, std::string what) override {
    if (const auto refused = registry_.check(authorization_, repository.str())) co_return *refused;
    co_return co_await registry_.list(std::move(repository), std::move(what));
  }
  runtime::Task<Result<void>> ping() override {
    if (const auto refused = registry_.check(authorization_, {})) co_return *refused;
    co_return co_await registry_.ping();
  }
  // As FakeRegistry's; whoever asks for it keeps this.
  [[nodiscard]] std::shared_ptr<upstream::Registry> behind_others(std::shared_ptr<upstream::Urgency> urgency) override {
    const std::shared_ptr<upstream::Registry> noted = registry_.behind_others(std::move(urgency));
    return {noted, this};
  }

 private:
  FakeRegistry& registry_;
  const std::string authorization_;
};

std::shared_ptr<upstream::Registry> FakeRegistry::on_behalf_of(std::string authorization) {
  return std::make_shared<OnBehalf>(*this, std::move(authorization));
}

std::shared_ptr<upstream::Registry> FakeRegistry::behind_others(std::shared_ptr<upstream::Urgency> urgency) {
  // One that somebody waits for is like none.
  if (!urgency->raised()) note([&urgency](Seen& seen) { seen.urgencies.push_back(std::move(urgency)); });
  return {std::shared_ptr<upstream::Registry>(), this};
}

}  // namespace sluice::test
