#include "api/api.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "api/cache_status.hpp"
#include "api/error_table.hpp"
#include "api/via.hpp"
#include "base/log.hpp"
#include "base/network.hpp"
#include "http/client_framing.hpp"
#include "http/conditional.hpp"
#include "http/query.hpp"
#include "http/response_head.hpp"

namespace sluice::api {
namespace {

constexpr std::string_view kPingBody = "{}";

const std::string& ping_head() {
  static const std::string head = http::ResponseHead(200)
                                      .add("Content-Type", "application/json")
                                      .content_length(kPingBody.size())
                                      .add("Docker-Distribution-Api-Version", "registry/2.0")
                                      .str();
  return head;
}

// Upstream's "no" is an answer, not a failure.
access::CacheResult result_of(const Error& error) {
  const unsigned status = http_error(error.code).status;
  if (status == 404) return access::CacheResult::unknown;
  if (status == 401 || status == 403) return access::CacheResult::denied;
  return access::CacheResult::error;
}

Error no_lists() { return {Errc::name_unknown, "this cache does not list; it serves blobs and manifests"}; }

// What DELETE takes out, where it is enabled.
bool is_removable(Target::Kind kind) { return kind == Target::Kind::blob || kind == Target::Kind::manifest; }

// Nothing for what is no question for content.
std::optional<access::Content> content_of(Target::Kind kind) {
  switch (kind) {
    case Target::Kind::blob: return access::Content::blob;
    case Target::Kind::manifest: return access::Content::manifest;
    case Target::Kind::tags:
    case Target::Kind::referrers:
    case Target::Kind::catalog: return access::Content::list;
    default: return std::nullopt;
  }
}

void observe(metrics::Histogram* histogram, std::chrono::nanoseconds duration) {
  if (histogram != nullptr) histogram->observe(std::chrono::duration<double>(duration).count());
}

// The client's own login. Two of them are none: upstream would see one, and we might have checked the other.
Result<std::string> authorization_of(const http::Request& request) {
  const auto is_one = [](const http::Field& field) { return http::same_field_name(field.name, "Authorization"); };
  if (std::count_if(request.fields().begin(), request.fields().end(), is_one) > 1) {
    return Error{Errc::denied, "a request may have only one Authorization field"};
  }
  return std::string(request.header("Authorization"));
}

IpAddress address_of(std::string_view peer) { return IpAddress::parse(without_port(peer)).value_or(IpAddress()); }

IpAddress client_of(const http::Request& request) { return address_of(request.peer()).client_key(); }

upstream::Asker asker_of(const http::Request& request) {
  upstream::Asker out;
  out.address = client_of(request);
  if (request.has_header("Via")) out.via = plain_via(request.joined("Via"));
  return out;
}

// A client's own request id is taken where it can stand in a log line.
bool is_usable_id(std::string_view id) {
  if (id.empty() || id.size() > 64) return false;
  for (const char c : id) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
                       c == '_' || c == '.' || c == ':' || c == '/' || c == '=' || c == '+';
    if (!plain) return false;
  }
  return true;
}

}  // namespace

Api::Api(const Parts& parts, const pull::Metrics& metrics)
    : parts_(parts),
      metrics_(metrics),
      blob_responder_(parts.blobs, metrics),
      list_responder_(parts.listings, parts.referrers),
      ready_way_({parts.upstreams, parts.blobs, parts.manifests, parts.access_log, parts.clock, parts.logins,
                  parts.rules, request_ids_},
                 metrics) {}

