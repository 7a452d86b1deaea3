// What happens when something is wrong: the error says it, the exit code is the contract's, and
// after the repair nothing is lost.
#include <chrono>
#include <filesystem>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/e2e_fixture.h"
#include "support/slot_race.h"

namespace etl {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class BadInput : public E2eTest {
 protected:
  void SetUp() override {
    E2eTest::SetUp();
    ASSERT_TRUE(
        Sql("CREATE TABLE public.a (id int PRIMARY KEY, v text); INSERT INTO public.a SELECT i, "
            "'v' || i FROM generate_series(1, 50) i; CREATE TABLE public.b (id int PRIMARY KEY, v "
            "text); INSERT INTO public.b SELECT i, 'w' FROM generate_series(1, 20) i"));
  }
  void Fill() {
    const Ended sync = space_.Sync();
    ASSERT_EQ(sync.exit_code, 0) << sync.Describe();
    ASSERT_EQ(Different(), "");
  }
  // Every slot of the server that is free.
  void TakeSlots() {
    while (server_
               ->Exec("SELECT pg_create_physical_replication_slot('taken_" +
                      std::to_string(taken_) + "')")
               .ok())
      ++taken_;
  }
  void GiveSlotsBack() {
    for (; taken_ > 0; --taken_) {
      (void)server_->Exec("SELECT pg_drop_replication_slot('taken_" + std::to_string(taken_ - 1) +
                          "')");
    }
  }
  void TearDown() override {
    GiveSlotsBack();
    E2eTest::TearDown();
  }
  int taken_ = 0;
  void Add(int from, int to) {
    ASSERT_TRUE(Sql("INSERT INTO public.a SELECT i, 'later' FROM generate_series(" +
                    std::to_string(from) + ", " + std::to_string(to) + ") i"));
  }
  // What does not compress: more than a small disk holds.
  void AddMuch() {
    ASSERT_TRUE(
        Sql("INSERT INTO public.a SELECT i, (SELECT string_agg(md5(i::text || j || random()), '') "
            "FROM generate_series(1, 100) j) FROM generate_series(1000, 6000) i"));
  }
  static void ExpectFull(const Ended& sync, const std::string& place) {
    EXPECT_EQ(sync.exit_code, 75) << sync.Describe();
    EXPECT_THAT(sync.err, HasSubstr("ETL-D130"));
    EXPECT_THAT(sync.err, HasSubstr("no space left for")) << sync.Describe();
    EXPECT_THAT(sync.err, HasSubstr(place)) << sync.Describe();
    EXPECT_THAT(sync.err, HasSubstr("free space")) << sync.Describe();
    EXPECT_THAT(sync.err, HasSubstr("stays")) << sync.Describe();
  }
  // sync says that the position is lost, status shows it, and resync repairs.
  void ExpectLostThenRepaired(const std::string& code) {
    const Ended sync = space_.Sync();
    EXPECT_EQ(sync.exit_code, 1) << sync.Describe();
    EXPECT_THAT(sync.err, HasSubstr(code));
    EXPECT_THAT(sync.err, HasSubstr("resync"));
    const nlohmann::json status = Status();
    EXPECT_EQ(status.at("phase"), "stopped") << status;
    EXPECT_THAT(status.at("error").dump(), HasSubstr(code)) << status;
    const Ended again = space_.Sync();
    EXPECT_EQ(again.exit_code, 1) << "without a resync it stays stopped: " << again.Describe();
    const Ended resync = space_.Run({"pipeline", "resync", "p", "--yes"});
    EXPECT_EQ(resync.exit_code, 0) << resync.Describe();
    ExpectEqual();
  }
};

TEST_F(BadInput, WrongPasswordIsNotAuthorised) {
  config_.url = server_->TcpConnInfo(database_);
  config_.source = ", password: {env: PROOF_PASSWORD}";
  space_.Write(config_);
  const Ended sync = space_.Run({"sync"}, {{"PROOF_PASSWORD", "wrong-and-secret"}});
  EXPECT_EQ(sync.exit_code, 77) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("ETL-S103"));
  EXPECT_THAT(sync.err + sync.out, Not(HasSubstr("wrong-and-secret")));
  const Ended right = space_.Run({"sync"}, {{"PROOF_PASSWORD", PgServer::kPassword}});
  EXPECT_EQ(right.exit_code, 0) << right.Describe();
  EXPECT_EQ(Different(), "");
}

