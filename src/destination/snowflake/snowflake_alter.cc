// Changes of columns and names: landing table, target, and in append mode the table that copied
// rows wait in, are altered together where the change stands in the stream.
//
// Rows of before have all landed by then, and are altered with the table, so that each is what the
// same row would be under the new version. First a record says where the tables are on their way
// to: whoever starts after a crash goes on with that before anything else. The statements that are
// left are told by the names that are there. Rows of behind come when a record says that it is
// done.

#include <algorithm>

#include <arrow/api.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "destination/snowflake/claim_sql.h"
#include "destination/snowflake/fold_sql.h"
#include "destination/snowflake/snowflake_destination.h"
#include "destination/snowflake/snowflake_types.h"
#include "destination/snowflake/text_buffer.h"
#include "destination/snowflake/value_encoder.h"
#include "model/schema_json.h"

namespace etl {
namespace {

bool SameIdentity(const TableSchema& a, const TableSchema& b) {
  const auto attnum = [](const TableSchema& schema, int column) {
    return schema.columns[static_cast<size_t>(column)].attnum;
  };
  return a.identity == b.identity &&
         std::equal(a.key.begin(), a.key.end(), b.key.begin(), b.key.end(),
                    [&](int x, int y) { return attnum(a, x) == attnum(b, y); });
}

/// Whether `to` is a version that a table with the columns of `at` has left behind: the stream is
/// read again.
bool Passed(const SnowflakeTableState& state, const TableSchema& to) {
  return state.landing->version > to.version && NewestAttnum(to) <= state.newest_attnum;
}

bool Same(const TableSchema& a, const TableSchema& b) {
  return &a == &b || SchemaToJson(a) == SchemaToJson(b);
}

TableSchemaPtr Renamed(const TableSchema& schema, std::string name) {
  auto renamed = std::make_shared<TableSchema>(schema);
  renamed->name = std::move(name);
  return renamed;
}

/// `value` as SQL; empty for NULL.
Result<std::string> FillSql(const ColumnType& type, const arrow::Array& value) {
  if (value.IsNull(0)) return std::string();
  ETL_ASSIGN_OR_RETURN(const auto encoder, ValueEncoder::Make(*value.type()));
  encoder->Bind(*value.data());
  TextBuffer text;
  LineSink sink{.out = &text, .margin = ValueEncoder::kFixedMax};
  char* end = encoder->Write(0, text.Reserve(2 * sink.margin), &sink);
  // What no column can hold is NULL in the rows that are there, as it would be in new ones.
  if (end == nullptr) return std::string();
  std::string json(text.data(), static_cast<size_t>(end - text.data()));
  if (!IsVariant(type) && json.starts_with('"')) {
    json = nlohmann::json::parse(json).get<std::string>();
  }
  return ValueSql(type, json);
}

}  // namespace

/// The same columns in Snowflake.
bool SnowflakeDestination::SameColumns(const TableSchema& a, const TableSchema& b) {
  return std::equal(a.columns.begin(), a.columns.end(), b.columns.begin(), b.columns.end(),
                    [](const Column& x, const Column& y) {
                      return x.attnum == y.attnum && x.name == y.name &&
                             SnowflakeType(*x.type) == SnowflakeType(*y.type);
                    });
}

/// In the same table, too.
bool SnowflakeDestination::SamePlace(const TableSchema& a, const TableSchema& b) {
  return a.schema == b.schema && a.name == b.name && SameColumns(a, b);
}

/// Whether the target changes with the stream.
bool SnowflakeDestination::Follows(const Table& table) const {
  const TableCheckpoint& checkpoint = table.state.checkpoint;
  return start_.mode == Mode::kMirror && table.state.target != nullptr &&
         (checkpoint.phase == TablePhase::kLive ||
          (checkpoint.phase == TablePhase::kCopying && checkpoint.keep_target));
}

Result<bool> SnowflakeDestination::Apply(const SchemaChange& change, Instant now, bool* worked) {
  enum { kEndFold, kRest, kRoom, kAlter };
  Table* table = Find(change.to->id);
  if (table == nullptr) return true;
  SnowflakeTableState& state = table->state;
  const auto done = [&] {
    state.checkpoint.schema = change.to;
    Remember(*table);
    return true;
  };
  if (!Stores(*table) || state.landing == nullptr) return done();
  if (cursor_.step == kEndFold) {
    if (state.altering != nullptr) return false;
    // Whether the target changes, too, is told by the end of its fold.
    if (Busy(change.to->id) && job_->kind == Job::Kind::kFold) return false;
    // Copied rows that an earlier run has folded: what they are in is the target from now on.
    if (state.checkpoint.phase == TablePhase::kCopying && !table->mark.empty() &&
        table->mark != "copying") {
      table->finish = true;
      return false;
    }
    cursor_.step = kRest;
  }
  if (cursor_.step == kRest) {
    for (const auto& [attnum, value] : change.fill) {
      if (!state.fill.contains(attnum)) state.fill[attnum] = value;
    }
    if (SamePlace(*state.landing, *change.to) && SameIdentity(*state.landing, *change.to) &&
        state.landing->full_images == change.to->full_images)
      return done();
    if (Passed(state, *change.to)) return done();
    ETL_ASSIGN_OR_RETURN(const bool closed, CloseTable(*table));
    ETL_ASSIGN_OR_RETURN(const bool rested, RestLanes(*table));
    if (!closed || !rested) return false;
    // Rows of before are found by the key that they were sent with.
    if (Follows(*table) && !SameIdentity(*state.landing, *change.to) &&
        table->newest >= std::max(table->applied, table->empty_until)) {
      if (table->newest < given_end_) {
        table->merge_at = {};
        table->task_late = true;  // It may take its time.
        return false;
      }
      const std::string name = change.to->QualifiedName();
      ETL_RETURN_IF_ERROR(StopTable(
          *table, "ETL-D331",
          fmt::format("{}: its key changed right behind changes of its rows; do: etl-stream "
                      "pipeline resync {} --table {}",
                      name, start_.pipeline, name)));
      return true;
    }
    cursor_.step = kRoom;
  }
  if (cursor_.step == kRoom) {
    ETL_ASSIGN_OR_RETURN(const bool free, MakeRoom(*table, *change.to, now, worked));
    if (!free) return false;
    cursor_.step = kAlter;
  }
  TableSchemaPtr to = change.to;
  if (!state.landing->full_images && to->full_images) {
    // Rows of before may have left values out.
    auto partial = std::make_shared<TableSchema>(*to);
    partial->full_images = false;
    to = std::move(partial);
  }
  ETL_ASSIGN_OR_RETURN(const bool altered,
                       AlterTo(*table, to, Follows(*table) ? to : nullptr, worked));
  return altered ? done() : false;
}

/// The name that the table is to have is free, or its own: another one that still has it, for its
/// own new name is yet to come, steps aside; a stopped one gives way.
Result<bool> SnowflakeDestination::MakeRoom(Table& table, const TableSchema& schema, Instant now,
                                            bool* worked) {
  const SnowflakeName landing = names_.Landing(schema), target = names_.Target(schema);
  for (auto& [oid, other] : tables_) {
    SnowflakeTableState& state = other.state;
    if (&other == &table) continue;
    const bool lands = state.landing != nullptr && names_.Landing(*state.landing) == landing;
    const bool has = state.target != nullptr && names_.Target(*state.target) == target;
    if (!lands && !has) continue;
    if (!Stores(other)) {
      // A target that readers see stays until it is replaced.
      if (!lands) continue;
      if (cursor_.sql.empty()) {
        Statements sql;
        if (start_.mode == Mode::kMirror) sql = Fence(other);
        sql.push_back("DROP TABLE IF EXISTS " + landing.Sql());
        cursor_.sql.push_back(Guarded(sql));
      }
      ETL_ASSIGN_OR_RETURN(const bool done, RunSql("drop the landing table", now, worked));
      if (!done) return false;
      outcome_.reset();
      cursor_.sql.clear();
      cursor_.next_sql = 0;
      state.landing = nullptr;
      ETL_RETURN_IF_ERROR(WriteRecords({ProgressLog::Landing(state)}, {}, {}));
      continue;
    }
    ETL_ASSIGN_OR_RETURN(const bool closed, CloseTable(other));
    ETL_ASSIGN_OR_RETURN(const bool rested, RestLanes(other));
    if (!closed || !rested || state.altering != nullptr) return false;
    const std::string passing = fmt::format("_etl_passing_{}_{}", start_.pipeline, oid);
    TableSchemaPtr target_to;
    if (state.target != nullptr) target_to = Renamed(*state.target, passing);
    ETL_ASSIGN_OR_RETURN(const bool moved, AlterTo(other, Renamed(*state.landing, passing),
                                                   std::move(target_to), worked));
    if (!moved) return false;
  }
  return true;
}

/// Begins an alteration, or tells that none is under way any more.
Result<bool> SnowflakeDestination::AlterTo(Table& table, const TableSchemaPtr& landing,
                                           const TableSchemaPtr& target, bool* worked) {
  SnowflakeTableState& state = table.state;
  if (state.altering != nullptr) return false;
  if (Same(*state.landing, *landing)) return true;
  state.altering = landing;
  state.altering_target = target;
  for (const Place& place : PlacesOf(table)) {
    const Result<AlterPlan> plan = PlanOf(table, place);
    if (plan.ok()) continue;
    state.altering = state.altering_target = nullptr;
    ETL_RETURN_IF_ERROR(StopTable(table, "ETL-D330", plan.status().message()));
    return true;
  }
  table.loaded = true;
  state.newest_attnum =
      std::max({state.newest_attnum, NewestAttnum(*state.landing), NewestAttnum(*landing)});
  *worked = true;
  ETL_RETURN_IF_ERROR(WriteRecords({ProgressLog::Landing(state)}, {}, {}));
  return false;
}

std::vector<SnowflakeDestination::Place> SnowflakeDestination::PlacesOf(const Table& table) const {
  const SnowflakeTableState& state = table.state;
  std::vector<Place> places;
  places.push_back({.from = state.landing,
                    .to = state.altering,
                    .old_name = names_.Landing(*state.landing),
                    .name = names_.Landing(*state.altering),
                    .landing = true});
  if (state.altering_target != nullptr) {
    places.push_back({.from = state.target,
                      .to = state.altering_target,
                      .old_name = names_.Target(*state.target),
                      .name = names_.Target(*state.altering_target)});
  }
  if (start_.mode == Mode::kAppend && state.checkpoint.phase == TablePhase::kCopying) {
    const uint32_t generation = state.checkpoint.generation;
    const TableSchemaPtr copied = CopiedSchema(Of(state.landing, generation));
    const TableSchemaPtr next = CopiedSchema(Of(state.altering, generation));
    places.push_back({.from = copied,
                      .to = next,
                      .old_name = names_.Landing(*copied),
                      .name = names_.Landing(*next),
                      .landing = true});
  }
  return places;
}

Result<AlterPlan> SnowflakeDestination::PlanOf(const Table& table, const Place& place) const {
  AlterOptions options{.landing = place.landing};
  for (const auto& [attnum, value] : table.state.fill) {
    const int column = place.to->ColumnByAttnum(attnum);
    if (column < 0 || value == nullptr) continue;
    ETL_ASSIGN_OR_RETURN(options.fill[attnum],
                         FillSql(*place.to->columns[static_cast<size_t>(column)].type, *value));
  }
  return PlanAlter(names_, place.name, *place.from, *place.to, options);
}

Status SnowflakeDestination::StepAlter(SqlOutcome& outcome, Instant now) {
  enum { kBegin, kLook, kTables, kPlace, kColumns, kRecorded, kEnd };
  Table& table = tables_.at(job_->table.oid);
  SnowflakeTableState& state = table.state;
  ETL_RETURN_IF_ERROR(outcome.status);
  const std::vector<Place> places = PlacesOf(table);
  const auto run = [&](int next, const std::string& what, const Statements& sql) {
    job_->step = next;
    RunJob(what, sql, now);
    return Status::OK();
  };
  const auto there = [this](const SnowflakeName& name) { return job_->there.contains(name); };
  if (job_->step == kBegin) {
    // A merge of a run that was ended may still be under way: it has the lock that this waits for.
    // Its task ends first.
    Statements sql;
    if (start_.mode == Mode::kMirror) sql = Guarded(Fence(table));
    sql.insert(sql.end(), {"BEGIN TRANSACTION", TouchWatermarkSql(Of(table)),
                           RunGuardSql(names_, start_.pipeline, begin_), "COMMIT"});
    return run(kLook, "wait for merges of", sql);
  }
  if (job_->step == kLook) {
    if (Same(*state.landing, *state.altering)) {
      // An earlier run has got as far as its record.
      for (const Place& place : places) job_->after.push_back(DropAlterMarkSql(place.name));
      job_->step = kRecorded;
    } else {
      std::vector<SnowflakeName> names;
      for (const Place& place : places) {
        names.push_back(place.old_name);
        names.push_back(place.name);
      }
      return run(kTables, "look for tables of", {SelectTablesSql(names)});
    }
  }
  if (job_->step == kTables) {
    for (const SqlRow& row : outcome.results.at(0).rows)
      job_->there.insert({names_.database(), row.at(0).value_or(""), row.at(1).value_or("")});
    for (const Place& place : places) {
      if (place.landing || place.old_name == place.name || !there(place.old_name) ||
          !there(place.name) || Owns(place.name, table))
        continue;
      const std::string name = place.to->QualifiedName();
      state.altering = state.altering_target = nullptr;
      job_.reset();
      // A later run must not go on with it: it is where it was.
      ETL_RETURN_IF_ERROR(WriteRecords({ProgressLog::Landing(state)}, {}, {}));
      return StopTable(table, "ETL-D120",
                       name + ": a table of that name is there, and this pipeline did not make it");
    }
    job_->step = kPlace;
  }
  if (job_->step == kColumns) {
    std::set<std::string> columns;
    for (const SqlRow& row : outcome.results.back().rows) columns.insert(row.at(0).value_or(""));
    ETL_ASSIGN_OR_RETURN(const AlterPlan plan, PlanOf(table, places[job_->place++]));
    job_->after.insert(job_->after.end(), plan.after.begin(), plan.after.end());
    const Statements sql = RemainingSteps(plan, columns);
    if (!sql.empty()) return run(kPlace, "alter", Guarded(sql));
    job_->step = kPlace;
  }
  if (job_->step == kPlace) {
    // In append mode there may be no table of copied rows.
    while (job_->place < places.size() && !there(places[job_->place].old_name) &&
           !there(places[job_->place].name))
      ++job_->place;
    if (job_->place < places.size()) {
      const Place& place = places[job_->place];
      Statements sql;
      if (place.old_name != place.name && there(place.old_name)) {
        if (there(place.name)) sql.push_back("DROP TABLE IF EXISTS " + place.name.Sql());
        for (std::string& create : CreateSchemasSql(names_, *place.to))
          sql.push_back(std::move(create));
        sql.push_back(RenameTableSql(place.old_name, place.name));
      }
      sql.push_back(SelectColumnsSql(place.name));
      return run(kColumns, "rename", Guarded(sql));
    }
    state.landing = state.altering;
    if (state.altering_target != nullptr) state.target = state.altering_target;
    // Rows of behind the change, which the statements must not meet, come after this record.
    ETL_RETURN_IF_ERROR(WriteRecords({ProgressLog::Landing(state)}, {}, {}));
    job_->token = Token(sequence_);
    job_->step = kRecorded;
    return Status::OK();
  }
  if (job_->step == kRecorded && !job_->after.empty())
    return run(kEnd, "finish", Guarded(job_->after));
  state.altering = state.altering_target = nullptr;
  job_.reset();
  return WriteRecords({ProgressLog::Landing(state)}, {}, {});
}

}  // namespace etl
