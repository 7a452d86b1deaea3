// The destination against the emulator: what lands over which channels, and the log of progress.

#include "destination/snowflake/snowflake_feed_testing.h"

namespace etl {
namespace {

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
    // Every start writes to the control channel at once, and here one may follow another within a
    // second: there it is refused, and sent again.
    const Json log = emulator.Control("requests?path=/rows", std::nullopt);
    for (const Json& request : log.at("requests")) {
      if (request.at("path").get<std::string>().find("_ETL_PROGRESS") != std::string::npos)
        continue;
      EXPECT_NE(request.at("status"), 429) << "more requests than a channel may take";
    }
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
      return emulator.Sql("SELECT COUNT(DISTINCT ID) FROM DB.ETL.LANDING_TEXTS").at(0).at(0);
    };
    feed.StepUntil([&] { return landed() == "3000"; });
    EXPECT_EQ(landed(), "3000");
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

// Its guard would take the repetition for another run.
TEST(SnowflakeDestination, TheLogIsNotRepeatedWhileAStatementIsUnderWay) {
  EmulatorProcess emulator;
  Feed feed(emulator, Mode::kAppend, 2);
  std::vector<ModelTable> tables;
  tables.emplace_back(ModelTable::Options{.seed = 2, .oid = 1000, .name = "orders"});
  tables[0].Fill(20);
  feed.AddTables(tables, {2000});
  ChunkRows chunk{.table = {1000}, .schema = tables[0].schema(), .rows = tables[0].All()};
  chunk.done = ChunkRows::Done{.high = {2000}, .rows = chunk.rows->num_rows()};
  feed.AddChunks({1000}, {chunk}, {});
  feed.tune = [](SnowflakeOptions& options) { options.purge_rows = 1; };
  emulator.Control(
      "faults",
      Json{{"faults",
            {{{"match", {{"path", "/statements"}, {"body", "CREATE TABLE [^;]*_ETL_COPY"}}},
              {"delay", 1.0}}}}});
  feed.Run(0);
  EXPECT_EQ(emulator.Rows("ETL", "LANDING_ORDERS", "_ETL_POSITION").size(),
            static_cast<size_t>(chunk.rows->num_rows()));
  EXPECT_EQ(emulator.Control("faults", std::nullopt).at("faults").at(0).at("met"), 1);
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

  // Rows that nothing else follows do not wait for the time of the next record.
  feed.tune = [](SnowflakeOptions& options) { options.forward_every = std::chrono::minutes(1); };
  feed.Open();
  EXPECT_EQ(feed.durable(), Lsn{lsn + 8});
  for (uint64_t seed = 4; seed < 6; ++seed) {
    Fill(feed, tables, seed, 1);
    feed.StepUntil([&] { return feed.durable() >= feed.segments().back().end; });
    EXPECT_EQ(feed.durable(), feed.segments().back().end);
  }
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
