#include "batch/table_batcher.h"

#include <arrow/record_batch.h>

#include "batch/value_testing.h"

namespace etl {
namespace {

// orders(id int8 key, note text, amount numeric(6,2)) with wire columns in that order and an
// excluded one between.
std::shared_ptr<TableSchema> Orders(Identity identity = Identity::kKey, bool full_images = false) {
  auto schema = std::make_shared<TableSchema>();
  schema->id = TableId{77};
  schema->schema = "public";
  schema->name = "orders";
  schema->identity = identity;
  schema->full_images = full_images;
  const auto add = [&](const std::string& name, ColumnType type, bool excluded) {
    WireColumn wire;
    wire.attnum = static_cast<int16_t>(schema->wire.size() + 1);
    wire.name = name;
    wire.type = std::make_shared<ColumnType>(std::move(type));
    if (!excluded) {
      wire.output = static_cast<int>(schema->columns.size());
      schema->columns.push_back(Column{wire.attnum, name, wire.type, false});
    }
    schema->wire.push_back(wire);
  };
  add("id", Scalar(TypeKind::kInt8), false);
  add("secret", Scalar(TypeKind::kText), true);
  add("note", Scalar(TypeKind::kText), false);
  add("amount", Scalar(TypeKind::kDecimal, 6, 2), false);
  if (identity == Identity::kKey) schema->key = {0};
  return schema;
}

Cell T(std::string_view text) { return Cell{'t', text}; }
const Cell kNull{'n', {}};
const Cell kUnsent{'u', {}};
using Row = std::vector<Cell>;

class TableBatcherTest : public testing::Test {
 protected:
  void Open(TableSchemaPtr schema) {
    auto made = TableBatcher::Make(std::move(schema), &options_);
    ASSERT_TRUE(made.ok()) << made.status().ToString();
    batcher_ = std::move(made).ValueUnsafe();
    batcher_->Begin(Lsn{0x100}, 5, 9);
  }
  // `op:ordinal id|note|amount`, with - for NULL and ? for unsent.
  std::vector<std::string> Sealed() {
    auto sealed = batcher_->Seal();
    EXPECT_TRUE(sealed.ok()) << sealed.status().ToString();
    batch_ = std::move(sealed).ValueUnsafe();
    EXPECT_TRUE(batch_.rows->ValidateFull().ok());
    EXPECT_TRUE(
        batch_.rows->schema()->Equals(*batch_.schema->ArrowSchema(), /*check_metadata=*/true));
    std::vector<std::string> rows;
    for (int64_t row = 0; row < batch_.size(); ++row) {
      const auto i = static_cast<size_t>(row);
      std::string text = std::string(1, static_cast<char>(batch_.ops[i])) + ":" +
                         std::to_string(batch_.ordinals[i]) + " ";
      for (int column = 0; column < batch_.rows->num_columns(); ++column) {
        const auto& array = batch_.rows->column(column);
        const std::string value =
            array->IsNull(row) ? "-" : array->GetScalar(row).ValueOrDie()->ToString();
        EXPECT_TRUE(!batch_.Unsent(row, column) || value == "-");
        text += (column == 0 ? "" : "|") + (batch_.Unsent(row, column) ? "?" : value);
      }
      rows.push_back(text);
    }
    return rows;
  }
  using Lines = std::vector<std::string>;

