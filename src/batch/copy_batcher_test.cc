#include <algorithm>

#include <arrow/record_batch.h>

#include "base/random.h"
#include "batch/table_batcher.h"
#include "batch/value_testing.h"

namespace etl {
namespace {

TableSchemaPtr Schema() {
  auto schema = std::make_shared<TableSchema>();
  schema->schema = "public";
  schema->name = "t";
  const auto add = [&](const std::string& name, ColumnType type, bool excluded) {
    WireColumn wire;
    wire.name = name;
    wire.type = std::make_shared<ColumnType>(std::move(type));
    if (!excluded) {
      wire.output = static_cast<int>(schema->columns.size());
      schema->columns.push_back(Column{0, name, wire.type, false});
    }
    schema->wire.push_back(wire);
  };
  add("id", Scalar(TypeKind::kInt4), false);
  add("hidden", Scalar(TypeKind::kText), true);
  add("note", Scalar(TypeKind::kText), false);
  return schema;
}

const std::string kText =
    "1\th\tplain\n"
    "2\t\\N\t\\N\n"
    "3\tx\t\n"
    "4\tx\ta\\tb\\nc\\\\d\\b\\f\\r\\v\n"
    "5\tx\t\\\\N\n";

// One column of a binary row.
std::string Field(std::string_view bytes) {
  std::string out(4, '\0');
  for (size_t i = 0; i < 4; ++i) out[i] = static_cast<char>(bytes.size() >> (24 - 8 * i));
  return out.append(bytes);
}

std::string Binary() {
  const std::string null = Hex("ffffffff");
  std::string out = Hex("5047434f50590aff0d0a00 00000000 00000000");
  const auto row = [&](int id, const std::string& hidden, const std::string& note) {
    out += Hex("0003") + Field(std::string{0, 0, 0, static_cast<char>(id)}) + hidden + note;
  };
  row(1, Field("h"), Field("plain"));
  row(2, null, null);
  row(3, Field("x"), Field(""));
  row(4, Field("x"), Field("a\tb\nc\\d\b\f\r\v"));
  row(5, Field("x"), Field("\\N"));
  return out + Hex("ffff");
}

std::string Show(const arrow::RecordBatch& batch) {
  EXPECT_TRUE(batch.ValidateFull().ok());
  return batch.ToString();
}

Result<std::string> Copy(std::string_view bytes, bool binary, size_t piece) {
  const BatchOptions options;
  ETL_ASSIGN_OR_RETURN(auto batcher, CopyBatcher::Make(Schema(), binary, &options));
  for (size_t at = 0; at < bytes.size(); at += piece) {
    const std::string_view cut = bytes.substr(at, piece);
    const std::vector<char> copy(
        cut.begin(), cut.end());  // of its own size, so that a sanitizer sees every read past it
    ETL_RETURN_IF_ERROR(batcher->Append({copy.data(), copy.size()}));
  }
  ETL_RETURN_IF_ERROR(batcher->Finish());
  EXPECT_EQ(batcher->rows(), 5);
  ETL_ASSIGN_OR_RETURN(auto batch, batcher->Seal());
  EXPECT_EQ(batcher->rows(), 0);
  return Show(*batch);
}

TEST(CopyBatcher, BothFormsGiveTheSameRowsHoweverTheyAreCut) {
  const auto whole = Copy(kText, false, kText.size());
  ASSERT_TRUE(whole.ok()) << whole.status().ToString();
  EXPECT_NE(whole->find("plain"), std::string::npos);
  EXPECT_EQ(whole->find("hidden"), std::string::npos);
  for (size_t piece = 1; piece <= Binary().size(); ++piece) {
    EXPECT_EQ(*Copy(kText, false, piece), *whole) << piece;
    EXPECT_EQ(*Copy(Binary(), true, piece), *whole) << piece;
  }
}

TEST(CopyBatcher, ARowMayBeLargerThanManyPieces) {
  const BatchOptions options;
  const std::string note(100'000, 'n');
  const std::string rows = "1\tx\t" + note + "\n2\tx\tshort\n3\tx\t" + note + "\n";
  for (const size_t piece : {7ul, 1000ul, 65536ul}) {
    auto batcher = CopyBatcher::Make(Schema(), false, &options).ValueOrDie();
    for (size_t at = 0; at < rows.size(); at += piece) {
      ASSERT_TRUE(batcher->Append(std::string_view(rows).substr(at, piece)).ok());
    }
    ASSERT_TRUE(batcher->Finish().ok());
    EXPECT_EQ(batcher->rows(), 3);
    EXPECT_GT(batcher->bytes(), 200'000);
    const auto batch = batcher->Seal().ValueOrDie();
    EXPECT_EQ(batch->column(1)->GetScalar(2).ValueOrDie()->ToString(), note);
  }
}

TEST(CopyBatcher, SealingBetweenRowsLosesNone) {
  const BatchOptions options;
  const std::string bytes = Binary();
  auto batcher = CopyBatcher::Make(Schema(), true, &options).ValueOrDie();
  int64_t rows = 0;
  for (const char byte : bytes) {
    ASSERT_TRUE(batcher->Append({&byte, 1}).ok());
    if (batcher->rows() == 0) continue;
    rows += batcher->rows();
    EXPECT_EQ(batcher->Seal().ValueOrDie()->num_rows(), 1);
  }
  EXPECT_TRUE(batcher->Finish().ok());
  EXPECT_EQ(rows, 5);
}

TEST(CopyBatcher, ACutEndIsAnError) {
  for (size_t size = 0; size < Binary().size(); ++size) {
    EXPECT_FALSE(Copy(Binary().substr(0, size), true, 10).ok()) << size;
  }
  EXPECT_FALSE(Copy(kText + "6\tx", false, 10).ok());
  EXPECT_FALSE(Copy(Binary() + "x", true, 1000).ok());
}

TEST(CopyBatcher, ForeignBytesAreErrors) {
  const std::string header = Hex("5047434f50590aff0d0a00 00000000 00000000");
  EXPECT_FALSE(Copy("not a copy", true, 100).ok());
  EXPECT_FALSE(Copy(Hex("5047434f50590aff0d0a00 00010000 00000000"), true, 100).ok());
  EXPECT_FALSE(Copy(header + Hex("0002 ffffffff ffffffff"), true, 100).ok());
  EXPECT_FALSE(Copy(header + Hex("0003 fffffffe ffffffff ffffffff"), true, 100).ok());
  EXPECT_FALSE(Copy("1\t2\n", false, 100).ok());
  EXPECT_FALSE(Copy("1\t2\t3\t4\n", false, 100).ok());
  EXPECT_FALSE(Copy("1\t2\ta\\\n", false, 100).ok());
  const Status status = Copy("1\tx\ty\nx\tx\ty\n", false, 100).status();
  EXPECT_NE(PartsOf(status).what.find("row 1 of the copy"), std::string::npos) << status.ToString();
}

}  // namespace
}  // namespace etl
