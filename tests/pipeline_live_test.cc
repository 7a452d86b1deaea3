// A whole pipeline with its threads, a real server and a destination that keeps nothing. Small on
// purpose: this is what runs under ThreadSanitizer.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "destination/null/null_destination.h"
#include "pipeline/supervisor.h"
#include "support/pg_server.h"

namespace etl {
namespace {

class PipelineLive : public testing::Test {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<PgServer>> server = PgServer::Start();
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    Run("CREATE TABLE t(id int PRIMARY KEY, v text)");
    Run("INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 20000) i");
    Run("CREATE TABLE bag(a int, b text); ALTER TABLE bag REPLICA IDENTITY FULL; INSERT INTO bag "
        "VALUES (1, 'x'), (1, 'x')");
  }

  void Run(const std::string& sql) {
    const Status status = server_->Exec(sql);
    ASSERT_TRUE(status.ok()) << status;
  }

  PipelineSpec Spec() {
    PipelineSpec spec;
    spec.name = "live";
    spec.source.conninfo = server_->ConnInfo();
    spec.publication = "etl_live";
    spec.slot = "etl_live";
    spec.tables_given = true;
    spec.reader.pipeline = "live";
    spec.reader.chunk_rows = 3000;
    spec.reader.selected = [](const std::string& schema, const std::string&) {
      return schema == "public";
    };
    spec.make_destination = [this]() -> Result<std::unique_ptr<Destination>> {
      auto destination = std::make_unique<NullDestination>();
      destination->OnSegment([this](const Segment& segment) {
        rows_ += segment.rows;
        largest_segment_ = std::max<int64_t>(largest_segment_, segment.bytes);
        for (const SegmentPart& part : segment.parts) {
          if (std::holds_alternative<CopyStart>(part)) ++copies_;
        }
      });
      return destination;
    };
    return spec;
  }

  template <typename Done>
  bool Eventually(Done done) {
    const Instant deadline = SystemClock().Now() + std::chrono::seconds(60);
    while (SystemClock().Now() < deadline) {
      if (done()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return false;
  }

  static bool AllLive(const PipelineStatus& status) {
    if (status.tables.empty()) return false;
    for (const TableStatus& table : status.tables) {
      if (table.phase != TablePhase::kLive) return false;
    }
    return true;
  }

  std::unique_ptr<PgServer> server_;
  ByteBudget budget_{64 << 20};
  std::atomic<int64_t> rows_{0};
  std::atomic<int64_t> largest_segment_{0};
  std::atomic<int> copies_{0};
};

TEST_F(PipelineLive, CopiesFollowsAndStopsUnderLoad) {
  Supervisor supervisor(Spec(), RestartOptions{}, &budget_, SystemClock());
  supervisor.Start();
  EXPECT_TRUE(Eventually([&] { return AllLive(*supervisor.status()); }))
      << supervisor.status()->error;
  Run("UPDATE t SET v = v || '!' WHERE id % 2 = 0");
  Run("DELETE FROM bag");
  EXPECT_TRUE(Eventually([&] { return rows_ >= 10002; }));
  // Stopped in the middle of a transaction that is still being received.
  Run("INSERT INTO t SELECT i, 'more' FROM generate_series(100000, 300000) i");
  const Instant asked = SystemClock().Now();
  supervisor.Stop(asked + std::chrono::seconds(5));
  EXPECT_LT(SystemClock().Now() - asked, std::chrono::seconds(10));
  EXPECT_EQ(budget_.used(), 0);
}

TEST_F(PipelineLive, ComesBackAfterTheServerCrashed) {
  Supervisor supervisor(Spec(), RestartOptions{.max_delay = std::chrono::milliseconds(500)},
                        &budget_, SystemClock());
  supervisor.Start();
  EXPECT_TRUE(Eventually([&] { return AllLive(*supervisor.status()); }))
      << supervisor.status()->error;
  ASSERT_TRUE(server_->Crash().ok());
  EXPECT_TRUE(Eventually([&] { return supervisor.status()->phase == PipelinePhase::kRetrying; }));
  ASSERT_TRUE(server_->Restart().ok());
  // This destination forgets everything with each life, so the tables are copied anew.
  EXPECT_TRUE(Eventually([&] { return AllLive(*supervisor.status()); }))
      << supervisor.status()->error;
  supervisor.Stop(SystemClock().Now() + std::chrono::seconds(5));
}

// Sent while the transaction is open, and after its commit.
TEST_F(PipelineLive, LargeRowsDoNotOvershootASegment) {
  Run("ALTER SYSTEM SET logical_decoding_work_mem = '64kB'");
  Run("SELECT pg_reload_conf()");
  for (const bool streaming : {false, true}) {
    PipelineSpec spec = Spec();
    spec.streaming = streaming;
    spec.reader.max_bytes = 4 << 20;
    Supervisor supervisor(std::move(spec), RestartOptions{}, &budget_, SystemClock());
    supervisor.Start();
    EXPECT_TRUE(Eventually([&] { return AllLive(*supervisor.status()); }))
        << supervisor.status()->error;
    const int64_t before = rows_;
    Run("INSERT INTO t SELECT i, repeat('x', 1000000) FROM generate_series(100001, 100060) i");
    EXPECT_TRUE(Eventually([&] { return rows_ >= before + 60; }));
    EXPECT_LT(largest_segment_, 6 << 20);
    Run("DELETE FROM t WHERE id > 100000");
    supervisor.Stop(SystemClock().Now() + std::chrono::seconds(5));
  }
}

TEST_F(PipelineLive, ResyncCopiesATableAgain) {
  Supervisor supervisor(Spec(), RestartOptions{}, &budget_, SystemClock());
  supervisor.Start();
  EXPECT_TRUE(Eventually([&] { return AllLive(*supervisor.status()); }))
      << supervisor.status()->error;
  supervisor.Resync("public.t");
  EXPECT_TRUE(Eventually([&] { return copies_ == 3; }));
  EXPECT_TRUE(Eventually([&] { return AllLive(*supervisor.status()); }))
      << supervisor.status()->error;
  supervisor.Pause();
  EXPECT_TRUE(Eventually([&] { return supervisor.status()->phase == PipelinePhase::kPaused; }));
  supervisor.Stop(SystemClock().Now() + std::chrono::seconds(5));
}

}  // namespace
}  // namespace etl
