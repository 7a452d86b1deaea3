#include "catalog/catalog.h"

#include <fstream>
#include <vector>

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace etl {
namespace {

using ::testing::HasSubstr;

class CatalogTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "catalogXXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ + "/etl-stream.db";
  }
  void TearDown() override {
    for (const char* name :
         {"etl-stream.db", "etl-stream.db-wal", "etl-stream.db-shm", "etl-stream.db.damaged",
          "etl-stream.db.damaged-wal", "etl-stream.db.damaged-shm", "etl-stream.db.shop.lock"}) {
      unlink((folder_ + "/" + name).c_str());
    }
    rmdir(folder_.c_str());
  }
  std::unique_ptr<Catalog> Open() {
    auto catalog = Catalog::Open(path_, SystemClock());
    EXPECT_TRUE(catalog.ok()) << catalog.status().ToString();
    return catalog.ok() ? std::move(catalog).ValueUnsafe() : nullptr;
  }
  Status OpenError() { return Catalog::Open(path_, SystemClock()).status(); }
  void RunSql(const char* sql) {
    SqliteFile file;
    ASSERT_TRUE(file.Open(path_).ok());
    ASSERT_TRUE(file.Run(sql).ok());
  }

  std::string folder_;
  std::string path_;
};

TEST_F(CatalogTest, IsReadableByItsOwnerOnly) {
  const auto catalog = Open();
  ASSERT_TRUE(catalog->AddEvent("shop", "start", "x").ok());
  for (const char* suffix : {"", "-wal"}) {
    struct stat facts = {};
    ASSERT_EQ(stat((path_ + suffix).c_str(), &facts), 0) << suffix;
    EXPECT_EQ(facts.st_mode & 0777, 0600u) << suffix;
  }
}

TEST_F(CatalogTest, RequestsStayOpenUntilAcknowledgedAcrossProcesses) {
  const int64_t first =
      Open()->PutRequest("shop", RequestKind::kResync, "public.orders").ValueOrDie();
  const auto catalog = Open();
  const int64_t second = catalog->PutRequest("shop", RequestKind::kDrop).ValueOrDie();
  ASSERT_TRUE(catalog->PutRequest("other", RequestKind::kDrop).ok());
  EXPECT_EQ(Open()->TakeRequests("shop").ValueOrDie().size(), 2u);
  const std::vector<Request> open = Open()->TakeRequests("shop").ValueOrDie();
  ASSERT_EQ(open.size(), 2u);
  EXPECT_EQ(open[0].id, first);
  EXPECT_EQ(open[0].kind, RequestKind::kResync);
  EXPECT_EQ(open[0].table, "public.orders");
  EXPECT_EQ(open[1].id, second);
  EXPECT_FALSE(catalog->StateOf(first).ValueOrDie().done);
  ASSERT_TRUE(catalog->Acknowledge(first, "ETL-S999: no").ok());
  EXPECT_TRUE(Open()->StateOf(first).ValueOrDie().done);
  EXPECT_EQ(Open()->StateOf(first).ValueOrDie().outcome, "ETL-S999: no");
  EXPECT_EQ(Open()->TakeRequests("shop").ValueOrDie().size(), 1u);
}

TEST_F(CatalogTest, PauseHoldsUntilStart) {
  const auto catalog = Open();
  EXPECT_FALSE(catalog->Paused("shop").ValueOrDie());
  ASSERT_TRUE(catalog->PutRequest("shop", RequestKind::kPause).ok());
  EXPECT_TRUE(Open()->Paused("shop").ValueOrDie());
  ASSERT_TRUE(catalog->PutRequest("shop", RequestKind::kStart, "public.orders").ok());
  EXPECT_TRUE(catalog->Paused("shop").ValueOrDie());
  ASSERT_TRUE(catalog->PutRequest("shop", RequestKind::kStart).ok());
  EXPECT_FALSE(catalog->Paused("shop").ValueOrDie());
}

