// warm: pulls images through the cache, throws the bytes away, and checks their digests.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <span>

#include <boost/asio/experimental/awaitable_operators.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "admin/image_name.hpp"
#include "app/commands/command.hpp"
#include "app/commands/platform.hpp"
#include "app/commands/text.hpp"
#include "app/exit_status.hpp"
#include "app/version.hpp"
#include "base/address_kind.hpp"
#include "base/network.hpp"
#include "base/units.hpp"
#include "http/url.hpp"
#include "oci/error_code.hpp"
#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "runtime/every.hpp"

namespace sluice::app {
namespace {

using nlohmann::json;
using runtime::Task;
using namespace std::chrono_literals;

constexpr std::size_t kReadBytes = std::size_t{256} << 10;
// How often a download that broke is gone on with.
constexpr int kAttempts = 4;
constexpr std::size_t kMaxErrorBytes = std::size_t{64} << 10;

struct Blob {
  oci::Digest digest;
  std::uint64_t size = 0;
  const admin::ImageName* image = nullptr;  // one of those that need it
};

// What comes of one image.
struct Outcome {
  admin::ImageName image;
  std::string digest;
  std::vector<std::string> platforms;
  std::set<oci::Digest> blobs;
  std::uint64_t bytes = 0;
  std::string error;
};

class Warmer {
 public:
  Warmer(Runner& runner, http::Url server, std::string authorization, const CommandOptions& options,
         std::vector<Platform> platforms)
      : client_(runner.client()),
        server_(std::move(server)),
        authorization_(std::move(authorization)),
        options_(options),
        platforms_(std::move(platforms)),
        progress_(options.quiet) {
    auto channel = std::make_shared<http::Channel>();
    channel->connect_timeout = 5s;
    // The cache itself waits for upstream, and says so in the end.
    channel->headers_timeout = 5min;
    channel->stall_timeout = 5min;
    channel->user_agent = "sluice-warm/" + std::string(version());
    channel_ = std::move(channel);
  }

  Result<void> use_tls(const std::filesystem::path& ca_file) {
    auto tls = http::TlsContext::load(ca_file.native());
    if (!tls) return tls.error();
    auto channel = std::make_shared<http::Channel>(*channel_);
    channel->tls = std::move(*tls);
    channel_ = std::move(channel);
    return {};
  }

  Task<Result<void>> run(std::vector<admin::ImageName> images);

  std::vector<Outcome>& outcomes() { return outcomes_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return received_; }
  void finish_progress() { progress_.finish(); }

 private:
  struct Manifest {
    oci::Digest digest;
    std::string body;
    oci::ManifestInfo info;
  };

  Task<Result<void>> plan(Outcome& outcome);
  Task<Result<Manifest>> get_manifest(const admin::ImageName& image, std::string reference);
  Task<Result<std::unique_ptr<http::ClientResponse>>> get(const admin::ImageName& image, std::string what,
                                                          std::vector<http::HeaderField> fields);
  Task<Result<void>> fetch(Blob blob);
  Task<Result<void>> fetch_rest(const Blob& blob, std::uint64_t& at, oci::Hasher& hasher);
  Task<void> work();
  Task<void> workers(std::size_t count);
  std::vector<oci::Descriptor> chosen(const Manifest& index, Outcome& outcome, std::string& missing) const;
  void need(Outcome& outcome, const oci::Descriptor& descriptor);
  void show();