TEST_F(BadInput, MissingPrivilegeSetsOneTableAside) {
  const std::string role = "reader_" + database_;
  ASSERT_TRUE(Sql("CREATE ROLE " + role + " LOGIN REPLICATION; GRANT SELECT ON public.a TO " +
                  role + "; CREATE PUBLICATION etl_p FOR TABLE public.a, public.b"));
  config_.url = "host=" + server_->directory() + " port=" + std::to_string(server_->port()) +
                " user=" + role + " dbname=" + database_;
  space_.Write(config_);
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 1) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("public.b"));
  EXPECT_THAT(sync.err, HasSubstr("ETL-S018"));
  EXPECT_EQ(TablePhase("public.b"), "stopped");
  EXPECT_EQ(TablePhase("public.a"), "live");
  const auto rows = QueryDuckDb(space_.duckdb(), "SELECT count(*) FROM copy.public.a");
  ASSERT_TRUE(rows.ok()) << ErrorLine(rows.status());
  EXPECT_EQ((*rows)[0][0], "50");
  ASSERT_TRUE(Sql("GRANT SELECT ON public.b TO " + role));
  ASSERT_TRUE(Sql("INSERT INTO public.b VALUES (1000, 'meanwhile')"));
  ASSERT_EQ(space_.Run({"pipeline", "resync", "p", "--table", "public.b", "--yes"}).exit_code, 0);
  ExpectEqual();
  EXPECT_TRUE(Sql("DROP OWNED BY " + role + "; DROP ROLE " + role));
}

TEST_F(BadInput, WalLevelMustBeLogical) {
  Result<std::unique_ptr<PgServer>> other =
      PgServer::Start({.settings = {"wal_level=replica"}, .initdb_arguments = {}});
  ASSERT_TRUE(other.ok()) << ErrorLine(other.status());
  ASSERT_TRUE((*other)->Exec("CREATE TABLE t (id int PRIMARY KEY)").ok());
  config_.url = (*other)->ConnInfo();
  space_.Write(config_);
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 78) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("ETL-S108"));
  EXPECT_THAT(sync.err, HasSubstr("wal_level"));
}

TEST_F(BadInput, NoTableSelectedIsAnError) {
  config_.tables = "[\"public.nothing_like_this\"]";
  space_.Write(config_);
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 78) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("ETL-S120"));
  EXPECT_EQ(
      server_->Value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '" + slot_ + "'"),
      "0");
}

TEST_F(BadInput, SlotInUseIsWaitedForThenGivenUp) {
  Fill();
  Add(100, 120);
  // Somebody else reads the slot.
  const std::string directory = server_->directory();
  Running other;
  {
    const std::string conninfo = server_->ConnInfo(database_);
    const pid_t pid = fork();
    if (pid == 0) {
      execlp("sh", "sh", "-c",
             ("exec $(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)/pg_recvlogical -d '" +
              conninfo + "' --slot " + slot_ +
              " --start -o proto_version=1 -o publication_names=etl_p -F 0 -s 0 -f /dev/null "
              ">/dev/null 2>&1")
                 .c_str(),
             nullptr);
      _exit(127);
    }
    other = Running(pid, "/dev/null", "/dev/null");
  }
  ASSERT_TRUE(Eventually([&] {
    return server_->Value("SELECT active FROM pg_replication_slots WHERE slot_name = '" + slot_ +
                          "'") == "t";
  }));
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 75) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("ETL-S202"));
  EXPECT_GE(sync.seconds, 3.0) << "it waits until give_up";
  (void)other.Kill();
  ExpectEqual();
}

TEST_F(BadInput, DroppedSlotStopsThePipelineUntilResync) {
  Fill();
  ASSERT_TRUE(Sql("SELECT pg_drop_replication_slot('" + slot_ + "')"));
  Add(100, 150);
  ExpectLostThenRepaired("ETL-S201");
}

TEST_F(BadInput, SlotAdvancedByHandStopsThePipelineUntilResync) {
  Fill();
  Add(100, 150);
  ASSERT_TRUE(Sql("SELECT pg_replication_slot_advance('" + slot_ + "', pg_current_wal_lsn())"));
  ExpectLostThenRepaired("ETL-S206");
}