runtime::Task<void> Api::serve(http::Exchange& exchange) {
  const Clock::Monotonic started = parts_.clock.now();
  Answered answered;
  const std::string_view given_id = exchange.request().header("X-Request-Id");
  answered.own_id = is_usable_id(given_id);
  if (answered.own_id) {
    answered.request_id = given_id;
  } else {
    const RequestIds::Text id = request_ids_.next();
    answered.request_id.assign(id.data(), id.size());
  }
  answered.target = parse_target(exchange.request().path());
  const std::string_view via = exchange.request().header("Via");
  if (!via.empty()) {
    const std::string chain = exchange.request().joined("Via");
    if (chain.size() > kMaxViaBytes || has_come_through(chain, parts_.pseudonym)) {
      co_await serve_loop(exchange, chain);
      account(exchange, answered, started);
      co_return;
    }
  }
  const Result<void> served = co_await dispatch(exchange, answered);
  if (!served) {
    answered.cache = answered.asked ? result_of(served.error()) : access::CacheResult::none;
    const bool removable = parts_.removal != nullptr && is_removable(answered.target.kind);
    ErrorAnswer answer =
        error_answer(served.error(), answered.request_id, removable ? "GET, HEAD, DELETE" : "GET, HEAD");
    if (is_negotiated(answered.target)) answer.head += kVary;
    if (answer.in_log_only) {
      log::error("proxy", fmt::format("request {}: {}: {}", answered.request_id, name(served.error().code),
                                      served.error().message));
    }
    if (exchange.begun()) {
      exchange.break_off();
    } else {
      const Result<void> sent = co_await exchange.send(answer.head, answer.body);
      static_cast<void>(sent);
    }
  }
  account(exchange, answered, started);
  make_ready(exchange, answered);
}

// What was a hit, and is asked for again, is answered without all this the next time.
void Api::make_ready(http::Exchange& exchange, const Answered& answered) const {
  const bool is_hit = answered.cache == access::CacheResult::hit && exchange.status() == 200 && exchange.complete();
  if (!is_hit || !exchange.comes_again()) return;
  const std::string_view id = answered.own_id ? std::string_view(answered.request_id) : std::string_view();
  if (auto answer = ready_way_.make(exchange.request(), answered.target, id)) exchange.answer_again(std::move(answer));
}

// Before anything is waited for: who joined a question of ours here would wait for himself.
runtime::Task<void> Api::serve_loop(http::Exchange& exchange, std::string via) {
  if (const auto now = parts_.clock.now(); now >= next_loop_warning_.load()) {
    next_loop_warning_ = now + std::chrono::minutes(1);
    log::warn("proxy",
              fmt::format("loop: a request from {} has passed through this cache before (Via: {}), answered 508; "
                          "the url of an upstream leads back here",
                          exchange.request().peer(), via.substr(0, 200)));
  }
  const ErrorAnswer answer = loop_answer();
  const Result<void> sent = co_await exchange.send(answer.head, answer.body);
  static_cast<void>(sent);
}

void Api::account(http::Exchange& exchange, const Answered& answered, Clock::Monotonic started) {
  const http::Request& request = exchange.request();
  const auto first_byte = exchange.begun() ? exchange.begun_at() - started : Clock::Monotonic::duration{};
  const auto total = parts_.clock.now() - started;
  if (const std::optional<access::Content> content = content_of(answered.target.kind)) {
    const access::UpstreamMetrics& upstream = answered.route ? metrics_.of(*answered.route) : metrics_.of_none();
    upstream.requests(*content, answered.cache).add();
    upstream.client_bytes(*content).add(exchange.body_bytes_sent());
    const auto kind = static_cast<std::size_t>(*content);
    const auto result = static_cast<std::size_t>(answered.cache);
    if (exchange.begun()) observe(metrics_.first_byte[kind][result], first_byte);
    // What a client broke off says nothing of how long it would have taken.
    if (exchange.complete()) observe(metrics_.request_duration[kind][result], total);
  }
  AccessRecord record;
  record.request_id = answered.request_id;
  record.client = request.peer();
  record.method = request.method();
  record.target = request.target();
  if (answered.route) {
    record.upstream = answered.route->registry->name();
    record.repository = answered.route->repository.str();
  }
  record.reference = answered.target.reference;
  record.user_agent = request.header("User-Agent");
  record.status = exchange.status();
  record.bytes = exchange.body_bytes_sent();
  record.complete = exchange.complete();
  record.cache = answered.cache;
  record.first_byte = first_byte;
  record.upstream_wait = answered.upstream_wait;
  record.total = total;
  parts_.access_log.write(record);
}

