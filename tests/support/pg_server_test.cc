#include "support/pg_server.h"

#include <filesystem>

#include <gtest/gtest.h>

namespace etl {
namespace {

TEST(PgServer, StartsCrashesAndKeepsWhatWasCommitted) {
  auto started = PgServer::Start({.settings = {"log_min_messages=info"}});
  ASSERT_TRUE(started.ok()) << ErrorLine(started.status());
  PgServer& server = **started;
  EXPECT_EQ(server.Value("SHOW wal_level"), "logical");
  ASSERT_TRUE(server.Exec("CREATE TABLE t(id int); INSERT INTO t VALUES (7)").ok());
  ASSERT_TRUE(server.Crash().ok());
  EXPECT_FALSE(server.running());
  ASSERT_TRUE(server.Restart().ok());
  EXPECT_EQ(server.Value("SELECT id FROM t"), "7");
  ASSERT_TRUE(server.Restart().ok());
  EXPECT_EQ(server.Value("SELECT id FROM t"), "7");
}

TEST(PgServer, RemovesItsDirectory) {
  auto started = PgServer::Start();
  ASSERT_TRUE(started.ok()) << ErrorLine(started.status());
  const std::string directory = (*started)->directory();
  EXPECT_TRUE(std::filesystem::exists(directory));
  started->reset();
  EXPECT_FALSE(std::filesystem::exists(directory));
}

}  // namespace
}  // namespace etl
