// The program is killed at each failpoint of the Snowflake destination while the source changes all
// the time, and started again: the target tables equal the source, and appended changes are there
// once each.
#include <atomic>
#include <csignal>
#include <thread>

#include <gmock/gmock.h>

#include "support/failpoints.h"
#include "support/snowflake_fixture.h"

namespace etl {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// Changes of every kind, one transaction after the other, until it is destroyed.
class SteadyChanges {
 public:
  SteadyChanges(std::string conninfo, std::vector<std::string> statements)
      : conninfo_(std::move(conninfo)), statements_(std::move(statements)) {
    thread_ = std::thread([this] { Work(); });
  }
  ~SteadyChanges() {
    stop_ = true;
    thread_.join();
  }
  SteadyChanges(const SteadyChanges&) = delete;
  SteadyChanges& operator=(const SteadyChanges&) = delete;

 private:
  void Work() {
    for (int round = 1; !stop_; ++round) {
      for (std::string sql : statements_) {
        for (size_t at; (at = sql.find("$r")) != std::string::npos;)
          sql.replace(at, 2, std::to_string(round));
        const auto done = QuerySource(conninfo_, sql);
        EXPECT_TRUE(done.ok()) << sql << ": " << ErrorLine(done.status());
      }
      std::this_thread::sleep_for(milliseconds(60));
    }
  }

  const std::string conninfo_;
  const std::vector<std::string> statements_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

struct Death {
  std::string at;
  int nth = 1;
};

class SnowflakeCrash : public SnowflakeE2eTest {
 protected:
  void SetUp() override {
    SnowflakeE2eTest::SetUp();
    config_.pipeline = {"slot: " + slot_, "snapshot: {parallelism: 2, chunk_rows: 100}",
                        "batch: {max_rows: 200, max_delay: 20ms}"};
    space_.Write(config_);
    // Values that are too long for their row are not sent again with each change of it.
    ASSERT_TRUE(
        Sql("CREATE TABLE public.a (id int PRIMARY KEY, n int, v text); ALTER TABLE public.a ALTER "
            "v SET STORAGE EXTERNAL; INSERT INTO public.a SELECT i, 0, repeat(md5(i::text), 80) "
            "FROM generate_series(1, 300) i; CREATE TABLE public.bag (n int, v text); ALTER TABLE "
            "public.bag REPLICA IDENTITY FULL; INSERT INTO public.bag SELECT i % 7, 'x' FROM "
            "generate_series(1, 50) i"));
  }

  // `run`, again and again, until it has died of each of these.
  void DieOfEach(const std::vector<Death>& deaths) {
    std::set<std::string> passed;
    for (const Death& death : deaths) {
      SCOPED_TRACE(death.at + ":" + std::to_string(death.nth));
      passed.insert(death.at);
      Running run = space_.Start(
          {"run"}, {{"ETL_FAILPOINTS", death.at + "=exit:" + std::to_string(death.nth)}});
      EXPECT_TRUE(Eventually([&] { return !run.alive(); })) << "it was never passed";
      const Ended ended = run.Kill();
      EXPECT_EQ(ended.signal, SIGKILL) << ended.Describe();
      if (HasFailure()) {
        ADD_FAILURE() << Status() << ended.Describe();
        return;
      }
    }
    EXPECT_EQ(passed, kSnowflakeFailpoints);
  }
  // It works beside the changes, and ends when it is told to.
  void RunForAWhile() {
    Running run = space_.Start({"run"});
    const json before = Status().at("position");
    EXPECT_TRUE(Eventually([&] { return Status().at("position") != before; })) << Status();
    const auto told = std::chrono::steady_clock::now();
    run.Signal(SIGTERM);
    const Ended ended = run.Wait(seconds(15));
    EXPECT_EQ(ended.exit_code, 0) << ended.Describe();
    EXPECT_LT(std::chrono::steady_clock::now() - told, seconds(10)) << ended.Describe();
  }

