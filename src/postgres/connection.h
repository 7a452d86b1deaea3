#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <poll.h>

#include "base/clock.h"
#include "base/secret.h"
#include "base/status.h"
#include "model/position.h"

struct pg_conn;
struct pg_result;

namespace etl {

/// How to reach the source. Parsed once; every connection is made from it.
struct SourceOptions {
  std::string conninfo;  ///< libpq URL or keyword string, without the password
  Secret password;       ///< may be empty
  std::string application_name = "etl-stream";
  std::string lc_monetary;  ///< pinned in every session (rule 8.1); empty: the database's own
  /// Set by the owner when it wants to end: blocking calls then return soon, as at their deadline.
  const std::atomic<bool>* stop = nullptr;

  SourceOptions Clone() const;
};

/// "host:port/database" for messages; never user or password.
std::string DescribeSource(const SourceOptions& options);

/// Which authorities a connection believes.
struct SourceTrust {
  bool verifies = false;  ///< the server's certificate is looked at
  std::string file;       ///< PEM, or "system"; empty: none was found
};
SourceTrust TrustOf(const SourceOptions& options);

/// As the connection string names them; empty where it does not.
struct SourceLogin {
  std::string user;
  std::string database;
};
SourceLogin LoginOf(const SourceOptions& options);

/// `name` as an SQL identifier, `text` as an SQL literal. The only ways into SQL text.
std::string QuoteIdentifier(std::string_view name);
std::string QuoteLiteral(std::string_view text);
std::string QuoteTable(std::string_view schema, std::string_view name);

/// The result of one statement, all values as text.
class PgResult {
 public:
  explicit PgResult(pg_result* result) : result_(result) {}
  pg_result* get() const { return result_.get(); }
  int rows() const;
  int columns() const;
  bool Null(int row, int column) const;
  std::string_view Text(int row, int column) const;
  std::string String(int row, int column) const { return std::string(Text(row, column)); }
  int64_t Int(int row, int column) const;  ///< 0 for NULL
  uint32_t Oid(int row, int column) const { return static_cast<uint32_t>(Int(row, column)); }
  double Double(int row, int column) const;
  bool Bool(int row, int column) const { return Text(row, column) == "t"; }
  Lsn LsnAt(int row, int column) const;  ///< invalid for NULL

 private:
  struct Clear {
    void operator()(pg_result* result) const;
  };
  std::unique_ptr<pg_result, Clear> result_;
};

/// One session with the settings that make PostgreSQL's text the same for everyone (rule 8.1).
/// Owned by one thread. Either asynchronous (Start, PollConnect, Send, Poll) or blocking with a
/// deadline (Connect, Query); not both at once. No error ever shows the password.
class PgConnection {
 public:
  enum class Mode { kNormal, kReplication };

  /// Begins to connect; what fails at once is told by PollConnect.
  static std::unique_ptr<PgConnection> Start(const SourceOptions& options, Mode mode);
  /// true: ready for use. false: not yet, see AddPollFds.
  Result<bool> PollConnect();

  static Result<std::unique_ptr<PgConnection>> Connect(const SourceOptions& options, Mode mode,
                                                       Instant deadline);

  /// Runs one statement and waits; on the deadline it is cancelled and the error is transient.
  Result<PgResult> Query(const std::string& sql, Instant deadline);
  /// The same, calling `waiting` about every 100 ms.
  Result<PgResult> Query(const std::string& sql, Instant deadline,
                         const std::function<void()>& waiting);

  /// Sends one or several statements; then Poll until `busy()` is false.
  Status Send(const std::string& sql);
  /// The next result at hand. Errors of statements are results too (see Failed); an error here
  /// means that the connection is gone.
  Result<std::optional<PgResult>> Poll();
  /// Results are still to come.
  bool busy() const { return busy_; }

  void AddPollFds(std::vector<pollfd>& fds) const;
  /// Asks the server to cancel the statement at hand; waits for the server's postmaster only.
  void Cancel();

  int server_version() const;
  pg_conn* handle() const { return connection_.get(); }

 private:
  struct Finish {
    void operator()(pg_conn* connection) const;
  };
  PgConnection() = default;
  Status Failed(std::string_view message);
  std::string SettingsAfterConnect() const;

  std::unique_ptr<pg_conn, Finish> connection_;
  bool Asked() const { return stop_ != nullptr && stop_->load(); }

  std::string where_;
  const std::atomic<bool>* stop_ = nullptr;
  Status start_error_;
  enum class Phase { kConnecting, kSettings, kReady } phase_ = Phase::kConnecting;
  int connect_events_ = 0;
  bool busy_ = false;
  bool unsent_ = false;
};

/// The error of a statement's result, or OK.
Status StatementStatus(const PgResult& result, std::string_view what);
/// The SQLSTATE of a failed result; empty if it did not fail.
std::string SqlState(const PgResult& result);

/// Waits until one of `fds` has something or `deadline` has come.
void WaitFor(std::vector<pollfd>& fds, Instant deadline);

}  // namespace etl
