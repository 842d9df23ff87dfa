#include "upstream/http_registry.hpp"

#include <algorithm>
#include <random>
#include <utility>

#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "base/log.hpp"
#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "upstream/authenticator.hpp"
#include "upstream/blob_body.hpp"
#include "upstream/content.hpp"
#include "upstream/refusal.hpp"
#include "upstream/transport.hpp"

namespace sluice::upstream {
namespace {

namespace asio = boost::asio;
using runtime::Task;
using std::chrono::steady_clock;

// Uniform in [0, 1). Each thread has its own generator.
double random_jitter() {
  thread_local std::minstd_rand generator{std::random_device{}()};
  return std::uniform_real_distribution<double>(0.0, 1.0)(generator);
}

Task<bool> sleep_for(std::chrono::milliseconds duration) {
  asio::basic_waitable_timer<steady_clock, asio::wait_traits<steady_clock>, runtime::Executor> timer(
      co_await asio::this_coro::executor);
  timer.expires_after(duration);
  const auto [interrupted] = co_await timer.async_wait(runtime::kAwaitTuple);
  co_return !interrupted;
}

std::vector<http::Challenge> challenges_of(const http::ReceivedHead& head) {
  std::vector<http::Challenge> out;
  for (const auto& [name, value] : head.fields) {
    if (!http::same_field_name(name, "WWW-Authenticate")) continue;
    for (http::Challenge& challenge : http::parse_challenges(value)) out.push_back(std::move(challenge));
  }
  return out;
}

// Gives the connection back, or closes it, before another is needed: there may be only this one.
Task<void> let_go(Transport::Answer answer) { co_await answer.response->drain(); }

// As they stand in the head, for a client that answers them itself.
std::vector<std::string> raw_challenges_of(const http::ReceivedHead& head) {
  std::vector<std::string> out;
  for (const auto& [name, value] : head.fields) {
    if (http::same_field_name(name, "WWW-Authenticate") && !value.empty()) out.push_back(value);
  }
  return out;
}

// Where the next page of a list is, as the head of this one says (RFC 8288): "" for the last one.
std::string next_link(const http::ReceivedHead& head) {
  for (const auto& [name, value] : head.fields) {
    if (!http::same_field_name(name, "Link")) continue;
    const std::size_t open = value.find('<');
    const std::size_t close = value.find('>', open);
    if (close == std::string::npos) continue;
    const std::string_view parameters = std::string_view(value).substr(close + 1);
    const bool is_next = parameters.find("rel=\"next\"") != std::string_view::npos ||
                         parameters.find("rel=next") != std::string_view::npos;
    if (is_next) return value.substr(open + 1, close - open - 1);
  }
  return {};
}

std::string prefix_of(const http::Url& base) {
  std::string path(base.path());
  while (!path.empty() && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

// One operation upstream: authentication, presigned addresses that have run out, retries.
class HttpRegistry::Exchange {
 public:
  struct Request {
    std::string method;
    std::string path;        // behind the base: "/v2/…"
    std::string repository;  // as upstream names it: what the token is for. Empty: none.
    std::vector<http::HeaderField> fields;
    Wanted wanted = Wanted::registry;
    bool authenticate = true;
    // A client's own Authorization, which takes the place of our credentials and tokens.
    std::optional<std::string> client_authorization = std::nullopt;
  };
  using Answer = Transport::Answer;

  Exchange(Params settings, http::Client& client, Clock& clock, metrics::Registry& registry)
      : params(std::move(settings)),
        clock_(clock),
        metrics_(registry, params.name),
        transport_(params, client, clock, metrics_),
        authenticator_(params, transport_, clock, metrics_),
        prefix_(prefix_of(params.base)) {
    if (!params.jitter) params.jitter = random_jitter;
  }

  // The answer, whatever its status, but for 401, 408, 429 and 5xx (not 501): those are errors, after retries where
  // they may help.
  Task<Result<Answer>> ask(Request request);

  // The error of an answer that ask() let through; reads its body for what upstream says.
  Task<Error> refuse(Answer answer, Wanted wanted);

  [[nodiscard]] std::string upstream_name(const oci::Repository& repository) const {
    const bool one_part = repository.str().find('/') == std::string::npos;
    return params.docker_hub_library_prefix && one_part ? "library/" + repository.str() : repository.str();
  }

  // The path behind the base that the Link of an answer to `path` leads to: nowhere but below this registry's /v2/.
  [[nodiscard]] Result<std::string> next_path(const std::string& path, const std::string& link) const;

  Params params;

 private:
  struct Try {
    Result<Answer> answer;
    bool again = false;  // another try may help
  };

  Task<Try> attempt(const Request& request);
  Task<Result<Answer>> authenticated(const Request& request);
  Task<Result<Answer>> send(const Request& request, std::string authorization);
  Task<std::vector<http::Challenge>> challenges_of_registry();
  Task<Error> refuse_client(Answer answer, Wanted wanted);
  [[nodiscard]] std::chrono::milliseconds backoff(std::size_t retry) const;

  Clock& clock_;
  Metrics metrics_;
  Transport transport_;
  Authenticator authenticator_;
  const std::string prefix_;
};

Task<Result<HttpRegistry::Exchange::Answer>> HttpRegistry::Exchange::send(const Request& request,
                                                                          std::string authorization) {
  Transport::Ask ask{request.method, params.base, request.fields, std::move(authorization)};
  ask.url.target = prefix_ + request.path;
  Result<Answer> answer = co_await transport_.send(ask);
  if (!answer || !answer->redirected) co_return answer;
  // A presigned address has run out, or a copy behind a redirect is gone: the registry gives a new one.
  const int status = answer->response->status();
  if (status != 401 && status != 403 && status != 410) co_return answer;
  co_await let_go(std::move(*answer));
  metrics_.retries.add();
  co_return co_await transport_.send(std::move(ask));
}

// gcr.io may answer 401 without a challenge; the one of /v2/ counts then.
Task<std::vector<http::Challenge>> HttpRegistry::Exchange::challenges_of_registry() {
  std::vector<http::Challenge> out;
  const Request ping{"GET", "/v2/", {}, {}, Wanted::registry, false};
  Result<Answer> pinged = co_await send(ping, {});
  if (pinged && pinged->response->status() == 401) {
    out = challenges_of(pinged->response->head());
    // What it asks for is access to nothing in particular.
    for (http::Challenge& challenge : out) {
      std::erase_if(challenge.parameters, [](const auto& parameter) { return parameter.first == "scope"; });
    }
    co_await let_go(std::move(*pinged));
  }
  co_return out;
}

Task<Result<HttpRegistry::Exchange::Answer>> HttpRegistry::Exchange::authenticated(const Request& request) {
  if (request.client_authorization) co_return co_await send(request, *request.client_authorization);
  if (!request.authenticate) co_return co_await send(request, {});
  Result<std::string> authorization = co_await authenticator_.authorization(request.repository);
  if (!authorization) co_return authorization.error();
  Result<Answer> answer = co_await send(request, *authorization);
  // A 401 from behind a redirect says nothing about our standing with the registry.
  if (!answer || answer->response->status() != 401 || answer->redirected) co_return answer;

  std::vector<http::Challenge> asked = challenges_of(answer->response->head());
  const std::string where = answer->where;
  co_await let_go(std::move(*answer));
  if (asked.empty()) asked = co_await challenges_of_registry();
  Result<std::string> renewed =
      co_await authenticator_.answer(request.repository, std::move(asked), std::move(*authorization));
  if (!renewed) co_return renewed.error().in(where);
  co_return co_await send(request, std::move(*renewed));
}

Task<Error> HttpRegistry::Exchange::refuse(Answer answer, Wanted wanted) {
  http::ClientResponse& response = *answer.response;
  std::optional<oci::RegistryError> said;
  const Result<std::string> body = co_await response.read_all(oci::kMaxErrorBodyBytes);
  if (body) said = oci::parse_error_body(*body);
  const std::string* retry_after = response.find("Retry-After");
  const auto wait = retry_after == nullptr ? std::chrono::seconds(0) : parse_retry_after(*retry_after, clock_.wall());
  co_return refusal(response.status(), wanted, answer.where, said, wait);
}

// A 401 to a client's own Authorization, with what the client needs to come back with another one.
Task<Error> HttpRegistry::Exchange::refuse_client(Answer answer, Wanted wanted) {
  std::vector<std::string> challenges = raw_challenges_of(answer.response->head());
  Error error = co_await refuse(std::move(answer), wanted);
  if (challenges.empty()) {
    Result<Answer> pinged = co_await send({"GET", "/v2/", {}, {}, Wanted::registry, false}, {});
    if (pinged) {
      challenges = raw_challenges_of(pinged->response->head());
      co_await let_go(std::move(*pinged));
    }
  }
  error.challenges = std::move(challenges);
  co_return error;
}

Task<HttpRegistry::Exchange::Try> HttpRegistry::Exchange::attempt(const Request& request) {
  Result<Answer> answer = co_await authenticated(request);
  if (!answer) {
    const Errc code = answer.error().code;
    co_return Try{answer.error(), code == Errc::upstream_unreachable || code == Errc::upstream_failed};
  }
  const int status = answer->response->status();
  if (status == 401 && request.client_authorization && !answer->redirected) {
    co_return Try{co_await refuse_client(std::move(*answer), request.wanted), false};
  }
  // 501 is about the method, not about the state upstream is in.
  const bool let_through =
      status != 408 && status != 429 && (status < 500 || status == 501) && (status != 401 || !request.authenticate);
  if (let_through) co_return Try{std::move(answer), false};
  co_return Try{co_await refuse(std::move(*answer), request.wanted), is_transient(status)};
}

Result<std::string> HttpRegistry::Exchange::next_path(const std::string& path, const std::string& link) const {
  http::Url here = params.base;
  here.target = prefix_ + path;
  const Result<http::Url> next = here.resolve(link);
  if (!next) return next.error().in("Link to the next page");
  const bool below = next->target.starts_with(prefix_ + "/v2/");
  if (!below || !next->same_origin(params.base)) {
    return Error(Errc::upstream_protocol, "its next page is said to be at another place than the registry's");
  }
  return next->target.substr(prefix_.size());
}

std::chrono::milliseconds HttpRegistry::Exchange::backoff(std::size_t retry) const {
  const auto doubled = params.backoff_base * (std::int64_t{1} << std::min<std::size_t>(retry, 20));
  const double factor = 0.5 + std::clamp(params.jitter(), 0.0, 1.0) / 2;
  const auto limited = std::min(doubled, params.backoff_limit);
  return std::chrono::milliseconds(static_cast<std::int64_t>(static_cast<double>(limited.count()) * factor));
}

Task<Result<HttpRegistry::Exchange::Answer>> HttpRegistry::Exchange::ask(Request request) {
  const Clock::Monotonic last_start = clock_.now() + params.total_timeout;
  for (std::size_t retry = 0;; ++retry) {
    Try tried = co_await attempt(request);
    if (tried.answer || !tried.again || retry == params.retries) co_return std::move(tried.answer);
    const std::chrono::milliseconds wait = backoff(retry);
    if (clock_.now() + wait > last_start) co_return tried.answer.error();
    log::debug("upstream",
               fmt::format("{}: {}; again in {} ms", params.name, tried.answer.error().message, wait.count()));
    if (!co_await sleep_for(wait)) co_return Error(Errc::cancelled, "cancelled between two tries");
    metrics_.retries.add();
  }
}

// ----------------------------------------------------------------------------------------------------------- registry

HttpRegistry::HttpRegistry(Params params, http::Client& client, Clock& clock, metrics::Registry& metrics)
    : exchange_(std::make_shared<Exchange>(std::move(params), client, clock, metrics)) {}

HttpRegistry::HttpRegistry(std::shared_ptr<Exchange> exchange, std::string client_authorization)
    : exchange_(std::move(exchange)), client_authorization_(std::move(client_authorization)) {}

HttpRegistry::~HttpRegistry() = default;

std::shared_ptr<Registry> HttpRegistry::on_behalf_of(std::string authorization) {
  return std::shared_ptr<Registry>(new HttpRegistry(exchange_, std::move(authorization)));
}

std::string_view HttpRegistry::name() const { return exchange_->params.name; }

namespace {

const http::HeaderField kIdentity{"Accept-Encoding", "identity"};

std::string blob_path(const std::string& repository, const oci::Digest& digest) {
  return fmt::format("/v2/{}/blobs/{}", repository, digest.to_string());
}

std::string manifest_path(const std::string& repository, const oci::Reference& reference) {
  return fmt::format("/v2/{}/manifests/{}", repository, reference.to_string());
}

// What the answer to `Range: bytes=0-0` says about the size.
Result<std::uint64_t> size_by_range(const http::ReceivedHead& head, std::optional<std::uint64_t> content_length) {
  const std::string* field = head.find("Content-Range");
  const auto range = field == nullptr ? std::nullopt : parse_content_range(*field);
  if (head.status == 200 && content_length) return *content_length;
  if (head.status == 206 && range && range->first == 0 && range->last == 0 && range->size) return *range->size;
  // RFC 9110 section 15.5.17: no byte 0 to give, so it is empty.
  if (head.status == 416 && range && !range->first && range->size == 0) return std::uint64_t{0};
  return Error(Errc::upstream_protocol, "upstream does not tell the size of the blob");
}

// Whether a HEAD of a blob has been answered for good: a size, or a plain no. A cache in front of the registry answers
// 404 for what a GET would fetch, ECR Public 403, and storage behind a presigned GET 403 as well.
bool decides(const http::ClientResponse& response) {
  switch (response.status()) {
    case 200: return response.content_length().has_value();
    case 400:
    case 403:
    case 404:
    case 405:
    case 501: return false;
    default: return true;
  }
}

}  // namespace

Task<Result<oci::Descriptor>> HttpRegistry::stat_blob(oci::Repository repository, oci::Digest digest) {
  const std::string name = exchange_->upstream_name(repository);
  Exchange::Request request{"HEAD", blob_path(name, digest), name, {kIdentity}, Wanted::blob,
                            true,   client_authorization_};
  Result<Exchange::Answer> answer = co_await exchange_->ask(request);
  if (!answer) co_return answer.error();

  const bool by_head = decides(*answer->response);
  if (!by_head) {
    request.method = "GET";
    request.fields.emplace_back("Range", "bytes=0-0");
    answer = co_await exchange_->ask(std::move(request));
    if (!answer) co_return answer.error();
  }
  http::ClientResponse& response = *answer->response;
  const int status = response.status();
  if (status != 200 && !(status == 206 && !by_head) && !(status == 416 && !by_head)) {
    co_return co_await exchange_->refuse(std::move(*answer), Wanted::blob);
  }
  if (const Result<void> fits = check_content(response.head()); !fits && status != 416) {
    co_return fits.error().in(answer->where);
  }
  if (const auto named = digest_of(response.head());
      named && named->algorithm() == digest.algorithm() && *named != digest) {
    co_return Error(Errc::upstream_protocol,
                    answer->where + ": another blob than the one asked for (Docker-Content-Digest)");
  }
  const Result<std::uint64_t> size = by_head ? Result<std::uint64_t>(*response.content_length())
                                             : size_by_range(response.head(), response.content_length());
  if (!size) co_return size.error().in(answer->where);
  if (*size == 0 && digest != oci::digest_of(digest.algorithm(), std::string_view())) {
    co_return Error(Errc::upstream_protocol, answer->where + ": a size of 0 for a blob that is not empty");
  }
  std::string media_type = status == 416 ? std::string() : media_type_of(response.head());
  if (media_type.empty()) media_type = oci::media_type::kOctetStream;
  co_await response.drain();
  co_return oci::Descriptor{digest, *size, std::move(media_type)};
}

Task<Result<std::unique_ptr<BlobBody>>> HttpRegistry::open_blob(oci::Repository repository, oci::Digest digest,
                                                                std::uint64_t offset) {
  const std::string name = exchange_->upstream_name(repository);
  Exchange::Request request{"GET", blob_path(name, digest), name, {kIdentity}, Wanted::blob,
                            true,  client_authorization_};
  if (offset > 0) request.fields.emplace_back("Range", fmt::format("bytes={}-", offset));
  Result<Exchange::Answer> answer = co_await exchange_->ask(std::move(request));
  if (!answer) co_return answer.error();
  http::ClientResponse& response = *answer->response;
  if (response.status() / 100 != 2) co_return co_await exchange_->refuse(std::move(*answer), Wanted::blob);
  const Result<Extent> extent = check_blob(response.head(), response.content_length(), digest, offset);
  if (!extent) co_return extent.error().in(answer->where);
  co_return std::unique_ptr<BlobBody>(
      std::make_unique<HttpBlobBody>(std::move(answer->response), *extent, answer->where));
}

Task<Result<ManifestAnswer>> HttpRegistry::get_manifest(oci::Repository repository, oci::Reference reference,
                                                        std::string accept) {
  const std::string name = exchange_->upstream_name(repository);
  if (accept.empty()) accept = oci::manifest_accept();
  const Exchange::Request request{
      "GET", manifest_path(name, reference), name, {{"Accept", std::move(accept)}, kIdentity}, Wanted::manifest,
      true,  client_authorization_};
  for (bool again = false;; again = true) {
    Result<Exchange::Answer> answer = co_await exchange_->ask(request);
    if (!answer) co_return answer.error();
    http::ClientResponse& response = *answer->response;
    if (response.status() / 100 != 2) co_return co_await exchange_->refuse(std::move(*answer), Wanted::manifest);
    if (response.status() != 200) {
      co_return Error(Errc::upstream_protocol,
                      fmt::format("{}: status {} for a manifest", answer->where, response.status()));
    }
    if (const Result<void> fits = check_content(response.head()); !fits) co_return fits.error().in(answer->where);
    Result<std::string> body = co_await response.read_all(oci::kMaxManifestBytes);
    // Small enough to be worth asking for once more when the connection breaks under it.
    if (!body && body.error().code == Errc::upstream_unreachable && !again) continue;
    if (!body) co_return body.error().in(answer->where);
    if (body->empty()) co_return Error(Errc::upstream_protocol, answer->where + ": an empty manifest");

    if (reference.is_digest()) {
      if (oci::digest_of(reference.digest().algorithm(), *body) != reference.digest()) {
        co_return Error(Errc::digest_mismatch, answer->where + ": the body does not have that digest");
      }
    } else if (const auto named = digest_of(response.head());
               named && oci::digest_of(named->algorithm(), *body) != *named) {
      co_return Error(Errc::upstream_protocol,
                      answer->where + ": the body does not have the digest that its head says");
    }
    const oci::Digest digest =
        reference.is_digest() ? reference.digest() : oci::digest_of(oci::Algorithm::sha256, *body);
    co_return ManifestAnswer{digest, media_type_of(response.head()), std::move(*body)};
  }
}

Task<Result<ManifestHead>> HttpRegistry::stat_manifest(oci::Repository repository, oci::Reference reference,
                                                       std::string accept) {
  const std::string name = exchange_->upstream_name(repository);
  if (accept.empty()) accept = oci::manifest_accept();
  Exchange::Request request{
      "HEAD", manifest_path(name, reference), name, {{"Accept", accept}, kIdentity}, Wanted::manifest,
      true,   client_authorization_};
  Result<Exchange::Answer> answer = co_await exchange_->ask(std::move(request));
  if (!answer) co_return answer.error();
  http::ClientResponse& response = *answer->response;
  if (response.status() == 405) {
    // No HEAD there. A GET counts against quotas, so only where it must.
    Result<ManifestAnswer> whole =
        co_await get_manifest(std::move(repository), std::move(reference), std::move(accept));
    if (!whole) co_return whole.error();
    co_return ManifestHead{whole->digest, whole->body.size(), std::move(whole->media_type)};
  }
  if (response.status() != 200) co_return co_await exchange_->refuse(std::move(*answer), Wanted::manifest);
  if (const Result<void> fits = check_content(response.head()); !fits) co_return fits.error().in(answer->where);
  const auto digest = digest_of(response.head());
  if (reference.is_digest() && digest && digest->algorithm() == reference.digest().algorithm() &&
      *digest != reference.digest()) {
    co_return Error(Errc::upstream_protocol, answer->where + ": another manifest than the one asked for");
  }
  co_return ManifestHead{digest, response.content_length(), media_type_of(response.head())};
}

Task<Result<ListAnswer>> HttpRegistry::list(oci::Repository repository, std::string what) {
  const std::string name = exchange_->upstream_name(repository);
  const std::string path = what.starts_with('/') ? std::move(what) : fmt::format("/v2/{}/{}", name, what);
  Exchange::Request request{"GET",
                            path,
                            name,
                            {{"Accept", fmt::format("{}, application/json", oci::media_type::kOciIndex)}, kIdentity},
                            Wanted::manifest,
                            true,
                            client_authorization_};
  Result<Exchange::Answer> answer = co_await exchange_->ask(std::move(request));
  if (!answer) co_return answer.error();
  http::ClientResponse& response = *answer->response;
  if (response.status() != 200) {
    if (response.status() / 100 != 2) co_return co_await exchange_->refuse(std::move(*answer), Wanted::manifest);
    co_return Error(Errc::upstream_protocol, fmt::format("{}: status {} for a list", answer->where, response.status()));
  }
  if (const Result<void> fits = check_content(response.head()); !fits) co_return fits.error().in(answer->where);
  ListAnswer out;
  if (const std::string next = next_link(response.head()); !next.empty()) {
    const Result<std::string> followed = exchange_->next_path(path, next);
    if (!followed) co_return followed.error().in(answer->where);
    out.next = *followed;
  }
  out.media_type = media_type_of(response.head());
  Result<std::string> body = co_await response.read_all(kMaxListBytes);
  if (!body) co_return body.error().in(answer->where);
  out.body = std::move(*body);
  co_return out;
}

Task<Result<void>> HttpRegistry::ping() {
  Result<Exchange::Answer> answer =
      co_await exchange_->ask({"GET", "/v2/", {}, {}, Wanted::registry, false, client_authorization_});
  if (!answer) co_return answer.error();
  http::ClientResponse& response = *answer->response;
  const bool challenged = response.status() == 401 && !challenges_of(response.head()).empty();
  if (response.status() != 200 && !challenged)
    co_return co_await exchange_->refuse(std::move(*answer), Wanted::registry);
  if (const Result<void> fits = check_content(response.head()); !fits && !challenged) {
    co_return fits.error().in(answer->where);
  }
  co_await response.drain();
  co_return Result<void>{};
}

}  // namespace sluice::upstream
