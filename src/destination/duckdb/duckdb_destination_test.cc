#include "destination/duckdb/duckdb_destination.h"

#include <barrier>
#include <filesystem>
#include <thread>

#include <arrow/record_batch.h>
#include <gtest/gtest.h>

#include "destination/conformance.h"
#include "destination/conformance_model.h"
#include "destination/duckdb/duckdb_test_support.h"

namespace etl {
namespace {

class DuckDbPlace : public ConformancePlace {
 public:
  explicit DuckDbPlace(int64_t delete_bytes = 0) : delete_bytes_(delete_bytes) {}
  std::unique_ptr<Destination> Open() override {
    file_ = std::make_shared<DuckDbFile>(DuckDbOptions{.path = temporary_.path(),
                                                       .memory_bytes = 128 << 20,
                                                       .delete_bytes = delete_bytes_,
                                                       .threads = 1});
    return std::make_unique<DuckDbDestination>(file_, SystemClock());
  }

 private:
  const int64_t delete_bytes_;
  TemporaryFile temporary_;
  std::shared_ptr<DuckDbFile> file_;
};

INSTANTIATE_TEST_SUITE_P(DuckDb, Conformance,
                         testing::Values(ConformanceSubject{
                             .name = "duckdb",
                             .make = [] { return std::make_unique<DuckDbPlace>(); }}));

// Every table with an update or delete is built anew.
INSTANTIATE_TEST_SUITE_P(DuckDbBuildingAnew, Conformance,
                         testing::Values(ConformanceSubject{
                             .name = "duckdb_building_anew",
                             .make = [] { return std::make_unique<DuckDbPlace>(1); }}));

/// A destination on a file, and what it said.
class DuckDbDestinationTest : public testing::Test {
 protected:
  void Open(Mode mode, std::optional<Duration> release = {}, int64_t delete_bytes = 0) {
    destination_.reset();
    file_ = std::make_shared<DuckDbFile>(DuckDbOptions{
        .path = temporary_.path(), .release = release, .delete_bytes = delete_bytes, .threads = 1});
    destination_ = std::make_unique<DuckDbDestination>(file_, SystemClock());
    const auto checkpoint = destination_->Start({.pipeline = "p", .mode = mode});
    ASSERT_TRUE(checkpoint.ok()) << ErrorLine(checkpoint.status());
    if (checkpoint->identity.has_value()) return;
    ASSERT_TRUE(
        destination_
            ->BeginHistory(
                {.identity = {1, 2, "s"}, .timeline = 1, .position = {1000}, .lc_monetary = "C"})
            .ok());
  }
  /// As if all pauses were over.
  static Instant Later() { return SystemClock().Now() + std::chrono::seconds(10); }
  Progress Send(Delivery delivery) {
    EXPECT_TRUE(destination_->Ready(Later()));
    EXPECT_TRUE(destination_->Accept(std::move(delivery)).ok());
    auto progress = destination_->Advance(Later());
    EXPECT_TRUE(progress.ok()) << ErrorLine(progress.status());
    return progress.ok() ? *progress : Progress{};
  }
  Progress Send(Lsn end, std::vector<SegmentPart> parts) {
    Segment segment;
    segment.parts = std::move(parts);
    segment.end = end;
    return Send(std::move(segment));
  }
  void Sql(const std::string& sql) {
    auto lease = *DuckDbFile::Acquire(file_);
    auto connection = *DuckDbConnection::Open(lease->database());
    const auto done = connection->Execute(sql);
    ASSERT_TRUE(done.ok()) << ErrorLine(done.status());
  }
  std::vector<std::string> Lines(const std::string& sql) {
    auto lease = *DuckDbFile::Acquire(file_);
    auto connection = *DuckDbConnection::Open(lease->database());
    auto rows = connection->Rows(sql);
    EXPECT_TRUE(rows.ok()) << ErrorLine(rows.status());
    std::vector<std::string> lines;
    for (const TextRow& row : *rows) {
      std::string line;
      for (const auto& cell : row) line += (line.empty() ? "" : " ") + cell.value_or("-");
      lines.push_back(std::move(line));
    }
    return lines;
  }
  static std::shared_ptr<TableSchema> Schema(uint32_t oid, const std::string& name) {
    auto schema = std::make_shared<TableSchema>();
    schema->id = {oid};
    schema->schema = "public";
    schema->name = name;
    schema->identity = Identity::kKey;
    schema->columns = {{1, "id", ModelType(TypeKind::kInt4)},
                       {2, "big", ModelType(TypeKind::kText)}};
    schema->key = {0};
    return schema;
  }
  static ChangeBatch Changes(const TableSchemaPtr& schema, Lsn commit,
                             const std::vector<std::pair<Op, ModelRow>>& changes,
                             std::vector<uint64_t> unsent = {}) {
    ChangeBatch batch;
    batch.schema = schema;
    std::vector<ModelRow> rows;
    for (const auto& [op, row] : changes) {
      batch.ordinals.push_back(2 * batch.ops.size());
      batch.ops.push_back(op);
      rows.push_back(row);
    }
    batch.rows = ModelBatch(*schema, rows);
    batch.transactions = {{commit, 1'700'000'000'000'000, 77, batch.size()}};
    batch.unsent = std::move(unsent);
    batch.unsent_words = batch.unsent.empty() ? 0 : 1;
    return batch;
  }
  void MakeLive(const TableSchemaPtr& schema, Lsn at) {
    Send(at, {CopyStart{.schema = schema, .generation = 1, .from = at}});
    Send(FoldRequest{.table = schema->id, .generation = 1});
  }

  TemporaryFile temporary_;
  std::shared_ptr<DuckDbFile> file_;
  std::unique_ptr<DuckDbDestination> destination_;
};

// Under the other mode rows would go into a table made for this one.
class DuckDbMode : public DuckDbDestinationTest {
 protected:
  Status StartAs(Mode mode) {
    destination_.reset();
    destination_ = std::make_unique<DuckDbDestination>(file_, SystemClock());
    return destination_->Start({.pipeline = "p", .mode = mode}).status();
  }
  /// As a version before the mode was stored has left the file.
  void MakeOld() {
    destination_.reset();
    Sql("ALTER TABLE _etl.progress DROP COLUMN \"mode\"; UPDATE _etl.meta SET format = 1");
  }
  void ExpectRefused(const Status& status, const std::string& stored) {
    EXPECT_EQ(KindOf(status), ErrorKind::kConfig) << ErrorLine(status);
    EXPECT_EQ(PartsOf(status).code, "ETL-D126");
    EXPECT_NE(PartsOf(status).remedy.find("mode: " + stored), std::string::npos)
        << ErrorLine(status);
  }
};

TEST_F(DuckDbMode, AnotherModeThanTheStoredOneIsRefused) {
  Open(Mode::kAppend);
  Send({2000}, {CopyStart{.schema = Schema(1, "t"), .generation = 1, .from = {2000}}});
  ExpectRefused(StartAs(Mode::kMirror), "append");
  EXPECT_TRUE(StartAs(Mode::kAppend).ok());
  EXPECT_EQ(Lines("SELECT \"position\"::VARCHAR, \"mode\" FROM _etl.progress"),
            std::vector<std::string>{"2000 append"});
}

TEST_F(DuckDbMode, TheModeOfAnOlderFileIsThatOfItsTables) {
  for (const auto& [mode, other, name] : {std::tuple{Mode::kMirror, Mode::kAppend, "mirror"},
                                          std::tuple{Mode::kAppend, Mode::kMirror, "append"}}) {
    destination_.reset();
    std::filesystem::remove(temporary_.path());
    Open(mode);
    MakeLive(Schema(1, "t"), {2000});
    MakeOld();
    ExpectRefused(StartAs(other), name);
    EXPECT_TRUE(StartAs(mode).ok());
    EXPECT_EQ(Lines("SELECT format::VARCHAR, \"mode\" FROM _etl.meta, _etl.progress"),
              std::vector<std::string>{std::string("2 ") + name});
  }
}

TEST_F(DuckDbMode, AFirstCopyUnderWayTellsTheModeOfAnOlderFileToo) {
  Open(Mode::kMirror);
  Send({2000}, {CopyStart{.schema = Schema(1, "t"), .generation = 1, .from = {2000}}});
  MakeOld();
  ExpectRefused(StartAs(Mode::kAppend), "mirror");
}

TEST_F(DuckDbMode, AnOlderFileWithoutTablesTakesTheFirstModeSeen) {
  Open(Mode::kMirror);
  MakeOld();
  EXPECT_TRUE(StartAs(Mode::kAppend).ok());
  ExpectRefused(StartAs(Mode::kMirror), "append");
}

// Rows of a transaction stay in memory until they are whole row groups.
TEST_F(DuckDbDestinationTest, ChunksOfLargeRowsAreStoredOneByOne) {
  Open(Mode::kMirror);
  const TableSchemaPtr schema = Schema(1, "t");
  CopyPlan plan{.table = {1}, .generation = 1};
  for (uint32_t number = 0; number < 8; ++number)
    plan.chunks.push_back({.number = number, .leaf = {1}});
  Send({2000}, {CopyStart{.schema = schema, .generation = 1, .from = {2000}}, plan});
  const auto send = [&](uint32_t chunk, int64_t bytes) {
    return Send(ChunkRows{.table = {1},
                          .generation = 1,
                          .chunk = chunk,
                          .schema = schema,
                          .rows = ModelBatch(*schema, {{std::to_string(chunk), "\"x\""}}),
                          .done = ChunkRows::Done{.high = {1990}, .rows = 1},
                          .bytes = bytes})
        .chunks.size();
  };
  EXPECT_EQ(send(0, 1000), 0u) << "small ones wait for company";
  EXPECT_EQ(send(1, int64_t{128} << 20), 2u);
  EXPECT_EQ(send(2, int64_t{256} << 20), 1u);
}

// Its own transaction would log its rows, and compress them again later.
TEST_F(DuckDbDestinationTest, ARestBelowARowGroupIsStoredWithTheChunksBeforeIt) {
  Open(Mode::kMirror);
  const TableSchemaPtr schema = Schema(1, "t");
  CopyPlan plan{.table = {1}, .generation = 1};
  const int64_t estimates[] = {130000, 130000, 130000, 130000, 50000};
  for (uint32_t number = 0; number < 5; ++number) {
    plan.chunks.push_back({.number = number, .leaf = {1}, .rows_estimate = estimates[number]});
  }
  Send({2000}, {CopyStart{.schema = schema, .generation = 1, .from = {2000}}, plan});
  std::vector<size_t> stored;
  for (uint32_t chunk = 0; chunk < 5; ++chunk) {
    const Progress progress =
        Send(ChunkRows{.table = {1},
                       .generation = 1,
                       .chunk = chunk,
                       .schema = schema,
                       .rows = ModelBatch(*schema, {{std::to_string(chunk), "\"x\""}}),
                       .done = ChunkRows::Done{.high = {1990}, .rows = estimates[chunk]},
                       .bytes = 1000});
    stored.push_back(progress.chunks.size());
  }
  EXPECT_EQ(stored, (std::vector<size_t>{0, 2, 0, 0, 3}));
}

// Two handles on one file would not see each other.
TEST(DuckDbFiles, AFileIsTheSameBeforeAndAfterItExists) {
  TemporaryFile temporary;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(std::filesystem::path(temporary.path()).parent_path());
  DuckDbFiles files;
  const std::shared_ptr<DuckDbFile> first = files.Get({.path = "new.duckdb"});
  EXPECT_TRUE(DuckDbFile::Acquire(first).ok());
  EXPECT_TRUE(std::filesystem::exists("new.duckdb"));
  EXPECT_EQ(files.Get({.path = "new.duckdb"}), first);
  EXPECT_EQ(files.Get({.path = std::filesystem::absolute("new.duckdb").string()}), first);
  std::filesystem::current_path(before);
}

TEST(DuckDbFiles, PipelinesMayStartInANewFileAtTheSameTime) {
  for (int round = 0; round < 20; ++round) {
    TemporaryFile temporary;
    DuckDbFiles files;
    const auto file = files.Get({.path = temporary.path()});
    std::barrier both(2);
    const auto start = [&](const std::string& pipeline) {
      DuckDbDestination destination(file, SystemClock());
      both.arrive_and_wait();
      const auto checkpoint = destination.Start({.pipeline = pipeline, .mode = Mode::kMirror});
      EXPECT_TRUE(checkpoint.ok()) << ErrorLine(checkpoint.status());
    };
    std::thread other(start, "q");
    start("p");
    other.join();
  }
}

TEST_F(DuckDbDestinationTest, AppendKeepsEveryChangeWithItsPosition) {
  Open(Mode::kAppend);
  const TableSchemaPtr schema = Schema(1, "t");
  Send({2000}, {CopyStart{.schema = schema, .generation = 1, .from = {2000}}});
  for (uint32_t chunk = 0; chunk < 2; ++chunk) {
    Send(ChunkRows{.table = {1},
                   .generation = 1,
                   .chunk = chunk,
                   .schema = schema,
                   .rows = ModelBatch(*schema, {{std::to_string(chunk), "\"x\""}}),
                   .done = ChunkRows::Done{.high = {1990}, .rows = 1}});
  }
  Send({3000}, {Changes(schema, {2008},
                        {{Op::kUpdate, {"0", "null"}},
                         {Op::kDelete, {"1", "null"}},
                         {Op::kMove, {"2", "\"x\""}}},
                        {2, 0, 0}),
                TruncateChange{schema, {{2016}, 4}, 1'700'000'000'000'000, 78}});
  EXPECT_TRUE(Send(FoldRequest{.table = {1}, .generation = 1}).folds.at(0).folded);
  EXPECT_EQ(Lines("SELECT id::VARCHAR, big, _etl_op, _etl_lsn::VARCHAR, _etl_seq::VARCHAR, "
                  "_etl_commit_ts::VARCHAR, _etl_xid::VARCHAR, _etl_unchanged::VARCHAR FROM "
                  "public.t ORDER BY _etl_lsn, _etl_seq"),
            (std::vector<std::string>{"0 x r 1999 1 - - -", "1 x r 1999 4294967297 - - -",
                                      "0 - u 2008 0 2023-11-14 22:13:20+00 77 [big]",
                                      "1 - d 2008 2 2023-11-14 22:13:20+00 77 -",
                                      "2 x i 2008 4 2023-11-14 22:13:20+00 77 -",
                                      "- - t 2016 4 2023-11-14 22:13:20+00 78 -"}));
  // A column that comes goes behind the metadata columns; rows still find their places.
  auto wider = Schema(1, "t");
  wider->columns.push_back({3, "n", ModelType(TypeKind::kInt8)});
  Send({4000}, {SchemaChange{.from = schema, .to = wider},
                Changes(wider, {3008}, {{Op::kInsert, {"9", "\"y\"", "5"}}})});
  EXPECT_EQ(Lines("SELECT n::VARCHAR, _etl_op FROM public.t WHERE id = 9"),
            std::vector<std::string>{"5 i"});
}

// Rule C11. Key 1 moved between chunks and was copied by none; key 3 is the old key of 2, and the
// row that was copied of it is another's.
TEST_F(DuckDbDestinationTest, AppendSettlesValuesThatWereNeitherSentNorCopied) {
  Open(Mode::kAppend);
  auto schema = Schema(1, "t");
  schema->columns.push_back({3, "n", ModelType(TypeKind::kInt8)});
  Send({2000}, {CopyStart{.schema = schema, .generation = 1, .from = {2000}}});
  Send(ChunkRows{.table = {1},
                 .generation = 1,
                 .schema = schema,
                 .rows = ModelBatch(*schema, {{"3", "\"other\"", "7"}, {"4", "\"copied\"", "4"}}),
                 .done = ChunkRows::Done{.high = {2900}, .rows = 2}});
  Send({3000}, {Changes(schema, {2008},
                        {{Op::kUpdate, {"1", "null", "5"}},
                         {Op::kDelete, {"3", "null", "null"}},
                         {Op::kMove, {"2", "null", "6"}},
                         {Op::kInsert, {"3", "\"other\"", "7"}},
                         {Op::kUpdate, {"4", "null", "8"}}},
                        {2, 0, 2, 0, 2})});
  const FoldRequest fold{.table = {1}, .generation = 1};
  const auto settle = [&](Lsn read_after, const std::vector<ModelRow>& rows) {
    Send(SettledRows{.table = {1},
                     .generation = 1,
                     .read_after = read_after,
                     .high = {3100},
                     .rows = ModelBatch(*schema, rows)});
  };
  FoldResult missing = Send(fold).folds.at(0);
  ASSERT_FALSE(missing.folded);
  EXPECT_EQ(missing.missing_keys->num_rows(), 2);
  EXPECT_EQ(missing.xids, std::vector<uint32_t>{77});
  EXPECT_EQ(missing.at, Lsn{3000});
  // Key 1 is deleted and comes back meanwhile: what was read of it does not count.
  settle({3000}, {{"1", "\"old\"", "5"}, {"2", "\"moved\"", "6"}});
  Send({4000},
       {Changes(schema, {3008},
                {{Op::kDelete, {"1", "null", "null"}}, {Op::kMove, {"1", "null", "9"}}}, {0, 2})});
  missing = Send(fold).folds.at(0);
  ASSERT_FALSE(missing.folded);
  EXPECT_EQ(missing.missing_keys->num_rows(), 1);
  settle({4000}, {{"1", "\"new\"", "9"}, {"2", "\"moved\"", "6"}});
  ASSERT_TRUE(Send(fold).folds.at(0).folded);
  EXPECT_EQ(Lines("SELECT id::VARCHAR, big, n::VARCHAR, _etl_lsn::VARCHAR, (_etl_seq >> "
                  "55)::VARCHAR, _etl_commit_ts::VARCHAR, _etl_xid::VARCHAR, "
                  "_etl_unchanged::VARCHAR FROM public.t WHERE _etl_op = 'u' AND _etl_lsn > 2008 "
                  "ORDER BY id"),
            (std::vector<std::string>{"1 new - 3999 1 - - [n]", "2 moved - 3999 1 - - [n]"}));
  EXPECT_EQ(Lines("SELECT count(*)::VARCHAR FROM duckdb_tables() WHERE schema_name = '_etl' AND "
                  "table_name LIKE 'settled%'"),
            std::vector<std::string>{"0"});
}

// After a truncate nothing that was copied counts.
TEST_F(DuckDbDestinationTest, AppendDoesNotTakeValuesCopiedBeforeATruncate) {
  Open(Mode::kAppend);
  const TableSchemaPtr schema = Schema(1, "t");
  Send({2000}, {CopyStart{.schema = schema, .generation = 1, .from = {2000}}});
  Send(ChunkRows{.table = {1},
                 .generation = 1,
                 .schema = schema,
                 .rows = ModelBatch(*schema, {{"1", "\"gone\""}}),
                 .done = ChunkRows::Done{.high = {2900}, .rows = 1}});
  Send({3000}, {TruncateChange{schema, {{2008}, 0}, 1'700'000'000'000'000, 78},
                Changes(schema, {2016}, {{Op::kUpdate, {"1", "null"}}}, {2})});
  const FoldResult missing = Send(FoldRequest{.table = {1}, .generation = 1}).folds.at(0);
  ASSERT_FALSE(missing.folded);
  EXPECT_EQ(missing.missing_keys->num_rows(), 1);
}

TEST(DuckDbFullDisk, TheErrorNamesTheFileOrTheFolderOfWhatDoesNotFitIntoMemory) {
  const DuckDbOptions options{.path = "/data/copy.duckdb", .spill_dir = "/spill"};
  for (const char* why : {"Could not write file \"/data/copy.duckdb.wal\": No space left on device",
                          "Could not write file: Disk quota exceeded", "write: File too large"}) {
    const ErrorParts parts =
        PartsOf(NameFullPlace(DuckDbError(DUCKDB_ERROR_IO, why, "COMMIT"), options));
    EXPECT_EQ(parts.code, "ETL-D130");
    EXPECT_EQ(parts.what, "there is no space left for /data/copy.duckdb");
    EXPECT_NE(parts.why.find(why), std::string::npos) << parts.why;
    EXPECT_NE(parts.remedy.find("free space"), std::string::npos);
  }
  const Status other = DuckDbError(DUCKDB_ERROR_IO, "Could not read", "COMMIT");
  EXPECT_EQ(PartsOf(NameFullPlace(other, options)).what, PartsOf(other).what);
}

// A key deleted while the table was set aside has no `d`: its earlier rows are not its latest.
TEST_F(DuckDbDestinationTest, ACopyThatFollowsAGapInAppendVoidsWhatWasBefore) {
  Open(Mode::kAppend);
  const TableSchemaPtr schema = Schema(1, "t");
  const auto copy = [&](uint32_t generation, Lsn from, const std::string& id) {
    Send(from, {CopyStart{.schema = schema, .generation = generation, .from = from}});
    Send(ChunkRows{.table = {1},
                   .generation = generation,
                   .schema = schema,
                   .rows = ModelBatch(*schema, {{id, "\"x\""}}),
                   .done = ChunkRows::Done{.high = {1990}, .rows = 1}});
    EXPECT_TRUE(Send(FoldRequest{.table = {1}, .generation = generation}).folds.at(0).folded);
  };
  copy(1, {2000}, "1");
  Send({3000}, {TableStop{.table = {1}, .code = "ETL-S123", .reason = "test"}});
  copy(2, {4000}, "2");
  copy(3, {4000}, "3");
  EXPECT_EQ(Lines("SELECT id::VARCHAR, _etl_op, _etl_lsn::VARCHAR, (_etl_seq >> 56)::VARCHAR, "
                  "(_etl_seq & 255)::VARCHAR, _etl_commit_ts::VARCHAR, _etl_xid::VARCHAR FROM "
                  "public.t ORDER BY _etl_lsn, _etl_seq"),
            (std::vector<std::string>{"1 r 1999 0 1 - -", "- t 3999 1 0 - -", "2 r 3999 1 1 - -",
                                      "- t 3999 2 0 - -", "3 r 3999 2 1 - -"}));
}

TEST(DuckDbMemory, ACommitThatLacksItSaysSo) {
  for (const char* why :
       {"Failed to commit: failed to pin block of size 256.0 KiB (243.9 MiB/244.1 MiB used)",
        "Failed to commit: could not allocate block of size 256.0 KiB"}) {
    const Status status = DuckDbError(DUCKDB_ERROR_TRANSACTION, why, "COMMIT");
    EXPECT_EQ(PartsOf(status).code, "ETL-D132");
    EXPECT_EQ(KindOf(status), ErrorKind::kTransient);
    EXPECT_NE(PartsOf(status).remedy.find("limits.memory"), std::string::npos);
  }
}

TEST(DuckDbMemory, DeletesMayHoldWhatAppendsLeave) {
  constexpr int64_t kMiB = 1 << 20;
  DuckDbOptions options{.memory_bytes = 128 * kMiB};
  EXPECT_EQ(options.most_held_by_deletes(10 * kMiB), 48 * kMiB);
  EXPECT_EQ(options.most_held_by_deletes(90 * kMiB), 38 * kMiB);
  EXPECT_EQ(options.most_held_by_deletes(120 * kMiB), 32 * kMiB);
  options.delete_bytes = 1;
  EXPECT_EQ(options.most_held_by_deletes(10 * kMiB), 1);
}

TEST(DuckDbMemory, DuckDbsAdviceIsLeftOut) {
  const Status status =
      DuckDbError(DUCKDB_ERROR_OUT_OF_MEMORY,
                  "Out of Memory Error: failed to pin block\n\nPossible solutions:\n* Reducing "
                  "threads\n\nFor more information, see https://duckdb.org/docs/",
                  "COMMIT");
  EXPECT_EQ(PartsOf(status).why, "Out of Memory Error: failed to pin block");
}

TEST(DuckDbFullDisk, WhatIsSpilledHasABound) {
  TemporaryFile temporary;
  const std::string folder = std::filesystem::path(temporary.path()).parent_path() / "spill";
  const auto file = std::make_shared<DuckDbFile>(DuckDbOptions{.path = temporary.path(),
                                                               .memory_bytes = 24 << 20,
                                                               .threads = 1,
                                                               .spill_dir = folder,
                                                               .spill_bytes = 1 << 20});
  auto lease = *DuckDbFile::Acquire(file);
  auto connection = *DuckDbConnection::Open(lease->database());
  // A folder that does not exist is made.
  const auto settings = connection->Rows(
      "SELECT current_setting('temp_directory'), current_setting('max_temp_directory_size')");
  EXPECT_EQ((*settings)[0][0]->find(folder + "/"), 0u) << *(*settings)[0][0];
  EXPECT_EQ((*settings)[0][1], "1.0 MiB");
  const Status full = NameFullPlace(
      connection
          ->Execute("CREATE TEMP TABLE x AS SELECT md5(i::VARCHAR) || sha256(i::VARCHAR) AS v FROM "
                    "range(1000000) t(i) ORDER BY v")
          .status(),
      file->options());
  EXPECT_EQ(KindOf(full), ErrorKind::kTransient);
  // DuckDB runs out of space, or of memory that it may not spill.
  EXPECT_TRUE(PartsOf(full).code == "ETL-D130" || PartsOf(full).code == "ETL-D132")
      << ErrorLine(full);
  EXPECT_NE(PartsOf(full).remedy.find("limits.spill"), std::string::npos) << ErrorLine(full);
}

// Dropped and created again at the source, with one column of another type: what was kept stays.
TEST_F(DuckDbDestinationTest, ATableOfAKnownNameGoesOnInItsTableInAppend) {
  Open(Mode::kAppend);
  const TableSchemaPtr old = Schema(1, "t");
  MakeLive(old, {2000});
  Send({3000}, {Changes(old, {2008}, {{Op::kInsert, {"1", "\"x\""}}})});
  const auto again = Schema(2, "t");
  again->columns[0].attnum = 3;
  again->columns[1].type = ModelType(TypeKind::kInt4);
  Send({4000}, {TableStop{.table = {1}, .code = "ETL-S121", .reason = "test"},
                CopyStart{.schema = again, .generation = 1, .from = {4000}}});
  EXPECT_TRUE(Send(FoldRequest{.table = {2}, .generation = 1}).folds.at(0).folded);
  Send({5000}, {Changes(again, {4008}, {{Op::kInsert, {"1", "7"}}})});
  const std::vector<std::string> expected = {"1 - i", "- - t", "1 7 i"};
  const std::string rows =
      "SELECT id::VARCHAR, big::VARCHAR, _etl_op FROM public.t ORDER BY "
      "_etl_lsn, _etl_seq";
  EXPECT_EQ(Lines(rows), expected);
  // The stopped table has no target any more, also after a restart.
  Open(Mode::kAppend);
  Send({6000}, {CopyStart{.schema = again, .generation = 2, .from = {6000}}});
  EXPECT_EQ(Lines(rows).size(), 4u);
}

TEST_F(DuckDbDestinationTest, AStopThatWasAskedForIsNotToldBack) {
  Open(Mode::kMirror);
  const TableSchemaPtr schema = Schema(1, "orders");
  Send({2000}, {CopyStart{.schema = schema, .generation = 1, .from = {2000}}});
  const Progress progress =
      Send({3000}, {TableStop{.table = schema->id, .code = "ETL-S124", .reason = "copied again"}});
  // The reader may have begun the next copy by then, and would take it for a stop of that one.
  EXPECT_TRUE(progress.stopped.empty());
}

TEST_F(DuckDbDestinationTest, ATableThatSomebodyElseMadeIsNeverTouched) {
  Open(Mode::kMirror);
  Sql("CREATE SCHEMA public; CREATE TABLE public.Taken AS SELECT 42 AS a");
  const TableSchemaPtr schema = Schema(1, "taken");
  const Progress progress =
      Send({2000}, {CopyStart{.schema = schema, .generation = 1, .from = {2000}}});
  ASSERT_EQ(progress.stopped.size(), 1u);
  EXPECT_EQ(progress.stopped[0].code, "ETL-D120");
  Send({3000}, {Changes(schema, {2008}, {{Op::kInsert, {"1", "null"}}})});
  EXPECT_EQ(Lines("SELECT a::VARCHAR FROM public.taken"), std::vector<std::string>{"42"});
  Open(Mode::kMirror);
  Sql("DROP TABLE public.taken; CREATE VIEW public.TAKEN AS SELECT 43 AS a");
  EXPECT_EQ(
      Send({3500}, {CopyStart{.schema = schema, .generation = 2, .from = {3500}}}).stopped.size(),
      1u);
  Sql("DROP VIEW public.taken");
  Send({4000}, {CopyStart{.schema = schema, .generation = 3, .from = {4000}}});
  EXPECT_TRUE(Send(FoldRequest{.table = {1}, .generation = 3}).folds.at(0).folded);
}

// DuckDB would fail at each change of it, and the whole pipeline with it.
TEST_F(DuckDbDestinationTest, ATableOfMoreColumnsThanItsMemoryTakesIsSetAside) {
  Open(Mode::kMirror);
  const auto widen = [](TableSchema* schema) {
    for (int16_t i = 3; i <= 600; ++i)
      schema->columns.push_back({i, "c" + std::to_string(i), ModelType(TypeKind::kInt4)});
  };
  const auto wide = Schema(1, "wide");
  widen(wide.get());
  const Progress refused =
      Send({2000}, {CopyStart{.schema = wide, .generation = 1, .from = {2000}}});
  ASSERT_EQ(refused.stopped.size(), 1u);
  EXPECT_EQ(refused.stopped[0].code, "ETL-D120");
  EXPECT_NE(refused.stopped[0].reason.find("needs 305 MiB at once, and has 256 MiB"),
            std::string::npos)
      << refused.stopped[0].reason;
  const TableSchemaPtr narrow = Schema(2, "narrow");
  MakeLive(narrow, {3000});
  const auto grown = std::make_shared<TableSchema>(*narrow);
  widen(grown.get());
  const Progress stopped = Send({4000}, {SchemaChange{.from = narrow, .to = grown}});
  ASSERT_EQ(stopped.stopped.size(), 1u);
  EXPECT_EQ(stopped.stopped[0].table, narrow->id);
}

TEST_F(DuckDbDestinationTest, TwoTablesMaySwapTheirNames) {
  Open(Mode::kMirror);
  const TableSchemaPtr a = Schema(1, "a"), b = Schema(2, "b");
  MakeLive(a, {2000});
  MakeLive(b, {2008});
  Send({3000}, {Changes(a, {2016}, {{Op::kInsert, {"1", "\"was a\""}}}),
                SchemaChange{.from = a, .to = Schema(1, "b")},
                SchemaChange{.from = b, .to = Schema(2, "a")}});
  EXPECT_EQ(Lines("SELECT big FROM public.b"), std::vector<std::string>{"was a"});
  EXPECT_EQ(Lines("SELECT big FROM public.a").size(), 0u);
  auto elsewhere = Schema(1, "b");
  elsewhere->schema = "other";
  Send({4000}, {SchemaChange{.from = Schema(1, "b"), .to = elsewhere}});
  EXPECT_EQ(Lines("SELECT big FROM other.b"), std::vector<std::string>{"was a"});
}

TEST_F(DuckDbDestinationTest, AResyncSwapsATableThatGoesOnBeingChanged) {
  Open(Mode::kMirror);
  const TableSchemaPtr schema = Schema(1, "t");
  MakeLive(schema, {2000});
  Send({3000}, {Changes(schema, {2008}, {{Op::kInsert, {"1", "\"a\""}}})});
  Send({4000}, {CopyStart{.schema = schema, .generation = 2, .from = {4000}, .keep_target = true}});
  Send({5000}, {Changes(schema, {4008}, {{Op::kInsert, {"2", "\"b\""}}})});
  EXPECT_EQ(Lines("SELECT big FROM public.t ORDER BY id"), (std::vector<std::string>{"a", "b"}));
  Send(ChunkRows{.table = {1},
                 .generation = 2,
                 .schema = schema,
                 .rows = ModelBatch(*schema, {{"1", "\"copied\""}}),
                 .done = ChunkRows::Done{.high = {5000}, .rows = 1}});
  EXPECT_EQ(Send(FoldRequest{.table = {1}, .generation = 2}).folds.at(0).rows, 2);
  EXPECT_EQ(Lines("SELECT big FROM public.t ORDER BY id"),
            (std::vector<std::string>{"copied", "b"}));
  EXPECT_EQ(Lines("SELECT table_name FROM duckdb_tables() WHERE table_name LIKE '%shadow%' OR "
                  "table_name LIKE 'pending%'")
                .size(),
            0u);
}

// Their chunks hold rows of a history that the source has given up.
TEST_F(DuckDbDestinationTest, AnAbandonedCopyLeavesNothingForTheNext) {
  Open(Mode::kMirror);
  const TableSchemaPtr schema = Schema(1, "t");
  const auto chunk = [&](uint32_t generation, const std::string& text) {
    return ChunkRows{.table = {1},
                     .generation = generation,
                     .schema = schema,
                     .rows = ModelBatch(*schema, {{"1", text}}),
                     .done = ChunkRows::Done{.high = {9000}, .rows = 1}};
  };
  Send({2000}, {CopyStart{.schema = schema, .generation = 1, .from = {2000}}});
  EXPECT_EQ(Send(chunk(1, "\"lost\"")).chunks.size(), 1u);
  ASSERT_TRUE(destination_->AbandonCopies({{1}, {77}}).ok());
  destination_.reset();
  destination_ = std::make_unique<DuckDbDestination>(file_, SystemClock());
  const auto checkpoint = destination_->Start({.pipeline = "p", .mode = Mode::kMirror});
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_EQ(checkpoint->tables.at(0).phase, TablePhase::kWaiting);
  EXPECT_EQ(checkpoint->tables.at(0).done.size(), 0u);
  Send({3000}, {CopyStart{.schema = schema, .generation = 2, .from = {3000}}});
  Send(chunk(2, "\"ours\""));
  EXPECT_TRUE(Send(FoldRequest{.table = {1}, .generation = 2}).folds.at(0).folded);
  EXPECT_EQ(Lines("SELECT big FROM public.t"), std::vector<std::string>{"ours"});
}

TEST_F(DuckDbDestinationTest, AnIdleFileIsReleasedAndOpenedAgain) {
  Open(Mode::kMirror, std::chrono::milliseconds(50));
  const TableSchemaPtr schema = Schema(1, "t");
  MakeLive(schema, {2000});
  ASSERT_TRUE(destination_->Advance(Later()).ok());
  EXPECT_FALSE(std::filesystem::exists(temporary_.path() + ".wal")) << "the file was not closed";
  duckdb_database other = nullptr;
  ASSERT_EQ(duckdb_open(temporary_.path().c_str(), &other), DuckDBSuccess);
  auto connection = *DuckDbConnection::Open(other);
  EXPECT_EQ(*connection->Number("SELECT \"position\" FROM _etl.progress"), 2000);
  connection.reset();
  duckdb_close(&other);
  EXPECT_EQ(Send({3000}, {Changes(schema, {2008}, {{Op::kInsert, {"1", "\"a\""}}})}).durable,
            Lsn{3000});
}

/// A live table of some vectors, in a file where deleted rows may hold three of them.
class DuckDbRebuild : public DuckDbDestinationTest {
 protected:
  static constexpr int kRows = 10000;
  void Fill(Identity identity) {
    destination_.reset();
    std::filesystem::remove(temporary_.path());
    Open(Mode::kMirror, {}, 3 * 16384);
    schema_ = Schema(1, "t");
    schema_->identity = identity;
    Send({2000}, {CopyStart{.schema = schema_, .generation = 1, .from = {2000}}});
    std::vector<ModelRow> rows;
    for (int i = 0; i < kRows; ++i) rows.push_back({std::to_string(i), "\"old\""});
    Send(ChunkRows{.table = {1},
                   .generation = 1,
                   .schema = schema_,
                   .rows = ModelBatch(*schema_, rows),
                   .done = ChunkRows::Done{.high = {1990}, .rows = kRows}});
    ASSERT_TRUE(Send(FoldRequest{.table = {1}, .generation = 1}).folds.at(0).folded);
    table_ = TableOid();
  }
  std::string TableOid() {
    return Lines("SELECT table_oid::VARCHAR FROM duckdb_tables() WHERE table_name = 't'").at(0);
  }
  ChangeBatch Update(Lsn at, const std::vector<int>& ids) {
    std::vector<std::pair<Op, ModelRow>> changes;
    for (const int id : ids) {
      if (schema_->identity == Identity::kFullRow) {
        changes.push_back({Op::kDelete, {std::to_string(id), "\"old\""}});
        changes.push_back({Op::kInsert, {std::to_string(id), "\"new\""}});
      } else {
        changes.push_back({Op::kUpdate, {std::to_string(id), "\"new\""}});
      }
    }
    return Changes(schema_, at, changes);
  }
  void SendPiece(ChangeBatch batch, Lsn end, bool complete) {
    Segment segment;
    segment.rows = batch.size();
    segment.parts.push_back(std::move(batch));
    segment.end = end;
    segment.complete = complete;
    Send(std::move(segment));
  }
  void ExpectUpdated(int updated) {
    const std::string sql =
        "SELECT count(*)::VARCHAR, count(DISTINCT id)::VARCHAR, (count(*) FILTER (big = "
        "'new'))::VARCHAR FROM public.t";
    EXPECT_EQ(Lines(sql), std::vector<std::string>{"10000 10000 " + std::to_string(updated)});
  }
  std::shared_ptr<TableSchema> schema_;
  std::string table_;
};

TEST_F(DuckDbRebuild, ATransactionThatTouchesTooManyVectorsBuildsTheTableAnew) {
  for (const Identity identity : {Identity::kKey, Identity::kFullRow}) {
    SCOPED_TRACE(static_cast<int>(identity));
    Fill(identity);
    SendPiece(Update({2008}, {0, 2500, 5000}), {3000}, true);
    EXPECT_EQ(TableOid(), table_) << "few rows are deleted one by one";
    ExpectUpdated(3);
    SendPiece(Update({3008}, {1, 2501, 5001, 7501, 9999}), {4000}, true);
    EXPECT_NE(TableOid(), table_);
    ExpectUpdated(8);
    EXPECT_EQ(Lines("SELECT table_name FROM duckdb_tables() WHERE table_name LIKE '\\_etl\\_new%' "
                    "ESCAPE '\\'")
                  .size(),
              0u);
    SendPiece(Update({4008}, {2, 2502}), {5000}, true);
    ExpectUpdated(10);
  }
}

// What is held is counted over the pieces; and the log of such a transaction can be replayed.
TEST_F(DuckDbRebuild, APieceOfATransactionMayBuildAnewWhatEarlierOnesHaveChanged) {
  for (const Identity identity : {Identity::kKey, Identity::kFullRow}) {
    SCOPED_TRACE(static_cast<int>(identity));
    Fill(identity);
    SendPiece(Update({2008}, {0, 2500}), {}, false);
    SendPiece(Update({2008}, {5000, 7500}), {}, false);
    SendPiece(Update({2008}, {1, 2501, 5001, 7501, 9999}), {}, false);
    // Somebody's open transaction keeps the log from being taken into the file.
    auto lease = *DuckDbFile::Acquire(file_);
    auto other = *DuckDbConnection::Open(lease->database());
    ASSERT_TRUE(other->Begin().ok());
    ASSERT_TRUE(other->Execute("CREATE TABLE main.other(i INTEGER)").ok());
    SendPiece(Update({2008}, {2, 2502}), {3000}, true);
    SendPiece(Update({3008}, {3}), {4000}, true);
    EXPECT_NE(TableOid(), table_);
    ExpectUpdated(12);
    // As a process that is killed leaves it.
    const std::string killed = temporary_.path() + ".killed";
    for (const char* part : {"", ".wal"}) {
      ASSERT_TRUE(std::filesystem::copy_file(temporary_.path() + part, killed + part,
                                             std::filesystem::copy_options::overwrite_existing));
    }
    ASSERT_GT(std::filesystem::file_size(killed + ".wal"), 1000u);
    other.reset();
    lease.reset();
    destination_.reset();
    file_ = std::make_shared<DuckDbFile>(DuckDbOptions{.path = killed, .threads = 1});
    ExpectUpdated(12);
  }
}

TEST_F(DuckDbRebuild, ARowThatIsNotThereIsFoundByARebuildToo) {
  Fill(Identity::kKey);
  Segment segment;
  segment.parts.push_back(Update({2008}, {0, 2500, 5000, 7500, 77777}));
  segment.end = {3000};
  const Progress progress = Send(std::move(segment));
  ASSERT_EQ(progress.stopped.size(), 1u);
  EXPECT_EQ(progress.stopped[0].code, "ETL-D150");
  ExpectUpdated(0);
}

TEST_F(DuckDbDestinationTest, ShutdownStoresWhatWasAccepted) {
  Open(Mode::kMirror);
  const TableSchemaPtr schema = Schema(1, "t");
  MakeLive(schema, {2000});
  Segment segment;
  segment.parts.push_back(Changes(schema, {2008}, {{Op::kInsert, {"1", "\"a\""}}}));
  segment.end = {3000};
  ASSERT_TRUE(destination_->Ready(Later()));
  ASSERT_TRUE(destination_->Accept(std::move(segment)).ok());
  ASSERT_TRUE(destination_->Shutdown(Later()).ok());
  EXPECT_EQ(Lines("SELECT \"position\"::VARCHAR FROM _etl.progress"),
            std::vector<std::string>{"3000"});
}

}  // namespace
}  // namespace etl
