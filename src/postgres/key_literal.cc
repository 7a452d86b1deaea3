#include "postgres/key_literal.h"

#include <chrono>
#include <cmath>
#include <limits>

#include <arrow/api.h>
#include <fmt/format.h>

namespace etl {
namespace {

using std::chrono::days;
using std::chrono::sys_days;
using std::chrono::year_month_day;

constexpr int64_t kDayMicros = 86400000000;

/// The date of day `day` since 1970 without an era, and whether it is before Christ. PostgreSQL
/// knows no year 0: it is 1 BC.
std::string DateText(int64_t day, bool* before_christ) {
  // Days are counted by hand: the calendar of <chrono> ends at year 32767.
  const int64_t z = day + 719468;
  const int64_t era = (z >= 0 ? z : z - 146096) / 146097;
  const int64_t doe = z - era * 146097;
  const int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  const int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
  const int64_t mp = (5 * doy + 2) / 153;
  const int64_t d = doy - (153 * mp + 2) / 5 + 1;
  const int64_t m = mp < 10 ? mp + 3 : mp - 9;
  int64_t y = yoe + era * 400 + (m <= 2 ? 1 : 0);
  *before_christ = y <= 0;
  if (y <= 0) y = 1 - y;
  return fmt::format("{:04}-{:02}-{:02}", y, m, d);
}

std::string TimeText(int64_t micros) {
  return fmt::format("{:02}:{:02}:{:02}.{:06}", micros / 3600000000, micros / 60000000 % 60,
                     micros / 1000000 % 60, micros % 1000000);
}

std::string Date(int32_t day) {
  if (day == std::numeric_limits<int32_t>::max()) return "infinity";
  if (day <= -std::numeric_limits<int32_t>::max()) return "-infinity";
  bool before_christ = false;
  const std::string text = DateText(day, &before_christ);
  return before_christ ? text + " BC" : text;
}

std::string Timestamp(int64_t micros, bool utc) {
  if (micros == std::numeric_limits<int64_t>::max()) return "infinity";
  if (micros <= -std::numeric_limits<int64_t>::max()) return "-infinity";
  int64_t day = micros / kDayMicros;
  int64_t rest = micros % kDayMicros;
  if (rest < 0) {
    rest += kDayMicros;
    --day;
  }
  bool before_christ = false;
  std::string text = DateText(day, &before_christ) + " " + TimeText(rest);
  if (utc) text += "+00";
  return before_christ ? text + " BC" : text;
}

template <typename T>
std::string Floating(T value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return fmt::format("{}", value);
}

std::string Hex(std::string_view bytes) {
  std::string text;
  for (char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

template <typename ArrayType>
const ArrayType& As(const arrow::Array& column) {
  return static_cast<const ArrayType&>(column);
}

/// As an element of an array, or a field of a row, may always be written.
std::string Quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

Result<std::string> ListText(const arrow::ListArray& lists, int64_t row) {
  const arrow::Array& values = *lists.values();
  std::string text = "{";
  for (int64_t i = lists.value_offset(row); i < lists.value_offset(row + 1); ++i) {
    if (text.size() > 1) text += ',';
    if (values.IsNull(i)) {
      text += "NULL";
      continue;
    }
    ETL_ASSIGN_OR_RETURN(const std::string element, KeyText(values, i));
    // A list in a list is another dimension.
    text += values.type_id() == arrow::Type::LIST ? element : Quoted(element);
  }
  return text + '}';
}

Result<std::string> RowText(const arrow::StructArray& rows, int64_t row) {
  std::string text = "(";
  for (int i = 0; i < rows.num_fields(); ++i) {
    if (i > 0) text += ',';
    if (rows.field(i)->IsNull(row)) continue;
    ETL_ASSIGN_OR_RETURN(const std::string field, KeyText(*rows.field(i), row));
    text += Quoted(field);
  }
  return text + ')';
}

}  // namespace

Result<std::string> KeyText(const arrow::Array& column, int64_t row) {
  switch (column.type_id()) {
    case arrow::Type::BOOL:
      return std::string(As<arrow::BooleanArray>(column).Value(row) ? "t" : "f");
    case arrow::Type::INT16: return fmt::format("{}", As<arrow::Int16Array>(column).Value(row));
    case arrow::Type::INT32: return fmt::format("{}", As<arrow::Int32Array>(column).Value(row));
    case arrow::Type::INT64: return fmt::format("{}", As<arrow::Int64Array>(column).Value(row));
    case arrow::Type::UINT32: return fmt::format("{}", As<arrow::UInt32Array>(column).Value(row));
    case arrow::Type::FLOAT: return Floating(As<arrow::FloatArray>(column).Value(row));
    case arrow::Type::DOUBLE: return Floating(As<arrow::DoubleArray>(column).Value(row));
    case arrow::Type::DECIMAL128: return As<arrow::Decimal128Array>(column).FormatValue(row);
    case arrow::Type::STRING: return std::string(As<arrow::StringArray>(column).GetView(row));
    case arrow::Type::LARGE_STRING:
      return std::string(As<arrow::LargeStringArray>(column).GetView(row));
    case arrow::Type::BINARY: return "\\x" + Hex(As<arrow::BinaryArray>(column).GetView(row));
    case arrow::Type::LARGE_BINARY:
      return "\\x" + Hex(As<arrow::LargeBinaryArray>(column).GetView(row));
    case arrow::Type::FIXED_SIZE_BINARY:
      return Hex(As<arrow::FixedSizeBinaryArray>(column).GetView(row));
    case arrow::Type::DATE32: return Date(As<arrow::Date32Array>(column).Value(row));
    case arrow::Type::TIMESTAMP: {
      const auto& type = static_cast<const arrow::TimestampType&>(*column.type());
      return Timestamp(As<arrow::TimestampArray>(column).Value(row), !type.timezone().empty());
    }
    case arrow::Type::TIME64: return TimeText(As<arrow::Time64Array>(column).Value(row));
    case arrow::Type::INTERVAL_MONTH_DAY_NANO: {
      const auto value = As<arrow::MonthDayNanoIntervalArray>(column).GetValue(row);
      const int64_t micros = value.nanoseconds / 1000;
      return fmt::format("{} mons {} days {}{}.{:06} secs", value.months, value.days,
                         micros < 0 ? "-" : "", std::abs(micros / 1000000),
                         std::abs(micros % 1000000));
    }
    case arrow::Type::LIST: return ListText(As<arrow::ListArray>(column), row);
    case arrow::Type::STRUCT: return RowText(As<arrow::StructArray>(column), row);
    default:
      return MakeError(ErrorKind::kSchema, "ETL-S115",
                       "rows cannot be read again by a key of type " + column.type()->ToString());
  }
}

}  // namespace etl
