#pragma once

#include <string>

#include "base/random.h"

namespace etl {

/// A UUID (version 4 in form) from `random`: what marks the attempts of one request as one.
std::string MakeRequestId(Random& random);

}  // namespace etl
