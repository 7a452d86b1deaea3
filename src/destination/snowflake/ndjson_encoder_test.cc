#include "destination/snowflake/ndjson_encoder.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "destination/snowflake/ndjson_testing.h"

namespace etl {
namespace {

using enum TypeKind;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr std::string_view kHead =
    R"({"_ETL_OP":"I","_ETL_COMMIT_TS":"2026-01-02T03:04:05.000006Z",)"
    R"("_ETL_POSITION":"00000000016b3748/0000000000000000")";

Result<std::string> Encode(const ChangeBatch& batch, OnUnrepresentable policy,
                           int64_t* nulled = nullptr) {
  ETL_ASSIGN_OR_RETURN(auto encoder,
                       NdjsonEncoder::Make(batch.schema, NamesOf(*batch.schema), policy));
  ETL_RETURN_IF_ERROR(encoder->Bind(batch));
  TextBuffer out;
  for (int64_t row = 0; row < batch.size(); ++row)
    ETL_RETURN_IF_ERROR(encoder->AppendRow(row, &out));
  if (nulled != nullptr) *nulled = encoder->nulled();
  return std::string(out.view());
}

// What stands behind `"V":` for a value of the type; empty: the key is not there.
std::string Value(ColumnTypePtr type, const TestCell& cell) {
  const ChangeBatch batch =
      BatchOf(SchemaOf({{"ID", TypeOf(kInt4)}, {"V", std::move(type)}}), {{TestCell("1"), cell}});
  const Result<std::string> line = Encode(batch, OnUnrepresentable::kError);
  if (!line.ok()) return ErrorLine(line.status());
  EXPECT_TRUE(nlohmann::json::accept(*line)) << *line;
  const std::string before = std::string(kHead) + R"(,"ID":1)";
  EXPECT_EQ(line->substr(0, before.size()), before);
  EXPECT_EQ(line->substr(line->size() - 2), "}\n");
  const std::string rest = line->substr(before.size(), line->size() - before.size() - 2);
  if (rest.empty()) return rest;
  EXPECT_EQ(rest.substr(0, 5), R"(,"V":)");
  return rest.substr(5);
}

std::string Refused(TypeKind kind, const std::string& text) {
  const std::string said = Value(TypeOf(kind), TestCell(text));
  EXPECT_THAT(said, AllOf(HasSubstr("ETL-D140"), HasSubstr("public.things at 0/16B3748:0"),
                          HasSubstr("column V (test)"), Not(HasSubstr(text))));
  return said;
}

TEST(NdjsonEncoder, WritesNumbersAsJsonNumbersWhereTheyAreExact) {
  EXPECT_EQ(Value(TypeOf(kBool), "t"), "true");
  EXPECT_EQ(Value(TypeOf(kBool), "f"), "false");
  EXPECT_EQ(Value(TypeOf(kInt2), "-32768"), "-32768");
  EXPECT_EQ(Value(TypeOf(kInt4), "-2147483648"), "-2147483648");
  EXPECT_EQ(Value(TypeOf(kInt8), "-9223372036854775808"), "-9223372036854775808");
  EXPECT_EQ(Value(TypeOf(kOid), "4294967295"), "4294967295");
  EXPECT_EQ(Value(TypeOf(kFloat8), "0.1"), "0.1");
  EXPECT_EQ(Value(TypeOf(kFloat4), "0.1"), "0.1");
  EXPECT_EQ(Value(TypeOf(kFloat8), "-0"), "-0.0");
  EXPECT_EQ(Value(TypeOf(kFloat8), "NaN"), R"("NaN")");
  EXPECT_EQ(Value(TypeOf(kFloat4), "Infinity"), R"("Inf")");
  EXPECT_EQ(Value(TypeOf(kFloat8), "-Infinity"), R"("-Inf")");
}

TEST(NdjsonEncoder, WritesDecimalsAsStringsUnlessTheyAreShortIntegers) {
  EXPECT_EQ(Value(TypeOf(kDecimal, 12, 2), "-123.4"), R"("-123.40")");
  EXPECT_EQ(Value(TypeOf(kDecimal, 5, 0), "-12345"), "-12345");
  EXPECT_EQ(Value(TypeOf(kDecimal, 38, 0), "9223372036854775807"), "9223372036854775807");
  EXPECT_EQ(Value(TypeOf(kDecimal, 38, 0), "9223372036854775808"), R"("9223372036854775808")");
  EXPECT_EQ(Value(TypeOf(kDecimal, 38, 0), "-99999999999999999999999999999999999999"),
            R"("-99999999999999999999999999999999999999")");
  EXPECT_EQ(Value(TypeOf(kNumericText), "NaN"), R"("NaN")");
  EXPECT_EQ(Value(TypeOf(kNumericText), "1.10"), R"("1.10")");
}

TEST(NdjsonEncoder, WritesTextAsItIs) {
  EXPECT_EQ(Value(TypeOf(kText), ""), R"("")");
  EXPECT_EQ(Value(TypeOf(kText), "a\"\\\n\tü\U0001f600"), "\"a\\\"\\\\\\n\\tü\U0001f600\"");
  EXPECT_EQ(Value(TypeOf(kText), "NULL"), R"("NULL")");
  EXPECT_EQ(Value(TypeOf(kJson), R"({"b" : 1,"b":1.0})"), R"("{\"b\" : 1,\"b\":1.0}")");
  EXPECT_EQ(Value(TypeOf(kJsonb), "null"), R"("null")");
  EXPECT_EQ(Value(TypeOf(kServerText), "[1,5)"), "\"[1,5)\"");
  EXPECT_EQ(Value(TypeOf(kTimeTz), "12:00:00-08"), R"("12:00:00-08")");
  const std::string long_text(300'000, 'z');
  EXPECT_EQ(Value(TypeOf(kText), long_text), "\"" + long_text + "\"");
}

TEST(NdjsonEncoder, WritesBytesAndTimes) {
  EXPECT_EQ(Value(TypeOf(kBytea), "\\x00ff10"), R"("AP8Q")");
  EXPECT_EQ(Value(TypeOf(kBytea), "\\x"), R"("")");
  EXPECT_EQ(Value(TypeOf(kUuid), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            R"("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")");
  EXPECT_EQ(Value(TypeOf(kDate), "0001-01-01"), R"("0001-01-01")");
  EXPECT_EQ(Value(TypeOf(kTimestamp), "9999-12-31 23:59:59.999999"),
            R"("9999-12-31T23:59:59.999999")");
  EXPECT_EQ(Value(TypeOf(kTimestampTz), "2024-02-29 00:00:00+02"),
            R"("2024-02-28T22:00:00.000000Z")");
  EXPECT_EQ(Value(TypeOf(kTime), "23:59:59.999999"), R"("23:59:59.999999")");
  EXPECT_EQ(Value(TypeOf(kInterval), "1 year 2 mons -3 days +04:05:06.789"),
            R"("P1Y2M-3DT4H5M6.789S")");
}

TEST(NdjsonEncoder, LeavesNullOut) { EXPECT_EQ(Value(TypeOf(kText), nullptr), ""); }

TEST(NdjsonEncoder, WritesListsAndStructsAsJsonThatLosesNothing) {
  EXPECT_EQ(Value(ListOf(TypeOf(kInt4)), "{}"), "[]");
  EXPECT_EQ(Value(ListOf(TypeOf(kInt8)), "{9223372036854775807,NULL}"),
            "[9223372036854775807,null]");
  EXPECT_EQ(Value(ListOf(TypeOf(kText), 2), R"({{a,"b,\"c"},{NULL,"NULL"}})"),
            R"([["a","b,\"c"],[null,"NULL"]])");
  EXPECT_EQ(Value(ListOf(TypeOf(kDecimal, 12, 0)), "{12}"), R"(["12"])");
  EXPECT_EQ(Value(ListOf(TypeOf(kDate)), "{2024-01-02,infinity,\"0044-03-15 BC\"}"),
            R"(["2024-01-02","infinity","0044-03-15 BC"])");
  EXPECT_EQ(Value(ListOf(TypeOf(kTime)), "{24:00:00}"), R"(["24:00:00.000000"])");
  EXPECT_EQ(Value(ListOf(TypeOf(kJsonb)), R"({"[1.10, null]"})"), R"(["[1.10, null]"])");
  EXPECT_EQ(Value(ListOf(TypeOf(kBytea)), R"({"\\x00ff10"})"), R"(["AP8Q"])");
  EXPECT_EQ(Value(ListOf(TypeOf(kFloat8)), "{NaN,-0,1.5}"), R"(["NaN",-0.0,1.5])");
  const auto pair = StructOf({{"a\"", TypeOf(kInt4)}, {"b", ListOf(TypeOf(kText))}});
  EXPECT_EQ(Value(pair, R"((1,"{x,y}"))"), R"({"a\"":1,"b":["x","y"]})");
  EXPECT_EQ(Value(ListOf(pair), "{\"(,)\",NULL}"), R"([{"a\"":null,"b":null},null])");
}