TEST_F(BadInput, SlotRecreatedByHandStopsThePipelineUntilResync) {
  Fill();
  Add(100, 150);
  ASSERT_TRUE(Sql("SELECT pg_drop_replication_slot('" + slot_ + "')"));
  ASSERT_TRUE(Sql("SELECT pg_create_logical_replication_slot('" + slot_ + "', 'pgoutput')"));
  ExpectLostThenRepaired("ETL-S206");
}

TEST_F(BadInput, SlotThatCannotDecodeStopsThePipelineUntilResync) {
  // Created by hand while the schema changed: the server can never decode what followed.
  ASSERT_TRUE(
      Sql("CREATE PUBLICATION etl_p FOR TABLE public.a, public.b WITH "
          "(publish_via_partition_root = true)"));
  const auto race = RunSlotRace(
      {.conninfo = server_->ConnInfo(database_),
       .schema_change = "TRUNCATE public.a",
       .change = "INSERT INTO public.a VALUES (1, 'not decoded')",
       .create = [&] {
         EXPECT_TRUE(Sql("SELECT pg_create_logical_replication_slot('" + slot_ + "', 'pgoutput')"));
       }});
  ASSERT_TRUE(race.ok()) << ErrorLine(race);
  config_.tables = "[\"public.a\", \"public.b\"]";
  space_.Write(config_);
  ExpectLostThenRepaired("ETL-S207");
}

TEST_F(BadInput, OldCopyOfTheFileStopsThePipelineUntilResync) {
  Fill();
  fs::copy_file(space_.duckdb(), space_.path("old"));
  Add(100, 150);
  ExpectEqual();
  fs::remove(space_.duckdb() + ".wal");
  fs::copy_file(space_.path("old"), space_.duckdb(), fs::copy_options::overwrite_existing);
  ExpectLostThenRepaired("ETL-S206");
}

TEST_F(BadInput, AnotherClusterStopsThePipelineUntilResync) {
  Fill();
  Result<std::unique_ptr<PgServer>> other = PgServer::Start();
  ASSERT_TRUE(other.ok()) << ErrorLine(other.status());
  ASSERT_TRUE((*other)
                  ->Exec("CREATE TABLE public.a (id int PRIMARY KEY, v text); INSERT INTO public.a "
                         "VALUES (1, 'of another cluster'); CREATE TABLE public.b (id int PRIMARY "
                         "KEY, v text)")
                  .ok());
  config_.url = (*other)->ConnInfo();
  space_.Write(config_);
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 1) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("ETL-S205"));
  EXPECT_EQ(Different(), "") << "the copy of the first one is untouched";
  ASSERT_EQ(space_.Run({"pipeline", "resync", "p", "--yes"}).exit_code, 0);
  const Ended again = space_.Sync();
  EXPECT_EQ(again.exit_code, 0) << again.Describe();
  EXPECT_EQ(Differences((*other)->ConnInfo(), space_.duckdb()), "");
}

TEST_F(BadInput, UnknownKeyTouchesNothing) {
  config_.pipeline.push_back("no_such_key: 1");
  space_.Write(config_);
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 78) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("ETL-C011"));
  EXPECT_THAT(sync.err, HasSubstr("no_such_key"));
  EXPECT_FALSE(fs::exists(space_.duckdb()));
  EXPECT_EQ(
      server_->Value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '" + slot_ + "'"),
      "0");
}

// A small file system; where none can be mounted (it takes root), a limit of the size of files,
// which is much the same.
class SmallDisk {
 public:
  SmallDisk(Workspace* space, std::string path) : space_(space), path_(std::move(path)) {
    fs::create_directory(path_);
    mounted_ = mount("tmpfs", path_.c_str(), "tmpfs", 0, "size=6m") == 0;
    if (!mounted_) space_->LimitFileSize(6 << 20);
  }
  ~SmallDisk() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
  }
  /// Also for `running`, if there is one.
  void MakeRoom(const Running* running = nullptr) {
    space_->LimitFileSize(0);
    if (mounted_) {
      ASSERT_EQ(mount(nullptr, path_.c_str(), nullptr, MS_REMOUNT, "size=200m"), 0);
    } else if (running != nullptr) {
      running->LiftFileSize();
    }
  }

 private:
  Workspace* const space_;
  const std::string path_;
  bool mounted_ = false;
};

