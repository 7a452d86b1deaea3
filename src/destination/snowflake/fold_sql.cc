#include "destination/snowflake/fold_sql.h"

#include <algorithm>

#include <fmt/format.h>

#include "destination/snowflake/claim_sql.h"
#include "destination/snowflake/window_sql.h"

namespace etl {
namespace {

std::string Boundary(Lsn lsn) { return QuoteLiteral(BoundaryText(lsn)); }

/// The attempt is the first 24 bits of the ordinal: six digits. Lists are kept short of the
/// limits for one.
std::string Done(const Fold& fold, const std::string& position) {
  constexpr size_t kListLimit = 5000;
  std::string text;
  for (size_t i = 0; i < fold.done.size(); ++i) {
    const bool first = i % kListLimit == 0;
    if (first) {
      if (i > 0) text += ") OR ";
      text += "SUBSTR(" + position + ", 18, 6) IN (";
    }
    text += fmt::format("{}'{:06x}'", first ? "" : ", ", fold.done[i]);
  }
  return fold.done.empty() ? "FALSE" : "(" + text + "))";
}

/// Where the ordinals of a generation's rows begin, once they are appended.
std::string AppendedAs(uint32_t generation) {
  return fmt::format("{:02x}", (generation - 1) & 0xff);
}

class FoldText {
 public:
  FoldText(const SnowflakeTable& table, const Fold& fold)
      : schema_(*table.schema),
        generation_(table.generation),
        fold_(fold),
        window_(table, {Boundary(std::max(fold.from, fold.ignore_below)), Boundary(fold.high)}) {}

  /// The rows of the table at `high`, as columns C<i>.
  std::string Rows() const {
    switch (schema_.identity) {
      case Identity::kKey: return Keyed();
      case Identity::kFullRow: return FullRows();
      case Identity::kNone: break;
    }
    return fmt::format("WITH {}, {} SELECT {} FROM R UNION ALL SELECT {} FROM W WHERE OP = 'I'",
                       window_.Changes(), Copied(), window_.PlainColumns(""),
                       window_.PlainColumns(""));
  }

  std::string Missing() const {
    std::string keys, unsent;
    for (const int i : schema_.key) keys += fmt::format("F.C{} AS {}, ", i, window_.Stored(i));
    for (const int i : window_.unsent())
      unsent += fmt::format("{}F.U{}", unsent.empty() ? "" : " OR ", i);
    if (unsent.empty()) unsent = "FALSE";
    const std::string alien = HasLines() ? "F.ALIEN OR " : "";
    return fmt::format(
        "{}, {} SELECT {}F.POS AS LAST, b.SEG AS BROKEN FROM F LEFT JOIN R ON {} LEFT JOIN {} AS b "
        "ON b.POS = F.POS WHERE F.OP <> 'D' AND ({}) AND ({}R.POS IS NULL)",
        window_.FinalStates(true), Copied(), keys, window_.SameKey("F", "R"),
        HasLines() ? "B" : "(SELECT POS, POS AS SEG FROM W)", unsent, alien);
  }

  const WindowSql& window() const { return window_; }

 private:
  bool HasLines() const { return !window_.unsent().empty(); }

  /// `R AS (…)`: rows of the done attempts, one a key; none if the table was truncated since.
  std::string Copied() const {
    const std::string position = "l." + QuoteIdentifier(kPositionColumn);
    const std::string op = "l." + QuoteIdentifier(kOpColumn);
    std::string once = position;
    if (schema_.identity == Identity::kKey) {
      once.clear();
      for (const int i : schema_.key)
        once += (once.empty() ? "" : ", ") + window_.Comparable(i, "l." + window_.Stored(i));
    }
    return fmt::format(
        "R AS (SELECT {0} AS POS, {1} FROM {2} AS l WHERE {0} >= {3} AND {0} < {4} AND {5} = 'R' "
        "AND {6} AND (SELECT COUNT(*) FROM {2} AS l WHERE {7} AND {5} = 'T') = 0 QUALIFY "
        "ROW_NUMBER() OVER (PARTITION BY {8} ORDER BY {0}) = 1)",
        position, window_.Selected(), window_.landing(), Boundary(Lsn{fold_.from.value - 1}),
        Boundary(fold_.from), op,
        fold_.appended ? fmt::format("SUBSTR({}, 18, 2) = '{}'", position, AppendedAs(generation_))
                       : Done(fold_, position),
        window_.InRange(), once);
  }

