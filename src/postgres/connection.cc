#include "postgres/connection.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <map>

#include <fmt/format.h>
#include <libpq-fe.h>
#include <unistd.h>

#include "base/ca_file.h"
#include "postgres/server_error.h"

namespace etl {
namespace {

using Parameters = std::map<std::string, std::string>;

// Settings that fix the text of values, and time limits that would end a long read. They are
// startup options, because these win over what role and database set (which reaches the stream's
// text otherwise).
constexpr std::string_view kSessionSettings =
    "-c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=3 -c timezone=UTC "
    "-c bytea_output=hex -c statement_timeout=0 -c lock_timeout=0 "
    "-c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0 -c row_security=off "
    "-c search_path=pg_catalog -c xmloption=content -c quote_all_identifiers=off "
    "-c jit=off";  // Compiling the catalog queries takes a hundred times as long as running them.

std::optional<Parameters> ParseConninfo(const std::string& conninfo) {
  char* message = nullptr;
  PQconninfoOption* options = PQconninfoParse(conninfo.c_str(), &message);
  if (message != nullptr) PQfreemem(message);
  if (options == nullptr) return std::nullopt;
  Parameters parameters;
  for (PQconninfoOption* option = options; option->keyword != nullptr; ++option) {
    if (option->val != nullptr && option->val[0] != '\0') parameters[option->keyword] = option->val;
  }
  PQconninfoFree(options);
  return parameters;
}

bool IsLocal(std::string_view host) {
  return host.empty() || host.front() == '/' || host.front() == '@' || host == "localhost" ||
         host.starts_with("127.") || host == "::1";
}

bool AllLocal(const Parameters& parameters) {
  if (parameters.contains("service")) return false;
  std::string hosts;
  if (const auto it = parameters.find("hostaddr"); it != parameters.end()) {
    hosts = it->second;
  } else if (const auto name = parameters.find("host"); name != parameters.end()) {
    hosts = name->second;
  } else if (const char* environment = std::getenv("PGHOSTADDR")) {
    hosts = environment;
  } else if (const char* fallback = std::getenv("PGHOST")) {
    hosts = fallback;
  }
  size_t at = 0;
  while (at <= hosts.size()) {
    const size_t end = std::min(hosts.find(',', at), hosts.size());
    if (!IsLocal(std::string_view(hosts).substr(at, end - at))) return false;
    at = end + 1;
  }
  return true;
}

// Within `options`, spaces and backslashes of a value are escaped by a backslash.
std::string OptionValue(std::string_view value) {
  std::string escaped;
  for (char c : value) {
    if (c == ' ' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

void Complete(const SourceOptions& options, PgConnection::Mode mode, Parameters& parameters) {
  // Written in the configuration or verified: the environment does not weaken it unseen.
  if (!parameters.contains("sslmode") && !AllLocal(parameters))
    parameters["sslmode"] = "verify-full";
  const auto tls = parameters.find("sslmode");
  if (tls != parameters.end() && tls->second.starts_with("verify-") &&
      !parameters.contains("sslrootcert") && std::getenv("PGSSLROOTCERT") == nullptr) {
    if (const std::string bundle = SystemCaFile(); !bundle.empty())
      parameters["sslrootcert"] = bundle;
  }
  parameters.emplace("gssencmode", "disable");
  parameters.emplace("application_name", options.application_name);
  parameters.emplace("connect_timeout", "10");
  parameters.emplace("keepalives", "1");
  parameters.emplace("keepalives_idle", "30");
  parameters.emplace("keepalives_interval", "10");
  parameters.emplace("keepalives_count", "3");
  parameters.emplace("tcp_user_timeout", "60000");
  parameters["client_encoding"] = "UTF8";
  parameters.erase("replication");
  if (mode == PgConnection::Mode::kReplication) parameters["replication"] = "database";
  std::string& session = parameters["options"];
  if (!session.empty()) session += ' ';
  session += kSessionSettings;
  if (!options.lc_monetary.empty())
    session += " -c lc_monetary=" + OptionValue(options.lc_monetary);
}

void IgnoreNotice(void*, const PGresult*) {}

bool EntersCopy(const PGresult* result) {
  const ExecStatusType state = PQresultStatus(result);
  return state == PGRES_COPY_OUT || state == PGRES_COPY_IN || state == PGRES_COPY_BOTH;
}

}  // namespace

SourceOptions SourceOptions::Clone() const {
  return SourceOptions{.conninfo = conninfo,
                       .password = password.Clone(),
                       .application_name = application_name,
                       .lc_monetary = lc_monetary,
                       .stop = stop};
}

std::string DescribeSource(const SourceOptions& options) {
  const std::optional<Parameters> parameters = ParseConninfo(options.conninfo);
  if (!parameters) return "source";
  const auto get = [&](const char* key, const char* otherwise) -> std::string {
    const auto it = parameters->find(key);
    return it == parameters->end() ? otherwise : it->second;
  };
  std::string text = parameters->contains("host") ? get("host", "") : get("hostaddr", "local");
  if (parameters->contains("port")) text += ":" + get("port", "");
  if (parameters->contains("dbname")) text += "/" + get("dbname", "");
  return text;
}

SourceTrust TrustOf(const SourceOptions& options) {
  std::optional<Parameters> parameters = ParseConninfo(options.conninfo);
  if (!parameters) return {};
  Complete(options, PgConnection::Mode::kNormal, *parameters);
  SourceTrust trust;
  trust.verifies = (*parameters)["sslmode"].starts_with("verify-");
  const char* environment = std::getenv("PGSSLROOTCERT");
  trust.file = (*parameters)["sslrootcert"];
  if (trust.file.empty() && environment != nullptr) trust.file = environment;
  return trust;
}

SourceLogin LoginOf(const SourceOptions& options) {
  std::optional<Parameters> parameters = ParseConninfo(options.conninfo);
  if (!parameters) return {};
  return {.user = (*parameters)["user"], .database = (*parameters)["dbname"]};
}

std::string QuoteIdentifier(std::string_view name) {
  std::string quoted = "\"";
  for (char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string QuoteLiteral(std::string_view text) {
  // The E form, so that a backslash means the same whatever standard_conforming_strings says.
  std::string quoted = text.find('\\') == text.npos ? "'" : " E'";
  for (char c : text) {
    if (c == '\'' || c == '\\') quoted += c;
    quoted += c;
  }
  return quoted + '\'';
}

std::string QuoteTable(std::string_view schema, std::string_view name) {
  return QuoteIdentifier(schema) + "." + QuoteIdentifier(name);
}

void PgResult::Clear::operator()(PGresult* result) const { PQclear(result); }
int PgResult::rows() const { return PQntuples(result_.get()); }
int PgResult::columns() const { return PQnfields(result_.get()); }
bool PgResult::Null(int row, int column) const {
  return PQgetisnull(result_.get(), row, column) != 0;
}

std::string_view PgResult::Text(int row, int column) const {
  const char* value = PQgetvalue(result_.get(), row, column);
  if (value == nullptr) return {};
  return {value, static_cast<size_t>(PQgetlength(result_.get(), row, column))};
}

int64_t PgResult::Int(int row, int column) const {
  const std::string_view text = Text(row, column);
  int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

double PgResult::Double(int row, int column) const {
  return std::strtod(String(row, column).c_str(), nullptr);
}

Lsn PgResult::LsnAt(int row, int column) const {
  return Null(row, column) ? Lsn{} : ParseLsn(Text(row, column)).value_or(Lsn{});
}

void PgConnection::Finish::operator()(PGconn* connection) const { PQfinish(connection); }

std::unique_ptr<PgConnection> PgConnection::Start(const SourceOptions& options, Mode mode) {
  std::unique_ptr<PgConnection> self(new PgConnection());
  self->where_ = "connect to " + DescribeSource(options);
  self->stop_ = options.stop;
  std::optional<Parameters> parameters = ParseConninfo(options.conninfo);
  if (!parameters) {
    // libpq's own words are left out: they may repeat a password that was written in the wrong
    // place.
    self->start_error_ =
        MakeError(ErrorKind::kConfig, "ETL-S101", "the source's url cannot be parsed",
                  "write it as postgres://user@host:port/database");
    return self;
  }
  Complete(options, mode, *parameters);
  std::string password(options.password.Reveal());
  std::vector<const char*> keywords;
  std::vector<const char*> values;
  for (const auto& [keyword, value] : *parameters) {
    if (keyword == "password" && !password.empty()) continue;
    keywords.push_back(keyword.c_str());
    values.push_back(value.c_str());
  }
  if (!password.empty()) {
    keywords.push_back("password");
    values.push_back(password.c_str());
  }
  keywords.push_back(nullptr);
  values.push_back(nullptr);
  self->connection_.reset(PQconnectStartParams(keywords.data(), values.data(), 0));
  WipeString(password);
  if (self->connection_ == nullptr) {
    self->start_error_ =
        MakeError(ErrorKind::kTransient, "ETL-S101", self->where_ + ": out of memory");
    return self;
  }
  PQsetErrorVerbosity(self->connection_.get(), PQERRORS_VERBOSE);
  PQsetNoticeReceiver(self->connection_.get(), IgnoreNotice, nullptr);
  self->connect_events_ = POLLOUT;
  return self;
}

Status PgConnection::Failed(std::string_view message) { return MapConnectError(message, where_); }

std::string PgConnection::SettingsAfterConnect() const {
  std::string sql;
  // Unknown to older servers, and therefore no startup option.
  if (server_version() >= 170000) sql += "SET transaction_timeout = 0;";
  const char* encoding = PQparameterStatus(connection_.get(), "server_encoding");
  // Bytes of such a database have no known encoding: they are taken as they are and checked by us.
  if (encoding != nullptr && std::strcmp(encoding, "SQL_ASCII") == 0)
    sql += "SET client_encoding = 'SQL_ASCII';";
  return sql;
}

Result<bool> PgConnection::PollConnect() {
  if (!start_error_.ok()) return start_error_;
  if (phase_ == Phase::kConnecting) {
    if (PQstatus(connection_.get()) == CONNECTION_BAD)
      return Failed(PQerrorMessage(connection_.get()));
    // libpq must not be asked again before the socket is ready.
    pollfd ready{.fd = PQsocket(connection_.get()),
                 .events = static_cast<short>(connect_events_),
                 .revents = 0};
    if (poll(&ready, 1, 0) == 0) return false;
    switch (PQconnectPoll(connection_.get())) {
      case PGRES_POLLING_FAILED: return Failed(PQerrorMessage(connection_.get()));
      case PGRES_POLLING_READING: connect_events_ = POLLIN; return false;
      case PGRES_POLLING_WRITING: connect_events_ = POLLOUT; return false;
      default: break;
    }
    PQsetErrorVerbosity(connection_.get(), PQERRORS_DEFAULT);
    PQsetnonblocking(connection_.get(), 1);
    if (server_version() < 140000) {
      return MakeError(
          ErrorKind::kConfig, "ETL-S109",
          fmt::format("{}: PostgreSQL {} is too old", where_, server_version() / 10000),
          "use PostgreSQL 14 or newer");
    }
    const std::string settings = SettingsAfterConnect();
    if (settings.empty()) {
      phase_ = Phase::kReady;
      return true;
    }
    phase_ = Phase::kSettings;
    ETL_RETURN_IF_ERROR(Send(settings));
  }
  while (phase_ == Phase::kSettings) {
    ETL_ASSIGN_OR_RETURN(std::optional<PgResult> result, Poll());
    if (result) {
      ETL_RETURN_IF_ERROR(StatementStatus(*result, where_));
    } else if (busy_) {
      return false;
    } else {
      phase_ = Phase::kReady;
    }
  }
  return true;
}

// How soon a blocking call notices that it was asked to end.
constexpr Duration kLookForStop = std::chrono::milliseconds(100);

Result<std::unique_ptr<PgConnection>> PgConnection::Connect(const SourceOptions& options, Mode mode,
                                                            Instant deadline) {
  std::unique_ptr<PgConnection> connection = Start(options, mode);
  while (true) {
    ETL_ASSIGN_OR_RETURN(const bool ready, connection->PollConnect());
    if (ready) return connection;
    if (SystemClock().Now() >= deadline || connection->Asked()) {
      return MakeError(ErrorKind::kTransient, "ETL-S101",
                       connection->where_ + ": no answer in time",
                       "check host, port and firewalls");
    }
    std::vector<pollfd> fds;
    connection->AddPollFds(fds);
    WaitFor(fds, std::min<Instant>(deadline, SystemClock().Now() + kLookForStop));
  }
}

Result<PgResult> PgConnection::Query(const std::string& sql, Instant deadline) {
  return Query(sql, deadline, nullptr);
}

Result<PgResult> PgConnection::Query(const std::string& sql, Instant deadline,
                                     const std::function<void()>& waiting) {
  ETL_RETURN_IF_ERROR(Send(sql));
  std::optional<PgResult> last;
  bool cancelled = false;
  Instant until = deadline;
  while (true) {
    ETL_ASSIGN_OR_RETURN(std::optional<PgResult> result, Poll());
    if (result) {
      // The first failure says more than what follows it.
      if (!last || SqlState(*last).empty()) last = std::move(result);
      continue;
    }
    if (!busy_) break;
    const Instant now = SystemClock().Now();
    if (now >= until || (Asked() && !cancelled)) {
      if (cancelled)
        return MakeError(ErrorKind::kTransient, "ETL-S204", where_ + ": no answer to a cancel");
      cancelled = true;
      until = now + std::chrono::seconds(5);
      Cancel();
    }
    std::vector<pollfd> fds;
    AddPollFds(fds);
    WaitFor(fds, std::min<Instant>(until, now + kLookForStop));
    if (waiting) waiting();
  }
  if (!last) return MakeError(ErrorKind::kTransient, "ETL-S204", where_ + ": no result");
  ETL_RETURN_IF_ERROR(StatementStatus(*last, "query of the source"));
  return std::move(*last);
}

Status PgConnection::Send(const std::string& sql) {
  if (PQsendQuery(connection_.get(), sql.c_str()) != 1)
    return MapConnectionLost(connection_.get(), where_);
  busy_ = true;
  unsent_ = true;
  return Status::OK();
}

Result<std::optional<PgResult>> PgConnection::Poll() {
  if (!busy_) return std::nullopt;
  if (unsent_) {
    const int flushed = PQflush(connection_.get());
    if (flushed < 0) return MapConnectionLost(connection_.get(), where_);
    unsent_ = flushed > 0;
  }
  if (PQisBusy(connection_.get())) {
    if (PQconsumeInput(connection_.get()) != 1) return MapConnectionLost(connection_.get(), where_);
    if (PQisBusy(connection_.get())) return std::nullopt;
  }
  PGresult* result = PQgetResult(connection_.get());
  if (result == nullptr) {
    busy_ = false;
    return std::nullopt;
  }
  // During COPY results do not end: the caller takes over until the copy has ended.
  PgResult answer(result);
  if (PQresultStatus(result) == PGRES_FATAL_ERROR &&
      PQstatus(connection_.get()) == CONNECTION_BAD) {
    busy_ = false;
    return MapResultError(result, where_);
  }
  if (EntersCopy(result)) unsent_ = false;
  return std::optional<PgResult>(std::move(answer));
}

void PgConnection::AddPollFds(std::vector<pollfd>& fds) const {
  if (connection_ == nullptr || PQsocket(connection_.get()) < 0) return;
  short events = POLLIN;
  if (phase_ == Phase::kConnecting) {
    events = static_cast<short>(connect_events_);
  } else if (unsent_) {
    events = POLLIN | POLLOUT;
  }
  fds.push_back(pollfd{.fd = PQsocket(connection_.get()), .events = events, .revents = 0});
}

void PgConnection::Cancel() {
  PGcancel* cancel = PQgetCancel(connection_.get());
  if (cancel == nullptr) return;
  char message[256];
  PQcancel(cancel, message, sizeof(message));
  PQfreeCancel(cancel);
}

int PgConnection::server_version() const { return PQserverVersion(connection_.get()); }

Status StatementStatus(const PgResult& result, std::string_view what) {
  switch (PQresultStatus(result.get())) {
    case PGRES_BAD_RESPONSE:
    case PGRES_FATAL_ERROR: return MapResultError(result.get(), what);
    default: return Status::OK();
  }
}

std::string SqlState(const PgResult& result) {
  if (PQresultStatus(result.get()) != PGRES_FATAL_ERROR) return {};
  const char* state = PQresultErrorField(result.get(), PG_DIAG_SQLSTATE);
  return state == nullptr ? "XX000" : state;
}

void WaitFor(std::vector<pollfd>& fds, Instant deadline) {
  int timeout = -1;
  if (deadline != kNever) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - SystemClock().Now()).count();
    timeout = static_cast<int>(std::clamp<int64_t>(left, 0, 1000 * 3600));
  }
  (void)poll(fds.data(), fds.size(), timeout);
}

}  // namespace etl
