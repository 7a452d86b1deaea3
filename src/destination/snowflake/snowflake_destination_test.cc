// The destination against the emulator, which runs as a program of its own.

#include "destination/snowflake/snowflake_destination.h"

#include <atomic>
#include <span>
#include <thread>

#include <arrow/api.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>

#include "destination/conformance_model.h"
#include "destination/snowflake/emulator_testing.h"

namespace etl {
namespace {

using Json = nlohmann::json;

int Seeds() {
  const char* text = std::getenv("ETL_TEST_SEEDS");
  return text == nullptr ? 2 : std::atoi(text);
}

/// A source that sends segments again from where the destination says it is, and a process that is
/// killed now and then.
class Feed {
 public:
  Feed(EmulatorProcess& emulator, Mode mode, uint64_t seed)
      : emulator_(emulator), mode_(mode), random_(seed) {}

  void Open() {
    SnowflakeOptions options{.config = Config(),
                             .key = [this]() -> Result<KeyOrigin> { return TestOrigin(&key_); },
                             .forward_every = std::chrono::milliseconds(50),
                             .purge_rows = 10};
    if (tune) tune(options);
    destination_ = std::make_unique<SnowflakeDestination>(std::move(options), SystemClock());
    auto started = destination_->Start({.pipeline = "p", .mode = mode_});
    ASSERT_TRUE(started.ok()) << ErrorLine(started.status());
    checkpoint_ = *started;
    if (!checkpoint_.identity.has_value()) {
      const Status begun = destination_->BeginHistory(
          {.identity = {.system_id = 7512345678901234567u, .database_oid = 5, .slot = "etl_p"},
           .timeline = 1,
           .position = {1000},
           .lc_monetary = "C"});
      ASSERT_TRUE(begun.ok()) << ErrorLine(begun);
      checkpoint_.position = {1000};
    }
    ASSERT_GE(checkpoint_.position, durable_) << "what was reported durable is gone";
    durable_ = checkpoint_.position;
    next_ = 0;
    while (next_ < segments_.size() && durable_ >= EndOf(next_)) ++next_;
    done_.clear();
    sent_.clear();
    folds_.clear();
    settled_.clear();
    folds_waiting_ = 0;
    asked_.clear();
    for (const TableCheckpoint& table : checkpoint_.tables) {
      for (const auto& chunk : table.done) done_.insert({table.schema->id.oid, chunk.number});
      if (table.phase == TablePhase::kLive && table.generation >= GenerationOf(table.schema->id))
        asked_.insert(table.schema->id.oid);
      if (chunks_.contains(table.schema->id.oid)) continue;
      if (table.phase == TablePhase::kCopying && table.planned)
        folds_.push_back({.table = table.schema->id, .generation = table.generation});
    }
  }

  void Add(Segment segment) { segments_.push_back(std::move(segment)); }
  /// Tables that have no rows yet.
  void AddTables(const std::vector<ModelTable>& tables, Lsn at) {
    Segment segment;
    for (const ModelTable& table : tables) {
      segment.parts.push_back(CopyStart{.schema = table.schema(), .generation = 1, .from = at});
      segment.parts.push_back(CopyPlan{.table = table.schema()->id, .generation = 1});
    }
    segment.end = at;
    Add(std::move(segment));
  }

  /// Copied rows for a table: each chunk is sent in two pieces, again in every run until it is
  /// done.
  void AddChunks(TableId table, std::vector<ChunkRows> chunks, Lsn ignore_below,
                 Lsn from = {2000}) {
    chunks_[table.oid] = std::move(chunks);
    ignore_below_[table.oid] = ignore_below;
    chunks_from_ = from;
  }

  /// Until all is durable; dies in one of `crash_one_in` steps.
  void Run(uint64_t crash_one_in) {
    const Instant give_up = SystemClock().Now() + std::chrono::seconds(120);
    Open();
    while (!testing::Test::HasFatalFailure() &&
           (durable_ < segments_.back().end || !folds_.empty() || folds_waiting_ > 0 ||
            asked_.size() < chunks_.size())) {
      ASSERT_LT(SystemClock().Now(), give_up) << "durable " << FormatLsn(durable_);
      if (crash_one_in > 0 && random_.OneIn(crash_one_in)) {
        ++crashes_;
        destination_.reset();
        Open();
        continue;
      }
      Step();
    }
  }

  void Step() {
    const Instant now = SystemClock().Now();
    if (destination_->Ready(now)) {
      if (SendChunk()) {
      } else if (!settled_.empty()) {
        ASSERT_TRUE(destination_->Accept(settled_.front()).ok());
        settled_.pop_front();
      } else if (!folds_.empty()) {
        ASSERT_TRUE(destination_->Accept(folds_.front()).ok());
        folds_.pop_front();
        ++folds_waiting_;
      } else if (next_ < segments_.size()) {
        for (const SegmentPart& part : segments_[next_].parts) {
          if (const auto* plan = std::get_if<CopyPlan>(&part);
              plan != nullptr && !chunks_.contains(plan->table.oid))
            folds_.push_back({.table = plan->table, .generation = plan->generation});
        }
        ASSERT_TRUE(destination_->Accept(segments_[next_++]).ok());
      }
    }
    auto progress = destination_->Advance(SystemClock().Now());
    ASSERT_TRUE(progress.ok()) << ErrorLine(progress.status());
    ASSERT_GE(progress->durable, durable_);
    durable_ = progress->durable;
    used_ = progress->used.value_or(DestinationUse{});
    for (const auto& chunk : progress->chunks) done_.insert({chunk.table.oid, chunk.chunk});
    for (const TableStop& stop : progress->stopped) {
      ASSERT_EQ(stop.code, stop_expected_) << stop.reason;
      stopped_ = true;
    }
    for (const FoldResult& fold : progress->folds) {
      --folds_waiting_;
      if (fold.folded) continue;
      ++rounds_;
      ASSERT_FALSE(fold.xids.empty());
      ASSERT_NE(model_, nullptr);
      settled_.push_back({.table = fold.table,
                          .generation = fold.generation,
                          .read_after = fold.at,
                          .high = durable_,
                          .rows = model_->Lookup(*fold.missing_keys)});
      folds_.push_back({.table = fold.table, .generation = fold.generation});
    }
    if (progress->worked) return;
    std::vector<pollfd> fds;
    destination_->AddPollFds(fds);
    poll(fds.data(), fds.size(), 5);
  }

  /// Changes the options of each run.
  std::function<void(SnowflakeOptions&)> tune;

  Destination& destination() { return *destination_; }
  void Close() { destination_.reset(); }
  const Checkpoint& checkpoint() const { return checkpoint_; }
  const DestinationUse& used() const { return used_; }
  const std::vector<Segment>& segments() const { return segments_; }
  const std::vector<ChunkRows>& chunks(TableId table) const { return chunks_.at(table.oid); }
  Lsn durable() const { return durable_; }
  int crashes() const { return crashes_; }
  /// Rows that are missing are read again from here.
  void ReadAgainFrom(const ModelTable& table) { model_ = &table; }
  int rounds() const { return rounds_; }
  void ExpectStop(std::string code) { stop_expected_ = std::move(code); }
  bool stopped() const { return stopped_; }
  /// What was sent, and how far it got: another history begins.
  void Forget() {
    segments_.clear();
    next_ = 0;
    durable_ = {1};
  }
  /// As the destination has it.
  const TableCheckpoint* Table(TableId id) {
    destination_.reset();
    Open();
    for (const TableCheckpoint& table : checkpoint_.tables) {
      if (table.schema->id == id) return &table;
    }
    return nullptr;
  }

