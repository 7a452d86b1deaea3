#include "catalog/catalog.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/log.h"

namespace etl {
namespace {

constexpr int64_t kApplicationId = 0x45544c53;  // "ETLS"
constexpr int64_t kSchemaVersion = 1;
constexpr int64_t kEventsKept = 1000;

// One entry for each version: the statements that lead from the version before to it. Entries are
// never changed once released.
constexpr const char* kVersion1[] = {
    "CREATE TABLE pipelines (name TEXT PRIMARY KEY, paused INTEGER NOT NULL DEFAULT 0) STRICT",
    "CREATE TABLE requests (id INTEGER PRIMARY KEY AUTOINCREMENT, pipeline TEXT NOT NULL, kind "
    "TEXT NOT NULL,"
    " table_name TEXT NOT NULL, at INTEGER NOT NULL, done_at INTEGER, outcome TEXT) STRICT",
    "CREATE INDEX requests_open ON requests (pipeline, id) WHERE done_at IS NULL",
    "CREATE TABLE status (pipeline TEXT PRIMARY KEY, at INTEGER NOT NULL, document TEXT NOT NULL) "
    "STRICT",
    "CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, pipeline TEXT "
    "NOT NULL,"
    " kind TEXT NOT NULL, text TEXT NOT NULL) STRICT",
    "CREATE INDEX events_of_pipeline ON events (pipeline, id)",
};

std::optional<RequestKind> ParseRequestKind(std::string_view name) {
  for (RequestKind kind : {RequestKind::kStart, RequestKind::kPause, RequestKind::kResync,
                           RequestKind::kDrop, RequestKind::kVerify, RequestKind::kSync}) {
    if (name == RequestKindName(kind)) return kind;
  }
  return std::nullopt;
}

// Processes open catalogs of one folder one after the other: making a file, turning it to WAL and
// migrating it are several steps, of which nobody else may see a part.
class OpeningTurn {
 public:
  explicit OpeningTurn(const std::string& path) {
    const size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    fd_ = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    // A process that was stopped while it held the turn must not hold up the others for ever, and
    // some network file systems know no such lock.
    for (int tries = 0; fd_ >= 0 && tries < 1000; ++tries) {
      if (flock(fd_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
      poll(nullptr, 0, 5);
    }
  }
  ~OpeningTurn() {
    if (fd_ >= 0) close(fd_);
  }
  OpeningTurn(const OpeningTurn&) = delete;
  OpeningTurn& operator=(const OpeningTurn&) = delete;

 private:
  int fd_;
};

}  // namespace

std::string_view RequestKindName(RequestKind kind) {
  switch (kind) {
    case RequestKind::kStart: return "start";
    case RequestKind::kPause: return "pause";
    case RequestKind::kResync: return "resync";
    case RequestKind::kDrop: return "drop";
    case RequestKind::kVerify: return "verify";
    case RequestKind::kSync: return "sync";
  }
  return "start";
}

Result<std::unique_ptr<Catalog>> Catalog::Open(const std::string& path, const Clock& clock) {
  const OpeningTurn turn(path);
  std::unique_ptr<Catalog> catalog(new Catalog(path, clock));
  Status opened = catalog->OpenFile();
  if (IsCorrupt(opened)) {
    ETL_RETURN_IF_ERROR(catalog->SetAside(opened));
    opened = catalog->OpenFile();
  }
  ETL_RETURN_IF_ERROR(opened);
  return catalog;
}

Status Catalog::OpenFile() {
  // SQLite gives its side files the rights of the main file, so that one is made first, for us
  // alone.
  // One that exists is not opened here: closing it again would let go of the locks that SQLite
  // holds on it elsewhere in this process.
  const int fd = open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0 && errno != EEXIST) {
    return MakeError(
        ErrorKind::kConfig,
        ErrorParts{
            .code = "ETL-C051",
            .what = fmt::format("the catalog {} cannot be opened for writing", path_),
            .why = std::strerror(errno),
            .safe = {},
            .remedy = "let `catalog` name a file in a folder that exists and may be written to"});
  }
  if (fd >= 0) close(fd);
  ETL_RETURN_IF_ERROR(file_.Open(path_));
  return Prepare();
}

// Looks whose file it is before anything is written to it. Nobody else is opening it meanwhile.
Status Catalog::Prepare() {
  ETL_ASSIGN_OR_RETURN(const int64_t application, file_.Number("PRAGMA application_id"));
  ETL_ASSIGN_OR_RETURN(const int64_t found, file_.Number("PRAGMA user_version"));
  ETL_ASSIGN_OR_RETURN(const int64_t tables, file_.Number("SELECT count(*) FROM sqlite_schema"));
  if (application != kApplicationId && (application != 0 || found != 0 || tables != 0)) {
    return MakeError(ErrorKind::kConfig, "ETL-C052",
                     fmt::format("{} is an SQLite file of another program", path_),
                     "let `catalog` name another file");
  }
  if (found > kSchemaVersion) {
    return MakeError(
        ErrorKind::kConfig, "ETL-C050",
        fmt::format(
            "the catalog {} was written by a newer version (format {}, this program knows {})",
            path_, found, kSchemaVersion),
        "use the newer program, or let `catalog` name another file");
  }
  ETL_RETURN_IF_ERROR(file_.Run("PRAGMA journal_mode = WAL"));
  ETL_RETURN_IF_ERROR(file_.Run("PRAGMA synchronous = NORMAL"));
  if (found == kSchemaVersion) return Status::OK();
  SqliteTransaction transaction(file_);
  ETL_RETURN_IF_ERROR(transaction.Begin());
  for (const char* sql : kVersion1) ETL_RETURN_IF_ERROR(file_.Run(sql));
  ETL_RETURN_IF_ERROR(file_.Run(fmt::format("PRAGMA application_id = {}", kApplicationId).c_str()));
  ETL_RETURN_IF_ERROR(file_.Run(fmt::format("PRAGMA user_version = {}", kSchemaVersion).c_str()));
  return transaction.Commit();
}

Status Catalog::SetAside(const Status& why) {
  file_.Close();
  const std::string kept = path_ + ".damaged";
  for (const char* suffix : {"", "-wal", "-shm"}) {
    if (std::rename((path_ + suffix).c_str(), (kept + suffix).c_str()) != 0 && errno != ENOENT)
      return why;
  }
  LogWarn(
      "the catalog was damaged and is replaced by a new one; wishes and history are lost, rows are "
      "not",
      {{"catalog", path_}, {"kept", kept}});
  return Status::OK();
}

Result<int64_t> Catalog::PutRequest(std::string_view pipeline, RequestKind kind,
                                    std::string_view table) {
  const std::lock_guard<std::mutex> lock(mutex_);
  // Somebody is told that this was noted, so it must survive a power cut.
  ETL_RETURN_IF_ERROR(file_.Run("PRAGMA synchronous = FULL"));
  SqliteTransaction transaction(file_);
  ETL_RETURN_IF_ERROR(transaction.Begin());
  ETL_RETURN_IF_ERROR(
      file_.Run("INSERT INTO requests (pipeline, kind, table_name, at) VALUES (?, ?, ?, ?)",
                {pipeline, RequestKindName(kind), table, clock_.WallNow()}));
  const int64_t id = file_.last_insert_id();
  const bool whole = table.empty() && (kind == RequestKind::kStart || kind == RequestKind::kPause);
  if (whole || kind == RequestKind::kSync) {
    ETL_RETURN_IF_ERROR(
        file_.Run("INSERT INTO pipelines (name, paused) VALUES (?1, ?2)"
                  " ON CONFLICT (name) DO UPDATE SET paused = ?2",
                  {pipeline, int64_t{kind == RequestKind::kPause ? 1 : 0}}));
  }
  ETL_RETURN_IF_ERROR(transaction.Commit());
  ETL_RETURN_IF_ERROR(file_.Run("PRAGMA synchronous = NORMAL"));
  return id;
}

Result<std::vector<Request>> Catalog::TakeRequests(std::string_view pipeline) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ETL_ASSIGN_OR_RETURN(SqliteFile::Rows rows,
                       file_.Query("SELECT id, pipeline, kind, table_name, at FROM requests"
                                   " WHERE pipeline = ? AND done_at IS NULL ORDER BY id",
                                   {pipeline}));
  std::vector<Request> requests;
  while (true) {
    ETL_ASSIGN_OR_RETURN(const bool more, rows.Next());
    if (!more) return requests;
    const std::optional<RequestKind> kind = ParseRequestKind(rows.Text(2));
    if (!kind.has_value()) continue;
    requests.push_back({rows.Int(0), rows.Text(1), *kind, rows.Text(3), rows.Int(4)});
  }
}

Status Catalog::Acknowledge(int64_t id, std::string_view outcome) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return file_.Run("UPDATE requests SET done_at = ?, outcome = ? WHERE id = ? AND done_at IS NULL",
                   {clock_.WallNow(), outcome, id});
}

