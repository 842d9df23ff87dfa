// What the doctor found: a Verdict for each client and upstream, and a Finding for each mistake. Values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::doctor {

enum class Outcome : std::uint8_t {
  used,        // it asks the cache
  partly,      // it asks the cache for some of an image only
  unused,      // nothing tells it to ask the cache
  falls_back,  // it is told to, cannot, and goes to the registry without a word
  fails,       // it cannot pull at all
};

[[nodiscard]] std::string_view name_of(Outcome outcome) noexcept;

// How a client reaches the cache: all that its request depends on.
struct Way {
  std::string scheme;  // "http" or "https"
  std::string host;    // without brackets
  std::uint16_t port = 0;
  std::string path = "/v2";                        // in front of the repository's name: "/v2/ghcr.io"
  std::string ns;                                  // the value of `ns`; empty: it sends none
  std::vector<std::string> ca_files;               // trusted besides the system's
  bool skip_verify = false;                        // it checks no certificate
  std::map<std::string, std::string> environment;  // HTTP_PROXY and so on, of the client
};

struct Verdict {
  std::string client;    // "docker", "containerd", "podman", "buildkit", "k3s", "rke2"
  std::string upstream;  // "docker.io"
  Outcome outcome = Outcome::unused;
  std::string reason;      // for a person: where it asks, or why it does not
  std::string file;        // which decided it; empty: none
  std::optional<Way> way;  // where the cache would be asked
};

struct Finding {
  std::string name;  // "docker-mirror-scheme"; documented, never renamed
  std::string client;
  std::string file;
  std::string message;
  bool problem = true;  // false: a remark, which changes no exit status
};

struct Report {
  std::vector<Verdict> verdicts;  // none: there is no client
  std::vector<Finding> findings;

  // The same finding twice is one.
  void add(Finding finding);
  [[nodiscard]] bool has_problem() const noexcept;
  [[nodiscard]] const Verdict* find(std::string_view client, std::string_view upstream) const noexcept;
};

}  // namespace sluice::doctor
