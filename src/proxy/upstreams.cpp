#include "proxy/upstreams.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace sluice::proxy {
namespace {

// Docker Hub's other names, which clients put into `ns` and old configurations into image references.
constexpr std::array<std::string_view, 3> kDockerHubNames{"index.docker.io", "registry-1.docker.io",
                                                          "registry.hub.docker.com"};

std::string normalized(std::string_view name) {
  std::string out(name);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  if (std::find(kDockerHubNames.begin(), kDockerHubNames.end(), out) != kDockerHubNames.end()) return "docker.io";
  return out;
}

// A client's text as it may stand in a log line.
std::string printable(std::string_view text) {
  std::string out(text.substr(0, 255));
  std::replace_if(out.begin(), out.end(), [](char c) { return c <= ' ' || c >= 0x7F || c == '"'; }, '?');
  return out;
}

}  // namespace

void Upstreams::add(std::unique_ptr<upstream::Registry> registry, bool library_prefix) {
  std::string name = normalized(registry->name());
  by_name_[std::move(name)] = Entry{std::move(registry), library_prefix};
}

const Upstreams::Entry* Upstreams::entry(std::string_view name) const {
  auto at = by_name_.find(name);
  if (at == by_name_.end()) at = by_name_.find(normalized(name));
  return at == by_name_.end() ? nullptr : &at->second;
}

upstream::Registry* Upstreams::find(std::string_view name) const {
  const Entry* found = entry(name);
  return found == nullptr ? nullptr : found->registry.get();
}

Result<Route> Upstreams::resolve(std::string_view ns, std::string_view name) const {
  std::string_view upstream_name = params_.default_name;
  const Entry* chosen = nullptr;
  if (!ns.empty()) {
    upstream_name = ns;
    chosen = entry(ns);
  } else {
    const std::size_t slash = name.find('/');
    const std::string_view first = name.substr(0, slash);
    // As in image references only what has a dot or a port is a host, so that library/… never costs a look-up.
    if (slash != std::string_view::npos && first.find_first_of(".:") != std::string_view::npos) chosen = entry(first);
    if (chosen != nullptr) {
      name.remove_prefix(slash + 1);
    } else {
      chosen = entry(upstream_name);
    }
  }
  if (chosen == nullptr) {
    return Error{Errc::name_unknown, fmt::format("no upstream named \"{}\" is configured", printable(upstream_name))};
  }
  Result<oci::Repository> repository = oci::Repository::parse(name);
  if (!repository) return repository.error();
  if (chosen->library_prefix && name.find('/') == std::string_view::npos) {
    repository = oci::Repository::parse("library/" + std::string(name));
    if (!repository) return repository.error();
  }
  std::string scope_text(chosen->registry->name());
  scope_text.append("/").append(repository->str());
  Result<descriptors::Scope> scope = descriptors::Scope::repository(scope_text);
  if (!scope) return scope.error();
  return Route{chosen->registry.get(), std::move(*repository), std::move(*scope)};
}

}  // namespace sluice::proxy
