#include "apply/schema_step.h"

#include <gtest/gtest.h>

#include "apply/fingerprint.h"

namespace etl {
namespace {

constexpr uint32_t kText = 25;

AttributeFacts Text(int16_t attnum, const std::string& name) {
  auto type = std::make_shared<ColumnType>();
  type->kind = TypeKind::kText;
  type->oid = kText;
  type->name = "text";
  return {.attnum = attnum, .name = name, .type_oid = kText, .type = type};
}

/// Table t with key `id`, attribute 1.
TableFacts Facts(std::vector<AttributeFacts> others) {
  TableFacts facts;
  facts.id = {7};
  facts.schema = "public";
  facts.name = "t";
  facts.columns = {Text(1, "id")};
  facts.key = {1};
  for (AttributeFacts& column : others) {
    facts.attributes = column.attnum;
    facts.columns.push_back(std::move(column));
  }
  return facts;
}

TableSchemaPtr Schema(const TableFacts& facts) { return *MakeTableSchema(facts, {}, 1); }

/// The Relation message that the server sends while the catalog shows `facts`. Views into it.
DecodedMessage Relation(const TableFacts& facts) {
  DecodedMessage message;
  message.type = MessageType::kRelation;
  message.table = facts.id;
  message.schema = facts.schema;
  message.name = facts.name;
  message.replica_identity = facts.replica_identity;
  for (const AttributeFacts& column : facts.columns)
    message.columns.push_back({column.attnum == 1, column.name, column.type_oid, column.typmod});
  return message;
}

TEST(SchemaStep, AColumnThatComesIsAdded) {
  const TableFacts before = Facts({Text(2, "a")});
  const TableFacts now = Facts({Text(2, "a"), Text(3, "b")});
  const auto step =
      StepForRelation(Relation(now), *Schema(before), &now, {}, FingerprintOf(before).attributes);
  ASSERT_TRUE(step.ok());
  EXPECT_EQ(step->kind, SchemaStep::Kind::kChange);
  ASSERT_EQ(step->to->columns.size(), 3u);
  EXPECT_EQ(step->to->columns[2].attnum, 3);
}

// 3 was added and dropped since the last look, and 4 added with the name and type that 3 may have
// had: rows that follow may be of either.
TEST(SchemaStep, AColumnThatCameAndWentMayBeTheOneThatIsShown) {
  const TableFacts before = Facts({Text(2, "a")});
  const TableFacts now = Facts({Text(2, "a"), Text(4, "b")});
  const auto step =
      StepForRelation(Relation(now), *Schema(before), &now, {}, FingerprintOf(before).attributes);
  ASSERT_TRUE(step.ok());
  EXPECT_EQ(step->kind, SchemaStep::Kind::kCopy);
}

TEST(SchemaStep, AColumnThatWentBeforeTheLastLookIsNoRiddle) {
  TableFacts before = Facts({Text(2, "a")});
  before.attributes = 3;
  const TableFacts now = Facts({Text(2, "a"), Text(4, "b")});
  const auto step =
      StepForRelation(Relation(now), *Schema(before), &now, {}, FingerprintOf(before).attributes);
  ASSERT_TRUE(step.ok());
  EXPECT_EQ(step->kind, SchemaStep::Kind::kChange);
  EXPECT_EQ(step->to->columns[2].attnum, 4);
}

// While 4 was there, 3 was there too.
TEST(SchemaStep, AColumnThatCameLaterAndWentIsNoRiddle) {
  const TableFacts before = Facts({Text(2, "a")});
  TableFacts now = Facts({Text(2, "a"), Text(3, "b")});
  now.attributes = 4;
  const auto step =
      StepForRelation(Relation(now), *Schema(before), &now, {}, FingerprintOf(before).attributes);
  ASSERT_TRUE(step.ok());
  EXPECT_EQ(step->kind, SchemaStep::Kind::kChange);
}

TEST(Fingerprint, TheNumberOfAttributesSurvivesItsText) {
  TableFacts facts = Facts({Text(2, "a")});
  facts.attributes = 9;
  facts.leaves.push_back({.id = {7}, .file_node = 70, .bound = "x"});
  const Fingerprint fingerprint = FingerprintOf(facts);
  EXPECT_EQ(*FingerprintFromText(FingerprintToText(fingerprint)), fingerprint);
  EXPECT_EQ(fingerprint.attributes, 9);
}

}  // namespace
}  // namespace etl