  std::string Keyed() const {
    std::string list;
    for (int i = 0; i < window_.columns(); ++i) {
      const auto& unsent = window_.unsent();
      const bool may = std::find(unsent.begin(), unsent.end(), i) != unsent.end();
      list += (i > 0 ? ", " : "") +
              (may ? fmt::format("CASE WHEN F.U{0} THEN R.C{0} ELSE F.C{0} END", i)
                   : fmt::format("F.C{}", i));
    }
    const std::string same = window_.SameKey("F", "R");
    // A copied row of a moved key may be that of another row that had the key before: not trusted.
    return fmt::format(
        "{}, {} SELECT {} FROM R LEFT JOIN F ON {} WHERE F.POS IS NULL UNION ALL SELECT {} FROM F "
        "LEFT JOIN R ON {}{} WHERE F.OP <> 'D'",
        window_.FinalStates(true), Copied(), window_.PlainColumns("R."), same, list,
        HasLines() ? "NOT F.ALIEN AND " : "", same);
  }

  std::string FullRows() const {
    std::string groups, keys, partition, equal;
    for (int i = 0; i < window_.columns(); ++i) {
      const char* separator = i > 0 ? ", " : "";
      const std::string own = window_.Comparable(i, fmt::format("C{}", i));
      const std::string of_row = window_.Comparable(i, fmt::format("a.C{}", i));
      groups += separator + own;
      keys += fmt::format("{}{} AS E{}", separator, own, i);
      partition += separator + of_row;
      equal += fmt::format("{}{} IS NOT DISTINCT FROM g.E{}", i > 0 ? " AND " : "", of_row, i);
    }
    return fmt::format(
        "WITH {0}, {1}, G AS (SELECT {2}, COUNT(*) AS GONE FROM W WHERE OP = 'D' GROUP BY {3}), A "
        "AS (SELECT {4} FROM R UNION ALL SELECT {4} FROM W WHERE OP = 'I') SELECT a.* FROM A AS a "
        "LEFT JOIN G AS g ON {5} QUALIFY ROW_NUMBER() OVER (PARTITION BY {6} ORDER BY {7}) > "
        "COALESCE(g.GONE, 0)",
        window_.Changes(), Copied(), keys, groups, window_.PlainColumns(""), equal, partition,
        window_.Comparable(0, "a.C0"));
  }

