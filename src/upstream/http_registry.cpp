#include "upstream/http_registry.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"
#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "runtime/within.hpp"
#include "upstream/blob_body.hpp"
#include "upstream/coding.hpp"
#include "upstream/content.hpp"
#include "upstream/encoded_body.hpp"
#include "upstream/exchange.hpp"
#include "upstream/read_manifest.hpp"

namespace sluice::upstream {

using runtime::Task;

HttpRegistry::HttpRegistry(Params params, http::Client& client, Clock& clock, metrics::Registry& metrics)
    : exchange_(std::make_shared<Exchange>(std::move(params), client, clock, metrics)) {}

HttpRegistry::HttpRegistry(std::shared_ptr<Exchange> exchange, std::optional<std::string> client_authorization,
                           std::shared_ptr<Urgency> urgency, Asker asker)
    : exchange_(std::move(exchange)),
      client_authorization_(std::move(client_authorization)),
      urgency_(std::move(urgency)),
      asker_(std::move(asker)) {}

HttpRegistry::~HttpRegistry() = default;

std::shared_ptr<Registry> HttpRegistry::on_behalf_of(std::string authorization) {
  return std::shared_ptr<Registry>(new HttpRegistry(exchange_, std::move(authorization), urgency_, asker_));
}

std::shared_ptr<Registry> HttpRegistry::behind_others(std::shared_ptr<Urgency> urgency) {
  return std::shared_ptr<Registry>(new HttpRegistry(exchange_, client_authorization_, std::move(urgency), asker_));
}

std::shared_ptr<Registry> HttpRegistry::asking_for(Asker asker) {
  return std::shared_ptr<Registry>(new HttpRegistry(exchange_, client_authorization_, urgency_, std::move(asker)));
}

std::string_view HttpRegistry::name() const { return exchange_->params.name; }

Rights HttpRegistry::rights(const oci::Repository& repository) const {
  const Params& params = exchange_->params;
  const auto ours = [](bool any) { return any ? Rights::own_login : Rights::anonymous; };
  if (client_authorization_ && !client_authorization_->empty()) return Rights::client_login;
  if (!params.cert_file.empty()) return Rights::own_login;
  if (client_authorization_) return Rights::anonymous;
  const std::string name = exchange_->upstream_name(repository);
  for (const CredentialRule& rule : params.credential_rules) {
    const bool fits = std::any_of(rule.repositories.begin(), rule.repositories.end(),
                                  [&name](const std::string& pattern) { return matches_repository(pattern, name); });
    if (fits) return ours(rule.source != nullptr);
  }
  return ours(params.credential_source != nullptr || !params.credentials.empty());
}

namespace {

const http::HeaderField kIdentity{"Accept-Encoding", "identity"};

std::string blob_path(const std::string& repository, const oci::Digest& digest) {
  return fmt::format("/v2/{}/blobs/{}", repository, digest.to_string());
}

std::string manifest_path(const std::string& repository, const oci::Reference& reference) {
  return fmt::format("/v2/{}/manifests/{}", repository, reference.to_string());
}

// A text that says something of a blob, as far as its type tells.
bool may_be_page(const http::ReceivedHead& head) {
  const std::string type = media_type_of(head);
  return type.starts_with("text/") || type == oci::media_type::kJson;
}

// What the answer to `Range: bytes=0-0` says about the size. Errors: unsupported, where it has the blob and tells none.
Result<std::uint64_t> size_by_range(const http::ReceivedHead& head, std::optional<std::uint64_t> content_length) {
  const std::string* field = head.find("Content-Range");
  const auto range = field == nullptr ? std::nullopt : parse_content_range(*field);
  if (is_whole(head.status) && content_length) {
    // A page of something in between would be as long as it is. A 206 comes from who knows the blob.
    if (const Result<void> fits = check_content(head); !fits) return fits.error();
    return *content_length;
  }
  if (is_whole(head.status) && may_be_page(head)) {
    return Error(Errc::upstream_protocol,
                 "upstream sent text and told no length: it may be an error page and not the blob");
  }
  if (head.status == 206 && range && range->first == 0 && range->last == 0 && range->size) return *range->size;
  // RFC 9110 section 15.5.17: no byte 0 to give, so it is empty.
  if (head.status == 416 && range && !range->first && range->size == 0) return std::uint64_t{0};
  return Error(is_whole(head.status) || head.status == 206 ? Errc::unsupported : Errc::upstream_protocol,
               "upstream does not tell the size of the blob");
}

bool is_of_empty(const oci::Digest& digest) { return digest == oci::digest_of(digest.algorithm(), std::string_view()); }

// Whether the answer to a HEAD tells a length that the content can have. An encoding's length is not the content's.
bool tells_length(const http::ClientResponse& response) {
  return is_whole(response.status()) && response.content_length() && *response.content_length() != 0 &&
         codings_named(response.head()).empty();
}

bool is_other(const std::optional<oci::Digest>& named, const oci::Digest& asked) {
  return named && named->algorithm() == asked.algorithm() && *named != asked;
}

// By another algorithm than was asked for Docker-Content-Digest is a registry's own name of the blob (OCI
// distribution-spec, "Pulling blobs"). Another one by the same algorithm says nothing.
oci::Descriptor descriptor_of(const http::ReceivedHead& head, const oci::Digest& asked, std::uint64_t size) {
  const auto named = digest_of(head);
  std::string media_type = head.status == 416 ? std::string() : media_type_of(head);
  if (media_type.empty()) media_type = oci::media_type::kOctetStream;
  return {named && !is_other(named, asked) ? *named : asked, size, std::move(media_type)};
}

bool is_usable_blob_head(const http::ClientResponse& response, const oci::Digest& digest) {
  const bool empty = is_whole(response.status()) && response.content_length() == 0 && is_of_empty(digest);
  return (empty || tells_length(response)) && !is_other(digest_of(response.head()), digest) &&
         check_content(response.head()).has_value();
}

// Of a tag the digest has to be told; of a digest nothing may contradict it.
bool is_usable_manifest_head(const http::ClientResponse& response, const oci::Reference& reference) {
  if (!tells_length(response)) return false;
  const auto named = digest_of(response.head());
  return reference.is_digest() ? !is_other(named, reference.digest()) : named.has_value();
}

// The error of reading a body from behind a redirect, without where that is (Transport::failed_behind).
Error hidden(const Error& why) {
  if (why.code == Errc::cancelled || why.code == Errc::overloaded || why.code == Errc::digest_mismatch) return why;
  log::debug("upstream", fmt::format("behind a redirect: {}", why.message));
  return {Errc::upstream_failed, "the server that the registry leads to broke off its answer (the log has the reason)"};
}

}  // namespace

std::chrono::milliseconds HttpRegistry::throttled_for(const oci::Repository& repository,
                                                      const oci::Reference& reference) const {
  // What upstream says to one client's login is nothing to others.
  if (client_authorization_) return std::chrono::milliseconds(0);
  return exchange_->throttled_for(manifest_path(exchange_->upstream_name(repository), reference));
}

Task<Result<oci::Descriptor>> HttpRegistry::stat_blob(oci::Repository repository, oci::Digest digest) {
  const auto until = std::chrono::steady_clock::now() + exchange_->params.request_timeout;
  const std::string name = exchange_->upstream_name(repository);
  Exchange::Request request{"HEAD", blob_path(name, digest), name, {kIdentity}, Wanted::blob,
                            true,   client_authorization_};
  request.asker = asker_;
  request.urgency = urgency_;
  request.verified = true;
  request.latest = until;
  HeadHints& heads = exchange_->blob_heads;
  const std::string path = request.path;
  const bool by_head = heads.are_useful(path);
  Exchange::Hint hint;
  if (by_head) {
    auto asked = co_await exchange_->hint(
        request, [digest](const http::ClientResponse& response) { return is_usable_blob_head(response, digest); });
    if (!asked) co_return asked.error();
    hint = std::move(*asked);
  }
  if (hint.answer) {
    heads.was_useful(path);
    co_return descriptor_of(hint.answer->response->head(), digest, *hint.answer->response->content_length());
  }
  request.method = "GET";
  request.fields.emplace_back("Range", "bytes=0-0");
  request.is_short = true;
  // As many questions during an outage as about a blob that is fetched: their number tells nobody what is stored.
  if (hint.passes) request.tries_before = 1;
  request.wait_before = hint.wait;
  // And for as long: a download, which is asked for where nothing is stored, goes on.
  request.may_be_slow = true;
  Result<Exchange::Answer> answer = co_await exchange_->ask(std::move(request));
  if (!answer) co_return answer.error();
  http::ClientResponse& response = *answer->response;
  const int status = response.status();
  if (!is_whole(status) && status != 206 && status != 416) {
    co_return co_await exchange_->refuse(std::move(*answer), Wanted::blob);
  }
  const Result<std::uint64_t> size = size_by_range(response.head(), response.content_length());
  if (!size) {
    if (by_head && size.error().code == Errc::unsupported) heads.was_useless(path, hint.passes);
    // Also behind a redirect it is an odd answer, and no outage: a download may bring the blob all the same.
    Error error = exchange_->useless(*answer, size.error());
    error.code = size.error().code;
    co_return error;
  }
  if (coding_of(response.head())) {
    co_await let_go(std::move(*answer));
    if (by_head) heads.was_useless(path, hint.passes);
    co_return co_await stat_encoded(std::move(repository), digest, *size, until);
  }
  if (*size == 0 && !is_of_empty(digest)) {
    co_return exchange_->useless(*answer, Error(Errc::upstream_protocol, "a size of 0 for a blob that is not empty"));
  }
  if (by_head) heads.was_useless(path, hint.passes);
  const oci::Descriptor found = descriptor_of(response.head(), digest, *size);
  co_await response.drain();
  co_return found;
}

// `told` is the length of what upstream sends, which may be the blob in a coding. Small ones are looked at as a whole.
Task<Result<oci::Descriptor>> HttpRegistry::stat_encoded(oci::Repository repository, oci::Digest digest,
                                                         std::uint64_t told,
                                                         std::chrono::steady_clock::time_point until) {
  auto known = exchange_->encoded_blobs.find(digest);
  if (!known) {
    const auto body = co_await runtime::within(download(std::move(repository), digest, 0, std::nullopt), until);
    if (!body) co_return Error(Errc::upstream_timeout, "upstream sends that blob encoded, too slowly to tell its size");
    if (!*body) co_return body->error();
    known = exchange_->encoded_blobs.find(digest);
  }
  if (known && known->encoded && !known->size) {
    co_return Error(Errc::upstream_protocol, "upstream sends that blob encoded, so its size cannot be told");
  }
  const auto claimed = exchange_->encoded_blobs.claimed_size(digest);
  if (!(known && known->size) && claimed && *claimed != told) {
    co_return Error(Errc::upstream_protocol, "upstream sends that blob encoded, so its size cannot be told");
  }
  const std::uint64_t size = known && known->size ? *known->size : told;
  co_return oci::Descriptor{digest, size, std::string(oci::media_type::kOctetStream)};
}

void HttpRegistry::note_claimed_size(const oci::Digest& digest, std::uint64_t size_bytes) {
  exchange_->encoded_blobs.note_claimed_size(digest, size_bytes);
}

void HttpRegistry::note_mismatch(const oci::Digest& digest) {
  exchange_->encoded_blobs.note_mismatch(digest);
  exchange_->download_was_wrong(digest.to_string());
}

Task<Result<std::unique_ptr<BlobBody>>> HttpRegistry::open_blob(oci::Repository repository, oci::Digest digest,
                                                                std::uint64_t offset) {
  co_return co_await download(std::move(repository), digest, offset, std::nullopt);
}

Task<Result<std::unique_ptr<BlobBody>>> HttpRegistry::open_blob_range(oci::Repository repository, oci::Digest digest,
                                                                      std::uint64_t first, std::uint64_t last) {
  co_return co_await download(std::move(repository), digest, first, last);
}

Task<Result<std::unique_ptr<BlobBody>>> HttpRegistry::download(oci::Repository repository, oci::Digest digest,
                                                               std::uint64_t offset,
                                                               std::optional<std::uint64_t> last) {
  const auto known = exchange_->encoded_blobs.find(digest);
  const bool encoded = known && known->encoded;
  // Offsets in what upstream sends are not those of the blob.
  if (encoded && last) co_return Error(Errc::unsupported, "upstream sends that blob encoded, so it is fetched whole");
  if (encoded) offset = 0;
  for (bool again = false;; again = true) {
    std::optional<Coding> coding;
    auto body = co_await download_once(repository, digest, offset, last, &coding);
    if (!body || !coding) co_return body;
    const bool judged = known && known->size;  // else it was a guess
    if (last && !judged) {
      co_return Error(Errc::unsupported, "a range of what may be encoded (Content-Encoding), so it is fetched whole");
    }
    if ((*body)->offset() != 0 || last || (judged && !encoded)) co_return body;
    const bool redirected = (*body)->is_redirected();
    auto opened = co_await open_encoded(std::move(*body), *coding, digest, exchange_->encoded_blobs);
    if (opened) co_return opened;
    if (!again && opened.error().code == Errc::upstream_unreachable) continue;
    co_return redirected ? hidden(opened.error()) : opened.error();
  }
}

Task<Result<std::unique_ptr<BlobBody>>> HttpRegistry::download_once(oci::Repository repository, oci::Digest digest,
                                                                    std::uint64_t offset,
                                                                    std::optional<std::uint64_t> last,
                                                                    std::optional<Coding>* coding) {
  const std::string name = exchange_->upstream_name(repository);
  Exchange::Request request{"GET", blob_path(name, digest), name, {kIdentity}, Wanted::blob,
                            true,  client_authorization_};
  if (last) {
    request.fields.emplace_back("Range", fmt::format("bytes={}-{}", offset, *last));
  } else if (offset > 0) {
    request.fields.emplace_back("Range", fmt::format("bytes={}-", offset));
  }
  request.asker = asker_;
  // No byte of a range can be held against the digest.
  request.verified = !last;
  if (last && exchange_->params.http_redirects) {
    co_return Error(Errc::unsupported, "ranges may come over plain HTTP from this upstream (http_redirects)");
  }
  request.is_short = last && *last - offset < kShortRangeBytes;
  request.patient = offset > 0 && !last;
  request.may_be_slow = offset == 0 && !last;
  request.avoid = exchange_->broken_at(digest.to_string());
  request.urgency = urgency_;
  request.oddity = [&digest](const http::ReceivedHead& head) { return oddity(head, digest); };
  Extent extent;
  request.check = [&extent, &digest, offset, last](http::ClientResponse& response) -> Result<void> {
    const http::ReceivedHead& head = response.head();
    const std::optional<std::uint64_t> length = response.content_length();
    const Result<Extent> found =
        last ? check_blob_range(head, length, offset, *last) : check_blob(head, length, digest, offset);
    if (!found) return found.error();
    extent = *found;
    return {};
  };
  Result<Exchange::Answer> answer = co_await exchange_->ask(std::move(request));
  if (!answer) co_return answer.error();
  if (answer->response->status() / 100 != 2) {
    co_return co_await exchange_->refuse(std::move(*answer), Wanted::blob);
  }
  *coding = coding_of(answer->response->head());
  if (!last && exchange_->has_several_endpoints()) exchange_->download_begun(digest.to_string(), answer->endpoint);
  HttpBlobBody::OnFailure on_failure = [exchange = exchange_.get(), digest,
                                        endpoint = answer->endpoint](const Error& why) {
    exchange->download_broke(digest.to_string(), endpoint, why);
  };
  co_return std::unique_ptr<BlobBody>(
      std::make_unique<HttpBlobBody>(std::move(*answer), extent, std::move(on_failure)));
}

Task<Result<ManifestAnswer>> HttpRegistry::get_manifest(oci::Repository repository, oci::Reference reference,
                                                        std::string accept) {
  return fetch_manifest(std::move(repository), std::move(reference), std::move(accept), {});
}

Task<Result<ManifestAnswer>> HttpRegistry::fetch_manifest(oci::Repository repository, oci::Reference reference,
                                                          std::string accept, Before asked_before) {
  const std::string name = exchange_->upstream_name(repository);
  if (accept.empty()) accept = oci::manifest_accept();
  Exchange::Request request{
      "GET", manifest_path(name, reference), name, {{"Accept", std::move(accept)}, kIdentity}, Wanted::manifest,
      true,  client_authorization_};
  request.asker = asker_;
  request.verified = reference.is_digest();
  request.tries_before = asked_before.tries;
  request.wait_before = asked_before.wait;
  request.latest = asked_before.until;
  std::optional<oci::Digest> asked;
  if (reference.is_digest()) asked = reference.digest();
  request.oddity = [asked](const http::ReceivedHead& head) { return oddity(head, asked); };
  std::optional<ManifestAnswer> before;
  for (bool again = false;; again = true) {
    Result<Exchange::Answer> answer = co_await exchange_->ask(request);
    if (!answer) co_return answer.error();
    if (answer->response->status() / 100 != 2) {
      co_return co_await exchange_->refuse(std::move(*answer), Wanted::manifest);
    }
    const std::size_t endpoint = answer->endpoint;
    ReadManifest read = co_await read_manifest(*answer->response, reference);
    if (read.manifest) {
      if (!reference.is_digest() && read.manifest->has_named_digest) exchange_->tag_digests.was_useful(request.path);
      co_return std::move(read.manifest);
    }
    // Where a mismatch has proved to be the registry's habit, another one is believed at once.
    if (read.doubtful && !exchange_->tag_digests.are_useful(request.path)) co_return std::move(*read.doubtful);
    // What comes twice was not changed on the way: upstream means it, and its head says something else.
    if (before && read.doubtful && before->body == read.doubtful->body) {
      exchange_->tag_digests.was_useless(request.path, false);
      co_return std::move(*read.doubtful);
    }
    const Error useless = exchange_->useless(*answer, read.manifest.error());
    if (again) co_return useless;
    // Small enough to be worth asking for once more when the connection broke under it, or for asking somebody else.
    const bool broke = read.manifest.error().code == Errc::upstream_unreachable || read.doubtful;
    if (!broke && (!exchange_->has_several_endpoints() || endpoint >= 64)) co_return useless;
    before = std::move(read.doubtful);
    if (endpoint < 64) request.avoid |= std::uint64_t{1} << endpoint;
  }
}

Task<Result<ManifestHead>> HttpRegistry::stat_manifest(oci::Repository repository, oci::Reference reference,
                                                       std::string accept) {
  const auto until = std::chrono::steady_clock::now() + exchange_->params.request_timeout;
  const std::string name = exchange_->upstream_name(repository);
  if (accept.empty()) accept = oci::manifest_accept();
  HeadHints& heads = exchange_->manifest_heads;
  const std::string path = manifest_path(name, reference);
  const bool by_head = heads.are_useful(path);
  Exchange::Hint hint;
  if (by_head) {
    Exchange::Request request{
        "HEAD", path, name, {{"Accept", accept}, kIdentity}, Wanted::manifest, true, client_authorization_};
    request.asker = asker_;
    request.verified = reference.is_digest();
    request.latest = until;
    auto asked = co_await exchange_->hint(std::move(request), [reference](const http::ClientResponse& response) {
      return is_usable_manifest_head(response, reference);
    });
    if (!asked) co_return asked.error();
    hint = std::move(*asked);
  }
  if (hint.answer) {
    heads.was_useful(path);
    const http::ClientResponse& response = *hint.answer->response;
    co_return ManifestHead{digest_of(response.head()), response.content_length(), media_type_of(response.head())};
  }
  // A GET counts against quotas, so only where it must.
  Result<ManifestAnswer> whole =
      co_await fetch_manifest(std::move(repository), std::move(reference), std::move(accept),
                              {.tries = hint.passes ? std::size_t{1} : 0, .wait = hint.wait, .until = until});
  if (!whole) co_return whole.error();
  if (by_head) heads.was_useless(path, hint.passes);
  ManifestHead head{whole->digest, whole->body.size(), whole->media_type};
  head.whole = std::make_shared<const ManifestAnswer>(std::move(*whole));
  co_return head;
}

Task<Result<void>> HttpRegistry::ping() {
  Exchange::Request request{"GET", "/v2/", {}, {}, Wanted::registry, false, client_authorization_};
  request.asker = asker_;
  Result<Exchange::Answer> answer = co_await exchange_->ask(std::move(request));
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
