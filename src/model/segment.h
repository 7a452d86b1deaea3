#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/clock.h"
#include "model/change_batch.h"
#include "model/position.h"
#include "model/table_schema.h"

namespace etl {

/// All rows of the table before this position are gone.
struct TruncateChange {
  TableSchemaPtr schema;
  Position at;
  UnixMicros commit_time = 0;
  uint32_t xid = 0;
};

/// From here on rows of the table have schema `to`. Columns are matched by attnum: gone = DROP,
/// other name = RENAME, new = ADD (existing rows get `fill`, NULL where it has none), other type =
/// a change that widens in place.
struct SchemaChange {
  TableSchemaPtr from;
  TableSchemaPtr to;
  std::map<int16_t, std::shared_ptr<arrow::Array>>
      fill;  ///< attnum of an added column → array of length 1
};

/// The table enters `copying` at boundary `from` (rule C1): from here on its changes go to its
/// pending log. With `keep_target` the table that readers see stays and goes on being changed until
/// the fold swaps it (C10); else a target that the engine made before is left as it is (frozen)
/// until the swap, and none is made if there is none; so, too, where the destination has set the
/// table aside and the reader did not know yet. A copy of an earlier generation that is still
/// in progress is abandoned: its shadow, pending log and chunks go.
/// Where a stopped table of this pipeline holds the target's name (dropped and re-created under a
/// new oid), the fold replaces that target.
struct CopyStart {
  TableSchemaPtr schema;
  uint32_t generation = 1;
  Lsn from;
  bool keep_target = false;
};

/// One range of blocks of one leaf, read under its own short snapshot (rules C3, C4).
struct Chunk {
  uint32_t number = 0;  ///< in the table's plan, from 0
  TableId leaf;
  std::string leaf_schema;
  std::string leaf_name;
  uint32_t file_node = 0;  ///< of the leaf when planned
  uint32_t first_block = 0;
  std::optional<uint32_t> end_block;  ///< exclusive; none: open-ended
  int64_t rows_estimate = 0;
};

/// The plan of a copy (C3) and that its barrier (C2) was passed. Stored, so that neither is
/// repeated after a restart.
struct CopyPlan {
  TableId table;
  uint32_t generation = 1;
  std::vector<Chunk> chunks;
};

/// The table is set aside: it gets no more changes until a new copy.
struct TableStop {
  TableId table;
  std::string code;    ///< stable error code
  std::string reason;  ///< one line, for people
};

/// What the source's system catalog showed of the table when its schema was last compared with it:
/// an opaque text the destination keeps beside the table's schema and gives back in
/// TableCheckpoint::fingerprint.
struct TableFingerprint {
  TableId table;
  std::string text;
};

using SegmentPart = std::variant<ChangeBatch, TruncateChange, SchemaChange, CopyStart, CopyPlan,
                                 TableStop, TableFingerprint>;

/// What the reader hands to a destination: changes and table commands of the WAL range (previous
/// end, end], or a piece of it. Parts of one table stand in stream order; parts of different tables
/// may stand in any order.
///
/// A destination applies all pieces up to and including the next `complete` one in one transaction
/// together with `end`. A segment without parts only moves the position (an idle or foreign stretch
/// of WAL).
struct Segment {
  std::vector<SegmentPart> parts;
  bool complete = true;  ///< false: more of the same destination transaction follows
  Lsn end;               ///< a boundary (rule 1.2); meaningful if complete
  bool awaited = false;  ///< somebody waits until readers see everything below `end`
  int64_t rows = 0;
  int64_t bytes = 0;
  UnixMicros last_commit_time = 0;  ///< of the newest transaction in it; 0: none
  Instant received;  ///< when its first commit had been received whole; for the latency histogram
};

/// Rows of one chunk, any number of pieces; the last one carries `done`.
struct ChunkRows {
  TableId table;
  uint32_t generation = 1;
  uint32_t chunk = 0;
  uint32_t attempt = 1;  ///< grows with each try; rows of an earlier attempt are void
  TableSchemaPtr schema;
  std::shared_ptr<arrow::RecordBatch> rows;  ///< may be null in the last piece
  struct Done {
    Lsn high;  ///< H of rule C4
    int64_t rows = 0;
  };
  std::optional<Done>
      done;  ///< set: record the chunk as done with these rows, in the same transaction (C5)
  int64_t bytes = 0;
};

/// Rows read again by key for values that were never sent (settling before the fold). `rows` has
/// the schema's columns. A key that was asked for and has no row is simply absent. They come only
/// when the stored position has reached `high`, so they count in any fold from here on, over
/// restarts too (S3); rows of a later reading take the place of those of the same key.
struct SettledRows {
  TableId table;
  uint32_t generation = 1;
  Lsn read_after;  ///< n of S1: breaks of a key up to here are visible in the rows
  Lsn high;        ///< H of S2
  std::shared_ptr<arrow::RecordBatch> rows;
};

/// Fold the table (C6, 3.2) now that all chunks are done and the stored position is at least
/// `until`.
struct FoldRequest {
  TableId table;
  uint32_t generation = 1;
  /// Pending changes with a commit LSN below this are in the copied rows already and do not count
  /// (a table without a key is copied under the snapshot of a slot, and this is the slot's
  /// consistent point). 0: all count.
  Lsn ignore_below;
};

using Delivery = std::variant<Segment, ChunkRows, SettledRows, FoldRequest>;

/// The answer to a FoldRequest. Folded: the target is true now, the table is live. Otherwise some
/// values were never sent and are not in the copied rows: `missing` names the keys to be read again
/// (settling), `xids` the transactions that must be visible to that reading.
struct FoldResult {
  TableId table;
  uint32_t generation = 1;
  bool folded = false;
  std::shared_ptr<arrow::RecordBatch>
      missing_keys;  ///< key columns, in the order of TableSchema::key
  std::vector<uint32_t> xids;
  Lsn at;            ///< stored position at that moment: n of S1
  int64_t rows = 0;  ///< rows of the target, when folded
};

}  // namespace etl