TEST_F(CatalogTest, StatusComesBackAsItWasWritten) {
  const auto catalog = Open();
  EXPECT_FALSE(catalog->GetStatus("shop").ValueOrDie().has_value());
  PipelineStatus status;
  status.name = "shop";
  status.phase = PipelinePhase::kRunning;
  status.position = Lsn{0x16B3748};
  status.tables.push_back({.name = "public.orders",
                           .phase = TablePhase::kLive,
                           .rows = 3,
                           .changes = 4,
                           .nulled = 5,
                           .error = "x\ny",
                           .id = {16384},
                           .rules = true,
                           .rows_merged = 6});
  ASSERT_TRUE(catalog->PutStatus(status).ok());
  status.lag_bytes = 12;
  status.used = DestinationUse{.bytes_sent = 1, .statements = 2, .merges = 3, .rows_merged = 4};
  ASSERT_TRUE(catalog->PutStatus(status).ok());
  const PipelineStatus back = Open()->GetStatus("shop").ValueOrDie().value();
  EXPECT_EQ(StatusToJson(back), StatusToJson(status));
  ASSERT_TRUE(back.used.has_value());
  EXPECT_EQ(back.used->rows_merged, 4);
  EXPECT_EQ(back.tables.at(0).rows_merged, 6);
}

TEST_F(CatalogTest, StatusOfAnOlderProgramIsRead) {
  PipelineStatus status;
  status.name = "shop";
  status.tables.push_back({.name = "public.orders", .id = {16384}});
  std::string text = StatusToJson(status);
  for (const std::string_view added : {",\"oid\":16384", ",\"rules\":false", "\"nulled\":0,"}) {
    ASSERT_NE(text.find(added), std::string::npos) << text;
    text.erase(text.find(added), added.size());
  }
  const auto back = StatusFromJson(text);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->tables.at(0).id.oid, 0u);
}

TEST_F(CatalogTest, APauseCountsAgainstEarlierRequestsOnly) {
  const auto catalog = Open();
  const int64_t before = catalog->PutRequest("shop", RequestKind::kResync).ValueOrDie();
  EXPECT_FALSE(catalog->PausedSince("shop", before).ValueOrDie());
  const int64_t pause = catalog->PutRequest("shop", RequestKind::kPause).ValueOrDie();
  ASSERT_TRUE(catalog->Acknowledge(pause).ok());
  const int64_t after = catalog->PutRequest("shop", RequestKind::kResync).ValueOrDie();
  EXPECT_TRUE(catalog->PausedSince("shop", before).ValueOrDie());
  EXPECT_FALSE(catalog->PausedSince("shop", after).ValueOrDie());
  ASSERT_TRUE(catalog->PutRequest("shop", RequestKind::kStart).ok());
  EXPECT_FALSE(catalog->PausedSince("shop", before).ValueOrDie());
}

TEST_F(CatalogTest, WhatARequestWaitsForIsToldUntilItIsDone) {
  const auto catalog = Open();
  const int64_t id = catalog->PutRequest("shop", RequestKind::kVerify).ValueOrDie();
  ASSERT_TRUE(catalog->Tell(id, "waits").ok());
  EXPECT_FALSE(catalog->StateOf(id)->done);
  EXPECT_EQ(catalog->StateOf(id)->outcome, "waits");
  ASSERT_TRUE(catalog->Acknowledge(id).ok());
  ASSERT_TRUE(catalog->Tell(id, "too late").ok());
  EXPECT_TRUE(catalog->StateOf(id)->done);
  EXPECT_EQ(catalog->StateOf(id)->outcome, "");
}

TEST_F(CatalogTest, ForgetLeavesEventsOnly) {
  const auto catalog = Open();
  PipelineStatus status;
  status.name = "shop";
  ASSERT_TRUE(catalog->PutStatus(status).ok());
  const int64_t id = catalog->PutRequest("shop", RequestKind::kPause).ValueOrDie();
  ASSERT_TRUE(catalog->AddEvent("shop", "drop", "dropped").ok());
  ASSERT_TRUE(catalog->Forget("shop").ok());
  EXPECT_FALSE(catalog->GetStatus("shop").ValueOrDie().has_value());
  EXPECT_FALSE(catalog->Paused("shop").ValueOrDie());
  EXPECT_TRUE(catalog->TakeRequests("shop").ValueOrDie().empty());
  EXPECT_TRUE(catalog->StateOf(id).ValueOrDie().done);
  EXPECT_EQ(catalog->Events("shop", 10).ValueOrDie().size(), 1u);
}

TEST_F(CatalogTest, EventsAreBoundedAndNewestFirst) {
  const auto catalog = Open();
  for (int i = 0; i < 1010; ++i)
    ASSERT_TRUE(catalog->AddEvent("shop", "n", std::to_string(i)).ok());
  ASSERT_TRUE(catalog->AddEvent("other", "n", "x").ok());
  const std::vector<Event> events = catalog->Events("shop", 5000).ValueOrDie();
  EXPECT_EQ(events.size(), 1000u);
  EXPECT_EQ(events.front().text, "1009");
  EXPECT_EQ(events.back().text, "10");
}