TEST(NdjsonEncoder, RefusesWhatSnowflakeCannotHoldWithoutSayingTheValue) {
  EXPECT_THAT(Refused(kDate, "0044-03-15 BC"), HasSubstr("the years 0001 to 9999"));
  Refused(kDate, "10000-01-01");
  Refused(kDate, "infinity");
  Refused(kTimestamp, "-infinity");
  Refused(kTimestamp, "10000-01-01 00:00:00");
  Refused(kTimestampTz, "0001-12-31 23:59:59+00 BC");
  EXPECT_THAT(Refused(kTime, "24:00:00"), HasSubstr("the end of the day"));
}

TEST(NdjsonEncoder, StoresNullAndCountsWhereTheOptionSaysSo) {
  const auto schema = SchemaOf({{"ID", TypeOf(kDate)}, {"V", TypeOf(kTime)}, {"W", TypeOf(kText)}});
  int64_t nulled = 0;
  const auto lines =
      Encode(BatchOf(schema, {{"2024-01-02", "24:00:00", "x"}, {"2024-01-02", "24:00:00", "y"}}),
             OnUnrepresentable::kNull, &nulled);
  ASSERT_TRUE(lines.ok());
  EXPECT_THAT(*lines, HasSubstr(R"(,"ID":"2024-01-02","W":"x"})"));
  EXPECT_EQ(nulled, 2);
  const auto key =
      Encode(BatchOf(schema, {{"infinity", "12:00:00", "x"}}), OnUnrepresentable::kNull);
  EXPECT_EQ(KindOf(key.status()), ErrorKind::kData);
  EXPECT_THAT(ErrorLine(key.status()), HasSubstr("a key column is never stored as NULL"));
}

