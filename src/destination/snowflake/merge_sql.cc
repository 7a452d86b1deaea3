#include "destination/snowflake/merge_sql.h"

#include <fmt/format.h>

#include "destination/snowflake/claim_sql.h"
#include "destination/snowflake/window_sql.h"

namespace etl {
namespace {

/// Statements of one merge between claim and watermark.
class Merge {
 public:
  Merge(const SnowflakeTable& table, WindowBounds bounds, const MergeOptions& options)
      : schema_(*table.schema),
        window_(table, std::move(bounds)),
        target_(table.names.Target(*table.schema).Sql()),
        moves_(options.moves && !window_.unsent().empty()) {}

  std::string Truncate() const {
    return fmt::format(
        "DELETE FROM {} WHERE (SELECT COUNT(*) FROM {} AS l WHERE {} AND l.{} = "
        "'T') > 0",
        target_, window_.landing(), window_.InRange(), QuoteIdentifier(kOpColumn));
  }

  /// The first change of a key says whether there must be a row.
  std::string Strict() const {
    std::string key;
    for (const int i : schema_.key) {
      if (!key.empty()) key += ", ";
      key += window_.Comparable(i, "C" + std::to_string(i));
    }
    return AssertSql(
        "COUNT(*) = 0", "the target and the changes contradict each other",
        fmt::format(
            "(WITH {}, E AS (SELECT * FROM W QUALIFY ROW_NUMBER() OVER (PARTITION BY {} ORDER BY "
            "POS) = 1) SELECT 1 AS ONE FROM E LEFT JOIN {} AS t ON {} WHERE (E.OP = 'I') = (t.{} "
            "IS "
            "NOT NULL)) AS c",
            window_.Changes(), key, target_, window_.TargetKey("t", "E"),
            window_.Stored(schema_.key[0])));
  }

  std::string Keyed() const {
    std::string update, values;
    for (int i = 0; i < window_.columns(); ++i) {
      values += fmt::format("{}s.C{}", i > 0 ? ", " : "", i);
      if (IsKey(i)) continue;
      update += fmt::format("{}{} = {}", update.empty() ? "" : ", ", window_.Stored(i),
                            IsUnsent(i) ? fmt::format("CASE WHEN s.U{0} THEN t.{1} ELSE s.C{0} END",
                                                      i, window_.Stored(i))
                                        : fmt::format("s.C{}", i));
    }
    return fmt::format(
        "MERGE INTO {} AS t USING ({} {}) AS s ON {} WHEN MATCHED AND s.OP = 'D' THEN DELETE{} "
        "WHEN NOT MATCHED AND s.OP <> 'D' THEN INSERT ({}) VALUES ({})",
        target_, window_.FinalStates(moves_), Source(), window_.TargetKey("t", "s"),
        update.empty() ? "" : " WHEN MATCHED THEN UPDATE SET " + update, window_.StoredColumns(""),
        values);
  }

  /// Equal rows cannot be told apart: all rows equal to a deleted one go, those that stay come
  /// again. They wait in the landing table meanwhile, as rows `K` of no position.
  std::vector<std::string> FullRows() const {
    std::string equal_rows, equal_target, groups, plain, keys, partition;
    for (int i = 0; i < window_.columns(); ++i) {
      const char* separator = i > 0 ? ", " : "";
      const char* conjunction = i > 0 ? " AND " : "";
      const std::string own = window_.Comparable(i, fmt::format("C{}", i));
      equal_rows += fmt::format("{}{} IS NOT DISTINCT FROM g.E{}", conjunction,
                                window_.Comparable(i, fmt::format("a.C{}", i)), i);
      equal_target += fmt::format("{}{} IS NOT DISTINCT FROM g.E{}", conjunction,
                                  window_.Comparable(i, "t." + window_.Stored(i)), i);
      groups += separator + own;
      keys += fmt::format("{}{} AS E{}", separator, own, i);
      plain += fmt::format("{}t.{} AS C{}", separator, window_.Stored(i), i);
      partition += separator + window_.Comparable(i, fmt::format("a.C{}", i));
    }
    const std::string gone = fmt::format(
        "G AS (SELECT {}, COUNT(*) AS GONE FROM W WHERE OP = 'D' GROUP BY {})", keys, groups);
    const std::string op = QuoteIdentifier(kOpColumn);
    return {fmt::format(
                "INSERT INTO {0} ({1}, {2}, {3}) SELECT {4}, 'K', '' FROM (WITH {5}, {6}, A AS "
                "(SELECT {4} FROM W WHERE OP = 'I' UNION ALL SELECT {7} FROM {8} AS t JOIN G AS "
                "g ON {9}) SELECT a.* FROM A AS a LEFT JOIN G AS g ON {10} QUALIFY ROW_NUMBER() "
                "OVER (PARTITION BY {11} ORDER BY {12}) > COALESCE(g.GONE, 0)) AS k",
                window_.landing(), window_.StoredColumns(""), op, QuoteIdentifier(kPositionColumn),
                window_.PlainColumns(""), window_.Changes(), gone, plain, target_, equal_target,
                equal_rows, partition, window_.Comparable(0, "a.C0")),
            fmt::format("DELETE FROM {} AS t USING (WITH {}, {} SELECT * FROM G) AS g WHERE {}",
                        target_, window_.Changes(), gone, equal_target),
            fmt::format("INSERT INTO {0} ({1}) SELECT {1} FROM {2} WHERE {3} = 'K'", target_,
                        window_.StoredColumns(""), window_.landing(), op),
            fmt::format("DELETE FROM {} WHERE {} = 'K'", window_.landing(), op)};
  }