Status Catalog::Tell(int64_t id, std::string_view line) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return file_.Run("UPDATE requests SET outcome = ? WHERE id = ? AND done_at IS NULL", {line, id});
}

Result<RequestState> Catalog::StateOf(int64_t id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ETL_ASSIGN_OR_RETURN(
      SqliteFile::Rows rows,
      file_.Query("SELECT done_at IS NOT NULL, outcome FROM requests WHERE id = ?", {id}));
  ETL_ASSIGN_OR_RETURN(const bool found, rows.Next());
  // A pipeline that was forgotten took its requests along: that is done, too.
  if (!found) return RequestState{.done = true, .outcome = {}};
  return RequestState{.done = rows.Int(0) != 0, .outcome = rows.Text(1)};
}

Result<bool> Catalog::Paused(std::string_view pipeline) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ETL_ASSIGN_OR_RETURN(const int64_t paused,
                       file_.Number("SELECT paused FROM pipelines WHERE name = ?", {pipeline}));
  return paused != 0;
}

Result<bool> Catalog::PausedSince(std::string_view pipeline, int64_t request) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ETL_ASSIGN_OR_RETURN(
      SqliteFile::Rows rows,
      file_.Query("SELECT 1 FROM pipelines p JOIN requests r ON r.pipeline = p.name WHERE p.name = "
                  "? AND p.paused AND r.kind = 'pause' AND r.table_name = '' AND r.id > ? LIMIT 1",
                  {pipeline, request}));
  return rows.Next();
}