  http::Client& client_;
  const http::Url server_;
  const std::string authorization_;  // empty: none
  const CommandOptions& options_;
  const std::vector<Platform> platforms_;
  std::shared_ptr<const http::Channel> channel_;
  Progress progress_;
  std::vector<Outcome> outcomes_;
  std::set<oci::Digest> planned_;
  std::deque<Blob> queue_;
  std::map<oci::Digest, std::string> failed_;
  std::uint64_t total_ = 0;
  std::uint64_t received_ = 0;
  std::size_t done_ = 0;
};

// The answer to a GET below the image's repository, with status 200 or 206.
Task<Result<std::unique_ptr<http::ClientResponse>>> Warmer::get(const admin::ImageName& image, std::string what,
                                                                std::vector<http::HeaderField> fields) {
  http::ClientRequest request;
  request.url = server_;
  request.url.target = fmt::format("/v2/{}/{}", image.repository, what);
  if (!image.registry.empty()) request.url.target += "?ns=" + http::percent_encode(image.registry);
  request.fields = std::move(fields);
  if (!authorization_.empty()) request.fields.emplace_back("Authorization", authorization_);
  auto response = co_await client_.send(std::move(request), channel_);
  if (!response) co_return response.error();
  const int status = (*response)->status();
  if (status == 200 || status == 206) co_return response;
  const Result<std::string> body = co_await (*response)->read_all(kMaxErrorBytes);
  const auto said = body ? oci::parse_error_body(*body) : std::nullopt;
  std::string message = said ? said->message : fmt::format("status {}", status);
  if (message.empty()) message = fmt::format("status {}", status);
  if (status == 401) message += "; --user gives a login";
  const bool again = status == 429 || status >= 500;
  co_return Error{again ? Errc::upstream_failed : Errc::not_found, std::move(message)};
}

Task<Result<Warmer::Manifest>> Warmer::get_manifest(const admin::ImageName& image, std::string reference) {
  auto response = co_await get(image, "manifests/" + reference, {{"Accept", std::string(oci::manifest_accept())}});
  if (!response) co_return response.error();
  const std::string* type = (*response)->find("Content-Type");
  const std::string media_type = type == nullptr ? std::string() : *type;
  const std::string* named = (*response)->find("Docker-Content-Digest");
  std::string expected = reference.find(':') != std::string::npos ? reference : std::string();
  if (expected.empty() && named != nullptr) expected = *named;
  Result<std::string> body = co_await (*response)->read_all(oci::kMaxManifestBytes);
  if (!body) co_return body.error();
  const Result<oci::Digest> wanted = oci::Digest::parse(expected);
  const oci::Algorithm algorithm = wanted ? wanted->algorithm() : oci::Algorithm::sha256;
  const oci::Digest digest = oci::digest_of(algorithm, *body);
  if (wanted && digest != *wanted) {
    co_return Error{Errc::digest_mismatch,
                    fmt::format("the manifest {} has the digest {}", expected, digest.to_string())};
  }
  Result<oci::ManifestInfo> info = oci::parse_manifest(*body, media_type);
  if (!info) co_return info.error();
  received_ += body->size();
  co_return Manifest{digest, std::move(*body), std::move(*info)};
}

// The manifests of an index that are for the platforms; without platforms all. `missing` names one that is not there.
std::vector<oci::Descriptor> Warmer::chosen(const Manifest& index, Outcome& outcome, std::string& missing) const {
  if (options_.all) return index.info.references;
  std::vector<oci::Descriptor> out;
  std::string offered;
  const json parsed = json::parse(index.body, nullptr, false);
  std::map<std::string, Platform> platforms;
  for (const json& entry : parsed.value("manifests", json::array())) {
    const json platform = entry.value("platform", json::object());
    const auto text = [&](const char* key) { return platform.value(key, std::string()); };
    platforms[entry.value("digest", std::string())] = {text("os"), text("architecture"), text("variant")};
  }
  for (const Platform& wanted : platforms_) {
    bool found = false;
    for (const oci::Descriptor& entry : index.info.references) {
      const auto at = platforms.find(entry.digest.to_string());
      if (at == platforms.end() || found || !wanted.takes(at->second)) continue;
      found = true;
      out.push_back(entry);
      outcome.platforms.push_back(at->second.to_string());
    }
    if (!found) missing = wanted.to_string();
  }
  if (!missing.empty()) {
    for (const auto& [digest, platform] : platforms) {
      if (platform.os == "unknown" || platform.os.empty()) continue;
      offered += (offered.empty() ? "" : ", ") + platform.to_string();
    }
    missing = fmt::format("there is no image for {}; there are {}", missing, offered.empty() ? "none" : offered);
  }
  return out;
}

void Warmer::need(Outcome& outcome, const oci::Descriptor& descriptor) {
  if (!outcome.blobs.insert(descriptor.digest).second) return;
  outcome.bytes += descriptor.size;
  if (!planned_.insert(descriptor.digest).second) return;
  total_ += descriptor.size;
  queue_.push_back({descriptor.digest, descriptor.size, &outcome.image});
}

// Fetches the manifests of an image, and notes the blobs that they name.
Task<Result<void>> Warmer::plan(Outcome& outcome) {
  Result<Manifest> root = co_await get_manifest(outcome.image, outcome.image.reference().to_string());
  if (!root) co_return root.error();
  outcome.digest = root->digest.to_string();
  std::deque<Manifest> open;
  open.push_back(std::move(*root));
  std::set<oci::Digest> seen;
  while (!open.empty()) {
    const Manifest manifest = std::move(open.front());
    open.pop_front();
    if (!seen.insert(manifest.digest).second) continue;
    if (manifest.info.is_index) {
      std::string missing;
      for (const oci::Descriptor& entry : chosen(manifest, outcome, missing)) {
        if (!oci::is_manifest(entry.media_type)) continue;
        Result<Manifest> child = co_await get_manifest(outcome.image, entry.digest.to_string());
        if (!child) co_return child.error();
        open.push_back(std::move(*child));
      }
      if (!missing.empty()) co_return Error{Errc::not_found, missing};
      continue;
    }
    for (const oci::Descriptor& blob : manifest.info.references) {
      const auto& foreign = manifest.info.foreign;
      if (std::find(foreign.begin(), foreign.end(), blob.digest) == foreign.end()) need(outcome, blob);
    }
  }
  co_return Result<void>{};
}

void Warmer::show() {
  progress_.show("warm", received_, std::max(total_, received_), fmt::format("{} of {} blobs", done_, planned_.size()));
}

// One answer's worth of what is missing behind `at`.
Task<Result<void>> Warmer::fetch_rest(const Blob& blob, std::uint64_t& at, oci::Hasher& hasher) {
  std::vector<http::HeaderField> fields;
  if (at > 0) fields.emplace_back("Range", fmt::format("bytes={}-", at));
  auto response = co_await get(*blob.image, "blobs/" + blob.digest.to_string(), std::move(fields));
  if (!response) co_return response.error();
  std::vector<std::byte> buffer(kReadBytes);
  std::uint64_t skip = (*response)->status() == 200 ? at : 0;
  for (;;) {
    const Result<std::size_t> n = co_await (*response)->read(buffer);
    if (!n) co_return n.error();
    if (*n == 0) co_return Result<void>{};
    auto piece = std::span<const std::byte>(buffer).first(*n);
    const std::size_t known = static_cast<std::size_t>(std::min<std::uint64_t>(skip, piece.size()));
    skip -= known;
    piece = piece.subspan(known);
    hasher.update(piece);
    at += piece.size();
    received_ += piece.size();
    show();
  }
}

Task<Result<void>> Warmer::fetch(Blob blob) {
  oci::Hasher hasher(blob.digest.algorithm());
  std::uint64_t at = 0;
  Result<void> fetched{};
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (attempt != 0) co_await runtime::sleep_for(500ms * attempt);
    fetched = co_await fetch_rest(blob, at, hasher);
    if (fetched || fetched.error().code == Errc::not_found) break;
  }
  if (!fetched) co_return fetched;
  if (hasher.finish() == blob.digest) co_return Result<void>{};
  co_return Error{Errc::digest_mismatch, "what came does not have that digest"};
}

Task<void> Warmer::work() {
  while (!queue_.empty()) {
    const Blob blob = queue_.front();
    queue_.pop_front();
    const Result<void> fetched = co_await fetch(blob);
    ++done_;
    if (!fetched) failed_[blob.digest] = fmt::format("{}: {}", blob.digest.to_string(), fetched.error().message);
  }
}

Task<void> Warmer::workers(std::size_t count) {
  using namespace boost::asio::experimental::awaitable_operators;
  if (count <= 1) co_return co_await work();
  co_await (work() && workers(count - 1));
}

Task<Result<void>> Warmer::run(std::vector<admin::ImageName> images) {
  for (admin::ImageName& image : images) outcomes_.push_back({std::move(image), {}, {}, {}, 0, {}});
  for (Outcome& outcome : outcomes_) {
    const Result<void> planned = co_await plan(outcome);
    if (planned) continue;
    outcome.error = planned.error().message;
    if (planned.error().code == Errc::upstream_unreachable) co_return planned;
  }
  co_await workers(std::max<std::size_t>(1, options_.parallel));
  for (Outcome& outcome : outcomes_) {
    for (const oci::Digest& digest : outcome.blobs) {
      if (const auto failed = failed_.find(digest); failed != failed_.end() && outcome.error.empty()) {
        outcome.error = failed->second;
      }
    }
  }
  co_return Result<void>{};
}

Result<std::vector<Platform>> platforms_of(const CommandOptions& options) {
  std::vector<Platform> out;
  for (const std::string& text : options.platforms) {
    Result<Platform> platform = Platform::parse(text);
    if (!platform) return platform.error();
    out.push_back(std::move(*platform));
  }
  if (out.empty()) out.push_back(Platform::this_machine());
  return out;
}

Result<http::Url> server_url(const std::string& server) {
  Result<http::Url> url = http::Url::parse(server.find("://") == std::string::npos ? "http://" + server : server);
  if (url && url->target == "/") return url;
  return Error{Errc::config_invalid,
               fmt::format("--server: found \"{}\", expected ADDR:PORT, for example 127.0.0.1:5000", server)};
}

int report(Warmer& warmer, const CommandOptions& options, std::chrono::milliseconds took) {
  int status = kExitOk;
  json all = json::array();
  for (const Outcome& outcome : warmer.outcomes()) {
    const std::string name = outcome.image.to_string();
    json entry{{"image", name}, {"digest", outcome.digest}, {"blobs", outcome.blobs.size()}, {"bytes", outcome.bytes}};
    if (!outcome.platforms.empty()) entry["platforms"] = outcome.platforms;
    if (!outcome.error.empty()) {
      status = kExitFailure;
      entry["error"] = outcome.error;
      std::fputs(fmt::format("sluice: {}: {}\n", name, outcome.error).c_str(), stderr);
    } else if (!options.json) {
      std::string platforms;
      for (const std::string& platform : outcome.platforms) platforms += " " + platform;
      print(fmt::format("{}{}: {}, {}, {}\n", name, platforms, short_digest(outcome.digest),
                        counted(outcome.blobs.size(), "blob"), format_bytes(outcome.bytes)));
    }
    all.push_back(std::move(entry));
  }
  if (options.json) {
    const json document{
        {"images", all}, {"bytes", warmer.bytes()}, {"seconds", static_cast<double>(took.count()) / 1000}};
    print(document.dump(2) + "\n");
  } else {
    print(fmt::format("{} in {} ({})\n", format_bytes(warmer.bytes()), format_duration(took),
                      rate(warmer.bytes(), took)));
  }
  return status;
}

}  // namespace