  BatchOptions options_;
  std::unique_ptr<TableBatcher> batcher_;
  ChangeBatch batch_;
};

TEST_F(TableBatcherTest, RowsKeepStreamOrderAndLeaveExcludedColumnsOut) {
  Open(Orders());
  ASSERT_TRUE(batcher_->Insert(Row{T("1"), T("s"), T("a"), T("1.5")}, 0).ok());
  ASSERT_TRUE(batcher_->Update(0, {}, Row{T("1"), T("s"), kNull, T("2")}, 2).ok());
  ASSERT_TRUE(batcher_->Delete('K', Row{T("1"), kNull, kNull, kNull}, 4).ok());
  EXPECT_EQ(batcher_->rows(), 3);
  EXPECT_GT(batcher_->bytes(), 3 * (8 + 8 + 1));
  EXPECT_EQ(Sealed(), (Lines{"i:0 1|a|1.50", "u:2 1|-|2.00", "d:4 1|-|-"}));
  EXPECT_TRUE(batch_.unsent.empty());
  EXPECT_EQ(batcher_->rows(), 0);
}

TEST_F(TableBatcherTest, BinaryCellsGiveTheSameRows) {
  Open(Orders());
  const std::string id = Hex("0000000000000001");
  const std::string amount = Hex("0002000000000002 0001 1388");
  ASSERT_TRUE(batcher_->Insert(Row{{'b', id}, {'b', "s"}, {'b', "a"}, {'b', amount}}, 0).ok());
  EXPECT_EQ(Sealed(), (Lines{"i:0 1|a|1.50"}));
}

TEST_F(TableBatcherTest, AKeyChangeIsADeleteAndAMove) {
  Open(Orders());
  ASSERT_TRUE(
      batcher_
          ->Update('K', Row{T("1"), kNull, kNull, kNull}, Row{T("2"), kNull, kUnsent, T("3")}, 6)
          .ok());
  EXPECT_EQ(Sealed(), (Lines{"d:6 1|-|-", "m:7 2|?|3.00"}));
}

TEST_F(TableBatcherTest, AnOutOfLineKeyThatStaysIsNoKeyChange) {
  Open(Orders());
  const Row old_row{T("1"), kNull, kNull, kNull};
  ASSERT_TRUE(batcher_->Update('K', old_row, Row{kUnsent, kNull, T("a"), kUnsent}, 0).ok());
  ASSERT_TRUE(batcher_->Update('K', old_row, Row{T("1"), kNull, T("b"), T("1")}, 2).ok());
  EXPECT_EQ(Sealed(), (Lines{"u:0 1|a|?", "u:2 1|b|1.00"}));
}

TEST_F(TableBatcherTest, AnUnsentKeyWithoutOldRowIsAnError) {
  Open(Orders());
  const Status status = batcher_->Update(0, {}, Row{kUnsent, kNull, T("a"), T("1")}, 4);
  EXPECT_EQ(KindOf(status), ErrorKind::kSchema);
  EXPECT_NE(PartsOf(status).what.find("public.orders at 0/100:4"), std::string::npos)
      << status.ToString();
  Open(Orders());
  EXPECT_FALSE(batcher_->Delete('K', Row{kNull, kNull, kNull, kNull}, 0).ok());
  Open(Orders());
  EXPECT_FALSE(batcher_->Insert(Row{kUnsent, kNull, kNull, kNull}, 0).ok());
  Open(Orders());
  EXPECT_FALSE(batcher_->Insert(Row{kNull, kNull, kNull, kNull}, 0).ok());
}

TEST_F(TableBatcherTest, UnsentBitsStandInTheRightRows) {
  Open(Orders());
  ASSERT_TRUE(batcher_->Update(0, {}, Row{T("1"), kNull, T("a"), T("1")}, 0).ok());
  ASSERT_TRUE(batcher_->Update(0, {}, Row{T("2"), kUnsent, kUnsent, T("1")}, 2).ok());
  ASSERT_TRUE(batcher_->Update(0, {}, Row{T("3"), kNull, T("c"), T("1")}, 4).ok());
  ASSERT_TRUE(batcher_->Insert(Row{T("4"), kNull, T("c"), kUnsent}, 6).ok());
  EXPECT_EQ(Sealed(), (Lines{"u:0 1|a|1.00", "u:2 2|?|1.00", "u:4 3|c|1.00", "i:6 4|c|?"}));
  ASSERT_TRUE(batcher_->Insert(Row{T("5"), kNull, T("c"), T("1")}, 8).ok());
  EXPECT_EQ(Sealed(), (Lines{"i:8 5|c|1.00"}));
  EXPECT_TRUE(batch_.unsent.empty());
}

TEST_F(TableBatcherTest, FullImagesFillWhatWasNotSent) {
  Open(Orders(Identity::kKey, /*full_images=*/true));
  const Row old_row{T("1"), kNull, T("long"), T("1")};
  ASSERT_TRUE(batcher_->Update('O', old_row, Row{T("1"), kNull, kUnsent, T("2")}, 0).ok());
  ASSERT_TRUE(batcher_->Update('O', old_row, Row{T("9"), kNull, kUnsent, kNull}, 2).ok());
  ASSERT_TRUE(batcher_->Delete('O', old_row, 4).ok());
  EXPECT_EQ(Sealed(),
            (Lines{"u:0 1|long|2.00", "d:2 1|long|1.00", "m:3 9|long|-", "d:4 1|long|1.00"}));
  EXPECT_TRUE(batch_.unsent.empty());
}

TEST_F(TableBatcherTest, WithoutAKeyEveryUpdateIsDeleteAndInsert) {
  Open(Orders(Identity::kFullRow, /*full_images=*/true));
  const Row old_row{kNull, kNull, T("long"), T("1")};
  ASSERT_TRUE(batcher_->Update('O', old_row, Row{kNull, kNull, kUnsent, T("2")}, 10).ok());
  ASSERT_TRUE(batcher_->Delete('O', old_row, 12).ok());
  EXPECT_EQ(Sealed(), (Lines{"d:10 -|long|1.00", "i:11 -|long|2.00", "d:12 -|long|1.00"}));
  EXPECT_FALSE(batcher_->Delete('K', old_row, 14).ok());
  Open(Orders(Identity::kFullRow, true));
  EXPECT_FALSE(batcher_->Update(0, {}, old_row, 16).ok());
  Open(Orders(Identity::kFullRow, true));
  EXPECT_FALSE(batcher_->Insert(Row{kNull, kNull, kUnsent, T("2")}, 18).ok());
}

TEST_F(TableBatcherTest, ATableWithoutIdentityTakesOnlyInserts) {
  Open(Orders(Identity::kNone));
  ASSERT_TRUE(batcher_->Insert(Row{kNull, kNull, T("a"), kNull}, 0).ok());
  EXPECT_EQ(KindOf(batcher_->Update(0, {}, Row{kNull, kNull, T("a"), kNull}, 2)),
            ErrorKind::kSchema);
  EXPECT_EQ(KindOf(batcher_->Delete('K', Row{kNull, kNull, T("a"), kNull}, 2)), ErrorKind::kSchema);
}

TEST_F(TableBatcherTest, RunsOfTransactionsCoverTheRows) {
  Open(Orders());
  const Row row{T("1"), kNull, kNull, kNull};
  ASSERT_TRUE(batcher_->Insert(row, 0).ok());
  batcher_->Begin(Lsn{0x200}, 6, 10);
  batcher_->Begin(Lsn{0x300}, 7, 11);
  ASSERT_TRUE(batcher_->Insert(row, 0).ok());
  ASSERT_TRUE(batcher_->Insert(row, 2).ok());
  Sealed();
  ASSERT_EQ(batch_.transactions.size(), 2u);
  EXPECT_EQ(batch_.transactions[0].commit, Lsn{0x100});
  EXPECT_EQ(batch_.transactions[0].end_row, 1);
  EXPECT_EQ(batch_.transactions[1].commit, Lsn{0x300});
  EXPECT_EQ(batch_.transactions[1].commit_time, 7);
  EXPECT_EQ(batch_.transactions[1].xid, 11u);
  EXPECT_EQ(batch_.transactions[1].end_row, 3);
  ASSERT_TRUE(batcher_->Insert(row, 4).ok());  // still of that transaction
  Sealed();
  ASSERT_EQ(batch_.transactions.size(), 1u);
  EXPECT_EQ(batch_.transactions[0].commit, Lsn{0x300});
  EXPECT_EQ(batch_.transactions[0].end_row, 1);
}

TEST_F(TableBatcherTest, AnotherNumberOfCellsIsAnError) {
  Open(Orders());
  EXPECT_EQ(KindOf(batcher_->Insert(Row{T("1")}, 0)), ErrorKind::kInternal);
  Open(Orders());
  EXPECT_FALSE(batcher_->Update('K', Row{T("1")}, Row{T("1"), kNull, kNull, kNull}, 0).ok());
}

TEST_F(TableBatcherTest, AnUnrepresentableValueNamesItsPlaceAndTheWayOut) {
  Open(Orders());
  const Status status = batcher_->Insert(Row{T("1"), kNull, T("a"), T("NaN")}, 6);
  EXPECT_EQ(KindOf(status), ErrorKind::kData);
  const ErrorParts parts = PartsOf(status);
  EXPECT_EQ(parts.code, "ETL-D140");
  EXPECT_NE(parts.what.find("public.orders at 0/100:6"), std::string::npos) << parts.what;
  EXPECT_NE(parts.what.find("amount"), std::string::npos);
  EXPECT_NE(parts.why.find("NaN"), std::string::npos);
  EXPECT_NE(parts.remedy.find("on_unrepresentable: null"), std::string::npos);
  EXPECT_NE(parts.remedy.find("exclude"), std::string::npos);
}

TEST_F(TableBatcherTest, UnrepresentableValuesBecomeNullAndAreCountedWhereAsked) {
  options_.on_unrepresentable = OnUnrepresentable::kNull;
  Open(Orders());
  ASSERT_TRUE(batcher_->Insert(Row{T("1"), kNull, T("\xff"), T("NaN")}, 0).ok());
  ASSERT_TRUE(batcher_->Insert(Row{T("2"), kNull, T("a"), T("99999.00")}, 2).ok());
  EXPECT_EQ(batcher_->nulled(), 3);
  EXPECT_EQ(Sealed(), (Lines{"i:0 1|-|-", "i:2 2|a|-"}));
  EXPECT_EQ(batcher_->nulled(), 3);
  auto keyed = Orders();
  keyed->key = {2};
  Open(keyed);
  const Status status = batcher_->Insert(Row{T("1"), kNull, T("a"), T("NaN")}, 0);
  EXPECT_EQ(PartsOf(status).code, "ETL-D140");
}

TEST_F(TableBatcherTest, AMalformedValueIsAlwaysAnError) {
  options_.on_unrepresentable = OnUnrepresentable::kNull;
  Open(Orders());
  const Status status = batcher_->Insert(Row{T("x"), kNull, kNull, kNull}, 0);
  EXPECT_EQ(KindOf(status), ErrorKind::kInternal);
  EXPECT_EQ(PartsOf(status).code, "ETL-D141");
  EXPECT_EQ(PartsOf(status).what.find("x"), std::string::npos) << "row values are not for messages";
}

TEST_F(TableBatcherTest, HashedColumnsHoldTheKeyedHashOfTheText) {
  auto schema = Orders();
  schema->columns[2].hashed = true;
  schema->columns[2].type = std::make_shared<ColumnType>(Scalar(TypeKind::kText));
  EXPECT_EQ(KindOf(TableBatcher::Make(schema, &options_).status()), ErrorKind::kConfig);
  options_.hash_key = "Jefe";
  schema->wire[3].type = std::make_shared<ColumnType>(Scalar(TypeKind::kText));
  Open(schema);
  // RFC 4231, test case 2.
  ASSERT_TRUE(
      batcher_->Insert(Row{T("1"), kNull, kNull, T("what do ya want for nothing?")}, 0).ok());
  ASSERT_TRUE(batcher_->Insert(Row{T("2"), kNull, kNull, kNull}, 2).ok());
  ASSERT_TRUE(
      batcher_->Insert(Row{T("3"), kNull, kNull, {'b', "what do ya want for nothing?"}}, 4).ok());
  const std::string hash = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
  EXPECT_EQ(Sealed(), (Lines{"i:0 1|-|" + hash, "i:2 2|-|-", "i:4 3|-|" + hash}));
}

TEST_F(TableBatcherTest, HashesOfBinaryAndTextAreTheSame) {
  options_.hash_key = "k";
  const struct {
    ColumnType type;
    std::string text;
    std::string binary;
  } cases[] = {{Scalar(TypeKind::kInt4), "-2", Hex("fffffffe")},
               {Scalar(TypeKind::kBool), "t", Hex("01")},
               {Scalar(TypeKind::kDecimal, 6, 2), "1.50", Hex("0002000000000002 0001 1388")},
               {Scalar(TypeKind::kJsonb), "{}", Hex("017b7d")},
               {Scalar(TypeKind::kBytea), "\\x00ff", Hex("00ff")},
               {Scalar(TypeKind::kUuid), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                Hex("a0eebc999c0b4ef8bb6d6bb9bd380a11")}};
  for (const auto& one : cases) {
    auto schema = Orders();
    schema->columns[2].hashed = true;
    schema->columns[2].type = std::make_shared<ColumnType>(Scalar(TypeKind::kText));
    schema->wire[3].type = std::make_shared<ColumnType>(one.type);
    Open(schema);
    ASSERT_TRUE(batcher_->Insert(Row{T("1"), kNull, kNull, T(one.text)}, 0).ok());
    ASSERT_TRUE(batcher_->Insert(Row{T("1"), kNull, kNull, {'b', one.binary}}, 0).ok());
    const Lines rows = Sealed();
    EXPECT_EQ(rows[0], rows[1]) << one.text;
  }
}

TEST(ValueFromTextTest, GivesOneValueOrSaysWhyNot) {
  const auto value = ValueFromText(List(Scalar(TypeKind::kInt4)), "{1,2}");
  ASSERT_TRUE(value.ok());
  EXPECT_EQ((*value)->length(), 1);
  EXPECT_EQ(KindOf(ValueFromText(Scalar(TypeKind::kDecimal, 4, 2), "NaN").status()),
            ErrorKind::kData);
  EXPECT_EQ(KindOf(ValueFromText(Scalar(TypeKind::kInt4), "x").status()), ErrorKind::kInternal);
}

}  // namespace
}  // namespace etl
