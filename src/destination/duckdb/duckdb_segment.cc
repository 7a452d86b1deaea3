// Segments of the stream: changes and table commands, in one DuckDB transaction with the position.

#include <algorithm>

#include <arrow/api.h>
#include <fmt/format.h>

#include "base/check.h"
#include "base/failpoint.h"
#include "destination/duckdb/duckdb_alter.h"
#include "destination/duckdb/duckdb_destination.h"
#include "destination/duckdb/duckdb_fold.h"

namespace etl {
namespace {

constexpr const char* kResync = "etl-stream pipeline resync";

}  // namespace

bool DuckDbDestination::StoresPending(const TableState& table) const {
  return options_.mode == Mode::kMirror && table.checkpoint.phase == TablePhase::kCopying;
}

bool DuckDbDestination::StoresTarget(const TableState& table) const {
  if (options_.mode == Mode::kAppend)
    return table.checkpoint.phase == TablePhase::kCopying ||
           table.checkpoint.phase == TablePhase::kLive;
  return table.checkpoint.phase == TablePhase::kLive ||
         (table.checkpoint.phase == TablePhase::kCopying && table.checkpoint.keep_target &&
          table.has_target);
}

Status DuckDbDestination::ApplySegment(Segment& segment, Progress* progress) {
  // A change of columns cannot pass by rows that are written and not stored yet.
  const bool changes_tables = std::any_of(
      segment.parts.begin(), segment.parts.end(),
      [](const SegmentPart& part) { return std::holds_alternative<SchemaChange>(part); });
  if (pieces_ == 0 && changes_tables) ETL_RETURN_IF_ERROR(StoreCompleteGroups(progress));
  if (pieces_ == 0) ETL_RETURN_IF_ERROR(CheckpointIfNeeded(&segment));
  while (true) {
    if (pieces_ == 0) ETL_RETURN_IF_ERROR(connection_->Begin());
    auto applied = ApplyParts(segment, progress);
    ETL_RETURN_IF_ERROR(applied.status());
    if (!applied->has_value()) break;
    // The transaction goes back whole, the table that does not fit is set aside, and the others go
    // on without it.
    connection_->Rollback();
    Undo();
    const int earlier_pieces = std::exchange(pieces_, 0);
    ETL_RETURN_IF_ERROR(SetAside(**applied, progress));
    if (earlier_pieces > 0) {
      return MakeError(
          ErrorKind::kTransient,
          {.code = "ETL-D151",
           .what = "a transaction is read again because one of its tables was set aside",
           .why = (*applied)->why,
           .safe = "nothing of the transaction was stored",
           .remedy = {}});
    }
  }
  ++pieces_;
  if (!segment.complete) return Status::OK();
  if (segment.end != progress_.position)
    ETL_RETURN_IF_ERROR(books_.SavePosition(*connection_, segment.end));
  ETL_FAILPOINT("duckdb.segment.before_commit");
  ETL_RETURN_IF_ERROR(connection_->Commit());
  ETL_FAILPOINT("duckdb.segment.after_commit");
  pieces_ = 0;
  undo_.clear();
  changed_.clear();
  progress_.position = segment.end;
  return CheckpointIfNeeded();
}

Result<std::optional<DuckDbDestination::Diverged>> DuckDbDestination::ApplyParts(
    Segment& segment, Progress* progress) {
  for (const SegmentPart& part : segment.parts) {
    if (const auto* batch = std::get_if<ChangeBatch>(&part)) {
      ETL_ASSIGN_OR_RETURN(auto diverged, Apply(*batch));
      if (diverged.has_value()) return diverged;
    } else if (const auto* truncate = std::get_if<TruncateChange>(&part)) {
      ETL_RETURN_IF_ERROR(ApplyTruncate(*truncate));
    } else if (const auto* change = std::get_if<SchemaChange>(&part)) {
      ETL_RETURN_IF_ERROR(ApplySchema(*change, progress));
    } else if (const auto* start = std::get_if<CopyStart>(&part)) {
      ETL_RETURN_IF_ERROR(ApplyCopyStart(*start, progress));
    } else if (const auto* plan = std::get_if<CopyPlan>(&part)) {
      ETL_RETURN_IF_ERROR(ApplyPlan(*plan));
    } else if (const auto* stop = std::get_if<TableStop>(&part)) {
      // Who sent it knows. An answer would come after a copy that it has begun meanwhile, and end
      // it.
      ETL_RETURN_IF_ERROR(ApplyStop(*stop, /*progress=*/nullptr));
    } else if (const auto* fingerprint = std::get_if<TableFingerprint>(&part)) {
      if (TableState* table = Find(fingerprint->table); table != nullptr) {
        Remember(fingerprint->table);
        table->checkpoint.fingerprint = fingerprint->text;
        ETL_RETURN_IF_ERROR(books_.SaveTable(*connection_, *table));
      }
    }
  }
  return std::optional<Diverged>();
}

Result<std::optional<DuckDbDestination::Diverged>> DuckDbDestination::Apply(
    const ChangeBatch& batch) {
  const TableId id = batch.schema->id;
  TableState* table = Find(id);
  if (table == nullptr || batch.size() == 0) return std::optional<Diverged>();
  if (!StoresPending(*table) && !StoresTarget(*table)) return std::optional<Diverged>();
  ChangeBatch storage;
  ETL_ASSIGN_OR_RETURN(const ChangeBatch* changes,
                       MapChanges(batch, table->checkpoint.schema, fills_[id.oid], &storage));
  changed_.insert(id.oid);
  if (StoresPending(*table)) {
    ETL_ASSIGN_OR_RETURN(auto rows, PendingRows(*changes));
    ETL_RETURN_IF_ERROR(connection_->Append(books_.Pending(*connection_, *table), *rows));
  }
  if (!StoresTarget(*table)) return std::optional<Diverged>();
  const DuckDbTable target = books_.Target(*connection_, *table);
  if (options_.mode == Mode::kAppend) {
    ETL_ASSIGN_OR_RETURN(auto rows, AppendRows(*changes));
    ETL_RETURN_IF_ERROR(connection_->Append(target, *rows));
    return std::optional<Diverged>();
  }
  ETL_ASSIGN_OR_RETURN(const DeleteLimit limit, LimitFor(*table, changes->size()));
  ETL_ASSIGN_OR_RETURN(const ApplyOutcome outcome,
                       ApplyChanges(*connection_, target, *changes, limit));
  if (!outcome.diverged) {
    Remember(id);
    if (outcome.rebuilt) {
      deleted_.erase(id.oid);
      rebuilt_ = true;
    } else {
      deleted_[id.oid] += outcome.deleted;
    }
    if (table->checkpoint.phase == TablePhase::kLive)
      table->checkpoint.rows += outcome.inserted - outcome.deleted;
    return std::optional<Diverged>();
  }
  return std::optional<Diverged>(Diverged{id, outcome.why});
}

// How many rows of the table may be deleted one by one with what is held already.
Result<DeleteLimit> DuckDbDestination::LimitFor(const TableState& table, int64_t changes) {
  const TableId id = table.checkpoint.schema->id;
  DeleteLimit limit{.passing_name = fmt::format("_etl_new_{}_{}", options_.pipeline, id.oid)};
  std::map<uint32_t, int64_t> others = deleted_;
  const auto own = others.extract(id.oid);
  const int64_t deleted = own.empty() ? 0 : own.mapped();
  const int64_t most = file_->options().most_held_by_deletes(
      AppendBytes(*table.checkpoint.schema, lease_->block_bytes()));
  const int64_t vectors_left = (most - HeldBy(others)) / kBytesPerTouchedVector;
  const int64_t rows_left = std::max<int64_t>(vectors_left - deleted, 0);
  if (changes <= rows_left) return limit;
  int64_t rows = table.checkpoint.rows;
  if (table.checkpoint.phase != TablePhase::kLive) {
    ETL_ASSIGN_OR_RETURN(rows, connection_->Number("SELECT count(*) FROM " +
                                                   books_.Target(*connection_, table).Sql()));
  }
  if (rows / kVectorRows + 1 > vectors_left) limit.rows = rows_left;
  return limit;
}

Status DuckDbDestination::SetAside(const Diverged& diverged, Progress* progress) {
  TableState& table = *Find(diverged.table);
  const std::string name = table.checkpoint.schema->QualifiedName();
  return InTransaction(
      [&]() -> Status {
        Remember(diverged.table);
        if (table.checkpoint.phase == TablePhase::kCopying) {
          // Its new copy is under way already: what readers see stays as it is until the swap.
          table.checkpoint.keep_target = false;
          return books_.SaveTable(*connection_, table);
        }
        return ApplyStop({diverged.table, "ETL-D150",
                          fmt::format("{} differs from the source: {}; do: {} --table {}", name,
                                      diverged.why, kResync, name)},
                         progress);
      },
      "duckdb.stop.before_commit", "duckdb.stop.after_commit");
}

Status DuckDbDestination::ApplyTruncate(const TruncateChange& truncate) {
  TableState* table = Find(truncate.schema->id);
  if (table == nullptr) return Status::OK();
  TruncateChange mapped = truncate;
  mapped.schema = table->checkpoint.schema;
  if (StoresPending(*table)) {
    changed_.insert(truncate.schema->id.oid);
    ETL_ASSIGN_OR_RETURN(auto row, TruncateRow(mapped, /*pending=*/true));
    ETL_RETURN_IF_ERROR(connection_->Append(books_.Pending(*connection_, *table), *row));
  }
  if (!StoresTarget(*table)) return Status::OK();
  changed_.insert(truncate.schema->id.oid);
  const DuckDbTable target = books_.Target(*connection_, *table);
  if (options_.mode == Mode::kAppend) {
    ETL_ASSIGN_OR_RETURN(auto row, TruncateRow(mapped, /*pending=*/false));
    return connection_->Append(target, *row);
  }
  // An empty table in its place costs nothing; a DELETE would hold memory for every vector.
  Remember(truncate.schema->id);
  if (table->checkpoint.phase == TablePhase::kLive) table->checkpoint.rows = 0;
  return connection_
      ->Execute("CREATE OR REPLACE TABLE " + target.Sql() + "(" +
                ColumnDefinitions(*table->checkpoint.schema) + ")")
      .status();
}

Status DuckDbDestination::ApplySchema(const SchemaChange& change, Progress* progress) {
  const TableId id = change.to->id;
  TableState* table = Find(id);
  if (table == nullptr) return Status::OK();
  Remember(id);
  const TableSchemaPtr before = table->checkpoint.schema;
  const bool moved = before->schema != change.to->schema || before->name != change.to->name;
  if (const auto wide = TooWide(*change.to); wide.has_value())
    return ApplyStop({id, "ETL-D120", change.to->QualifiedName() + ": " + *wide}, progress);
  if (HasOpenChunks(id)) {
    // Rows that a chunk has written under the old version cannot be committed any more.
    return MakeError(ErrorKind::kTransient,
                     {.code = "ETL-D135",
                      .what = "table " + change.to->QualifiedName() +
                              " changed its columns while a part of it was being copied",
                      .why = {},
                      .safe = "what was copied before stays",
                      .remedy = {}});
  }
  const bool changed = changed_.contains(id.oid);
  if (StoresPending(*table)) {
    const DuckDbTable old_shadow = books_.Shadow(*connection_, *table);
    ETL_RETURN_IF_ERROR(AlterTable(*connection_, books_.Pending(*connection_, *table), *before,
                                   *change.to, change.fill,
                                   {.by_attnum = true, .changed = changed}));
    ETL_RETURN_IF_ERROR(AlterTable(*connection_, old_shadow, *before, *change.to, change.fill, {}));
    TableState next = *table;
    next.checkpoint.schema = change.to;
    ETL_RETURN_IF_ERROR(MoveTable(*connection_, old_shadow, books_.Shadow(*connection_, next)));
  }
  if (table->checkpoint.phase == TablePhase::kCopying) {
    ETL_RETURN_IF_ERROR(
        connection_->Execute("DROP TABLE IF EXISTS " + books_.Settled(*connection_, *table).Sql())
            .status());
  }
  if (StoresTarget(*table)) {
    ETL_RETURN_IF_ERROR(AlterTable(*connection_, books_.Target(*connection_, *table), *before,
                                   *change.to, change.fill,
                                   {.by_attnum = false, .changed = changed}));
    if (options_.mode == Mode::kAppend) {
      ETL_ASSIGN_OR_RETURN(
          const int64_t renamed,
          RenameUnchanged(*connection_, books_.Target(*connection_, *table), *before, *change.to));
      if (renamed > 0) changed_.insert(id.oid);
    }
  }
  for (const auto& [attnum, value] : change.fill) fills_[id.oid][attnum] = value;
  table->checkpoint.schema = change.to;
  if (moved && table->has_target && StoresTarget(*table)) {
    ETL_ASSIGN_OR_RETURN(const auto refused, WhyRefused(*change.to));
    if (refused.has_value()) return ApplyStop({id, "ETL-D120", *refused}, progress);
    ETL_RETURN_IF_ERROR(RenameTarget(*table, change.to->schema, change.to->name));
  }
  return books_.SaveTable(*connection_, *table);
}

Status DuckDbDestination::RenameTarget(TableState& table, const std::string& schema,
                                       const std::string& name) {
  for (auto& [oid, other] : tables_) {
    if (&other == &table || !other.has_target ||
        FoldName(other.target_schema) != FoldName(schema) ||
        FoldName(other.target_name) != FoldName(name))
      continue;
    Remember(other.checkpoint.schema->id);
    if (other.checkpoint.phase == TablePhase::kStopped) {
      // Dropped at the source, or of another history: the new table of its name replaces it.
      ETL_RETURN_IF_ERROR(
          connection_->Execute("DROP TABLE IF EXISTS " + books_.Target(*connection_, other).Sql())
              .status());
      other.has_target = false;
      ETL_RETURN_IF_ERROR(books_.SaveTable(*connection_, other));
      continue;
    }
    // Its own new name is still to come: two tables have swapped names.
    const std::string passing = fmt::format("_etl_passing_{}_{}", options_.pipeline, oid);
    ETL_RETURN_IF_ERROR(MoveTable(*connection_, books_.Target(*connection_, other),
                                  connection_->Table(other.target_schema, passing),
                                  changed_.contains(oid)));
    other.target_name = passing;
    ETL_RETURN_IF_ERROR(books_.SaveTable(*connection_, other));
  }
  ETL_RETURN_IF_ERROR(MoveTable(*connection_, books_.Target(*connection_, table),
                                connection_->Table(schema, name),
                                changed_.contains(table.checkpoint.schema->id.oid)));
  table.target_schema = schema;
  table.target_name = name;
  return Status::OK();
}

std::optional<std::string> DuckDbDestination::TooWide(const TableSchema& schema) const {
  return WhyTooWide(schema, lease_->block_bytes(), file_->options().memory_bytes);
}

Result<std::optional<std::string>> DuckDbDestination::WhyRefused(const TableSchema& schema) {
  using Answer = std::optional<std::string>;
  if (FoldName(schema.schema) == "_etl")
    return Answer("a source schema called _etl has no place in a DuckDB file");
  std::set<std::string> names;
  for (const Column& column : schema.columns) {
    if (!names.insert(FoldName(column.name)).second)
      return Answer("two columns differ only in case: " + column.name);
  }
  if (schema.columns.empty()) return Answer("a table without columns cannot be stored");
  if (Answer why = TooWide(schema); why.has_value()) return why;
  if (options_.mode == Mode::kAppend) {
    for (const MetadataColumn& metadata : MetadataColumns()) {
      if (names.contains(metadata.name))
        return Answer(std::string("the source has a column called ") + metadata.name);
    }
  }
  ETL_ASSIGN_OR_RETURN(const auto owner,
                       books_.OwnerOf(*connection_, schema.schema, schema.name, schema.id));
  if (owner.has_value() && *owner != options_.pipeline)
    return Answer("the target table belongs to pipeline " + *owner);
  for (const auto& [oid, other] : tables_) {
    if (oid == schema.id.oid || other.checkpoint.phase == TablePhase::kStopped) continue;
    if (FoldName(other.checkpoint.schema->schema) == FoldName(schema.schema) &&
        FoldName(other.checkpoint.schema->name) == FoldName(schema.name) &&
        (other.checkpoint.schema->schema != schema.schema ||
         other.checkpoint.schema->name != schema.name))
      return Answer("two tables differ only in case: " + other.checkpoint.schema->QualifiedName());
  }
  if (owner.has_value()) return Answer();
  const auto found = tables_.find(schema.id.oid);
  if (found != tables_.end() && found->second.has_target &&
      FoldName(found->second.target_schema) == FoldName(schema.schema) &&
      FoldName(found->second.target_name) == FoldName(schema.name))
    return Answer();
  ETL_ASSIGN_OR_RETURN(const bool foreign,
                       connection_->Has(connection_->Table(schema.schema, schema.name)));
  if (foreign)
    return Answer("a table or view of that name is in the file, and this engine did not make it");
  return Answer();
}

Status DuckDbDestination::CreateTarget(TableState& table) {
  const TableSchema& schema = *table.checkpoint.schema;
  table.target_schema = schema.schema;
  table.target_name = schema.name;
  table.has_target = true;
  std::string columns = ColumnDefinitions(schema);
  if (options_.mode == Mode::kAppend) {
    for (const MetadataColumn& column : MetadataColumns())
      columns += fmt::format(", {} {}", column.name, column.type);
  }
  return connection_
      ->Execute("CREATE TABLE " + books_.Target(*connection_, table).Sql() + "(" + columns + ")")
      .status();
}

Status DuckDbDestination::DropCopy(TableState& table) {
  if (table.checkpoint.schema->columns.empty()) return Status::OK();
  std::string sql;
  for (const DuckDbTable& part :
       {books_.Pending(*connection_, table), books_.Settled(*connection_, table),
        books_.Shadow(*connection_, table)})
    sql += "DROP TABLE IF EXISTS " + part.Sql() + "; ";
  ETL_RETURN_IF_ERROR(connection_->Execute(sql).status());
  return books_.DropChunks(*connection_, table.checkpoint.schema->id);
}

// Keys that were deleted while nobody looked have no `d`: a `t` just before the copied rows says
// that nothing of before stands any more.
Status DuckDbDestination::VoidEarlierRows(const TableState& table) {
  arrow::FieldVector fields;
  arrow::ArrayVector columns;
  for (const Column& column : table.checkpoint.schema->columns) {
    fields.push_back(ArrowFieldOf(column.name, *column.type));
    ETL_ASSIGN_OR_RETURN(auto null, arrow::MakeArrayOfNull(fields.back()->type(), 1));
    columns.push_back(std::move(null));
  }
  ETL_ASSIGN_OR_RETURN(
      const auto row,
      EngineRows(arrow::RecordBatch::Make(arrow::schema(std::move(fields)), 1, std::move(columns)),
                 static_cast<Op>('t'), Lsn{table.checkpoint.from.value - 1}, FirstOrdinal(table)));
  changed_.insert(table.checkpoint.schema->id.oid);
  return connection_->Append(books_.Target(*connection_, table), *row);
}

// Dropped and created again at the source. No attnum of the old table means anything in the new
// one: columns of the same name and type go on, the others are dropped and added.
Status DuckDbDestination::TakeOver(TableState& table, TableSchemaPtr* before) {
  const TableSchema& schema = *table.checkpoint.schema;
  for (auto& [oid, other] : tables_) {
    if (&other == &table || !other.has_target || other.checkpoint.phase != TablePhase::kStopped ||
        FoldName(other.target_schema) != FoldName(schema.schema) ||
        FoldName(other.target_name) != FoldName(schema.name))
      continue;
    Remember(other.checkpoint.schema->id);
    auto known = std::make_shared<TableSchema>(*other.checkpoint.schema);
    for (size_t i = 0; i < known->columns.size(); ++i) {
      Column& column = known->columns[i];
      const auto same =
          std::find_if(schema.columns.begin(), schema.columns.end(), [&](const Column& next) {
            return next.name == column.name &&
                   DuckDbTypeName(*next.type) == DuckDbTypeName(*column.type);
          });
      // Those of the source are positive.
      column.attnum = same != schema.columns.end() ? same->attnum
                                                   : static_cast<int16_t>(-1 - static_cast<int>(i));
    }
    *before = std::move(known);
    table.has_target = true;
    table.target_schema = other.target_schema;
    table.target_name = other.target_name;
    if (changed_.contains(oid)) changed_.insert(schema.id.oid);
    other.has_target = false;
    return books_.SaveTable(*connection_, other);
  }
  return Status::OK();
}

Status DuckDbDestination::ApplyCopyStart(const CopyStart& start, Progress* progress) {
  const TableId id = start.schema->id;
  DropOpenChunks(id);
  ETL_ASSIGN_OR_RETURN(const auto refused, WhyRefused(*start.schema));
  if (refused.has_value()) {
    TableState& unwanted = Make(id);
    if (unwanted.checkpoint.schema->columns.empty()) unwanted.checkpoint.schema = start.schema;
    unwanted.checkpoint.generation = start.generation;
    return ApplyStop({id, "ETL-D120", start.schema->QualifiedName() + ": " + *refused}, progress);
  }
  TableState& table = Make(id);
  TableSchemaPtr before = table.checkpoint.schema;
  ETL_RETURN_IF_ERROR(DropCopy(table));
  // A target is kept in step only while it has the columns that the changes have.
  const bool keep =
      start.keep_target && table.has_target &&
      (table.checkpoint.phase == TablePhase::kLive ||
       (table.checkpoint.phase == TablePhase::kCopying && table.checkpoint.keep_target)) &&
      SameColumns(*before, *start.schema);
  table.checkpoint = TableCheckpoint{.schema = start.schema,
                                     .generation = start.generation,
                                     .phase = TablePhase::kCopying,
                                     .from = start.from,
                                     .keep_target = keep};
  fills_.erase(id.oid);
  ETL_RETURN_IF_ERROR(connection_
                          ->Execute("CREATE SCHEMA IF NOT EXISTS " +
                                    QuoteIdentifier(connection_->catalog()) + "." +
                                    QuoteIdentifier(start.schema->schema))
                          .status());
  if (options_.mode == Mode::kAppend) {
    if (!table.has_target) ETL_RETURN_IF_ERROR(TakeOver(table, &before));
    if (!table.has_target) {
      ETL_RETURN_IF_ERROR(CreateTarget(table));
    } else {
      ETL_RETURN_IF_ERROR(AlterTable(*connection_, books_.Target(*connection_, table), *before,
                                     *start.schema, {},
                                     {.by_attnum = false, .changed = changed_.contains(id.oid)}));
      ETL_ASSIGN_OR_RETURN(const int64_t renamed,
                           RenameUnchanged(*connection_, books_.Target(*connection_, table),
                                           *before, *start.schema));
      if (renamed > 0) changed_.insert(id.oid);
      if (table.target_schema != start.schema->schema || table.target_name != start.schema->name)
        ETL_RETURN_IF_ERROR(RenameTarget(table, start.schema->schema, start.schema->name));
      ETL_RETURN_IF_ERROR(VoidEarlierRows(table));
    }
  } else {
    ETL_RETURN_IF_ERROR(connection_
                            ->Execute("CREATE TABLE " + books_.Shadow(*connection_, table).Sql() +
                                      "(" + ColumnDefinitions(*start.schema) + "); CREATE TABLE " +
                                      books_.Pending(*connection_, table).Sql() + "(" +
                                      PendingDefinitions(*start.schema) + ")")
                            .status());
  }
  return books_.SaveTable(*connection_, table);
}

Status DuckDbDestination::ApplyPlan(const CopyPlan& plan) {
  TableState* table = Find(plan.table);
  if (table == nullptr || table->checkpoint.generation != plan.generation ||
      table->checkpoint.phase != TablePhase::kCopying)
    return Status::OK();
  Remember(plan.table);
  table->checkpoint.planned = true;
  table->checkpoint.chunks = plan.chunks;
  ETL_RETURN_IF_ERROR(books_.SavePlan(*connection_, *table));
  return books_.SaveTable(*connection_, *table);
}

Status DuckDbDestination::ApplyStop(const TableStop& stop, Progress* progress) {
  DropOpenChunks(stop.table);
  TableState& table = Make(stop.table);
  ETL_RETURN_IF_ERROR(DropCopy(table));
  table.checkpoint.phase = TablePhase::kStopped;
  table.checkpoint.keep_target = false;
  table.checkpoint.planned = false;
  table.checkpoint.chunks.clear();
  table.checkpoint.done.clear();
  table.checkpoint.stop_code = stop.code;
  table.checkpoint.stop_reason = stop.reason;
  if (progress != nullptr) progress->stopped.push_back(stop);
  return books_.SaveTable(*connection_, table);
}

}  // namespace etl
