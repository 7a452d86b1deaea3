#pragma once

#include <string>

#include <arrow/type_fwd.h>

#include "base/status.h"

namespace etl {

/// One value of a key column as the text that PostgreSQL reads (not quoted). Keys are never NULL.
/// kSchema for types that this cannot be done for (lists, structs).
Result<std::string> KeyText(const arrow::Array& column, int64_t row);

}  // namespace etl