TEST_F(CatalogTest, NewerVersionIsRefusedAndUntouched) {
  Open();
  RunSql("PRAGMA user_version = 99");
  EXPECT_EQ(KindOf(OpenError()), ErrorKind::kConfig);
  EXPECT_EQ(PartsOf(OpenError()).code, "ETL-C050");
}

TEST_F(CatalogTest, ForeignFilesAreRefused) {
  std::ofstream(path_)
      << "this is no database, but it is somebody's file, and long enough to look at";
  EXPECT_EQ(PartsOf(OpenError()).code, "ETL-C052");
  unlink(path_.c_str());
  std::ofstream(path_).flush();
  RunSql("CREATE TABLE theirs (x)");
  EXPECT_EQ(PartsOf(OpenError()).code, "ETL-C052");
}

TEST_F(CatalogTest, MissingFolderIsAConfigurationError) {
  path_ = folder_ + "/absent/etl.db";
  EXPECT_EQ(KindOf(OpenError()), ErrorKind::kConfig);
  EXPECT_EQ(PartsOf(OpenError()).code, "ETL-C051");
}

TEST_F(CatalogTest, DamagedFileIsSetAsideAndReplaced) {
  Open()->AddEvent("shop", "start", "x").ok();
  {
    // The header stays; the schema page behind it is overwritten.
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(100);
    file << std::string(3000, '\x5a');
  }
  const auto catalog = Open();
  ASSERT_NE(catalog, nullptr);
  EXPECT_TRUE(catalog->Events("shop", 10).ValueOrDie().empty());
  EXPECT_EQ(access((path_ + ".damaged").c_str(), F_OK), 0);
}

// `run` makes the file while `status` looks at it.
TEST_F(CatalogTest, ManyProcessesMayOpenANewCatalogAtOnce) {
  for (int round = 0; round < 40; ++round) {
    TearDown();
    SetUp();
    int gate[2];
    ASSERT_EQ(pipe(gate), 0);
    std::vector<pid_t> children;
    for (int i = 0; i < 6; ++i) {
      children.push_back(fork());
      if (children.back() != 0) continue;
      close(gate[1]);
      char nothing = 0;
      (void)!read(gate[0], &nothing, 1);  // All go when the gate closes.
      const auto catalog = Catalog::Open(path_, SystemClock());
      if (!catalog.ok()) (void)!write(2, PartsOf(catalog.status()).code.c_str(), 8);
      _exit(catalog.ok() && (*catalog)->AddEvent("shop", "start", "x").ok() ? 0 : 1);
    }
    close(gate[0]);
    close(gate[1]);
    for (const pid_t child : children) {
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      EXPECT_EQ(status, 0) << "round " << round;
    }
    const auto catalog = Open();
    ASSERT_NE(catalog, nullptr);
    EXPECT_EQ(catalog->Events("shop", 100).ValueOrDie().size(), children.size());
  }
}

TEST_F(CatalogTest, OnePipelineHasOneRunner) {
  const auto catalog = Open();
  EXPECT_EQ(catalog->RunnerOf("shop").ValueOrDie(), std::nullopt);
  auto held = catalog->TryLockPipeline("shop").ValueOrDie();
  EXPECT_EQ(Open()->RunnerOf("shop").ValueOrDie(), getpid());
  const Status second = Open()->TryLockPipeline("shop").status();
  EXPECT_EQ(KindOf(second), ErrorKind::kBusy);
  EXPECT_THAT(PartsOf(second).what, HasSubstr(std::to_string(getpid())));
  held.reset();
  EXPECT_EQ(Open()->RunnerOf("shop").ValueOrDie(), std::nullopt);
  EXPECT_TRUE(Open()->TryLockPipeline("shop").ok());
}

TEST_F(CatalogTest, KilledRunnerLetsGoOfItsLock) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const std::string lock_path = path_ + ".shop.lock";
  const pid_t child = fork();
  if (child == 0) {
    auto lock = RunnerLock::TryAcquire(lock_path, "shop");
    const char answer = lock.ok() ? 'y' : 'n';
    if (write(ready[1], &answer, 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char answer = 0;
  ASSERT_EQ(read(ready[0], &answer, 1), 1);
  ASSERT_EQ(answer, 'y');
  EXPECT_EQ(RunnerLock::HolderOf(lock_path).ValueOrDie(), child);
  EXPECT_FALSE(RunnerLock::TryAcquire(lock_path, "shop").ok());
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
  EXPECT_TRUE(RunnerLock::TryAcquire(lock_path, "shop").ok());
}

}  // namespace
}  // namespace etl