TEST_F(BadInput, FullDiskIsSaidAndNothingIsLost) {
  SmallDisk disk(&space_, space_.path("small"));
  config_.path = "small/copy.duckdb";
  config_.top = {"limits: {spill_dir: .}"};
  space_.Write(config_);
  const Ended first = space_.Sync();
  ASSERT_EQ(first.exit_code, 0) << first.Describe();
  AddMuch();
  const Ended full = space_.Run({"sync"}, {}, std::chrono::seconds(120));
  ExpectFull(full, space_.path("small/copy.duckdb"));
  EXPECT_LT(full.seconds, 60) << "it gives up";
  // Once more, from what the first one left.
  ExpectFull(space_.Run({"sync"}, {}, std::chrono::seconds(120)), space_.path("small/copy.duckdb"));
  disk.MakeRoom();
  const Ended repaired = space_.Sync();
  EXPECT_EQ(repaired.exit_code, 0) << repaired.Describe();
  EXPECT_EQ(Differences(server_->ConnInfo(database_), space_.path("small/copy.duckdb")), "");
}

TEST_F(BadInput, RunSurvivesAFullDiskThatHoldsEverything) {
  SmallDisk disk(&space_, space_.path("small"));
  config_.path = "small/copy.duckdb";
  config_.catalog = "small/catalog.db";
  space_.Write(config_);
  Running service = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; })) << service.err_so_far();
  AddMuch();
  ASSERT_TRUE(Eventually(
      [&] { return service.err_so_far().find("no space left for") != std::string::npos; },
      std::chrono::seconds(60)))
      << service.err_so_far();
  // Longer than `sync` would wait, with nothing else to be had on that disk.
  std::string filler(1 << 16, 'x');
  const int fd = open(space_.path("small/filler").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0);
  for (int i = 0; i < 200 && write(fd, filler.data(), filler.size()) > 0; ++i) continue;
  close(fd);
  EXPECT_FALSE(Eventually([&] { return !service.alive(); }, std::chrono::seconds(6)))
      << service.err_so_far();
  disk.MakeRoom(&service);
  const std::string there = Value("SELECT count(*) FROM public.a");
  EXPECT_TRUE(Eventually(
      [&] {
        const Ended rows = space_.Run({"query", "p", "SELECT count(*) AS n FROM a", "--json"});
        return rows.out.find("\"n\":" + there) != std::string::npos;
      },
      std::chrono::seconds(60)))
      << service.err_so_far();
  EXPECT_TRUE(Eventually([&] { return Phase() == "running"; })) << service.err_so_far();
  service.Signal(SIGTERM);
  EXPECT_EQ(service.Wait(std::chrono::seconds(10)).exit_code, 0);
  EXPECT_EQ(Differences(server_->ConnInfo(database_), space_.path("small/copy.duckdb")), "");
}

TEST_F(BadInput, DiskThatIsFullDuringTheFirstCopyIsGivenUp) {
  AddMuch();
  space_.LimitFileSize(6 << 20);
  const Ended full = space_.Run({"sync"}, {}, std::chrono::seconds(120));
  ExpectFull(full, "copy.duckdb");
  EXPECT_LT(full.seconds, 60) << "it gives up";
  space_.LimitFileSize(0);
  ExpectEqual();
}

TEST_F(BadInput, RunGoesOnByItselfOnceAFullDiskHasSpaceAgain) {
  space_.LimitFileSize(6 << 20);
  Running service = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; })) << service.err_so_far();
  AddMuch();
  ASSERT_TRUE(Eventually([&] { return Phase() == "retrying"; }, std::chrono::seconds(60)))
      << service.err_so_far();
  // Whoever waits for the service is told why it does not get there.
  const Ended sync = space_.Run({"sync"}, {}, std::chrono::seconds(120));
  EXPECT_EQ(sync.exit_code, 75) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("ETL-D130")) << sync.Describe();
  std::string error;
  EXPECT_TRUE(Eventually([&] {
    const nlohmann::json status = Status();
    error = status.at("error").dump();
    return status.at("phase") == "retrying" && error.find("ETL-D130") != std::string::npos;
  })) << error;
  EXPECT_TRUE(service.alive()) << "it never gives up";
  service.LiftFileSize();
  const std::string there = Value("SELECT count(*) FROM public.a");
  EXPECT_TRUE(Eventually(
      [&] {
        const Ended rows = space_.Run({"query", "p", "SELECT count(*) AS n FROM a", "--json"});
        return rows.out.find("\"n\":" + there) != std::string::npos;
      },
      std::chrono::seconds(60)))
      << service.err_so_far();
  service.Signal(SIGTERM);
  EXPECT_EQ(service.Wait(std::chrono::seconds(10)).exit_code, 0);
  EXPECT_EQ(Different(), "");
}

