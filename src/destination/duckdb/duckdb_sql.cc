#include "destination/duckdb/duckdb_sql.h"

#include <fmt/format.h>

namespace etl {
namespace {

std::string Quote(std::string_view text, char quote) {
  std::string quoted(1, quote);
  for (const char c : text) {
    if (c == quote) quoted += quote;
    quoted += c;
  }
  quoted += quote;
  return quoted;
}

// Values (of a list: where its elements lie), and which of them are NULL.
int64_t AppendBlocks(const ColumnType& type) {
  if (type.kind == TypeKind::kList) return type.dimensions * 2 + AppendBlocks(*type.element);
  if (type.kind != TypeKind::kStruct) return 2;
  int64_t blocks = 1;
  for (const ColumnType::Field& field : type.fields) blocks += AppendBlocks(*field.type);
  return blocks;
}

}  // namespace

std::string duckdb_dialect::QuoteIdentifier(std::string_view name) { return Quote(name, '"'); }
std::string duckdb_dialect::QuoteLiteral(std::string_view text) { return Quote(text, '\''); }

std::string DuckDbTable::Sql() const {
  return QuoteIdentifier(catalog) + "." + QuoteIdentifier(schema) + "." + QuoteIdentifier(name);
}

std::string DuckDbTypeName(const ColumnType& type) {
  switch (type.kind) {
    case TypeKind::kBool: return "BOOLEAN";
    case TypeKind::kInt2: return "SMALLINT";
    case TypeKind::kInt4: return "INTEGER";
    case TypeKind::kInt8: return "BIGINT";
    case TypeKind::kOid: return "UINTEGER";
    case TypeKind::kFloat4: return "FLOAT";
    case TypeKind::kFloat8: return "DOUBLE";
    case TypeKind::kDecimal:
      return "DECIMAL(" + std::to_string(type.precision) + "," + std::to_string(type.scale) + ")";
    case TypeKind::kBytea: return "BLOB";
    case TypeKind::kUuid: return "UUID";
    case TypeKind::kJson:
    case TypeKind::kJsonb: return "JSON";
    case TypeKind::kDate: return "DATE";
    case TypeKind::kTimestamp: return "TIMESTAMP";
    case TypeKind::kTimestampTz: return "TIMESTAMPTZ";
    case TypeKind::kTime: return "TIME";
    case TypeKind::kInterval: return "INTERVAL";
    case TypeKind::kList: {
      std::string name = DuckDbTypeName(*type.element);
      for (int i = 0; i < type.dimensions; ++i) name += "[]";
      return name;
    }
    case TypeKind::kStruct: {
      std::string name = "STRUCT(";
      for (size_t i = 0; i < type.fields.size(); ++i) {
        if (i > 0) name += ", ";
        name += QuoteIdentifier(type.fields[i].name) + " " + DuckDbTypeName(*type.fields[i].type);
      }
      return name + ")";
    }
    case TypeKind::kNumericText:
    case TypeKind::kText:
    case TypeKind::kChar:
    case TypeKind::kTimeTz:
    case TypeKind::kServerText: return "VARCHAR";
  }
  return "VARCHAR";
}

std::string ColumnDefinitions(const TableSchema& schema) {
  std::string text;
  for (const Column& column : schema.columns) {
    if (!text.empty()) text += ", ";
    text += QuoteIdentifier(column.name) + " " + DuckDbTypeName(*column.type);
  }
  return text;
}

int64_t AppendBytes(const TableSchema& schema, int64_t block_bytes) {
  // The columns of a change beside the table's own are among it.
  constexpr int64_t kAlwaysUsed = int64_t{5} << 20;
  int64_t blocks = 0;
  for (const Column& column : schema.columns) blocks += AppendBlocks(*column.type);
  return blocks * block_bytes + kAlwaysUsed;
}

std::optional<std::string> WhyTooWide(const TableSchema& schema, int64_t block_bytes,
                                      int64_t memory_bytes, int64_t held_bytes) {
  const int64_t needed = AppendBytes(schema, block_bytes) + held_bytes;
  if (needed <= memory_bytes) return std::nullopt;
  const auto mib = [](int64_t bytes) { return (bytes + (1 << 20) - 1) >> 20; };
  return fmt::format(
      "to append to its {} columns DuckDB needs {} MiB at once, and has {} MiB, its part of "
      "limits.memory; do: raise limits.memory {:.1f}-fold, exclude columns, or begin with a file "
      "of smaller blocks: ATTACH 'FILE' (BLOCK_SIZE 16384)",
      schema.columns.size(), mib(needed), memory_bytes >> 20,
      static_cast<double>(needed) / static_cast<double>(memory_bytes) + 0.05);
}

const std::vector<MetadataColumn>& MetadataColumns() {
  static const std::vector<MetadataColumn> columns = {
      {"_etl_op", "VARCHAR"},   {"_etl_lsn", "UBIGINT"},
      {"_etl_seq", "UBIGINT"},  {"_etl_commit_ts", "TIMESTAMPTZ"},
      {"_etl_xid", "UINTEGER"}, {"_etl_unchanged", "VARCHAR[]"}};
  return columns;
}

std::string FoldName(std::string_view name) {
  std::string folded(name);
  for (char& c : folded) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return folded;
}

}  // namespace etl
