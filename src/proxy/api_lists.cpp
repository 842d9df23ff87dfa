// The lists of the registry API: tags, referrers, the catalog (distribution-spec, "Content Discovery").
#include "http/response_head.hpp"
#include "oci/media_type.hpp"
#include "proxy/api.hpp"
#include "proxy/list_json.hpp"
#include "proxy/pages.hpp"
#include "proxy/stale_warning.hpp"

namespace sluice::proxy {
namespace {

constexpr std::size_t kMaxTagsOnAPage = 10'000;
constexpr std::size_t kMaxRepositoriesOnAPage = 1'000;

Error no_lists() { return {Errc::name_unknown, "this cache does not list; it serves blobs and manifests"}; }

runtime::Task<void> send_list(http::Exchange& exchange, std::string_view media_type, std::string body,
                              std::string extra_fields) {
  http::ResponseHead head(200);
  head.add("Content-Type", media_type).content_length(body.size());
  head.add("Docker-Distribution-Api-Version", "registry/2.0");
  const std::string text = head.str() + extra_fields;
  const Result<void> sent = co_await exchange.send(text, body);
  static_cast<void>(sent);
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
  if (listed->result == CacheResult::stale) extra_fields += kStaleWarning;
  const Page page = page_of(*listed->names, *asked, kMaxTagsOnAPage);
  extra_fields += link_field(exchange.request().path(), ns, *asked, page);
  co_await send_list(exchange, oci::media_type::kJson, tags_body(answered.target.name, page.names),
                     std::move(extra_fields));
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
  const Page page = page_of(*listed.names, *asked, kMaxRepositoriesOnAPage);
  co_await send_list(exchange, oci::media_type::kJson, catalog_body(page.names),
                     link_field(exchange.request().path(), named.ns, *asked, page));
  co_return Result<void>{};
}

runtime::Task<Result<void>> Api::serve_referrers(http::Exchange& exchange, Answered& answered,
                                                 std::string extra_fields) {
  if (parts_.referrers == nullptr) co_return no_lists();
  const Result<oci::Digest> subject = oci::Digest::parse(answered.target.reference);
  if (!subject) co_return subject.error();
  const std::string artifact_type = query_parameter(exchange.request().query(), "artifactType");
  answered.asked = true;
  const Result<Referrers::Found> found = co_await parts_.referrers->find(*answered.route, *subject);
  if (!found) co_return found.error();
  answered.cache = found->result;
  if (found->result == CacheResult::stale) extra_fields += kStaleWarning;
  if (!artifact_type.empty()) extra_fields += "OCI-Filters-Applied: artifactType\r\n";
  co_await send_list(exchange, oci::media_type::kOciIndex, referrers_body(found->referrers, artifact_type),
                     std::move(extra_fields));
  co_return Result<void>{};
}

}  // namespace sluice::proxy
