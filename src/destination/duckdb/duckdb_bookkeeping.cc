#include "destination/duckdb/duckdb_bookkeeping.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "model/schema_json.h"

namespace etl {
namespace {

/// 2: the mode of a pipeline is stored.
constexpr int kFormat = 2;

std::string ModeName(Mode mode) { return mode == Mode::kMirror ? "mirror" : "append"; }

template <typename T>
T Parse(const std::optional<std::string>& text) {
  T value = 0;
  if (text.has_value()) std::from_chars(text->data(), text->data() + text->size(), value);
  return value;
}

bool IsTrue(const std::optional<std::string>& text) { return text.value_or("") == "true"; }

Result<TablePhase> ParsePhase(const std::string& name) {
  for (const TablePhase phase :
       {TablePhase::kWaiting, TablePhase::kCopying, TablePhase::kLive, TablePhase::kStopped}) {
    if (TablePhaseName(phase) == name) return phase;
  }
  return MakeError(ErrorKind::kInternal, "ETL-D190", "unknown table phase in _etl.tables: " + name);
}

}  // namespace

Status DuckDbBookkeeping::Prepare(DuckDbConnection& connection) {
  ETL_ASSIGN_OR_RETURN(
      const int64_t present,
      connection.Number("SELECT count(*) FROM duckdb_tables() WHERE database_name = "
                        "current_database() AND schema_name = '_etl' AND table_name = 'meta'"));
  if (present == 0) {
    ETL_RETURN_IF_ERROR(connection.Begin());
    const Status made =
        connection
            .Execute(
                "CREATE SCHEMA IF NOT EXISTS _etl;"
                "CREATE TABLE _etl.progress(pipeline VARCHAR, system_id UBIGINT, database_oid "
                "UINTEGER, slot VARCHAR, timeline UINTEGER, \"position\" UBIGINT, lc_monetary "
                "VARCHAR, \"mode\" VARCHAR);"
                "CREATE TABLE _etl.tables(pipeline VARCHAR, oid UINTEGER, generation UINTEGER, "
                "phase VARCHAR, from_lsn UBIGINT, keep_target BOOLEAN, planned BOOLEAN, "
                "\"schema\" VARCHAR, has_target BOOLEAN, target_schema VARCHAR, target_name "
                "VARCHAR, stop_code VARCHAR, stop_reason VARCHAR, \"rows\" BIGINT, fingerprint "
                "VARCHAR);"
                "CREATE TABLE _etl.chunks(pipeline VARCHAR, oid UINTEGER, generation UINTEGER, "
                "number UINTEGER, leaf UINTEGER, leaf_schema VARCHAR, leaf_name VARCHAR, "
                "file_node UINTEGER, first_block UINTEGER, end_block UINTEGER, rows_estimate "
                "BIGINT);"
                "CREATE TABLE _etl.chunks_done(pipeline VARCHAR, oid UINTEGER, generation "
                "UINTEGER, number UINTEGER, high UBIGINT, \"rows\" BIGINT);"
                "CREATE TABLE _etl.meta AS SELECT " +
                std::to_string(kFormat) + " AS format")
            .status();
    if (!made.ok()) {
      connection.Rollback();
      return made;
    }
    return connection.Commit();
  }
  ETL_ASSIGN_OR_RETURN(const int64_t format, connection.Number("SELECT format FROM _etl.meta"));
  if (format > kFormat) {
    return MakeError(ErrorKind::kConfig, "ETL-D123",
                     "the file's bookkeeping was written by a newer version of this program",
                     "use that version, or another file");
  }
  if (format == kFormat) return Status::OK();
  ETL_RETURN_IF_ERROR(connection.Begin());
  const Status migrated =
      connection
          .Execute(fmt::format("ALTER TABLE _etl.progress ADD COLUMN \"mode\" VARCHAR; "
                               "UPDATE _etl.meta SET format = {}",
                               kFormat))
          .status();
  if (!migrated.ok()) {
    connection.Rollback();
    return migrated;
  }
  return connection.Commit();
}

Status DuckDbBookkeeping::CheckMode(DuckDbConnection& connection,
                                    const std::map<uint32_t, DuckDbTableState>& tables) const {
  const std::string mine = " WHERE pipeline = " + QuoteLiteral(pipeline_);
  ETL_ASSIGN_OR_RETURN(const auto rows,
                       connection.Rows("SELECT \"mode\" FROM _etl.progress" + mine));
  if (rows.empty()) return Status::OK();
  std::string stored = rows[0][0].value_or("");
  if (stored.empty()) {
    ETL_ASSIGN_OR_RETURN(const auto found, ModeOfTables(connection, tables));
    stored = ModeName(found.value_or(mode_));
    ETL_RETURN_IF_ERROR(
        connection.Execute("UPDATE _etl.progress SET \"mode\" = " + QuoteLiteral(stored) + mine)
            .status());
  }
  if (stored == ModeName(mode_)) return Status::OK();
  return MakeError(ErrorKind::kConfig,
                   {.code = "ETL-D126",
                    .what = fmt::format("the tables of pipeline {} were filled in mode {}, and its "
                                        "mode is now {}",
                                        pipeline_, stored, ModeName(mode_)),
                    .why = "a table holds the source's rows or their changes, not both",
                    .safe = "the file was not changed",
                    .remedy = fmt::format("set `mode: {}` again, or let the pipeline write into "
                                          "another file",
                                          stored)});
}

// What an older program has left: a table has metadata columns of its own in append, and a first
// copy has a table that readers see.
Result<std::optional<Mode>> DuckDbBookkeeping::ModeOfTables(
    DuckDbConnection& connection, const std::map<uint32_t, DuckDbTableState>& tables) const {
  for (const auto& [oid, table] : tables) {
    const TableCheckpoint& checkpoint = table.checkpoint;
    if (!table.has_target) {
      if (checkpoint.phase == TablePhase::kCopying) return std::optional(Mode::kMirror);
      continue;
    }
    ETL_ASSIGN_OR_RETURN(
        const auto columns,
        connection.Rows(fmt::format(
            "SELECT column_name FROM duckdb_columns() WHERE database_name = current_database() AND "
            "schema_name = {} AND table_name = {}",
            QuoteLiteral(table.target_schema), QuoteLiteral(table.target_name))));
    if (columns.empty()) continue;
    const std::string sign = MetadataColumns()[0].name;
    const bool has_sign = std::any_of(columns.begin(), columns.end(),
                                      [&](const TextRow& column) { return column[0] == sign; });
    const auto& own = checkpoint.schema->columns;
    const bool is_own = std::any_of(own.begin(), own.end(), [&](const Column& column) {
      return FoldName(column.name) == sign;
    });
    return std::optional(has_sign && !is_own ? Mode::kAppend : Mode::kMirror);
  }
  return std::optional<Mode>();
}

Result<Checkpoint> DuckDbBookkeeping::LoadProgress(DuckDbConnection& connection) const {
  Checkpoint checkpoint;
  ETL_ASSIGN_OR_RETURN(auto rows,
                       connection.Rows("SELECT system_id::VARCHAR, database_oid::VARCHAR, slot, "
                                       "timeline::VARCHAR, \"position\"::VARCHAR, lc_monetary FROM "
                                       "_etl.progress WHERE pipeline = " +
                                       QuoteLiteral(pipeline_)));
  if (rows.empty()) return checkpoint;
  const TextRow& row = rows[0];
  checkpoint.identity =
      SourceIdentity{Parse<uint64_t>(row[0]), Parse<uint32_t>(row[1]), row[2].value_or("")};
  checkpoint.timeline = Parse<uint32_t>(row[3]);
  checkpoint.position = Lsn{Parse<uint64_t>(row[4])};
  checkpoint.lc_monetary = row[5].value_or("");
  return checkpoint;
}

Result<std::map<uint32_t, DuckDbTableState>> DuckDbBookkeeping::LoadTables(
    DuckDbConnection& connection) const {
  std::map<uint32_t, DuckDbTableState> tables;
  const std::string mine = " WHERE pipeline = " + QuoteLiteral(pipeline_);
  ETL_ASSIGN_OR_RETURN(
      auto rows,
      connection.Rows(
          "SELECT oid::VARCHAR, generation::VARCHAR, phase, from_lsn::VARCHAR, "
          "keep_target::VARCHAR, planned::VARCHAR, \"schema\", has_target::VARCHAR, "
          "target_schema, target_name, stop_code, stop_reason, \"rows\"::VARCHAR, fingerprint FROM "
          "_etl.tables" +
          mine));
  for (const TextRow& row : rows) {
    DuckDbTableState& table = tables[Parse<uint32_t>(row[0])];
    TableCheckpoint& checkpoint = table.checkpoint;
    checkpoint.generation = Parse<uint32_t>(row[1]);
    ETL_ASSIGN_OR_RETURN(checkpoint.phase, ParsePhase(row[2].value_or("")));
    checkpoint.from = Lsn{Parse<uint64_t>(row[3])};
    checkpoint.keep_target = IsTrue(row[4]);
    checkpoint.planned = IsTrue(row[5]);
    ETL_ASSIGN_OR_RETURN(checkpoint.schema, SchemaFromJson(row[6].value_or("")));
    table.has_target = IsTrue(row[7]);
    table.target_schema = row[8].value_or("");
    table.target_name = row[9].value_or("");
    checkpoint.stop_code = row[10].value_or("");
    checkpoint.stop_reason = row[11].value_or("");
    checkpoint.rows = Parse<int64_t>(row[12]);
    checkpoint.fingerprint = row[13].value_or("");
  }
  ETL_ASSIGN_OR_RETURN(
      auto chunks,
      connection.Rows("SELECT oid::VARCHAR, generation::VARCHAR, number::VARCHAR, leaf::VARCHAR, "
                      "leaf_schema, leaf_name, file_node::VARCHAR, first_block::VARCHAR, "
                      "end_block::VARCHAR, rows_estimate::VARCHAR FROM _etl.chunks" +
                      mine + " ORDER BY oid, number"));
  for (const TextRow& row : chunks) {
    const auto found = tables.find(Parse<uint32_t>(row[0]));
    if (found == tables.end() || found->second.checkpoint.generation != Parse<uint32_t>(row[1]))
      continue;
    Chunk chunk{.number = Parse<uint32_t>(row[2]),
                .leaf = {Parse<uint32_t>(row[3])},
                .leaf_schema = row[4].value_or(""),
                .leaf_name = row[5].value_or(""),
                .file_node = Parse<uint32_t>(row[6]),
                .first_block = Parse<uint32_t>(row[7]),
                .end_block = {},
                .rows_estimate = Parse<int64_t>(row[9])};
    if (row[8].has_value()) chunk.end_block = Parse<uint32_t>(row[8]);
    found->second.checkpoint.chunks.push_back(std::move(chunk));
  }
  ETL_ASSIGN_OR_RETURN(auto done,
                       connection.Rows("SELECT oid::VARCHAR, generation::VARCHAR, number::VARCHAR, "
                                       "high::VARCHAR, \"rows\"::VARCHAR FROM _etl.chunks_done" +
                                       mine + " ORDER BY oid, number"));
  for (const TextRow& row : done) {
    const auto found = tables.find(Parse<uint32_t>(row[0]));
    if (found == tables.end() || found->second.checkpoint.generation != Parse<uint32_t>(row[1]))
      continue;
    TableCheckpoint& checkpoint = found->second.checkpoint;
    checkpoint.done.push_back(
        {Parse<uint32_t>(row[2]), Lsn{Parse<uint64_t>(row[3])}, Parse<int64_t>(row[4])});
    if (checkpoint.phase == TablePhase::kCopying) checkpoint.rows += checkpoint.done.back().rows;
  }
  return tables;
}

Status DuckDbBookkeeping::SaveHistory(DuckDbConnection& connection,
                                      const Checkpoint& checkpoint) const {
  const SourceIdentity identity = checkpoint.identity.value_or(SourceIdentity{});
  return connection
      .Execute(
          fmt::format("DELETE FROM _etl.progress WHERE pipeline = {0};"
                      "INSERT INTO _etl.progress VALUES ({0}, {1}, {2}, {3}, {4}, {5}, {6}, {7})",
                      QuoteLiteral(pipeline_), identity.system_id, identity.database_oid,
                      QuoteLiteral(identity.slot), checkpoint.timeline, checkpoint.position.value,
                      QuoteLiteral(checkpoint.lc_monetary), QuoteLiteral(ModeName(mode_))))
      .status();
}

Status DuckDbBookkeeping::SavePosition(DuckDbConnection& connection, Lsn position) const {
  return connection
      .Execute(fmt::format("UPDATE _etl.progress SET \"position\" = {} WHERE pipeline = {}",
                           position.value, QuoteLiteral(pipeline_)))
      .status();
}

Status DuckDbBookkeeping::SaveTable(DuckDbConnection& connection,
                                    const DuckDbTableState& table) const {
  const TableCheckpoint& checkpoint = table.checkpoint;
  // Rows of done chunks are counted from their own records.
  const int64_t rows = checkpoint.phase == TablePhase::kCopying ? 0 : checkpoint.rows;
  return connection
      .Execute(fmt::format("DELETE FROM _etl.tables WHERE {};"
                           "INSERT INTO _etl.tables VALUES ({}, {}, {}, {}, {}, {}, {}, {}, {}, "
                           "{}, {}, {}, {}, {}, {})",
                           Where(checkpoint.schema->id), QuoteLiteral(pipeline_),
                           checkpoint.schema->id.oid, checkpoint.generation,
                           QuoteLiteral(TablePhaseName(checkpoint.phase)), checkpoint.from.value,
                           checkpoint.keep_target, checkpoint.planned,
                           QuoteLiteral(SchemaToJson(*checkpoint.schema)), table.has_target,
                           QuoteLiteral(table.target_schema), QuoteLiteral(table.target_name),
                           QuoteLiteral(checkpoint.stop_code), QuoteLiteral(checkpoint.stop_reason),
                           rows, QuoteLiteral(checkpoint.fingerprint)))
      .status();
}

Status DuckDbBookkeeping::DropPipeline(DuckDbConnection& connection) const {
  for (const char* table : {"progress", "tables", "chunks", "chunks_done"}) {
    ETL_RETURN_IF_ERROR(connection
                            .Execute(std::string("DELETE FROM _etl.") + table +
                                     " WHERE pipeline = " + QuoteLiteral(pipeline_))
                            .status());
  }
  return Status::OK();
}

Status DuckDbBookkeeping::DropTable(DuckDbConnection& connection, TableId table) const {
  return connection.Execute("DELETE FROM _etl.tables WHERE " + Where(table)).status();
}

Status DuckDbBookkeeping::SavePlan(DuckDbConnection& connection,
                                   const DuckDbTableState& table) const {
  const TableCheckpoint& checkpoint = table.checkpoint;
  ETL_RETURN_IF_ERROR(
      connection.Execute("DELETE FROM _etl.chunks WHERE " + Where(checkpoint.schema->id)).status());
  std::string values;
  for (const Chunk& chunk : checkpoint.chunks) {
    values +=
        fmt::format("{}({}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {})", values.empty() ? "" : ", ",
                    QuoteLiteral(pipeline_), checkpoint.schema->id.oid, checkpoint.generation,
                    chunk.number, chunk.leaf.oid, QuoteLiteral(chunk.leaf_schema),
                    QuoteLiteral(chunk.leaf_name), chunk.file_node, chunk.first_block,
                    chunk.end_block.has_value() ? std::to_string(*chunk.end_block) : "NULL",
                    chunk.rows_estimate);
  }
  if (values.empty()) return Status::OK();
  return connection.Execute("INSERT INTO _etl.chunks VALUES " + values).status();
}

Status DuckDbBookkeeping::SaveChunkDone(DuckDbConnection& connection, TableId table,
                                        uint32_t generation,
                                        const TableCheckpoint::DoneChunk& chunk) const {
  return connection
      .Execute(fmt::format("INSERT INTO _etl.chunks_done VALUES ({}, {}, {}, {}, {}, {})",
                           QuoteLiteral(pipeline_), table.oid, generation, chunk.number,
                           chunk.high.value, chunk.rows))
      .status();
}

Status DuckDbBookkeeping::DropChunks(DuckDbConnection& connection, TableId table) const {
  return connection
      .Execute("DELETE FROM _etl.chunks WHERE " + Where(table) +
               "; DELETE FROM _etl.chunks_done WHERE " + Where(table))
      .status();
}

Result<std::optional<std::string>> DuckDbBookkeeping::OwnerOf(DuckDbConnection& connection,
                                                              const std::string& schema,
                                                              const std::string& name,
                                                              TableId except) const {
  ETL_ASSIGN_OR_RETURN(
      auto rows,
      connection.Rows(fmt::format(
          "SELECT pipeline FROM _etl.tables WHERE has_target AND lower(target_schema) = lower({}) "
          "AND lower(target_name) = lower({}) AND NOT ({})",
          QuoteLiteral(schema), QuoteLiteral(name), Where(except))));
  if (rows.empty()) return std::optional<std::string>();
  return rows[0][0];
}

DuckDbTable DuckDbBookkeeping::Pending(const DuckDbConnection& connection,
                                       const DuckDbTableState& table) const {
  return connection.Table(
      "_etl", fmt::format("pending_{}_{}_{}", pipeline_, table.checkpoint.schema->id.oid,
                          table.checkpoint.generation));
}

DuckDbTable DuckDbBookkeeping::Settled(const DuckDbConnection& connection,
                                       const DuckDbTableState& table) const {
  return connection.Table(
      "_etl", fmt::format("settled_{}_{}_{}", pipeline_, table.checkpoint.schema->id.oid,
                          table.checkpoint.generation));
}

DuckDbTable DuckDbBookkeeping::Shadow(const DuckDbConnection& connection,
                                      const DuckDbTableState& table) const {
  return connection.Table(
      table.checkpoint.schema->schema,
      fmt::format("_etl_shadow_{}_{}", pipeline_, table.checkpoint.schema->id.oid));
}

DuckDbTable DuckDbBookkeeping::Target(const DuckDbConnection& connection,
                                      const DuckDbTableState& table) const {
  return connection.Table(table.target_schema, table.target_name);
}

std::string DuckDbBookkeeping::Where(TableId table) const {
  return fmt::format("pipeline = {} AND oid = {}", QuoteLiteral(pipeline_), table.oid);
}

}  // namespace etl
