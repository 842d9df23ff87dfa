#include "admin/readiness.hpp"

#include <algorithm>

namespace sluice::admin {

void Readiness::Condition::met() const {
  const std::scoped_lock lock(readiness_->mutex_);
  entry_->met = true;
  entry_->reason.clear();
}

void Readiness::Condition::met_but(std::string_view remark) const {
  const std::scoped_lock lock(readiness_->mutex_);
  entry_->met = true;
  entry_->reason = remark;
}

void Readiness::Condition::unmet(std::string_view reason) const {
  const std::scoped_lock lock(readiness_->mutex_);
  entry_->met = false;
  entry_->reason = reason;
}

Readiness::Condition Readiness::add(std::string_view name, std::string_view reason) {
  const std::scoped_lock lock(mutex_);
  return {*this, entries_.emplace_back(Entry{std::string(name), false, std::string(reason)})};
}

std::vector<Readiness::Check> Readiness::checks() const {
  const std::scoped_lock lock(mutex_);
  std::vector<Check> out;
  out.reserve(entries_.size());
  for (const Entry& entry : entries_) out.push_back({entry.name, entry.met, entry.reason});
  return out;
}

bool Readiness::ready() const {
  const std::scoped_lock lock(mutex_);
  return std::all_of(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.met; });
}

}  // namespace sluice::admin
