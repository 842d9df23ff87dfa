// What the sources of the configuration found wrong, and where each value came from. Internal to this folder.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "config/fields.hpp"

namespace sluice::config {

// The later stands above the earlier.
enum class Source : std::uint8_t { embedded, file, environment, command_line };

struct Place {
  Source source = Source::embedded;
  std::string name;  // "sluice.yml:12: server.listen", "SLUICE_SERVER_LISTEN", "--listen"
  int line = 0;      // of the file
};

class Report {
 public:
  // Passwords in URLs are masked, also in keys.
  void problem(const Place& place, std::string_view text);
  void warning(std::string_view text);

  // `field.set` with a report when it refuses. `path` is the whole key, upstream's name included.
  template <class Owner>
  bool set(const Field<Owner>& field, Owner& owner, std::string_view text, const std::string& path, const Place& place);

  // Something that is no key of its own stands there.
  void seen(const std::string& path, const Place& place) { origins_[path] = place; }
  // Where the key was last set; embedded, with the key as its name, when it never was.
  [[nodiscard]] Place origin(const std::string& path) const;
  // Somebody tried to set the key to what it cannot hold.
  [[nodiscard]] bool refused(const std::string& path) const { return refused_.contains(path); }

  [[nodiscard]] bool ok() const { return problems_.empty(); }
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }
  // All problems, one a line, in the order of sources and lines.
  [[nodiscard]] std::string text() const;

 private:
  struct Problem {
    Source source;
    int line;
    std::size_t index;  // in the order of their discovery
    std::string text;
  };
  std::vector<Problem> problems_;
  std::vector<std::string> warnings_;
  std::map<std::string, Place> origins_;
  std::set<std::string> refused_;
};

template <class Owner>
bool Report::set(const Field<Owner>& field, Owner& owner, std::string_view text, const std::string& path,
                 const Place& place) {
  if (!field.set(owner, text)) {
    // A URL with a user in it is refused, and may hold a password.
    const bool hide = field.secret || text.find('@') != std::string_view::npos;
    const std::string found = text.empty() ? "nothing" : hide ? "a value that is not shown here" : in_quotes(text);
    problem(place, "found " + found + ", expected " + field.expected);
    refused_.insert(path);
    return false;
  }
  origins_[path] = place;
  return true;
}

}  // namespace sluice::config
