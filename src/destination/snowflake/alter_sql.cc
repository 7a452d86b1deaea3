#include "destination/snowflake/alter_sql.h"

#include <fmt/format.h>

#include "destination/snowflake/snowflake_types.h"

namespace etl {
namespace {

constexpr const char* kMark = "_ETL_ALTERING";

/// A column that leaves its name.
struct Leaving {
  int16_t attnum = 0;
  std::string name;
  std::string new_name;  ///< empty: dropped
};

class Planner {
 public:
  Planner(const SnowflakeNames& names, const SnowflakeName& place, const AlterOptions& options)
      : names_(names), place_(place), options_(options) {}

  Result<AlterPlan> Plan(const TableSchema& from, const TableSchema& to) {
    std::vector<Leaving> leaving;
    std::set<std::string> new_names;
    for (const Column& column : to.columns) new_names.insert(names_.Fold(column.name));
    bool reused = false;
    for (const Column& column : from.columns) {
      const int index = to.ColumnByAttnum(column.attnum);
      const std::string name = names_.Fold(column.name);
      const std::string new_name =
          index < 0 ? "" : names_.Fold(to.columns[static_cast<size_t>(index)].name);
      if (name == new_name) continue;
      leaving.push_back({column.attnum, name, new_name});
      reused = reused || new_names.contains(name);
    }
    if (reused) Vacate(&leaving);
    for (const Leaving& column : leaving) {
      if (!column.new_name.empty()) Rename(column.name, column.new_name, /*passing=*/false);
    }
    ETL_RETURN_IF_ERROR(AddAndWiden(from, to));
    // Last, for a table may not be without columns.
    for (const Leaving& column : leaving) {
      if (column.new_name.empty()) Drop(column.name);
    }
    if (reused) plan_.after.push_back(DropAlterMarkSql(place_));
    return std::move(plan_);
  }

 private:
  std::string Alter() const { return "ALTER TABLE " + place_.Sql() + " "; }
  void Repeatable(std::string sql) { plan_.steps.push_back({.sql = std::move(sql)}); }

  /// Gives every leaving column its name in passing.
  void Vacate(std::vector<Leaving>* leaving) {
    for (Leaving& column : *leaving) {
      const std::string passing = "_ETL_PASSING_" + std::to_string(column.attnum);
      Rename(column.name, passing, /*passing=*/true);
      column.name = passing;
    }
    plan_.steps.push_back(
        {.kind = AlterStep::Kind::kMark,
         .sql = Alter() + "ADD COLUMN IF NOT EXISTS " + QuoteIdentifier(kMark) + " BOOLEAN"});
  }

  void Rename(const std::string& name, const std::string& new_name, bool passing) {
    plan_.steps.push_back({.kind = AlterStep::Kind::kRename,
                           .sql = fmt::format("{}RENAME COLUMN {} TO {}", Alter(),
                                              QuoteIdentifier(name), QuoteIdentifier(new_name)),
                           .column = name,
                           .passing = passing});
    if (options_.landing) Unchanged(name, &new_name, passing);
  }

  void Drop(const std::string& name) {
    if (options_.landing) Unchanged(name, nullptr, false);
    Repeatable(Alter() + "DROP COLUMN IF EXISTS " + QuoteIdentifier(name));
  }

  /// Rows that wait for a fold say by name which of their values were not sent.
  void Unchanged(const std::string& name, const std::string* new_name, bool passing) {
    const std::string list = QuoteIdentifier(kUnchangedColumn);
    const std::string old_name = QuoteLiteral(name) + "::VARIANT";
    std::string value = fmt::format("ARRAY_REMOVE({}, {})", list, old_name);
    if (new_name != nullptr)
      value = fmt::format("ARRAY_APPEND({}, {}::VARIANT)", value, QuoteLiteral(*new_name));
    plan_.steps.push_back({.sql = fmt::format("UPDATE {} SET {} = {} WHERE ARRAY_CONTAINS({}, {})",
                                              place_.Sql(), list, value, old_name, list),
                           .passing = passing});
  }

