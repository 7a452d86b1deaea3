#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include <duckdb.h>

#include "base/clock.h"
#include "base/status.h"
#include "destination/duckdb/duckdb_connection.h"

namespace etl {

struct DuckDbOptions {
  std::string path;
  /// Closed after so long without work, so that other programs can open it. None: kept open.
  std::optional<Duration> release;
  int64_t memory_bytes = 256 << 20;  ///< DuckDB's own limit; it overshoots by some 50 MB
  /// What deleted rows may hold of it between two CHECKPOINTs; 0: a quarter, and up to three
  /// eighths (at 128 MiB enough for a table of six million rows) where appends leave room for it.
  int64_t delete_bytes = 0;
  /// `append_bytes`: what the widest table that is appended to needs (AppendBytes).
  int64_t most_held_by_deletes(int64_t append_bytes) const;
  int threads = 2;
  /// Where DuckDB puts what does not fit into memory, and how much of it; empty: beside the file,
  /// without a bound of ours.
  std::string spill_dir;
  int64_t spill_bytes = 0;
};

/// An ETL-D130 (no space left) in full: which place it is, what is safe, what to do. Others as they
/// are.
Status NameFullPlace(const Status& status, const DuckDbOptions& options);

/// One database file of this process. DuckDB accepts a second handle on the same file, and the two
/// do not see each other: so all pipelines that write into a file share this object. Safe from any
/// thread.
class DuckDbFile {
 public:
  explicit DuckDbFile(DuckDbOptions options);
  ~DuckDbFile();
  const DuckDbOptions& options() const { return options_; }

  /// Holds the file open for as long as it lives.
  class Lease {
   public:
    explicit Lease(std::shared_ptr<DuckDbFile> file) : file_(std::move(file)) {}
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    duckdb_database database() const { return file_->database_; }
    int64_t block_bytes() const { return file_->block_bytes_; }

   private:
    std::shared_ptr<DuckDbFile> file_;
  };
  /// Opens the file if nobody has it open. A lock of another process is ETL-D131 (kBusy) with its
  /// pid.
  static Result<std::unique_ptr<Lease>> Acquire(const std::shared_ptr<DuckDbFile>& file);

  /// Makes the bookkeeping of a new file, or brings that of an older program up to date. One at a
  /// time, by the connection of whoever asks first.
  Status PrepareBookkeeping(DuckDbConnection& connection);

 private:
  Status OpenLocked();
  Status OpenAndPrepare();

  const DuckDbOptions options_;
  std::mutex mutex_;  // Guards users_ and the opening and closing of database_.
  int users_ = 0;
  duckdb_database database_ = nullptr;
  int64_t block_bytes_ = 0;  // As database_.
  std::mutex bookkeeping_mutex_;
};

/// The files of a process, by path. Made by the owner of the destinations. Safe from any thread.
class DuckDbFiles {
 public:
  /// The same object for the same file; the options of the first call count.
  std::shared_ptr<DuckDbFile> Get(const DuckDbOptions& options);

 private:
  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<DuckDbFile>> files_;
};

/// A read transaction on a connection of its own: what was stored at one moment, to be read later.
class DuckDbSnapshot {
 public:
  static Result<std::unique_ptr<DuckDbSnapshot>> Open(const std::shared_ptr<DuckDbFile>& file);
  DuckDbConnection& connection() { return *connection_; }

 private:
  std::unique_ptr<DuckDbFile::Lease> lease_;  // Outlives the connection.
  std::unique_ptr<DuckDbConnection> connection_;
};

/// The size of the blocks of the file that is open there.
Result<int64_t> BlockBytes(DuckDbConnection& connection);

/// Opens `path` for this process with the settings that every use has: nothing outside the file is
/// reachable from SQL, no extension is fetched or loaded. `read_only` for queries.
struct DuckDbOpenSettings {
  std::string path;
  bool read_only = false;
  int64_t memory_bytes = 0;  ///< 0: DuckDB's default
  int threads = 0;           ///< 0: DuckDB's default
  std::string spill_dir;     ///< empty: beside the file
  int64_t spill_bytes = 0;   ///< 0: no bound
};
Result<duckdb_database> OpenDuckDb(const DuckDbOpenSettings& settings);

}  // namespace etl
