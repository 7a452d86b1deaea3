#include "destination/duckdb/duckdb_latest.h"

#include <vector>

#include <arrow/api.h>
#include <fmt/format.h>

#include "base/check.h"

namespace etl {
namespace {

/// A position as one number.
std::string PositionOf(const std::string& alias) {
  return fmt::format("({0}._etl_lsn::UHUGEINT * 18446744073709551616::UHUGEINT + {0}._etl_seq)",
                     alias);
}

std::string Unsent(const std::string& alias, const Column& column) {
  return fmt::format("coalesce(list_contains({}._etl_unchanged, {}), false)", alias,
                     QuoteLiteral(column.name));
}

std::string SourcesName(size_t index) { return "temp.main._etl_sent_" + std::to_string(index); }

constexpr const char* kLast =
    "temp.main._etl_latest l ON t._etl_lsn = l.lsn AND t._etl_seq = l.seq";

}  // namespace

DuckDbLatestRows::DuckDbLatestRows(DuckDbConnection& connection, TableSchemaPtr schema)
    : connection_(connection),
      schema_(std::move(schema)),
      table_(connection.Table(schema_->schema, schema_->name).Sql()) {}

Result<std::unique_ptr<DuckDbLatestRows>> DuckDbLatestRows::Find(DuckDbConnection& connection,
                                                                 const std::string& pipeline,
                                                                 TableSchemaPtr schema) {
  ETL_CHECK(schema->identity == Identity::kKey);
  std::unique_ptr<DuckDbLatestRows> rows(new DuckDbLatestRows(connection, std::move(schema)));
  ETL_RETURN_IF_ERROR(rows->FindCounted(pipeline));
  ETL_RETURN_IF_ERROR(rows->FindLast());
  std::vector<size_t> unsent;
  const std::vector<Column>& columns = rows->schema_->columns;
  for (size_t i = 0; i < columns.size(); ++i) {
    ETL_ASSIGN_OR_RETURN(
        const int64_t partial,
        connection.Number(fmt::format("SELECT count(*) FROM {} t JOIN {} WHERE l.partial AND {}",
                                      rows->table_, kLast, Unsent("t", columns[i]))));
    if (partial == 0) continue;
    ETL_RETURN_IF_ERROR(rows->FindSources(i));
    unsent.push_back(i);
  }
  ETL_RETURN_IF_ERROR(rows->CompletePartial(unsent));
  return rows;
}

Status DuckDbLatestRows::FindCounted(const std::string& pipeline) {
  // The rows of a copy stand just before where it began.
  ETL_ASSIGN_OR_RETURN(
      const auto from,
      connection_.Rows(fmt::format(
          "SELECT (from_lsn - 1)::VARCHAR FROM _etl.tables WHERE pipeline = {} AND oid = {} AND "
          "from_lsn > 0",
          QuoteLiteral(pipeline), schema_->id.oid)));
  counted_ = "t._etl_op <> 't'";
  std::string truncates = "t._etl_op = 't'";
  if (!from.empty()) {
    counted_ += " AND t._etl_lsn >= " + *from[0][0];
    truncates += " AND t._etl_lsn >= " + *from[0][0];
  }
  ETL_ASSIGN_OR_RETURN(
      const auto truncate,
      connection_.Rows(fmt::format("SELECT t._etl_lsn::VARCHAR, t._etl_seq::VARCHAR FROM {} t "
                                   "WHERE {} ORDER BY t._etl_lsn DESC, t._etl_seq DESC LIMIT 1",
                                   table_, truncates)));
  if (!truncate.empty()) {
    counted_ += fmt::format(" AND (t._etl_lsn > {0} OR (t._etl_lsn = {0} AND t._etl_seq > {1}))",
                            *truncate[0][0], *truncate[0][1]);
  }
  return Status::OK();
}

// Only positions go through the window: whole rows might not fit into memory.
Status DuckDbLatestRows::FindLast() {
  return connection_
      .Execute(fmt::format(
          "CREATE OR REPLACE TEMP TABLE _etl_latest AS SELECT lsn, seq, partial FROM (SELECT "
          "t._etl_lsn AS lsn, t._etl_seq AS seq, t._etl_op = 'd' AS gone, t._etl_unchanged IS NOT "
          "NULL AS partial, row_number() OVER (PARTITION BY {} ORDER BY t._etl_lsn DESC, "
          "t._etl_seq DESC) AS rn FROM {} t WHERE {}) WHERE rn = 1 AND NOT gone",
          KeyColumns("t"), table_, counted_))
      .status();
}

// Back from the latest change of a key, the first one that sent the value has it. An insert without
// the value is the second half of a change of key: the old row had it, so the search goes on with
// the old key, before the delete that is the first half.
Status DuckDbLatestRows::FindSources(size_t index) {
  const Column& column = schema_->columns[index];
  const std::string unsent = Unsent("t", column);
  std::string keys, old_keys;
  for (size_t i = 0; i < schema_->key.size(); ++i) {
    const std::string name =
        QuoteIdentifier(schema_->columns[static_cast<size_t>(schema_->key[i])].name);
    keys += fmt::format(", t.{} AS k{}", name, i);
    old_keys += fmt::format(", o.{} AS k{}", name, i);
  }
  ETL_RETURN_IF_ERROR(
      connection_
          .Execute(fmt::format("CREATE OR REPLACE TEMP TABLE _etl_sent_{0}(lsn UBIGINT, seq "
                               "UBIGINT, sent UHUGEINT); CREATE OR REPLACE TEMP TABLE "
                               "_etl_search AS SELECT l.lsn, l.seq, {1} AS before{2} FROM {3} t "
                               "JOIN {4} WHERE l.partial AND {5}",
                               index, PositionOf("t"), keys, table_, kLast, unsent))
          .status());
  while (true) {
    ETL_ASSIGN_OR_RETURN(const int64_t open,
                         connection_.Number("SELECT count(*) FROM temp.main._etl_search"));
    if (open == 0) return Status::OK();
    ETL_RETURN_IF_ERROR(
        connection_
            .Execute(
                fmt::format("CREATE OR REPLACE TEMP TABLE _etl_step AS SELECT s.lsn, s.seq, "
                            "max({0}) AS sent FROM {1} t JOIN temp.main._etl_search s ON {2} "
                            "WHERE {0} <= s.before AND {3} AND t._etl_op <> 'd' AND (t._etl_op = "
                            "'i' OR NOT {4}) GROUP BY s.lsn, s.seq; ",
                            PositionOf("t"), table_, KeyMatch("t", "s"), counted_, unsent) +
                fmt::format("INSERT INTO {0} SELECT s.* FROM temp.main._etl_step s JOIN {1} t ON "
                            "{2} = s.sent WHERE NOT {3}; ",
                            SourcesName(index), table_, PositionOf("t"), unsent) +
                fmt::format("CREATE OR REPLACE TEMP TABLE _etl_search AS SELECT s.lsn, s.seq, "
                            "{0} AS before{1} FROM temp.main._etl_step s JOIN {2} t ON {3} = "
                            "s.sent JOIN {2} o ON o._etl_lsn = t._etl_lsn AND o._etl_seq + 1 = "
                            "t._etl_seq AND o._etl_op = 'd' WHERE {4}",
                            PositionOf("o"), old_keys, table_, PositionOf("t"), unsent))
            .status());
  }
}

Status DuckDbLatestRows::CompletePartial(const std::vector<size_t>& unsent) {
  std::string columns, joins;
  size_t next = 0;
  for (size_t i = 0; i < schema_->columns.size(); ++i) {
    const std::string name = QuoteIdentifier(schema_->columns[i].name);
    columns += columns.empty() ? "" : ", ";
    if (next == unsent.size() || unsent[next] != i) {
      columns += "t." + name;
      continue;
    }
    ++next;
    columns += fmt::format("CASE WHEN {} THEN v{}.value ELSE t.{} END AS {}",
                           Unsent("t", schema_->columns[i]), i, name, name);
    joins += fmt::format(
        " LEFT JOIN (SELECT s.lsn, s.seq, t.{0} AS value FROM {1} s JOIN {2} t ON {3} = s.sent) "
        "v{4} ON v{4}.lsn = l.lsn AND v{4}.seq = l.seq",
        name, SourcesName(i), table_, PositionOf("t"), i);
  }
  return connection_
      .Execute(fmt::format("CREATE OR REPLACE TEMP TABLE _etl_completed AS SELECT {} FROM {} t "
                           "JOIN {}{} WHERE l.partial",
                           columns, table_, kLast, joins))
      .status();
}

Status DuckDbLatestRows::Read(
    const std::function<Status(const std::shared_ptr<arrow::RecordBatch>&)>& on_batch) const {
  std::string columns, completed;
  for (const Column& column : schema_->columns) {
    const std::string separator = columns.empty() ? "" : ", ";
    columns += separator + "t." + QuoteIdentifier(column.name);
    completed += separator + QuoteIdentifier(column.name);
  }
  return connection_.Query(
      fmt::format("SELECT {} FROM {} t JOIN {} WHERE NOT l.partial UNION ALL SELECT {} FROM "
                  "temp.main._etl_completed",
                  columns, table_, kLast, completed),
      schema_->ArrowSchema(), on_batch);
}

std::string DuckDbLatestRows::KeyColumns(const std::string& alias) const {
  std::string text;
  for (const int key : schema_->key) {
    text += (text.empty() ? "" : ", ") + alias + "." +
            QuoteIdentifier(schema_->columns[static_cast<size_t>(key)].name);
  }
  return text;
}

std::string DuckDbLatestRows::KeyMatch(const std::string& alias, const std::string& keys) const {
  std::string text;
  for (size_t i = 0; i < schema_->key.size(); ++i) {
    text += fmt::format(
        "{}{}.{} = {}.k{}", text.empty() ? "" : " AND ", alias,
        QuoteIdentifier(schema_->columns[static_cast<size_t>(schema_->key[i])].name), keys, i);
  }
  return text;
}

}  // namespace etl
