#include "destination/snowflake/key_rows.h"

#include <charconv>

#include <arrow/api.h>
#include <fmt/format.h>

#include "batch/column_builder.h"
#include "destination/snowflake/snowflake_types.h"
#include "destination/snowflake/value_text.h"

namespace etl {
namespace {

constexpr int64_t kMicrosPerSecond = 1'000'000;

/// `-12.345678000`, perhaps with more behind a blank: seconds.
int64_t Micros(std::string_view text) {
  text = text.substr(0, text.find(' '));
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  const size_t point = text.find('.');
  int64_t seconds = 0, fraction = 0;
  std::from_chars(text.data(), text.data() + std::min(point, text.size()), seconds);
  if (point != std::string_view::npos) {
    const std::string digits = std::string(text.substr(point + 1)) + "000000";
    std::from_chars(digits.data(), digits.data() + 6, fraction);
  }
  const int64_t micros = seconds * kMicrosPerSecond + fraction;
  return negative ? -micros : micros;
}

/// As PostgreSQL prints the value.
std::string SourceText(const ColumnType& type, const std::string& text) {
  char buffer[kWideMax];
  const auto written = [&buffer](const char* end) {
    return std::string(static_cast<const char*>(buffer), end);
  };
  switch (type.kind) {
    case TypeKind::kBool: return text == "true" ? "t" : "f";
    case TypeKind::kBytea: return "\\x" + text;
    case TypeKind::kDate: {
      int32_t days = 0;
      std::from_chars(text.data(), text.data() + text.size(), days);
      return written(WriteDate(days, buffer));
    }
    case TypeKind::kTime: return written(WriteTime(Micros(text), buffer));
    case TypeKind::kTimestamp:
    case TypeKind::kTimestampTz: {
      std::string time = written(WriteTimestamp(Micros(text), buffer));
      time[10] = ' ';
      return type.kind == TypeKind::kTimestamp ? time : time + "+00";
    }
    default: return text;
  }
}

}  // namespace

Result<std::shared_ptr<arrow::RecordBatch>> KeysOf(const TableSchema& schema, const SqlRows& rows) {
  arrow::FieldVector fields;
  arrow::ArrayVector columns;
  for (size_t i = 0; i < schema.key.size(); ++i) {
    const Column& column = schema.columns[static_cast<size_t>(schema.key[i])];
    const auto builder = ColumnBuilder::Make(*column.type);
    for (const SqlRow& row : rows.rows) {
      CellResult appended = CellResult::kMalformed;
      if (!IsVariant(*column.type))
        appended = builder->AppendText(SourceText(*column.type, row.at(i).value_or("")));
      if (appended != CellResult::kOk) {
        return MakeError(ErrorKind::kSchema, "ETL-D147",
                         fmt::format("{}: a key with column {} ({}) cannot be asked for again",
                                     schema.QualifiedName(), column.name, column.type->name));
      }
    }
    fields.push_back(ArrowFieldOf(column.name, *column.type));
    columns.push_back(arrow::MakeArray(builder->Finish()));
  }
  return arrow::RecordBatch::Make(arrow::schema(std::move(fields)),
                                  static_cast<int64_t>(rows.rows.size()), std::move(columns));
}

}  // namespace etl
