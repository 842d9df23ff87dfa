// Whether the program is ready to serve: a list of named conditions, each kept by the component that knows.
//
//   Readiness readiness;
//   Readiness::Condition storage = readiness.add("storage", "not opened yet");
//   storage.met();            // later, from any thread
//   storage.unmet("read-only file system");
//
// Threads: all functions are thread-safe. The Readiness outlives its conditions.
#pragma once

#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::admin {

class Readiness {
 public:
  struct Check {
    std::string name;
    bool met = false;
    std::string reason;  // why it is not met; when it is, a remark or nothing
  };

  // A handle; copies mean the same condition.
  class Condition {
   public:
    void met() const;
    // Met, although something is wrong: `remark` is one line for a person.
    void met_but(std::string_view remark) const;
    // `reason` is one line for a person.
    void unmet(std::string_view reason) const;

   private:
    friend class Readiness;
    Condition(Readiness& readiness, Check& entry) : readiness_(&readiness), entry_(&entry) {}
    Readiness* readiness_;
    Check* entry_;
  };

  Readiness() = default;
  Readiness(const Readiness&) = delete;
  Readiness& operator=(const Readiness&) = delete;

  // A condition that is not met yet. Conditions stay for the life of the Readiness.
  Condition add(std::string_view name, std::string_view reason = "not started");

  // All conditions, in the order they were added.
  [[nodiscard]] std::vector<Check> checks() const;
  // All of them are met; true without any.
  static bool all_met(const std::vector<Check>& checks);
  [[nodiscard]] bool ready() const { return all_met(checks()); }

 private:
  mutable std::mutex mutex_;  // guards entries_ and what is in them
  std::list<Check> entries_;  // a list, because handles point into it
};

}  // namespace sluice::admin