TEST(NdjsonEncoder, AfterAnErrorTheBufferIsAsBefore) {
  const auto schema = SchemaOf({{"ID", TypeOf(kInt4)}, {"T", TypeOf(kText)}, {"V", TypeOf(kTime)}});
  const ChangeBatch batch =
      BatchOf(schema, {{"1", std::string(100'000, '\n'), "24:00:00"}, {"2", "b", "01:00:00"}});
  auto encoder = NdjsonEncoder::Make(schema, NamesOf(*schema), OnUnrepresentable::kError);
  ASSERT_TRUE(encoder.ok() && (*encoder)->Bind(batch).ok());
  TextBuffer out;
  out.Append("before");
  EXPECT_EQ(KindOf((*encoder)->AppendRow(0, &out)), ErrorKind::kData);
  EXPECT_EQ(out.view(), "before");
  ASSERT_TRUE((*encoder)->AppendRow(1, &out).ok());
  EXPECT_THAT(std::string(out.view()), HasSubstr(R"("ID":2,"T":"b","V":"01:00:00.000000")"));
}

TEST(NdjsonEncoder, OpsPositionsAndTransactionsAreThoseOfTheRows) {
  const auto schema = SchemaOf({{"ID", TypeOf(kInt4)}});
  ChangeBatch batch = BatchOf(schema, {{"1"}, {"2"}, {"3"}, {"4"}, {"5"}});
  batch.ops = {Op::kInsert, Op::kUpdate, Op::kDelete, Op::kMove, Op::kSnapshot};
  batch.transactions = {{Lsn{1}, 1, 7, 2}, {Lsn{0xabcdef0123456789}, 0, 8, 4}, {Lsn{3}, 9, 9, 5}};
  const auto lines = Encode(batch, OnUnrepresentable::kError);
  ASSERT_TRUE(lines.ok());
  EXPECT_EQ(*lines, R"({"_ETL_OP":"I","_ETL_COMMIT_TS":"1970-01-01T00:00:00.000001Z",)"
                    R"("_ETL_POSITION":"0000000000000001/0000000000000000","ID":1})"
                    "\n"
                    R"({"_ETL_OP":"U","_ETL_COMMIT_TS":"1970-01-01T00:00:00.000001Z",)"
                    R"("_ETL_POSITION":"0000000000000001/0000000000000002","ID":2})"
                    "\n"
                    R"({"_ETL_OP":"D","_ETL_POSITION":"abcdef0123456789/0000000000000004","ID":3})"
                    "\n"
                    R"({"_ETL_OP":"I","_ETL_POSITION":"abcdef0123456789/0000000000000006","ID":4})"
                    "\n"
                    R"({"_ETL_OP":"R","_ETL_POSITION":"0000000000000003/0000000000000008","ID":5})"
                    "\n");
}

TEST(NdjsonEncoder, ATruncateIsALineWithoutColumnsAndDisturbsNothing) {
  const auto schema = SchemaOf({{"ID", TypeOf(kInt4)}});
  const ChangeBatch batch = BatchOf(schema, {{"1"}, {"2"}});
  auto encoder = NdjsonEncoder::Make(schema, NamesOf(*schema), OnUnrepresentable::kError);
  ASSERT_TRUE(encoder.ok() && (*encoder)->Bind(batch).ok());
  TextBuffer out;
  ASSERT_TRUE((*encoder)->AppendRow(0, &out).ok());
  (*encoder)->AppendTruncate({schema, {Lsn{0x20}, 5}, 1, 7}, &out);
  EXPECT_EQ((*encoder)->position(), (Position{Lsn{0x20}, 5}));
  ASSERT_TRUE((*encoder)->AppendRow(1, &out).ok());
  EXPECT_EQ((*encoder)->position(), (Position{Lsn{0x16b3748}, 2}));
  EXPECT_EQ(std::string(out.view()),
            std::string(kHead) + ",\"ID\":1}\n" +
                R"({"_ETL_OP":"T","_ETL_COMMIT_TS":"1970-01-01T00:00:00.000001Z",)"
                R"("_ETL_POSITION":"0000000000000020/0000000000000005"})"
                "\n"
                R"({"_ETL_OP":"I","_ETL_COMMIT_TS":"2026-01-02T03:04:05.000006Z",)"
                R"("_ETL_POSITION":"00000000016b3748/0000000000000002","ID":2})"
                "\n");
}

TEST(NdjsonEncoder, NamesUnsentColumns) {
  std::vector<TestColumn> columns{{"ID", TypeOf(kInt4)}};
  for (int i = 1; i < 70; ++i) columns.push_back({"C\"" + std::to_string(i), TypeOf(kText)});
  TestRow row{"1"};
  for (int i = 1; i < 70; ++i) row.push_back(nullptr);
  ChangeBatch batch = BatchOf(SchemaOf(columns), {row, row});
  batch.ops.assign(2, Op::kUpdate);
  batch.unsent_words = 2;
  batch.unsent = {0, 0, 2, 2};
  const auto lines = Encode(batch, OnUnrepresentable::kError);
  ASSERT_TRUE(lines.ok());
  const size_t second = lines->find('\n') + 1;
  EXPECT_THAT(lines->substr(0, second), Not(HasSubstr("_ETL_UNCHANGED")));
  EXPECT_THAT(lines->substr(second), HasSubstr(R"(,"_ETL_UNCHANGED":["C\"1","C\"65"]})"));
}

TEST(NdjsonEncoder, KeysAreTheExactNamesHoweverHostile) {
  const std::vector<std::string> names{"",
                                       "a\"b",
                                       "\\",
                                       "\n\x01",
                                       "größe",
                                       "x,\"_ETL_OP\":\"D\"}",
                                       std::string(29, 'k'),
                                       std::string(255, 'n')};
  std::vector<TestColumn> columns;
  TestRow row;
  for (const std::string& name : names) {
    row.push_back(std::to_string(columns.size()));
    columns.push_back({name, TypeOf(kInt4)});
  }
  const auto line = Encode(BatchOf(SchemaOf(columns), {row}), OnUnrepresentable::kError);
  ASSERT_TRUE(line.ok());
  const auto parsed = nlohmann::json::parse(*line);
  EXPECT_EQ(parsed.size(), names.size() + 3);
  EXPECT_EQ(parsed["_ETL_OP"], "I");
  for (size_t i = 0; i < names.size(); ++i) EXPECT_EQ(parsed.at(names[i]), i);
}

TEST(NdjsonEncoder, ReadsSlicedArrays) {
  const auto pair = StructOf({{"a", TypeOf(kInt4)}, {"b", ListOf(TypeOf(kText))}});
  const auto schema = SchemaOf({{"ID", TypeOf(kInt4)},
                                {"B", TypeOf(kBool)},
                                {"T", TypeOf(kText)},
                                {"L", ListOf(TypeOf(kInt4))},
                                {"S", pair}});
  ChangeBatch batch = BatchOf(schema, {{"1", "t", "x", "{1}", "(1,{p})"},
                                       {"2", "f", "y", "{2,3}", "(2,{q})"},
                                       {"3", "t", nullptr, nullptr, nullptr}});
  batch.rows = batch.rows->Slice(1);
  batch.ops.resize(2);
  batch.ordinals.resize(2);
  batch.transactions[0].end_row = 2;
  const auto lines = Encode(batch, OnUnrepresentable::kError);
  ASSERT_TRUE(lines.ok());
  EXPECT_THAT(*lines,
              AllOf(HasSubstr(R"("ID":2,"B":false,"T":"y","L":[2,3],"S":{"a":2,"b":["q"]}})"),
                    HasSubstr(R"("ID":3,"B":true})")));
}

TEST(NdjsonEncoder, CountsTheBytesOfValues) {
  const auto schema = SchemaOf({{"ID", TypeOf(kInt4)}, {"TEXT", TypeOf(kText)}});
  const ChangeBatch batch = BatchOf(schema, {{"12", "abc"}});
  auto encoder = NdjsonEncoder::Make(schema, NamesOf(*schema), OnUnrepresentable::kError);
  ASSERT_TRUE(encoder.ok() && (*encoder)->Bind(batch).ok());
  TextBuffer out;
  ASSERT_TRUE((*encoder)->AppendRow(0, &out).ok());
  EXPECT_EQ((*encoder)->value_bytes(), 1 + 27 + 33 + 2 + 5);
}

TEST(NdjsonEncoder, RefusesABatchOfAnotherSchema) {
  const auto schema = SchemaOf({{"ID", TypeOf(kInt4)}});
  auto encoder = NdjsonEncoder::Make(schema, NamesOf(*schema), OnUnrepresentable::kError);
  ASSERT_TRUE(encoder.ok());
  const ChangeBatch other = BatchOf(SchemaOf({{"ID", TypeOf(kInt8)}}), {{"1"}});
  EXPECT_EQ(KindOf((*encoder)->Bind(other)), ErrorKind::kInternal);
}

}  // namespace
}  // namespace etl
