#include "app/upstream_watch.hpp"

#include <chrono>

#include <fmt/format.h>

#include "runtime/every.hpp"

namespace sluice::app {
namespace {

constexpr std::chrono::seconds kPause{30};

}  // namespace

UpstreamWatch::UpstreamWatch(admin::Readiness& readiness) : condition_(readiness.add("upstreams")) { condition_.met(); }

void UpstreamWatch::tell(std::string_view upstream, std::string_view why) { set(wrong_, upstream, why); }

void UpstreamWatch::tell_login(std::string_view upstream, std::string_view why) { set(logins_, upstream, why); }

void UpstreamWatch::set(Reasons& of, std::string_view upstream, std::string_view why) {
  const std::scoped_lock lock(mutex_);
  if (why.empty()) {
    const auto known = of.find(upstream);
    if (known == of.end()) return;
    of.erase(known);
  } else {
    of.insert_or_assign(std::string(upstream), std::string(why));
  }
  show();
}

void UpstreamWatch::show() {
  std::string remark;
  const auto add = [&remark](const Reasons& reasons) {
    for (const auto& [name, why] : reasons) remark += fmt::format("{}{} {}", remark.empty() ? "" : "; ", name, why);
  };
  add(wrong_);
  if (!wrong_.empty()) remark += "; serving from cache";
  add(logins_);
  remark.empty() ? condition_.met() : condition_.met_but(remark);
}

runtime::Task<void> UpstreamWatch::keep_asking(const access::Upstreams& upstreams) {
  co_await runtime::attempt("upstreams", ask(upstreams, {upstreams.default_name()}));
  co_await runtime::every("upstreams", kPause, [this, &upstreams] { return ask(upstreams, those_wrong()); });
}

runtime::Task<void> UpstreamWatch::ask(const access::Upstreams& upstreams, std::vector<std::string> names) {
  for (const std::string& name : names) {
    const std::shared_ptr<upstream::Registry> registry = upstreams.find(name);
    if (registry == nullptr) continue;
    // How it went, the registry tells whoever watches it.
    const Result<void> pinged = co_await registry->ping();
    static_cast<void>(pinged);
  }
}

std::vector<std::string> UpstreamWatch::those_wrong() {
  const std::scoped_lock lock(mutex_);
  std::vector<std::string> names;
  names.reserve(wrong_.size());
  for (const auto& [name, why] : wrong_) names.push_back(name);
  return names;
}

}  // namespace sluice::app