runtime::Task<Result<void>> Api::dispatch(http::Exchange& exchange, Answered& answered) {
  const http::Request& request = exchange.request();
  const Target& target = answered.target;
  if (parts_.logins != nullptr && parts_.logins->required()) {
    Result<std::string> authorization = authorization_of(request);
    if (!authorization) co_return authorization.error();
    const Result<void> admitted = co_await parts_.logins->admit(std::move(*authorization), address_of(request.peer()));
    if (!admitted) co_return admitted.error();
  }
  if (target.kind == Target::Kind::unknown) {
    co_return Error{Errc::name_unknown, "there is nothing at this path; the registry's API is below /v2/"};
  }
  const bool removable = is_removable(target.kind);
  const bool removes = parts_.removal != nullptr && removable && request.method() == "DELETE";
  if (removable && !removes && request.method() == "DELETE") {
    co_return Error{Errc::unsupported, "removing content from this cache is switched off (store.delete.enabled)"};
  }
  if (!request.is_get() && !request.is_head() && !removes) {
    co_return Error{Errc::unsupported, "this is a pull-through cache: push to the registry itself"};
  }
  if (target.kind == Target::Kind::upload) {
    co_return Error{Errc::unsupported, "this is a pull-through cache: push to the registry itself"};
  }
  const std::string ns = http::query_parameter(request.query(), "ns");
  const access::Named named{ns, request.host()};
  if (target.kind == Target::Kind::ping) co_return co_await serve_ping(exchange, named);
  if (target.kind == Target::Kind::catalog) co_return co_await serve_catalog(exchange, answered, named);
  Result<access::Route> route = parts_.upstreams.resolve(named, target.name);
  if (!route) co_return route.error();
  answered.route = std::move(*route);
  answered.route->asking_for = answered.route->registry->asking_for(asker_of(request));
  if (answered.route->asking_for) answered.route->registry = answered.route->asking_for.get();
  if (parts_.rules != nullptr && !parts_.rules->permits(answered.route->scope.str())) {
    co_return Error{Errc::denied, "this cache does not serve that repository"};
  }
  const bool has_rules = parts_.rules != nullptr && !parts_.rules->permit_all();
  answered.route->equal_rights = answered.route->passthrough == nullptr && !has_rules;
  if (answered.route->passthrough != nullptr) {
    const Result<void> admitted = co_await admit(exchange, answered, !removes && removable);
    if (!admitted) co_return admitted.error();
  }
  if (removes) co_return co_await serve_removal(exchange, answered);
  std::string extra_fields = api::extra_fields(ns, *answered.route);
  if (target.kind == Target::Kind::blob) {
    co_return co_await serve_blob(exchange, answered, target.reference, std::move(extra_fields));
  }
  if (target.kind == Target::Kind::tags) {
    co_return co_await serve_tags(exchange, answered, ns, std::move(extra_fields));
  }
  if (target.kind == Target::Kind::referrers) {
    co_return co_await serve_referrers(exchange, answered, ns, std::move(extra_fields));
  }
  co_return co_await serve_manifest(exchange, answered, target.reference, std::move(extra_fields));
}

// 200 whatever upstream's state: clients take another answer for a mirror that is no registry. Where they are to log in
// at upstream, they learn here how (docker and podman do, containerd asks nothing of /v2/).
runtime::Task<Result<void>> Api::serve_ping(http::Exchange& exchange, access::Named named) {
  const Result<std::shared_ptr<const access::Upstreams::Upstream>> upstream = parts_.upstreams.resolve(named);
  if (upstream && (*upstream)->options.passthrough && parts_.gate != nullptr) {
    Result<std::string> authorization = authorization_of(exchange.request());
    if (!authorization) co_return authorization.error();
    upstream::Asker asker = asker_of(exchange.request());
    const Result<void> pinged = co_await parts_.gate->ping(**upstream, std::move(*authorization), std::move(asker));
    if (!pinged) co_return pinged.error();
  }
  const Result<void> sent = co_await exchange.send(ping_head(), kPingBody);
  static_cast<void>(sent);
  co_return Result<void>{};
}

