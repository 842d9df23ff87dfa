#include "api/ready_way.hpp"

#include <algorithm>
#include <optional>
#include <random>
#include <utility>

#include "api/cache_status.hpp"
#include "http/query.hpp"
#include "oci/name.hpp"

namespace sluice::api {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";

// Fields that make an answer another one, or that serve() has to look at.
bool is_plain(const http::Request& request) {
  // What is kept of a request holds no secrets.
  for (const std::string_view name : {"Authorization", "Proxy-Authorization", "Cookie"}) {
    if (request.has_header(name)) return false;
  }
  for (const std::string_view name : {"Via", "Range", "If-Range", "If-None-Match", "If-Match"}) {
    if (request.has_header(name)) return false;
  }
  return request.is_get() || request.is_head();
}

void observe(metrics::Histogram* histogram, std::chrono::nanoseconds duration) {
  if (histogram != nullptr) histogram->observe(std::chrono::duration<double>(duration).count());
}

}  // namespace

RequestIds::RequestIds() {
  std::random_device random;
  for (char& digit : run_) digit = kHexDigits[random() % kHexDigits.size()];
}

RequestIds::Text RequestIds::next() noexcept {
  Text out;
  char* const rest = std::copy(run_.begin(), run_.end(), out.data());
  std::uint32_t number = next_.fetch_add(1, std::memory_order_relaxed);
  for (char* digit = out.data() + out.size(); digit != rest; number >>= 4U) *--digit = kHexDigits[number & 0xfU];
  return out;
}

std::string extra_fields(std::string_view ns, const access::Route& route) {
  if (ns.empty()) return {};
  return "OCI-Namespace: " + std::string(route.registry->name()) + "\r\n";
}

bool is_negotiated(const Target& target) {
  return target.kind == Target::Kind::manifest && target.reference.find(':') == std::string::npos;
}

class ReadyWay::Answer final : public http::ReadyAnswer {
 public:
  Answer(const ReadyWay& way, const http::Request& request, const access::Route& route, const Target& target,
         std::string_view request_id, const pull::ReadyHit& hit, std::string head);

  bool prepare(http::ReadyUse& use) noexcept override;
  void note_unfinished(http::ReadyUse& use) noexcept override { use.begun = parts_.clock.now(); }
  void over(const http::ReadyUse& use, const http::ReadyOutcome& outcome) override;
  void file_failed() noexcept override { parts_.blobs.suspect(digest_); }

  // Taken before anything was looked at.
  Version::Watch upstreams;
  Version::Watch rules;

 private:
  [[nodiscard]] bool holds(Clock::Wall now) const noexcept;

  const Parts& parts_;
  const bool is_head_;
  const std::string request_id_;
  const std::string upstream_;
  const std::string repository_;
  const std::string reference_;
  const std::string user_agent_;
  const std::array<Version::Watch, 3> watches_;
  const Clock::Wall made_;
  const Clock::Wall until_;
  const std::weak_ptr<const pull::ReadyObject> object_;  // in memory
  const std::weak_ptr<const store::OpenBlob> file_;
  const std::uint64_t size_;
  oci::Digest digest_;  // of what is in the file

  metrics::Counter& requests_;
  metrics::Counter& client_bytes_;
  metrics::Counter& cache_bytes_;
  metrics::Histogram* const first_byte_;
  metrics::Histogram* const duration_;
};

namespace {

access::Content content_of(const Target& target) {
  return target.kind == Target::Kind::blob ? access::Content::blob : access::Content::manifest;
}

metrics::Histogram* of_hits(const pull::Metrics::Latencies& latencies, access::Content content) {
  return latencies[static_cast<std::size_t>(content)][static_cast<std::size_t>(access::CacheResult::hit)];
}

}  // namespace

ReadyWay::Answer::Answer(const ReadyWay& way, const http::Request& request, const access::Route& route,
                         const Target& target, std::string_view request_id, const pull::ReadyHit& hit, std::string head)
    : http::ReadyAnswer(std::move(head)),
      parts_(way.parts_),
      is_head_(request.is_head()),
      request_id_(request_id),
      upstream_(route.registry->name()),
      repository_(route.repository.str()),
      reference_(target.reference),
      user_agent_(request.header("User-Agent")),
      watches_(hit.watches),
      made_(way.parts_.clock.wall()),
      until_(std::min<Clock::Wall>(hit.until, made_ + kLongest)),
      object_(hit.object->in_memory ? hit.object : nullptr),
      file_(hit.object->file),
      size_(hit.object->size),
      requests_(way.metrics_.of(route).requests(content_of(target), access::CacheResult::hit)),
      client_bytes_(way.metrics_.of(route).client_bytes(content_of(target))),
      cache_bytes_(way.metrics_.of(route).cache_bytes),
      first_byte_(of_hits(way.metrics_.first_byte, content_of(target))),
      duration_(of_hits(way.metrics_.request_duration, content_of(target))) {
  if (hit.object->file) digest_ = hit.digest;
}

