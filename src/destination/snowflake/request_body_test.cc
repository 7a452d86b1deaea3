#include "destination/snowflake/request_body.h"

#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

namespace etl {
namespace {

std::string Unzstd(const std::string& bytes) {
  // As a server does: a stream of unknown length, one frame.
  ZSTD_DCtx* context = ZSTD_createDCtx();
  std::string all;
  std::string piece(1 << 20, '\0');
  ZSTD_inBuffer input{bytes.data(), bytes.size(), 0};
  size_t left = 1;
  while (left != 0) {
    ZSTD_outBuffer output{piece.data(), piece.size(), 0};
    left = ZSTD_decompressStream(context, &output, &input);
    EXPECT_FALSE(ZSTD_isError(left)) << ZSTD_getErrorName(left);
    if (ZSTD_isError(left) || (output.pos == 0 && input.pos == input.size)) break;
    all.append(piece, 0, output.pos);
  }
  EXPECT_EQ(input.pos, input.size) << "one frame and nothing behind it";
  ZSTD_freeDCtx(context);
  return all;
}

std::string Gunzip(const std::string& bytes) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, MAX_WBITS + 16), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::string all;
  std::string piece(1 << 20, '\0');
  int result = Z_OK;
  while (result == Z_OK) {
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = static_cast<uInt>(piece.size());
    result = inflate(&stream, Z_NO_FLUSH);
    all.append(piece, 0, piece.size() - stream.avail_out);
  }
  EXPECT_EQ(result, Z_STREAM_END);
  EXPECT_EQ(stream.avail_in, 0u);
  inflateEnd(&stream);
  return all;
}

std::string Unpack(const RequestBody& body) {
  return body.encoding == "zstd" ? Unzstd(body.bytes) : Gunzip(body.bytes);
}

// Printable, so that a line stays a line; the more letters, the less it can be compressed.
std::string Line(std::mt19937_64* random, size_t size, unsigned letters) {
  std::string line(size, '\n');
  for (size_t i = 0; i + 1 < size; ++i) line[i] = static_cast<char>('!' + (*random)() % letters);
  return line;
}

class Bodies : public testing::TestWithParam<Compression> {
 protected:
  void Open(size_t limit, size_t target) {
    options_.compression = GetParam();
    options_.limit = limit;
    options_.target = target;
    auto made = RequestBodyWriter::Make(options_);
    ASSERT_TRUE(made.ok());
    writer_ = std::move(made).ValueUnsafe();
  }
  RequestBodyWriter::Outcome Add(const std::string& line) {
    writer_->lines()->Append(line);
    return AddAgain();
  }
  RequestBodyWriter::Outcome AddAgain() {
    const auto outcome = writer_->Add({Lsn{1}, row_}, 1);
    EXPECT_TRUE(outcome.ok());
    if (*outcome == RequestBodyWriter::Outcome::kAdded) ++row_;
    return *outcome;
  }
  void Take() {
    Result<RequestBody> taken = writer_->Take();
    ASSERT_TRUE(taken.ok()) << taken.status();
    const std::string text = Unpack(*taken);
    EXPECT_LE(taken->bytes.size(), options_.limit);
    EXPECT_EQ(static_cast<size_t>(taken->uncompressed_bytes), text.size());
    EXPECT_EQ(taken->first.ordinal, taken_rows_);
    EXPECT_EQ(taken->last.ordinal, taken_rows_ + static_cast<uint64_t>(taken->rows) - 1);
    EXPECT_EQ(taken->value_bytes, taken->rows);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), taken->rows);
    EXPECT_TRUE(text.ends_with('\n'));
    taken_rows_ += static_cast<uint64_t>(taken->rows);
    all_ += text;
    sizes_.push_back(taken->bytes.size());
  }
  void AddAll(const std::string& line) {
    using enum RequestBodyWriter::Outcome;
    if (Add(line) == kFull) {
      Take();
      EXPECT_EQ(AddAgain(), kAdded);
    }
    expected_ += line;
  }

  RequestBodyOptions options_;
  std::unique_ptr<RequestBodyWriter> writer_;
  uint64_t row_ = 0;
  uint64_t taken_rows_ = 0;
  std::string all_, expected_;
  std::vector<size_t> sizes_;
};

TEST_P(Bodies, AreCutBetweenRowsAndTogetherAreTheWhole) {
  Open(100'000, 80'000);
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i)
    AddAll(Line(&random, 2 + random() % 600, 1 + static_cast<unsigned>(random() % 90)));
  Take();
  EXPECT_TRUE(all_ == expected_);
  EXPECT_GT(sizes_.size(), 10u);
}

TEST_P(Bodies, NeverPassTheLimitWithBytesThatCannotBeCompressed) {
  Open(4'000'000, 4'000'000);
  std::mt19937_64 random(2);
  for (int i = 0; i < 12'000; ++i) AddAll(Line(&random, 1 + random() % 4096, 94));
  Take();
  EXPECT_TRUE(all_ == expected_);
  ASSERT_GT(sizes_.size(), 3u);
  for (size_t i = 0; i + 1 < sizes_.size(); ++i) EXPECT_GT(sizes_[i], 3'300'000u);
}

TEST_P(Bodies, AimAtTheTargetByTheMeasuredRatio) {
  Open(4'000'000, 500'000);
  std::mt19937_64 random(3);
  for (int i = 0; i < 60'000; ++i)
    AddAll(Line(&random, 60, 20).insert(0, R"({"_ETL_OP":"I","_ETL_POSITION":"0000"})"));
  Take();
  EXPECT_TRUE(all_ == expected_);
  ASSERT_GT(sizes_.size(), 2u);
  for (size_t i = 0; i + 1 < sizes_.size(); ++i) {
    EXPECT_GT(sizes_[i], 400'000u);
    EXPECT_LT(sizes_[i], 560'000u);
  }
}

TEST_P(Bodies, TakeALargeRowThatCompressesWell) {
  Open(200'000, 150'000);
  std::mt19937_64 random(4);
  AddAll("small\n");
  std::string large;
  large.assign(20'000'000, 'x');
  AddAll(large + "\n");
  AddAll("small\n");
  AddAll(Line(&random, 190'000, 94));
  AddAll("small\n");
  Take();
  EXPECT_TRUE(all_ == expected_);
}

TEST_P(Bodies, RefuseARowThatFitsNoBodyAndGoOn) {
  using enum RequestBodyWriter::Outcome;
  Open(200'000, 150'000);
  std::mt19937_64 random(5);
  AddAll("before\n");
  const std::string large = Line(&random, 1'000'000, 94);
  EXPECT_EQ(Add(large), kFull);
  Take();
  EXPECT_EQ(AddAgain(), kTooLarge);
  AddAll("after\n");
  EXPECT_EQ(Add(large), kFull);
  Take();
  EXPECT_EQ(AddAgain(), kTooLarge);
  EXPECT_TRUE(writer_->empty());
  // Just around the limit, where only the end of the compression tells.
  for (size_t size = 200'000; size < 280'000; size += 1237) {
    if (Add(Line(&random, size, 94)) == kAdded) Take();
  }
  EXPECT_GT(taken_rows_, 2u);
}

INSTANTIATE_TEST_SUITE_P(, Bodies, testing::Values(Compression::kZstd, Compression::kGzip),
                         [](const auto& at) {
                           return at.param == Compression::kZstd ? "Zstd" : "Gzip";
                         });

}  // namespace
}  // namespace etl
