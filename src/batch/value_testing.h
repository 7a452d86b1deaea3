#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/array.h>
#include <arrow/scalar.h>
#include <gtest/gtest.h>

#include "batch/column_builder.h"
#include "model/column_type.h"

namespace etl {

// For tests of this folder: types, bytes and values, written shortly.

inline std::string Hex(std::string_view hex) {
  std::string bytes;
  std::string pair;
  for (const char c : hex) {
    if (c == ' ') continue;
    pair.push_back(c);
    if (pair.size() < 2) continue;
    bytes.push_back(static_cast<char>(std::stoi(pair, nullptr, 16)));
    pair.clear();
  }
  return bytes;
}

inline ColumnType Scalar(TypeKind kind, int precision = 0, int scale = 0) {
  ColumnType type;
  type.kind = kind;
  type.precision = static_cast<uint8_t>(precision);
  type.scale = static_cast<uint8_t>(scale);
  type.name = "test";
  return type;
}

inline ColumnType List(ColumnType element, int dimensions = 1, char delimiter = ',') {
  ColumnType type;
  type.kind = TypeKind::kList;
  type.dimensions = static_cast<uint8_t>(dimensions);
  type.delimiter = delimiter;
  type.element = std::make_shared<ColumnType>(std::move(element));
  type.name = "test[]";
  return type;
}

inline ColumnType Struct(std::vector<ColumnType> fields) {
  ColumnType type;
  type.kind = TypeKind::kStruct;
  for (size_t i = 0; i < fields.size(); ++i) {
    type.fields.push_back(
        {"f" + std::to_string(i + 1), std::make_shared<ColumnType>(std::move(fields[i]))});
  }
  type.name = "composite";
  return type;
}

inline std::shared_ptr<arrow::Array> FinishArray(ColumnBuilder& builder) {
  auto array = arrow::MakeArray(builder.Finish());
  EXPECT_TRUE(array->ValidateFull().ok()) << array->ValidateFull().ToString();
  return array;
}

// The one value as Arrow prints it, or the reason why there is none.
inline std::string Show(ColumnBuilder& builder, CellResult result) {
  if (result != CellResult::kOk) {
    EXPECT_EQ(FinishArray(builder)->length(), 0);
    return "! " + std::string(ReasonOf(result));
  }
  const auto array = FinishArray(builder);
  EXPECT_EQ(array->length(), 1);
  return array->GetScalar(0).ValueOrDie()->ToString();
}

inline std::string FromText(const ColumnType& type, std::string_view text) {
  const auto builder = ColumnBuilder::Make(type);
  const CellResult result = builder->AppendText(text);
  return Show(*builder, result);
}

inline std::string FromBinary(const ColumnType& type, std::string_view bytes) {
  const auto builder = ColumnBuilder::Make(type);
  const CellResult result = builder->AppendBinary(bytes);
  return Show(*builder, result);
}

}  // namespace etl
