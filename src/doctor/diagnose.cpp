#include "doctor/diagnose.hpp"

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
  return report;
}

}  // namespace sluice::doctor
