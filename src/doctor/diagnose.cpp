#include "doctor/diagnose.hpp"

#include <algorithm>

#include "doctor/clients.hpp"

namespace sluice::doctor {

Report diagnose(const Machine& machine, const Cache& cache) {
  Report report;
  Judge judge(machine, cache, report);
  read_docker(judge);
  read_containerd(judge);
  read_podman(judge);
  read_buildkit(judge);
  read_k3s(judge);
  for (const Verdict& verdict : report.verdicts) {
    if (std::find(report.clients.begin(), report.clients.end(), verdict.client) == report.clients.end()) {
      report.clients.push_back(verdict.client);
    }
  }
  return report;
}

}  // namespace sluice::doctor