runtime::Task<Result<void>> Api::admit(http::Exchange& exchange, Answered& answered, bool pulls) {
  if (parts_.gate == nullptr) co_return Error{Errc::internal, "nothing checks who may pull from this upstream"};
  Result<std::string> authorization = authorization_of(exchange.request());
  if (!authorization) co_return authorization.error();
  access::AccessGate::Wants wants = access::AccessGate::Wants::list;
  if (pulls) {
    const bool blob = answered.target.kind == Target::Kind::blob;
    wants = blob ? access::AccessGate::Wants::blob : access::AccessGate::Wants::manifest;
  }
  answered.asked = true;
  Result<access::Route> admitted = co_await parts_.gate->admit(*answered.route, std::move(*authorization), wants,
                                                               pulls ? answered.target.reference : std::string());
  if (!admitted) co_return admitted.error();
  answered.route = std::move(*admitted);
  co_return Result<void>{};
}

runtime::Task<Result<void>> Api::serve_blob(http::Exchange& exchange, Answered& answered, std::string reference,
                                            std::string extra_fields) {
  const Result<oci::Digest> digest = oci::Digest::parse(reference);
  if (!digest) co_return digest.error();
  answered.asked = true;
  const Result<access::CacheResult> result = co_await blob_responder_.respond(
      exchange, *answered.route, *digest, std::move(extra_fields), answered.upstream_wait);
  if (!result) co_return result.error();
  answered.cache = *result;
  co_return Result<void>{};
}

runtime::Task<Result<void>> Api::serve_manifest(http::Exchange& exchange, Answered& answered, std::string reference,
                                                std::string extra_fields) {
  const http::Request& request = exchange.request();
  Result<oci::Reference> parsed = oci::Reference::parse(reference);
  if (!parsed) co_return parsed.error();
  oci::Accept accept;
  answered.asked = true;
  if (request.has_header("Accept")) accept = oci::Accept::parse(request.joined("Accept"));
  const Result<pull::ManifestService::Opened> opened =
      co_await parts_.manifests.open_to_send(*answered.route, std::move(*parsed), std::move(accept), request.is_head());
  if (!opened) co_return opened.error();
  answered.cache = opened->result;
  extra_fields += cache_fields(opened->result);
  if (is_negotiated(answered.target)) extra_fields += kVary;
  const pull::ReadyObject& object = *opened->object;
  std::string head;
  bool has_body = !request.is_head();
  if (request.has_header("If-None-Match") && http::if_none_match(request.joined("If-None-Match"), object.etag)) {
    head =
        http::ResponseHead(304).add("ETag", object.etag).add("Docker-Content-Digest", opened->digest.to_string()).str();
    has_body = false;
  } else {
    head = object.head;
    if (parts_.prefetcher != nullptr && !request.is_head()) {
      parts_.prefetcher->offer(*answered.route, opened->digest, opened->object);
    }
  }
  head += extra_fields;
  if (has_body && object.file) {
    co_await send_manifest_file(exchange, head, object, opened->stored_as);
  } else {
    const Result<void> sent =
        co_await exchange.send(head, has_body ? std::string_view(object.body) : std::string_view());
    static_cast<void>(sent);
  }
  if (opened->result == access::CacheResult::hit)
    metrics_.of(*answered.route).cache_bytes.add(exchange.body_bytes_sent());
  co_return Result<void>{};
}

