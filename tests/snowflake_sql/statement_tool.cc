// Writes the statements of the Snowflake destination for descriptions read as JSON, one a line, so
// that tests in other languages can run and judge them. One line of JSON is answered for each.

#include <iostream>
#include <optional>
#include <set>
#include <string>

#include <nlohmann/json.hpp>

#include "destination/snowflake/alter_sql.h"
#include "destination/snowflake/claim_sql.h"
#include "destination/snowflake/fold_sql.h"
#include "destination/snowflake/grants_sql.h"
#include "destination/snowflake/merge_sql.h"
#include "destination/snowflake/snowflake_types.h"
#include "model/schema_json.h"

namespace etl {
namespace {

using Json = nlohmann::json;

Lsn LsnOf(const Json& json, const char* name) { return Lsn{json.value(name, uint64_t{0})}; }

SnowflakeNames NamesOf(const Json& json) {
  return SnowflakeNames({.database = json.at("database"),
                         .schema = json.at("schema"),
                         .landing_schema = json.at("landing_schema"),
                         .identifiers = json.value("identifiers", "upper") == "upper"
                                            ? IdentifierCase::kUpper
                                            : IdentifierCase::kPreserve});
}

Fold FoldOf(const Json& json) {
  return {.from = LsnOf(json, "from"),
          .high = LsnOf(json, "high"),
          .done = json.value("done", std::vector<CopyAttempt>{}),
          .ignore_below = LsnOf(json, "ignore_below")};
}

SnowflakeName Place(const Json& json, const SnowflakeTable& table) {
  const std::string place = json.value("place", "target");
  if (place == "landing") return table.names.Landing(*table.schema);
  if (place == "shadow") return table.names.Shadow(table.pipeline, *table.schema, table.generation);
  return table.names.Target(*table.schema);
}

Json Describe(const SnowflakeTable& table) {
  const TableSchema& schema = *table.schema;
  Json columns = Json::array();
  for (const Column& column : schema.columns)
    columns.push_back({table.names.Fold(column.name), SnowflakeType(*column.type)});
  const auto parts = [](const SnowflakeName& name) {
    return Json{name.database, name.schema, name.name};
  };
  return {{"target", parts(table.names.Target(schema))},
          {"landing", parts(table.names.Landing(schema))},
          {"pipe", parts(table.names.Pipe(schema))},
          {"task", parts(table.names.Task(schema))},
          {"shadow", parts(table.names.Shadow(table.pipeline, schema, table.generation))},
          {"retired", parts(table.names.Retired(table.pipeline, schema))},
          {"copied", parts(table.names.Landing(*CopiedSchema(table)))},
          {"watermark", parts(table.names.Watermark())},
          {"progress", parts(table.names.Progress())},
          {"columns", columns}};
}

Json Alter(const Json& json, const SnowflakeTable& table) {
  const TableSchemaPtr to = *SchemaFromJson(json.at("to").dump());
  AlterOptions options{.landing = json.value("place", "target") == "landing"};
  if (json.contains("fill")) {
    for (const auto& [attnum, value] : json.at("fill").items())
      options.fill.emplace(static_cast<int16_t>(std::stoi(attnum)), value.get<std::string>());
  }
  const auto plan = PlanAlter(table.names, Place(json, table), *table.schema, *to, options);
  if (!plan.ok()) return {{"error", plan.status().message()}};
  const auto columns = json.value("existing", std::set<std::string>{});
  return {{"statements", RemainingSteps(*plan, columns)}, {"after", plan->after}};
}

Json Setup(const SnowflakeTable& table) {
  std::vector<std::string> sql = BookkeepingSql(table.names);
  for (std::string& statement : CreateSchemasSql(table.names, *table.schema))
    sql.push_back(std::move(statement));
  sql.push_back(CreateLandingSql(table));
  return sql;
}

/// One of everything, for a parser to judge.
Json All(const SnowflakeTable& table) {
  const MergeWindow window{Lsn{0x100}, Lsn{0x200}};
  const Fold fold{.from = Lsn{0x100}, .high = Lsn{0x200}, .done = {1, 2}};
  const TaskOptions task{.warehouse = "etl_wh"};
  const SnowflakeName target = table.names.Target(*table.schema);
  std::vector<std::string> sql = Setup(table);
  const auto add = [&](const std::vector<std::string>& more) {
    sql.insert(sql.end(), more.begin(), more.end());
  };
  add({CreateTargetSql(table, target), InsertWatermarkSql(table, Lsn{0x100}, false),
       SelectWatermarksSql(table.names, table.pipeline),
       SelectForwardSql(table.names, table.pipeline, 1), SelectLandedSql(table, Lsn{0x100}),
       PurgeLandingSql(table, Lsn{0x100}), PurgeCopiedSql(table),
       PurgeProgressSql(table.names, table.pipeline, 7, 0), ProbeWindowSql(table, window),
       EndEarlierSql(table), SwapStateSql(table), FinishSwapSql(table), DropRetiredSql(table),
       SelectColumnsSql(target),
       RenameTableSql(target, table.names.Retired(table.pipeline, *table.schema))});
  add(MergeSql(table, window));
  add(PutTaskSql(table, task, "", "shop"));
  add(FenceTaskSql(table, "shop"));
  add(TaskMergeSql(table, task));
  add(FoldSql(table, fold, target));
  if (table.schema->identity == Identity::kKey) {
    add({MissingSql(table, fold)});
    add(SettleSql(table, Lsn{0x180}, Lsn{0x190}));
  }
  add(AppendCopiedSql(table, fold, table.names.Landing(*CopiedSchema(table)), true));
  add({ForgetSettledSql(table), TouchWatermarkSql(table), SelectTablesSql({target}),
       RunGuardSql(table.names, table.pipeline, 7), DropAlterMarkSql(target)});
  for (const bool there : {false, true})
    add({*NextSwapStep(table, {.target = there, .shadow = true})});
  add(ForgetTableSql(table));
  add(ForgetPipelineSql(table.names, table.pipeline));
  return sql;
}

/// What a user called `user` needs, with a role and a warehouse of that name.
Json Grants(const Json& json, const SnowflakeTable& table) {
  SnowflakeConfig config;
  config.user = config.role = config.warehouse = json.at("user");
  config.schema = table.names.naming().schema;
  config.merge_by = MergeBy::kTask;
  return SnowflakeGrants(config, table.names)
      .All(/*mirror=*/true, {table.schema}, KeySlot::kSecond, "MIIB+/=");
}

Json Answer(const Json& json) {
  const SnowflakeNames names = NamesOf(json.at("naming"));
  const auto schema = SchemaFromJson(json.at("table").dump());
  if (!schema.ok()) return {{"error", schema.status().message()}};
  const SnowflakeTable table{names, json.value("pipeline", "shop"), *schema,
                             json.value("generation", 1u)};
  const std::string what = json.at("what");
  const MergeWindow window{LsnOf(json, "low"), LsnOf(json, "high")};
  if (what == "names") return Describe(table);
  if (what == "problems") return NameProblems(names, {table.schema});
  if (what == "setup") return Setup(table);
  if (what == "all") return All(table);
  if (what == "grants") return Grants(json, table);
  if (what == "alter") return Alter(json, table);
  if (what == "create") return Json{CreateTargetSql(table, Place(json, table))};
  if (what == "watermark")
    return Json{InsertWatermarkSql(table, LsnOf(json, "from"), json.value("live", false))};
  if (what == "merge") {
    return MergeSql(table, window,
                    {.truncates = json.value("truncates", true),
                     .moves = json.value("moves", true),
                     .keep_from = LsnOf(json, "keep_from"),
                     .strict = json.value("strict", true)});
  }
  if (what == "probe") return Json{ProbeWindowSql(table, window)};
  const TaskOptions task{.warehouse = "etl_wh"};
  if (what == "task") return TaskMergeSql(table, task);
  if (what == "put_task")
    return PutTaskSql(table, task, json.value("seen", ""), json.value("run", "a"));
  if (what == "fence_task") return FenceTaskSql(table, json.value("run", "a"));
  if (what == "end_earlier") return Json{EndEarlierSql(table)};
  if (what == "fold") return FoldSql(table, FoldOf(json), Place(json, table));
  if (what == "missing") return Json{MissingSql(table, FoldOf(json))};
  if (what == "swap") {
    const auto step = NextSwapStep(
        table,
        {.target = json.at("target"), .shadow = json.at("shadow"), .retired = json.at("retired")});
    return step.has_value() ? Json{*step} : Json::array();
  }
  if (what == "finish_swap") return Json{FinishSwapSql(table)};
  return {{"error", "unknown: " + what}};
}

}  // namespace
}  // namespace etl

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    try {
      std::cout << etl::Answer(nlohmann::json::parse(line)).dump() << std::endl;
    } catch (const std::exception& error) {
      std::cout << nlohmann::json{{"error", error.what()}}.dump() << std::endl;
    }
  }
  return 0;
}
