// The destination against the emulator: merges by tasks.

#include "destination/snowflake/snowflake_feed_testing.h"

namespace etl {
namespace {

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
  // It is put, and then resumed.
  const auto started = [&](const std::string& schedule) {
    const Json tasks = TasksOf(emulator);
    return tasks.size() == 1 && tasks[0].at("schedule") == schedule &&
           tasks[0].at("state") == "started";
  };
  feed.StepUntil([&] { return started("10 SECONDS"); });
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
  feed.StepUntil([&] { return started("30 SECONDS"); });
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
  const auto landed = [&] {
    return emulator.Rows("ETL", "LANDING_ORDERS", "_ETL_POSITION").size();
  };
  const auto copy_again = [&](uint32_t generation) {
    const Lsn from = feed.segments().back().end;
    feed.Add(Segment{
        .parts = {CopyStart{.schema = tables[0].schema(), .generation = generation, .from = from}},
        .end = {from.value + 8}});
  };
  copy_again(2);
  Fill(feed, tables, 7, 5);
  // It is gone before the first of them lands, however long that takes.
  emulator.Control(
      "faults",
      Json{{"faults",
            {{{"match", {{"path", "/statements"}, {"body", "DROP TASK"}}}, {"delay", 1.0}}}}});
  feed.StepUntil([&] { return landed() > 0; });
  EXPECT_TRUE(TasksOf(emulator).empty());
  feed.StepUntil([&] { return feed.durable() >= feed.segments().back().end; });
  EXPECT_TRUE(TasksOf(emulator).empty());
  const size_t before = landed();
  EXPECT_GT(before, 0u);
  const HttpResponse late =
      emulator.Ask("sql", Json{{"statement", task.at("definition")}, {"schema", "ETL"}});
  EXPECT_EQ(late.code, 422) << late.body;
  EXPECT_NE(late.body.find("the watermark has moved"), std::string::npos) << late.body;
  EXPECT_EQ(landed(), before);

  // Nor does a merge of the generation before, where the landing table is another one.
  std::vector<SegmentPart> unused;
  tables[0].ChangeSchema(&unused);
  copy_again(3);
  feed.StepUntil([&] { return feed.durable() >= feed.segments().back().end; });
  EXPECT_EQ(emulator.Sql("SELECT GENERATION, PHASE FROM DB.ETL._ETL_WATERMARK ORDER BY 1"),
            Json::parse(R"([["1","former"],["2","former"],["3","copying"]])"));
}

}  // namespace
}  // namespace etl