TEST_F(BadInput, FileHeldByAnotherProcessIsWaitedForThenGivenUp) {
  Fill();
  Add(100, 120);
  // DuckDB's lock, as another process would take it.
  const int fd = open(space_.duckdb().c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  ASSERT_EQ(fcntl(fd, F_SETLK, &lock), 0);
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 75) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("ETL-D131"));
  close(fd);
  ExpectEqual();
}

TEST_F(BadInput, UnreachableSourceIsGivenUp) {
  config_.url = "host=127.0.0.1 port=1 user=postgres dbname=x";
  space_.Write(config_);
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 69) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("ETL-S101"));
  EXPECT_LT(sync.seconds, 15);
}

TEST_F(BadInput, RowFilterIsRefusedForItsTable) {
  ASSERT_TRUE(Sql("CREATE PUBLICATION etl_p FOR TABLE public.a WHERE (id > 10), TABLE public.b"));
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 1) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("public.a"));
  EXPECT_THAT(sync.err, HasSubstr("filter"));
  EXPECT_EQ(TablePhase("public.b"), "live");
}

TEST_F(BadInput, TableThatTheEngineDidNotMakeIsNotTouched) {
  ASSERT_EQ(space_.Sync().exit_code, 0);
  ASSERT_TRUE(Sql("CREATE TABLE public.c (id int PRIMARY KEY)"));
  // Somebody else's table of that name.
  const etl::Status made = ExecuteDuckDb(
      space_.duckdb(), "CREATE TABLE copy.public.c AS SELECT 1 AS id, 'mine' AS note");
  ASSERT_TRUE(made.ok()) << ErrorLine(made);
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 1) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("public.c"));
  EXPECT_THAT(sync.err, HasSubstr("ETL-D120"));
  const auto rows = QueryDuckDb(space_.duckdb(), "SELECT note FROM copy.public.c");
  ASSERT_TRUE(rows.ok()) << ErrorLine(rows.status());
  EXPECT_EQ((*rows)[0][0], "mine");
  Add(100, 130);
  (void)space_.Sync();
  const auto others = QueryDuckDb(space_.duckdb(), "SELECT count(*) FROM copy.public.a");
  ASSERT_TRUE(others.ok());
  EXPECT_EQ((*others)[0][0], "81") << "the other tables go on";
}

TEST_F(BadInput, SecondRunnerIsRefusedAndSyncWaitsForTheFirst) {
  Running first = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }));
  const Ended second = space_.Run({"run"});
  EXPECT_EQ(second.exit_code, 75) << second.Describe();
  EXPECT_THAT(second.err, HasSubstr("ETL-R104"));
  Add(100, 150);
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 0) << sync.Describe();
  EXPECT_TRUE(first.alive());
  first.Signal(SIGTERM);
  EXPECT_EQ(first.Wait(std::chrono::seconds(10)).exit_code, 0);
  EXPECT_EQ(Different(), "");
}

// Nothing is wrong with the configuration: the pipeline stops, and is behind.
TEST_F(BadInput, WithoutAFreeSlotAPipelineIsBehind) {
  TakeSlots();
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 1) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("ETL-S107"));
  EXPECT_THAT(sync.err, HasSubstr("max_replication_slots"));
  EXPECT_LT(sync.seconds, 4) << "it is not tried again and again";
  GiveSlotsBack();
  ExpectEqual();
}

// A slot that is wanted for a moment only may be free later; 1 would say that there is a
// difference.
TEST_F(BadInput, VerifyAndTapWithoutAFreeSlotMayWorkLater) {
  Fill();
  TakeSlots();
  for (const std::string command : {"verify", "tap"}) {
    const Ended ended = space_.Run({command, "p"});
    EXPECT_EQ(ended.exit_code, 75) << ended.Describe();
    EXPECT_THAT(ended.err, HasSubstr("ETL-S107")) << ended.Describe();
  }
  GiveSlotsBack();
  EXPECT_EQ(space_.Run({"verify", "p"}).exit_code, 0);
}

}  // namespace
}  // namespace etl
