#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "base/status.h"

struct pg_conn;

namespace etl {

/// Rows of a query as text; none: NULL.
using PgRows = std::vector<std::vector<std::optional<std::string>>>;

struct PgServerOptions {
  /// Further settings, "name=value".
  std::vector<std::string> settings;
  /// Further arguments of initdb, such as "--encoding=LATIN1".
  std::vector<std::string> initdb_arguments;
};

/// A throw-away PostgreSQL server in a directory of its own, for tests: logical WAL, no fsync, a
/// Unix socket that trusts everyone and a loopback port that asks for a password (`kPassword`, role
/// postgres). Programs come from $ETL_PG_BINDIR, else the newest /usr/lib/postgresql.
///
/// The server ends with the thread that started it, however that ends; the destructor also removes
/// the directory. One thread.
class PgServer {
 public:
  static constexpr const char* kPassword = "scratch-password";

  static Result<std::unique_ptr<PgServer>> Start(const PgServerOptions& options = {});
  ~PgServer();
  PgServer(const PgServer&) = delete;
  PgServer& operator=(const PgServer&) = delete;

  /// Keyword string over the Unix socket, role postgres, database postgres.
  std::string ConnInfo(const std::string& database = "postgres") const;
  /// The same over 127.0.0.1, without the password.
  std::string TcpConnInfo(const std::string& database = "postgres") const;
  int port() const { return port_; }
  const std::string& directory() const { return directory_; }
  int version_num() const { return version_num_; }

  Status Exec(const std::string& sql);
  Result<PgRows> Query(const std::string& sql);
  /// First column of the first row; "NULL", "no row" or the error's text where there is none.
  std::string Value(const std::string& sql);

  /// Ends the server: in order (falls back to Crash when a client holds it up), or at once as a
  /// crash would.
  Status Stop();
  Status Crash();
  /// Starts it again on the same data, directory and port.
  Status Restart();
  bool running() const { return pid_ > 0; }

 private:
  PgServer() = default;
  Status Launch();
  Status WaitReady();
  Status End(int signal_number);
  Status RunTool(const std::vector<std::string>& command);
  pid_t Spawn(const std::vector<std::string>& command);
  pg_conn* Admin();
  void CloseAdmin();
  std::string LogTail() const;

  std::vector<std::string> settings_;
  std::string bin_;
  std::string directory_;
  int port_ = 0;
  int version_num_ = 0;
  pid_t pid_ = -1;
  pg_conn* admin_ = nullptr;
};

}  // namespace etl
