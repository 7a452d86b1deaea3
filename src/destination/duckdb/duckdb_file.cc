#include "destination/duckdb/duckdb_file.h"

#include <algorithm>
#include <filesystem>
#include <functional>

#include <fmt/format.h>

#include "base/check.h"
#include "destination/duckdb/duckdb_bookkeeping.h"

namespace etl {
namespace {

// One folder a file, so that several files can spill into the same place.
std::string TemporaryDirectory(const DuckDbOpenSettings& settings) {
  if (settings.spill_dir.empty()) return settings.path + ".tmp";
  return fmt::format("{}/etl-stream-{:016x}.tmp", settings.spill_dir,
                     std::hash<std::string>()(settings.path));
}

}  // namespace

Result<duckdb_database> OpenDuckDb(const DuckDbOpenSettings& settings) {
  duckdb_config config = nullptr;
  if (duckdb_create_config(&config) == DuckDBError)
    return MakeError(ErrorKind::kInternal, "ETL-D190", "DuckDB: no configuration");
  std::string refused;
  auto set = [&](const char* name, const std::string& value) {
    if (duckdb_set_config(config, name, value.c_str()) == DuckDBError) refused = name;
  };
  set("autoinstall_known_extensions", "false");
  set("autoload_known_extensions", "false");
  set("allow_community_extensions", "false");
  set("preserve_insertion_order", "false");
  set("temp_directory", TemporaryDirectory(settings));
  if (settings.spill_bytes > 0)
    set("max_temp_directory_size", std::to_string(settings.spill_bytes) + "B");
  if (settings.read_only) set("access_mode", "READ_ONLY");
  if (settings.threads > 0) set("threads", std::to_string(settings.threads));
  if (settings.memory_bytes > 0) set("memory_limit", std::to_string(settings.memory_bytes) + "B");
  // The last one: after it no folder can be named any more.
  set("enable_external_access", "false");
  if (!refused.empty()) {
    duckdb_destroy_config(&config);
    return MakeError(ErrorKind::kInternal, "ETL-D190", "DuckDB refused the setting " + refused);
  }
  duckdb_database database = nullptr;
  char* message = nullptr;
  const duckdb_state state = duckdb_open_ext(settings.path.c_str(), &database, config, &message);
  duckdb_destroy_config(&config);
  if (state == DuckDBSuccess) return database;
  const std::string text = message == nullptr ? "unknown error" : message;
  if (message != nullptr) duckdb_free(message);
  Status status = DuckDbError(DUCKDB_ERROR_IO, text, "open " + settings.path);
  if (text.find("newer version") != std::string::npos ||
      text.find("not a valid DuckDB database") != std::string::npos) {
    return MakeError(ErrorKind::kConfig, {.code = "ETL-D122",
                                          .what = "DuckDB: open " + settings.path,
                                          .why = text,
                                          .safe = "the file was not touched",
                                          .remedy = "name another file, or move this one away"});
  }
  if (text.find("Permission denied") != std::string::npos ||
      text.find("No such file or directory") != std::string::npos) {
    return MakeError(ErrorKind::kConfig, {.code = "ETL-D121",
                                          .what = "DuckDB: open " + settings.path,
                                          .why = text,
                                          .safe = {},
                                          .remedy = "make the directory writable for this user"});
  }
  return status;
}

Result<int64_t> BlockBytes(DuckDbConnection& connection) {
  return connection.Number(
      "SELECT block_size FROM pragma_database_size() WHERE database_name = current_database()");
}

Status NameFullPlace(const Status& status, const DuckDbOptions& options) {
  ErrorParts parts = PartsOf(status);
  if (status.ok() || parts.code != "ETL-D130") return status;
  const std::string folder =
      TemporaryDirectory({.path = options.path, .spill_dir = options.spill_dir});
  const bool spilling = parts.why.find("max_temp_directory_size") != std::string::npos ||
                        parts.why.find(folder) != std::string::npos;
  parts.why = parts.what + ": " + parts.why;
  parts.what = spilling ? "there is no more space for what does not fit into memory, in " + folder
                        : "there is no space left for " + options.path;
  parts.safe =
      "what was stored stays, position and rows together; nothing of the transaction at hand was";
  parts.remedy =
      spilling ? "free space there, or raise limits.spill or limits.memory; it is tried again"
               : "free space on its file system; it is tried again, and goes on where it stopped";
  return MakeError(KindOf(status), std::move(parts));
}

int64_t DuckDbOptions::most_held_by_deletes(int64_t append_bytes) const {
  if (delete_bytes > 0) return delete_bytes;
  return std::clamp(memory_bytes - append_bytes, memory_bytes / 4, memory_bytes / 8 * 3);
}

DuckDbFile::DuckDbFile(DuckDbOptions options) : options_(std::move(options)) {}

DuckDbFile::~DuckDbFile() {
  ETL_CHECK(users_ == 0);
  if (database_ != nullptr) duckdb_close(&database_);
}

Status DuckDbFile::OpenLocked() { return NameFullPlace(OpenAndPrepare(), options_); }

Status DuckDbFile::OpenAndPrepare() {
  // DuckDB makes its own folder in it when it spills, and that one only.
  std::error_code ignored;
  if (!options_.spill_dir.empty()) std::filesystem::create_directories(options_.spill_dir, ignored);
  // Replaying the file's log needs memory that the work itself may not use: the limit comes after
  // it.
  ETL_ASSIGN_OR_RETURN(database_, OpenDuckDb({.path = options_.path,
                                              .threads = options_.threads,
                                              .spill_dir = options_.spill_dir,
                                              .spill_bytes = options_.spill_bytes}));
  auto prepare = [&]() -> Status {
    ETL_ASSIGN_OR_RETURN(auto connection, DuckDbConnection::Open(database_));
    ETL_RETURN_IF_ERROR(connection->Execute("CHECKPOINT").status());
    ETL_ASSIGN_OR_RETURN(block_bytes_, BlockBytes(*connection));
    // Each checkpoint compresses the last, unfinished group of rows again: at DuckDB's own 16 MB
    // that is after every second batch.
    ETL_RETURN_IF_ERROR(connection->Execute("SET wal_autocheckpoint = '64MB'").status());
    return connection
        ->Execute("SET memory_limit = '" + std::to_string(options_.memory_bytes) + "B'")
        .status();
  };
  const Status status = prepare();
  if (!status.ok()) duckdb_close(&database_);
  return status;
}

Result<std::unique_ptr<DuckDbFile::Lease>> DuckDbFile::Acquire(
    const std::shared_ptr<DuckDbFile>& file) {
  std::lock_guard lock(file->mutex_);
  if (file->database_ == nullptr) ETL_RETURN_IF_ERROR(file->OpenLocked());
  ++file->users_;
  return std::make_unique<Lease>(file);
}

Status DuckDbFile::PrepareBookkeeping(DuckDbConnection& connection) {
  std::lock_guard lock(bookkeeping_mutex_);
  return DuckDbBookkeeping::Prepare(connection);
}

DuckDbFile::Lease::~Lease() {
  std::lock_guard lock(file_->mutex_);
  if (--file_->users_ == 0) duckdb_close(&file_->database_);
}

std::shared_ptr<DuckDbFile> DuckDbFiles::Get(const DuckDbOptions& options) {
  std::error_code ignored;
  // Absolute first: a file that does not exist yet has no other name once it does.
  std::filesystem::path path =
      std::filesystem::weakly_canonical(std::filesystem::absolute(options.path, ignored), ignored);
  if (path.empty()) path = options.path;
  std::lock_guard lock(mutex_);
  std::weak_ptr<DuckDbFile>& slot = files_[path.string()];
  std::shared_ptr<DuckDbFile> file = slot.lock();
  if (file == nullptr) {
    file = std::make_shared<DuckDbFile>(options);
    slot = file;
  }
  return file;
}

Result<std::unique_ptr<DuckDbSnapshot>> DuckDbSnapshot::Open(
    const std::shared_ptr<DuckDbFile>& file) {
  auto snapshot = std::make_unique<DuckDbSnapshot>();
  ETL_ASSIGN_OR_RETURN(snapshot->lease_, DuckDbFile::Acquire(file));
  ETL_ASSIGN_OR_RETURN(snapshot->connection_, DuckDbConnection::Open(snapshot->lease_->database()));
  ETL_RETURN_IF_ERROR(snapshot->connection_->Begin());
  // The transaction sees the moment of its first look at the file, not that of BEGIN.
  ETL_RETURN_IF_ERROR(
      snapshot->connection_->Rows("SELECT count(*)::VARCHAR FROM _etl.meta").status());
  return snapshot;
}

}  // namespace etl
