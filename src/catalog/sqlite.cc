#include "catalog/sqlite.h"

#include <fmt/format.h>
#include <sqlite3.h>

namespace etl {
namespace {

constexpr int kBusyMillis = 5000;

}  // namespace

bool IsCorrupt(const Status& status) { return !status.ok() && PartsOf(status).code == "ETL-R103"; }

SqliteFile::Rows::~Rows() { sqlite3_finalize(statement_); }

Result<bool> SqliteFile::Rows::Next() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return file_.Error(code);
}

int64_t SqliteFile::Rows::Int(int column) const { return sqlite3_column_int64(statement_, column); }

std::string SqliteFile::Rows::Text(int column) const {
  const unsigned char* text = sqlite3_column_text(statement_, column);
  if (text == nullptr) return {};
  return {reinterpret_cast<const char*>(text),
          static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
}

SqliteFile::~SqliteFile() { Close(); }

void SqliteFile::Close() {
  sqlite3_close(db_);
  db_ = nullptr;
}

Status SqliteFile::Open(const std::string& path) {
  path_ = path;
  const int code =
      sqlite3_open_v2(path.c_str(), &db_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  if (code != SQLITE_OK) return Error(code);
  sqlite3_extended_result_codes(db_, 1);
  sqlite3_busy_timeout(db_, kBusyMillis);
  return Status::OK();
}

Result<SqliteFile::Rows> SqliteFile::Query(const char* sql, std::initializer_list<Value> values) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v2(db_, sql, -1, &statement, nullptr);
  if (code != SQLITE_OK) return Error(code);
  Rows rows(*this, statement);
  int index = 0;
  for (const Value& value : values) {
    ++index;
    int bound = SQLITE_OK;
    if (const int64_t* number = std::get_if<int64_t>(&value)) {
      bound = sqlite3_bind_int64(statement, index, *number);
    } else {
      // An empty view may have no address, which SQLite would take for NULL.
      const std::string_view text = std::get<std::string_view>(value);
      bound = sqlite3_bind_text64(statement, index, text.empty() ? "" : text.data(), text.size(),
                                  SQLITE_TRANSIENT, SQLITE_UTF8);
    }
    if (bound != SQLITE_OK) return Error(bound);
  }
  return rows;
}

Status SqliteFile::Run(const char* sql, std::initializer_list<Value> values) {
  ETL_ASSIGN_OR_RETURN(Rows rows, Query(sql, values));
  while (true) {
    ETL_ASSIGN_OR_RETURN(const bool more, rows.Next());
    if (!more) return Status::OK();
  }
}

Result<int64_t> SqliteFile::Number(const char* sql, std::initializer_list<Value> values) {
  ETL_ASSIGN_OR_RETURN(Rows rows, Query(sql, values));
  ETL_ASSIGN_OR_RETURN(const bool found, rows.Next());
  return found ? rows.Int(0) : 0;
}

int64_t SqliteFile::last_insert_id() const { return sqlite3_last_insert_rowid(db_); }

Status SqliteFile::Error(int code) const {
  ErrorParts parts;
  parts.why = db_ != nullptr ? sqlite3_errmsg(db_) : sqlite3_errstr(code);
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      parts.code = "ETL-R107";
      parts.what = fmt::format("the catalog {} is held by another process", path_);
      parts.remedy = "try again";
      return MakeError(ErrorKind::kTransient, std::move(parts));
    case SQLITE_FULL:
    case SQLITE_IOERR:
      parts.code = "ETL-R102";
      parts.what = fmt::format("the catalog {} cannot be written", path_);
      parts.safe = "no row is lost: the destination knows its position";
      parts.remedy = "look at the free space of its disk; it is tried again";
      return MakeError(ErrorKind::kTransient, std::move(parts));
    case SQLITE_CORRUPT:
      parts.code = "ETL-R103";
      parts.what = fmt::format("the catalog {} is damaged", path_);
      parts.remedy = "start again: it is set aside and a new one is made; no row is lost";
      return MakeError(ErrorKind::kTransient, std::move(parts));
    case SQLITE_NOTADB:
      parts.code = "ETL-C052";
      parts.what = fmt::format("{} is not a catalog of etl-stream", path_);
      parts.remedy = "let `catalog` name another file";
      return MakeError(ErrorKind::kConfig, std::move(parts));
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      parts.code = "ETL-C051";
      parts.what = fmt::format("the catalog {} cannot be opened for writing", path_);
      parts.remedy = "let `catalog` name a file in a folder that may be written to";
      return MakeError(ErrorKind::kConfig, std::move(parts));
    default:
      parts.code = "ETL-X001";
      parts.what =
          fmt::format("the catalog {} answered with an unexpected error ({})", path_, code);
      parts.remedy = "this is a bug: please report it with the log";
      return MakeError(ErrorKind::kInternal, std::move(parts));
  }
}

SqliteTransaction::~SqliteTransaction() {
  if (open_) (void)file_.Run("ROLLBACK");
}

Status SqliteTransaction::Begin() {
  ETL_RETURN_IF_ERROR(file_.Run("BEGIN IMMEDIATE"));
  open_ = true;
  return Status::OK();
}

Status SqliteTransaction::Commit() {
  ETL_RETURN_IF_ERROR(file_.Run("COMMIT"));
  open_ = false;
  return Status::OK();
}

}  // namespace etl
