#pragma once

#include <string>

namespace etl {

/// The machine's bundle of certificate authorities (PEM), where the usual systems keep it; empty if
/// there is none that can be read.
std::string SystemCaFile();

}  // namespace etl
