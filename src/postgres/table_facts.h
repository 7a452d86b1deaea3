#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/column_type.h"
#include "model/position.h"
#include "model/table_schema.h"

namespace etl {

/// One column as pg_attribute shows it now; dropped ones are left out.
struct AttributeFacts {
  int16_t attnum = 0;
  std::string name;
  uint32_t type_oid = 0;  ///< the declared type: a domain's own oid
  int32_t typmod = -1;
  int16_t dimensions = 0;  ///< attndims
  ColumnTypePtr type;      ///< resolved recursively; kServerText for what we do not know
  bool not_null = false;
  bool published = true;     ///< in the publication's column list, and not a generated column the
                             ///< server does not send
  bool has_missing = false;  ///< atthasmissing: a constant default added without a rewrite
  std::optional<std::string> missing_text;  ///< attmissingval in the server's text form; none:
                                            ///< NULL. Of a partitioned table: its leaves'
  bool missing_differs = false;             ///< not all leaves have the same
  uint32_t row_xmin = 0;  ///< xmin of the pg_attribute row: changes with any ALTER of the column
  uint32_t collation = 0;
};

/// One label of an enum, or one attribute of a composite.
struct TypePart {
  uint32_t id = 0;  ///< oid of the label; attnum of the attribute
  std::string name;
  uint32_t type = 0;  ///< 0: a label
  int32_t typmod = -1;
  uint32_t row_xmin = 0;  ///< xmin of its row in the system catalog

  friend bool operator==(const TypePart&, const TypePart&) = default;
};

/// A table that holds rows itself: the table, or one leaf partition of it.
struct LeafFacts {
  TableId id;
  std::string schema;
  std::string name;
  uint32_t file_node = 0;
  std::string bound;  ///< pg_get_expr(relpartbound); empty for a plain table
  int64_t blocks = 0;
  double rows_estimate = 0;  ///< reltuples, or a guess from the blocks where never analysed
  bool heap = true;          ///< access method heap: TID ranges may be used
};

/// Everything the engine wants to know of a published table; compared between polls (correctness,
/// section 7).
struct TableFacts {
  TableId id;
  std::string schema;
  std::string name;
  char kind = 'r';              ///< relkind: r, p
  char persistence = 'p';       ///< relpersistence
  char replica_identity = 'd';  ///< relreplident: d, n, f, i
  /// What publishes it: oids of its entry (or one above it) in pg_publication_rel, of its schema's
  /// in pg_publication_namespace, of a publication of all tables.
  std::vector<uint32_t> publication_entries;
  uint32_t publication_row = 0;  ///< xmin of the pg_publication row: changes with its options
  std::string row_filter;        ///< SQL text; empty: none
  bool can_select = true;        ///< the role may SELECT it (copy needs it)
  bool row_security = false;     ///< a policy would filter this role's COPY
  std::vector<AttributeFacts> columns;  ///< in attnum order
  int16_t attributes = 0;  ///< relnatts: the highest attnum ever given, dropped columns counted
  std::map<uint32_t, std::vector<TypePart>>
      types;  ///< by oid: enums and composites that published columns use, recursively
  std::vector<int16_t>
      key;  ///< attnums of the usable key, in index order; empty: none. The primary key if it
            ///< is not deferrable, else the REPLICA IDENTITY index; with FULL the primary key
  std::vector<LeafFacts> leaves;  ///< at least one; a partitioned table without partitions has none

  std::string QualifiedName() const { return schema + "." + name; }
};

/// What configuration says of a table's columns (`columns:`), by column name.
struct ColumnRules {
  std::vector<std::string> exclude;
  std::vector<std::string> hash;
};

/// The schema version that `facts` show, with `rules` applied. Errors (kSchema, ETL-S1xx): a rule
/// names no column, or a key column; no column is left; names equal but for case; a reserved name.
Result<TableSchemaPtr> MakeTableSchema(const TableFacts& facts, const ColumnRules& rules,
                                       uint32_t version);

}  // namespace etl
