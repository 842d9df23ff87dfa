// The lists of the registry API: tags, referrers, the catalog (distribution-spec, "Content Discovery").
#include <algorithm>
#include <span>

#include "http/response_head.hpp"
#include "http/url.hpp"
#include "oci/media_type.hpp"
#include "proxy/api.hpp"
#include "proxy/cache_status.hpp"
#include "proxy/list_json.hpp"
#include "proxy/pages.hpp"

namespace sluice::proxy {
namespace {

constexpr std::size_t kMaxTagsOnAPage = 10'000;
constexpr std::size_t kMaxRepositoriesOnAPage = 1'000;
// Clients take manifests of 4 MiB, and not all of them follow a Link: few lists need a second page.
constexpr std::size_t kMaxReferrersBytesOnAPage = std::size_t{1} << 20;

Error no_lists() { return {Errc::name_unknown, "this cache does not list; it serves blobs and manifests"}; }

std::string list_head(std::string_view media_type, std::size_t bytes, std::string_view extra_fields) {
  http::ResponseHead head(200);
  head.add("Content-Type", media_type).content_length(bytes);
  head.add("Docker-Distribution-Api-Version", "registry/2.0");
  std::string text = head.str();
  return text.append(extra_fields);
}

// Sends a body that is mostly pieces of a shared list, without a copy of it: a client that takes nothing costs no more
// than the buffer for what is short. Each call must be awaited at once.
class ListSender {
 public:
  ListSender(http::Exchange& exchange, std::string head) : exchange_(exchange), head_(std::move(head)) {}

  runtime::Task<Result<void>> add(std::string_view text) {
    if (exchange_.request().is_head()) co_return Result<void>{};
    if (waiting_.size() + text.size() <= kBuffered) {
      waiting_ += text;
      co_return Result<void>{};
    }
    Result<void> sent = co_await flush();
    for (; sent && text.size() > kBuffered; text.remove_prefix(std::min(text.size(), kTurn))) {
      sent = co_await write(text.substr(0, kTurn));
    }
    if (sent) waiting_ = text;
    co_return sent;
  }

  runtime::Task<void> finish() {
    Result<void> sent{};
    if (!exchange_.begun()) {
      // A short one is one gathered write.
      sent = co_await exchange_.send(head_, waiting_);
    } else {
      sent = co_await flush();
      if (sent) sent = co_await exchange_.end();
    }
  }

 private:
  static constexpr std::size_t kBuffered = 4096;
  static constexpr std::size_t kTurn = std::size_t{256} << 10;  // others on the loop have theirs in between

  runtime::Task<Result<void>> write(std::string_view text) {
    if (!exchange_.begun()) {
      const Result<void> begun = co_await exchange_.begin(head_);
      if (!begun) co_return begun.error();
    }
    co_return co_await exchange_.write(std::as_bytes(std::span(text)));
  }
  runtime::Task<Result<void>> flush() {
    if (waiting_.empty()) co_return Result<void>{};
    const Result<void> sent = co_await write(waiting_);
    waiting_.clear();
    co_return sent;
  }

