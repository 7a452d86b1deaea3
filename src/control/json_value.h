#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "model/column_type.h"

namespace etl {

/// Appends a value, given in the server's text form, as PostgreSQL's to_json writes it: numbers,
/// booleans, json, arrays and composites as such, everything else as a string. Never breaks the
/// line.
Status AppendJsonValue(const ColumnType& type, std::string_view text, std::string* out);

/// `text` as a JSON string, escaped as PostgreSQL escapes it.
void AppendJsonString(std::string_view text, std::string* out);

}  // namespace etl
