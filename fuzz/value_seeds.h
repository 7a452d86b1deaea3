#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/column_type.h"
#include "seeds.h"

namespace etl {

inline ColumnTypePtr Scalar(TypeKind kind, uint8_t precision = 0, uint8_t scale = 0) {
  auto type = std::make_shared<ColumnType>();
  type->kind = kind;
  type->precision = precision;
  type->scale = scale;
  return type;
}

inline ColumnTypePtr List(ColumnTypePtr element, uint8_t dimensions) {
  auto type = std::make_shared<ColumnType>();
  type->kind = TypeKind::kList;
  type->element = std::move(element);
  type->dimensions = dimensions;
  return type;
}

inline ColumnTypePtr Struct(std::vector<ColumnTypePtr> fields) {
  auto type = std::make_shared<ColumnType>();
  type->kind = TypeKind::kStruct;
  for (size_t i = 0; i < fields.size(); ++i)
    type->fields.push_back({std::string(1, static_cast<char>('a' + i)), fields[i]});
  return type;
}

/// One of each type, and some nested ones.
inline const std::vector<ColumnTypePtr>& Types() {
  static const std::vector<ColumnTypePtr> types = [] {
    using enum TypeKind;
    std::vector<ColumnTypePtr> made;
    for (const TypeKind kind :
         {kBool,        kInt2,      kInt4,        kInt8,  kOid,    kFloat4,   kFloat8,
          kNumericText, kText,      kChar,        kBytea, kUuid,   kJson,     kJsonb,
          kDate,        kTimestamp, kTimestampTz, kTime,  kTimeTz, kInterval, kServerText}) {
      made.push_back(Scalar(kind));
    }
    made.push_back(Scalar(kDecimal, 6, 2));
    made.push_back(Scalar(kDecimal, 38, 19));
    made.push_back(List(Scalar(kInt4), 1));
    made.push_back(List(Scalar(kText), 3));
    made.push_back(Struct({Scalar(kInt4), Scalar(kText), Scalar(kDecimal, 6, 2)}));
    made.push_back(List(Struct({Scalar(kTimestamp), List(Scalar(kText), 2)}), 1));
    made.push_back(Struct({Struct({Scalar(kBytea)}), List(Struct({Scalar(kNumericText)}), 1)}));
    return made;
  }();
  return types;
}

/// Inputs of which the first byte chooses the type and the rest is a value in text or binary form.
inline const std::vector<std::string>& Seeds() {
  static const std::vector<std::string> seeds = [] {
    std::vector<std::string> bodies = {"t",
                                       "-9223372036854775808",
                                       "1e+20",
                                       "NaN",
                                       "Infinity",
                                       "-12345.678",
                                       "\\x00ff",
                                       "{1,NULL,3}",
                                       "[2:3]={1,2}",
                                       "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                                       "0044-03-15 BC",
                                       "2024-02-01 00:00:00.123456+05:30",
                                       "24:00:00",
                                       "12:00:00-08",
                                       "1 year 2 mons -3 days +04:05:06.789",
                                       "{{{a,\"b c\"},{NULL,\"q\\\"\"}}}",
                                       "(1,\"a \"\"b\"\" \\\\ c\",)",
                                       "{\"(\\\"2024-02-01 00:00:00\\\",\\\"{{a},{b}}\\\")\",NULL}",
                                       "(\"(\\\"\\\\\\\\x00\\\")\",{(1)})"};
    for (const char* hex : {"0003000140000003 0001 0929 1a7c", "00017fff0000000003e8", "fffffffe",
                            "7ff8000000000000", "017b7d", "0000000a0eebb000ffffb2a8",
                            "000000036c97ca88000000030000000e", "7ffca2fec4c81fff",
                            "00000001 00000001 00000017 00000003 00000001 00000004 00000001 "
                            "ffffffff 00000004 00000003",
                            "00000003 00000017 00000004 00000001 00000019 00000001 74 000006a4 "
                            "0000000c 0002000000000002 0001 1388"}) {
      bodies.push_back(FromHex(hex));
    }
    std::vector<std::string> made;
    for (size_t type = 0; type < Types().size(); ++type) {
      for (const std::string& body : bodies) made.push_back(static_cast<char>(type) + body);
    }
    return made;
  }();
  return seeds;
}

}  // namespace etl