  /// Steps on until `done`.
  void StepUntil(const std::function<bool()>& done) {
    const Instant give_up = SystemClock().Now() + std::chrono::seconds(20);
    while (!testing::Test::HasFatalFailure() && !done()) {
      if (SystemClock().Now() > give_up) return;
      const Instant pause = SystemClock().Now() + std::chrono::milliseconds(200);
      while (!testing::Test::HasFatalFailure() && SystemClock().Now() < pause) Step();
    }
  }

 private:
  SnowflakeConfig Config() const {
    SnowflakeConfig config = emulator_.Config();
    config.merge_every = std::chrono::milliseconds(100);
    return config;
  }
  /// The next piece of a chunk, or a fold when all are done.
  bool SendChunk() {
    if (durable_ < chunks_from_ || chunks_.empty()) return false;
    for (auto& [oid, chunks] : chunks_) {
      size_t done = 0;
      for (ChunkRows& chunk : chunks) {
        const std::pair<uint32_t, uint32_t> id{oid, chunk.chunk};
        if (done_.contains(id)) {
          ++done;
          continue;
        }
        int& pieces = sent_[id];
        if (pieces >= 2 || (pieces == 0 && random_.OneIn(3))) continue;
        if (pieces == 0) ++chunk.attempt;
        ChunkRows piece = chunk;
        const int64_t half = chunk.rows->num_rows() / 2;
        piece.rows = pieces == 0 ? chunk.rows->Slice(0, half) : chunk.rows->Slice(half);
        if (pieces == 0) piece.done.reset();
        ++pieces;
        // Now and then the copier begins a chunk anew.
        if (pieces == 1 && random_.OneIn(5)) pieces = 0;
        EXPECT_TRUE(destination_->Accept(std::move(piece)).ok());
        return true;
      }
      if (done == chunks.size() && durable_ >= segments_.back().end && asked_.insert(oid).second) {
        folds_.push_back({.table = {oid},
                          .generation = GenerationOf({oid}),
                          .ignore_below = ignore_below_.at(oid)});
      }
    }
    return false;
  }

  uint32_t GenerationOf(TableId table) const {
    const auto chunks = chunks_.find(table.oid);
    return chunks == chunks_.end() ? 1 : chunks->second.at(0).generation;
  }
  Lsn EndOf(size_t index) const {
    while (index < segments_.size() && !segments_[index].complete) ++index;
    return segments_[index].end;
  }