bool ReadyWay::Answer::holds(Clock::Wall now) const noexcept {
  if (now < made_ || now >= until_) return false;
  if (!upstreams.unchanged() || !rules.unchanged()) return false;
  for (const Version::Watch& watch : watches_) {
    if (!watch.unchanged()) return false;
  }
  return parts_.logins == nullptr || !parts_.logins->required();
}

bool ReadyWay::Answer::prepare(http::ReadyUse& use) noexcept {
  if (!holds(parts_.clock.wall())) return false;
  use.started = parts_.clock.now();
  if (is_head_) return true;
  if (std::shared_ptr<const pull::ReadyObject> object = object_.lock()) {
    use.bytes = object->body;
    use.holder = std::move(object);
    return true;
  }
  std::shared_ptr<const store::OpenBlob> file = file_.lock();
  if (!file || !parts_.blobs.is_whole(*file)) return false;
  use.file = &file->file;
  use.file_size = size_;
  use.holder = std::move(file);
  return true;
}

// As Api::account, for what only has this one outcome.
void ReadyWay::Answer::over(const http::ReadyUse& use, const http::ReadyOutcome& outcome) {
  const auto total = parts_.clock.now() - use.started;
  // What was sent by one call had its first byte out by the end of it: that spares the clock another look.
  const auto first_byte = use.begun ? *use.begun - use.started : total;
  parts_.blobs.count_peek();
  requests_.add();
  client_bytes_.add(outcome.body_bytes);
  cache_bytes_.add(outcome.body_bytes);
  observe(first_byte_, first_byte);
  if (outcome.complete) observe(duration_, total);
  AccessRecord record;
  RequestIds::Text id;
  if (request_id_.empty()) id = parts_.request_ids.next();
  record.request_id = request_id_.empty() ? std::string_view(id.data(), id.size()) : std::string_view(request_id_);
  record.client = outcome.peer;
  record.method = is_head_ ? "HEAD" : "GET";
  record.upstream = upstream_;
  record.repository = repository_;
  record.reference = reference_;
  record.user_agent = user_agent_;
  record.status = 200;
  record.bytes = outcome.body_bytes;
  record.complete = outcome.complete;
  record.cache = access::CacheResult::hit;
  record.first_byte = first_byte;
  record.total = total;
  parts_.access_log.write(record);
}

std::shared_ptr<http::ReadyAnswer> ReadyWay::make(const http::Request& request, const Target& target,
                                                  std::string_view request_id) const {
  const bool is_blob = target.kind == Target::Kind::blob;
  if ((!is_blob && target.kind != Target::Kind::manifest) || !is_plain(request)) return nullptr;
  if (parts_.logins != nullptr && parts_.logins->required()) return nullptr;
  const Version::Watch upstreams = parts_.upstreams.watch();
  const Version::Watch rules = parts_.rules != nullptr ? parts_.rules->watch() : Version::Watch();
  const std::string ns = http::query_parameter(request.query(), "ns");
  Result<access::Route> route = parts_.upstreams.resolve(access::Named{ns, request.host()}, target.name);
  if (!route || route->passthrough != nullptr) return nullptr;
  if (parts_.rules != nullptr && !parts_.rules->permits(route->scope.str())) return nullptr;
  route->equal_rights = parts_.rules == nullptr || parts_.rules->permit_all();

  std::optional<pull::ReadyHit> hit;
  std::string fields = extra_fields(ns, *route);
  fields += cache_fields(access::CacheResult::hit);
  if (is_blob) {
    const Result<oci::Digest> digest = oci::Digest::parse(target.reference);
    if (digest) hit = parts_.blobs.peek(*route, *digest, request.is_head());
  } else if (const Result<oci::Reference> reference = oci::Reference::parse(target.reference)) {
    oci::Accept accept;
    if (request.has_header("Accept")) accept = oci::Accept::parse(request.joined("Accept"));
    hit = parts_.manifests.peek(*route, *reference, accept);
    if (is_negotiated(target)) fields += kVary;
  }
  if (!hit) return nullptr;
  auto answer = std::make_shared<Answer>(*this, request, *route, target, request_id, *hit, hit->object->head + fields);
  answer->upstreams = upstreams;
  answer->rules = rules;
  return answer;
}

}  // namespace sluice::api
