// Judge: what becomes of a client's request to a mirror, by the rules that hold for all clients: address, port, TLS,
// path, proxies. Pure; adds its findings to a Report.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "doctor/address.hpp"
#include "doctor/cache.hpp"
#include "doctor/files.hpp"
#include "doctor/report.hpp"

namespace sluice::doctor {

// Where a machine's configuration is.
struct Machine {
  const Files& files;
  std::vector<std::string> homes;  // of users whose own configuration counts: "/root", "/home/alice"
  // The files are those of the machine on which the cache is asked; otherwise nobody can tell what loopback means
  // there.
  bool live = false;
};

// A mirror that a client asks for an upstream.
struct Mirror {
  std::string written;  // as it stands in the file
  Way way;              // as the client understands it
  std::string file;
  std::string flaw;     // why the client cannot use it at all, known already; empty: nothing
  bool fatal = false;   // because of the flaw every pull fails
  bool partly = false;  // it is asked for a part of the images only
  std::string partly_why;
  std::string right_path = "correct the path (docs/clients.md)";  // what to do about a wrong one
};

class Judge {
 public:
  Judge(const Machine& machine, const Cache& cache, Report& report)
      : machine_(machine), cache_(cache), report_(report) {}

  [[nodiscard]] const Files& files() const noexcept { return machine_.files; }
  [[nodiscard]] const Machine& machine() const noexcept { return machine_; }
  [[nodiscard]] const Cache& cache() const noexcept { return cache_; }

  void problem(std::string name, std::string_view client, std::string file, std::string message);
  void remark(std::string name, std::string_view client, std::string file, std::string message);
  // For a file that is there and cannot be parsed, or not be read. Adds the verdicts too. `consequence` of the former:
  // "docker does not start". `upstream`: whose pulls alone the file is for, and go to the registry; empty: every pull
  // fails.
  void broken_file(std::string_view client, const std::string& file, const Error& error, const std::string& consequence,
                   std::string_view upstream = {});

  // Of the mirrors in the order in which the client asks them. Adds the verdict.
  void decide(std::string_view client, std::string_view upstream, const std::vector<Mirror>& mirrors);
  void verdict(std::string_view client, std::string_view upstream, Outcome outcome, std::string reason,
               std::string file = {});
  // The same verdict for every upstream.
  void all(std::string_view client, Outcome outcome, const std::string& reason, const std::string& file = {});

 private:
  Verdict judge(std::string_view client, std::string_view upstream, const Mirror& mirror);
  std::string address_flaw(std::string_view client, const Mirror& mirror);
  std::string path_flaw(std::string_view client, std::string_view upstream, const Mirror& mirror);

  const Machine& machine_;
  const Cache& cache_;
  Report& report_;
};

// A repository of an upstream, which shows what becomes of names.
std::string sample_of(std::string_view upstream);

// "http://127.0.0.1:5000/v2" without the /v2.
std::string shown(const Way& way);

}  // namespace sluice::doctor