  EmulatorProcess& emulator_;
  const Mode mode_;
  Random random_;
  int key_ = 0;
  std::unique_ptr<SnowflakeDestination> destination_;
  Checkpoint checkpoint_;
  std::vector<Segment> segments_;
  size_t next_ = 0;
  std::map<uint32_t, std::vector<ChunkRows>> chunks_;
  std::map<uint32_t, Lsn> ignore_below_;
  Lsn chunks_from_;
  std::set<std::pair<uint32_t, uint32_t>> done_;
  std::map<std::pair<uint32_t, uint32_t>, int> sent_;
  std::set<uint32_t> asked_;  ///< to be folded
  std::deque<FoldRequest> folds_;
  std::deque<SettledRows> settled_;
  const ModelTable* model_ = nullptr;
  int rounds_ = 0;
  int folds_waiting_ = 0;
  std::string stop_expected_;
  bool stopped_ = false;
  Lsn durable_{1};
  DestinationUse used_;
  int crashes_ = 0;
};

/// Position and operation of everything that was sent.
std::map<std::string, std::string> Expected(const std::vector<Segment>& segments, TableId table) {
  std::map<std::string, std::string> out;
  for (const Segment& segment : segments) {
    for (const SegmentPart& part : segment.parts) {
      if (const auto* truncate = std::get_if<TruncateChange>(&part)) {
        if (truncate->schema->id == table) out[PositionText(truncate->at)] = "T";
      }
      const auto* batch = std::get_if<ChangeBatch>(&part);
      if (batch == nullptr || batch->schema->id != table) continue;
      size_t run = 0;
      for (int64_t row = 0; row < batch->size(); ++row) {
        while (batch->transactions[run].end_row <= row) ++run;
        const auto at = static_cast<size_t>(row);
        const char op = static_cast<char>(std::toupper(static_cast<char>(batch->ops[at])));
        out[PositionText({batch->transactions[run].commit, batch->ordinals[at]})] =
            std::string(1, op == 'M' ? 'I' : op);
      }
    }
  }
  return out;
}

/// Segments of two tables, some in pieces, some idle.
enum class Columns : uint8_t { kStay, kChange };
void Fill(Feed& feed, std::span<ModelTable> tables, uint64_t seed, int segments,
          Columns columns = Columns::kStay) {
  Random random(seed);
  uint64_t lsn = std::max<uint64_t>(feed.segments().back().end.value, 2000);
  uint32_t xid = 100;
  for (int i = 0; i < segments; ++i) {
    Segment segment;
    for (int n = static_cast<int>(random.Below(4)); n > 0; --n) {
      ModelTable& table = tables[random.Below(tables.size())];
      lsn += 8;
      if (columns == Columns::kChange && random.OneIn(4)) table.ChangeSchema(&segment.parts);
      if (random.OneIn(8)) {
        table.Truncate({lsn}, ++xid, &segment.parts);
        lsn += 8;
      }
      segment.rows +=
          table.Transaction({lsn}, ++xid, 1 + static_cast<int>(random.Below(40)), &segment.parts);
    }
    lsn += 8;
    if (segment.parts.size() > 1 && random.OneIn(3)) {
      Segment first;
      first.complete = false;
      first.parts.push_back(segment.parts.front());
      segment.parts.erase(segment.parts.begin());
      feed.Add(std::move(first));
    }
    segment.end = {lsn};
    feed.Add(std::move(segment));
  }
}

void ExpectLanded(EmulatorProcess& emulator, const Feed& feed, const ModelTable& table,
                  const std::string& landing) {
  std::map<std::string, std::string> found;
  for (const Json& row : emulator.Rows("ETL", landing, "_ETL_POSITION")) {
    const std::string position = row.at("_ETL_POSITION");
    EXPECT_TRUE(found.emplace(position, row.at("_ETL_OP")).second) << "twice: " << position;
  }
  EXPECT_EQ(found, Expected(feed.segments(), table.schema()->id));
}

using Texts = std::vector<std::vector<std::string>>;

/// What the model holds, as the SQL API writes it; numbers and lists in one form.
Texts ModelRows(const ModelTable& table) {
  const auto rows = table.All();
  Texts out(static_cast<size_t>(rows->num_rows()));
  for (int c = 0; c < rows->num_columns(); ++c) {
    const arrow::Array& column = *rows->column(c);
    for (int64_t row = 0; row < rows->num_rows(); ++row) {
      std::string text = "null";
      if (column.IsValid(row)) {
        text = (*column.GetScalar(row))->ToString();
        if (column.type_id() == arrow::Type::DOUBLE)
          text = std::to_string(static_cast<const arrow::DoubleArray&>(column).Value(row));
        if (column.type_id() == arrow::Type::LIST) {
          const auto& list = static_cast<const arrow::ListArray&>(column);
          const auto values = list.value_slice(row);
          Json json = Json::array();
          for (int64_t i = 0; i < values->length(); ++i) {
            json.push_back(values->IsNull(i) ? Json() : Json((*values->GetScalar(i))->ToString()));
          }
          text = json.dump();
        }
      }
      out[static_cast<size_t>(row)].push_back(text == "-0.000000" ? "0.000000" : text);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

Texts TargetRows(EmulatorProcess& emulator, const ModelTable& table, const std::string& name) {
  Texts out;
  const SnowflakeNames names({.database = "DB", .schema = "S", .landing_schema = "ETL"});
  for (const Json& row : emulator.Rows("S", name, names.Fold("id"))) {
    out.emplace_back();
    for (const Column& column : table.schema()->columns) {
      const Json& value = row.at(names.Fold(column.name));
      std::string text = value.is_null() ? "null" : value.get<std::string>();
      if (!value.is_null() && column.type->kind == TypeKind::kFloat8)
        text = std::to_string(std::stod(text));
      if (!value.is_null() && column.type->kind == TypeKind::kList) text = Json::parse(text).dump();
      out.back().push_back(text == "-0.000000" ? "0.000000" : text);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

TEST(SnowflakeDestination, MergesIntoTablesThatEqualTheSourceThoughItIsKilled) {
  for (int seed = 1; seed <= Seeds(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    EmulatorProcess emulator(Json{{"commit_lag", 0.05 * (seed % 3)}});
    Feed feed(emulator, Mode::kMirror, static_cast<uint64_t>(seed));
    std::vector<ModelTable> tables;
    tables.emplace_back(
        ModelTable::Options{.seed = static_cast<uint64_t>(seed), .oid = 1000, .name = "orders"});
    tables.emplace_back(ModelTable::Options{.identity = Identity::kFullRow,
                                            .seed = static_cast<uint64_t>(seed) + 7,
                                            .oid = 1001,
                                            .name = "Items"});
    feed.AddTables(tables, {2000});
    Fill(feed, tables, static_cast<uint64_t>(seed), 40);
    feed.Run(100);
    if (HasFatalFailure()) return;
    EXPECT_GT(feed.crashes(), 0);
    feed.StepUntil([&] {
      return TargetRows(emulator, tables[0], "ORDERS") == ModelRows(tables[0]) &&
             TargetRows(emulator, tables[1], "Items") == ModelRows(tables[1]);
    });
    EXPECT_EQ(TargetRows(emulator, tables[0], "ORDERS"), ModelRows(tables[0]));
    EXPECT_EQ(TargetRows(emulator, tables[1], "Items"), ModelRows(tables[1]));
    if (HasFailure()) return;
  }
}

TEST(SnowflakeDestination, ChangesOfColumnsAreCarriedOutOnceThoughItIsKilled) {
  for (int seed = 1; seed <= Seeds(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    EmulatorProcess emulator(
        Json{{"commit_lag", 0.05 * (seed % 3)}, {"altered_table", seed % 2 ? "reopen" : "ignore"}});
    Feed feed(emulator, Mode::kMirror, static_cast<uint64_t>(seed));
    std::vector<ModelTable> tables;
    tables.emplace_back(
        ModelTable::Options{.seed = static_cast<uint64_t>(seed), .oid = 1000, .name = "orders"});
    tables.emplace_back(ModelTable::Options{.identity = Identity::kFullRow,
                                            .seed = static_cast<uint64_t>(seed) + 7,
                                            .oid = 1001,
                                            .name = "Items"});
    feed.AddTables(tables, {2000});
    Fill(feed, tables, static_cast<uint64_t>(seed), 30, Columns::kChange);
    feed.Run(100);
    if (HasFatalFailure()) return;
    EXPECT_GT(feed.crashes(), 0);
    feed.StepUntil([&] {
      return TargetRows(emulator, tables[0], "ORDERS") == ModelRows(tables[0]) &&
             TargetRows(emulator, tables[1], "Items") == ModelRows(tables[1]);
    });
    EXPECT_EQ(TargetRows(emulator, tables[0], "ORDERS"), ModelRows(tables[0]));
    EXPECT_EQ(TargetRows(emulator, tables[1], "Items"), ModelRows(tables[1]));
    if (HasFailure()) return;
  }
}

TEST(SnowflakeDestination, RowsOfBeforeAreFoundByTheKeyThatTheyWereSentWith) {
  EmulatorProcess emulator;
  Feed feed(emulator, Mode::kMirror, 6);
  auto before = std::make_shared<TableSchema>();
  before->id = {1000};
  before->schema = "public";
  before->name = "orders";
  before->identity = Identity::kKey;
  before->columns = {{1, "id", ModelType(TypeKind::kInt4)}, {2, "n", ModelType(TypeKind::kInt4)}};
  before->key = {0};
  auto after = std::make_shared<TableSchema>(*before);
  after->key = {1};
  after->version = 2;
  const auto change = [](const TableSchemaPtr& schema, Lsn commit, Op op, const ModelRow& row) {
    ChangeBatch batch;
    batch.schema = schema;
    batch.rows = ModelBatch(*schema, {row});
    batch.ops = {op};
    batch.ordinals = {0};
    batch.transactions = {{commit, 1'700'000'000'000'000, 9, 1}};
    return batch;
  };
  feed.Add({.parts = {CopyStart{.schema = before, .from = {2000}}, CopyPlan{.table = {1000}}},
            .end = {2000}});
  feed.Add({.parts = {change(before, {2008}, Op::kInsert, {"1", "7"}),
                      change(before, {2016}, Op::kInsert, {"2", "8"})},
            .end = {2024}});
  feed.Add({.parts = {change(before, {2032}, Op::kDelete, {"1", "null"})}, .end = {2040}});
  feed.Add({.parts = {SchemaChange{.from = before, .to = after},
                      change(after, {2048}, Op::kUpdate, {"3", "8"})},
            .end = {2056}});
  feed.Run(0);
  if (HasFatalFailure()) return;
  const auto rows = [&] { return emulator.Rows("S", "ORDERS", "ID"); };
  const Json wanted = {{{"ID", "3"}, {"N", "8"}}};
  feed.StepUntil([&] { return rows() == wanted; });
  EXPECT_EQ(rows(), wanted);
}

TEST(SnowflakeDestination, ATableThatContradictsItsChangesIsSetAsideAndCopiedAgain) {
  EmulatorProcess emulator;
  Feed feed(emulator, Mode::kMirror, 6);
  std::vector<ModelTable> tables;
  tables.emplace_back(ModelTable::Options{.seed = 6, .oid = 1000, .name = "orders"});
  feed.AddTables(tables, {2000});
  Fill(feed, tables, 6, 6);
  feed.Run(0);
  if (HasFatalFailure()) return;
  const auto equal = [&] {
    return TargetRows(emulator, tables[0], "ORDERS") == ModelRows(tables[0]);
  };
  feed.StepUntil(equal);
  emulator.Control("sql", Json{{"statement", "DELETE FROM DB.S.ORDERS"}});
  feed.ExpectStop("ETL-D150");
  Fill(feed, tables, 7, 6);
  feed.Run(0);
  feed.StepUntil([&] { return feed.stopped(); });
  ASSERT_TRUE(feed.stopped());
  ASSERT_EQ(feed.Table({1000})->phase, TablePhase::kStopped);
  EXPECT_EQ(feed.Table({1000})->stop_code, "ETL-D150");

  // Under another history, whose positions are lower.
  ASSERT_TRUE(feed.destination()
                  .BeginHistory({.identity = {.system_id = 7, .database_oid = 5, .slot = "etl_p"},
                                 .timeline = 1,
                                 .position = {1000},
                                 .lc_monetary = "C"})
                  .ok());
  feed.Forget();
  ASSERT_EQ(feed.Table({1000})->phase, TablePhase::kWaiting);
  Segment again;
  again.parts = {CopyStart{.schema = tables[0].schema(), .generation = 2, .from = {2000}},
                 CopyPlan{.table = {1000}, .generation = 2}};
  again.end = {2000};
  feed.Add(std::move(again));
  std::vector<ChunkRows> chunks;
  for (int block = 0; block < ModelTable::kBlocks; ++block) {
    ChunkRows chunk{.table = {1000},
                    .generation = 2,
                    .chunk = static_cast<uint32_t>(block),
                    .schema = tables[0].schema(),
                    .rows = tables[0].Block(block)};
    chunk.done = ChunkRows::Done{.high = {2000}, .rows = chunk.rows->num_rows()};
    chunks.push_back(std::move(chunk));
  }
  feed.AddChunks({1000}, std::move(chunks), {});
  Fill(feed, tables, 8, 6);
  feed.ReadAgainFrom(tables[0]);
  feed.Run(150);
  if (HasFatalFailure()) return;
  EXPECT_EQ(TargetRows(emulator, tables[0], "ORDERS"), ModelRows(tables[0]));
  ASSERT_TRUE(feed.destination().Forget().ok());
  feed.Forget();
  EXPECT_EQ(TargetRows(emulator, tables[0], "ORDERS"), ModelRows(tables[0]));
  feed.Open();
  EXPECT_EQ(feed.Table({1000}), nullptr);
}

/// Chunks of the table as it is at different moments, with changes between them.
std::vector<ChunkRows> CopyWhileItChanges(Feed& feed, std::span<ModelTable> table, uint64_t seed) {
  std::vector<ChunkRows> chunks;
  for (int block = 0; block < ModelTable::kBlocks; ++block) {
    ChunkRows chunk{.table = table[0].schema()->id,
                    .chunk = static_cast<uint32_t>(block),
                    .schema = table[0].schema(),
                    .rows = table[0].Block(block)};
    chunk.done =
        ChunkRows::Done{.high = feed.segments().back().end, .rows = chunk.rows->num_rows()};
    chunks.push_back(std::move(chunk));
    Random random(seed * 100 + static_cast<uint64_t>(block));
    for (int i = 0; i < 3; ++i) {
      Segment segment;
      const uint64_t commit = feed.segments().back().end.value + 8;
      if (random.OneIn(6)) table[0].ChangeSchema(&segment.parts);
      const auto xid = static_cast<uint32_t>(1000 + commit);
      const int changes = 1 + static_cast<int>(random.Below(5));
      segment.rows = table[0].Transaction({commit}, xid, changes, &segment.parts);
      segment.end = {commit + 8};
      feed.Add(std::move(segment));
    }
  }
  return chunks;
}

TEST(SnowflakeDestination, TablesSwapTheirNamesThoughItIsKilled) {
  for (int seed = 1; seed <= Seeds(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    EmulatorProcess emulator(Json{{"commit_lag", 0.05 * (seed % 3)}});
    Feed feed(emulator, Mode::kMirror, static_cast<uint64_t>(seed));
    std::vector<ModelTable> tables;
    for (const auto& [oid, name] : {std::pair{1000u, "orders"}, {1001u, "Items"}, {1002u, "third"}})
      tables.emplace_back(
          ModelTable::Options{.seed = static_cast<uint64_t>(seed) + oid, .oid = oid, .name = name});
    feed.AddTables(tables, {2000});
    Fill(feed, tables, static_cast<uint64_t>(seed), 10);
    Segment swap;
    for (const auto& [index, name] : {std::pair{0, "Items"}, {1, "orders"}, {2, "fourth"}}) {
      const ModelTable& table = tables[static_cast<size_t>(index)];
      auto to = std::make_shared<TableSchema>(*table.schema());
      to->name = name;
      ++to->version;
      swap.parts.push_back(SchemaChange{.from = table.schema(), .to = std::move(to)});
    }
    swap.end = {feed.segments().back().end.value + 8};
    feed.Add(std::move(swap));
    // Rows of the version before are those of the table that has the name now.
    Fill(feed, tables, static_cast<uint64_t>(seed) + 1, 10);
    feed.Run(150);
    if (HasFatalFailure()) return;
    EXPECT_GT(feed.crashes(), 0);
    feed.StepUntil([&] {
      return TargetRows(emulator, tables[0], "Items") == ModelRows(tables[0]) &&
             TargetRows(emulator, tables[1], "ORDERS") == ModelRows(tables[1]) &&
             TargetRows(emulator, tables[2], "FOURTH") == ModelRows(tables[2]);
    });
    EXPECT_EQ(TargetRows(emulator, tables[0], "Items"), ModelRows(tables[0]));
    EXPECT_EQ(TargetRows(emulator, tables[1], "ORDERS"), ModelRows(tables[1]));
    EXPECT_EQ(TargetRows(emulator, tables[2], "FOURTH"), ModelRows(tables[2]));
    if (HasFailure()) return;
  }
}

TEST(SnowflakeDestination, ATargetThatIsKeptFollowsUntilItsNewCopyTakesItsPlace) {
  for (int seed = 1; seed <= Seeds(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    EmulatorProcess emulator(Json{{"commit_lag", 0.05 * (seed % 3)}});
    Feed feed(emulator, Mode::kMirror, static_cast<uint64_t>(seed));
    std::vector<ModelTable> tables;
    tables.emplace_back(
        ModelTable::Options{.seed = static_cast<uint64_t>(seed), .oid = 1000, .name = "orders"});
    feed.AddTables(tables, {2000});
    Fill(feed, tables, static_cast<uint64_t>(seed), 10, Columns::kChange);
    feed.Run(100);
    if (HasFatalFailure()) return;
    const Lsn from{feed.segments().back().end.value + 8};
    Segment again;
    again.parts.push_back(CopyStart{
        .schema = tables[0].schema(), .generation = 2, .from = from, .keep_target = true});
    again.end = from;
    feed.Add(std::move(again));
    Fill(feed, tables, static_cast<uint64_t>(seed) + 1, 10, Columns::kChange);
    feed.Run(150);
    if (HasFatalFailure()) return;
    const auto equal = [&] {
      return TargetRows(emulator, tables[0], "ORDERS") == ModelRows(tables[0]);
    };
    feed.StepUntil(equal);
    EXPECT_EQ(TargetRows(emulator, tables[0], "ORDERS"), ModelRows(tables[0]));
    ASSERT_EQ(feed.Table({1000})->phase, TablePhase::kCopying);

    Segment plan;
    plan.parts.push_back(CopyPlan{.table = {1000}, .generation = 2});
    plan.end = {feed.segments().back().end.value + 8};
    const Lsn planned = plan.end;
    feed.Add(std::move(plan));
    std::vector<ChunkRows> chunks = CopyWhileItChanges(feed, tables, static_cast<uint64_t>(seed));
    for (ChunkRows& chunk : chunks) chunk.generation = 2;
    feed.AddChunks({1000}, std::move(chunks), {}, planned);
    feed.ReadAgainFrom(tables[0]);
    feed.Run(150);
    if (HasFatalFailure()) return;
    EXPECT_GT(feed.crashes(), 0);
    EXPECT_EQ(TargetRows(emulator, tables[0], "ORDERS"), ModelRows(tables[0]));
    Fill(feed, tables, static_cast<uint64_t>(seed) + 2, 6, Columns::kChange);
    feed.Run(150);
    if (HasFatalFailure()) return;
    feed.StepUntil(equal);
    EXPECT_EQ(TargetRows(emulator, tables[0], "ORDERS"), ModelRows(tables[0]));
    if (HasFailure()) return;
  }
}

TEST(SnowflakeDestination, AStatementOfARunThatWasEndedDoesNothingWhenItComesLate) {
  EmulatorProcess emulator;
  Feed feed(emulator, Mode::kMirror, 3);
  std::vector<ModelTable> tables;
  tables.emplace_back(ModelTable::Options{.seed = 3, .oid = 1000, .name = "orders"});
  feed.AddTables(tables, {2000});
  emulator.Control(
      "faults",
      Json{{"faults",
            {{{"match", {{"path", "/statements"}, {"body", "DROP TABLE"}}}, {"delay", 4.0}}}}});
  feed.Open();
  const Instant begun = SystemClock().Now();
  while (!HasFatalFailure() && SystemClock().Now() < begun + std::chrono::seconds(1)) feed.Step();
  Fill(feed, tables, 3, 5);
  feed.Run(0);
  if (HasFatalFailure()) return;
  while (SystemClock().Now() < begun + std::chrono::seconds(6)) feed.Step();
  Fill(feed, tables, 4, 5);
  feed.Run(0);
  if (HasFatalFailure()) return;
  feed.StepUntil([&] { return TargetRows(emulator, tables[0], "ORDERS") == ModelRows(tables[0]); });
  EXPECT_EQ(TargetRows(emulator, tables[0], "ORDERS"), ModelRows(tables[0]));
}

TEST(SnowflakeDestination, RowsAreReadAgainForValuesThatWereNeverSentThoughItIsKilled) {
  int rounds = 0;
  for (int seed = 1; seed <= 2 * Seeds(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    EmulatorProcess emulator(Json{{"commit_lag", 0.05 * (seed % 3)}});
    Feed feed(emulator, Mode::kMirror, static_cast<uint64_t>(seed));
    std::vector<ModelTable> tables;
    tables.emplace_back(
        ModelTable::Options{.seed = static_cast<uint64_t>(seed), .oid = 1000, .name = "orders"});
    tables[0].Fill(8);
    feed.AddTables(tables, {2000});
    feed.AddChunks({1000}, CopyWhileItChanges(feed, tables, static_cast<uint64_t>(seed)), {});
    feed.ReadAgainFrom(tables[0]);
    feed.Run(100);
    if (HasFatalFailure()) return;
    EXPECT_EQ(TargetRows(emulator, tables[0], "ORDERS"), ModelRows(tables[0]));
    if (HasFailure()) return;
    rounds += feed.rounds();
  }
  EXPECT_GT(rounds, 0);
}

TEST(SnowflakeDestination, AppendsCopiedRowsOnceThoughItIsKilled) {
  for (int seed = 1; seed <= Seeds(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    EmulatorProcess emulator(Json{{"commit_lag", 0.05 * (seed % 3)}});
    Feed feed(emulator, Mode::kAppend, static_cast<uint64_t>(seed));
    std::vector<ModelTable> tables;
    tables.emplace_back(ModelTable::Options{
        .seed = static_cast<uint64_t>(seed), .oid = 1000, .keys = 60, .name = "orders"});
    tables[0].Fill(40);
    feed.AddTables(tables, {2000});
    feed.AddChunks({1000}, CopyWhileItChanges(feed, tables, static_cast<uint64_t>(seed)), {});
    size_t copied = 0;
    for (const ChunkRows& chunk : feed.chunks({1000}))
      copied += static_cast<size_t>(chunk.rows->num_rows());
    feed.Run(60);
    if (HasFatalFailure()) return;
    EXPECT_GT(feed.crashes(), 0);
    feed.Close();
    std::map<std::string, std::string> found;
    size_t rows = 0;
    for (const Json& row : emulator.Rows("ETL", "LANDING_ORDERS", "_ETL_POSITION")) {
      const std::string position = row.at("_ETL_POSITION");
      if (row.at("_ETL_OP") == "R") {
        ++rows;
        EXPECT_EQ(position.substr(0, 16), BoundaryText({1999}));
      }
      EXPECT_TRUE(found.emplace(position, row.at("_ETL_OP")).second) << "twice: " << position;
    }
    EXPECT_EQ(rows, copied);
    std::erase_if(found, [](const auto& row) { return row.second == "R"; });
    EXPECT_EQ(found, Expected(feed.segments(), {1000}));
    if (HasFailure()) return;
  }
}

TEST(SnowflakeDestination, CopiesAndFoldsThoughItIsKilled) {
  for (int seed = 1; seed <= Seeds(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    EmulatorProcess emulator(Json{{"commit_lag", 0.05 * (seed % 3)}});
    Feed feed(emulator, Mode::kMirror, static_cast<uint64_t>(seed));
    std::vector<ModelTable> tables;
    tables.emplace_back(ModelTable::Options{
        .seed = static_cast<uint64_t>(seed), .oid = 1000, .keys = 60, .name = "orders"});
    tables.emplace_back(ModelTable::Options{.identity = Identity::kFullRow,
                                            .seed = static_cast<uint64_t>(seed) + 7,
                                            .oid = 1001,
                                            .name = "Items"});
    for (ModelTable& table : tables) table.Fill(40);
    feed.AddTables(tables, {2000});
    // The one without a key changes before and behind the snapshot that it is copied under.
    const std::span<ModelTable> keyless = std::span(tables).subspan(1);
    Fill(feed, keyless, static_cast<uint64_t>(seed), 6);
    const Lsn high = feed.segments().back().end;
    for (const ModelTable& table : tables) {
      std::vector<ChunkRows> chunks;
      for (int block = 0; block < ModelTable::kBlocks; ++block) {
        ChunkRows chunk{.table = table.schema()->id,
                        .chunk = static_cast<uint32_t>(block),
                        .schema = table.schema(),
                        .rows = table.Block(block)};
        chunk.done = ChunkRows::Done{.high = high, .rows = chunk.rows->num_rows()};
        chunks.push_back(std::move(chunk));
      }
      feed.AddChunks(table.schema()->id, std::move(chunks),
                     table.schema()->identity == Identity::kKey ? Lsn{} : high);
    }
    Fill(feed, keyless, static_cast<uint64_t>(seed) + 1, 6);
    feed.Run(80);
    if (HasFatalFailure()) return;
    EXPECT_GT(feed.crashes(), 0);
    EXPECT_EQ(TargetRows(emulator, tables[0], "ORDERS"), ModelRows(tables[0]));
    EXPECT_EQ(TargetRows(emulator, tables[1], "Items"), ModelRows(tables[1]));
    if (HasFailure()) return;
    Fill(feed, tables, static_cast<uint64_t>(seed) + 2, 10);
    feed.Run(100);
    if (HasFatalFailure()) return;
    feed.StepUntil([&] {
      return TargetRows(emulator, tables[0], "ORDERS") == ModelRows(tables[0]) &&
             TargetRows(emulator, tables[1], "Items") == ModelRows(tables[1]);
    });
    EXPECT_EQ(TargetRows(emulator, tables[0], "ORDERS"), ModelRows(tables[0]));
    EXPECT_EQ(TargetRows(emulator, tables[1], "Items"), ModelRows(tables[1]));
    if (HasFailure()) return;
  }
}

std::vector<Json> TasksOf(EmulatorProcess& emulator) {
  return emulator.Control("state", std::nullopt).at("tasks");
}

/// Runs tasks all the time, and their texts beside them, as runs that begin late would be.
class TaskRunner {
 public:
  explicit TaskRunner(EmulatorProcess& emulator) : emulator_(emulator) {
    thread_ = std::thread([this] {
      while (!stop_) {
        for (const Json& task : TasksOf(emulator_)) {
          if (task.at("state") == "started")
            emulator_.Ask("tasks", Json{{"task", task.at("path")}});
          texts_.push_back(task.at("definition"));
        }
        if (texts_.size() > 8) texts_.pop_front();
        for (const std::string& text : texts_) emulator_.Ask("sql", Json{{"statement", text}});
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    });
  }
  ~TaskRunner() {
    stop_ = true;
    thread_.join();
  }
  TaskRunner(const TaskRunner&) = delete;
  TaskRunner& operator=(const TaskRunner&) = delete;

 private:
  EmulatorProcess& emulator_;
  std::atomic<bool> stop_ = false;
  std::deque<std::string> texts_;
  std::thread thread_;
};

std::function<void(SnowflakeOptions&)> MergedBy(MergeBy by, Duration grace) {
  return [by, grace](SnowflakeOptions& options) {
    options.config.merge_by = by;
    options.task_grace = grace;
  };
}

TEST(SnowflakeDestination, TasksAndTheEngineMergeInTurnsThoughItIsKilled) {
  for (int seed = 1; seed <= Seeds(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    EmulatorProcess emulator(Json{{"commit_lag", 0.05 * (seed % 3)}});
    Feed feed(emulator, Mode::kMirror, static_cast<uint64_t>(seed));
    std::vector<ModelTable> tables;
    tables.emplace_back(
        ModelTable::Options{.seed = static_cast<uint64_t>(seed), .oid = 1000, .name = "orders"});
    tables.emplace_back(ModelTable::Options{.identity = Identity::kFullRow,
                                            .seed = static_cast<uint64_t>(seed) + 7,
                                            .oid = 1001,
                                            .name = "Items"});
    const auto equal = [&] {
      return TargetRows(emulator, tables[0], "ORDERS") == ModelRows(tables[0]) &&
             TargetRows(emulator, tables[1], "Items") == ModelRows(tables[1]);
    };
    // Each run merges otherwise than the one before, some take the task's turn at once.
    int runs = 0;
    feed.tune = [&](SnowflakeOptions& options) {
      ++runs;
      MergedBy(runs % 3 == 0 ? MergeBy::kEngine : MergeBy::kTask,
               std::chrono::seconds(runs % 2 == 0 ? 0 : 60))(options);
    };
    {
      const TaskRunner runner(emulator);
      feed.AddTables(tables, {2000});
      Fill(feed, tables, static_cast<uint64_t>(seed), 20);
      feed.Run(60);
      if (HasFatalFailure()) return;
      EXPECT_GT(feed.crashes(), 2);
      feed.StepUntil(equal);
    }
    EXPECT_EQ(TargetRows(emulator, tables[0], "ORDERS"), ModelRows(tables[0]));
    EXPECT_EQ(TargetRows(emulator, tables[1], "Items"), ModelRows(tables[1]));
    if (HasFailure()) return;
  }
}

TEST(SnowflakeDestination, TaskIsPutWhenATableIsLiveAndGoesWhenTheEngineMergesAgain) {
  EmulatorProcess emulator;
  Feed feed(emulator, Mode::kMirror, 3);
  std::vector<ModelTable> tables;
  tables.emplace_back(ModelTable::Options{.seed = 3, .oid = 1000, .name = "orders"});
  feed.AddTables(tables, {2000});
  Fill(feed, tables, 3, 5);
  feed.tune = MergedBy(MergeBy::kTask, std::chrono::hours(1));
  feed.Run(0);
  feed.StepUntil([&] { return TasksOf(emulator).size() == 1; });
  ASSERT_EQ(TasksOf(emulator).size(), 1u);
  const Json task = TasksOf(emulator)[0];
  EXPECT_EQ(task.at("path"), (Json{"DB", "ETL", "ETL_MERGE_ORDERS_TASK"}));
  EXPECT_EQ(task.at("state"), "started");
  EXPECT_EQ(task.at("schedule"), "10 SECONDS");
  EXPECT_EQ(task.at("warehouse"), "ETL_WH");

  // All that is in the landing table now is the task's.
  Fill(feed, tables, 4, 5);
  const auto landed = [&] {
    return emulator.Rows("ETL", "LANDING_ORDERS", "_ETL_POSITION").size();
  };
  feed.StepUntil([&] { return feed.durable() >= feed.segments().back().end; });
  EXPECT_GT(landed(), 0u);
  const Json run = emulator.Control("tasks", Json{{"task", task.at("path")}});
  EXPECT_EQ(run.at("state"), "SUCCEEDED") << run.dump();
  EXPECT_EQ(landed(), 0u);
  EXPECT_EQ(TargetRows(emulator, tables[0], "ORDERS"), ModelRows(tables[0]));

  // A run that finds it in place leaves it alone; another schedule makes it anew.
  feed.Open();
  feed.StepUntil([steps = 0]() mutable { return ++steps > 5; });
  EXPECT_EQ(TasksOf(emulator)[0].at("definition"), task.at("definition"));
  feed.tune = [](SnowflakeOptions& options) {
    MergedBy(MergeBy::kTask, std::chrono::hours(1))(options);
    options.config.merge_every = std::chrono::seconds(30);
  };
  feed.Open();
  feed.StepUntil([&] { return TasksOf(emulator)[0].at("schedule") == "30 SECONDS"; });
  EXPECT_EQ(TasksOf(emulator)[0].at("schedule"), "30 SECONDS");
  EXPECT_EQ(TasksOf(emulator)[0].at("state"), "started");

  feed.tune = MergedBy(MergeBy::kEngine, {});
  feed.Open();
  feed.StepUntil([&] { return TasksOf(emulator).empty(); });
  EXPECT_TRUE(TasksOf(emulator).empty());
}

TEST(SnowflakeDestination, EngineMergesWhereATaskDoesNotAndPutsItAnew) {
  EmulatorProcess emulator;
  Feed feed(emulator, Mode::kMirror, 4);
  std::vector<ModelTable> tables;
  tables.emplace_back(ModelTable::Options{.seed = 4, .oid = 1000, .name = "orders"});
  feed.AddTables(tables, {2000});
  feed.tune = MergedBy(MergeBy::kTask, std::chrono::milliseconds(300));
  feed.Run(0);
  feed.StepUntil([&] { return TasksOf(emulator).size() == 1; });
  emulator.Control("sql", Json{{"statement", "DROP TASK DB.ETL.ETL_MERGE_ORDERS_TASK"}});
  Fill(feed, tables, 4, 5);
  feed.StepUntil([&] {
    return TargetRows(emulator, tables[0], "ORDERS") == ModelRows(tables[0]) &&
           TasksOf(emulator).size() == 1;
  });
  EXPECT_EQ(TargetRows(emulator, tables[0], "ORDERS"), ModelRows(tables[0]));
  ASSERT_EQ(TasksOf(emulator).size(), 1u);
  EXPECT_EQ(TasksOf(emulator)[0].at("state"), "started");
}

TEST(SnowflakeDestination, ATaskTakesNoRowOfTheNextCopy) {
  EmulatorProcess emulator;
  Feed feed(emulator, Mode::kMirror, 6);
  std::vector<ModelTable> tables;
  tables.emplace_back(ModelTable::Options{.seed = 6, .oid = 1000, .name = "orders"});
  feed.AddTables(tables, {2000});
  feed.tune = MergedBy(MergeBy::kTask, std::chrono::hours(1));
  feed.Run(0);
  feed.StepUntil([&] { return TasksOf(emulator).size() == 1; });
  ASSERT_EQ(TasksOf(emulator).size(), 1u);
  const Json task = TasksOf(emulator)[0];
  const Lsn from = feed.segments().back().end;
  Segment again;
  again.parts.push_back(CopyStart{.schema = tables[0].schema(), .generation = 2, .from = from});
  again.end = {from.value + 8};
  feed.Add(std::move(again));
  Fill(feed, tables, 7, 5);
  feed.StepUntil([&] { return feed.durable() >= feed.segments().back().end; });
  EXPECT_TRUE(TasksOf(emulator).empty());
  const auto landed = [&] {
    return emulator.Rows("ETL", "LANDING_ORDERS", "_ETL_POSITION").size();
  };
  const size_t before = landed();
  EXPECT_GT(before, 0u);
  const HttpResponse late =
      emulator.Ask("sql", Json{{"statement", task.at("definition")}, {"schema", "ETL"}});
  EXPECT_EQ(late.code, 422) << late.body;
  EXPECT_NE(late.body.find("the watermark has moved"), std::string::npos) << late.body;
  EXPECT_EQ(landed(), before);
}

TEST(SnowflakeDestination, AppendsEveryChangeOnceThoughItIsKilledBetweenAnyTwoSteps) {
  for (int seed = 1; seed <= Seeds(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    EmulatorProcess emulator(
        Json{{"commit_lag", 0.05 * (seed % 3)}, {"resend", seed % 2 ? "stale" : "idempotent"}});
    Feed feed(emulator, Mode::kAppend, static_cast<uint64_t>(seed));
    std::vector<ModelTable> tables;
    tables.emplace_back(
        ModelTable::Options{.seed = static_cast<uint64_t>(seed), .oid = 1000, .name = "orders"});
    tables.emplace_back(
        ModelTable::Options{.seed = static_cast<uint64_t>(seed) + 7, .oid = 1001, .name = "Items"});
    feed.AddTables(tables, {2000});
    Fill(feed, tables, static_cast<uint64_t>(seed), 40);
    feed.Run(60);
    if (HasFatalFailure()) return;
    EXPECT_GT(feed.crashes(), 0);
    feed.Close();
    ExpectLanded(emulator, feed, tables[0], "LANDING_ORDERS");
    ExpectLanded(emulator, feed, tables[1], "LANDING_Items");
  }
}

/// Rows that each channel of a table has in it, by its number.
std::map<int, int64_t> RowsOfChannels(EmulatorProcess& emulator, TableId table) {
  const std::string prefix = "etl/p/etl_p/1/" + std::to_string(table.oid) + "/1/";
  std::map<int, int64_t> out;
  const Json state = emulator.Control("state", std::nullopt);
  for (const Json& channel : state.at("channels")) {
    const std::string name = channel.at("channel_name");
    if (!name.starts_with(prefix)) continue;
    EXPECT_EQ(channel.at("unordered_appends"), 0) << name;
    out[std::stoi(name.substr(prefix.size()))] = channel.at("rows_inserted");
  }
  return out;
}

TEST(SnowflakeDestination, SpreadsHotTablesOverChannelsThoughItIsKilled) {
  for (int seed = 1; seed <= Seeds(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    EmulatorProcess emulator(Json{{"commit_lag", 0.05 * (seed % 3)}});
    Feed feed(emulator, Mode::kAppend, static_cast<uint64_t>(seed));
    // A channel may take 60 kB a second; what comes would be many times that.
    feed.tune = [](SnowflakeOptions& options) {
      options.streaming.bytes_max = 60'000;
      options.bytes_max = 20'000;
      options.spread = {
          .every = std::chrono::milliseconds(100), .bytes_per_second = 60'000, .channels_max = 4};
    };
    std::vector<ModelTable> tables;
    tables.emplace_back(
        ModelTable::Options{.seed = static_cast<uint64_t>(seed), .oid = 1000, .name = "orders"});
    tables.emplace_back(ModelTable::Options{.identity = Identity::kFullRow,
                                            .seed = static_cast<uint64_t>(seed) + 7,
                                            .oid = 1001,
                                            .name = "Items"});
    feed.AddTables(tables, {2000});
    Fill(feed, tables, static_cast<uint64_t>(seed), 150);
    feed.Run(200);
    if (HasFatalFailure()) return;
    EXPECT_GT(feed.crashes(), 0);
    feed.Close();
    ExpectLanded(emulator, feed, tables[0], "LANDING_ORDERS");
    ExpectLanded(emulator, feed, tables[1], "LANDING_Items");
    for (const ModelTable& table : tables) {
      const std::map<int, int64_t> rows = RowsOfChannels(emulator, table.schema()->id);
      // The last ones may have been opened too late for a row.
      const auto used = std::count_if(rows.begin(), rows.end(),
                                      [](const auto& channel) { return channel.second > 0; });
      EXPECT_GE(used, 2) << "it was not spread";
    }
    const Json log = emulator.Control("requests?path=/rows", std::nullopt);
    for (const Json& request : log.at("requests"))
      EXPECT_NE(request.at("status"), 429) << "more requests than a channel may take";
  }
}

/// A table of texts that compression does not make small: 12 MB of bodies.
TableSchemaPtr TextsSchema() {
  auto schema = std::make_shared<TableSchema>();
  schema->id = {2000};
  schema->schema = "public";
  schema->name = "texts";
  schema->identity = Identity::kKey;
  schema->columns = {{.attnum = 1, .name = "id", .type = ModelType(TypeKind::kInt8)},
                     {.attnum = 2, .name = "t", .type = ModelType(TypeKind::kText)}};
  schema->key = {0};
  return schema;
}

std::shared_ptr<arrow::RecordBatch> Texts12MB(const TableSchema& schema) {
  Random random(1);
  std::vector<ModelRow> rows;
  for (int i = 0; i < 3000; ++i) {
    std::string text = "\"";
    for (int word = 0; word < 500; ++word) text += fmt::format("{:016x}", random.Next());
    rows.push_back({std::to_string(i), text + "\""});
  }
  return ModelBatch(schema, rows);
}

size_t Appends(EmulatorProcess& emulator) {
  size_t count = 0;
  const Json log = emulator.Control("requests?path=/rows", std::nullopt);
  for (const Json& request : log.at("requests"))
    count += request.dump().find("LANDING_TEXTS") != std::string::npos ? 1 : 0;
  return count;
}

// Of either kind of delivery, one alone is more than may be under way.
TEST(SnowflakeDestination, StopsInsideALargeDeliveryUntilRowsAreProved) {
  const TableSchemaPtr schema = TextsSchema();
  const auto rows = Texts12MB(*schema);
  for (const bool copied : {false, true}) {
    SCOPED_TRACE(copied ? "copied rows" : "changes");
    EmulatorProcess emulator;
    Feed feed(emulator, Mode::kMirror, 1);
    feed.tune = [](SnowflakeOptions& options) { options.bytes_max = 1; };
    Segment first;
    first.parts.push_back(CopyStart{.schema = schema, .generation = 1, .from = {2000}});
    first.end = {2000};
    feed.Add(std::move(first));
    feed.Open();
    feed.StepUntil([&] { return feed.durable() >= Lsn{2000}; });
    emulator.Control("settings", Json{{"commit_lag", 3600}});
    if (copied) {
      ChunkRows chunk{.table = schema->id, .chunk = 0, .schema = schema, .rows = rows};
      chunk.done = ChunkRows::Done{.high = {2000}, .rows = rows->num_rows()};
      feed.AddChunks(schema->id, {chunk}, {});
    } else {
      ChangeBatch batch;
      batch.schema = schema;
      batch.rows = rows;
      batch.ops.assign(static_cast<size_t>(rows->num_rows()), Op::kInsert);
      for (uint64_t i = 0; i < batch.ops.size(); ++i) batch.ordinals.push_back(2 * i);
      batch.transactions = {{Lsn{2008}, 0, 7, rows->num_rows()}};
      Segment segment;
      segment.parts.push_back(std::move(batch));
      segment.end = {2016};
      feed.Add(std::move(segment));
    }
    feed.StepUntil([&] { return Appends(emulator) > 0; });
    feed.StepUntil([steps = 0]() mutable { return ++steps > 10; });
    EXPECT_EQ(Appends(emulator), 1u);
    emulator.Control("settings", Json{{"commit_lag", 0}});
    emulator.Control("commit", Json::object());
    const auto landed = [&] {
      const Json counts = emulator.Control("rows/DB/ETL/LANDING_TEXTS?order=ID", std::nullopt);
      std::set<std::string> ids;
      for (const Json& row : counts.at("rows")) ids.insert(row.at("ID"));
      return ids.size();
    };
    feed.StepUntil([&] { return landed() == 3000u; });
    EXPECT_EQ(landed(), 3000u);
    EXPECT_GE(Appends(emulator), 3u);
  }
}

TEST(SnowflakeDestination, TheLogOfALongRunStaysShortAndReadsTheSame) {
  EmulatorProcess emulator;
  Feed feed(emulator, Mode::kMirror, 2);
  std::vector<ModelTable> tables;
  tables.emplace_back(ModelTable::Options{.seed = 2, .oid = 1000, .name = "orders"});
  feed.AddTables(tables, {2000});
  feed.tune = [](SnowflakeOptions& options) { options.forward_every = {}; };
  feed.Open();
  size_t most = 0;
  for (int i = 0; i < 40; ++i) {
    Fill(feed, tables, static_cast<uint64_t>(i), 2);
    feed.StepUntil([&] { return feed.durable() >= feed.segments().back().end; });
    const Json rows = emulator.Control("rows/DB/ETL/_ETL_PROGRESS?order=SEQUENCE", std::nullopt);
    most = std::max(most, rows.at("rows").size());
  }
  EXPECT_LE(most, 25u);
  const Lsn durable = feed.durable();
  feed.Open();
  EXPECT_EQ(feed.durable(), durable);
  EXPECT_EQ(feed.checkpoint().tables.size(), 1u);
  EXPECT_EQ(feed.checkpoint().tables[0].phase, TablePhase::kLive);
}

TEST(SnowflakeDestination, TellsWhatItHasUsed) {
  EmulatorProcess emulator;
  Feed feed(emulator, Mode::kMirror, 2);
  std::vector<ModelTable> tables;
  tables.emplace_back(ModelTable::Options{.seed = 2, .oid = 1000, .name = "orders"});
  feed.AddTables(tables, {2000});
  feed.Run(0);
  const DestinationUse before = feed.used();
  EXPECT_GT(before.statements, 5);
  EXPECT_EQ(before.merges, 0);
  Fill(feed, tables, 3, 6);
  const auto changes =
      static_cast<int64_t>(Expected(feed.segments(), tables[0].schema()->id).size());
  feed.StepUntil([&] { return feed.used().rows_merged >= changes; });
  EXPECT_EQ(feed.used().rows_merged, changes);
  EXPECT_GE(feed.used().merges, 1);
  EXPECT_GT(feed.used().statements, before.statements);
  EXPECT_GT(feed.used().bytes_sent, before.bytes_sent);
}

/// Rows of the log that say how far all is stored.
size_t Forwards(EmulatorProcess& emulator) {
  size_t count = 0;
  const Json rows = emulator.Control("rows/DB/ETL/_ETL_PROGRESS?order=SEQUENCE", std::nullopt);
  for (const Json& row : rows.at("rows")) count += row.at("KIND") == "forward" ? 1 : 0;
  return count;
}

TEST(SnowflakeDestination, WhereNothingChangesProgressIsStoredOnceASecond) {
  EmulatorProcess emulator;
  Feed feed(emulator, Mode::kMirror, 2);
  std::vector<ModelTable> tables;
  tables.emplace_back(ModelTable::Options{.seed = 2, .oid = 1000, .name = "orders"});
  feed.AddTables(tables, {2000});
  feed.tune = [](SnowflakeOptions& options) {
    options.forward_every = std::chrono::seconds(1);
    options.purge_rows = 1000;
  };
  feed.Run(0);
  const size_t before = Forwards(emulator);
  const Instant begin = SystemClock().Now();
  uint64_t lsn = 2000;
  while (SystemClock().Now() - begin < std::chrono::seconds(3)) {
    Segment idle;
    idle.end = {lsn += 8};
    feed.Add(std::move(idle));
    for (int i = 0; i < 5; ++i) feed.Step();
  }
  EXPECT_GT(lsn, 2200u);
  const size_t written = Forwards(emulator) - before;
  EXPECT_GE(written, 2u);
  EXPECT_LE(written, 4u);
  feed.StepUntil([&] { return feed.durable() == Lsn{lsn}; });
  EXPECT_EQ(feed.durable(), Lsn{lsn});

  // What has come in the last moment is stored before the end.
  Segment last;
  last.end = {lsn + 8};
  feed.Add(std::move(last));
  feed.Step();
  const Instant end = SystemClock().Now();
  EXPECT_TRUE(feed.destination().Shutdown(end + std::chrono::seconds(5)).ok());
  EXPECT_LT(SystemClock().Now() - end, std::chrono::seconds(3));
  feed.Open();
  EXPECT_EQ(feed.durable(), Lsn{lsn + 8});
}

TEST(SnowflakeDestination, LostChannelsAndAnswersNeitherRepeatNorLoseARow) {
  EmulatorProcess emulator(Json{{"commit_lag", 0.1}});
  Feed feed(emulator, Mode::kAppend, 5);
  std::vector<ModelTable> tables;
  tables.emplace_back(ModelTable::Options{.seed = 5, .oid = 1000, .name = "orders"});
  feed.AddTables(tables, {2000});
  Fill(feed, tables, 5, 30);
  emulator.Control("faults", Json{{"faults",
                                   {{{"match", {{"path", "/rows"}}},
                                     {"skip", 3},
                                     {"times", 2},
                                     {"drop", true},
                                     {"when", "after"}},
                                    {{"match", {{"path", "/rows"}}},
                                     {"skip", 9},
                                     {"answer", {{"status", 503}, {"shape", "html"}}},
                                     {"when", "after"}}}}});
  feed.Run(0);
  if (HasFatalFailure()) return;
  feed.Close();
  // The data channel goes while nobody is there; its rows are still there.
  emulator.Control("channels", Json{{"action", "lose"}, {"name", "etl/p/etl_p/1/1000/1/0"}});
  uint64_t lsn = feed.segments().back().end.value;
  for (int i = 0; i < 5; ++i) {
    Segment segment;
    lsn += 8;
    segment.rows = tables[0].Transaction({lsn}, 900, 10, &segment.parts);
    lsn += 8;
    segment.end = {lsn};
    feed.Add(std::move(segment));
  }
  feed.Run(20);
  if (HasFatalFailure()) return;
  feed.Close();
  ExpectLanded(emulator, feed, tables[0], "LANDING_ORDERS");
}

}  // namespace
}  // namespace etl
