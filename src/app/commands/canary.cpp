#include "app/commands/canary.hpp"

#include <chrono>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "app/version.hpp"
#include "base/upstream_name.hpp"
#include "http/url.hpp"

namespace sluice::app {
namespace {

using runtime::Task;
using namespace std::chrono_literals;

constexpr std::size_t kMaxAnswerBytes = std::size_t{4} << 20;
// Longer than a cache tries before it answers (upstreams.*.request_timeout).
constexpr auto kPatience = 35s;
constexpr auto kConnectPatience = 5s;
// A request is counted when its answer is over, which may be after its client has read it.
constexpr int kCountTries = 40;
constexpr auto kCountPause = 100ms;

constexpr const char* kAccept =
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json, */*";

// Small, public, and there for years.
const std::map<std::string, std::string, std::less<>>& known_images() {
  static const std::map<std::string, std::string, std::less<>> kImages{
      {"docker.io", "library/busybox:latest"},
      {"ghcr.io", "containerd/busybox:latest"},
      {"quay.io", "prometheus/busybox:latest"},
      {"gcr.io", "distroless/static:latest"},
      {"registry.k8s.io", "pause:3.9"},
      {"mcr.microsoft.com", "hello-world:latest"},
      {"public.ecr.aws", "docker/library/busybox:latest"},
  };
  return kImages;
}

struct Answer {
  int status = 0;
  std::string cache_status;
};

Task<Result<Answer>> exchange(Runner& runner, http::ClientRequest request,
                              std::shared_ptr<const http::Channel> channel) {
  auto response = co_await runner.client().send(std::move(request), std::move(channel));
  if (!response) co_return response.error();
  Answer out;
  out.status = (*response)->status();
  if (const std::string* field = (*response)->find("Cache-Status")) out.cache_status = *field;
  Result<std::string> body = co_await (*response)->read_all(kMaxAnswerBytes);
  if (!body) co_return body.error();
  co_return out;
}

// podman and its kin fetch the tag, all others ask for its digest first.
bool fetches_tag(const std::string& client) { return client.starts_with("podman"); }

// Of `/metrics`: the sum of a family's samples with that label.
double sum_of(const std::string& metrics, const std::string& family, const std::string& label) {
  double out = 0;
  std::istringstream in(metrics);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(family + "{") || line.find(label) == std::string::npos) continue;
    out += std::strtod(line.c_str() + line.rfind(' '), nullptr);
  }
  return out;
}

}  // namespace

Canaries::Canaries(Runner& runner, Source* admin, std::string own_ca, std::string root)
    : runner_(runner), admin_(admin), own_ca_(std::move(own_ca)), root_(std::move(root)) {}

// An image of that upstream, the cheapest first: one that the cache has, one that is known to be there, one that is
// not.
std::string Canaries::image_of(const std::string& upstream) {
  if (const auto at = images_.find(upstream); at != images_.end()) return at->second;
  std::string out = "sluice/doctor:latest";
  if (const auto known = known_images().find(upstream); known != known_images().end()) out = known->second;
  if (admin_ != nullptr) {
    const auto all = app::ask(runner_, *admin_, "GET", "/api/v1/repositories?limit=1000");
    for (const auto& repository : all ? all->json.value("repositories", nlohmann::json::array()) : nlohmann::json()) {
      const std::string name = repository.value("name", "");
      if (!name.starts_with(upstream + "/")) continue;
      const auto tags =
          app::ask(runner_, *admin_, "GET", "/api/v1/tags?limit=1&repository=" + http::percent_encode(name));
      if (!tags || tags->json.value("tags", nlohmann::json::array()).empty()) continue;
      out = name.substr(upstream.size() + 1) + ":" + tags->json["tags"][0].value("tag", "latest");
      break;
    }
  }
  return images_[upstream] = out;
}

std::optional<double> Canaries::counted(const std::string& upstream) {
  if (admin_ == nullptr) return std::nullopt;
  const Result<std::string> metrics = runner_.run(admin_->ask("GET", "/metrics"));
  if (!metrics) return std::nullopt;
  const std::string label = fmt::format("upstream=\"{}\"", canonical_upstream_name(upstream));
  return sum_of(*metrics, "sluice_manifest_requests_total", label);
}

Canary Canaries::send(const doctor::Verdict& verdict) {
  const doctor::Way& way = *verdict.way;
  const std::string image = image_of(verdict.upstream);
  Canary out;
  out.image = verdict.upstream + "/" + image;
  auto channel = std::make_shared<http::Channel>();
  channel->connect_timeout = kConnectPatience;
  channel->headers_timeout = kPatience;
  channel->user_agent = fmt::format("sluice-doctor/{} ({})", version(), verdict.client);
  if (way.scheme == "https") {
    const std::string ca = way.ca_files.empty() ? (way.skip_verify ? own_ca_ : "") : root_ + way.ca_files.front();
    auto tls = http::TlsContext::load(ca);
    if (!tls) {
      out.error = tls.error().message;
      return out;
    }
    channel->tls = std::move(*tls);
  }
  const std::size_t colon = image.rfind(':');
  http::ClientRequest request;
  request.method = fetches_tag(verdict.client) ? "GET" : "HEAD";
  request.url.scheme = way.scheme;
  request.url.host = way.host;
  request.url.port = way.port;
  request.url.target = fmt::format("{}/{}/manifests/{}", way.path, image.substr(0, colon), image.substr(colon + 1));
  if (!way.ns.empty()) request.url.target += "?ns=" + http::percent_encode(way.ns);
  request.fields.emplace_back("Accept", kAccept);
  request.fresh_connection = true;

  const std::optional<double> before = counted(verdict.upstream);
  const Result<Answer> answer = runner_.run(exchange(runner_, std::move(request), std::move(channel)));
  if (!answer) {
    out.error = answer.error().message;
    out.untrusted = way.scheme == "https" && out.error.find("certificate") != std::string::npos;
    return out;
  }
  out.status = answer->status;
  out.cache_status = answer->cache_status;
  // A request without a login is answered before it is counted.
  const int tries = before && out.status != 401 ? kCountTries : 0;
  for (int i = 0; i < tries && !out.counted && !runner_.interrupted(); ++i) {
    if (i > 0) std::this_thread::sleep_for(kCountPause);
    const std::optional<double> after = counted(verdict.upstream);
    out.counted = after && *after > *before;
  }
  return out;
}

}  // namespace sluice::app