  http::Exchange& exchange_;
  const std::string head_;
  std::string waiting_;
};

// `{…opening…[ names ]}`
runtime::Task<void> send_names(http::Exchange& exchange, std::string opening, const Page& page,
                               std::string extra_fields) {
  const std::size_t bytes = opening.size() + page.names.size() + kListClosing.size();
  ListSender sender(exchange, list_head(oci::media_type::kJson, bytes, extra_fields));
  Result<void> sent = co_await sender.add(opening);
  if (sent) sent = co_await sender.add(page.names);
  if (sent) sent = co_await sender.add(kListClosing);
  if (sent) co_await sender.finish();
}

runtime::Task<void> send_referrers(http::Exchange& exchange, const ReferrerList& list, const ReferrerList::Page& page,
                                   std::string extra_fields) {
  const std::size_t bytes = referrers_opening().size() + page.bytes + kListClosing.size();
  ListSender sender(exchange, list_head(oci::media_type::kOciIndex, bytes, extra_fields));
  Result<void> sent = co_await sender.add(referrers_opening());
  std::size_t at = page.first;
  for (bool first = true; sent; first = false) {
    const std::string_view piece = list.piece(page, at);
    if (piece.empty()) break;
    if (!first) sent = co_await sender.add(",");
    if (sent) sent = co_await sender.add(piece);
  }
  if (sent) sent = co_await sender.add(kListClosing);
  if (sent) co_await sender.finish();
}

std::string referrers_link(std::string_view path, std::string_view ns, std::string_view artifact_type,
                           const ReferrerList::Page& page) {
  if (page.after.empty()) return {};
  std::string out("Link: <");
  out.append(path).append("?last=").append(http::percent_encode(page.after));
  if (!artifact_type.empty()) out += "&artifactType=" + http::percent_encode(artifact_type);
  if (!ns.empty()) out += "&ns=" + http::percent_encode(ns);
  return out + ">; rel=\"next\"\r\n";
}

}  // namespace

runtime::Task<Result<void>> Api::serve_tags(http::Exchange& exchange, Answered& answered, std::string ns,
                                            std::string extra_fields) {
  if (parts_.listings == nullptr) co_return no_lists();
  const Result<PageRequest> asked = parse_page(exchange.request().query());
  if (!asked) co_return asked.error();
  answered.asked = true;
  const Result<Listings::Listed> listed = co_await parts_.listings->tags(*answered.route);
  if (!listed) co_return listed.error();
  answered.cache = listed->result;
  extra_fields += cache_fields(listed->result);
  const Page page = listed->names->page(*asked, kMaxTagsOnAPage);
  extra_fields += link_field(exchange.request().path(), ns, *asked, page);
  co_await send_names(exchange, tags_opening(answered.target.name), page, std::move(extra_fields));
  co_return Result<void>{};
}

runtime::Task<Result<void>> Api::serve_catalog(http::Exchange& exchange, Answered& answered, Named named) {
  if (parts_.listings == nullptr) co_return no_lists();
  const Result<PageRequest> asked = parse_page(exchange.request().query());
  if (!asked) co_return asked.error();
  std::shared_ptr<const Upstreams::Upstream> only;
  if (parts_.upstreams.names_one(named)) {
    const Result<std::shared_ptr<const Upstreams::Upstream>> one = parts_.upstreams.resolve(named);
    if (!one) co_return one.error();
    only = *one;
  }
  answered.asked = true;
  const Listings::Listed listed = co_await parts_.listings->repositories(std::move(only), parts_.rules);
  answered.cache = listed.result;
  const Page page = listed.names->page(*asked, kMaxRepositoriesOnAPage);
  co_await send_names(exchange, std::string(kCatalogOpening), page,
                      link_field(exchange.request().path(), named.ns, *asked, page));
  co_return Result<void>{};
}

runtime::Task<Result<void>> Api::serve_referrers(http::Exchange& exchange, Answered& answered, std::string ns,
                                                 std::string extra_fields) {
  if (parts_.referrers == nullptr) co_return no_lists();
  const Result<oci::Digest> subject = oci::Digest::parse(answered.target.reference);
  if (!subject) co_return subject.error();
  const std::string_view query = exchange.request().query();
  const std::string artifact_type = query_parameter(query, "artifactType");
  answered.asked = true;
  const Result<Referrers::Found> found = co_await parts_.referrers->find(*answered.route, *subject);
  if (!found) co_return found.error();
  answered.cache = found->result;
  extra_fields += cache_fields(found->result);
  if (!artifact_type.empty()) extra_fields += "OCI-Filters-Applied: artifactType\r\n";
  const std::string last = query_parameter(query, "last");
  const ReferrerList::Page page = found->list->page(artifact_type, last, kMaxReferrersBytesOnAPage);
  extra_fields += referrers_link(exchange.request().path(), ns, artifact_type, page);
  co_await send_referrers(exchange, *found->list, page, std::move(extra_fields));
  co_return Result<void>{};
}

}  // namespace sluice::proxy
