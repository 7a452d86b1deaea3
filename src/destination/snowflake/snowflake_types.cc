#include "destination/snowflake/snowflake_types.h"

#include <fmt/format.h>

#include "destination/snowflake/identifiers.h"

namespace etl {
namespace {

/// The greatest length there is; without one Snowflake takes 16 MiB, less than a value may have.
constexpr const char* kLongText = "VARCHAR(134217728)";

struct Number {
  int precision = 0;
  int scale = 0;
};

/// Precision 0: not a NUMBER.
Number NumberOf(const ColumnType& type) {
  switch (type.kind) {
    case TypeKind::kInt2: return {5, 0};
    case TypeKind::kInt4:
    case TypeKind::kOid: return {10, 0};
    case TypeKind::kInt8: return {19, 0};
    case TypeKind::kDecimal:
      if (type.scale <= 37) return {type.precision, type.scale};
      return {};
    default: return {};
  }
}

/// 0: not a VARCHAR.
int64_t LengthOf(const ColumnType& type) {
  const std::string name = SnowflakeType(type);
  if (name == kLongText) return 134217728;
  if (name == "VARCHAR(36)") return 36;
  return name == "VARCHAR" ? 16777216 : 0;
}

}  // namespace

std::string SnowflakeType(const ColumnType& type) {
  if (const Number number = NumberOf(type); number.precision > 0)
    return fmt::format("NUMBER({},{})", number.precision, number.scale);
  switch (type.kind) {
    case TypeKind::kBool: return "BOOLEAN";
    case TypeKind::kFloat4:
    case TypeKind::kFloat8: return "FLOAT";
    case TypeKind::kBytea: return "BINARY(67108864)";
    case TypeKind::kUuid: return "VARCHAR(36)";
    case TypeKind::kDate: return "DATE";
    case TypeKind::kTimestamp: return "TIMESTAMP_NTZ(6)";
    case TypeKind::kTimestampTz: return "TIMESTAMP_TZ(6)";
    case TypeKind::kTime: return "TIME(6)";
    case TypeKind::kList:
    case TypeKind::kStruct: return "VARIANT";
    case TypeKind::kChar:
    case TypeKind::kTimeTz:
    case TypeKind::kInterval:
    case TypeKind::kDecimal:  // Of scale 38.
    case TypeKind::kNumericText: return "VARCHAR";
    default: return kLongText;
  }
}

bool IsVariant(const ColumnType& type) {
  return type.kind == TypeKind::kList || type.kind == TypeKind::kStruct;
}

bool MayBeUnsent(const ColumnType& type) {
  switch (type.kind) {
    case TypeKind::kDecimal:
    case TypeKind::kNumericText:
    case TypeKind::kText:
    case TypeKind::kBytea:
    case TypeKind::kJson:
    case TypeKind::kJsonb:
    case TypeKind::kList:
    case TypeKind::kStruct:
    case TypeKind::kServerText: return true;
    default: return false;
  }
}

TypeChange ChangeOfType(const ColumnType& from, const ColumnType& to) {
  if (SnowflakeType(from) == SnowflakeType(to)) return TypeChange::kNone;
  const Number a = NumberOf(from), b = NumberOf(to);
  if (a.precision > 0 && b.precision >= a.precision && a.scale == b.scale)
    return TypeChange::kWiden;
  if (LengthOf(from) > 0 && LengthOf(to) > LengthOf(from)) return TypeChange::kWiden;
  return TypeChange::kImpossible;
}

std::string ValueSql(const ColumnType& type, std::string_view text) {
  const std::string literal = QuoteLiteral(text);
  const std::string name = SnowflakeType(type);
  if (name.starts_with("VARCHAR")) return literal;
  if (name == "VARIANT") return "PARSE_JSON(" + literal + ")";
  if (type.kind == TypeKind::kBytea) return "TO_BINARY(" + literal + ", 'BASE64')";
  return "CAST(" + literal + " AS " + name + ")";
}

}  // namespace etl
