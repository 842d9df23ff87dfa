// What /readyz says of upstreams: which do not answer, which are not asked, and which refuse our login. It is a remark
// only: what is stored is served without any, so no outage makes the cache unready.
//
// Threads: all functions are thread-safe. Owned by the composition root; the Readiness outlives it.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "access/upstreams.hpp"
#include "admin/readiness.hpp"
#include "runtime/task.hpp"

namespace sluice::app {

class UpstreamWatch {
 public:
  explicit UpstreamWatch(admin::Readiness& readiness);

  // What is wrong with the upstream, read on from its name ("does not answer: …", "is not asked (offline)"); nothing is
  // when `why` is empty.
  void tell(std::string_view upstream, std::string_view why);
  // The same of our login there.
  void tell_login(std::string_view upstream, std::string_view why);

  // Asks the default upstream once, so that an outage is known before the first client finds it out, and afterwards
  // those that did not answer, now and then, until they do. Until it is cancelled.
  runtime::Task<void> keep_asking(const access::Upstreams& upstreams);

 private:
  using Reasons = std::map<std::string, std::string, std::less<>>;  // by upstream
  void set(Reasons& of, std::string_view upstream, std::string_view why);
  void show();
  static runtime::Task<void> ask(const access::Upstreams& upstreams, std::vector<std::string> names);
  std::vector<std::string> those_wrong();

  const admin::Readiness::Condition condition_;
  std::mutex mutex_;  // guards what follows
  Reasons wrong_;
  Reasons logins_;
};

}  // namespace sluice::app
