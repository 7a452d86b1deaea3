#pragma once

#include <string>
#include <string_view>

#include "model/table_schema.h"

namespace etl {

/// The type that holds every value of `type` exactly: NUMBER(12,2), VARCHAR(36), VARIANT …
///
/// json and jsonb are text, exactly as the server prints it: VARIANT would lose the order of keys,
/// duplicates and the digits of numbers. Arrays and composites are VARIANT, with elements that JSON
/// cannot hold (numeric, date, bytea …) as strings in it.
std::string SnowflakeType(const ColumnType& type);

/// Whether equality and order need the text of the value (VARIANT).
bool IsVariant(const ColumnType& type);

/// Whether an UPDATE may leave the value out because it is stored out of line and unchanged: any
/// type of variable length.
bool MayBeUnsent(const ColumnType& type);

/// What ALTER COLUMN can do for a column whose type changes, keeping the values it has.
enum class TypeChange : uint8_t {
  kNone,        ///< the stored type is the same
  kWiden,       ///< one ALTER COLUMN … SET DATA TYPE
  kImpossible,  ///< needs a new copy
};
TypeChange ChangeOfType(const ColumnType& from, const ColumnType& to);

/// A value as an SQL expression of the column's type. `text` is the value as it is streamed: Base64
/// for bytea, JSON for arrays and composites, otherwise the characters of the string or number.
std::string ValueSql(const ColumnType& type, std::string_view text);

}  // namespace etl
