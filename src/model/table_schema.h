#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "model/column_type.h"
#include "model/position.h"

namespace etl {

/// How an UPDATE or DELETE finds its row.
enum class Identity : uint8_t {
  kKey,      ///< by the columns in `TableSchema::key`
  kFullRow,  ///< REPLICA IDENTITY FULL without a key: one row equal in all columns
  kNone,     ///< neither: only INSERT and TRUNCATE can arrive
};

/// A column as the destination stores it.
struct Column {
  int16_t attnum = 0;  ///< identity of the column through renames
  std::string name;
  ColumnTypePtr type;   ///< of the stored value; kText for a hashed column
  bool hashed = false;  ///< stores the hex HMAC-SHA-256 of the server's text form
};

/// A column as Relation messages and COPY deliver it, in their order (published, in attnum order).
struct WireColumn {
  int16_t attnum = 0;
  std::string name;
  uint32_t type_oid = 0;  ///< as Relation messages show it: a domain's own oid
  int32_t typmod = -1;
  ColumnTypePtr type;  ///< resolved
  int output = -1;     ///< index into TableSchema::columns; -1: excluded by configuration
};

/// One version of a table. Immutable; handed on by `shared_ptr<const TableSchema>`; any thread.
struct TableSchema {
  TableId id;
  std::string schema;
  std::string name;
  uint32_t version = 1;  ///< grows by one with each change of this table, per generation
  Identity identity = Identity::kNone;
  bool full_images = false;  ///< REPLICA IDENTITY FULL: old rows arrive whole, nothing stays unsent
  std::vector<Column> columns;
  std::vector<int> key;  ///< indices into `columns`; empty unless Identity::kKey
  std::vector<WireColumn> wire;

  /// `schema.table`, for people.
  std::string QualifiedName() const { return schema + "." + name; }
  /// Index in `columns` of an attribute number, -1 if none.
  int ColumnByAttnum(int16_t attnum) const;
  /// Arrow schema of `columns`.
  std::shared_ptr<arrow::Schema> ArrowSchema() const;
};

using TableSchemaPtr = std::shared_ptr<const TableSchema>;

}  // namespace etl
