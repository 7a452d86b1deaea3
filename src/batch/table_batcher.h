#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/secret.h"
#include "base/status.h"
#include "decode/pgoutput.h"
#include "model/change_batch.h"
#include "model/unrepresentable.h"

namespace etl {

/// Code of the error (kSchema) of a value of a composite type with other attributes than the
/// schema shows: the type was changed, which nothing in the stream tells.
inline constexpr std::string_view kOtherAttributes = "ETL-D145";

/// How cells become values; shared by all batchers of a pipeline, outlives them. Not changed after
/// start but for the counter.
struct BatchOptions {
  OnUnrepresentable on_unrepresentable = OnUnrepresentable::kError;
  std::string hash_key;  ///< for hashed columns
};

/// Gathers the changes of one table into Arrow builders, straight from the receive buffer. Owned
/// and called by the reader.
///
/// Order of calls: Begin, then the rows of that transaction, then the next Begin … and Seal at any
/// moment; rows appended after a Seal still belong to the transaction that was begun. An error
/// leaves the batcher unusable; it names table, column and position.
class TableBatcher {
 public:
  static Result<std::unique_ptr<TableBatcher>> Make(TableSchemaPtr schema,
                                                    const BatchOptions* options);
  virtual ~TableBatcher() = default;

  /// Rows from here on belong to this transaction.
  virtual void Begin(Lsn commit, UnixMicros commit_time, uint32_t xid) = 0;
  /// `ordinal` is 2·i (rule 1.1). Cells are in the order of `TableSchema::wire`; another number of
  /// cells is an error.
  virtual Status Insert(std::span<const Cell> row, uint64_t ordinal) = 0;
  /// Splits a key change into kDelete (ordinal) and kMove (ordinal + 1); with full images fills
  /// unsent cells from the old row.
  virtual Status Update(char old_kind, std::span<const Cell> old_row, std::span<const Cell> row,
                        uint64_t ordinal) = 0;
  virtual Status Delete(char old_kind, std::span<const Cell> old_row, uint64_t ordinal) = 0;

  virtual int64_t rows() const = 0;
  virtual int64_t bytes() const = 0;  ///< memory held, about; cheap
  /// Hands over what was gathered, and is empty afterwards. Call only with rows() > 0.
  virtual Result<ChangeBatch> Seal() = 0;
  virtual const TableSchemaPtr& schema() const = 0;
  /// Values stored as NULL by OnUnrepresentable::kNull since the beginning.
  virtual int64_t nulled() const = 0;
};

/// Turns the bytes of COPY … TO STDOUT (binary or text) into record batches of the schema's
/// columns. Owned by a copier.
class CopyBatcher {
 public:
  static Result<std::unique_ptr<CopyBatcher>> Make(TableSchemaPtr schema, bool binary,
                                                   const BatchOptions* options);
  virtual ~CopyBatcher() = default;
  /// The next bytes, cut anywhere.
  virtual Status Append(std::string_view bytes) = 0;
  /// No more bytes follow: checks that the last row was whole.
  virtual Status Finish() = 0;
  virtual int64_t rows() const = 0;
  virtual int64_t bytes() const = 0;
  /// Rows gathered since the last call; call only with rows() > 0.
  virtual Result<std::shared_ptr<arrow::RecordBatch>> Seal() = 0;
  /// Values stored as NULL by OnUnrepresentable::kNull since the beginning.
  virtual int64_t nulled() const = 0;
};

/// One value of a type from the server's text form, as an array of length 1 (`SchemaChange::fill`).
Result<std::shared_ptr<arrow::Array>> ValueFromText(const ColumnType& type, std::string_view text);

}  // namespace etl
