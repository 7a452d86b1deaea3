// The destination against the emulator: mirrors, copies, columns that change, runs that are killed.

#include "destination/snowflake/snowflake_feed_testing.h"

namespace etl {
namespace {

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

TEST(SnowflakeDestination, ATableWhoseNewNameIsTakenStaysWhereItIsInLaterRunsToo) {
  EmulatorProcess emulator;
  Feed feed(emulator, Mode::kMirror, 3);
  std::vector<ModelTable> tables;
  tables.emplace_back(ModelTable::Options{.seed = 3, .oid = 1000, .name = "orders"});
  feed.AddTables(tables, {2000});
  feed.Run(0);
  emulator.Sql("CREATE TABLE DB.S.TAKEN (A INT)");
  auto to = std::make_shared<TableSchema>(*tables[0].schema());
  to->name = "taken";
  ++to->version;
  feed.Add({.parts = {SchemaChange{.from = tables[0].schema(), .to = to}}, .end = {2008}});
  feed.ExpectStop("ETL-D120");
  feed.Run(0);
  feed.StepUntil([&] { return feed.stopped(); });
  ASSERT_TRUE(feed.stopped());
  emulator.Sql("DROP TABLE DB.S.TAKEN");
  ASSERT_EQ(feed.Table({1000})->phase, TablePhase::kStopped);
  feed.StepUntil([steps = 0]() mutable { return ++steps > 5; });
  EXPECT_FALSE(emulator.RowsIfThere("S", "ORDERS").is_null());
  EXPECT_FALSE(emulator.RowsIfThere("ETL", "LANDING_ORDERS").is_null());
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

}  // namespace
}  // namespace etl
