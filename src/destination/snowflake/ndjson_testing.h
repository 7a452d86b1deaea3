#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <gtest/gtest.h>

#include "batch/column_builder.h"
#include "destination/snowflake/ndjson_encoder.h"
#include "model/change_batch.h"

namespace etl {

// For tests of this folder: tables and batches out of the server's text forms.

inline ColumnTypePtr TypeOf(TypeKind kind, int precision = 0, int scale = 0) {
  auto type = std::make_shared<ColumnType>();
  type->kind = kind;
  type->precision = static_cast<uint8_t>(precision);
  type->scale = static_cast<uint8_t>(scale);
  type->name = "test";
  return type;
}
inline ColumnTypePtr ListOf(ColumnTypePtr element, int dimensions = 1) {
  auto type = std::make_shared<ColumnType>();
  type->kind = TypeKind::kList;
  type->dimensions = static_cast<uint8_t>(dimensions);
  type->element = std::move(element);
  type->name = "test[]";
  return type;
}
inline ColumnTypePtr StructOf(std::vector<ColumnType::Field> fields) {
  auto type = std::make_shared<ColumnType>();
  type->kind = TypeKind::kStruct;
  type->fields = std::move(fields);
  type->name = "composite";
  return type;
}

struct TestColumn {
  std::string name;
  ColumnTypePtr type;
};
// A value in the server's text form, or NULL.
struct TestCell {
  // Rows of tests are written as lists of plain values.
  // NOLINTBEGIN(google-explicit-constructor)
  TestCell(std::nullptr_t) : null(true) {}
  TestCell(const char* value) : text(value) {}
  TestCell(std::string value) : text(std::move(value)) {}
  // NOLINTEND(google-explicit-constructor)
  std::string text;
  bool null = false;
};
using TestRow = std::vector<TestCell>;

// The first column is the key.
inline TableSchemaPtr SchemaOf(const std::vector<TestColumn>& columns) {
  auto schema = std::make_shared<TableSchema>();
  schema->schema = "public";
  schema->name = "things";
  schema->identity = Identity::kKey;
  schema->key = {0};
  for (const TestColumn& column : columns) {
    const auto number = static_cast<int16_t>(schema->columns.size() + 1);
    schema->columns.push_back({number, column.name, column.type, false});
  }
  return schema;
}

inline std::vector<std::string> NamesOf(const TableSchema& schema) {
  std::vector<std::string> names;
  for (const Column& column : schema.columns) names.push_back(column.name);
  return names;
}

// Inserts at ordinals 0, 2, 4, … of one transaction.
inline ChangeBatch BatchOf(TableSchemaPtr schema, const std::vector<TestRow>& rows) {
  ChangeBatch batch;
  arrow::ArrayVector arrays;
  for (size_t c = 0; c < schema->columns.size(); ++c) {
    const auto builder = ColumnBuilder::Make(*schema->columns[c].type);
    for (const TestRow& row : rows) {
      const CellResult result =
          row[c].null ? builder->AppendNull() : builder->AppendText(row[c].text);
      EXPECT_EQ(result, CellResult::kOk) << row[c].text;
    }
    arrays.push_back(arrow::MakeArray(builder->Finish()));
  }
  const auto count = static_cast<int64_t>(rows.size());
  batch.rows = arrow::RecordBatch::Make(schema->ArrowSchema(), count, std::move(arrays));
  batch.ops.assign(rows.size(), Op::kInsert);
  for (size_t i = 0; i < rows.size(); ++i) batch.ordinals.push_back(2 * i);
  batch.transactions.push_back({Lsn{0x16b3748}, 1'767'323'045'000'006, 7, count});
  batch.schema = std::move(schema);
  return batch;
}

}  // namespace etl
