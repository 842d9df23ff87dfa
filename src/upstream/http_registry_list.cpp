// Lists of an HttpRegistry: tags and referrers.
#include "upstream/http_registry.hpp"

#include <algorithm>
#include <atomic>
#include <utility>

#include <fmt/format.h>

#include "oci/media_type.hpp"
#include "upstream/aside.hpp"
#include "upstream/coding.hpp"
#include "upstream/content.hpp"
#include "upstream/encoded_body.hpp"
#include "upstream/exchange.hpp"
#include "upstream/next_page.hpp"
#include "upstream/one_of_few.hpp"

namespace sluice::upstream {

using runtime::Task;

namespace {

std::string_view path_of(std::string_view target) { return target.substr(0, target.find('?')); }

bool is_referrers(std::string_view path) { return path.find("/referrers/") != std::string_view::npos; }

// What registries without the referrers API answer at its path besides 404.
bool is_no_api(int status) { return status == 405 || status == 406 || status == 410 || status == 501; }

bool may_be_json(std::string_view body) {
  const std::size_t begins = body.find_first_not_of(" \t\r\n");
  return begins != std::string_view::npos && body[begins] == '{';
}

constexpr int kMostLarge = 2;  // lists that are held in memory at the same time

Task<Result<std::string>> read_list(http::ClientResponse& response, std::size_t limit, std::atomic<int>& large) {
  constexpr std::size_t kPiece = std::size_t{64} << 10;
  OneOfFew turn(large, kMostLarge);
  std::string out;
  std::size_t size = 0;
  while (true) {
    if (size > kMaxListBytes && !turn.take()) co_return Error(Errc::overloaded, "too many large lists at once");
    // Capacity doubles; only what is about to be read is cleared.
    if (size == out.size()) out.resize(std::min(limit, size + kPiece) + 1);
    const Result<std::size_t> n = co_await response.read(std::as_writable_bytes(std::span(out)).subspan(size));
    if (!n) co_return n.error();
    if (*n == 0) break;
    size += *n;
    if (size > limit) co_return Error(Errc::upstream_protocol, fmt::format("a list of more than {} bytes", limit));
  }
  out.resize(size);
  co_return out;
}

// A list that upstream has compressed all the same, as far as it may be long. One that is not in that coding is what it
// is.
Task<Result<std::string>> decode_list(Coding coding, std::string body, std::atomic<int>& large) {
  if (!may_begin(coding, body)) co_return body;
  OneOfFew turn(large, kMostLarge);
  const bool may_be_large = turn.take();
  const auto encoded = std::make_shared<const std::string>(std::move(body));
  // A list repeats itself, but not without end.
  constexpr std::size_t kAlwaysDecoded = std::size_t{1} << 20;
  const std::size_t limit = std::min(may_be_large ? kMaxTagListBytes : kMaxListBytes,
                                     std::max(kAlwaysDecoded, EncodedBlobs::kMaxTimesDecoded * encoded->size()));
  co_return co_await do_aside<std::string>([encoded, coding, limit]() -> Result<std::string> {
    Result<std::string> decoded = decode(coding, *encoded, limit);
    // A deflate stream cannot be told by how it begins.
    if (!decoded && coding == Coding::deflate && encoded->starts_with('{')) return *encoded;
    return decoded;
  });
}

}  // namespace

Task<Result<ListAnswer>> HttpRegistry::list(oci::Repository repository, std::string what) {
  const std::string name = exchange_->upstream_name(repository);
  const std::string path = what.starts_with('/') ? std::move(what) : fmt::format("/v2/{}/{}", name, what);
  Exchange::Request request{
      "GET",
      path,
      name,
      {{"Accept", fmt::format("{}, application/json", oci::media_type::kOciIndex)}, {"Accept-Encoding", "identity"}},
      Wanted::manifest,
      true,
      client_authorization_};
  request.asker = asker_;
  for (bool again = false;; again = true) {
    Result<Exchange::Answer> answer = co_await exchange_->ask(request);
    if (!answer) co_return answer.error();
    http::ClientResponse& response = *answer->response;
    if (response.status() / 100 != 2) {
      const bool no_api = is_no_api(response.status()) && is_referrers(path);
      Error error = co_await exchange_->refuse(std::move(*answer), Wanted::manifest);
      if (no_api) error.code = Errc::unsupported;
      co_return error;
    }
    if (const auto whole = check_whole(response.head(), response.content_length()); !whole) {
      co_return exchange_->useless(*answer, whole.error());
    }
    const Result<void> fits = check_content(response.head());
    ListAnswer out;
    if (const std::string next = next_link(response.head()); !next.empty()) {
      // A Link of no use is no reason to throw this page away.
      Result<std::string> followed = exchange_->next_path(*answer, path, next);
      out.next_is_unusable = !followed;
      if (followed) out.next = std::move(*followed);
    }
    out.media_type = media_type_of(response.head());
    const bool tags = path_of(path).ends_with("/tags/list");
    Result<std::string> body =
        co_await read_list(response, tags ? kMaxTagListBytes : kMaxListBytes, exchange_->large_lists);
    // As a manifest, it is asked for once more when the connection broke under it.
    if (!body && body.error().code == Errc::upstream_unreachable && !again) continue;
    if (const std::optional<Coding> coding = coding_of(response.head()); body && coding) {
      body = co_await decode_list(*coding, std::move(*body), exchange_->large_lists);
    }
    if (!body) co_return exchange_->useless(*answer, body.error());
    // A list is one whatever its type says, and a page is none.
    if (!fits && !may_be_json(*body)) co_return exchange_->useless(*answer, fits.error());
    out.body = std::move(*body);
    co_return out;
  }
}

}  // namespace sluice::upstream