  const std::vector<std::string> changes_ = {
      "INSERT INTO public.a SELECT i, 0, 'round $r' FROM generate_series(1000 + 5 * $r, 1004 + 5 * "
      "$r) i",
      "UPDATE public.a SET n = n + 1 WHERE id % 7 = $r % 7",
      "UPDATE public.a SET id = 1000000 + $r, n = n + 1 WHERE id = (SELECT min(id) FROM public.a "
      "WHERE id > 20)",
      "DELETE FROM public.a WHERE id % 97 = $r % 97",
      "INSERT INTO public.bag VALUES (1, 'x'), (1, 'x'), (NULL, NULL); DELETE FROM public.bag "
      "WHERE ctid = (SELECT min(ctid) FROM public.bag)"};
  const std::vector<Death> deaths_ = {{"snowflake.sql.before", 1},
                                      {"snowflake.sql.before", 4},
                                      {"snowflake.copy.before_append", 1},
                                      {"snowflake.copy.before_append", 3},
                                      {"snowflake.job.before", 1},
                                      {"snowflake.job.before", 3},
                                      {"snowflake.job.before", 5},
                                      {"snowflake.job.before", 7},
                                      {"snowflake.data.before_append", 1},
                                      {"snowflake.data.before_append", 9},
                                      {"snowflake.control.before_append", 1},
                                      {"snowflake.control.before_append", 4},
                                      {"snowflake.job.before", 2},
                                      {"snowflake.job.before", 6}};
};

TEST_F(SnowflakeCrash, MergedByTheEngine) {
  {
    const SteadyChanges changes(server_->ConnInfo(database_), changes_);
    DieOfEach(deaths_);
    if (HasFailure()) return;
    RunForAWhile();
  }
  ExpectEqual();
}

TEST_F(SnowflakeCrash, MergedByTasks) {
  config_.destinations = Destination(emulator_->tls_url(), "1s, by: task");
  space_.Write(config_);
  {
    const SteadyChanges changes(server_->ConnInfo(database_), changes_);
    // Two, so that runs of one task overlap.
    const TaskRunner tasks(*emulator_);
    const TaskRunner others(*emulator_);
    DieOfEach(deaths_);
    if (HasFailure()) return;
    RunForAWhile();
  }
  ExpectEqual();
}

TEST_F(SnowflakeCrash, Appended) {
  config_.pipeline.emplace_back("mode: append");
  space_.Write(config_);
  {
    const SteadyChanges changes(
        server_->ConnInfo(database_),
        {"UPDATE public.a SET n = n + 1 WHERE id % 7 = $r % 7",
         "INSERT INTO public.a SELECT i, 0, 'x' FROM generate_series(1000 + 5 * $r, 1004 + 5 * $r) "
         "i",
         "INSERT INTO public.bag VALUES ($r, 'new')"});
    DieOfEach({{"snowflake.sql.before", 1},
               {"snowflake.sql.before", 4},
               {"snowflake.copy.before_append", 1},
               {"snowflake.copy.before_append", 3},
               {"snowflake.job.before", 1},
               {"snowflake.job.before", 2},
               {"snowflake.data.before_append", 1},
               {"snowflake.data.before_append", 9},
               {"snowflake.control.before_append", 1},
               {"snowflake.control.before_append", 4}});
    if (HasFailure()) return;
    RunForAWhile();
  }
  const Ended sync = space_.Sync();
  ASSERT_EQ(sync.exit_code, 0) << sync.Describe();
  // A row's n goes up by one with each change: one that is missing leaves a gap. What landed before
  // the copy belongs to one that was begun and not stored.
  const std::string landing = "DB." + Landing() + ".LANDING_A";
  EXPECT_EQ(emulator_->Sql("SELECT COUNT(*) - COUNT(DISTINCT _ETL_POSITION) FROM " + landing),
            json::parse(R"([["0"]])"));
  EXPECT_EQ(emulator_->Sql("SELECT ID, MIN(N), MAX(N), COUNT(DISTINCT N) FROM " + landing +
                           " WHERE _ETL_POSITION >= (SELECT MIN(_ETL_POSITION) FROM " + landing +
                           " WHERE _ETL_OP = 'R') GROUP BY ID HAVING COUNT(DISTINCT N) <> MAX(N) - "
                           "MIN(N) + 1"),
            json::array());
  const Ended verify = space_.Run({"verify", "p"});
  EXPECT_EQ(verify.exit_code, 0) << verify.Describe();
}

}  // namespace
}  // namespace etl
