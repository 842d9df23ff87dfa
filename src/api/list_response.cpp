#include "api/list_response.hpp"

#include <algorithm>
#include <span>

#include "api/cache_status.hpp"
#include "http/query.hpp"
#include "http/response_head.hpp"
#include "http/url.hpp"
#include "oci/media_type.hpp"
#include "pull/list_json.hpp"

namespace sluice::api {
namespace {

constexpr std::size_t kMaxTagsOnAPage = 10'000;
constexpr std::size_t kMaxRepositoriesOnAPage = 1'000;
// Clients take manifests of 4 MiB, and not all of them follow a Link: few lists need a second page.
constexpr std::size_t kMaxReferrersBytesOnAPage = std::size_t{1} << 20;

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
runtime::Task<void> send_names(http::Exchange& exchange, std::string opening, const pull::Page& page,
                               std::string extra_fields) {
  const std::size_t bytes = opening.size() + page.names.size() + pull::kListClosing.size();
  ListSender sender(exchange, list_head(oci::media_type::kJson, bytes, extra_fields));
  Result<void> sent = co_await sender.add(opening);
  if (sent) sent = co_await sender.add(page.names);
  if (sent) sent = co_await sender.add(pull::kListClosing);
  if (sent) co_await sender.finish();
}

runtime::Task<void> send_referrers(http::Exchange& exchange, const pull::ReferrerList& list,
                                   const pull::ReferrerList::Page& page, std::string extra_fields) {
  const std::size_t bytes = pull::referrers_opening().size() + page.bytes + pull::kListClosing.size();
  ListSender sender(exchange, list_head(oci::media_type::kOciIndex, bytes, extra_fields));
  Result<void> sent = co_await sender.add(pull::referrers_opening());
  std::size_t at = page.first;
  for (bool first = true; sent; first = false) {
    const std::string_view piece = list.piece(page, at);
    if (piece.empty()) break;
    if (!first) sent = co_await sender.add(",");
    if (sent) sent = co_await sender.add(piece);
  }
  if (sent) sent = co_await sender.add(pull::kListClosing);
  if (sent) co_await sender.finish();
}

std::string referrers_link(std::string_view path, std::string_view ns, std::string_view artifact_type,
                           const pull::ReferrerList::Page& page) {
  if (page.after.empty()) return {};
  std::string out("Link: <");
  out.append(path).append("?last=").append(http::percent_encode(page.after));
  if (!artifact_type.empty()) out += "&artifactType=" + http::percent_encode(artifact_type);
  if (!ns.empty()) out += "&ns=" + http::percent_encode(ns);
  return out + ">; rel=\"next\"\r\n";
}

}  // namespace

runtime::Task<Result<access::CacheResult>> ListResponder::tags(http::Exchange& exchange, access::Route route,
                                                               std::string name, Asked asked) {
  const Result<pull::Listings::Listed> listed = co_await listings_->tags(std::move(route));
  if (!listed) co_return listed.error();
  const Result<ListMemory::Held> held = memory_.hold(listed->names.get(), listed->names->bytes(), asked.client);
  if (!held) co_return held.error();
  asked.extra_fields += cache_fields(listed->result);
  const pull::Page page = listed->names->page(asked.page, kMaxTagsOnAPage);
  asked.extra_fields += pull::link_field(exchange.request().path(), asked.ns, asked.page, page);
  co_await send_names(exchange, pull::tags_opening(name), page, std::move(asked.extra_fields));
  co_return listed->result;
}

runtime::Task<Result<access::CacheResult>> ListResponder::catalog(
    http::Exchange& exchange, std::shared_ptr<const access::Upstreams::Upstream> only,
    const access::RepositoryRules* rules, Asked asked) {
  const Result<pull::Listings::Listed> listed = co_await listings_->repositories(std::move(only), rules);
  if (!listed) co_return listed.error();
  const Result<ListMemory::Held> held = memory_.hold(listed->names.get(), listed->names->bytes(), asked.client);
  if (!held) co_return held.error();
  const pull::Page page = listed->names->page(asked.page, kMaxRepositoriesOnAPage);
  asked.extra_fields += pull::link_field(exchange.request().path(), asked.ns, asked.page, page);
  co_await send_names(exchange, std::string(pull::kCatalogOpening), page, std::move(asked.extra_fields));
  co_return listed->result;
}

runtime::Task<Result<access::CacheResult>> ListResponder::referrers(http::Exchange& exchange, access::Route route,
                                                                    oci::Digest subject, Asked asked) {
  const std::string artifact_type = http::query_parameter(exchange.request().query(), "artifactType");
  const Result<pull::Referrers::Found> found = co_await referrers_->find(std::move(route), std::move(subject));
  if (!found) co_return found.error();
  const Result<ListMemory::Held> held = memory_.hold(found->list.get(), found->list->bytes(), asked.client);
  if (!held) co_return held.error();
  asked.extra_fields += cache_fields(found->result);
  if (!artifact_type.empty()) asked.extra_fields += "OCI-Filters-Applied: artifactType\r\n";
  const std::string last = http::query_parameter(exchange.request().query(), "last");
  const pull::ReferrerList::Page page = found->list->page(artifact_type, last, kMaxReferrersBytesOnAPage);
  asked.extra_fields += referrers_link(exchange.request().path(), asked.ns, artifact_type, page);
  co_await send_referrers(exchange, *found->list, page, std::move(asked.extra_fields));
  co_return found->result;
}

}  // namespace sluice::api
