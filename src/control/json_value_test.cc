#include "control/json_value.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace etl {
namespace {

ColumnTypePtr ScalarType(TypeKind kind) {
  auto type = std::make_shared<ColumnType>();
  type->kind = kind;
  return type;
}

ColumnTypePtr ListOf(ColumnTypePtr element) {
  auto type = std::make_shared<ColumnType>();
  type->kind = TypeKind::kList;
  type->dimensions = 1;
  type->element = std::move(element);
  return type;
}

std::string JsonOf(const ColumnTypePtr& type, std::string_view text) {
  std::string out;
  const Status status = AppendJsonValue(*type, text, &out);
  return status.ok() ? out : PartsOf(status).code;
}

TEST(JsonValue, NumbersStandWithoutQuotesUnlessJsonHasNoneLikeThem) {
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kInt8), "-9223372036854775808"), "-9223372036854775808");
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kDecimal), "1.50"), "1.50");
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kFloat8), "1e+20"), "1e+20");
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kFloat8), "NaN"), "\"NaN\"");
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kFloat4), "-Infinity"), "\"-Infinity\"");
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kNumericText), "Infinity"), "\"Infinity\"");
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kOid), "16384"), "\"16384\"");
}

TEST(JsonValue, BooleansAreJsonBooleans) {
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kBool), "t"), "true");
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kBool), "f"), "false");
}

TEST(JsonValue, StringsEscapeWhatWouldBreakThemOrTheLine) {
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kText), "a\"b\\c\n\t\x01z/é"), R"("a\"b\\c\n\t\u0001z/é")");
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kBytea), "\\x00ff"), R"("\\x00ff")");
}

TEST(JsonValue, JsonStandsAsItIsOnOneLine) {
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kJson), "{\n \"a\" : [1,\r\n2]}"), "{  \"a\" : [1,  2]}");
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kJsonb), R"({"a": null})"), R"({"a": null})");
}

TEST(JsonValue, TimesAreIso8601) {
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kTimestamp), "2024-02-29 23:59:59.5"),
            "\"2024-02-29T23:59:59.5\"");
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kTimestampTz), "2024-02-29 23:59:59+00"),
            "\"2024-02-29T23:59:59+00:00\"");
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kTimestampTz), "2024-02-29 23:59:59-03:30"),
            "\"2024-02-29T23:59:59-03:30\"");
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kTimestampTz), "0044-03-15 00:00:00+00 BC"),
            "\"0044-03-15T00:00:00+00:00 BC\"");
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kTimestamp), "infinity"), "\"infinity\"");
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kDate), "2024-02-29"), "\"2024-02-29\"");
}

TEST(JsonValue, ArraysNestAsDeepAsTheyAre) {
  const ColumnTypePtr ints = ListOf(ScalarType(TypeKind::kInt4));
  EXPECT_EQ(JsonOf(ints, "{}"), "[]");
  EXPECT_EQ(JsonOf(ints, "{1,NULL,3}"), "[1,null,3]");
  EXPECT_EQ(JsonOf(ints, "{{1,2},{3,4},{5,6}}"), "[[1,2],[3,4],[5,6]]");
  EXPECT_EQ(JsonOf(ints, "[0:1]={7,8}"), "[7,8]");
  EXPECT_EQ(JsonOf(ListOf(ScalarType(TypeKind::kText)), R"({"a,\"b\"",NULL,"NULL"})"),
            R"(["a,\"b\"",null,"NULL"])");
  EXPECT_EQ(JsonOf(ints, "{1,2"), "ETL-P310");
}

TEST(JsonValue, CompositesAreObjectsInsideArraysToo) {
  auto type = std::make_shared<ColumnType>();
  type->kind = TypeKind::kStruct;
  type->fields = {{"x", ScalarType(TypeKind::kInt4)},
                  {"y \"q\"", ListOf(ScalarType(TypeKind::kText))}};
  EXPECT_EQ(JsonOf(type, R"x((1,"{a,b}"))x"), R"({"x":1,"y \"q\"":["a","b"]})");
  EXPECT_EQ(JsonOf(type, "(,)"), R"({"x":null,"y \"q\"":null})");
  EXPECT_EQ(JsonOf(ListOf(type), R"x({"(1,\"{a}\")","(2,)"})x"),
            R"x([{"x":1,"y \"q\"":["a"]},{"x":2,"y \"q\"":null}])x");
  EXPECT_EQ(JsonOf(type, "(1)"), "ETL-P310");
  EXPECT_EQ(JsonOf(type, "(1,,)"), "ETL-P310");
}

TEST(JsonValue, BytesThatAreNotUtf8AreAnErrorOfTheData) {
  EXPECT_EQ(JsonOf(ScalarType(TypeKind::kText), "a\xff"), "ETL-D140");
}

}  // namespace
}  // namespace etl
