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
  return {*this, entries_.emplace_back(Check{std::string(name), false, std::string(reason)})};
}

std::vector<Readiness::Check> Readiness::checks() const {
  const std::scoped_lock lock(mutex_);
  return {entries_.begin(), entries_.end()};
}

bool Readiness::all_met(const std::vector<Check>& checks) {
  return std::all_of(checks.begin(), checks.end(), [](const Check& check) { return check.met; });
}

}  // namespace sluice::admin
