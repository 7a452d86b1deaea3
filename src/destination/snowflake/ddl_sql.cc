#include "destination/snowflake/ddl_sql.h"

#include <fmt/format.h>

#include "destination/snowflake/snowflake_types.h"

namespace etl {
namespace {

std::string CreateSchema(const SnowflakeNames& names, const std::string& schema) {
  return "CREATE SCHEMA IF NOT EXISTS " + QuoteIdentifier(names.database()) + "." +
         QuoteIdentifier(schema);
}

std::string ColumnDefinitions(const SnowflakeTable& table) {
  std::string text;
  for (const Column& column : table.schema->columns) {
    if (!text.empty()) text += ", ";
    text += QuoteIdentifier(table.names.Fold(column.name)) + " " + SnowflakeType(*column.type);
  }
  return text;
}

std::string OfPipeline(const std::string& pipeline) {
  return "\"PIPELINE\" = " + QuoteLiteral(pipeline);
}

std::string OfTable(const SnowflakeTable& table) {
  return fmt::format("{} AND \"TABLE_OID\" = {}", OfPipeline(table.pipeline), table.schema->id.oid);
}

}  // namespace

std::string_view ProgressKindName(ProgressKind kind) {
  switch (kind) {
    case ProgressKind::kHistory: return "history";
    case ProgressKind::kForward: return "forward";
    case ProgressKind::kTable: return "table";
    case ProgressKind::kPlan: return "plan";
    case ProgressKind::kChunk: return "chunk";
    case ProgressKind::kStop: return "stop";
    case ProgressKind::kSpread: return "spread";
    case ProgressKind::kXids: return "xids";
  }
  return "";
}

std::vector<std::string> BookkeepingSql(const SnowflakeNames& names) {
  return {CreateSchema(names, names.landing_schema()),
          "CREATE TABLE IF NOT EXISTS " + names.Progress().Sql() +
              " (\"PIPELINE\" VARCHAR, \"HISTORY\" NUMBER(10,0), \"SEQUENCE\" NUMBER(19,0), "
              "\"KIND\" VARCHAR, \"TABLE_OID\" NUMBER(10,0), \"GENERATION\" NUMBER(10,0), "
              "\"LSN\" VARCHAR(16), \"BODY\" VARCHAR(134217728), \"AT\" TIMESTAMP_TZ(6))",
          "CREATE TABLE IF NOT EXISTS " + names.Watermark().Sql() +
              " (\"PIPELINE\" VARCHAR, \"TABLE_OID\" NUMBER(10,0), \"GENERATION\" NUMBER(10,0), "
              "\"TABLE_NAME\" VARCHAR, \"PHASE\" VARCHAR, \"APPLIED\" VARCHAR(16), "
              "\"CLAIMED\" VARCHAR(16), \"TASK\" VARCHAR)"};
}

std::vector<std::string> CreateSchemasSql(const SnowflakeNames& names, const TableSchema& schema) {
  return {CreateSchema(names, names.landing_schema()),
          CreateSchema(names, names.Target(schema).schema)};
}

std::string CreateLandingSql(const SnowflakeTable& table) {
  return fmt::format(
      "CREATE TABLE IF NOT EXISTS {} ({}, {} VARCHAR(1), {} VARCHAR(33), {} TIMESTAMP_TZ(6), {} "
      "ARRAY)",
      table.names.Landing(*table.schema).Sql(), ColumnDefinitions(table),
      QuoteIdentifier(kOpColumn), QuoteIdentifier(kPositionColumn),
      QuoteIdentifier(kCommitTimeColumn), QuoteIdentifier(kUnchangedColumn));
}

std::string CreateTargetSql(const SnowflakeTable& table, const SnowflakeName& place) {
  return "CREATE TABLE IF NOT EXISTS " + place.Sql() + " (" + ColumnDefinitions(table) + ")";
}

std::string InsertWatermarkSql(const SnowflakeTable& table, Lsn from, bool live) {
  // MERGE takes the table's lock, so that two engines cannot both add the row.
  return fmt::format(
      "MERGE INTO {} AS w USING (SELECT {} AS P, {} AS T, {} AS G) AS s ON w.\"PIPELINE\" = s.P "
      "AND "
      "w.\"TABLE_OID\" = s.T AND w.\"GENERATION\" = s.G WHEN NOT MATCHED THEN INSERT "
      "(\"PIPELINE\", "
      "\"TABLE_OID\", \"GENERATION\", \"TABLE_NAME\", \"PHASE\", \"APPLIED\") VALUES (s.P, s.T, "
      "s.G, "
      "{}, {}, {})",
      table.names.Watermark().Sql(), QuoteLiteral(table.pipeline), table.schema->id.oid,
      table.generation, QuoteLiteral(table.schema->QualifiedName()), live ? "'live'" : "'copying'",
      QuoteLiteral(BoundaryText(from)));
}

std::string ForgetCopyingSql(const SnowflakeTable& table) {
  return fmt::format("DELETE FROM {} WHERE {} AND \"GENERATION\" = {} AND \"PHASE\" = 'copying'",
                     table.names.Watermark().Sql(), OfTable(table), table.generation);
}

std::string SelectWatermarksSql(const SnowflakeNames& names, const std::string& pipeline) {
  return "SELECT \"TABLE_OID\", \"GENERATION\", \"PHASE\", \"APPLIED\", \"TASK\" FROM " +
         names.Watermark().Sql() + " WHERE " + OfPipeline(pipeline);
}

std::string SelectForwardSql(const SnowflakeNames& names, const std::string& pipeline,
                             uint32_t history) {
  return fmt::format(
      "SELECT MAX(\"LSN\") FROM {} WHERE {} AND \"HISTORY\" = {} AND \"KIND\" = 'forward'",
      names.Progress().Sql(), OfPipeline(pipeline), history);
}

std::string SelectLandedSql(const SnowflakeTable& table, Lsn from) {
  return fmt::format("SELECT DISTINCT {0} FROM {1} WHERE {0} >= {2}",
                     QuoteIdentifier(kPositionColumn), table.names.Landing(*table.schema).Sql(),
                     QuoteLiteral(BoundaryText(from)));
}

std::string PurgeLandingSql(const SnowflakeTable& table, Lsn applied) {
  return fmt::format("DELETE FROM {} WHERE {} < {}", table.names.Landing(*table.schema).Sql(),
                     QuoteIdentifier(kPositionColumn), QuoteLiteral(BoundaryText(applied)));
}

std::string PurgeCopiedSql(const SnowflakeTable& table) {
  return fmt::format("DELETE FROM {} WHERE {} = 'R'", table.names.Landing(*table.schema).Sql(),
                     QuoteIdentifier(kOpColumn));
}

std::string PurgeProgressSql(const SnowflakeNames& names, const std::string& pipeline,
                             uint64_t first, UnixMicros at) {
  return fmt::format(
      "DELETE FROM {} WHERE {} AND \"SEQUENCE\" < {} AND \"AT\" <= CAST({} AS TIMESTAMP_TZ)",
      names.Progress().Sql(), OfPipeline(pipeline), first, QuoteLiteral(FormatUtc(at)));
}

std::string DropShadowSql(const SnowflakeTable& table) {
  return "DROP TABLE IF EXISTS " +
         table.names.Shadow(table.pipeline, *table.schema, table.generation).Sql();
}

std::vector<std::string> ForgetTableSql(const SnowflakeTable& table) {
  const SnowflakeNames& names = table.names;
  const TableSchema& schema = *table.schema;
  return {"DROP TASK IF EXISTS " + names.Task(schema).Sql(),
          "DROP TABLE IF EXISTS " + names.Landing(schema).Sql(), DropShadowSql(table),
          "DROP TABLE IF EXISTS " + names.Retired(table.pipeline, schema).Sql(),
          "DELETE FROM " + names.Watermark().Sql() + " WHERE " + OfTable(table)};
}

std::vector<std::string> ForgetPipelineSql(const SnowflakeNames& names,
                                           const std::string& pipeline) {
  return {"DELETE FROM " + names.Watermark().Sql() + " WHERE " + OfPipeline(pipeline),
          "DELETE FROM " + names.Progress().Sql() + " WHERE " + OfPipeline(pipeline)};
}

}  // namespace etl