int warm_command(Runner& runner, const WarmTarget& target, const CommandOptions& options) {
  const std::string& server = target.server;
  std::vector<admin::ImageName> images;
  for (const std::string& name : options.names) {
    Result<admin::ImageName> image = admin::ImageName::parse(name);
    if (!image) return fail(image.error());
    images.push_back(std::move(*image));
  }
  Result<std::vector<Platform>> platforms = platforms_of(options);
  if (!platforms) return fail(platforms.error());
  const Result<http::Url> url = server_url(server);
  if (!url) return fail(url.error());

  const std::optional<IpAddress> address = IpAddress::parse(url->host);
  const bool local = url->host == "localhost" || (address && kind_of(*address) == AddressKind::loopback);
  if (!target.authorization.empty() && !url->is_tls() && !local) {
    std::fputs(fmt::format("sluice: the password goes to {} in the clear\n", url->authority()).c_str(), stderr);
  }
  Warmer warmer(runner, *url, target.authorization, options, std::move(*platforms));
  if (url->is_tls()) {
    if (const Result<void> secured = warmer.use_tls(target.ca_file); !secured) return fail(secured.error());
  }
  const auto begun = std::chrono::steady_clock::now();
  const Result<void> done = runner.run(warmer.run(std::move(images)));
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begun);
  warmer.finish_progress();
  if (runner.interrupted()) {
    return fail(
        {Errc::cancelled, fmt::format("interrupted after {}; what is whole is kept", format_bytes(warmer.bytes()))});
  }
  if (!done && done.error().code == Errc::upstream_unreachable) {
    return fail({Errc::not_found, fmt::format("no sluice answers on {} ({}); start one or give --server ADDR:PORT",
                                              server, done.error().message)});
  }
  if (!done) return fail(done.error());
  return report(warmer, options, took);
}

}  // namespace sluice::app
