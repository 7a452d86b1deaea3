#include "destination/snowflake/key_rotation.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "destination/snowflake/user_keys.h"
#include "net/key_testing.h"

namespace etl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// A Snowflake that knows one user with two slots.
class KeyRotationTest : public ::testing::Test {
 protected:
  KeyRotationTest() {
    EXPECT_TRUE(TestKey()->WriteFile(file_, passphrase_).ok());
    slots_.first = TestKey()->fingerprint();
  }

  KeyRotation Plan(bool overwrite = false) {
    return {.user = "etl_user",
            .key_file = file_,
            .passphrase = [this]() -> Result<Secret> { return passphrase_.Clone(); },
            .overwrite_other = overwrite,
            .connect = [this](const std::string& file) { return Connect(file); },
            .say = [this](const std::string& line) { said_ += line + "\n"; }};
  }

  Result<StatementRunner> Connect(const std::string& file) {
    ETL_ASSIGN_OR_RETURN(const PrivateKeyPtr key, PrivateKey::ReadFile(file, passphrase_));
    return StatementRunner(
        [this, key](const SqlRequest& request) { return Answer(*key, request); });
  }

  SqlOutcome Answer(const PrivateKey& key, const SqlRequest& request) {
    statements_.push_back(request.text);
    if (key.fingerprint() != slots_.first && key.fingerprint() != slots_.second)
      return {.status = MakeError(ErrorKind::kAuth, "ETL-D103", "refused")};
    if (statements_.size() == fail_at_) return {.status = failure_};
    SqlRows rows;
    if (request.text == "DESC USER \"ETL_USER\"") {
      const auto row = [&](const char* name, const std::string& value) {
        rows.rows.push_back({name, value.empty() ? "null" : value});
      };
      row("NAME", "ETL_USER");
      row("RSA_PUBLIC_KEY_FP", slots_.first);
      row("RSA_PUBLIC_KEY_2_FP", slots_.second);
    } else if (request.text.starts_with("ALTER USER \"ETL_USER\" SET RSA_PUBLIC_KEY_2='")) {
      slots_.second = FingerprintOfNew();
    } else if (request.text.starts_with("ALTER USER \"ETL_USER\" SET RSA_PUBLIC_KEY='")) {
      slots_.first = FingerprintOfNew();
    } else if (request.text == "ALTER USER \"ETL_USER\" UNSET RSA_PUBLIC_KEY") {
      slots_.first.clear();
    } else if (request.text == "ALTER USER \"ETL_USER\" UNSET RSA_PUBLIC_KEY_2") {
      slots_.second.clear();
    }
    return {.status = Status::OK(), .results = {rows}};
  }
  std::string FingerprintOfNew() const {
    return (*PrivateKey::ReadFile(file_ + ".new", passphrase_))->fingerprint();
  }
  std::string Current() const { return (*PrivateKey::ReadFile(file_, passphrase_))->fingerprint(); }

  const ScratchFolder folder_;
  const std::string file_ = folder_ / "etl.p8";
  const Secret passphrase_{std::string("canary-phrase")};
  UserKeys slots_;
  std::vector<std::string> statements_;
  std::string said_;
  size_t fail_at_ = 0;
  Status failure_ = MakeError(ErrorKind::kTransient, "ETL-D111", "cut off");
};

TEST_F(KeyRotationTest, MovesToTheOtherSlotAndBack) {
  const std::string first = Current();
  ASSERT_TRUE(RotateKey(Plan()).ok());
  const std::string second = Current();
  EXPECT_NE(first, second);
  EXPECT_EQ(slots_.first, "");
  EXPECT_EQ(slots_.second, second);
  EXPECT_FALSE(std::filesystem::exists(file_ + ".new"));
  ASSERT_TRUE(RotateKey(Plan()).ok());
  EXPECT_EQ(slots_.first, Current());
  EXPECT_EQ(slots_.second, "");
  EXPECT_THAT(said_, Not(HasSubstr("canary")));
}

TEST_F(KeyRotationTest, EndedAnywhereTheFileHoldsAValidKeyAndItCanGoOn) {
  for (size_t step = 1; step <= 6; ++step) {
    statements_.clear();
    fail_at_ = step;
    const Status status = RotateKey(Plan());
    EXPECT_FALSE(status.ok()) << step;
    EXPECT_TRUE(Current() == slots_.first || Current() == slots_.second) << step;
    statements_.clear();
    fail_at_ = 0;
    const Status again = RotateKey(Plan(true));
    EXPECT_TRUE(again.ok()) << step << ErrorLine(again);
    EXPECT_TRUE(Current() == slots_.first || Current() == slots_.second);
    EXPECT_TRUE(slots_.first.empty() != slots_.second.empty());
  }
}

TEST_F(KeyRotationTest, AForeignKeyIsNotOverwrittenUnasked) {
  slots_.second = "SHA256:somebody";
  const Status status = RotateKey(Plan());
  EXPECT_EQ(PartsOf(status).code, "ETL-U005");
  EXPECT_THAT(PartsOf(status).remedy, HasSubstr("UNSET RSA_PUBLIC_KEY_2"));
  EXPECT_EQ(slots_.second, "SHA256:somebody");
  EXPECT_TRUE(RotateKey(Plan(true)).ok());
}

TEST_F(KeyRotationTest, WithoutTheRightTheSqlForSomebodyElseIsTold) {
  fail_at_ = 2;
  failure_ = MakeError(ErrorKind::kAuth, "ETL-D104", "not allowed");
  const Status status = RotateKey(Plan());
  EXPECT_THAT(PartsOf(status).remedy,
              HasSubstr("ALTER USER \"ETL_USER\" SET RSA_PUBLIC_KEY_2='MII"));
  EXPECT_EQ(Current(), slots_.first);
}

TEST(UserKeys, NamesAreQuoted) {
  EXPECT_EQ(DescribeUserSql("a\"b; DROP"), "DESC USER \"A\"\"B; DROP\"");
  EXPECT_FALSE(ReadUserKeys(SqlRows()).ok());
}

}  // namespace
}  // namespace etl