  std::string Inserts() const {
    return fmt::format(
        "INSERT INTO {} ({}) SELECT {} FROM (WITH {} SELECT * FROM W WHERE OP = "
        "'I') AS s",
        target_, window_.StoredColumns(""), window_.PlainColumns(""), window_.Changes());
  }

 private:
  bool IsKey(int column) const {
    for (const int key : schema_.key) {
      if (key == column) return true;
    }
    return false;
  }
  bool IsUnsent(int column) const {
    for (const int unsent : window_.unsent()) {
      if (unsent == column) return true;
    }
    return false;
  }

  /// The final states, with the values that a moved row had before the window.
  std::string Source() const {
    if (!moves_) return "SELECT * FROM F";
    std::string list = "F.POS, F.OP", any;
    for (int i = 0; i < window_.columns(); ++i) {
      if (!IsUnsent(i)) {
        list += fmt::format(", F.C{}", i);
        continue;
      }
      list += fmt::format(
          ", CASE WHEN F.U{0} AND F.ALIEN THEN o.{1} ELSE F.C{0} END AS C{0}, F.U{0} AND NOT "
          "F.ALIEN AS U{0}",
          i, window_.Stored(i));
      any += fmt::format("{}F.U{}", any.empty() ? "" : " OR ", i);
    }
    return fmt::format(
        "SELECT {} FROM F LEFT JOIN {} AS o ON F.ALIEN AND F.OP <> 'D' AND ({}) AND "
        "{}",
        list, target_, any, window_.TargetKey("o", "F", 'O'));
  }

