#include "batch/spill_file.h"

#include <cstdlib>
#include <filesystem>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace etl {
namespace {

using ::testing::HasSubstr;

class SpillFileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "spill_file_test_" + std::to_string(getpid());
    std::filesystem::create_directory(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::unique_ptr<SpillFile> File(ByteBudget* disk = nullptr) {
    Result<std::unique_ptr<SpillFile>> made = SpillFile::Make(folder_, disk);
    EXPECT_TRUE(made.ok()) << ErrorLine(made.status());
    return std::move(*made);
  }
  // The descriptor that was opened last: the file has no name to find it by.
  static int LastDescriptor() {
    const int probe = dup(0);
    close(probe);
    return probe - 1;
  }
  std::string folder_;
};

TEST_F(SpillFileTest, GivesBackItsBlocksInOrder) {
  const std::unique_ptr<SpillFile> file = File();
  const std::string blocks[] = {"first", std::string(300'000, 'x'), "", "last"};
  for (const std::string& block : blocks) ASSERT_TRUE(file->Append(block).ok());
  std::string read;
  for (const std::string& block : blocks) {
    ASSERT_EQ(file->Next(&read).ValueOr(false), true);
    EXPECT_EQ(read, block);
  }
  EXPECT_EQ(file->Next(&read).ValueOr(true), false);
}

TEST_F(SpillFileTest, HasNoNameAndIsNobodyElses) {
  const std::unique_ptr<SpillFile> file = File();
  ASSERT_TRUE(file->Append("secret row").ok());
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
  struct stat facts {};
  ASSERT_EQ(fstat(LastDescriptor(), &facts), 0);
  EXPECT_EQ(facts.st_nlink, 0U);
  EXPECT_EQ(facts.st_mode & 0777, 0600U);
}

TEST_F(SpillFileTest, NoticesAByteThatChanged) {
  const std::unique_ptr<SpillFile> file = File();
  ASSERT_TRUE(file->Append("what was written").ok());
  ASSERT_EQ(pwrite(LastDescriptor(), "W", 1, 16), 1);
  std::string read;
  const Result<bool> next = file->Next(&read);
  ASSERT_FALSE(next.ok());
  EXPECT_EQ(PartsOf(next.status()).code, "ETL-R102");
  EXPECT_EQ(KindOf(next.status()), ErrorKind::kTransient);
}

TEST_F(SpillFileTest, NoticesThatItsEndIsGone) {
  const std::unique_ptr<SpillFile> file = File();
  ASSERT_TRUE(file->Append("what was written").ok());
  ASSERT_EQ(ftruncate(LastDescriptor(), 20), 0);
  std::string read;
  EXPECT_FALSE(file->Next(&read).ok());
}

TEST_F(SpillFileTest, StopsAtTheLimitAndGivesTheRoomBack) {
  ByteBudget disk(1000);
  {
    const std::unique_ptr<SpillFile> file = File(&disk);
    ASSERT_TRUE(file->Append(std::string(900, 'x')).ok());
    const Status full = file->Append(std::string(900, 'y'));
    EXPECT_EQ(PartsOf(full).code, "ETL-S220");
    EXPECT_EQ(KindOf(full), ErrorKind::kData);
    EXPECT_THAT(PartsOf(full).remedy, HasSubstr("limits.spill"));
    EXPECT_EQ(disk.used(), file->bytes());
  }
  EXPECT_EQ(disk.used(), 0);
}

TEST_F(SpillFileTest, AFolderThatIsNotThereIsAnErrorOfTheConfiguration) {
  const Result<std::unique_ptr<SpillFile>> made = SpillFile::Make(folder_ + "/none", nullptr);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(PartsOf(made.status()).code, "ETL-C140");
  EXPECT_EQ(KindOf(made.status()), ErrorKind::kConfig);
}

TEST_F(SpillFileTest, AFullDiskIsSaidAndMayPass) {
  // Stands for a full disk: no file may grow past this.
  const std::unique_ptr<SpillFile> file = File();
  ASSERT_TRUE(file->Append("fits").ok());
  const int full = open("/dev/full", O_RDWR | O_CLOEXEC);
  ASSERT_GE(full, 0);
  ASSERT_GE(dup2(full, LastDescriptor() - 1), 0);
  const Status status = file->Append("does not");
  close(full);
  EXPECT_EQ(PartsOf(status).code, "ETL-R102") << ErrorLine(status);
  EXPECT_EQ(KindOf(status), ErrorKind::kTransient);
}

}  // namespace
}  // namespace etl