  Status AddAndWiden(const TableSchema& from, const TableSchema& to) {
    for (const Column& column : to.columns) {
      const std::string name = QuoteIdentifier(names_.Fold(column.name));
      const std::string type = SnowflakeType(*column.type);
      const int index = from.ColumnByAttnum(column.attnum);
      if (index < 0) {
        Repeatable(Alter() + "ADD COLUMN IF NOT EXISTS " + name + " " + type);
        const auto fill = options_.fill.find(column.attnum);
        if (fill != options_.fill.end() && !fill->second.empty())
          Repeatable("UPDATE " + place_.Sql() + " SET " + name + " = " + fill->second);
        continue;
      }
      const ColumnType& before = *from.columns[static_cast<size_t>(index)].type;
      switch (ChangeOfType(before, *column.type)) {
        case TypeChange::kNone: break;
        case TypeChange::kWiden:
          Repeatable(Alter() + "ALTER COLUMN " + name + " SET DATA TYPE " + type);
          break;
        case TypeChange::kImpossible:
          return MakeError(
              ErrorKind::kSchema, "ETL-D330",
              fmt::format("{} column {}: {} does not become {} in place", to.QualifiedName(),
                          column.name, SnowflakeType(before), type));
      }
    }
    return Status::OK();
  }

  const SnowflakeNames& names_;
  const SnowflakeName& place_;
  const AlterOptions& options_;
  AlterPlan plan_;
};

}  // namespace

Result<AlterPlan> PlanAlter(const SnowflakeNames& names, const SnowflakeName& place,
                            const TableSchema& from, const TableSchema& to,
                            const AlterOptions& options) {
  return Planner(names, place, options).Plan(from, to);
}

std::vector<std::string> RemainingSteps(const AlterPlan& plan,
                                        const std::set<std::string>& columns) {
  const bool marked = columns.contains(kMark);
  std::vector<std::string> remaining;
  for (const AlterStep& step : plan.steps) {
    if (marked && (step.passing || step.kind == AlterStep::Kind::kMark)) continue;
    if (step.kind == AlterStep::Kind::kRename) {
      // A name in passing has no other holder, so that its absence says it was left already.
      const bool waits_for_passing = step.column.starts_with("_ETL_PASSING_") && !marked;
      if (!waits_for_passing && !columns.contains(step.column)) continue;
    }
    remaining.push_back(step.sql);
  }
  return remaining;
}

std::string DropAlterMarkSql(const SnowflakeName& table) {
  return "ALTER TABLE " + table.Sql() + " DROP COLUMN IF EXISTS " + QuoteIdentifier(kMark);
}

std::string SelectTablesSql(const std::vector<SnowflakeName>& tables) {
  std::string any;
  for (const SnowflakeName& table : tables) {
    any += fmt::format("{}(TABLE_SCHEMA = {} AND TABLE_NAME = {})", any.empty() ? "" : " OR ",
                       QuoteLiteral(table.schema), QuoteLiteral(table.name));
  }
  return fmt::format("SELECT TABLE_SCHEMA, TABLE_NAME FROM {}.INFORMATION_SCHEMA.TABLES WHERE {}",
                     QuoteIdentifier(tables.at(0).database), any);
}

std::string SelectColumnsSql(const SnowflakeName& table) {
  return fmt::format(
      "SELECT COLUMN_NAME FROM {}.INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = {} AND "
      "TABLE_NAME = {} ORDER BY ORDINAL_POSITION",
      QuoteIdentifier(table.database), QuoteLiteral(table.schema), QuoteLiteral(table.name));
}

std::string RenameTableSql(const SnowflakeName& from, const SnowflakeName& to) {
  return "ALTER TABLE " + from.Sql() + " RENAME TO " + to.Sql();
}

}  // namespace etl
