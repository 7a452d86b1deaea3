#include "destination/conformance.h"

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <limits>

#include <arrow/api.h>
#include <arrow/json/from_string.h>

#include "base/random.h"
#include "destination/conformance_model.h"

namespace etl {
namespace {

/// The seeds of a random test: the subject's (a quarter with ETL_TEST_SHORT), or those that the
/// environment asks for.
std::pair<int, int> SeedsOf(const ConformanceSubject& subject) {
  if (const char* text = std::getenv("ETL_TEST_SEED"); text != nullptr)
    return {std::atoi(text), std::atoi(text)};
  if (const char* text = std::getenv("ETL_TEST_SEEDS"); text != nullptr)
    return {1, std::atoi(text)};
  const bool is_short = std::getenv("ETL_TEST_SHORT") != nullptr;
  return {1, is_short ? std::max(subject.seeds / 4, 1) : subject.seeds};
}

/// Feeds one destination and follows what it says.
class Driver {
 public:
  explicit Driver(const ConformanceSubject& subject, Mode mode = Mode::kMirror)
      : place_(subject.make()), mode_(mode) {
    Open();
    if (checkpoint_.identity.has_value()) return;
    const Status begun = destination_->BeginHistory(
        {.identity = {.system_id = 7512345678901234567u, .database_oid = 5, .slot = "etl_p"},
         .timeline = 1,
         .position = {1000},
         .lc_monetary = "C"});
    EXPECT_TRUE(begun.ok()) << ErrorLine(begun);
  }

  void Open() {
    destination_ = place_->Open();
    auto checkpoint = destination_->Start({.pipeline = "p", .mode = mode_});
    ASSERT_TRUE(checkpoint.ok()) << ErrorLine(checkpoint.status());
    checkpoint_ = *checkpoint;
    if (checkpoint_.position.valid()) durable_ = checkpoint_.position;
  }
  /// As kill -9 does: nothing is told to the object before.
  void Crash() {
    destination_.reset();
    Open();
  }

  Status Send(Delivery delivery) {
    while (!destination_->Ready(Now())) ETL_RETURN_IF_ERROR(Step());
    ETL_RETURN_IF_ERROR(destination_->Accept(std::move(delivery)));
    return Status::OK();
  }
  Status Step() {
    ETL_ASSIGN_OR_RETURN(Progress progress, destination_->Advance(Now()));
    EXPECT_GE(progress.durable, durable_) << "durable moved back";
    durable_ = progress.durable;
    for (auto& fold : progress.folds) folds_.push_back(std::move(fold));
    for (auto& stop : progress.stopped) stopped_.push_back(std::move(stop));
    for (auto& chunk : progress.chunks) chunks_.push_back(chunk);
    return Status::OK();
  }
  Status Settle() {
    while (!destination_->Ready(Now())) ETL_RETURN_IF_ERROR(Step());
    return Step();
  }
  Status SendAndSettle(Delivery delivery) {
    ETL_RETURN_IF_ERROR(Send(std::move(delivery)));
    return Settle();
  }

  std::vector<std::string> Texts(const TableSchemaPtr& schema) {
    std::vector<std::shared_ptr<arrow::RecordBatch>> batches;
    const Status read = destination_->Read({.schema = schema, .on_batch = [&](const auto& batch) {
                                              batches.push_back(batch);
                                              return Status::OK();
                                            }});
    EXPECT_TRUE(read.ok()) << ErrorLine(read);
    return ModelTexts(batches);
  }
  const TableCheckpoint* Table(TableId id) const {
    for (const auto& table : checkpoint_.tables) {
      if (table.schema->id == id) return &table;
    }
    return nullptr;
  }

  Destination& destination() { return *destination_; }
  const Checkpoint& checkpoint() const { return checkpoint_; }
  Lsn durable() const { return durable_; }
  std::deque<FoldResult>& folds() { return folds_; }
  std::deque<TableStop>& stopped() { return stopped_; }
  std::deque<Progress::ChunkDone>& chunks() { return chunks_; }
  /// A second ahead: pauses between writes are over.
  static Instant Now() { return SystemClock().Now() + std::chrono::seconds(1); }

