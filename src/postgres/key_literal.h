#pragma once

#include <string>

#include <arrow/type_fwd.h>

#include "base/status.h"

namespace etl {

/// One value of a key column as the text that PostgreSQL reads (not quoted). Keys are never NULL,
/// though what is in a list or a struct may be.
Result<std::string> KeyText(const arrow::Array& column, int64_t row);

}  // namespace etl
