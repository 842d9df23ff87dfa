// The upstreams that the configuration names, and which of them a request means.
//
// A closed world: a name in `ns` or in front of the path is looked up here and never dialled.
// Threads: read from any thread once it is filled.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "descriptors/scope.hpp"
#include "oci/name.hpp"
#include "upstream/registry.hpp"

namespace sluice::proxy {

// Where one request goes.
struct Route {
  upstream::Registry* registry;  // never null; lives as long as the Upstreams
  oci::Repository repository;    // as upstream knows it
  descriptors::Scope scope;      // "docker.io/library/busybox": what keeps two upstreams' names apart in the cache
};

class Upstreams {
 public:
  struct Params {
    // The upstream for requests that name none. Must be added before the first resolve().
    std::string default_name = "docker.io";
  };

  explicit Upstreams(Params params) : params_(std::move(params)) {}

  // `library_prefix`: one-part names live under library/, as on Docker Hub.
  void add(std::unique_ptr<upstream::Registry> registry, bool library_prefix);

  // `ns` is the query parameter that containerd sends, empty where there is none; `name` the repository in the path.
  // Without `ns`, a first part of `name` that is a configured upstream names it: ghcr.io/owner/app.
  // Errors: name_invalid; name_unknown for an upstream that is not configured.
  [[nodiscard]] Result<Route> resolve(std::string_view ns, std::string_view name) const;

  [[nodiscard]] upstream::Registry* find(std::string_view name) const;
  [[nodiscard]] const std::string& default_name() const noexcept { return params_.default_name; }

 private:
  struct Entry {
    std::unique_ptr<upstream::Registry> registry;
    bool library_prefix = false;
  };
  [[nodiscard]] const Entry* entry(std::string_view name) const;

  const Params params_;
  std::map<std::string, Entry, std::less<>> by_name_;
};

}  // namespace sluice::proxy
