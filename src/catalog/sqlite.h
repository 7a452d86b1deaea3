#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

#include "base/status.h"

struct sqlite3;
struct sqlite3_stmt;

namespace etl {

/// One connection to an SQLite file. Statements are parameterised; nothing is ever spliced into
/// SQL.
class SqliteFile {
 public:
  using Value = std::variant<int64_t, std::string_view>;

  /// One running statement; finalised when it ends.
  class Rows {
   public:
    Rows(SqliteFile& file, sqlite3_stmt* statement) : file_(file), statement_(statement) {}
    ~Rows();
    Rows(Rows&& other) noexcept : file_(other.file_), statement_(other.statement_) {
      other.statement_ = nullptr;
    }
    Rows(const Rows&) = delete;
    Rows& operator=(const Rows&) = delete;
    /// Moves to the next row; false at the end.
    Result<bool> Next();
    int64_t Int(int column) const;
    std::string Text(int column) const;

   private:
    SqliteFile& file_;
    sqlite3_stmt* statement_;
  };

  SqliteFile() = default;
  ~SqliteFile();
  SqliteFile(const SqliteFile&) = delete;
  SqliteFile& operator=(const SqliteFile&) = delete;

  Status Open(const std::string& path);
  void Close();
  Result<Rows> Query(const char* sql, std::initializer_list<Value> values = {});
  Status Run(const char* sql, std::initializer_list<Value> values = {});
  /// The first column of the only row; 0 if there is no row.
  Result<int64_t> Number(const char* sql, std::initializer_list<Value> values = {});
  int64_t last_insert_id() const;
  /// The last error as a Status of ours.
  Status Error(int code) const;

 private:
  std::string path_;
  sqlite3* db_ = nullptr;
};

/// Runs BEGIN IMMEDIATE at once and ROLLBACK at the end unless committed.
class SqliteTransaction {
 public:
  explicit SqliteTransaction(SqliteFile& file) : file_(file) {}
  ~SqliteTransaction();
  SqliteTransaction(const SqliteTransaction&) = delete;
  SqliteTransaction& operator=(const SqliteTransaction&) = delete;
  Status Begin();
  Status Commit();

 private:
  SqliteFile& file_;
  bool open_ = false;
};

/// Whether `status` says that the file is damaged, as opposed to foreign or unreachable.
bool IsCorrupt(const Status& status);

}  // namespace etl
