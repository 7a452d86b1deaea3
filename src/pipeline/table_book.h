#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "apply/fingerprint.h"
#include "apply/table_copy.h"
#include "batch/table_batcher.h"
#include "model/segment.h"
#include "model/table_schema.h"
#include "postgres/table_facts.h"

namespace etl {

/// All the reader knows of one table of the pipeline while it runs.
struct TableRuntime {
  TableSchemaPtr schema;
  TablePhase phase = TablePhase::kWaiting;
  uint32_t generation = 0;
  std::string row_filter;
  ColumnRules rules;
  std::vector<LeafFacts> leaves;

  // Stream.
  bool relation_seen = false;  ///< a Relation message came in this session
  /// The last one shows the columns of `schema`; else another one must come before a row.
  bool relation_fits = true;
  bool ignore_rows = true;  ///< waiting, stopped, or a new copy begins at the next boundary
  std::unique_ptr<TableBatcher> batcher;
  uint64_t begun_transaction = 0;  ///< serial of the transaction the batcher was last told of
  bool dirty = false;              ///< the batcher holds rows of the open segment
  int64_t changes = 0;

  // Copy.
  std::optional<TableCopy> copy;
  bool copy_wanted = false;  ///< begins at the next boundary
  bool keep_target = false;
  bool append_started = false;
  // The catalog must be looked at after the barrier: what the copy began with may be older than
  // transactions below its start.
  int looks_needed = 0;    ///< answers still to come until that one
  bool looked = false;     ///< it came, and showed the table as the copy knows it
  bool plan_open = false;  ///< its CopyPlan stands in the open segment, not yet handed over
  // On a server that may overlook changes of a table that was just published: the stream is opened
  // anew after the barrier, and the copy begins again there (rule C2).
  bool wants_new_stream = false;
  Lsn new_stream_at;  ///< the look after the barrier: what may confuse the stream is below
  std::string note;   ///< what it waits for, or why it stopped
  std::string stop_code;
  int64_t rows = 0;
  int64_t nulled = 0;  ///< values that became NULL since its copy began, but for the batcher's
  int64_t rows_merged = 0;

  // A type's values changed their form (rule 7.10). Rows of transactions that were open then may
  // still come in the former one, so the copy that began only waits for them at its barrier, and
  // another one begins after it. The stored fingerprint has the former types until then.
  std::optional<std::map<uint32_t, std::vector<TypePart>>> awaited_types;  ///< as the copy saw them
  Lsn writers_gone_at;  ///< the look after the barrier: their changes are below
  bool writers_gone = false;
  int unfit = 0;  ///< copies given up because of values of a changed type, since it was live

  Fingerprint fingerprint;
  bool fingerprint_known = false;

  void DropBatcher() {
    if (batcher != nullptr) nulled += batcher->nulled();
    batcher.reset();
  }
  int64_t AllNulled() const { return nulled + (batcher == nullptr ? 0 : batcher->nulled()); }
};

/// The tables of a pipeline, by oid. Owned by the reader.
class TableBook {
 public:
  /// null: not a table of the pipeline. Remembers the last answer: rows of one table mostly come
  /// together.
  TableRuntime* Find(TableId id) {
    if (last_ != nullptr && id == last_id_) return last_;
    const auto found = tables_.find(id);
    if (found == tables_.end()) return nullptr;
    last_id_ = id;
    last_ = found->second.get();
    return last_;
  }
  TableRuntime& Add(TableId id) {
    std::unique_ptr<TableRuntime>& table = tables_[id];
    if (table == nullptr) {
      table = std::make_unique<TableRuntime>();
      order_.push_back(id);
    }
    return *table;
  }
  /// In the order they were added.
  const std::vector<TableId>& ids() const { return order_; }
  TableRuntime& at(TableId id) { return *tables_.at(id); }
  const TableRuntime& at(TableId id) const { return *tables_.at(id); }

 private:
  std::unordered_map<TableId, std::unique_ptr<TableRuntime>> tables_;
  std::vector<TableId> order_;
  TableId last_id_;
  TableRuntime* last_ = nullptr;
};

}  // namespace etl
