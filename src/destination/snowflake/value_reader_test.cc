#include "destination/snowflake/value_reader.h"

#include <arrow/api.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "model/column_type.h"

namespace etl {
namespace {

ColumnTypePtr TypeOf(TypeKind kind, uint8_t precision = 0, uint8_t scale = 0) {
  auto type = std::make_shared<ColumnType>();
  type->kind = kind;
  type->precision = precision;
  type->scale = scale;
  return type;
}

ColumnTypePtr ListOf(ColumnTypePtr element, uint8_t dimensions = 1) {
  auto type = std::make_shared<ColumnType>();
  type->kind = TypeKind::kList;
  type->dimensions = dimensions;
  type->element = std::move(element);
  return type;
}

ColumnTypePtr StructOf(std::vector<ColumnType::Field> fields) {
  auto type = std::make_shared<ColumnType>();
  type->kind = TypeKind::kStruct;
  type->fields = std::move(fields);
  return type;
}

std::string Hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("{:02X}", static_cast<unsigned char>(c));
  return out;
}

/// As Arrow prints values; bytes in hex, times as microseconds, elements and fields between
/// brackets.
std::string Show(const arrow::Array& array, int64_t row) {
  if (array.IsNull(row)) return "null";
  std::string out;
  switch (array.type_id()) {
    case arrow::Type::BINARY:
      return Hex(static_cast<const arrow::BinaryArray&>(array).GetView(row));
    case arrow::Type::FIXED_SIZE_BINARY:
      return Hex(static_cast<const arrow::FixedSizeBinaryArray&>(array).GetView(row));
    case arrow::Type::TIME64:
      return std::to_string(static_cast<const arrow::Time64Array&>(array).Value(row));
    case arrow::Type::LIST: {
      const auto& list = static_cast<const arrow::ListArray&>(array);
      for (int64_t i = list.value_offset(row); i < list.value_offset(row + 1); ++i)
        out += (out.empty() ? "" : ", ") + Show(*list.values(), i);
      return "[" + out + "]";
    }
    case arrow::Type::STRUCT: {
      const auto& fields = static_cast<const arrow::StructArray&>(array);
      for (int i = 0; i < fields.num_fields(); ++i)
        out += (out.empty() ? "" : ", ") + fields.struct_type()->field(i)->name() + ": " +
               Show(*fields.field(i), row);
      return "{" + out + "}";
    }
    default: return array.GetScalar(row).ValueOrDie()->ToString();
  }
}

/// The value as it was read; `-` if it is refused.
std::string Read(const ColumnTypePtr& type, const std::optional<std::string>& text) {
  std::unique_ptr<arrow::ArrayBuilder> builder;
  EXPECT_TRUE(arrow::MakeBuilder(arrow::default_memory_pool(), ArrowTypeOf(*type), &builder).ok());
  if (!AppendStored(text, builder.get())) return "-";
  const auto array = builder->Finish().ValueOrDie();
  EXPECT_EQ(array->length(), 1);
  return Show(*array, 0);
}

struct Case {
  const char* name;
  ColumnTypePtr type;
  const char* text;
  const char* value;
};

TEST(ValueReader, ReadsEveryTypeInTheTextsOfTheSqlApi) {
  const std::vector<Case> cases = {
      {"bool", TypeOf(TypeKind::kBool), "true", "true"},
      {"bool", TypeOf(TypeKind::kBool), "false", "false"},
      {"int2", TypeOf(TypeKind::kInt2), "-32768", "-32768"},
      {"int4", TypeOf(TypeKind::kInt4), "2147483647", "2147483647"},
      {"int8", TypeOf(TypeKind::kInt8), "-9223372036854775808", "-9223372036854775808"},
      {"oid", TypeOf(TypeKind::kOid), "4294967295", "4294967295"},
      {"float4", TypeOf(TypeKind::kFloat4), "0.1", "0.1"},
      {"float8", TypeOf(TypeKind::kFloat8), "5e-324", "5e-324"},
      {"NaN", TypeOf(TypeKind::kFloat8), "NaN", "nan"},
      {"inf", TypeOf(TypeKind::kFloat8), "-inf", "-inf"},
      {"Inf", TypeOf(TypeKind::kFloat4), "Inf", "inf"},
      {"decimal", TypeOf(TypeKind::kDecimal, 12, 3), "-0.050", "-0.050"},
      {"decimal without its zeros", TypeOf(TypeKind::kDecimal, 12, 3), "7", "7.000"},
      {"decimal of 38 digits", TypeOf(TypeKind::kDecimal, 38, 0),
       "99999999999999999999999999999999999999", "99999999999999999999999999999999999999"},
      {"decimal of scale 38", TypeOf(TypeKind::kDecimal, 38, 38),
       "0.12345678901234567890123456789012345678", "0.12345678901234567890123456789012345678"},
      {"numeric", TypeOf(TypeKind::kNumericText), "1e5", "1e5"},
      {"text", TypeOf(TypeKind::kText), "Grüße 🦆", "Grüße 🦆"},
      {"json", TypeOf(TypeKind::kJson), "{ \"b\":1,\"b\":2}", "{ \"b\":1,\"b\":2}"},
      {"jsonb", TypeOf(TypeKind::kJsonb), "[1.10]", "[1.10]"},
      {"char", TypeOf(TypeKind::kChar), "x", "x"},
      {"bytea", TypeOf(TypeKind::kBytea), "00FF0a", "00FF0A"},
      {"uuid", TypeOf(TypeKind::kUuid), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
       "A0EEBC999C0B4EF8BB6D6BB9BD380A11"},
      {"date", TypeOf(TypeKind::kDate), "-719162", "0001-01-01"},
      {"time", TypeOf(TypeKind::kTime), "86399.999999000", "86399999999"},
      {"timetz", TypeOf(TypeKind::kTimeTz), "12:00:00+02", "12:00:00+02"},
      {"timestamp", TypeOf(TypeKind::kTimestamp), "1611528001.123456000",
       "2021-01-24 22:40:01.123456"},
      {"timestamp before 1970", TypeOf(TypeKind::kTimestamp), "-0.000001000",
       "1969-12-31 23:59:59.999999"},
      {"timestamptz", TypeOf(TypeKind::kTimestampTz), "1611528001.000000000 1440",
       "2021-01-24 22:40:01.000000Z"},
      {"interval", TypeOf(TypeKind::kInterval), "P-1Y2M-3DT4H-5M6.789S", "-10M-3d14106789000000ns"},
      {"no interval", TypeOf(TypeKind::kInterval), "PT0S", "0M0d0ns"},
      {"negative part of a second", TypeOf(TypeKind::kInterval), "PT-0.000001S", "0M0d-1000ns"},
      {"server's own text", TypeOf(TypeKind::kServerText), "[1,5)", "[1,5)"},
      {"list", ListOf(TypeOf(TypeKind::kInt4)), "[1,null,3]", "[1, null, 3]"},
      {"empty list", ListOf(TypeOf(TypeKind::kInt4)), "[]", "[]"},
  };
  for (const Case& each : cases) EXPECT_EQ(Read(each.type, each.text), each.value) << each.name;
}

std::string InList(const ColumnTypePtr& element, const std::string& json) {
  return Read(ListOf(element), "[" + json + "]");
}

TEST(ValueReader, ReadsElementsOfAVariant) {
  EXPECT_EQ(InList(TypeOf(TypeKind::kBool), "true,false"), "[true, false]");
  EXPECT_EQ(InList(TypeOf(TypeKind::kInt8), "9223372036854775807"), "[9223372036854775807]");
  EXPECT_EQ(InList(TypeOf(TypeKind::kFloat8), "1,0.1,\"NaN\",\"Inf\",\"-Inf\""),
            "[1, 0.1, nan, inf, -inf]");
  EXPECT_EQ(InList(TypeOf(TypeKind::kDecimal, 10, 2), "\"1.50\""), "[1.50]");
  EXPECT_EQ(InList(TypeOf(TypeKind::kNumericText), "\"NaN\""), "[NaN]");
  EXPECT_EQ(InList(TypeOf(TypeKind::kBytea), "\"+/8=\""), "[FBFF]");
  EXPECT_EQ(InList(TypeOf(TypeKind::kDate), "\"2024-01-02\",\"0044-03-15 BC\""),
            "[2024-01-02, -0043-03-15]");
  EXPECT_EQ(InList(TypeOf(TypeKind::kTime), "\"24:00:00.000000\""), "[86400000000]");
  EXPECT_EQ(InList(TypeOf(TypeKind::kTimestamp), "\"2024-01-02T03:04:05.000006\""),
            "[2024-01-02 03:04:05.000006]");
  EXPECT_EQ(InList(TypeOf(TypeKind::kTimestampTz),
                   "\"2024-01-02T03:04:05.000006Z\",\"10000-01-01 00:00:00.000000+00\""),
            "[2024-01-02 03:04:05.000006Z, 10000-01-01 00:00:00.000000Z]");
  EXPECT_EQ(InList(TypeOf(TypeKind::kInterval), "\"P1D\""), "[0M1d0ns]");
  EXPECT_EQ(InList(TypeOf(TypeKind::kText), "\"a\\\"b\",null"), "[a\"b, null]");
}

TEST(ValueReader, FieldsOfACompositeAreFoundByTheirNames) {
  const auto type = StructOf({{"b", TypeOf(TypeKind::kInt4)},
                              {"a", ListOf(TypeOf(TypeKind::kText), 2)},
                              {"gone", TypeOf(TypeKind::kText)}});
  EXPECT_EQ(Read(type, R"({"a":[["x"],["y"]],"b":7,"gone":null})"),
            "{b: 7, a: [[x], [y]], gone: null}");
}

TEST(ValueReader, NullIsNullAndWhatIsNoValueIsRefused) {
  for (const auto& type : {TypeOf(TypeKind::kInt4), ListOf(TypeOf(TypeKind::kInt4)),
                           TypeOf(TypeKind::kText), TypeOf(TypeKind::kInterval)}) {
    EXPECT_EQ(Read(type, std::nullopt), "null");
  }
  EXPECT_EQ(Read(TypeOf(TypeKind::kInt2), "32768"), "-");
  EXPECT_EQ(Read(TypeOf(TypeKind::kInt4), "1.5"), "-");
  EXPECT_EQ(Read(TypeOf(TypeKind::kBool), "maybe"), "-");
  EXPECT_EQ(Read(TypeOf(TypeKind::kDecimal, 4, 1), "1.25"), "-");
  EXPECT_EQ(Read(TypeOf(TypeKind::kBytea), "0G"), "-");
  EXPECT_EQ(Read(TypeOf(TypeKind::kTimestamp), "1.0000001"), "-");
  EXPECT_EQ(Read(TypeOf(TypeKind::kTimestamp), ""), "-");
  EXPECT_EQ(Read(TypeOf(TypeKind::kInterval), "1 day"), "-");
  EXPECT_EQ(Read(TypeOf(TypeKind::kInterval), "P99999999999D"), "-");
  EXPECT_EQ(Read(ListOf(TypeOf(TypeKind::kInt4)), "[1"), "-");
  EXPECT_EQ(Read(ListOf(TypeOf(TypeKind::kInt4)), "null"), "-");
  EXPECT_EQ(Read(ListOf(TypeOf(TypeKind::kInt4)), "{\"a\":1}"), "-");
  EXPECT_EQ(Read(ListOf(TypeOf(TypeKind::kInt4)), "[\"1\"]"), "-");
}

}  // namespace
}  // namespace etl
