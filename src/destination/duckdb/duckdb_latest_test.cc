#include "destination/duckdb/duckdb_latest.h"

#include <algorithm>

#include <arrow/api.h>
#include <gtest/gtest.h>

#include "destination/duckdb/duckdb_file.h"
#include "destination/duckdb/duckdb_test_support.h"

namespace etl {
namespace {

/// An append table written by hand: key (a, b), and two columns whose values may not be sent.
class DuckDbLatestRowsTest : public testing::Test {
 protected:
  void SetUp() override {
    file_ = std::make_shared<DuckDbFile>(DuckDbOptions{.path = temporary_.path(), .threads = 1});
    lease_ = *DuckDbFile::Acquire(file_);
    connection_ = *DuckDbConnection::Open(lease_->database());
    Sql("CREATE SCHEMA _etl; CREATE TABLE _etl.tables(pipeline VARCHAR, oid UINTEGER, from_lsn "
        "UBIGINT); INSERT INTO _etl.tables VALUES ('p', 1, 100), ('q', 1, 100000); CREATE SCHEMA "
        "public; CREATE TABLE public.t(a INTEGER, b VARCHAR, x VARCHAR, \"y z\" VARCHAR, _etl_op "
        "VARCHAR, _etl_lsn UBIGINT, _etl_seq UBIGINT, _etl_unchanged VARCHAR[])");
    auto schema = std::make_shared<TableSchema>();
    schema->id = {1};
    schema->schema = "public";
    schema->name = "t";
    schema->identity = Identity::kKey;
    auto type = [](TypeKind kind) {
      auto made = std::make_shared<ColumnType>();
      made->kind = kind;
      return made;
    };
    schema->columns = {{1, "a", type(TypeKind::kInt4)},
                       {2, "b", type(TypeKind::kText)},
                       {3, "x", type(TypeKind::kText)},
                       {4, "y z", type(TypeKind::kText)}};
    schema->key = {0, 1};
    schema_ = schema;
  }
  void TearDown() override {
    connection_.reset();
    lease_.reset();
  }
  void Sql(const std::string& sql) {
    const auto done = connection_->Execute(sql);
    ASSERT_TRUE(done.ok()) << ErrorLine(done.status());
  }
  /// `values` as SQL, in the order of the columns.
  void Change(const std::string& values) { Sql("INSERT INTO public.t VALUES (" + values + ")"); }

  std::vector<std::string> Latest() {
    auto rows = DuckDbLatestRows::Find(*connection_, "p", schema_);
    EXPECT_TRUE(rows.ok()) << ErrorLine(rows.status());
    if (!rows.ok()) return {};
    std::vector<std::string> first;
    for (int time = 0; time < 2; ++time) {
      std::vector<std::string> lines;
      const Status read = (*rows)->Read([&](const std::shared_ptr<arrow::RecordBatch>& batch) {
        for (int64_t row = 0; row < batch->num_rows(); ++row) {
          std::string line;
          for (int c = 0; c < batch->num_columns(); ++c) {
            const auto cell = *batch->column(c)->GetScalar(row);
            line += (c > 0 ? "|" : "") + (cell->is_valid ? cell->ToString() : "-");
          }
          lines.push_back(std::move(line));
        }
        return Status::OK();
      });
      EXPECT_TRUE(read.ok()) << ErrorLine(read);
      std::sort(lines.begin(), lines.end());
      if (time == 0) first = lines;
      EXPECT_EQ(lines, first);
    }
    return first;
  }
  using Lines = std::vector<std::string>;