 private:
  std::unique_ptr<ConformancePlace> place_;
  const Mode mode_;
  std::unique_ptr<Destination> destination_;
  Checkpoint checkpoint_;
  Lsn durable_{};
  std::deque<FoldResult> folds_;
  std::deque<TableStop> stopped_;
  std::deque<Progress::ChunkDone> chunks_;
};

#define ASSERT_DONE(expression)                  \
  do {                                           \
    const ::etl::Status done_ = (expression);    \
    ASSERT_TRUE(done_.ok()) << ErrorLine(done_); \
  } while (false)

Segment Complete(Lsn end, std::vector<SegmentPart> parts = {}, int64_t rows = 0) {
  Segment segment;
  segment.parts = std::move(parts);
  segment.complete = true;
  segment.end = end;
  segment.rows = rows;
  return segment;
}

/// Makes the table live and empty.
void MakeLive(Driver& driver, const TableSchemaPtr& schema, Lsn at, uint32_t generation = 1) {
  ASSERT_DONE(driver.SendAndSettle(
      Complete(at, {CopyStart{.schema = schema, .generation = generation, .from = at},
                    CopyPlan{.table = schema->id, .generation = generation}})));
  driver.folds().clear();
  ASSERT_DONE(driver.SendAndSettle(FoldRequest{.table = schema->id, .generation = generation}));
  ASSERT_EQ(driver.folds().size(), 1u);
  ASSERT_TRUE(driver.folds()[0].folded);
}

TableSchemaPtr SimpleSchema(uint32_t oid = 1, const std::string& name = "simple") {
  auto schema = std::make_shared<TableSchema>();
  schema->id = {oid};
  schema->schema = "public";
  schema->name = name;
  schema->identity = Identity::kKey;
  schema->columns = {{1, "id", ModelType(TypeKind::kInt4)},
                     {2, "big", ModelType(TypeKind::kText)},
                     {3, "n", ModelType(TypeKind::kInt4)}};
  schema->key = {0};
  return schema;
}

struct SimpleChange {
  Op op;
  ModelRow row;
  bool big_unsent = false;
};

ChangeBatch SimpleBatch(const TableSchemaPtr& schema, Lsn commit,
                        const std::vector<SimpleChange>& changes, uint32_t xid = 9) {
  ChangeBatch batch;
  batch.schema = schema;
  std::vector<ModelRow> rows;
  for (const SimpleChange& change : changes) {
    rows.push_back(change.row);
    // The two halves of a key change share a message (rule 1.1).
    const uint64_t next = batch.ordinals.empty() ? 0 : (batch.ordinals.back() / 2 + 1) * 2;
    batch.ordinals.push_back(change.op == Op::kMove ? next - 1 : next);
    batch.ops.push_back(change.op);
    batch.unsent.push_back(change.big_unsent ? 2 : 0);
  }
  batch.unsent_words = 1;
  batch.rows = ModelBatch(*schema, rows);
  batch.transactions = {{commit, 1'700'000'000'000'000, xid, batch.size()}};
  return batch;
}

TEST_P(Conformance, AnEmptyPlaceHasNoHistoryAndABegunOneKeepsIt) {
  if (!GetParam().stores) GTEST_SKIP();
  Driver driver(GetParam());
  driver.Crash();
  ASSERT_TRUE(driver.checkpoint().identity.has_value());
  EXPECT_EQ(driver.checkpoint().identity->system_id, 7512345678901234567u);
  EXPECT_EQ(driver.checkpoint().identity->slot, "etl_p");
  EXPECT_EQ(driver.checkpoint().position, Lsn{1000});
  EXPECT_EQ(driver.checkpoint().lc_monetary, "C");
  ASSERT_DONE(driver.destination().SetTimeline(3));
  driver.Crash();
  EXPECT_EQ(driver.checkpoint().timeline, 3u);
}

TEST_P(Conformance, ASegmentWithoutPartsMovesThePosition) {
  Driver driver(GetParam());
  ASSERT_DONE(driver.SendAndSettle(Complete({2000})));
  EXPECT_EQ(driver.durable(), Lsn{2000});
}

TEST_P(Conformance, AnIncompleteSegmentStoresNothing) {
  Driver driver(GetParam());
  const auto schema = SimpleSchema();
  MakeLive(driver, schema, {2000});
  Segment piece = Complete({}, {SimpleBatch(schema, {2008}, {{Op::kInsert, {"1", "\"a\"", "1"}}})});
  piece.complete = false;
  ASSERT_DONE(driver.SendAndSettle(std::move(piece)));
  EXPECT_EQ(driver.durable(), Lsn{2000});
  if (!GetParam().stores) return;
  EXPECT_EQ(driver.Texts(schema).size(), 0u) << "readers see a part of a transaction";
  driver.Crash();
  EXPECT_EQ(driver.checkpoint().position, Lsn{2000});
  EXPECT_EQ(driver.Texts(schema).size(), 0u);
}

TEST_P(Conformance, WhatWasAcceptedAndNotDurableIsGoneAfterACrash) {
  if (!GetParam().stores) GTEST_SKIP();
  Driver driver(GetParam());
  const auto schema = SimpleSchema();
  MakeLive(driver, schema, {2000});
  ASSERT_DONE(driver.Send(
      Complete({3000}, {SimpleBatch(schema, {2008}, {{Op::kInsert, {"1", "\"a\"", "1"}}})})));
  driver.Crash();
  EXPECT_EQ(driver.checkpoint().position, Lsn{2000});
  EXPECT_EQ(driver.Texts(schema).size(), 0u);
  ASSERT_DONE(driver.SendAndSettle(
      Complete({3000}, {SimpleBatch(schema, {2008}, {{Op::kInsert, {"1", "\"a\"", "1"}}})})));
  EXPECT_EQ(driver.Texts(schema).size(), 1u);
}

TEST_P(Conformance, UnsentValuesFollowTheRowThroughKeyChanges) {
  if (!GetParam().stores) GTEST_SKIP();
  Driver driver(GetParam());
  const auto schema = SimpleSchema();
  MakeLive(driver, schema, {2000});
  ASSERT_DONE(driver.SendAndSettle(Complete(
      {3000}, {SimpleBatch(
                  schema, {2008},
                  {{Op::kInsert, {"1", "\"one\"", "1"}}, {Op::kInsert, {"2", "\"two\"", "1"}}})})));
  // 1 goes to 3; 2 takes the freed key 1; a new row takes 2.
  ASSERT_DONE(driver.SendAndSettle(
      Complete({4000}, {SimpleBatch(schema, {3008},
                                    {{Op::kDelete, {"1", "null", "null"}},
                                     {Op::kMove, {"3", "null", "2"}, true},
                                     {Op::kDelete, {"2", "null", "null"}},
                                     {Op::kMove, {"1", "null", "3"}, true},
                                     {Op::kInsert, {"2", "\"new\"", "4"}},
                                     {Op::kUpdate, {"1", "null", "5"}, true}})})));
  EXPECT_EQ(driver.Texts(schema),
            ModelTexts({ModelBatch(
                *schema, {{"3", "\"one\"", "2"}, {"1", "\"two\"", "5"}, {"2", "\"new\"", "4"}})}));
}

TEST_P(Conformance, AStopThatWasOrderedIsNotReportedBack) {
  if (!GetParam().stores) GTEST_SKIP();
  Driver driver(GetParam());
  const auto schema = SimpleSchema();
  MakeLive(driver, schema, {2000});
  // The next copy may have begun before the answer is read: it would be taken for the stopped one.
  ASSERT_DONE(driver.SendAndSettle(
      Complete({3000}, {TableStop{.table = schema->id, .code = "ETL-S124", .reason = "ordered"}})));
  EXPECT_EQ(driver.durable(), Lsn{3000});
  EXPECT_TRUE(driver.stopped().empty());
  driver.Crash();
  ASSERT_NE(driver.Table(schema->id), nullptr);
  EXPECT_EQ(driver.Table(schema->id)->phase, TablePhase::kStopped);
  EXPECT_EQ(driver.Table(schema->id)->stop_reason, "ordered");
}

TEST_P(Conformance, ATableThatDivergedIsSetAsideAndTheOthersGoOn) {
  if (!GetParam().stores) GTEST_SKIP();
  for (const Op op : {Op::kInsert, Op::kUpdate, Op::kDelete}) {
    Driver driver(GetParam());
    const auto wrong = SimpleSchema(1, "wrong");
    const auto right = SimpleSchema(2, "right");
    MakeLive(driver, wrong, {2000});
    MakeLive(driver, right, {2000});
    ASSERT_DONE(driver.SendAndSettle(
        Complete({3000}, {SimpleBatch(wrong, {2008}, {{Op::kInsert, {"1", "\"a\"", "1"}}})})));
    const std::string key = op == Op::kInsert ? "1" : "2";
    ASSERT_DONE(driver.SendAndSettle(
        Complete({4000}, {SimpleBatch(wrong, {3008}, {{op, {key, "\"b\"", "2"}}}),
                          SimpleBatch(right, {3008}, {{Op::kInsert, {"7", "\"c\"", "3"}}})})));
    EXPECT_EQ(driver.durable(), Lsn{4000});
    ASSERT_EQ(driver.stopped().size(), 1u);
    EXPECT_EQ(driver.stopped()[0].table, wrong->id);
    EXPECT_EQ(driver.Texts(right).size(), 1u);
    EXPECT_EQ(driver.Texts(wrong), ModelTexts({ModelBatch(*wrong, {{"1", "\"a\"", "1"}})}))
        << "the table that was set aside stays at the position before";
    driver.Crash();
    ASSERT_NE(driver.Table(wrong->id), nullptr);
    EXPECT_EQ(driver.Table(wrong->id)->phase, TablePhase::kStopped);
    EXPECT_FALSE(driver.Table(wrong->id)->stop_reason.empty());
    // A new copy brings it back.
    MakeLive(driver, wrong, {5000}, 2);
    EXPECT_EQ(driver.Texts(wrong).size(), 0u);
  }
}

TEST_P(Conformance, RowsOfUnfinishedChunksLeaveNothingBehind) {
  if (!GetParam().stores) GTEST_SKIP();
  Driver driver(GetParam());
  const auto schema = SimpleSchema();
  ASSERT_DONE(driver.SendAndSettle(
      Complete({2000}, {CopyStart{.schema = schema, .generation = 1, .from = {2000}},
                        CopyPlan{.table = schema->id,
                                 .generation = 1,
                                 .chunks = {{.number = 0,
                                             .leaf = {1},
                                             .leaf_schema = "public",
                                             .leaf_name = "simple",
                                             .file_node = 77,
                                             .first_block = 0,
                                             .end_block = 5},
                                            {.number = 1, .leaf = {1}, .first_block = 5}}}})));
  auto chunk = [&](uint32_t number, uint32_t attempt, const std::string& id, bool done) {
    ChunkRows rows{.table = schema->id,
                   .generation = 1,
                   .chunk = number,
                   .attempt = attempt,
                   .schema = schema,
                   .rows = ModelBatch(*schema, {{id, "\"x\"", "1"}})};
    if (done) rows.done = ChunkRows::Done{.high = {1990}, .rows = 1};
    return rows;
  };
  ASSERT_DONE(driver.SendAndSettle(chunk(0, 1, "1", true)));
  ASSERT_DONE(driver.SendAndSettle(chunk(1, 1, "2", false)));
  // The same process tries the chunk again.
  ASSERT_DONE(driver.SendAndSettle(chunk(1, 2, "3", false)));
  driver.Crash();
  ASSERT_NE(driver.Table(schema->id), nullptr);
  const TableCheckpoint& table = *driver.Table(schema->id);
  EXPECT_EQ(table.phase, TablePhase::kCopying);
  EXPECT_TRUE(table.planned);
  ASSERT_EQ(table.chunks.size(), 2u);
  EXPECT_EQ(table.chunks[0].file_node, 77u);
  EXPECT_EQ(table.chunks[0].end_block, 5u);
  EXPECT_FALSE(table.chunks[1].end_block.has_value());
  ASSERT_EQ(table.done.size(), 1u);
  EXPECT_EQ(table.done[0].high, Lsn{1990});
  ASSERT_DONE(driver.SendAndSettle(chunk(1, 3, "4", true)));
  EXPECT_EQ(driver.chunks().size(), 2u);
  ASSERT_DONE(driver.SendAndSettle(FoldRequest{.table = schema->id, .generation = 1}));
  ASSERT_EQ(driver.folds().size(), 1u);
  EXPECT_EQ(driver.folds()[0].rows, 2);
  EXPECT_EQ(driver.Texts(schema),
            ModelTexts({ModelBatch(*schema, {{"1", "\"x\"", "1"}, {"4", "\"x\"", "1"}})}));
}

TEST_P(Conformance, ValuesOfAnotherIncarnationAreMissingUntilTheyAreReadAgain) {
  if (!GetParam().stores || !GetParam().settles) GTEST_SKIP();
  Driver driver(GetParam());
  const auto schema = SimpleSchema();
  ASSERT_DONE(driver.SendAndSettle(
      Complete({2000}, {CopyStart{.schema = schema, .generation = 1, .from = {2000}},
                        CopyPlan{.table = schema->id, .generation = 1, .chunks = {{}}}})));
  ASSERT_DONE(driver.SendAndSettle(
      ChunkRows{.table = schema->id,
                .generation = 1,
                .schema = schema,
                .rows = ModelBatch(*schema, {{"1", "\"former\"", "1"}, {"2", "\"other\"", "1"}}),
                .done = ChunkRows::Done{.high = {2000}, .rows = 2}}));
  // 1 is deleted; 2 moves there without its out-of-line value.
  ASSERT_DONE(
      driver.SendAndSettle(Complete({3000}, {SimpleBatch(schema, {2008},
                                                         {{Op::kDelete, {"1", "null", "null"}},
                                                          {Op::kDelete, {"2", "null", "null"}},
                                                          {Op::kMove, {"1", "null", "2"}, true}},
                                                         4711)})));
  ASSERT_DONE(driver.SendAndSettle(FoldRequest{.table = schema->id, .generation = 1}));
  ASSERT_EQ(driver.folds().size(), 1u);
  const FoldResult asked = driver.folds()[0];
  EXPECT_FALSE(asked.folded);
  ASSERT_EQ(asked.missing_keys->num_rows(), 1);
  EXPECT_EQ(asked.xids, std::vector<uint32_t>{4711});
  EXPECT_EQ(asked.at, Lsn{3000});
  // Broken again after the reading began: it does not count.
  ASSERT_DONE(
      driver.SendAndSettle(SettledRows{.table = schema->id,
                                       .generation = 1,
                                       .read_after = {2000},
                                       .high = {2000},
                                       .rows = ModelBatch(*schema, {{"1", "\"former\"", "2"}})}));
  ASSERT_DONE(driver.SendAndSettle(FoldRequest{.table = schema->id, .generation = 1}));
  ASSERT_EQ(driver.folds().size(), 2u);
  EXPECT_FALSE(driver.folds()[1].folded);
  ASSERT_DONE(
      driver.SendAndSettle(SettledRows{.table = schema->id,
                                       .generation = 1,
                                       .read_after = {3000},
                                       .high = {3000},
                                       .rows = ModelBatch(*schema, {{"1", "\"other\"", "2"}})}));
  driver.Crash();
  ASSERT_DONE(driver.SendAndSettle(FoldRequest{.table = schema->id, .generation = 1}));
  ASSERT_EQ(driver.folds().size(), 3u);
  EXPECT_TRUE(driver.folds()[2].folded);
  EXPECT_EQ(driver.Texts(schema), ModelTexts({ModelBatch(*schema, {{"1", "\"other\"", "2"}})}));
}

TEST_P(Conformance, ValuesReadAgainInSeveralRoundsAllCount) {
  if (!GetParam().stores || !GetParam().settles) GTEST_SKIP();
  Driver driver(GetParam());
  const auto schema = SimpleSchema();
  ASSERT_DONE(driver.SendAndSettle(
      Complete({2000}, {CopyStart{.schema = schema, .generation = 1, .from = {2000}},
                        CopyPlan{.table = schema->id, .generation = 1, .chunks = {{}}}})));
  const auto rows = ModelBatch(
      *schema,
      {{"1", "\"a\"", "1"}, {"2", "\"b\"", "1"}, {"3", "\"c\"", "1"}, {"4", "\"d\"", "1"}});
  ASSERT_DONE(driver.SendAndSettle(ChunkRows{.table = schema->id,
                                             .generation = 1,
                                             .schema = schema,
                                             .rows = rows,
                                             .done = ChunkRows::Done{.high = {2000}, .rows = 4}}));
  ASSERT_DONE(
      driver.SendAndSettle(Complete({3000}, {SimpleBatch(schema, {2008},
                                                         {{Op::kDelete, {"1", "null", "null"}},
                                                          {Op::kDelete, {"2", "null", "null"}},
                                                          {Op::kDelete, {"3", "null", "null"}},
                                                          {Op::kMove, {"1", "null", "2"}, true},
                                                          {Op::kDelete, {"4", "null", "null"}},
                                                          {Op::kMove, {"2", "null", "2"}, true}},
                                                         4711)})));
  ASSERT_DONE(driver.SendAndSettle(FoldRequest{.table = schema->id, .generation = 1}));
  ASSERT_EQ(driver.folds().size(), 1u);
  ASSERT_EQ(driver.folds()[0].missing_keys->num_rows(), 2);
  const auto settle = [&](Lsn at, const ModelRow& row) {
    return SettledRows{.table = schema->id,
                       .generation = 1,
                       .read_after = at,
                       .high = at,
                       .rows = ModelBatch(*schema, {row})};
  };
  ASSERT_DONE(driver.SendAndSettle(settle({3000}, {"2", "\"d\"", "2"})));
  ASSERT_DONE(driver.SendAndSettle(Complete({4000}, {})));
  ASSERT_DONE(driver.SendAndSettle(FoldRequest{.table = schema->id, .generation = 1}));
  ASSERT_EQ(driver.folds().size(), 2u);
  ASSERT_EQ(driver.folds()[1].missing_keys->num_rows(), 1);
  ASSERT_DONE(driver.SendAndSettle(settle({4000}, {"1", "\"c\"", "2"})));
  ASSERT_DONE(driver.SendAndSettle(FoldRequest{.table = schema->id, .generation = 1}));
  ASSERT_EQ(driver.folds().size(), 3u);
  EXPECT_TRUE(driver.folds()[2].folded);
  EXPECT_EQ(driver.Texts(schema),
            ModelTexts({ModelBatch(*schema, {{"1", "\"c\"", "2"}, {"2", "\"d\"", "2"}})}));
}

/// Sends a history to a destination, with crashes and replays, and compares after each transaction.
class History {
 public:
  History(const ConformanceSubject& subject, const ModelTable::Options& options)
      : driver_(subject),
        table_(options),
        random_(options.seed * 977 + 5),
        changes_columns_(subject.changes_columns),
        signed_zeros_(subject.signed_zeros) {}

  void Live(int segments) {
    MakeLive(driver_, table_.schema(), {2000});
    lsn_ = 2000;
    for (int i = 0; i < segments && !testing::Test::HasFatalFailure(); ++i) Segments();
  }

  void Copy() {
    table_.Fill(10);
    lsn_ = 2000;
    std::vector<Chunk> plan;
    for (int block = 0; block < ModelTable::kBlocks; ++block)
      plan.push_back({.number = static_cast<uint32_t>(block)});
    ASSERT_DONE(driver_.SendAndSettle(Complete(
        {2000},
        {CopyStart{.schema = table_.schema(), .generation = 1, .from = {2000}},
         CopyPlan{.table = table_.schema()->id, .generation = 1, .chunks = std::move(plan)}})));
    copying_ = true;
    if (table_.schema()->identity == Identity::kKey) {
      for (int block = 0; block < ModelTable::kBlocks; ++block) CopyBlock(block);
    } else {
      if (random_.OneIn(2)) Segments();
      ignore_below_ = Lsn{lsn_};
      for (int block = 0; block < ModelTable::kBlocks; ++block)
        SendBlock(block, table_.Block(block));
    }
    if (random_.OneIn(2)) Segments();
    FoldUntilDone();
    if (testing::Test::HasFatalFailure()) return;
    copying_ = false;
    Compare();
    for (int i = 0; i < 4 && !testing::Test::HasFatalFailure(); ++i) Segments();
  }

 private:
  void Compare() { ASSERT_EQ(Texts(driver_.Texts(table_.schema())), Texts(table_.Texts())); }
  /// Without the sign of zeros, where the destination does not keep it.
  std::vector<std::string> Texts(std::vector<std::string> rows) const {
    if (signed_zeros_) return rows;
    for (std::string& row : rows) {
      for (size_t at; (at = row.find("[-0]")) != std::string::npos;) row.erase(at + 1, 1);
    }
    std::sort(rows.begin(), rows.end());
    return rows;
  }

  /// One segment, in pieces, perhaps with a crash before it is complete, and sent again.
  void Segments() {
    std::vector<SegmentPart> parts;
    int64_t rows = 0;
    const int transactions = 1 + static_cast<int>(random_.Below(3));
    for (int i = 0; i < transactions; ++i) {
      lsn_ += 8;
      const Lsn commit{lsn_};
      if (random_.OneIn(8) && changes_columns_) table_.ChangeSchema(&parts);
      if (random_.OneIn(10)) {
        table_.Truncate(commit, ++xid_, &parts);
        lsn_ += 8;
      }
      rows +=
          table_.Transaction(Lsn{lsn_}, ++xid_, 1 + static_cast<int>(random_.Below(12)), &parts);
      lsn_ += 8;
    }
    if (random_.OneIn(6)) {
      SendPieces(parts, rows, /*last_too=*/random_.OneIn(2));
      driver_.Crash();
      if (driver_.checkpoint().position == Lsn{lsn_}) {
        if (!copying_) Compare();
        return;
      }
    }
    SendPieces(parts, rows, true);
    ASSERT_EQ(driver_.durable(), Lsn{lsn_});
    ASSERT_TRUE(driver_.stopped().empty()) << driver_.stopped()[0].reason;
    if (!copying_) Compare();
  }

  void SendPieces(const std::vector<SegmentPart>& parts, int64_t rows, bool last_too) {
    Segment piece;
    piece.complete = false;
    for (const SegmentPart& part : parts) {
      piece.parts.push_back(part);
      if (!random_.OneIn(4)) continue;
      ASSERT_DONE(driver_.SendAndSettle(std::move(piece)));
      piece = Segment();
      piece.complete = false;
    }
    if (!last_too) return;
    piece.complete = true;
    piece.end = {lsn_};
    piece.rows = rows;
    ASSERT_DONE(driver_.SendAndSettle(std::move(piece)));
  }

  void CopyBlock(int block) {
    if (random_.OneIn(2)) Segments();
    // A chunk may have been read some time before it is delivered, under the columns of that time.
    const auto rows = table_.Block(block);
    const auto schema = table_.schema();
    const Lsn high{lsn_};
    if (random_.OneIn(3)) Segments();
    SendBlock(block, rows, schema, high);
    if (random_.OneIn(8)) driver_.Crash();
  }

  void SendBlock(int block, const std::shared_ptr<arrow::RecordBatch>& rows,
                 TableSchemaPtr schema = nullptr, Lsn high = {}) {
    if (schema == nullptr) schema = table_.schema();
    ChunkRows chunk{.table = schema->id,
                    .generation = 1,
                    .chunk = static_cast<uint32_t>(block),
                    .attempt = 1,
                    .schema = schema,
                    .rows = rows};
    if (random_.OneIn(4)) {  // An attempt that fails half-way.
      ASSERT_DONE(driver_.SendAndSettle(chunk));
      chunk.attempt = 2;
    }
    if (random_.OneIn(2)) {
      const int64_t half = rows->num_rows() / 2;
      chunk.rows = rows->Slice(0, half);
      ASSERT_DONE(driver_.SendAndSettle(chunk));
      chunk.rows = rows->Slice(half);
    }
    chunk.done = ChunkRows::Done{.high = high.valid() ? high : Lsn{lsn_}, .rows = rows->num_rows()};
    ASSERT_DONE(driver_.SendAndSettle(chunk));
  }

  void FoldUntilDone() {
    for (int round = 0; round < 50; ++round) {
      driver_.folds().clear();
      ASSERT_DONE(driver_.SendAndSettle(FoldRequest{
          .table = table_.schema()->id, .generation = 1, .ignore_below = ignore_below_}));
      ASSERT_EQ(driver_.folds().size(), 1u);
      const FoldResult result = driver_.folds()[0];
      if (result.folded) {
        ASSERT_EQ(result.rows, static_cast<int64_t>(table_.size()));
        return;
      }
      ASSERT_EQ(result.at, Lsn{lsn_});
      ASSERT_FALSE(result.xids.empty());
      if (random_.OneIn(3)) Segments();
      const auto rows = table_.Lookup(*result.missing_keys);
      const auto schema = table_.schema();
      const Lsn high{lsn_};
      if (random_.OneIn(4)) Segments();
      if (schema == table_.schema()) {
        ASSERT_DONE(driver_.SendAndSettle(SettledRows{.table = schema->id,
                                                      .generation = 1,
                                                      .read_after = result.at,
                                                      .high = high,
                                                      .rows = rows}));
      }
      if (random_.OneIn(6)) driver_.Crash();
    }
    FAIL() << "the fold never came to an end";
  }

  Driver driver_;
  ModelTable table_;
  Random random_;
  const bool changes_columns_;
  const bool signed_zeros_;
  uint64_t lsn_ = 2000;
  uint32_t xid_ = 100;
  bool copying_ = false;
  Lsn ignore_below_;
};

TEST_P(Conformance, LiveTablesEqualAModelUnderRandomChangesAndCrashes) {
  if (!GetParam().stores) GTEST_SKIP();
  const auto [first, last] = SeedsOf(GetParam());
  for (int seed = first; seed <= last; ++seed) {
    for (const Identity identity : {Identity::kKey, Identity::kFullRow}) {
      SCOPED_TRACE(testing::Message()
                   << "seed " << seed << ", identity " << static_cast<int>(identity));
      History history(GetParam(), {.identity = identity, .seed = static_cast<uint64_t>(seed)});
      history.Live(6);
      if (HasFailure()) return;
    }
  }
}

TEST_P(Conformance, CopiedTablesEqualAModelUnderRandomChangesAndCrashes) {
  if (!GetParam().stores) GTEST_SKIP();
  const auto [first, last] = SeedsOf(GetParam());
  for (int seed = first; seed <= last; ++seed) {
    for (const Identity identity : {Identity::kKey, Identity::kFullRow, Identity::kNone}) {
      if (identity == Identity::kKey && !GetParam().settles) continue;
      SCOPED_TRACE(testing::Message()
                   << "seed " << seed << ", identity " << static_cast<int>(identity));
      History history(GetParam(), {.identity = identity, .seed = static_cast<uint64_t>(seed)});
      history.Copy();
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace etl
