#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "destination/snowflake/account.h"
#include "destination/snowflake/sql_answer.h"
#include "destination/snowflake/sql_error.h"
#include "net/api_session.h"

namespace etl {

/// One value for a `?` of a statement; not for several statements.
struct SqlBinding {
  std::string type;  ///< FIXED, TEXT, REAL …
  std::optional<std::string> value;
};

/// One request: a session of its own on the other side. Names are as SHOW commands print them.
struct SqlRequest {
  std::string what;    ///< for errors: "merge public.orders"
  std::string text;    ///< statements separated by ;
  int statements = 1;  ///< exactly so many
  std::vector<SqlBinding> bindings;
  std::string database;
  std::string schema;
  std::string warehouse;
  std::string role;
  std::map<std::string, std::string> parameters;  ///< of the session, such as timezone
  std::string query_tag;
  Duration timeout = std::chrono::minutes(10);  ///< the server ends it then
  /// Of one statement: gets the rows of each part of the result instead of the outcome, which then
  /// has columns only. An error of it is that of the request.
  std::function<Status(const SqlRows& rows)> on_rows;
  std::optional<Duration> submit_within;  ///< until it was taken; none: as the client's options say
};

struct SqlOutcome {
  Status status;
  std::vector<SqlRows> results;       ///< one a statement
  std::optional<SqlFailure> failure;  ///< the service's own terms, if it answered with a failure
  /// Nobody knows whether it was (or will be) carried out: no answer in time. Statements before the
  /// failed one of several, outside a transaction, are carried out in any case.
  bool outcome_unknown = false;
};

struct SqlClientOptions {
  std::string user_agent = "etl-stream/1.0";
  Duration poll_first = std::chrono::milliseconds(100);
  Duration poll_most = std::chrono::seconds(5);
  RetryOptions retry = {.initial = std::chrono::milliseconds(500),
                        .cap = std::chrono::seconds(10),
                        .within = std::chrono::minutes(2)};
};

/// The SQL API (`/api/v2/statements`): submits, waits by polling, fetches every partition of every
/// result. A request whose answer was lost is sent again with its request id, which runs it at most
/// once while the server remembers the id; across a crash only the SQL itself can see to that.
///
/// Owned and called by the thread that owns the session. Callbacks run inside ApiSession::Step or
/// Step, each once.
class SqlClient {
 public:
  using Done = std::function<void(SqlOutcome outcome, Instant now)>;
  using Id = uint64_t;

  SqlClient(SqlClientOptions options, SnowflakeAccount account, ApiSession& session)
      : options_(std::move(options)), account_(std::move(account)), session_(session) {}
  ~SqlClient();

  Id Run(const SqlRequest& request, Done done, Instant now);
  /// Asks the server to end it, without waiting for that. The callback will not be called.
  void Cancel(Id id, Instant now);
  /// After ApiSession::Step. True if anything was done.
  bool Step(Instant now);
  Instant next_deadline() const;
  /// Sent so far.
  int64_t statements() const { return statements_; }
  size_t running() const { return running_.size(); }

 private:
  struct Running {
    std::string what;
    Done done;
    int statements = 1;
    Instant ends_at{};  ///< given up then
    ApiSession::CallId call = 0;
    std::string handle;  ///< of the request as a whole, once known
    Instant poll_at = kNever;
    Duration poll_pause{};
    std::vector<std::string> to_fetch;  ///< handles of statements, in reverse
    std::string fetching;               ///< the handle whose partitions are fetched
    int partition = 0;                  ///< next to fetch
    int partitions = 0;
    std::vector<SqlRows> results;
    std::function<Status(const SqlRows& rows)> on_rows;
  };

  ApiCall MakeCall(const Running& running, HttpMethod method, const std::string& path,
                   std::string query) const;
  void Get(Id id, Running& running, const std::string& handle, std::string query, Instant now);
  void OnAnswer(Id id, const ApiResult& result, Instant now);
  void OnResult(Id id, Running& running, SqlAnswer answer, Instant now);
  void OnPartition(Id id, Running& running, SqlAnswer answer, Instant now);
  bool HandOver(Id id, Running& running, Instant now);
  void FetchNext(Id id, Running& running, Instant now);
  void SendCancel(const Running& running, Instant now);
  void Finish(Id id, SqlOutcome outcome, Instant now);

  const SqlClientOptions options_;
  const SnowflakeAccount account_;
  ApiSession& session_;
  std::map<Id, std::unique_ptr<Running>> running_;
  Id last_id_ = 0;
  int64_t statements_ = 0;
};

/// The body of a submission, as JSON.
std::string SqlRequestBody(const SqlRequest& request);

}  // namespace etl
