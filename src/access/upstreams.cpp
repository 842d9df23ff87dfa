#include "access/upstreams.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/upstream_name.hpp"

namespace sluice::access {
namespace {

// A client's text as it may stand in a log line.
std::string printable(std::string_view text) {
  std::string out(text.substr(0, 255));
  std::replace_if(out.begin(), out.end(), [](char c) { return c <= ' ' || c >= 0x7F || c == '"'; }, '?');
  return out;
}

Error unknown(std::string_view upstream_name) {
  return {Errc::name_unknown, fmt::format("no upstream named \"{}\" is configured", printable(upstream_name))};
}

}  // namespace

store::Origin origin_of(const Route& route) {
  return {std::string(origin_name(route)), route.registry->rights(route.repository)};
}

Upstreams::Upstreams(Params params) : params_(std::move(params)) {
  const std::size_t star = params_.host_pattern.find('*');
  if (star == std::string::npos) return;
  host_prefix_ = params_.host_pattern.substr(0, star);
  host_suffix_ = params_.host_pattern.substr(star + 1);
}

void Upstreams::add(std::unique_ptr<upstream::Registry> registry, Options options,
                    std::shared_ptr<const UpstreamMetrics> metrics) {
  Table table = *this->table();
  std::string name = key(registry->name());
  table[std::move(name)] = std::make_shared<const Upstream>(Upstream{std::move(registry), options, std::move(metrics)});
  replace(std::move(table));
}

std::string Upstreams::key(std::string_view name) { return canonical_upstream_name(name); }

void Upstreams::replace(Table table) {
  auto shared = std::make_shared<const Table>(std::move(table));
  const std::scoped_lock lock(mutex_);
  table_.swap(shared);  // the old one goes after the lock
  version_.changed();
}

void Upstreams::set_terms(const RightsTerms& terms) {
  Table table = *this->table();
  for (auto& [name, upstream] : table) {
    const auto at = terms.find(upstream->registry->name());
    if (at == terms.end()) continue;
    Upstream changed = *upstream;
    changed.term = at->second;
    upstream = std::make_shared<const Upstream>(std::move(changed));
  }
  replace(std::move(table));
}

std::shared_ptr<const Upstreams::Table> Upstreams::table() const {
  const std::scoped_lock lock(mutex_);
  return table_;
}

const std::shared_ptr<const Upstreams::Upstream>* Upstreams::look_up(const Table& table, std::string_view name) {
  auto at = table.find(name);
  if (at == table.end()) at = table.find(key(name));
  return at == table.end() ? nullptr : &at->second;
}

std::shared_ptr<const Upstreams::Upstream> Upstreams::upstream(std::string_view name) const {
  const std::shared_ptr<const Table> current = table();
  const auto* const found = look_up(*current, name);
  return found == nullptr ? nullptr : *found;
}

std::shared_ptr<upstream::Registry> Upstreams::find(std::string_view name) const {
  const std::shared_ptr<const Upstream> found = upstream(name);
  return found == nullptr ? nullptr : found->registry;
}

std::vector<std::string> Upstreams::names() const {
  std::vector<std::string> out;
  for (const auto& [name, found] : *table()) out.emplace_back(found->registry->name());
  return out;
}

std::vector<std::string> Upstreams::origin_names() const {
  std::vector<std::string> out;
  for (const auto& [name, found] : *table()) {
    out.emplace_back(found->term ? std::string_view(found->term->origin) : found->registry->name());
  }
  return out;
}

std::optional<std::string> Upstreams::name_in(std::string_view host) const {
  if (params_.host_pattern.empty()) return std::nullopt;
  // Names compare without case (RFC 9110 section 4.2.3), and a port says nothing here.
  const std::string name = canonical_upstream_name(host.substr(0, host.rfind(':')));
  if (name.size() <= host_prefix_.size() + host_suffix_.size()) return std::nullopt;
  if (!name.starts_with(host_prefix_) || !name.ends_with(host_suffix_)) return std::nullopt;
  return name.substr(host_prefix_.size(), name.size() - host_prefix_.size() - host_suffix_.size());
}

bool Upstreams::names_one(const Named& named) const { return !named.ns.empty() || name_in(named.host).has_value(); }

Result<std::shared_ptr<const Upstreams::Upstream>> Upstreams::resolve(const Named& named) const {
  std::string name(named.ns);
  if (name.empty()) name = name_in(named.host).value_or(params_.default_name);
  if (std::shared_ptr<const Upstream> found = upstream(name)) return found;
  constexpr std::string_view kDefaultPort = ":443";
  if (name.ends_with(kDefaultPort)) {
    const std::string_view bare = std::string_view(name).substr(0, name.size() - kDefaultPort.size());
    if (std::shared_ptr<const Upstream> found = upstream(bare)) return found;
  }
  return unknown(name);
}

Result<Route> Upstreams::resolve(const Named& named, std::string_view name) const {
  const std::size_t slash = name.find('/');
  const std::string_view first = name.substr(0, slash);
  // As in image references only what has a dot or a port is a host, so that library/… never costs a look-up.
  const bool is_host = slash != std::string_view::npos && first.find_first_of(".:") > 0 &&
                       first.find_first_of(".:") != std::string_view::npos;
  std::shared_ptr<const Upstream> chosen;
  if (is_host) chosen = upstream(first);
  // k3s's `rewrite` and containerd's `override_path` name the registry twice. Any other upstream's name in front is a
  // part of the repository's name, which the upstream that `ns` names may well have.
  if (chosen != nullptr && !named.ns.empty() && upstream(named.ns) != chosen) chosen = nullptr;
  if (chosen != nullptr) {
    name.remove_prefix(slash + 1);
  } else if (is_host && !names_one(named)) {
    // A registry that is not configured. Where the default one may have such a name it is a repository's: Docker
    // Hub, which is what library/ tells, allows no dots in front.
    const std::shared_ptr<const Upstream> fallback = upstream(params_.default_name);
    if (fallback != nullptr && fallback->options.library_prefix) return unknown(first);
  }
  if (chosen == nullptr) {
    Result<std::shared_ptr<const Upstream>> found = resolve(named);
    if (!found) return found.error();
    chosen = std::move(*found);
  }
  Result<oci::Repository> repository = oci::Repository::parse(name);
  if (!repository) return repository.error();
  if (chosen->options.library_prefix && name.find('/') == std::string_view::npos) {
    repository = oci::Repository::parse("library/" + std::string(name));
    if (!repository) return repository.error();
  }
  std::string scope_text(chosen->registry->name());
  scope_text.append("/").append(repository->str());
  Result<descriptors::Scope> scope = descriptors::Scope::repository(scope_text);
  if (!scope) return scope.error();
  const std::optional<Passthrough>& passthrough = chosen->options.passthrough;
  Route route{chosen->registry.get(), std::move(*repository), std::move(*scope), passthrough ? &*passthrough : nullptr};
  route.prefetch = chosen->options.prefetch;
  route.metrics = chosen->metrics.get();
  route.term = chosen->term.get();
  if (const auto timeout = chosen->options.request_timeout; timeout.count() > 0) {
    // A little later than the request upstream ends by itself: its own error says more, for instance that our queue was
    // full, which is no outage.
    route.request_timeout = timeout;
    route.answer_by = std::chrono::steady_clock::now() + timeout + std::chrono::milliseconds(500);
  }
  route.upstream = std::move(chosen);
  return route;
}

}  // namespace sluice::access
