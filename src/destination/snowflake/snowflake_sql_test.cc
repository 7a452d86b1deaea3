#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "destination/snowflake/alter_sql.h"
#include "destination/snowflake/fold_sql.h"
#include "destination/snowflake/identifiers.h"
#include "destination/snowflake/merge_sql.h"
#include "destination/snowflake/snowflake_types.h"

namespace etl {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

ColumnType Type(TypeKind kind, uint8_t precision = 0, uint8_t scale = 0) {
  ColumnType type;
  type.kind = kind;
  type.precision = precision;
  type.scale = scale;
  return type;
}

struct Named {
  std::string name;
  TypeKind kind;
  int16_t attnum;
};

TableSchemaPtr Table(const std::string& name, const std::vector<Named>& columns) {
  auto schema = std::make_shared<TableSchema>();
  schema->id = TableId{16400};
  schema->schema = "public";
  schema->name = name;
  schema->identity = Identity::kKey;
  schema->key = {0};
  for (const Named& column : columns) {
    schema->columns.push_back({.attnum = column.attnum,
                               .name = column.name,
                               .type = std::make_shared<ColumnType>(Type(column.kind))});
  }
  return schema;
}

TableSchemaPtr Orders() {
  return Table("orders", {{"id", TypeKind::kInt4, 1}, {"big", TypeKind::kText, 2}});
}

SnowflakeNames Names(const std::string& schema = "shop",
                     IdentifierCase identifiers = IdentifierCase::kUpper) {
  return SnowflakeNames({.database = "ANALYTICS",
                         .schema = schema,
                         .landing_schema = "etl_schema",
                         .identifiers = identifiers});
}

TEST(SnowflakeIdentifiers, QuotesAndBackslashesAreDoubled) {
  EXPECT_EQ(QuoteIdentifier("a\"b\\c"), "\"a\"\"b\\c\"");
  EXPECT_EQ(QuoteLiteral("a'b\\c\n"), "'a''b\\\\c\n'");
}

TEST(SnowflakeIdentifiers, OnlyPlainLowerCaseFolds) {
  const SnowflakeNames names = Names();
  EXPECT_EQ(names.Fold("orders_2$"), "ORDERS_2$");
  for (const char* kept : {"createdAt", "1st", "$x", "two words", "größe", "", "ORDERS"})
    EXPECT_EQ(names.Fold(kept), kept);
  EXPECT_EQ(Names("shop", IdentifierCase::kPreserve).Fold("orders"), "orders");
}

TEST(SnowflakeIdentifiers, NamesFollowTheContract) {
  const SnowflakeNames one = Names();
  EXPECT_EQ(one.Target(*Orders()).Sql(), "\"ANALYTICS\".\"SHOP\".\"ORDERS\"");
  EXPECT_EQ(one.Landing(*Orders()).Sql(), "\"ANALYTICS\".\"ETL_SCHEMA\".\"LANDING_ORDERS\"");
  EXPECT_EQ(one.Pipe(*Orders()).name, "LANDING_ORDERS-STREAMING");
  EXPECT_EQ(one.Task(*Orders()).name, "ETL_MERGE_ORDERS_TASK");
  const SnowflakeNames many = Names("raw_{schema}");
  EXPECT_EQ(many.Target(*Orders()).schema, "RAW_PUBLIC");
  EXPECT_EQ(many.Landing(*Orders()).name, "LANDING_PUBLIC_ORDERS");
  EXPECT_EQ(many.Task(*Orders()).name, "ETL_MERGE_PUBLIC_ORDERS_TASK");
}

TEST(SnowflakeIdentifiers, TablesThatWouldShareANameAreFound) {
  auto shouting = std::make_shared<TableSchema>(*Orders());
  shouting->name = "ORDERS";
  EXPECT_THAT(NameProblems(Names(), {Orders(), shouting}), SizeIs(2));  // Target and landing.
  EXPECT_THAT(NameProblems(Names("shop", IdentifierCase::kPreserve), {Orders(), shouting}),
              IsEmpty());
  auto other = std::make_shared<TableSchema>(*Orders());
  other->schema = "sales";
  EXPECT_THAT(NameProblems(Names(), {Orders(), other}), SizeIs(2));
  EXPECT_THAT(NameProblems(Names("{schema}"), {Orders(), other}), IsEmpty());
}

TEST(SnowflakeIdentifiers, LongNamesAreCountedInCharacters) {
  auto table = std::make_shared<TableSchema>(*Orders());
  table->name = std::string(63, 'x');
  table->schema = std::string(63, 'y');
  EXPECT_THAT(NameProblems(Names("{schema}"), {table}), IsEmpty());
  EXPECT_THAT(NameProblems(Names(std::string(200, 's') + "{schema}"), {table}), SizeIs(1));
}

TEST(SnowflakePositions, TextOrdersAsNumbersDo) {
  EXPECT_EQ(PositionText({Lsn{0x16B3748}, 10}), "00000000016b3748/000000000000000a");
  EXPECT_LT(BoundaryText(Lsn{0x10}), PositionText({Lsn{0x10}, 0}));
  EXPECT_LT(PositionText({Lsn{0xF}, ~uint64_t{0}}), BoundaryText(Lsn{0x10}));
  EXPECT_EQ(PositionText(CopiedPosition(Lsn{0x100}, 3, 7)), "00000000000000ff/0000030000000007");
}

TEST(SnowflakeTypes, HoldEveryValue) {
  EXPECT_EQ(SnowflakeType(Type(TypeKind::kOid)), "NUMBER(10,0)");
  EXPECT_EQ(SnowflakeType(Type(TypeKind::kDecimal, 38, 37)), "NUMBER(38,37)");
  EXPECT_EQ(SnowflakeType(Type(TypeKind::kDecimal, 38, 38)), "VARCHAR");
  EXPECT_EQ(SnowflakeType(Type(TypeKind::kJsonb)), "VARCHAR(134217728)");
  EXPECT_EQ(SnowflakeType(Type(TypeKind::kList)), "VARIANT");
}

TEST(SnowflakeTypes, WidenOnlyWhereSnowflakeDoes) {
  const auto change = [](const ColumnType& a, const ColumnType& b) { return ChangeOfType(a, b); };
  EXPECT_EQ(change(Type(TypeKind::kInt4), Type(TypeKind::kInt8)), TypeChange::kWiden);
  EXPECT_EQ(change(Type(TypeKind::kInt8), Type(TypeKind::kInt4)), TypeChange::kImpossible);
  EXPECT_EQ(change(Type(TypeKind::kDecimal, 10, 2), Type(TypeKind::kDecimal, 12, 2)),
            TypeChange::kWiden);
  EXPECT_EQ(change(Type(TypeKind::kDecimal, 10, 2), Type(TypeKind::kDecimal, 12, 3)),
            TypeChange::kImpossible);
  EXPECT_EQ(change(Type(TypeKind::kUuid), Type(TypeKind::kText)), TypeChange::kWiden);
  EXPECT_EQ(change(Type(TypeKind::kFloat4), Type(TypeKind::kFloat8)), TypeChange::kNone);
  EXPECT_EQ(change(Type(TypeKind::kInt4), Type(TypeKind::kText)), TypeChange::kImpossible);
}

TEST(SnowflakeTypes, ValuesAreExpressionsOfTheirType) {
  EXPECT_EQ(ValueSql(Type(TypeKind::kText), "it's"), "'it''s'");
  EXPECT_EQ(ValueSql(Type(TypeKind::kDecimal, 12, 2), "1.50"), "CAST('1.50' AS NUMBER(12,2))");
  EXPECT_EQ(ValueSql(Type(TypeKind::kBytea), "AP8Q"), "TO_BINARY('AP8Q', 'BASE64')");
  EXPECT_EQ(ValueSql(Type(TypeKind::kList), "[\"1\"]"), "PARSE_JSON('[\"1\"]')");
}

TEST(SnowflakeDdl, LandingHasTheSourcesColumnsAndItsOwn) {
  const SnowflakeNames names = Names();
  EXPECT_EQ(CreateLandingSql({names, "shop", Orders()}),
            "CREATE TABLE IF NOT EXISTS \"ANALYTICS\".\"ETL_SCHEMA\".\"LANDING_ORDERS\" (\"ID\" "
            "NUMBER(10,0), \"BIG\" VARCHAR(134217728), \"_ETL_OP\" VARCHAR(1), \"_ETL_POSITION\" "
            "VARCHAR(33), \"_ETL_COMMIT_TS\" TIMESTAMP_TZ(6), \"_ETL_UNCHANGED\" ARRAY)");
}

TEST(SnowflakeMerge, IsOneTransactionThatClaimsFirst) {
  const SnowflakeNames names = Names();
  const auto sql = MergeSql({names, "shop", Orders()}, {Lsn{0x100}, Lsn{0x200}});
  ASSERT_THAT(sql, SizeIs(9));
  EXPECT_EQ(sql.front(), "BEGIN TRANSACTION");
  EXPECT_EQ(sql[1],
            "UPDATE \"ANALYTICS\".\"ETL_SCHEMA\".\"_ETL_WATERMARK\" SET \"CLAIMED\" = "
            "'0000000000000200' WHERE \"PIPELINE\" = 'shop' AND \"TABLE_OID\" = 16400 AND "
            "\"GENERATION\" = 1 AND \"PHASE\" = 'live' AND \"APPLIED\" = '0000000000000100'");
  EXPECT_THAT(sql[2], HasSubstr("'the watermark has moved'"));
  EXPECT_EQ(sql.back(), "COMMIT");
}

TEST(SnowflakeMerge, LooksForMovedRowsOnlyWhereTheyMayBe) {
  const SnowflakeNames names = Names();
  const auto merge = [&](const TableSchemaPtr& schema, bool moves) {
    return MergeSql({names, "shop", schema}, {Lsn{1}, Lsn{2}},
                    {.moves = moves, .strict = false})[4];
  };
  EXPECT_THAT(merge(Orders(), true), HasSubstr("WITH RECURSIVE"));
  EXPECT_THAT(merge(Orders(), false), Not(HasSubstr("RECURSIVE")));
  auto full = std::make_shared<TableSchema>(*Orders());
  full->full_images = true;
  EXPECT_THAT(merge(full, true), Not(HasSubstr("RECURSIVE")));
}

TEST(SnowflakeFold, IntoTheTargetIsLiveAtOnceAndIntoTheShadowNeedsTheSwap) {
  const SnowflakeNames names = Names();
  const SnowflakeTable table{names, "shop", Orders()};
  const Fold fold{.from = Lsn{0x100}, .high = Lsn{0x200}, .done = {1}};
  EXPECT_THAT(FoldSql(table, fold, names.Target(*table.schema))[7], HasSubstr("'live'"));
  EXPECT_THAT(FoldSql(table, fold, names.Shadow("shop", *table.schema, 1))[7], HasSubstr("'swap'"));
}

TEST(SnowflakeFold, EveryStateOfTheSwapTellsTheNextStep) {
  const SnowflakeNames names = Names();
  const SnowflakeTable table{names, "shop", Orders()};
  EXPECT_THAT(*NextSwapStep(table, {.target = true, .shadow = true, .retired = true}),
              HasSubstr("DROP TABLE IF EXISTS \"ANALYTICS\".\"SHOP\".\"_ETL_RETIRED_SHOP_16400\""));
  EXPECT_THAT(*NextSwapStep(table, {.target = true, .shadow = true}),
              HasSubstr("\"ORDERS\" RENAME TO \"ANALYTICS\".\"SHOP\".\"_ETL_RETIRED_SHOP_16400\""));
  EXPECT_THAT(*NextSwapStep(table, {.shadow = true, .retired = true}),
              HasSubstr("RENAME TO \"ANALYTICS\".\"SHOP\".\"ORDERS\""));
  EXPECT_FALSE(NextSwapStep(table, {.target = true, .retired = true}).has_value());
}

TEST(SnowflakeAlter, NamesThatSwapGoThroughNamesInPassing) {
  const SnowflakeNames names = Names();
  const auto from = Table(
      "orders", {{"id", TypeKind::kInt4, 1}, {"a", TypeKind::kText, 2}, {"b", TypeKind::kText, 3}});
  const auto to = Table(
      "orders", {{"id", TypeKind::kInt4, 1}, {"b", TypeKind::kText, 2}, {"a", TypeKind::kText, 3}});
  const auto plan = PlanAlter(names, names.Target(*from), *from, *to, {});
  ASSERT_TRUE(plan.ok());
  const auto left = [&](std::set<std::string> columns) {
    columns.insert("ID");
    return RemainingSteps(*plan, columns).size();
  };
  EXPECT_EQ(left({"A", "B"}), 5u);
  EXPECT_EQ(left({"_ETL_PASSING_2", "B"}), 4u);
  EXPECT_EQ(left({"_ETL_PASSING_2", "_ETL_PASSING_3", "_ETL_ALTERING"}), 2u);
  EXPECT_EQ(left({"A", "B", "_ETL_ALTERING"}), 0u);
  EXPECT_THAT(plan->after, SizeIs(1));
}

TEST(SnowflakeAlter, AddedColumnsAreFilledAndOthersWidened) {
  const SnowflakeNames names = Names();
  const auto from = Table("orders", {{"id", TypeKind::kInt4, 1}, {"n", TypeKind::kInt2, 2}});
  const auto to =
      Table("orders",
            {{"id", TypeKind::kInt4, 1}, {"n", TypeKind::kInt8, 2}, {"flag", TypeKind::kText, 3}});
  const auto plan = PlanAlter(names, names.Target(*from), *from, *to, {.fill = {{3, "'new'"}}});
  ASSERT_TRUE(plan.ok());
  const std::string table = "\"ANALYTICS\".\"SHOP\".\"ORDERS\"";
  EXPECT_THAT(
      RemainingSteps(*plan, {"ID", "N"}),
      ElementsAre("ALTER TABLE " + table + " ALTER COLUMN \"N\" SET DATA TYPE NUMBER(19,0)",
                  "ALTER TABLE " + table + " ADD COLUMN IF NOT EXISTS \"FLAG\" VARCHAR(134217728)",
                  "UPDATE " + table + " SET \"FLAG\" = 'new'"));
}

}  // namespace
}  // namespace etl
