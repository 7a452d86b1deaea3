#include "destination/snowflake/channel_spread.h"

#include <arrow/api.h>
#include <gtest/gtest.h>

#include "destination/snowflake/request_window.h"

namespace etl {
namespace {

using std::chrono::milliseconds;

ChangeBatch BatchOf(std::shared_ptr<TableSchema> schema, const arrow::ArrayVector& columns) {
  ChangeBatch batch;
  batch.schema = schema;
  const int64_t rows = columns[0]->length();
  batch.rows = arrow::RecordBatch::Make(schema->ArrowSchema(), rows, columns);
  for (int64_t i = 0; i < rows; ++i) {
    batch.ops.push_back(Op::kInsert);
    batch.ordinals.push_back(static_cast<uint64_t>(2 * i));
  }
  batch.transactions = {{Lsn{100}, 0, 0, rows}};
  return batch;
}

template <typename Builder, typename Value>
std::shared_ptr<arrow::Array> Array(const std::vector<Value>& values) {
  Builder builder;
  for (const Value& value : values) EXPECT_TRUE(builder.Append(value).ok());
  return builder.Finish().ValueOrDie();
}

std::shared_ptr<TableSchema> Schema(Identity identity) {
  auto schema = std::make_shared<TableSchema>();
  schema->id = {7};
  schema->identity = identity;
  schema->columns = {
      {1, "id", std::make_shared<ColumnType>(ColumnType{.kind = TypeKind::kInt8})},
      {2, "name", std::make_shared<ColumnType>(ColumnType{.kind = TypeKind::kText})}};
  if (identity == Identity::kKey) schema->key = {0, 1};
  return schema;
}

std::vector<uint32_t> Channels(const ChangeBatch& batch, uint32_t channels) {
  RowSpreader spreader;
  spreader.Bind(batch);
  std::vector<uint32_t> out;
  for (int64_t row = 0; row < batch.size(); ++row)
    out.push_back(spreader.Channel(row, Lsn{100}, channels));
  return out;
}

ChangeBatch Numbered(Identity identity, int64_t rows) {
  std::vector<int64_t> ids;
  std::vector<std::string> names;
  for (int64_t i = 0; i < rows; ++i) {
    ids.push_back(i);
    names.push_back("name " + std::to_string(i % 10));
  }
  return BatchOf(Schema(identity),
                 {Array<arrow::Int64Builder>(ids), Array<arrow::StringBuilder>(names)});
}

// Written down: another answer in a later version would lose changes over a restart.
TEST(RowSpreader, GivesTheSameAnswerForever) {
  EXPECT_EQ(Channels(Numbered(Identity::kKey, 12), 8),
            (std::vector<uint32_t>{1, 0, 4, 6, 5, 7, 1, 4, 1, 6, 2, 5}));
  EXPECT_EQ(Channels(Numbered(Identity::kFullRow, 12), 8),
            (std::vector<uint32_t>{6, 3, 2, 0, 7, 2, 3, 4, 5, 6, 2, 0}));
}

TEST(RowSpreader, KeysAreEvenAndDoNotDependOnTheBatchTheyAreIn) {
  const ChangeBatch batch = Numbered(Identity::kKey, 4000);
  const std::vector<uint32_t> all = Channels(batch, 8);
  std::vector<int> counts(8);
  for (const uint32_t channel : all) ++counts.at(channel);
  for (const int count : counts) EXPECT_NEAR(count, 500, 100);
  ChangeBatch tail = batch;
  tail.rows = batch.rows->Slice(1001);
  tail.ops.erase(tail.ops.begin(), tail.ops.begin() + 1001);
  EXPECT_EQ(Channels(tail, 8), std::vector<uint32_t>(all.begin() + 1001, all.end()));
}

TEST(RowSpreader, WithoutAKeyPositionsAreEven) {
  const std::vector<uint32_t> all = Channels(Numbered(Identity::kFullRow, 4000), 8);
  std::vector<int> counts(8);
  for (const uint32_t channel : all) ++counts.at(channel);
  for (const int count : counts) EXPECT_NEAR(count, 500, 100);
}

TEST(RowSpreader, NullIsAValueOfAKey) {
  auto schema = Schema(Identity::kKey);
  schema->key = {1};
  arrow::StringBuilder names;
  ASSERT_TRUE(names.AppendNull().ok() && names.AppendNull().ok() && names.Append("").ok());
  const ChangeBatch batch = BatchOf(
      schema,
      {Array<arrow::Int64Builder>(std::vector<int64_t>{1, 2, 3}), names.Finish().ValueOrDie()});
  const std::vector<uint32_t> channels = Channels(batch, 16);
  EXPECT_EQ(channels[0], channels[1]);
  EXPECT_NE(channels[0], channels[2]);
}

TEST(ChannelSpread, IsThatOfTheCommit) {
  const std::vector<ChannelSpread> spreads = {{Lsn{100}, 2}, {Lsn{200}, 8}};
  EXPECT_EQ(ChannelsAt({}, Lsn{5}), 1u);
  EXPECT_EQ(ChannelsAt(spreads, Lsn{99}), 1u);
  EXPECT_EQ(ChannelsAt(spreads, Lsn{100}), 2u);
  EXPECT_EQ(ChannelsAt(spreads, Lsn{199}), 2u);
  EXPECT_EQ(ChannelsAt(spreads, Lsn{200}), 8u);
}

class Meter : public testing::Test {
 protected:
  std::optional<SpreadMeter::Advice> Second(int64_t bytes, uint32_t channels, bool behind = false) {
    now_ += std::chrono::seconds(1);
    position_.value += 1000;
    meter_.Gave(bytes);
    return meter_.Look(now_, {}, channels, {.position = position_, .behind = behind});
  }
  std::optional<SpreadMeter::Advice> Soon(int millis, int64_t held) {
    now_ += milliseconds(millis);
    position_.value += 1000;
    return meter_.Look(now_, {}, 1, {.position = position_, .held = held});
  }
  SpreadMeter meter_;
  Instant now_{std::chrono::seconds(50)};
  Lsn position_{1000};
};

TEST_F(Meter, AChannelThatTakesMuchOfWhatItMayIsTooFew) {
  EXPECT_FALSE(Second(1'000'000, 1).has_value());
  EXPECT_FALSE(Second(11'000'000, 1).has_value());
  const auto advice = Second(19'000'000, 1);
  ASSERT_TRUE(advice.has_value());
  EXPECT_EQ(advice->channels, 2u);
  EXPECT_EQ(advice->from, Lsn{position_.value + 2000});
  // 45 MB/s in 10 MB/s each.
  EXPECT_EQ(Second(45'000'000, 3)->channels, 6u);
  EXPECT_FALSE(Second(45'000'000, 6).has_value());
  EXPECT_EQ(Second(300'000'000, 10)->channels, 16u);
  EXPECT_FALSE(Second(300'000'000, 16).has_value());
}

TEST_F(Meter, MoreThanASecondMayTakeIsNotWaitedFor) {
  EXPECT_FALSE(Second(0, 1).has_value());
  // Begins with the first bytes, not with the quiet time before.
  EXPECT_FALSE(Soon(400, 1'000'000).has_value());
  EXPECT_FALSE(Soon(50, 6'000'000).has_value());
  const auto advice = Soon(50, 13'100'000);
  ASSERT_TRUE(advice.has_value());
  // 121 MB/s.
  EXPECT_EQ(advice->channels, 13u);
  EXPECT_EQ(advice->from, Lsn{position_.value + 500});
  // What was held is given: it counts once.
  meter_.Gave(13'100'000);
  EXPECT_FALSE(Soon(50, 0).has_value());
}

TEST_F(Meter, ASlowServiceIsToldByWhatWaits) {
  EXPECT_FALSE(Second(1'000'000, 1).has_value());
  // Nothing comes back: more channels would not help.
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(Second(0, 1, true).has_value());
  meter_.Proved();
  EXPECT_FALSE(Second(1'000'000, 1, true).has_value());
  meter_.Proved();
  const auto advice = Second(1'000'000, 1, true);
  ASSERT_TRUE(advice.has_value());
  EXPECT_EQ(advice->channels, 2u);
  // The new ones have to be given time.
  meter_.Proved();
  EXPECT_FALSE(Second(1'000'000, 2, true).has_value());
}

TEST(RequestWindow, HoldsRequestsAndBytesBack) {
  RequestWindow window(3, 100, milliseconds(1000));
  const Instant start{std::chrono::seconds(10)};
  EXPECT_EQ(window.next(start, 500), start) << "alone, even if it is larger";
  window.Sent(start, 60);
  EXPECT_EQ(window.next(start, 40), start);
  EXPECT_EQ(window.next(start, 41), start + milliseconds(1000));
  window.Sent(start + milliseconds(200), 40);
  EXPECT_EQ(window.next(start + milliseconds(300), 1), start + milliseconds(1000));
  EXPECT_EQ(window.next(start + milliseconds(300), 61), start + milliseconds(1200));
  EXPECT_EQ(window.next(start + milliseconds(300)), start + milliseconds(300));
  window.Sent(start + milliseconds(300));
  EXPECT_EQ(window.next(start + milliseconds(300)), start + milliseconds(1000));
  EXPECT_EQ(window.next(start + milliseconds(1100), 60), start + milliseconds(1100));
  // It may have come as late as its answer.
  window.Answered(start + milliseconds(400));
  EXPECT_EQ(window.next(start + milliseconds(1100), 100), start + milliseconds(1200));
  window.Sent(start + milliseconds(1400), 90);
  window.Answered(start + milliseconds(1700));
  EXPECT_EQ(window.next(start + milliseconds(2500), 20), start + milliseconds(2700));
}

TEST(RequestWindow, PacesRequestsIntoItsLimit) {
  RequestWindow window(10, 100, milliseconds(1000));
  const Instant start{std::chrono::seconds(10)};
  EXPECT_EQ(window.paced(start), start);
  Instant now = start;
  std::vector<Instant> sent;
  while (now < start + std::chrono::seconds(5)) {
    window.Sent(now);
    sent.push_back(now);
    now = window.paced(now);
    EXPECT_LE(window.next(now) - now, milliseconds(1)) << "the limit itself never holds it back";
  }
  EXPECT_GE(sent.size(), 35u);
  for (size_t i = 1; i < sent.size(); ++i) EXPECT_LE(sent[i] - sent[i - 1], milliseconds(200));
  // After a quiet time the next goes at once.
  EXPECT_EQ(window.paced(now + std::chrono::seconds(1)), now + std::chrono::seconds(1));
}

}  // namespace
}  // namespace etl
