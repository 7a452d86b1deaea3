#include <gtest/gtest.h>

#include "model/position.h"
#include "model/schema_json.h"

namespace etl {
namespace {

TEST(Lsn, ReadsAndPrints) {
  EXPECT_EQ(ParseLsn("5A/10F3C28")->value, 0x5A010F3C28u);
  EXPECT_EQ(FormatLsn(Lsn{0x5A010F3C28u}), "5A/10F3C28");
  EXPECT_EQ(ParseLsn("0/0A0B0C0D")->value, 0x0A0B0C0Du);
  for (const char* bad : {"", "1", "/", "1/", "/1", "1/g", "1/2 ", "100000000/0"})
    EXPECT_FALSE(ParseLsn(bad)) << bad;
}

TEST(Position, OrdersByCommitThenOrdinal) {
  EXPECT_LT((Position{Lsn{1}, 9}), (Position{Lsn{2}, 0}));
  EXPECT_LT((Position{Lsn{2}, 0}), (Position{Lsn{2}, 1}));
}

TEST(SchemaJson, IsExactBothWays) {
  auto text =
      std::make_shared<ColumnType>(ColumnType{.kind = TypeKind::kText, .oid = 25, .name = "text"});
  auto list = std::make_shared<ColumnType>();
  list->kind = TypeKind::kList;
  list->dimensions = 2;
  list->element = text;
  TableSchema schema;
  schema.id = TableId{77};
  schema.schema = "public";
  schema.name = "a\"b";
  schema.identity = Identity::kKey;
  schema.key = {0};
  schema.columns = {{1, "id", text, false}, {3, "l", list, false}};
  schema.wire = {
      {1, "id", 25, -1, text, 0}, {2, "gone", 25, -1, text, -1}, {3, "l", 1009, -1, list, 1}};
  const std::string json = SchemaToJson(schema);
  const TableSchemaPtr back = *SchemaFromJson(json);
  EXPECT_EQ(SchemaToJson(*back), json);
  EXPECT_EQ(back->columns[1].type->element->oid, 25u);
  EXPECT_FALSE(SchemaFromJson("{").ok());
}

}  // namespace
}  // namespace etl
