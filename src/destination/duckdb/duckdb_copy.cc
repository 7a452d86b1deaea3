// The copy of a table: chunks, rows read again, the fold.

#include <algorithm>

#include <arrow/api.h>
#include <fmt/format.h>

#include "base/check.h"
#include "base/failpoint.h"
#include "destination/duckdb/duckdb_destination.h"
#include "destination/duckdb/duckdb_fold.h"

namespace etl {
namespace {

/// Rows of a chunk in an append table are numbered (chunk, row): no two chunks of a copy share a
/// position.
constexpr int kRowBits = 40;

}  // namespace

Result<std::unique_ptr<DuckDbConnection>> DuckDbDestination::SideConnection() {
  if (idle_sides_.empty()) return DuckDbConnection::Open(lease_->database());
  auto connection = std::move(idle_sides_.back());
  idle_sides_.pop_back();
  return connection;
}

void DuckDbDestination::DropOpenChunks(TableId table) {
  std::erase_if(chunks_, [&](const auto& entry) { return entry.first.first == table.oid; });
}

bool DuckDbDestination::HasOpenChunks(TableId table) const {
  const auto found = chunks_.lower_bound({table.oid, 0});
  return found != chunks_.end() && found->first.first == table.oid;
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
  const std::pair<uint32_t, uint32_t> name{rows.table.oid, rows.chunk};
  auto found = chunks_.find(name);
  if (found != chunks_.end() && rows.attempt < found->second.attempt) return Status::OK();
  if (found != chunks_.end() && rows.attempt > found->second.attempt) {
    found->second.connection->Rollback();
    chunks_.erase(found);
    found = chunks_.end();
  }
  if (found == chunks_.end()) {
    OpenChunk chunk{.attempt = rows.attempt, .generation = rows.generation};
    ETL_ASSIGN_OR_RETURN(chunk.connection, SideConnection());
    ETL_RETURN_IF_ERROR(chunk.connection->Begin());
    found = chunks_.emplace(name, std::move(chunk)).first;
  }
  OpenChunk& chunk = found->second;
  ETL_RETURN_IF_ERROR(WriteChunk(*table, rows, &chunk));
  if (!rows.done.has_value()) return Status::OK();
  const TableCheckpoint::DoneChunk record{rows.chunk, rows.done->high, rows.done->rows};
  ETL_RETURN_IF_ERROR(books_.SaveChunkDone(*chunk.connection, rows.table, rows.generation, record));
  ETL_FAILPOINT("duckdb.chunk.before_commit");
  ETL_RETURN_IF_ERROR(chunk.connection->Commit());
  ETL_FAILPOINT("duckdb.chunk.after_commit");
  idle_sides_.push_back(std::move(chunk.connection));
  chunks_.erase(found);
  done.push_back(record);
  table->checkpoint.rows += record.rows;
  // A transaction of the stream may be open and go back: what is done is done.
  if (const auto before = undo_.find(rows.table.oid);
      before != undo_.end() && before->second.has_value() &&
      before->second->checkpoint.generation == rows.generation) {
    before->second->checkpoint.done.push_back(record);
    before->second->checkpoint.rows += record.rows;
  }
  progress->chunks.push_back(report);
  return Status::OK();
}

Status DuckDbDestination::WriteChunk(const TableState& table, const ChunkRows& rows,
                                     OpenChunk* chunk) {
  if (rows.rows == nullptr || rows.rows->num_rows() == 0) return Status::OK();
  const auto fill = fills_.find(rows.table.oid);
  ETL_ASSIGN_OR_RETURN(auto mapped, MapRows(rows.rows, *rows.schema, *table.checkpoint.schema,
                                            fill == fills_.end() ? FillValues() : fill->second));
  DuckDbTable place = books_.Shadow(*chunk->connection, table);
  if (options_.mode == Mode::kAppend) {
    place = books_.Target(*chunk->connection, table);
    const uint64_t first =
        (static_cast<uint64_t>(rows.chunk) << kRowBits) + static_cast<uint64_t>(chunk->rows);
    ETL_ASSIGN_OR_RETURN(
        mapped, EngineRows(mapped, Op::kSnapshot, Lsn{table.checkpoint.from.value - 1}, first));
  }
  chunk->rows += mapped->num_rows();
  return chunk->connection->Append(place, *mapped);
}

Status DuckDbDestination::ApplySettled(const SettledRows& rows) {
  TableState* table = Find(rows.table);
  if (table == nullptr || !StoresPending(*table) ||
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
  // Rows of an earlier round give way to the newer reading.
  ETL_RETURN_IF_ERROR(side->Execute("CREATE TABLE IF NOT EXISTS " + settled.Sql() + "(" +
                                    definitions + "read_after UBIGINT, high UBIGINT)")
                          .status());
  ETL_RETURN_IF_ERROR(side->Execute(fmt::format("DELETE FROM {} WHERE read_after < {}",
                                                settled.Sql(), rows.read_after.value))
                          .status());
  ETL_RETURN_IF_ERROR(side->Append(
      settled,
      *arrow::RecordBatch::Make(arrow::schema(std::move(fields)), size, std::move(columns))));
  ETL_RETURN_IF_ERROR(side->Commit());
  idle_sides_.push_back(std::move(side));
  return Status::OK();
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
  if (options_.mode == Mode::kMirror) {
    ETL_ASSIGN_OR_RETURN(refused, WhyRefused(*table->checkpoint.schema));
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
                      .settled = {}};
    const DuckDbTable settled = books_.Settled(*connection_, *table);
    ETL_ASSIGN_OR_RETURN(
        const int64_t has_settled,
        connection_->Number(fmt::format(
            "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() AND "
            "schema_name = '_etl' AND table_name = {}",
            QuoteLiteral(settled.name))));
    if (has_settled > 0) tables.settled = settled;
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
