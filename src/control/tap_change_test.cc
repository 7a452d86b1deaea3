#include "control/tap_change.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace etl {
namespace {

using Json = nlohmann::json;
using ::testing::ElementsAre;

ColumnTypePtr Type(TypeKind kind) {
  auto type = std::make_shared<ColumnType>();
  type->kind = kind;
  return type;
}

// A table (id int primary key, note text, secret text).
class TapChange : public testing::Test {
 protected:
  TapChange() {
    facts_.schema = "public";
    facts_.name = "t";
    facts_.key = {1};
    facts_.columns = {
        {.attnum = 1, .name = "id", .type_oid = 23, .type = Type(TypeKind::kInt4)},
        {.attnum = 2, .name = "note", .type_oid = 25, .type = Type(TypeKind::kText)},
        {.attnum = 3, .name = "secret", .type_oid = 25, .type = Type(TypeKind::kText)}};
    relation_.type = MessageType::kRelation;
    relation_.schema = "public";
    relation_.name = "t";
    relation_.columns = {{.key = true, .name = "id", .type_oid = 23},
                         {.name = "note", .type_oid = 25},
                         {.name = "secret", .type_oid = 25}};
  }

  std::vector<Json> Changes(const DecodedMessage& message, const TapTable::Options& options = {},
                            uint64_t ordinal = 4) {
    auto table = TapTable::Make(relation_, keyless_ ? nullptr : &facts_, options).ValueOrDie();
    table->Begin({0x16B3748}, 0, 731);
    std::vector<Json> lines;
    for (const std::string& line : table->Changes(message, ordinal).ValueOrDie()) {
      EXPECT_EQ(line.find('\n'), std::string::npos);
      lines.push_back(Json::parse(line));
    }
    return lines;
  }

  static DecodedMessage Update(char old_kind, std::vector<Cell> old_row, std::vector<Cell> row) {
    DecodedMessage message;
    message.type = MessageType::kUpdate;
    message.old_kind = old_kind;
    message.old_cells = std::move(old_row);
    message.cells = std::move(row);
    return message;
  }

  TableFacts facts_;
  DecodedMessage relation_;
  bool keyless_ = false;
};

const Cell kNull{.kind = 'n'};
const Cell kUnsent{.kind = 'u'};
Cell Text(std::string_view text) { return {.kind = 't', .bytes = text}; }

TEST_F(TapChange, InsertHasPlaceKeyAndRow) {
  DecodedMessage message;
  message.type = MessageType::kInsert;
  message.cells = {Text("1"), kNull, Text("x")};
  // Left over from the message before.
  message.old_kind = 'K';
  message.old_cells = {Text("9")};
  EXPECT_THAT(Changes(message), ElementsAre(Json::parse(R"({
    "table":"public.t","op":"i","position":"0/16B3748:4","commit_ts":"1970-01-01T00:00:00Z",
    "xid":731,"key":{"id":1},"old":null,"new":{"id":1,"note":null,"secret":"x"},"unchanged":[]})")));
}

TEST_F(TapChange, UnsentValuesAreNamedAndLeftOut) {
  const auto lines = Changes(Update(0, {}, {Text("1"), kUnsent, Text("x")}));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0]["op"], "u");
  EXPECT_EQ(lines[0]["unchanged"], Json::parse(R"(["note"])"));
  EXPECT_EQ(lines[0]["new"], Json::parse(R"({"id":1,"secret":"x"})"));
}

TEST_F(TapChange, UnsentValuesAreTakenFromAFullOldRow) {
  const auto lines =
      Changes(Update('O', {Text("1"), Text("long"), Text("w")}, {Text("1"), kUnsent, Text("x")}));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0]["unchanged"], Json::array());
  EXPECT_EQ(lines[0]["new"]["note"], "long");
  EXPECT_EQ(lines[0]["old"]["secret"], "w");
}

TEST_F(TapChange, KeyChangeIsADeleteAndAnInsertWithPlacesOfTheirOwn) {
  const auto lines =
      Changes(Update('K', {Text("1"), kNull, kNull}, {Text("2"), Text("n"), Text("x")}));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["op"], "d");
  EXPECT_EQ(lines[0]["position"], "0/16B3748:4");
  EXPECT_EQ(lines[0]["key"], Json::parse(R"({"id":1})"));
  EXPECT_EQ(lines[0]["old"], Json::parse(R"({"id":1})"));
  EXPECT_EQ(lines[0]["new"], nullptr);
  EXPECT_EQ(lines[1]["op"], "i");
  EXPECT_EQ(lines[1]["position"], "0/16B3748:5");
  EXPECT_EQ(lines[1]["new"]["id"], 2);
}

TEST_F(TapChange, AnOutOfLineKeyThatStaysIsNoKeyChange) {
  const auto lines =
      Changes(Update('K', {Text("1"), kNull, kNull}, {kUnsent, Text("n"), Text("x")}));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0]["op"], "u");
  EXPECT_EQ(lines[0]["new"]["id"], 1);
  EXPECT_EQ(lines[0]["unchanged"], Json::array());
}

TEST_F(TapChange, DeleteAndTruncateHaveNoNewRow) {
  DecodedMessage message;
  message.type = MessageType::kDelete;
  message.old_kind = 'K';
  message.old_cells = {Text("7"), kNull, kNull};
  // Left over from another table's message.
  message.cells = {Text("1")};
  const auto deleted = Changes(message);
  ASSERT_EQ(deleted.size(), 1u);
  EXPECT_EQ(deleted[0]["old"], Json::parse(R"({"id":7})"));
  EXPECT_EQ(deleted[0]["new"], nullptr);
  message.type = MessageType::kTruncate;
  const auto truncated = Changes(message);
  ASSERT_EQ(truncated.size(), 1u);
  EXPECT_EQ(truncated[0]["op"], "t");
  EXPECT_EQ(truncated[0]["key"], nullptr);
}

TEST_F(TapChange, WithoutAKeyAFullUpdateIsADeleteAndAnInsert) {
  keyless_ = true;
  relation_.replica_identity = 'f';
  for (RelationColumn& column : relation_.columns) column.key = true;
  const auto lines =
      Changes(Update('O', {Text("1"), Text("a"), Text("w")}, {Text("1"), Text("b"), Text("x")}));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["key"], nullptr);
  EXPECT_EQ(lines[0]["old"]["note"], "a");
}

TEST_F(TapChange, RulesForColumnsHoldInEveryPart) {
  // HMAC-SHA-256 of "x" under "k", by `printf x | openssl dgst -sha256 -hmac k`.
  const std::string hashed = "c38edc8815c8489f64738978f44008f8596345545f0baa68ef6fcf5c53e57189";
  const auto lines =
      Changes(Update('O', {Text("1"), Text("old"), Text("x")}, {Text("1"), Text("new"), Text("x")}),
              {.rules = {.exclude = {"note"}, .hash = {"secret"}}, .hash_key = "k"});
  ASSERT_EQ(lines.size(), 1u);
  for (const char* part : {"old", "new"}) {
    EXPECT_FALSE(lines[0][part].contains("note")) << part;
    EXPECT_EQ(lines[0][part]["secret"], hashed) << part;
  }
}

}  // namespace
}  // namespace etl
