#pragma once

#include <cstdint>

namespace etl {

/// What becomes of a value that its column cannot hold: the pipeline stops there, or the value is
/// stored as NULL and counted (never in a key column).
enum class OnUnrepresentable : uint8_t { kError, kNull };

}  // namespace etl