  const TableSchema& schema_;
  const WindowSql window_;
  const std::string target_;
  const bool moves_;
};

struct Plan {
  std::string claim_from;  ///< SQL that APPLIED must equal; empty: any
  std::string claim;       ///< SQL of the new high
  std::string guard_high;
  WindowBounds bounds;
  std::string task;  ///< that TASK must equal; empty: any
};

std::vector<std::string> Statements(const SnowflakeTable& table, const Plan& plan,
                                    const MergeOptions& options) {
  const ClaimSql claim(table);
  const Merge merge(table, plan.bounds, options);
  std::vector<std::string> sql{"BEGIN TRANSACTION",
                               claim.Claim("live", plan.claim_from, plan.claim, plan.task),
                               claim.Guard(plan.claim_from, plan.guard_high)};
  if (table.run > 0) sql.push_back(RunGuardSql(table.names, table.pipeline, table.run));
  if (options.truncates) sql.push_back(merge.Truncate());
  switch (table.schema->identity) {
    case Identity::kKey:
      if (options.strict) sql.push_back(merge.Strict());
      sql.push_back(merge.Keyed());
      break;
    case Identity::kFullRow:
      for (std::string& statement : merge.FullRows()) sql.push_back(std::move(statement));
      break;
    case Identity::kNone: sql.push_back(merge.Inserts()); break;
  }
  const std::string position = QuoteIdentifier(kPositionColumn);
  std::string purge =
      fmt::format("DELETE FROM {} WHERE {} < {}", table.names.Landing(*table.schema).Sql(),
                  position, plan.bounds.high);
  if (options.keep_from.valid())
    purge += fmt::format(" AND {} < {}", position, QuoteLiteral(BoundaryText(options.keep_from)));
  // Before the watermark moves: in a task the bounds are read from it.
  sql.push_back(purge);
  sql.push_back(claim.Apply("live"));
  sql.push_back("COMMIT");
  return sql;
}

}  // namespace

std::vector<std::string> MergeSql(const SnowflakeTable& table, const MergeWindow& window,
                                  const MergeOptions& options) {
  const WindowBounds bounds{.low = QuoteLiteral(BoundaryText(window.low)),
                            .high = QuoteLiteral(BoundaryText(window.high)),
                            .settled = !options.keep_from.valid()};
  return Statements(
      table,
      {.claim_from = bounds.low, .claim = bounds.high, .guard_high = bounds.high, .bounds = bounds},
      options);
}

std::string ProbeWindowSql(const SnowflakeTable& table, const MergeWindow& window) {
  const WindowSql text(
      table, {QuoteLiteral(BoundaryText(window.low)), QuoteLiteral(BoundaryText(window.high))});
  const std::string op = "l." + QuoteIdentifier(kOpColumn);
  return fmt::format(
      "SELECT COUNT(*) AS \"ROWS\", COUNT_IF({0} = 'T') AS \"TRUNCATES\", COUNT_IF({0} = 'I' AND "
      "l.{1} IS NOT NULL) AS \"MOVES\" FROM {2} AS l WHERE {3} AND {0} IN ('I', 'U', 'D', 'T')",
      op, QuoteIdentifier(kUnchangedColumn), text.landing(), text.InRange());
}

namespace {

constexpr std::string_view kNoTask = "none-";

std::vector<std::string> TaskStatements(const SnowflakeTable& of, const TaskOptions& options,
                                        const std::string& version) {
  // It outlives the run that makes it; TASK says whether it counts.
  SnowflakeTable table = of;
  table.run = 0;
  const ClaimSql claim(table);
  const std::string forward =
      fmt::format("GREATEST(\"APPLIED\", COALESCE({}, \"APPLIED\"))",
                  "(" + SelectForwardSql(table.names, table.pipeline, options.history) + ")");
  return Statements(table,
                    {.claim_from = "",
                     .claim = forward,
                     .guard_high = "",
                     .bounds = {claim.Value("APPLIED"), claim.Value("CLAIMED")},
                     .task = version},
                    {.keep_from = options.keep_from});
}

std::string TaskHead(const SnowflakeTable& table, const TaskOptions& options) {
  return fmt::format("CREATE OR REPLACE TASK {} WAREHOUSE = {} SCHEDULE = '{} SECONDS' AS ",
                     table.names.Task(*table.schema).Sql(),
                     QuoteIdentifier(table.names.Fold(options.warehouse)), options.every_seconds);
}

std::string SetTaskSql(const SnowflakeTable& table, const std::string& value) {
  return fmt::format("UPDATE {} SET \"TASK\" = {} WHERE \"PIPELINE\" = {} AND \"TABLE_OID\" = {}",
                     table.names.Watermark().Sql(), QuoteLiteral(value),
                     QuoteLiteral(table.pipeline), table.schema->id.oid);
}

}  // namespace

std::string TaskVersion(const SnowflakeTable& table, const TaskOptions& options) {
  // FNV-1a; the texts are our own, nobody looks for two that are alike.
  uint64_t hash = 14695981039346656037u;
  const auto add = [&hash](std::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
    hash = (hash ^ 0xff) * 1099511628211u;
  };
  add(TaskHead(table, options));
  for (const std::string& statement : TaskStatements(table, options, {})) add(statement);
  return fmt::format("{:016x}", hash);
}

std::vector<std::string> TaskMergeSql(const SnowflakeTable& table, const TaskOptions& options) {
  return TaskStatements(table, options, TaskVersion(table, options));
}

std::vector<std::string> PutTaskSql(const SnowflakeTable& table, const TaskOptions& options,
                                    const std::string& seen, const std::string& run) {
  std::string body = "BEGIN ";
  for (const std::string& statement : TaskMergeSql(table, options)) body += statement + "; ";
  body += "EXCEPTION WHEN OTHER THEN ROLLBACK; RAISE; END";
  const std::string putting = "put-" + run;
  const auto set = [&](const std::string& from, const std::string& to) {
    return fmt::format("{} AND \"GENERATION\" = {} AND COALESCE(\"TASK\", '') = {}",
                       SetTaskSql(table, to), table.generation, QuoteLiteral(from));
  };
  return {set(seen, putting),
          // As one literal, so that no name in the body can end it.
          TaskHead(table, options) + "EXECUTE IMMEDIATE " + QuoteLiteral(body),
          "ALTER TASK " + table.names.Task(*table.schema).Sql() + " RESUME",
          set(putting, TaskVersion(table, options))};
}

std::vector<std::string> FenceTaskSql(const SnowflakeTable& table, const std::string& run) {
  return {"DROP TASK IF EXISTS " + table.names.Task(*table.schema).Sql(),
          SetTaskSql(table, NoTask(run))};
}

std::string NoTask(const std::string& run) { return std::string(kNoTask) + run; }

bool MayHaveTask(std::string_view task) { return !task.empty() && !task.starts_with(kNoTask); }

std::string EndEarlierSql(const SnowflakeTable& table) {
  return fmt::format(
      "UPDATE {} SET \"PHASE\" = 'former' WHERE \"PIPELINE\" = {} AND \"TABLE_OID\" = {} AND "
      "\"GENERATION\" < {}",
      table.names.Watermark().Sql(), QuoteLiteral(table.pipeline), table.schema->id.oid,
      table.generation);
}

}  // namespace etl
