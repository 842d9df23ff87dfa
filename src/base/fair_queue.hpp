// FairQueue: items that wait, by client. The clients take turns; the items of one client keep their order. So a client
// with many items delays itself and hardly others. Not thread-safe.
#pragma once

#include <algorithm>
#include <list>
#include <unordered_map>
#include <utility>

#include "base/network.hpp"

namespace sluice {

template <class T>
class FairQueue {
 public:
  [[nodiscard]] bool empty() const noexcept { return turns_.empty(); }

  // `client` as in IpAddress::client_key; `::` where it is for nobody.
  void push(const IpAddress& client, T item) {
    std::list<T>& line = lines_[client];
    if (line.empty()) turns_.push_back(client);
    line.push_back(std::move(item));
  }

  // What comes next. Only where there is something.
  [[nodiscard]] T& front() { return lines_.at(turns_.front()).front(); }
  void pop() {
    const auto at = lines_.find(turns_.front());
    at->second.pop_front();
    if (at->second.empty()) {
      lines_.erase(at);
      turns_.pop_front();
    } else {
      turns_.splice(turns_.end(), turns_, turns_.begin());
    }
  }

  // False where it is not waiting here.
  bool erase(const IpAddress& client, const T& item) {
    const auto at = lines_.find(client);
    if (at == lines_.end()) return false;
    const auto found = std::find(at->second.begin(), at->second.end(), item);
    if (found == at->second.end()) return false;
    at->second.erase(found);
    if (at->second.empty()) {
      lines_.erase(at);
      turns_.remove(client);
    }
    return true;
  }

 private:
  std::unordered_map<IpAddress, std::list<T>, IpAddressHash> lines_;  // none is empty
  std::list<IpAddress> turns_;                                        // the keys of lines_
};

}  // namespace sluice
