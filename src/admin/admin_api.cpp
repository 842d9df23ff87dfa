#include "admin/admin_api.hpp"

#include <charconv>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "admin/guard.hpp"
#include "admin/overview_json.hpp"
#include "admin/verify_options.hpp"
#include "base/log.hpp"
#include "base/units.hpp"
#include "http/query.hpp"
#include "store/names.hpp"

namespace sluice::admin {
namespace {

using Answer = AdminApi::Answer;
using runtime::Task;

constexpr std::size_t kDefaultLimit = 100;
constexpr std::size_t kMaxLimit = 1000;
constexpr std::string_view kRoot = "/api/v1";

unsigned status_of(Errc code) noexcept {
  switch (code) {
    case Errc::not_found: return 404;
    case Errc::exists: return 409;
    case Errc::denied: return 403;
    case Errc::config_invalid:
    case Errc::name_invalid:
    case Errc::tag_invalid:
    case Errc::digest_invalid:
    case Errc::digest_unsupported: return 400;
    case Errc::internal: return 500;
    default: return 503;
  }
}

Answer failed(const Error& error) { return {status_of(error.code), error_json(error)}; }

Answer not_allowed(std::string_view allow) {
  Answer out{405, error_json({Errc::unsupported, fmt::format("only {} here", allow)})};
  out.allow = allow;
  return out;
}

Result<PageAsked> page_asked(std::string_view query) {
  PageAsked out{http::query_parameter(query, "after"), kDefaultLimit};
  const std::string limit = http::query_parameter(query, "limit");
  if (limit.empty()) return out;
  const auto [end, ec] = std::from_chars(limit.data(), limit.data() + limit.size(), out.limit);
  if (ec != std::errc{} || end != limit.data() + limit.size() || out.limit == 0 || out.limit > kMaxLimit) {
    return Error{Errc::config_invalid, fmt::format("limit: found \"{}\", expected 1 to {}", limit, kMaxLimit)};
  }
  return out;
}

// A colon in what has no slash and no dot in front of it: "sha256:…" rather than "busybox:1".
std::optional<Result<oci::Digest>> as_digest(std::string_view name) {
  const std::size_t colon = name.find(':');
  if (colon == std::string_view::npos || !oci::parse_algorithm(name.substr(0, colon))) return std::nullopt;
  return oci::Digest::parse(name);
}

}  // namespace

Task<Answer> AdminApi::answer(const http::Request& request) {
  const std::string_view method = request.method();
  const Guarded guarded{method, request.host(), request.has_header("Origin"), request.header("Content-Type")};
  if (const std::optional<std::string> why = refusal(guarded, params_.hosts)) {
    co_return failed({Errc::denied, *why});
  }
  std::string_view path = request.path();
  if (!path.starts_with(kRoot) || (path.size() > kRoot.size() && path[kRoot.size()] != '/')) {
    co_return failed({Errc::not_found, "there is only /api/v1"});
  }
  path.remove_prefix(kRoot.size());
  if (!path.empty()) path.remove_prefix(1);
  const std::string_view query = request.query();
  const bool reads = request.is_get() || request.is_head();

  if (!parts_.store.running()) co_return failed({Errc::shutting_down, "the store is not open, at the moment"});
  if (path.empty()) co_return reads ? about() : not_allowed("GET, HEAD");
  if (path == "repositories" || path == "tags" || path == "blobs") {
    if (!reads) co_return not_allowed("GET, HEAD");
    co_return co_await list(path, query);
  }
  if ((path == "now" || path == "pulls") && parts_.overview != nullptr) {
    if (!reads) co_return not_allowed("GET, HEAD");
    if (path == "pulls") co_return pulls(query);
    co_return co_await now();
  }
  if (path == "stat") {
    if (!reads) co_return not_allowed("GET, HEAD");
    co_return co_await stat(http::query_parameter(query, "name"));
  }
  if (path == "content") {
    if (method != "DELETE") co_return not_allowed("DELETE");
    co_return co_await remove(http::query_parameter(query, "name"), http::query_parameter(query, "all") == "true");
  }
  if (path == "gc") {
    if (method != "POST") co_return not_allowed("POST");
    co_return co_await gc(http::query_parameter(query, "min_age"));
  }
  if (path == "verify") {
    if (reads) co_return Answer{200, to_json(parts_.verify.status())};
    if (method == "POST") co_return start_verify(query);
    if (method != "DELETE") co_return not_allowed("GET, HEAD, POST, DELETE");
    if (!parts_.verify.cancel()) co_return failed({Errc::not_found, "no verification is running"});
    co_return Answer{202, to_json(parts_.verify.status())};
  }
  if (path == "reload" && actions_.reload) {
    if (method != "POST") co_return not_allowed("POST");
    Result<std::string> reloaded = co_await actions_.reload();
    if (!reloaded) co_return failed(reloaded.error());
    co_return Answer{200, std::move(*reloaded)};
  }
  co_return failed(
      {Errc::not_found, "there are now, pulls, repositories, tags, blobs, stat, content, gc, verify and reload"});
}

Answer AdminApi::about() const {
  const store::BlobStore& store = parts_.store;
  nlohmann::ordered_json out{
      {"version", params_.version},
      {"uptime_seconds", std::chrono::duration_cast<std::chrono::seconds>(parts_.clock.now() - started_).count()},
      {"data", store.layout().root().native()},
      {"store",
       {{"blobs", store.entries()},
        {"bytes", store.bytes()},
        {"reserved_bytes", store.ledger().reserved()},
        {"parts_bytes", parts_.parts.bytes()},
        {"rebuilding", store.rebuilding()}}}};
  if (const std::uint64_t limit = store.ledger().limit(); limit != store::Ledger::kUnlimited) {
    out["store"]["max_bytes"] = limit;
  }
  return {200, out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n"};
}

Task<Answer> AdminApi::now() {
  co_await parts_.overview->refresh();
  co_return Answer{200, to_json(parts_.overview->look())};
}

Answer AdminApi::pulls(std::string_view query) const {
  const Result<PageAsked> asked = page_asked(query);
  if (!asked) return failed(asked.error());
  return {200, to_json(parts_.overview->pulls(asked->limit))};
}

Task<Answer> AdminApi::list(std::string_view what, std::string_view query) {
  const Result<PageAsked> asked = page_asked(query);
  if (!asked) co_return failed(asked.error());
  const std::string repository = http::query_parameter(query, "repository");
  const Inventory& inventory = parts_.inventory;
  if (what == "repositories") {
    co_return co_await runtime::offload(
        parts_.pool, [&inventory, page = *asked]() -> Answer { return {200, to_json(inventory.repositories(page))}; });
  }
  if (repository.empty()) {
    if (what == "tags") co_return failed({Errc::config_invalid, "a repository is missing: ?repository=NAME"});
    co_return co_await runtime::offload(parts_.pool, [&inventory, page = *asked]() -> Answer {
      const Result<Page<BlobRow>> blobs = inventory.blobs(page);
      return blobs ? Answer{200, to_json(*blobs, {})} : failed(blobs.error());
    });
  }
  const Result<ImageName> name = ImageName::parse(repository);
  if (!name) co_return failed(name.error());
  const bool tags = what == "tags";
  co_return co_await runtime::offload(parts_.pool, [&inventory, tags, name = *name, page = *asked]() -> Answer {
    const Result<store::Scope> scope = inventory.find(name);
    if (!scope) return failed(scope.error());
    if (tags) {
      const Result<Page<TagRow>> rows = inventory.tags(name, page);
      return rows ? Answer{200, to_json(*rows, scope->str())} : failed(rows.error());
    }
    const Result<Page<BlobRow>> rows = inventory.blobs(name, page);
    return rows ? Answer{200, to_json(*rows, scope->str())} : failed(rows.error());
  });
}

Task<Answer> AdminApi::stat(std::string name) {
  const Inventory& inventory = parts_.inventory;
  if (const auto digest = as_digest(name)) {
    if (!*digest) co_return failed(digest->error());
    co_return co_await runtime::offload(parts_.pool, [&inventory, digest = **digest]() -> Answer {
      const Result<DigestStat> found = inventory.stat(digest);
      return found ? Answer{200, to_json(*found)} : failed(found.error());
    });
  }
  const Result<ImageName> image = ImageName::parse(name);
  if (!image) co_return failed(image.error());
  co_return co_await runtime::offload(parts_.pool, [&inventory, image = *image]() -> Answer {
    const Result<ImageStat> found = inventory.stat(image);
    return found ? Answer{200, to_json(*found)} : failed(found.error());
  });
}

Task<Answer> AdminApi::remove(std::string name, bool all) {
  Result<Removed> removed = Error{Errc::internal};
  const Error not_whole(Errc::name_invalid,
                        fmt::format("{}: all of a repository goes by its name, without tag or digest", name));
  if (const auto digest = as_digest(name)) {
    if (!*digest) co_return failed(digest->error());
    if (all) co_return failed(not_whole);
    removed = co_await remove_everywhere(**digest);
  } else {
    const Result<ImageName> image = ImageName::parse(name);
    if (!image) co_return failed(image.error());
    if (all && (image->tag || image->digest)) co_return failed(not_whole);
    const Inventory& inventory = parts_.inventory;
    Result<RemovalPlan> plan = co_await runtime::offload(parts_.pool, [&inventory, all, image = *image] {
      return all ? inventory.plan_removal_of_all(image) : inventory.plan_removal(image);
    });
    if (!plan) co_return failed(plan.error());
    removed = co_await remove_planned(std::move(*plan));
  }
  if (!removed) co_return failed(removed.error());
  const Result<void> flushed = co_await actions_.flush();
  if (!flushed) co_return failed(flushed.error());
  log::info("admin", fmt::format("removed {}: {} tags, {} digests, {} files of {}", name, removed->tags,
                                 removed->digests, removed->files, format_bytes(removed->bytes)));
  co_return Answer{200, to_json(*removed)};
}

Task<Result<Removed>> AdminApi::remove_planned(RemovalPlan plan) {
  const Result<store::Scope> scope = store::Scope::repository(plan.repository);
  if (!scope) co_return scope.error();
  Removed out;
  // First, while it is known that they are names of the same.
  std::vector<oci::Digest> digests = co_await runtime::offload(parts_.pool, [this, scope = *scope, &plan] {
    return store::other_names(parts_.store.catalog(), scope, plan.digests);
  });
  digests.insert(digests.end(), plan.digests.begin(), plan.digests.end());
  for (const oci::Digest& digest : digests) {
    const Result<Removed> removed = co_await actions_.forget(*scope, digest);
    if (!removed) co_return removed.error();
    out.tags += removed->tags;
    out.digests += removed->digests;
    out.files += removed->files;
    out.bytes += removed->bytes;
  }
  // Last: where Redis cannot be told of the first digest, nothing is taken out.
  for (const std::string& tag : plan.tags) {
    if (actions_.forget_tag(*scope, tag)) ++out.tags;
  }
  co_return out;
}

Task<Result<Removed>> AdminApi::remove_everywhere(oci::Digest digest) {
  Removed out;
  for (const std::string& repository : parts_.store.catalog().scopes_of(digest)) {
    Result<Removed> removed = co_await remove_planned({repository, {}, {digest}});
    if (!removed) co_return removed;
    out.tags += removed->tags;
    out.digests += removed->digests;
    out.files += removed->files;
    out.bytes += removed->bytes;
  }
  if (out.digests == 0) {
    const Result<Removed> dropped = co_await actions_.drop(digest);
    if (!dropped) co_return dropped.error();
    if (dropped->digests == 0) {
      co_return Error{Errc::not_found, fmt::format("nothing is known here of {}", digest.to_string())};
    }
    out = *dropped;
  }
  co_return out;
}

Task<Answer> AdminApi::gc(std::string min_age) {
  CollectOptions options;
  if (!min_age.empty()) {
    const Result<std::chrono::nanoseconds> age = parse_duration(min_age);
    if (!age) co_return failed(age.error().in("min_age"));
    options.min_age = std::chrono::duration_cast<std::chrono::seconds>(*age);
  }
  if (collecting_.exchange(true)) co_return failed({Errc::exists, "a gc is running already"});
  co_return co_await runtime::offload(parts_.pool, [this, options]() -> Answer {
    const Collected collected = collect(parts_.store, parts_.parts, parts_.filesystem, parts_.clock, options);
    collecting_ = false;
    return {200, to_json(collected)};
  });
}

Answer AdminApi::start_verify(std::string_view query) {
  const Result<store::VerifyOptions> options =
      verify_options(http::query_parameter(query, "sample"), http::query_parameter(query, "rate"),
                     http::query_parameter(query, "seed"));
  if (!options) return failed(options.error());
  if (!parts_.verify.start(*options)) return failed({Errc::exists, "a verification is running already"});
  return {202, to_json(parts_.verify.status())};
}

}  // namespace sluice::admin
