#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "batch/column_builder.h"
#include "decode/pgoutput.h"
#include "model/position.h"
#include "postgres/table_facts.h"

namespace etl {

/// A table as a stream in text form shows it, ready to write its changes as JSON. One thread.
class TapTable {
 public:
  struct Options {
    ColumnRules rules;
    std::string hash_key;
  };
  /// From a Relation message; `facts` explain its types and may be null.
  static Result<std::unique_ptr<TapTable>> Make(const DecodedMessage& relation,
                                                const TableFacts* facts, const Options& options);

  /// The transaction that the changes from now on belong to.
  void Begin(Lsn commit, UnixMicros commit_time, uint32_t xid);
  /// The JSON of one row message or truncate, one object or, where the key changes, two.
  Result<std::vector<std::string>> Changes(const DecodedMessage& message, uint64_t ordinal);

 private:
  struct Column {
    std::string name;
    ColumnTypePtr type;
    bool excluded = false;
    bool key = false;
    std::unique_ptr<ColumnBuilder> hash;  ///< null: as it is
  };
  enum class Which : uint8_t { kAll, kKey };
  TapTable() = default;
  /// `{"a":1}` of the columns that have a value; `"null"` if there are none to show.
  Result<std::string> Object(std::span<const Cell> cells, Which which);
  Status AppendValue(Column& column, std::string_view text, std::string* out);
  bool KeyChanges(std::span<const Cell> old_row, std::span<const Cell> row) const;
  bool HasKey() const;
  Result<std::string> Line(char op, uint64_t ordinal, std::span<const Cell> key_row, char old_kind,
                           std::span<const Cell> old_row, std::span<const Cell> row);

  std::string name_;
  std::vector<Column> columns_;
  Lsn commit_;
  UnixMicros commit_time_ = 0;
  uint32_t xid_ = 0;
};

}  // namespace etl
