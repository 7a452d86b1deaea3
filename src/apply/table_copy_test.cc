#include "apply/table_copy.h"

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
  copy.OnMissing(FoldResult{});
  copy.OnXidsVisible();
  copy.OnSettleReading();
  EXPECT_FALSE(copy.ReadyToFold(Lsn{1000}));
  copy.OnSettled(Lsn{900});
  EXPECT_FALSE(copy.ReadyToFold(Lsn{899}));
  EXPECT_TRUE(copy.ReadyToFold(Lsn{900}));
}

}  // namespace
}  // namespace etl
