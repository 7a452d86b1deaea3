#include "apply/table_copy.h"

#include <arrow/api.h>
#include <gtest/gtest.h>

namespace etl {
namespace {

std::vector<Chunk> Plan(uint32_t count) {
  std::vector<Chunk> chunks(count);
  for (uint32_t i = 0; i < count; ++i) chunks[i].number = i;
  return chunks;
}

TEST(TableCopy, BarrierWaitsOnlyForThoseFirstSeen) {
  TableCopy copy(1, Lsn{100});
  EXPECT_FALSE(copy.OnLockHolders({"a", "b"}));
  EXPECT_FALSE(copy.OnLockHolders({"b", "newcomer"}));
  EXPECT_TRUE(copy.OnLockHolders({"newcomer"}));
  EXPECT_EQ(copy.stage(), TableCopy::Stage::kPlan);
}

TEST(TableCopy, FoldsOnlyWhenEveryChunkIsStoredAndTheStreamHasPassedTheLastH) {
  TableCopy copy(1, Lsn{100});
  copy.OnLockHolders({});
  copy.OnPlan(Plan(2));
  EXPECT_EQ(copy.NextChunk()->number, 0u);
  EXPECT_EQ(copy.NextChunk()->number, 1u);
  EXPECT_FALSE(copy.NextChunk());
  copy.OnChunkRead(1, Lsn{300}, 10);
  copy.OnChunkDurable(1);
  EXPECT_FALSE(copy.ReadyToFold(Lsn{1000}));
  copy.OnChunkAbandoned(0);
  EXPECT_EQ(copy.NextChunk()->number, 0u);
  copy.OnChunkRead(0, Lsn{200}, 5);
  copy.OnChunkDurable(0);
  EXPECT_FALSE(copy.ReadyToFold(Lsn{299}));
  EXPECT_TRUE(copy.ReadyToFold(Lsn{300}));
}

std::shared_ptr<arrow::RecordBatch> Keys(int64_t count) {
  arrow::Int64Builder builder;
  for (int64_t i = 0; i < count; ++i) EXPECT_TRUE(builder.Append(i).ok());
  return arrow::RecordBatch::Make(arrow::schema({arrow::field("k", arrow::int64())}), count,
                                  {builder.Finish().ValueOrDie()});
}

FoldResult Missing(int64_t keys) {
  FoldResult result;
  result.missing_keys = Keys(keys);
  return result;
}

TEST(TableCopy, ResumeReadsOnlyUnfinishedChunks) {
  TableCheckpoint checkpoint;
  checkpoint.generation = 3;
  checkpoint.from = Lsn{100};
  checkpoint.planned = true;
  checkpoint.chunks = Plan(3);
  checkpoint.done = {{.number = 1, .high = Lsn{500}, .rows = 7}};
  TableCopy copy = TableCopy::Resume(checkpoint);
  EXPECT_EQ(copy.NextChunk()->number, 0u);
  EXPECT_EQ(copy.NextChunk()->number, 2u);
  EXPECT_FALSE(copy.NextChunk());
  EXPECT_EQ(copy.rows_read(), 7);
  EXPECT_EQ(copy.until(), Lsn{500});
}

TEST(TableCopy, SettlesBeforeItFoldsAgain) {
  TableCopy copy(1, Lsn{100});
  copy.OnLockHolders({});
  copy.OnPlan({});
  EXPECT_FALSE(copy.ReadyToFold(Lsn{99}));
  ASSERT_TRUE(copy.ReadyToFold(Lsn{101}));
  copy.OnFoldAsked();
  EXPECT_FALSE(copy.ReadyToFold(Lsn{101}));
  copy.OnMissing(Missing(1));
  copy.OnXidsVisible();
  const TableSchemaPtr schema = std::make_shared<TableSchema>();
  copy.OnSettleReading(schema);
  copy.OnSettledRows(Keys(1), 10);
  EXPECT_FALSE(copy.SettledCount(Lsn{1000}));
  copy.OnSettled(Lsn{900});
  EXPECT_FALSE(copy.SettledCount(Lsn{899}));
  EXPECT_FALSE(copy.ReadyToFold(Lsn{899}));
  ASSERT_TRUE(copy.SettledCount(Lsn{900}));
  EXPECT_EQ(copy.NextSettled(schema)->high, Lsn{900});
  EXPECT_TRUE(copy.ReadyToFold(Lsn{900}));
}

TEST(TableCopy, ReadsManyMissingKeysAFewAtATimeJudgedByTheirSize) {
  TableCopy copy(1, Lsn{100});
  copy.OnLockHolders({});
  copy.OnPlan({});
  copy.OnMissing(Missing(1000));
  copy.OnXidsVisible();
  const TableSchemaPtr schema = std::make_shared<TableSchema>();
  std::vector<int64_t> sizes;
  int64_t read = 0;
  while (copy.stage() == TableCopy::Stage::kSettleRead) {
    const auto keys = copy.KeysToRead();
    EXPECT_TRUE(keys->Equals(*Keys(1000)->Slice(read, keys->num_rows())));
    sizes.push_back(keys->num_rows());
    read += keys->num_rows();
    copy.OnSettleReading(schema);
    copy.OnSettledRows(keys, keys->num_rows() * (64 << 10));
    copy.OnSettled(Lsn{900});
    while (copy.SettledCount(Lsn{900})) copy.NextSettled(schema);
  }
  EXPECT_EQ(read, 1000);
  EXPECT_EQ(sizes.front(), 16);
  EXPECT_EQ(sizes[1], 128) << "8 MiB of rows of 64 KiB";
  EXPECT_TRUE(copy.ReadyToFold(Lsn{900}));
}

TEST(TableCopy, RowsOfAnotherVersionOfTheTableAreReadOnceMore) {
  TableCopy copy(1, Lsn{100});
  copy.OnLockHolders({});
  copy.OnPlan({});
  copy.OnMissing(Missing(1));
  copy.OnXidsVisible();
  copy.OnSettleReading(std::make_shared<TableSchema>());
  copy.OnSettledRows(Keys(1), 10);
  copy.OnSettled(Lsn{900});
  EXPECT_FALSE(copy.NextSettled(std::make_shared<TableSchema>()).has_value());
  EXPECT_EQ(copy.stage(), TableCopy::Stage::kSettleRead);
  EXPECT_EQ(copy.KeysToRead()->num_rows(), 1);
}

}  // namespace
}  // namespace etl
