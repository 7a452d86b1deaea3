#include "destination/snowflake/row_writer.h"

#include <random>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>
#include <nlohmann/json.hpp>

#include "destination/snowflake/ndjson_testing.h"

namespace etl {
namespace {

using enum TypeKind;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string Noise(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string text(size, ' ');
  for (char& c : text) c = static_cast<char>('#' + random() % 57);
  return text;
}

std::string Text(const RequestBody& body) {
  std::string text(static_cast<size_t>(body.uncompressed_bytes), '\0');
  const size_t size =
      ZSTD_decompress(text.data(), text.size(), body.bytes.data(), body.bytes.size());
  EXPECT_EQ(size, text.size());
  return text;
}

class RowWriterTest : public testing::Test {
 protected:
  void Open(OnUnrepresentable policy, TypeKind key = kInt4) {
    schema_ = SchemaOf({{"ID", TypeOf(key)}, {"A", TypeOf(kText)}, {"B", TypeOf(kText)}});
    RowWriterOptions options;
    options.on_unrepresentable = policy;
    options.body.limit = 100'000;
    options.body.target = 90'000;
    auto made = RowWriter::Make(schema_, NamesOf(*schema_), options);
    ASSERT_TRUE(made.ok());
    writer_ = std::move(made).ValueUnsafe();
  }
  void Bind(const std::vector<TestRow>& rows) {
    batch_ = BatchOf(schema_, rows);
    ASSERT_TRUE(writer_->Bind(batch_).ok());
  }
  // Adds a row, taking the body before where it is full.
  Status Add(int64_t row) {
    ETL_ASSIGN_OR_RETURN(bool added, writer_->Add(row));
    if (added) return Status::OK();
    Take();
    ETL_ASSIGN_OR_RETURN(added, writer_->Add(row));
    EXPECT_TRUE(added);
    return Status::OK();
  }
  void Take() {
    auto taken = writer_->Take();
    ASSERT_TRUE(taken.ok());
    bodies_.push_back(std::move(taken).ValueUnsafe());
    all_ += Text(bodies_.back());
  }

  TableSchemaPtr schema_;
  std::unique_ptr<RowWriter> writer_;
  ChangeBatch batch_;
  std::vector<RequestBody> bodies_;
  std::string all_;
};

TEST_F(RowWriterTest, EveryRowIsInOneBodyWithItsPositions) {
  Open(OnUnrepresentable::kError);
  std::vector<TestRow> rows;
  for (int i = 0; i < 2000; ++i)
    rows.push_back({std::to_string(i), Noise(200, static_cast<uint64_t>(i)), nullptr});
  Bind(rows);
  for (int64_t row = 0; row < 2000; ++row) ASSERT_TRUE(Add(row).ok());
  ASSERT_TRUE(*writer_->AddTruncate({schema_, {Lsn{0x16b3749}, 0}, 1, 7}));
  Take();
  ASSERT_GT(bodies_.size(), 3u);
  EXPECT_EQ(bodies_.front().first, (Position{Lsn{0x16b3748}, 0}));
  EXPECT_EQ(bodies_.back().last, (Position{Lsn{0x16b3749}, 0}));
  int64_t count = 0;
  for (size_t i = 0; i < bodies_.size(); ++i) {
    if (i > 0) {
      EXPECT_LT(bodies_[i - 1].last, bodies_[i].first);
    }
    count += bodies_[i].rows;
  }
  EXPECT_EQ(count, 2001);
  size_t at = 0;
  for (int i = 0; i < 2000; ++i) {
    const size_t end = all_.find('\n', at);
    EXPECT_EQ(nlohmann::json::parse(all_.substr(at, end - at)).at("ID"), i);
    at = end + 1;
  }
}

TEST_F(RowWriterTest, ARowThatFitsNoRequestIsAnErrorThatNamesItsLargestColumn) {
  Open(OnUnrepresentable::kError);
  Bind({{"1", "small", Noise(200'000, 1)}, {"2", "x", "y"}});
  const Status refused = Add(0);
  EXPECT_EQ(KindOf(refused), ErrorKind::kData);
  EXPECT_THAT(ErrorLine(refused),
              AllOf(HasSubstr("public.things at 0/16B3748:0"), HasSubstr("column B"),
                    HasSubstr("at most 100000 compressed bytes"), HasSubstr("bytes there"),
                    Not(HasSubstr("small"))));
  ASSERT_TRUE(Add(1).ok());
  Take();
  EXPECT_EQ(bodies_[0].rows, 1);
}

TEST_F(RowWriterTest, OrItsLargestColumnsBecomeNullUntilItFits) {
  Open(OnUnrepresentable::kNull);
  Bind({{"0", "x", "y"},
        {"1", Noise(200'000, 1), Noise(300'000, 2)},
        {"2", "x", Noise(150'000, 3)}});
  for (int64_t row = 0; row < 3; ++row) ASSERT_TRUE(Add(row).ok());
  Take();
  EXPECT_EQ(writer_->nulled(), 3);
  EXPECT_THAT(all_, AllOf(HasSubstr(R"("ID":1})"), HasSubstr(R"("ID":2,"A":"x"})")));
}

TEST_F(RowWriterTest, AnIdleWriterGivesTheMemoryOfItsBodyBack) {
  Open(OnUnrepresentable::kError);
  Bind({{"1", std::string(5'000'000, 'x'), "y"}});
  ASSERT_TRUE(Add(0).ok());
  Take();
  EXPECT_LT(writer_->body().memory(), 2'000'000);
}

TEST_F(RowWriterTest, ButNeverTheKey) {
  Open(OnUnrepresentable::kNull, kText);
  Bind({{Noise(200'000, 1), "x", "y"}});
  const Status refused = Add(0);
  EXPECT_EQ(KindOf(refused), ErrorKind::kData);
  EXPECT_THAT(ErrorLine(refused), HasSubstr("a key column is never stored as NULL"));
}

}  // namespace
}  // namespace etl