// As BlobResponder does: whether the file is to blame for a body that ends early is looked at.
runtime::Task<void> Api::send_manifest_file(http::Exchange& exchange, std::string_view head,
                                            const pull::ReadyObject& object, const oci::Digest& stored_as) {
  Result<void> sent = co_await exchange.begin(head);
  if (sent) sent = co_await exchange.send_file(object.file->file, 0, object.size, http::Pages::unknown);
  if (sent) sent = co_await exchange.end();
  if (!sent && (sent.error().code == Errc::io || sent.error().code == Errc::corrupt)) parts_.blobs.suspect(stored_as);
}

runtime::Task<Result<void>> Api::serve_tags(http::Exchange& exchange, Answered& answered, std::string ns,
                                            std::string extra_fields) {
  if (!list_responder_.has_listings()) co_return no_lists();
  const Result<pull::PageRequest> page = pull::parse_page(exchange.request().query());
  if (!page) co_return page.error();
  ListResponder::Asked asked{std::move(ns), std::move(extra_fields), *page, client_of(exchange.request())};
  answered.asked = true;
  const Result<access::CacheResult> result =
      co_await list_responder_.tags(exchange, *answered.route, std::string(answered.target.name), std::move(asked));
  if (!result) co_return result.error();
  answered.cache = *result;
  co_return Result<void>{};
}

runtime::Task<Result<void>> Api::serve_catalog(http::Exchange& exchange, Answered& answered, access::Named named) {
  if (!list_responder_.has_listings()) co_return no_lists();
  const Result<pull::PageRequest> page = pull::parse_page(exchange.request().query());
  if (!page) co_return page.error();
  std::shared_ptr<const access::Upstreams::Upstream> only;
  if (parts_.upstreams.names_one(named)) {
    const Result<std::shared_ptr<const access::Upstreams::Upstream>> one = parts_.upstreams.resolve(named);
    if (!one) co_return one.error();
    only = *one;
  }
  ListResponder::Asked asked{std::string(named.ns), {}, *page, client_of(exchange.request())};
  answered.asked = true;
  const Result<access::CacheResult> listed =
      co_await list_responder_.catalog(exchange, std::move(only), parts_.rules, std::move(asked));
  if (!listed) co_return listed.error();
  answered.cache = *listed;
  co_return Result<void>{};
}

runtime::Task<Result<void>> Api::serve_referrers(http::Exchange& exchange, Answered& answered, std::string ns,
                                                 std::string extra_fields) {
  if (!list_responder_.has_referrers()) co_return no_lists();
  Result<oci::Digest> subject = oci::Digest::parse(answered.target.reference);
  if (!subject) co_return subject.error();
  ListResponder::Asked asked{std::move(ns), std::move(extra_fields), {}, client_of(exchange.request())};
  answered.asked = true;
  const Result<access::CacheResult> result =
      co_await list_responder_.referrers(exchange, *answered.route, std::move(*subject), std::move(asked));
  if (!result) co_return result.error();
  answered.cache = *result;
  co_return Result<void>{};
}

// distribution-spec, "Content Management". It is about what is kept here; upstream hears nothing of it.
runtime::Task<Result<void>> Api::serve_removal(http::Exchange& exchange, Answered& answered) {
  const Target& target = answered.target;
  Result<void> removed{};
  if (target.kind == Target::Kind::blob) {
    const Result<oci::Digest> digest = oci::Digest::parse(target.reference);
    if (!digest) co_return digest.error();
    removed = co_await parts_.removal->remove_blob(answered.route->scope, *digest);
  } else {
    Result<oci::Reference> reference = oci::Reference::parse(target.reference);
    if (!reference) co_return reference.error();
    removed = co_await parts_.removal->remove_manifest(answered.route->scope, std::move(*reference));
  }
  if (!removed) co_return removed.error();
  http::ResponseHead head(202);
  head.content_length(0).add("Docker-Distribution-Api-Version", "registry/2.0");
  const Result<void> sent = co_await exchange.send(head.str());
  static_cast<void>(sent);
  co_return Result<void>{};
}

}  // namespace sluice::api