  const TableSchema& schema_;
  const uint32_t generation_;
  const Fold& fold_;
  const WindowSql window_;
};

std::vector<std::string> Begin(const SnowflakeTable& table, const Fold& fold) {
  const ClaimSql claim(table);
  std::vector<std::string> sql{"BEGIN TRANSACTION",
                               claim.Claim("copying", Boundary(fold.from), Boundary(fold.high)),
                               claim.Guard(Boundary(fold.from), Boundary(fold.high))};
  if (table.run > 0) sql.push_back(RunGuardSql(table.names, table.pipeline, table.run));
  return sql;
}

}  // namespace

Position CopiedPosition(Lsn from, CopyAttempt attempt, uint64_t row) {
  return {Lsn{from.value - 1}, (uint64_t{attempt} << kAttemptShift) + row};
}

std::string MissingSql(const SnowflakeTable& table, const Fold& fold) {
  return FoldText(table, fold).Missing();
}

std::string FoldedRowsSql(const SnowflakeTable& table, const Fold& fold) {
  return FoldText(table, fold).Rows();
}

std::vector<std::string> SettleSql(const SnowflakeTable& table, Lsn read_after, Lsn high) {
  const WindowSql window(table, {});
  const std::string at = QuoteIdentifier(kPositionColumn), op = QuoteIdentifier(kOpColumn);
  const std::string read =
      fmt::format("l.{0} >= {1} AND l.{0} < {2} AND l.{3} = 'R'", at,
                  QuoteLiteral(PositionText(CopiedPosition(read_after, kSettledAttempt, 0))),
                  Boundary(read_after), op);
  std::string key, same;
  for (const int i : table.schema->key) {
    key += (key.empty() ? "" : ", ") + window.Comparable(i, "b." + window.Stored(i)) + " AS K" +
           std::to_string(i);
    same += (same.empty() ? "" : " AND ") + window.Comparable(i, "l." + window.Stored(i)) +
            " = k.K" + std::to_string(i);
  }
  std::vector<std::string> sql{
      "BEGIN TRANSACTION",
      fmt::format("DELETE FROM {0} AS l USING (SELECT DISTINCT {1} FROM {0} AS b WHERE b.{2} >= "
                  "{3} AND b.{2} < {4} AND b.{5} IN ('I', 'D')) AS k WHERE {6} AND {7}",
                  window.landing(), key, at, Boundary(read_after), Boundary(Lsn{high.value + 1}),
                  op, read, same),
      fmt::format("UPDATE {} AS l SET {} = 'U' WHERE {}", window.landing(), op, read), "COMMIT"};
  if (table.run > 0)
    sql.insert(sql.begin() + 1, RunGuardSql(table.names, table.pipeline, table.run));
  return sql;
}

std::string ForgetSettledSql(const SnowflakeTable& table) {
  return fmt::format("DELETE FROM {} WHERE {} = 'U' AND SUBSTR({}, 16, 1) IN ('7', 'f')",
                     table.names.Landing(*table.schema).Sql(), QuoteIdentifier(kOpColumn),
                     QuoteIdentifier(kPositionColumn));
}

std::vector<std::string> FoldSql(const SnowflakeTable& table, const Fold& fold,
                                 const SnowflakeName& place) {
  const FoldText text(table, fold);
  const ClaimSql claim(table);
  const bool direct = place == table.names.Target(*table.schema);
  std::vector<std::string> sql = Begin(table, fold);
  sql.push_back("DELETE FROM " + place.Sql());
  sql.push_back(fmt::format("INSERT INTO {} ({}) SELECT * FROM ({}) AS f", place.Sql(),
                            text.window().StoredColumns(""), text.Rows()));
  sql.push_back(PurgeLandingSql(table, fold.high));
  sql.push_back(claim.DropOlder());
  sql.push_back(claim.Apply(direct ? "live" : "swap"));
  sql.push_back("COMMIT");
  return sql;
}

std::vector<std::string> AppendCopiedSql(const SnowflakeTable& table, const Fold& fold,
                                         const SnowflakeName& copied, bool before) {
  const WindowSql window(table, {});
  const ClaimSql claim(table);
  const std::string at = QuoteIdentifier(kPositionColumn), op = QuoteIdentifier(kOpColumn);
  const Lsn commit{fold.from.value - 1};
  std::vector<std::string> sql = Begin(table, fold);
  // Copies that began at one boundary come in their order: the ordinal begins with the generation,
  // then come the attempt and the number of the row, 24 and 32 bits.
  if (before) {
    const Position first{commit, uint64_t{(table.generation - 1) & 0xff} << 56};
    sql.push_back(fmt::format("INSERT INTO {} ({}, {}) VALUES ('T', {})", window.landing(), op, at,
                              QuoteLiteral(PositionText(first))));
  }
  sql.push_back(fmt::format(
      "INSERT INTO {0} ({1}, {2}, {3}) SELECT {4}, 'R', SUBSTR(l.{3}, 1, 17) || '{5}' || "
      "SUBSTR(l.{3}, 18, 6) || SUBSTR(l.{3}, 26, 8) FROM {6} AS l WHERE l.{3} >= {7} AND l.{3} < "
      "{8} AND {9} QUALIFY ROW_NUMBER() OVER (PARTITION BY l.{3} ORDER BY l.{3}) = 1",
      window.landing(), window.StoredColumns(""), op, at, window.StoredColumns("l."),
      AppendedAs(table.generation), copied.Sql(), Boundary(commit), Boundary(fold.from),
      Done(fold, "l." + at)));
  sql.push_back(claim.DropOlder());
  sql.push_back(claim.Apply("live"));
  sql.push_back("COMMIT");
  return sql;
}

TableSchemaPtr CopiedSchema(const SnowflakeTable& table) {
  auto schema = std::make_shared<TableSchema>(*table.schema);
  schema->name =
      fmt::format("_etl_copy_{}_{}_{}", table.pipeline, table.schema->id.oid, table.generation);
  return schema;
}

std::string SwapStateSql(const SnowflakeTable& table) {
  const SnowflakeName target = table.names.Target(*table.schema);
  return fmt::format(
      "SELECT TABLE_NAME FROM {}.INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME "
      "IN ({}, {}, {})",
      QuoteIdentifier(target.database), QuoteLiteral(target.schema), QuoteLiteral(target.name),
      QuoteLiteral(table.names.Shadow(table.pipeline, *table.schema, table.generation).name),
      QuoteLiteral(table.names.Retired(table.pipeline, *table.schema).name));
}

std::optional<std::string> NextSwapStep(const SnowflakeTable& table, const SwapState& state) {
  if (!state.shadow) return std::nullopt;
  const SnowflakeName target = table.names.Target(*table.schema);
  const SnowflakeName retired = table.names.Retired(table.pipeline, *table.schema);
  if (!state.target) {
    return "ALTER TABLE " +
           table.names.Shadow(table.pipeline, *table.schema, table.generation).Sql() +
           " RENAME TO " + target.Sql();
  }
  // One that an earlier swap left behind.
  if (state.retired) return "DROP TABLE IF EXISTS " + retired.Sql();
  return "ALTER TABLE " + target.Sql() + " RENAME TO " + retired.Sql();
}

std::string FinishSwapSql(const SnowflakeTable& table) {
  return fmt::format(
      "UPDATE {} SET \"PHASE\" = 'live' WHERE \"PIPELINE\" = {} AND \"TABLE_OID\" = {} AND "
      "\"GENERATION\" = {} AND \"PHASE\" = 'swap'",
      table.names.Watermark().Sql(), QuoteLiteral(table.pipeline), table.schema->id.oid,
      table.generation);
}

std::string DropRetiredSql(const SnowflakeTable& table) {
  return "DROP TABLE IF EXISTS " + table.names.Retired(table.pipeline, *table.schema).Sql();
}

}  // namespace etl