  TemporaryFile temporary_;
  std::shared_ptr<DuckDbFile> file_;
  std::unique_ptr<DuckDbFile::Lease> lease_;
  std::unique_ptr<DuckDbConnection> connection_;
  TableSchemaPtr schema_;
};

TEST_F(DuckDbLatestRowsTest, TheLastChangeOfEachKeyCounts) {
  Change("1, 'k', 'copied', 'y', 'r', 99, 0, NULL");
  Change("2, 'k', 'copied', 'y', 'r', 99, 1, NULL");
  Change("3, 'k', 'copied', 'y', 'r', 99, 2, NULL");
  Change("2, 'k', 'later', NULL, 'u', 120, 4, NULL");
  Change("2, 'k', 'earlier', 'y', 'u', 120, 2, NULL");
  Change("3, 'k', NULL, NULL, 'd', 120, 6, NULL");
  Change("4, 'k', 'new', 'y', 'i', 128, 0, NULL");
  EXPECT_EQ(Latest(), (Lines{"1|k|copied|y", "2|k|later|-", "4|k|new|y"}));
}

TEST_F(DuckDbLatestRowsTest, NothingBeforeATruncateOrTheLastCopyCounts) {
  Change("1, 'k', 'of an earlier copy', 'y', 'i', 96, 0, NULL");
  EXPECT_EQ(Latest(), Lines{});
  Change("2, 'k', 'copied', 'y', 'r', 99, 0, NULL");
  Change("NULL, NULL, NULL, NULL, 't', 112, 2, NULL");
  Change("3, 'k', 'before', 'y', 'i', 112, 0, NULL");
  Change("4, 'k', 'after', 'y', 'i', 112, 4, NULL");
  EXPECT_EQ(Latest(), Lines{"4|k|after|y"});
}

TEST_F(DuckDbLatestRowsTest, ValuesThatWereNotSentComeFromWhereTheyWereSent) {
  Change("1, 'k', 'x0', 'y0', 'r', 99, 0, NULL");
  Change("1, 'k', 'x1', NULL, 'u', 104, 0, ['y z']");
  Change("1, 'k', NULL, NULL, 'u', 112, 0, ['x', 'y z']");
  // A value set to NULL was sent.
  Change("2, 'k', 'x0', 'y0', 'r', 99, 1, NULL");
  Change("2, 'k', NULL, NULL, 'u', 120, 0, NULL");
  Change("2, 'k', NULL, 'y1', 'u', 128, 0, ['x']");
  // Another row had the key before.
  Change("3, 'k', 'old', 'old', 'r', 99, 2, NULL");
  Change("3, 'k', NULL, NULL, 'd', 136, 0, NULL");
  Change("3, 'k', 'new', 'new', 'i', 136, 2, NULL");
  Change("3, 'k', NULL, 'newer', 'u', 136, 4, ['x']");
  EXPECT_EQ(Latest(), (Lines{"1|k|x1|y0", "2|k|-|y1", "3|k|new|newer"}));
}

TEST_F(DuckDbLatestRowsTest, ValuesThatWereNotSentFollowChangesOfTheKey) {
  Change("1, 'k', 'x0', 'y0', 'r', 99, 0, NULL");
  Change("1, 'k', NULL, NULL, 'd', 104, 0, NULL");
  Change("2, 'k', NULL, 'y1', 'i', 104, 1, ['x']");
  // Another row takes the key that became free.
  Change("1, 'k', 'other', 'other', 'i', 104, 2, NULL");
  Change("2, 'k', NULL, NULL, 'd', 112, 0, NULL");
  Change("2, 'm', NULL, NULL, 'i', 112, 1, ['x', 'y z']");
  Change("2, 'm', NULL, NULL, 'u', 112, 2, ['x', 'y z']");
  EXPECT_EQ(Latest(), (Lines{"1|k|other|other", "2|m|x0|y1"}));
  // There and back again.
  Change("1, 'k', NULL, NULL, 'd', 120, 0, NULL");
  Change("2, 'm', NULL, NULL, 'd', 120, 2, NULL");
  Change("1, 'k', NULL, NULL, 'i', 120, 3, ['x', 'y z']");
  EXPECT_EQ(Latest(), Lines{"1|k|x0|y1"});
}

}  // namespace
}  // namespace etl
