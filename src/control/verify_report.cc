#include "control/commands.h"

#include <algorithm>

namespace etl {

bool VerifyReport::equal() const {
  return std::all_of(tables.begin(), tables.end(),
                     [](const VerifiedTable& table) { return table.equal; });
}

}  // namespace etl
