// One reader for each client: adds to the judge's report what that client will do. Pure.
#pragma once

#include "doctor/judge.hpp"

namespace sluice::doctor {

void read_docker(Judge& judge);
void read_containerd(Judge& judge);
void read_podman(Judge& judge);
void read_buildkit(Judge& judge);
void read_k3s(Judge& judge);

}  // namespace sluice::doctor
