#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace etl {

void CheckFailed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "etl-stream: invariant broken: %s (%s:%d)\n", expression, file, line);
  std::abort();
}

}  // namespace etl
