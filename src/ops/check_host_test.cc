#include "ops/check_host.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

namespace etl {
namespace {

using Severity = CheckFinding::Severity;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

class CheckHostTest : public testing::Test {
 protected:
  CheckHostTest() : folder_(testing::TempDir() + "check_host_test") {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~CheckHostTest() override { fs::remove_all(folder_); }
  std::string Write(const std::string& name, const std::string& text, mode_t mode = 0600) const {
    const std::string path = folder_ + "/" + name;
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path) << text;
    chmod(path.c_str(), mode);
    return path;
  }
  const std::string folder_;
};

TEST_F(CheckHostTest, CatalogFolderMustBeWritableAndStaysEmpty) {
  const CheckFinding good = CheckCatalogFile(folder_ + "/catalog.db");
  EXPECT_NE(good.severity, Severity::kFail) << good.what;
  EXPECT_THAT(good.what, HasSubstr(" ms"));
  EXPECT_TRUE(fs::is_empty(folder_)) << "a check leaves nothing behind";
  const CheckFinding nowhere = CheckCatalogFile(folder_ + "/no/catalog.db");
  EXPECT_EQ(nowhere.severity, Severity::kFail);
  EXPECT_THAT(nowhere.why, HasSubstr("No such file"));
  EXPECT_EQ(CheckCatalogFile(folder_).severity, Severity::kFail) << "a folder is no catalog";
}

TEST(CheckHost, SlowSyncsAreTold) {
  EXPECT_EQ(JudgeSync(std::chrono::microseconds(1234)).what,
            "the catalog's folder is writable, a lasting write takes 1.23 ms");
  EXPECT_EQ(JudgeSync(std::chrono::microseconds(1234)).severity, Severity::kOk);
  EXPECT_EQ(JudgeSync(std::chrono::milliseconds(50)).severity, Severity::kWarn);
}

TEST_F(CheckHostTest, TheLeastLimitOfAllGroupsAboveCounts) {
  Write("a/b/memory.max", "1000000\n");
  Write("a/memory.max", "max\n");
  Write("memory.max", "900000\n");
  EXPECT_EQ(CgroupMemory(folder_, "0::/a/b\n"), 900000);
  EXPECT_EQ(CgroupMemory(folder_, "0::/not/seen/here\n"), 900000);
  fs::remove(folder_ + "/memory.max");
  EXPECT_EQ(CgroupMemory(folder_, "0::/a/b\n"), 1000000);
  EXPECT_EQ(CgroupMemory(folder_, "0::/a\n"), std::nullopt);
  EXPECT_EQ(CgroupMemory(folder_, ""), std::nullopt);
}

TEST_F(CheckHostTest, GroupsOfTheFirstVersionCountToo) {
  Write("memory/x/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(CgroupMemory(folder_, "9:name=systemd:/\n4:memory:/x\n0::/\n"), std::nullopt);
  Write("memory/memory.limit_in_bytes", "5000\n");
  EXPECT_EQ(CgroupMemory(folder_, "9:name=systemd:/\n4:memory:/x\n0::/\n"), 5000);
}

TEST(CheckHost, MemoryIsComparedWithTheGroupTheMachineAndThePipelines) {
  Config config;
  config.limits.memory = int64_t{512} << 20;
  const int64_t needed = int64_t{662} << 20;
  const auto severities = [&](std::optional<int64_t> group, int64_t machine) {
    std::vector<Severity> out;
    for (const CheckFinding& finding : JudgeMemory(config, group, machine))
      out.push_back(finding.severity);
    return out;
  };
  EXPECT_THAT(severities(std::nullopt, needed), ElementsAre(Severity::kOk));
  EXPECT_THAT(severities(needed, needed), ElementsAre(Severity::kOk));
  EXPECT_THAT(severities(needed - 1, needed), ElementsAre(Severity::kFail));
  EXPECT_THAT(severities(std::nullopt, needed - 1), ElementsAre(Severity::kWarn));
  for (const char* name : {"a", "b", "c"}) {
    config.pipelines[name].name = name;
    config.pipelines[name].batch_max_bytes = int64_t{43} << 20;
  }
  EXPECT_THAT(severities(std::nullopt, needed), ElementsAre(Severity::kWarn))
      << "256 MiB for 258 MiB of batches";
  config.pipelines["c"].enabled = false;
  EXPECT_THAT(severities(std::nullopt, needed), ElementsAre(Severity::kOk));
}

TEST_F(CheckHostTest, SecretsThatOthersMayReadAreNamed) {
  Config config;
  EXPECT_TRUE(CheckSecretFiles(config).empty()) << "nothing to say without files";
  config.sources["s"].password = SecretRef::File(Write("password", "not to be told"));
  SnowflakeConfig snowflake;
  snowflake.private_key = SecretRef::File(Write("key.p8", "nor this"));
  config.destinations["w"].snowflake = snowflake;
  EXPECT_THAT(CheckSecretFiles(config), ElementsAre(Field(&CheckFinding::severity, Severity::kOk)));
  chmod((folder_ + "/key.p8").c_str(), 0640);
  config.pipelines["p"].hash_key = SecretRef::File(folder_ + "/missing");
  const std::vector<CheckFinding> found = CheckSecretFiles(config);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].what, folder_ + "/key.p8 of destinations.w.private_key is not safe to use");
  EXPECT_EQ(found[0].why, "others may read it (mode 0640)");
  EXPECT_EQ(found[0].remedy, "chmod 600 " + folder_ + "/key.p8");
  EXPECT_THAT(found[1].what, HasSubstr("pipelines.p.hash_key"));
  fs::remove(folder_ + "/key.p8");
  fs::create_symlink(folder_ + "/password", folder_ + "/key.p8");
  EXPECT_EQ(CheckSecretFiles(config)[0].why, "it is a symbolic link");
}

TEST_F(CheckHostTest, AuthoritiesAreLookedForWhereTheyAreNeeded) {
  Config config;
  config.sources["near"].url = "postgres://u@127.0.0.1/x";
  EXPECT_TRUE(CheckAuthorities(config).empty());
  config.sources["far"].url = "postgres://u@db.example/x?sslrootcert=" + folder_ + "/ca.pem";
  EXPECT_THAT(
      CheckAuthorities(config),
      ElementsAre(Field(&CheckFinding::what, "source far: " + folder_ + "/ca.pem cannot be read")));
  Write("ca.pem", "x", 0644);
  EXPECT_THAT(CheckAuthorities(config), ElementsAre(Field(&CheckFinding::severity, Severity::kOk)));
  config.sources["far"].url = "postgres://u@db.example/x?sslmode=require";
  EXPECT_TRUE(CheckAuthorities(config).empty()) << "nothing is verified";
  config.destinations["w"].snowflake = SnowflakeConfig{};
  setenv("SSL_CERT_FILE", (folder_ + "/none.pem").c_str(), 1);
  EXPECT_THAT(CheckAuthorities(config),
              ElementsAre(Field(&CheckFinding::severity, Severity::kFail)));
  unsetenv("SSL_CERT_FILE");
  config.destinations["w"].snowflake->url = "http://127.0.0.1:1";
  EXPECT_TRUE(CheckAuthorities(config).empty());
}

}  // namespace
}  // namespace etl
