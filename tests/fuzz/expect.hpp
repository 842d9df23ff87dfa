// The assertion of the fuzz targets: it is there in every build type and stops the fuzzer where it stands.
#pragma once

#define SLUICE_EXPECT(condition)        \
  do {                                  \
    if (!(condition)) __builtin_trap(); \
  } while (false)
