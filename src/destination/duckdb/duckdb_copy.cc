// The copy of a table: chunks, rows read again, the fold.

#include <algorithm>
#include <set>

#include <arrow/api.h>
#include <fmt/format.h>

#include "base/check.h"
#include "base/failpoint.h"
#include "destination/duckdb/duckdb_destination.h"
#include "destination/duckdb/duckdb_fold.h"
#include "destination/duckdb/duckdb_settle.h"

namespace etl {
namespace {

/// Rows of a chunk in an append table are numbered (chunk, row), from 1: no two chunks of a copy
/// share a position. 0 is the place of the row that voids what was there before the copy.
constexpr int kRowBits = 32;
/// A transaction that appends a whole row group of DuckDB puts its rows into the file as they are;
/// a smaller one writes them to the log first, and a checkpoint compresses them again.
constexpr int64_t kRowGroup = 122880;
constexpr int64_t kWorthStoringRows = 2 * kRowGroup;
/// What a crash costs at most: so many chunks are read again.
constexpr size_t kChunksInGroup = 4;

}  // namespace

// Copies that began at one boundary come in their order.
uint64_t DuckDbDestination::FirstOrdinal(const TableState& table) {
  constexpr int kGenerationShift = 56;
  return static_cast<uint64_t>(table.checkpoint.generation - 1) << kGenerationShift;
}

Result<std::unique_ptr<DuckDbConnection>> DuckDbDestination::SideConnection() {
  if (idle_sides_.empty()) return DuckDbConnection::Open(lease_->database());
  auto connection = std::move(idle_sides_.back());
  idle_sides_.pop_back();
  return connection;
}

void DuckDbDestination::DropOpenChunks(TableId table) {
  std::erase_if(groups_, [&](const ChunkGroup& group) { return group.table == table; });
}

bool DuckDbDestination::HasOpenChunks(TableId table) const {
  return std::any_of(groups_.begin(), groups_.end(),
                     [&](const ChunkGroup& group) { return group.table == table; });
}

// The group that takes these rows: the chunk's own, else one of the table in which none is coming,
// else a new one. None for rows of an attempt that was given up.
Result<DuckDbDestination::ChunkGroup*> DuckDbDestination::GroupFor(const ChunkRows& rows) {
  for (auto group = groups_.begin(); group != groups_.end(); ++group) {
    if (group->table != rows.table || !group->coming || group->coming->chunk != rows.chunk)
      continue;
    if (rows.attempt < group->coming->attempt) return nullptr;
    if (rows.attempt == group->coming->attempt) return &*group;
    if (!group->complete.empty()) {
      // The rows of the attempt before cannot be taken out alone.
      return MakeError(ErrorKind::kTransient, "ETL-D135",
                       "a chunk is read again before the ones beside it were stored");
    }
    group->connection->Rollback();
    groups_.erase(group);
    break;
  }
  const ChunkGroup::Coming coming{.chunk = rows.chunk, .attempt = rows.attempt};
  for (ChunkGroup& group : groups_) {
    if (group.table != rows.table || group.coming) continue;
    group.coming = coming;
    return &group;
  }
  ChunkGroup group{.table = rows.table, .generation = rows.generation};
  ETL_ASSIGN_OR_RETURN(group.connection, SideConnection());
  ETL_RETURN_IF_ERROR(group.connection->Begin());
  group.coming = coming;
  groups_.push_back(std::move(group));
  return &groups_.back();
}

Status DuckDbDestination::ApplyChunk(ChunkRows& rows, Progress* progress) {
  TableState* table = Find(rows.table);
  if (table == nullptr || table->checkpoint.phase != TablePhase::kCopying ||
      table->checkpoint.generation != rows.generation)
    return Status::OK();
  auto& done = table->checkpoint.done;
  const bool stored = std::any_of(done.begin(), done.end(),
                                  [&](const auto& chunk) { return chunk.number == rows.chunk; });
  const Progress::ChunkDone report{rows.table, rows.generation, rows.chunk};
  if (stored) {
    if (rows.done.has_value()) progress->chunks.push_back(report);
    return Status::OK();
  }
  ETL_ASSIGN_OR_RETURN(ChunkGroup * group, GroupFor(rows));
  if (group == nullptr) return Status::OK();
  ETL_RETURN_IF_ERROR(WriteChunk(*table, rows, group));
  if (!rows.done.has_value()) return Status::OK();
  const TableCheckpoint::DoneChunk record{rows.chunk, rows.done->high, rows.done->rows};
  ETL_RETURN_IF_ERROR(
      books_.SaveChunkDone(*group->connection, rows.table, rows.generation, record));
  group->coming.reset();
  group->complete.push_back(record);
  group->complete_rows += record.rows;
  group->complete_since = clock_.Now();
  return WorthStoring(*table, *group) ? StoreGroup(*group, progress) : Status::OK();
}

// What rows hold that are not in the file yet: those after the last whole row group.
int64_t DuckDbDestination::HeldBytes(const ChunkGroup& group) {
  const int64_t rows = group.complete_rows + (group.coming ? group.coming->rows : 0);
  return rows == 0 ? 0 : group.bytes / rows * (rows % kRowGroup);
}

// Enough rows, unless the rest of the table would be too few for a transaction of its own; enough
// chunks; as many bytes as memory can spare; or nothing left of the plan to wait for.
bool DuckDbDestination::WorthStoring(const TableState& table, const ChunkGroup& group) const {
  if (group.complete.size() >= kChunksInGroup) return true;
  int64_t held = 0;
  for (const ChunkGroup& each : groups_) held += HeldBytes(each);
  if (held >= file_->options().memory_bytes / 2) return true;
  std::set<uint32_t> known;
  for (const auto& chunk : table.checkpoint.done) known.insert(chunk.number);
  for (const ChunkGroup& each : groups_) {
    if (each.table != group.table) continue;
    for (const auto& chunk : each.complete) known.insert(chunk.number);
    if (each.coming) known.insert(each.coming->chunk);
  }
  bool all = true;
  int64_t rest = 0;
  for (const Chunk& chunk : table.checkpoint.chunks) {
    if (known.contains(chunk.number)) continue;
    all = false;
    rest += chunk.rows_estimate;
  }
  return all || (group.complete_rows >= kWorthStoringRows && rest >= kRowGroup);
}

Status DuckDbDestination::StoreGroup(ChunkGroup& group, Progress* progress) {
  ETL_FAILPOINT("duckdb.chunk.before_commit");
  ETL_RETURN_IF_ERROR(group.connection->Commit());
  ETL_FAILPOINT("duckdb.chunk.after_commit");
  const auto note = [&group](TableCheckpoint& checkpoint) {
    for (const TableCheckpoint::DoneChunk& record : group.complete) {
      checkpoint.done.push_back(record);
      checkpoint.rows += record.rows;
    }
  };
  if (TableState* table = Find(group.table)) note(table->checkpoint);
  // A transaction of the stream may be open and go back: what is done is done.
  if (const auto before = undo_.find(group.table.oid);
      before != undo_.end() && before->second.has_value() &&
      before->second->checkpoint.generation == group.generation) {
    note(before->second->checkpoint);
  }
  for (const TableCheckpoint::DoneChunk& record : group.complete)
    progress->chunks.push_back({group.table, group.generation, record.number});
  idle_sides_.push_back(std::move(group.connection));
  std::erase_if(groups_, [&](const ChunkGroup& each) { return &each == &group; });
  return Status::OK();
}

Status DuckDbDestination::StoreCompleteGroups(Progress* progress) {
  for (size_t i = groups_.size(); i-- > 0;) {
    if (!groups_[i].coming) ETL_RETURN_IF_ERROR(StoreGroup(groups_[i], progress));
  }
  return Status::OK();
}

Status DuckDbDestination::WriteChunk(const TableState& table, const ChunkRows& rows,
                                     ChunkGroup* group) {
  if (rows.rows == nullptr || rows.rows->num_rows() == 0) return Status::OK();
  const auto fill = fills_.find(rows.table.oid);
  ETL_ASSIGN_OR_RETURN(auto mapped, MapRows(rows.rows, *rows.schema, *table.checkpoint.schema,
                                            fill == fills_.end() ? FillValues() : fill->second));
  DuckDbTable place = books_.Shadow(*group->connection, table);
  if (options_.mode == Mode::kAppend) {
    place = books_.Target(*group->connection, table);
    const uint64_t first = FirstOrdinal(table) + 1 +
                           (static_cast<uint64_t>(rows.chunk) << kRowBits) +
                           static_cast<uint64_t>(group->coming->rows);
    ETL_ASSIGN_OR_RETURN(
        mapped, EngineRows(mapped, Op::kSnapshot, Lsn{table.checkpoint.from.value - 1}, first));
  }
  group->coming->rows += mapped->num_rows();
  group->bytes += rows.bytes;
  return group->connection->Append(place, *mapped);
}

Status DuckDbDestination::ApplySettled(const SettledRows& rows) {
  TableState* table = Find(rows.table);
  if (table == nullptr || table->checkpoint.phase != TablePhase::kCopying ||
      table->checkpoint.generation != rows.generation || rows.rows == nullptr)
    return Status::OK();
  const TableSchema& schema = *table->checkpoint.schema;
  ETL_ASSIGN_OR_RETURN(auto side, SideConnection());
  const DuckDbTable settled = books_.Settled(*side, *table);
  std::string definitions;
  arrow::FieldVector fields;
  for (const Column& column : schema.columns) {
    const std::string name = "c" + std::to_string(column.attnum);
    definitions += name + " " + DuckDbTypeName(*column.type) + ", ";
    fields.push_back(ArrowFieldOf(name, *column.type));
  }
  const int64_t size = rows.rows->num_rows();
  arrow::ArrayVector columns = rows.rows->columns();
  if (static_cast<size_t>(rows.rows->num_columns()) != schema.columns.size()) return Status::OK();
  for (const auto& [name, lsn] : {std::pair{"read_after", rows.read_after}, {"high", rows.high}}) {
    fields.push_back(arrow::field(name, arrow::uint64()));
    ETL_ASSIGN_OR_RETURN(auto column,
                         arrow::MakeArrayFromScalar(arrow::UInt64Scalar(lsn.value), size));
    columns.push_back(std::move(column));
  }
  ETL_RETURN_IF_ERROR(side->Begin());
  ETL_RETURN_IF_ERROR(side->Execute("CREATE TABLE IF NOT EXISTS " + settled.Sql() + "(" +
                                    definitions + "read_after UBIGINT, high UBIGINT)")
                          .status());
  ETL_RETURN_IF_ERROR(side->Append(
      settled,
      *arrow::RecordBatch::Make(arrow::schema(std::move(fields)), size, std::move(columns))));
  ETL_RETURN_IF_ERROR(side->Commit());
  idle_sides_.push_back(std::move(side));
  return Status::OK();
}

// The table of rows read again, if there is one.
Result<std::optional<DuckDbTable>> DuckDbDestination::SettledOf(const TableState& table) {
  const DuckDbTable settled = books_.Settled(*connection_, table);
  ETL_ASSIGN_OR_RETURN(const bool found, connection_->Has(settled));
  return found ? std::optional<DuckDbTable>(settled) : std::nullopt;
}

Status DuckDbDestination::ApplyFold(const FoldRequest& request, Progress* progress) {
  TableState* table = Find(request.table);
  if (table == nullptr || table->checkpoint.generation != request.generation) return Status::OK();
  FoldResult result{.table = request.table, .generation = request.generation};
  result.at = progress_.position;
  if (table->checkpoint.phase == TablePhase::kLive) {
    result.folded = true;
    result.rows = table->checkpoint.rows;
    progress->folds.push_back(std::move(result));
    return Status::OK();
  }
  if (table->checkpoint.phase != TablePhase::kCopying) return Status::OK();
  DropOpenChunks(request.table);
  ETL_RETURN_IF_ERROR(connection_->Begin());
  Remember(request.table);
  FoldOutcome outcome;
  std::optional<std::string> refused;
  ETL_ASSIGN_OR_RETURN(const std::optional<DuckDbTable> settled, SettledOf(*table));
  if (options_.mode == Mode::kMirror) {
    ETL_ASSIGN_OR_RETURN(refused, WhyRefused(*table->checkpoint.schema));
  } else if (table->checkpoint.schema->identity == Identity::kKey) {
    const AppendCopy copy{.target = books_.Target(*connection_, *table),
                          .from = table->checkpoint.from,
                          .first_ordinal = FirstOrdinal(*table),
                          .settled = settled,
                          .position = progress_.position};
    ETL_ASSIGN_OR_RETURN(outcome, SettleAppend(*connection_, *table->checkpoint.schema, copy,
                                               file_->options().memory_bytes));
  }
  if (options_.mode == Mode::kMirror && !refused.has_value()) {
    // The shadow takes its place before its rows change: DuckDB 1.5 logs a change under the name
    // that the table has at the commit, and cannot replay its log where the change comes before
    // the rename.
    if (table->has_target) {
      ETL_RETURN_IF_ERROR(
          connection_->Execute("DROP TABLE IF EXISTS " + books_.Target(*connection_, *table).Sql())
              .status());
      table->has_target = false;
    }
    ETL_RETURN_IF_ERROR(MoveShadow(*table));
    FoldTables tables{.shadow = books_.Target(*connection_, *table),
                      .pending = books_.Pending(*connection_, *table),
                      .settled = settled};
    DuckDbFold fold(*connection_, *table->checkpoint.schema, tables, request.ignore_below,
                    file_->options().memory_bytes);
    ETL_ASSIGN_OR_RETURN(outcome, fold.Run());
  }
  if (outcome.diverged || outcome.missing != nullptr) {
    connection_->Rollback();
    Undo();
    if (outcome.diverged) return SetAside({request.table, outcome.why}, progress);
    result.missing_keys = std::move(outcome.missing);
    result.xids = std::move(outcome.xids);
    progress->folds.push_back(std::move(result));
    return Status::OK();
  }
  Progress found;
  if (refused.has_value()) {
    const TableSchema& schema = *table->checkpoint.schema;
    ETL_RETURN_IF_ERROR(
        ApplyStop({schema.id, "ETL-D120", schema.QualifiedName() + ": " + *refused}, &found));
  } else {
    ETL_RETURN_IF_ERROR(FinishFold(*table, &result));
  }
  ETL_FAILPOINT("duckdb.fold.before_commit");
  ETL_RETURN_IF_ERROR(connection_->Commit());
  ETL_FAILPOINT("duckdb.fold.after_commit");
  undo_.clear();
  fills_.erase(request.table.oid);
  for (TableStop& stop : found.stopped) progress->stopped.push_back(std::move(stop));
  if (result.folded) progress->folds.push_back(std::move(result));
  return Status::OK();
}

Status DuckDbDestination::MoveShadow(TableState& table) {
  // The shadow takes the place as if it were the target already: a table whose own rename is still
  // to come makes room.
  const DuckDbTable shadow = books_.Shadow(*connection_, table);
  table.target_schema = shadow.schema;
  table.target_name = shadow.name;
  ETL_RETURN_IF_ERROR(
      RenameTarget(table, table.checkpoint.schema->schema, table.checkpoint.schema->name));
  table.has_target = true;
  return Status::OK();
}

Status DuckDbDestination::FinishFold(TableState& table, FoldResult* result) {
  if (options_.mode == Mode::kMirror) {
    ETL_ASSIGN_OR_RETURN(
        table.checkpoint.rows,
        connection_->Number("SELECT count(*) FROM " + books_.Target(*connection_, table).Sql()));
  }
  ETL_RETURN_IF_ERROR(DropCopy(table));
  table.checkpoint.phase = TablePhase::kLive;
  table.checkpoint.keep_target = false;
  table.checkpoint.planned = false;
  table.checkpoint.chunks.clear();
  table.checkpoint.done.clear();
  result->folded = true;
  result->rows = table.checkpoint.rows;
  return books_.SaveTable(*connection_, table);
}

}  // namespace etl
