// What /readyz says of upstreams: which do not answer, and which are not asked. It is a remark only: what is stored is
// served without any, so no outage makes the cache unready.
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

  // The upstream does not answer, or is not asked, and why; nothing is wrong with it when `why` is empty.
  void tell(std::string_view upstream, std::string_view why);

  // Asks the default upstream once, so that an outage is known before the first client finds it out, and afterwards
  // those that did not answer, now and then, until they do. Until it is cancelled.
  runtime::Task<void> keep_asking(const access::Upstreams& upstreams);

 private:
  void show();
  static runtime::Task<void> ask(const access::Upstreams& upstreams, std::vector<std::string> names);
  std::vector<std::string> those_wrong();

  const admin::Readiness::Condition condition_;
  std::mutex mutex_;  // guards wrong_
  std::map<std::string, std::string, std::less<>> wrong_;
};

}  // namespace sluice::app
