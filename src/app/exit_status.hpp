// What the process says to its parent when it ends.
#pragma once

namespace sluice::app {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;        // something could not be started or went wrong; verify: found damage
inline constexpr int kExitUsage = 2;          // the command line makes no sense
inline constexpr int kExitBadConfig = 78;     // EX_CONFIG of sysexits.h: the configuration makes no sense
inline constexpr int kExitInterrupted = 130;  // a command that SIGINT or SIGTERM has ended, as shells count it

}  // namespace sluice::app