Status Catalog::PutStatus(const PipelineStatus& status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::string document = StatusToJson(status);
  return file_.Run(
      "INSERT INTO status (pipeline, at, document) VALUES (?1, ?2, ?3)"
      " ON CONFLICT (pipeline) DO UPDATE SET at = ?2, document = ?3",
      {status.name, clock_.WallNow(), document});
}

Result<std::optional<PipelineStatus>> Catalog::GetStatus(std::string_view pipeline) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ETL_ASSIGN_OR_RETURN(SqliteFile::Rows rows,
                       file_.Query("SELECT document FROM status WHERE pipeline = ?", {pipeline}));
  ETL_ASSIGN_OR_RETURN(const bool found, rows.Next());
  if (!found) return std::optional<PipelineStatus>();
  ETL_ASSIGN_OR_RETURN(PipelineStatus status, StatusFromJson(rows.Text(0)));
  return std::optional<PipelineStatus>(std::move(status));
}

Status Catalog::Forget(std::string_view pipeline) {
  const std::lock_guard<std::mutex> lock(mutex_);
  SqliteTransaction transaction(file_);
  ETL_RETURN_IF_ERROR(transaction.Begin());
  ETL_RETURN_IF_ERROR(file_.Run("DELETE FROM pipelines WHERE name = ?", {pipeline}));
  ETL_RETURN_IF_ERROR(file_.Run("DELETE FROM status WHERE pipeline = ?", {pipeline}));
  ETL_RETURN_IF_ERROR(file_.Run("DELETE FROM requests WHERE pipeline = ?", {pipeline}));
  return transaction.Commit();
}

Status Catalog::AddEvent(std::string_view pipeline, std::string_view kind, std::string_view text) {
  const std::lock_guard<std::mutex> lock(mutex_);
  SqliteTransaction transaction(file_);
  ETL_RETURN_IF_ERROR(transaction.Begin());
  ETL_RETURN_IF_ERROR(file_.Run("INSERT INTO events (at, pipeline, kind, text) VALUES (?, ?, ?, ?)",
                                {clock_.WallNow(), pipeline, kind, text}));
  ETL_RETURN_IF_ERROR(file_.Run(
      "DELETE FROM events WHERE pipeline = ?1 AND id <= (SELECT id FROM events WHERE pipeline = ?1"
      " ORDER BY id DESC LIMIT 1 OFFSET ?2)",
      {pipeline, kEventsKept}));
  return transaction.Commit();
}

Result<std::vector<Event>> Catalog::Events(std::string_view pipeline, int limit) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ETL_ASSIGN_OR_RETURN(
      SqliteFile::Rows rows,
      file_.Query(
          "SELECT at, pipeline, kind, text FROM events WHERE pipeline = ? ORDER BY id DESC LIMIT ?",
          {pipeline, int64_t{limit}}));
  std::vector<Event> events;
  while (true) {
    ETL_ASSIGN_OR_RETURN(const bool more, rows.Next());
    if (!more) return events;
    events.push_back({rows.Int(0), rows.Text(1), rows.Text(2), rows.Text(3)});
  }
}

Result<std::unique_ptr<RunnerLock>> Catalog::TryLockPipeline(const std::string& pipeline) {
  return RunnerLock::TryAcquire(LockPath(pipeline), pipeline);
}

Result<std::optional<int64_t>> Catalog::RunnerOf(const std::string& pipeline) {
  return RunnerLock::HolderOf(LockPath(pipeline));
}

}  // namespace etl
