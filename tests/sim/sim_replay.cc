// sim_replay SEED…: runs seeds of the simulator with a trace.
#include <cstdio>
#include <cstdlib>

#include "base/log.h"
#include "sim/simulation.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: sim_replay SEED...\n");
    return 2;
  }
  etl::ConfigureLog(etl::LogLevel::kDebug, etl::LogFormat::kText);
  int failures = 0;
  for (int i = 1; i < argc; ++i) {
    const etl::SimulationResult result = etl::RunSeed(std::strtoull(argv[i], nullptr, 10), true);
    std::printf("seed %s: %s\n", argv[i],
                result.failure.empty() ? "passed" : result.failure.c_str());
    failures += result.failure.empty() ? 0 : 1;
  }
  return failures == 0 ? 0 : 1;
}
