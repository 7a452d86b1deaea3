#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "destination/snowflake/text_buffer.h"
#include "destination/snowflake/value_encoder.h"
#include "model/change_batch.h"
#include "model/segment.h"
#include "model/table_schema.h"
#include "model/unrepresentable.h"

namespace etl {

/// Rows of one version of a table as lines of NDJSON for its landing table. A line is one strict
/// JSON object (RFC 8259) ended by a newline:
///
///   {"_ETL_OP":"U","_ETL_COMMIT_TS":"2026-01-02T03:04:05.000006Z",
///    "_ETL_POSITION":"00000000016b3748/000000000000000c","ID":1,"NOTE":"a",
///    "_ETL_UNCHANGED":["BODY"]}
///
/// Keys of NULL values are left out; a landing table has no defaults and reads them as NULL.
/// `_ETL_OP` is I, U, D, T or R. `_ETL_COMMIT_TS` is left out where the engine makes the row (R, or
/// no commit time), `_ETL_UNCHANGED` where every column was sent. Text must be UTF-8, as Arrow
/// says.
///
/// Owned and called by one thread. After an error the buffer holds what it held before, and the
/// same row may be tried again.
class NdjsonEncoder {
 public:
  // Keys and heads are copied so many bytes at once, whatever their size.
  static constexpr size_t kKeyBlock = 32;
  static constexpr size_t kHeadBlock = 96;

  /// `names`: the landing table's exact column names, one for each of `schema->columns`.
  static Result<std::unique_ptr<NdjsonEncoder>> Make(TableSchemaPtr schema,
                                                     std::vector<std::string> names,
                                                     OnUnrepresentable on_unrepresentable);

  /// The next rows are those of `batch`, of the same schema, which outlives them.
  Status Bind(const ChangeBatch& batch);
  /// Appends the line of one row. kData if a column cannot hold its value and that is an error.
  Status AppendRow(int64_t row, TextBuffer* out) { return AppendRow(row, {}, out); }
  /// The same with these columns NULL, whatever they hold.
  Status AppendRow(int64_t row, std::span<const int> dropped, TextBuffer* out);
  /// Appends the line of a TRUNCATE.
  void AppendTruncate(const TruncateChange& truncate, TextBuffer* out);

  /// Of the line appended last.
  const Position& position() const { return position_; }
  /// Bytes of the values in it as written, without keys and punctuation between them: about what
  /// Snowflake charges for.
  int64_t value_bytes() const { return value_bytes_; }

  /// For a row whose line is too long for any request: what is to be dropped from it, besides
  /// `dropped`, so that it becomes shorter (the largest value outside the key). The decision and
  /// the counting are those of any value that cannot be represented: an error where that is one,
  /// or where nothing but the key is left. `why` says what is too long.
  Result<int> DropLargest(int64_t row, std::span<const int> dropped, const std::string& why);

  /// Values stored as NULL since the beginning.
  int64_t nulled() const { return nulled_; }
  const TableSchema& schema() const { return *schema_; }

 private:
  struct Column {
    char key[kKeyBlock];   // the first bytes of `,"NAME":`
    size_t key_size = 0;   // of all of it
    std::string long_key;  // all of it, if it is longer
    std::unique_ptr<ValueEncoder> value;
    bool is_key = false;
    bool warned = false;
  };
  // What the lines of one transaction begin with, from behind the op up to the ordinal.
  struct Head {
    char text[kHeadBlock];
    size_t size = 0;
    int64_t value_bytes = 0;
  };
  NdjsonEncoder(TableSchemaPtr schema, OnUnrepresentable on_unrepresentable)
      : schema_(std::move(schema)), on_unrepresentable_(on_unrepresentable) {}
  Status AddColumn(size_t index, const std::string& name);
  void SeekRun(int64_t row);
  char* WriteHead(char op, const Head& head, char* at);
  char* WriteColumns(int64_t row, std::span<const int> dropped, char* at, Status* status);
  char* WriteUnsent(int64_t row, char* at);
  Status Refuse(int64_t row, int column, std::string_view why);

  static Head MakeHead(Lsn commit, UnixMicros commit_time);

  TableSchemaPtr schema_;
  const OnUnrepresentable on_unrepresentable_;
  std::vector<Column> columns_;
  std::vector<std::string> quoted_names_;
  LineSink sink_;

  const ChangeBatch* batch_ = nullptr;
  size_t run_ = 0;  // the transaction of the last row: rows [run_begin_, run_end_)
  int64_t run_begin_ = 0;
  int64_t run_end_ = 0;
  Head head_, engine_head_;  // with and without a commit time
  Position position_;
  int64_t value_bytes_ = 0;
  int64_t nulled_ = 0;
};

}  // namespace etl
