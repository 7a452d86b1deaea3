#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/status.h"
#include "decode/pgoutput.h"
#include "model/table_schema.h"
#include "postgres/table_facts.h"

namespace etl {

/// What a difference between the stored schema and what the source shows now means.
struct SchemaStep {
  enum class Kind : uint8_t {
    kSame,    ///< nothing the destination would notice
    kChange,  ///< goes on in place: `to`, with `fill` for added columns
    kCopy,    ///< cannot be followed in place: the table is copied again, because of `reason`
  } kind = Kind::kSame;
  TableSchemaPtr to;
  std::map<int16_t, std::shared_ptr<arrow::Array>> fill;
  std::string reason;
};

/// Whether a Relation message shows exactly the columns, names and identity of `schema`.
bool RelationMatches(const DecodedMessage& relation, const TableSchema& schema);

/// Why a table whose stored rows are as `stored` shows must be copied again under `rules`, or
/// empty: a column was excluded before or hashed before, or is hashed now. One that is excluded now
/// goes.
std::string ReasonOfRules(const TableSchema& stored, const ColumnRules& rules);

/// Whether rules were applied to what is stored: a column is excluded or hashed.
bool HasRules(const TableSchema& stored);

/// A Relation message that differs from `from`, explained with the system catalog as it is now
/// (rules 7.1, 7.2, 7.4). `facts` may be null: the table is gone from the catalog by now. `given`:
/// attribute numbers up to there had been given when `from` was the newest version; a later one
/// that the catalog does not show was that of a column nobody here has seen.
Result<SchemaStep> StepForRelation(const DecodedMessage& relation, const TableSchema& from,
                                   const TableFacts* facts, const ColumnRules& rules,
                                   int16_t given);

/// What the poll found, once the stream has passed it (rule 7.3).
Result<SchemaStep> StepForCatalog(const TableFacts& facts, const TableSchema& from,
                                  const ColumnRules& rules);

}  // namespace etl
