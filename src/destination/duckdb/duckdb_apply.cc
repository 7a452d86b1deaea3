#include "destination/duckdb/duckdb_apply.h"

#include <numeric>

#include <arrow/api.h>
#include <fmt/format.h>

#include "base/check.h"
#include "base/failpoint.h"
#include "destination/duckdb/change_columns.h"
#include "destination/duckdb/final_rows.h"

namespace etl {
namespace {

std::string KeyName(size_t i) { return "k" + std::to_string(i); }

/// Makes the temporary table of the keys touched: k0 …, n (the number of the key, -1 where its
/// target row is not asked for).
Result<DuckDbTable> StoreKeys(DuckDbConnection& connection, const ChangeBatch& batch,
                              const FinalRows& final) {
  const DuckDbTable keys = connection.Temporary("_etl_keys");
  std::string definitions;
  arrow::FieldVector fields;
  arrow::ArrayVector columns;
  for (size_t i = 0; i < batch.schema->key.size(); ++i) {
    const int index = batch.schema->key[i];
    const Column& column = batch.schema->columns[static_cast<size_t>(index)];
    definitions += KeyName(i) + " " + DuckDbTypeName(*column.type) + ", ";
    fields.push_back(ArrowFieldOf(KeyName(i), *column.type));
    ETL_ASSIGN_OR_RETURN(auto taken, TakeRows(batch.rows->column(index), final.key_rows));
    columns.push_back(std::move(taken));
  }
  std::vector<int32_t> numbers(final.key_rows.size(), -1);
  for (const int64_t key : final.wanted)
    numbers[static_cast<size_t>(key)] = static_cast<int32_t>(key);
  fields.push_back(arrow::field("n", arrow::int32()));
  columns.push_back(std::make_shared<arrow::Int32Array>(static_cast<int64_t>(numbers.size()),
                                                        arrow::Buffer::Wrap(numbers)));
  ETL_RETURN_IF_ERROR(
      connection.Execute("CREATE OR REPLACE TEMP TABLE _etl_keys(" + definitions + "n INTEGER)")
          .status());
  ETL_RETURN_IF_ERROR(connection.Append(
      keys, *arrow::RecordBatch::Make(arrow::schema(std::move(fields)),
                                      static_cast<int64_t>(numbers.size()), std::move(columns))));
  return keys;
}

std::string KeyMatch(const TableSchema& schema, const std::string& table, const std::string& keys) {
  std::string condition;
  for (size_t i = 0; i < schema.key.size(); ++i) {
    if (i > 0) condition += " AND ";
    condition += fmt::format(
        "{}.{} = {}.{}", table,
        QuoteIdentifier(schema.columns[static_cast<size_t>(schema.key[i])].name), keys, KeyName(i));
  }
  return condition;
}

/// The batch's final rows, with values that were not sent taken from where they were sent last, in
/// the batch or the target.
Result<std::shared_ptr<arrow::RecordBatch>> BuildFinalRows(DuckDbConnection& connection,
                                                           const DuckDbTable& table,
                                                           const DuckDbTable& keys,
                                                           const ChangeBatch& batch,
                                                           const FinalRows& final) {
  const int64_t size = batch.size();
  if (final.sources.empty()) {
    if (static_cast<int64_t>(final.rows.size()) == size) return batch.rows;
    return TakeRows(batch.rows, final.rows);
  }
  // Values of target rows are read into the rows behind the batch's own.
  std::vector<int> asked;
  for (size_t c = 0; c < final.sources.size(); ++c) {
    for (const int64_t source : final.sources[c]) {
      if (source >= 0) continue;
      asked.push_back(static_cast<int>(c));
      break;
    }
  }
  std::shared_ptr<arrow::RecordBatch> old_rows;
  std::vector<int64_t> old_row_of(final.key_rows.size(), -1);
  if (!asked.empty()) {
    std::string list = "k.n";
    arrow::FieldVector fields{arrow::field("n", arrow::int32())};
    for (const int c : asked) {
      const Column& column = batch.schema->columns[static_cast<size_t>(c)];
      list += ", t." + QuoteIdentifier(column.name);
      fields.push_back(ArrowFieldOf(column.name, *column.type));
    }
    ETL_ASSIGN_OR_RETURN(
        old_rows, connection.QueryBatch(
                      fmt::format("SELECT {} FROM {} t JOIN {} k ON {} WHERE k.n >= 0", list,
                                  table.Sql(), keys.Sql(), KeyMatch(*batch.schema, "t", "k")),
                      arrow::schema(std::move(fields))));
    const auto& numbers = static_cast<const arrow::Int32Array&>(*old_rows->column(0));
    for (int64_t i = 0; i < numbers.length(); ++i)
      old_row_of[static_cast<size_t>(numbers.Value(i))] = i;
  }
  arrow::ArrayVector columns;
  for (size_t c = 0; c < final.sources.size(); ++c) {
    std::shared_ptr<arrow::Array> column = batch.rows->column(static_cast<int>(c));
    if (final.sources[c].empty()) {
      ETL_ASSIGN_OR_RETURN(column, TakeRows(column, final.rows));
      columns.push_back(std::move(column));
      continue;
    }
    std::vector<int64_t> indices;
    for (const int64_t source : final.sources[c]) {
      const int64_t old_row = source >= 0 ? 0 : old_row_of[static_cast<size_t>(-source - 1)];
      if (old_row < 0) return nullptr;  // The row that should hold the value is not there.
      indices.push_back(source >= 0 ? source : size + old_row);
    }
    for (size_t i = 0; i < asked.size(); ++i) {
      if (asked[i] != static_cast<int>(c)) continue;
      ETL_ASSIGN_OR_RETURN(column,
                           arrow::Concatenate({column, old_rows->column(static_cast<int>(i) + 1)}));
    }
    ETL_ASSIGN_OR_RETURN(column, TakeRows(column, indices));
    columns.push_back(std::move(column));
  }
  return arrow::RecordBatch::Make(batch.rows->schema(), static_cast<int64_t>(final.rows.size()),
                                  std::move(columns));
}

/// Takes the rows t of `table` away that have a row x in `other` with `match`.
Result<ApplyOutcome> TakeAway(DuckDbConnection& connection, const DuckDbTable& table,
                              const DuckDbTable& other, const std::string& match, int64_t expected,
                              const DeleteLimit& limit) {
  ApplyOutcome outcome;
  if (expected <= limit.rows) {
    ETL_ASSIGN_OR_RETURN(outcome.deleted, connection.Execute(fmt::format(
                                              "DELETE FROM {} AS t USING {} AS x WHERE {}",
                                              table.Sql(), other.Sql(), match)));
    return outcome;
  }
  const std::string gone =
      fmt::format("(SELECT DISTINCT t.rowid AS gone FROM {} t JOIN {} x ON {})", table.Sql(),
                  other.Sql(), match);
  ETL_ASSIGN_OR_RETURN(outcome.deleted, connection.Number("SELECT count(*) FROM " + gone));
  // The new table takes the old one's name before anything else happens to it: DuckDB's log could
  // not be replayed with a change before the rename.
  DuckDbTable rebuilt = table;
  rebuilt.name = limit.passing_name;
  ETL_RETURN_IF_ERROR(
      connection
          .Execute(fmt::format("CREATE TABLE {0} AS SELECT s.* FROM {1} s ANTI JOIN {2} g ON "
                               "s.rowid = g.gone; DROP TABLE {1}; ALTER TABLE {0} RENAME TO {3}",
                               rebuilt.Sql(), table.Sql(), gone, QuoteIdentifier(table.name)))
          .status());
  outcome.rebuilt = true;
  ETL_FAILPOINT("duckdb.rebuild.middle");
  return outcome;
}

Result<ApplyOutcome> ApplyKeyed(DuckDbConnection& connection, const DuckDbTable& table,
                                const ChangeBatch& batch, const DeleteLimit& limit) {
  ETL_ASSIGN_OR_RETURN(const FinalRows final, ComputeFinalRows(batch));
  if (final.contradiction)
    return ApplyOutcome{.diverged = true, .why = "changes of one key contradict each other"};
  ETL_ASSIGN_OR_RETURN(const DuckDbTable keys, StoreKeys(connection, batch, final));
  ETL_ASSIGN_OR_RETURN(const auto rows, BuildFinalRows(connection, table, keys, batch, final));
  if (rows == nullptr)
    return ApplyOutcome{.diverged = true, .why = "a row to be updated is not there"};
  ETL_ASSIGN_OR_RETURN(
      ApplyOutcome outcome,
      TakeAway(connection, table, keys, KeyMatch(*batch.schema, "t", "x"), final.existing, limit));
  if (outcome.deleted != final.existing) {
    outcome.diverged = true;
    outcome.why = fmt::format("{} rows should have been there for {} keys, found {}",
                              final.existing, final.key_rows.size(), outcome.deleted);
    return outcome;
  }
  outcome.inserted = rows->num_rows();
  ETL_RETURN_IF_ERROR(connection.Append(table, *rows));
  return outcome;
}

Result<ApplyOutcome> ApplyFullRows(DuckDbConnection& connection, const DuckDbTable& table,
                                   const ChangeBatch& batch, const DeleteLimit& limit) {
  std::vector<int> all(batch.schema->columns.size());
  std::iota(all.begin(), all.end(), 0);
  ETL_ASSIGN_OR_RETURN(const RowBytes bytes, RowBytes::Make(*batch.rows, all));
  std::vector<int64_t> first;
  const std::vector<int32_t> groups = GroupRows(bytes, batch.size(), &first);
  std::vector<int64_t> net(first.size(), 0);
  for (int64_t row = 0; row < batch.size(); ++row) {
    const auto i = static_cast<size_t>(row);
    net[static_cast<size_t>(groups[i])] += batch.ops[i] == Op::kDelete ? -1 : 1;
  }
  // Rows that only come need no look at the table.
  std::vector<int64_t> added, changed_rows, changed_net;
  for (size_t group = 0; group < first.size(); ++group) {
    if (net[group] > 0) added.insert(added.end(), static_cast<size_t>(net[group]), first[group]);
    if (net[group] < 0) {
      changed_rows.push_back(first[group]);
      changed_net.push_back(net[group]);
    }
  }
  ApplyOutcome outcome;
  if (!changed_rows.empty()) {
    std::string definitions = "net BIGINT, n BIGINT";
    arrow::FieldVector fields{arrow::field("net", arrow::int64()),
                              arrow::field("n", arrow::int64())};
    std::vector<int64_t> numbers(changed_rows.size());
    std::iota(numbers.begin(), numbers.end(), 0);
    const auto size = static_cast<int64_t>(numbers.size());
    arrow::ArrayVector columns{
        std::make_shared<arrow::Int64Array>(size, arrow::Buffer::Wrap(changed_net)),
        std::make_shared<arrow::Int64Array>(size, arrow::Buffer::Wrap(numbers))};
    for (size_t c = 0; c < batch.schema->columns.size(); ++c) {
      const ColumnType& type = *batch.schema->columns[c].type;
      definitions += fmt::format(", n{} {}", c, DuckDbTypeName(type));
      fields.push_back(ArrowFieldOf("n" + std::to_string(c), type));
      ETL_ASSIGN_OR_RETURN(auto taken,
                           TakeRows(batch.rows->column(static_cast<int>(c)), changed_rows));
      columns.push_back(std::move(taken));
    }
    ETL_RETURN_IF_ERROR(
        connection.Execute("CREATE OR REPLACE TEMP TABLE _etl_net(" + definitions + ")").status());
    const DuckDbTable table_of_net = connection.Temporary("_etl_net");
    ETL_RETURN_IF_ERROR(connection.Append(
        table_of_net,
        *arrow::RecordBatch::Make(arrow::schema(std::move(fields)), size, std::move(columns))));
    ETL_ASSIGN_OR_RETURN(outcome,
                         ApplyNetRows(connection, table, *batch.schema, table_of_net, limit));
    if (outcome.diverged) return outcome;
  }
  outcome.inserted += static_cast<int64_t>(added.size());
  ETL_ASSIGN_OR_RETURN(const auto rows, TakeRows(batch.rows, added));
  ETL_RETURN_IF_ERROR(connection.Append(table, *rows));
  return outcome;
}

}  // namespace

std::string SameValue(const ColumnType& type, const std::string& a, const std::string& b) {
  const std::string same = a + " IS NOT DISTINCT FROM " + b;
  switch (type.kind) {
    case TypeKind::kFloat4:
    case TypeKind::kFloat8:  // 0 and -0 are equal to DuckDB.
      return fmt::format("{0} AND ({1} IS NULL OR isnan({1}) OR signbit({1}) = signbit({2}))", same,
                         a, b);
    case TypeKind::kInterval:  // So are 1 month and 30 days.
      return fmt::format("{0} AND {1}::VARCHAR IS NOT DISTINCT FROM {2}::VARCHAR", same, a, b);
    default: return same;
  }
}

Result<ApplyOutcome> ApplyNetRows(DuckDbConnection& connection, const DuckDbTable& table,
                                  const TableSchema& schema, const DuckDbTable& net,
                                  const DeleteLimit& limit) {
  std::string match, columns, values;
  for (size_t c = 0; c < schema.columns.size(); ++c) {
    const std::string name = QuoteIdentifier(schema.columns[c].name);
    const std::string separator = c > 0 ? ", " : "";
    if (c > 0) match += " AND ";
    match += SameValue(*schema.columns[c].type, "t." + name, "x.n" + std::to_string(c));
    columns += separator + name;
    values += separator + "x.n" + std::to_string(c);
  }
  ETL_RETURN_IF_ERROR(
      connection
          .Execute(fmt::format("CREATE OR REPLACE TEMP TABLE _etl_have AS SELECT x.n AS n, "
                               "count(*) AS have FROM {} t JOIN {} x ON {} GROUP BY x.n",
                               table.Sql(), net.Sql(), match))
          .status());
  const std::string joined = net.Sql() + " x LEFT JOIN temp.main._etl_have h ON x.n = h.n";
  ETL_ASSIGN_OR_RETURN(const int64_t lacking,
                       connection.Number("SELECT count(*) FROM " + joined +
                                         " WHERE x.net + coalesce(h.have, 0) < 0"));
  ApplyOutcome outcome;
  if (lacking > 0) {
    outcome.diverged = true;
    outcome.why = fmt::format("{} distinct rows to be deleted are not there", lacking);
    return outcome;
  }
  ETL_ASSIGN_OR_RETURN(
      const int64_t have,
      connection.Number("SELECT coalesce(sum(have), 0)::BIGINT FROM temp.main._etl_have"));
  ETL_ASSIGN_OR_RETURN(outcome, TakeAway(connection, table, net, match, have, limit));
  ETL_ASSIGN_OR_RETURN(
      outcome.inserted,
      connection.Execute(fmt::format(
          "INSERT INTO {}({}) SELECT {} FROM (SELECT x.*, unnest(range(x.net + coalesce(h.have, "
          "0))) AS copy FROM {}) AS x",
          table.Sql(), columns, values, joined)));
  return outcome;
}

Result<ApplyOutcome> ApplyChanges(DuckDbConnection& connection, const DuckDbTable& table,
                                  const ChangeBatch& batch, const DeleteLimit& limit) {
  if (batch.size() == 0) return ApplyOutcome{};
  switch (batch.schema->identity) {
    case Identity::kKey: return ApplyKeyed(connection, table, batch, limit);
    case Identity::kFullRow: return ApplyFullRows(connection, table, batch, limit);
    case Identity::kNone: break;
  }
  for (const Op op : batch.ops) {
    if (op != Op::kInsert) {
      return ApplyOutcome{.diverged = true,
                          .why = "an update or delete arrived for a table without an identity"};
    }
  }
  ETL_RETURN_IF_ERROR(connection.Append(table, *batch.rows));
  ApplyOutcome outcome;
  outcome.inserted = batch.size();
  return outcome;
}

}  // namespace etl
