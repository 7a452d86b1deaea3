// The reader's part that follows the system catalog: tables that come, change and go (correctness,
// section 7).
#include <algorithm>
#include <set>
#include <utility>

#include "apply/schema_step.h"
#include "base/log.h"
#include "pipeline/reader.h"
#include "postgres/source_setup.h"

namespace etl {
namespace {

bool CanBeOutOfLine(const ColumnType& type) {
  switch (type.kind) {
    case TypeKind::kText:
    case TypeKind::kBytea:
    case TypeKind::kJson:
    case TypeKind::kJsonb:
    case TypeKind::kNumericText:
    case TypeKind::kDecimal:
    case TypeKind::kList:
    case TypeKind::kStruct:
    case TypeKind::kServerText: return true;
    default: return false;
  }
}

constexpr std::string_view kCopiedAgain = "ETL-S124";
constexpr std::string_view kLeft = "ETL-S121";
constexpr std::string_view kNewStream = "ETL-S128";
constexpr std::string_view kNotSelected = "ETL-S123";
constexpr std::string_view kWithoutRules = "ETL-S125";
constexpr std::string_view kReservedInAppend[] = {"_etl_op",        "_etl_lsn", "_etl_seq",
                                                  "_etl_commit_ts", "_etl_xid", "_etl_unchanged"};

}  // namespace

void Reader::AskTables() {
  if (tables_asked_ > 0) return;
  ++tables_asked_;
  catalog_->Ask(TablesQuery{});
}

// What was stored under other rules is copied again, before a row is taken under the new ones.
Status Reader::CompareRules() {
  for (TableId id : tables_.ids()) {
    TableRuntime& table = tables_.at(id);
    if (table.phase != TablePhase::kLive && table.phase != TablePhase::kCopying) continue;
    std::string reason = ReasonOfRules(*table.schema, table.rules);
    if (reason.empty() && !table.fingerprint.hash_key.empty() &&
        table.fingerprint.hash_key != options_.hash_key_digest) {
      reason = "hash_key changed";
    }
    // Up to here the stream may have overlooked changes of it, which a copy begun before then
    // lacks.
    if (reason.empty() && options_.loses_published_changes && table.copy &&
        table.copy->stage() == TableCopy::Stage::kBarrier) {
      reason = "the server may have overlooked changes of it";
      table.wants_new_stream = true;
    }
    if (!reason.empty()) ETL_RETURN_IF_ERROR(AbandonTable(id, table, std::move(reason)));
  }
  return Status::OK();
}

// A transaction that was open when the table was published can make the server's sender forget, for
// the rest of its session, that it was.
bool Reader::NewlyPublished(const TableRuntime& table, const TableFacts& facts) const {
  if (!options_.loses_published_changes || !options_.snapshot) return false;
  // This session began after all of them had ended.
  if (table.stop_code == kNewStream) return false;
  if (table.wants_new_stream || !table.fingerprint_known) return true;
  return table.stop_code == kLeft ||
         table.fingerprint.publication_entries != facts.publication_entries ||
         table.fingerprint.publication_row != facts.publication_row;
}

// Rule C2, last sentence. What was overlooked before the stream ends here is visible to every
// snapshot after it; a copy that begins there has all changes that follow.
Status Reader::ReopenStreamIfDue() {
  if (reopening_) {
    if (!segment_.empty() || piece_open_ || !in_flight_.empty() || durable_ < handed_)
      return Status::OK();
    return MakeError(ErrorKind::kTransient, "ETL-S128",
                     "the stream is opened anew, for this server may overlook changes of tables "
                     "that were just published");
  }
  const auto due = [&](const TableRuntime& table) {
    return table.copy && table.new_stream_at.valid() && received_ >= table.new_stream_at;
  };
  for (TableId id : tables_.ids()) {
    const TableRuntime& table = tables_.at(id);
    if (!table.copy || table.copy_wanted || due(table)) continue;
    const TableCopy::Stage stage = table.copy->stage();
    if (stage != TableCopy::Stage::kBarrier && stage != TableCopy::Stage::kPlan) continue;
    // Without a plan it would have to begin again, too. One that waits for a writer may have to.
    if (!table.wants_new_stream || table.copy->waiting_for().empty()) return Status::OK();
  }
  for (TableId id : tables_.ids()) {
    TableRuntime& table = tables_.at(id);
    if (!due(table)) continue;
    WantCopy(table, "the stream is opened anew", false);
    table.copy.reset();
    ETL_RETURN_IF_ERROR(segment_.Add(
        table, TableStop{.table = id,
                         .code = std::string(kNewStream),
                         .reason = "it will be copied once the stream has been opened anew"}));
    reopening_ = true;
    worked_ = true;
  }
  return Status::OK();
}

Status Reader::TakeAnswers(Instant now) {
  if (poll_wanted_ || now >= next_poll_) {
    poll_wanted_ = false;
    next_poll_ = now + options_.poll_interval;
    AskTables();
    catalog_->Ask(PositionsQuery{});
  }
  while (true) {
    ETL_ASSIGN_OR_RETURN(std::optional<CatalogAnswer> answer, catalog_->Poll(now));
    if (!answer) return Status::OK();
    worked_ = true;
    if (auto* tables = std::get_if<TablesAnswer>(&*answer)) {
      ETL_RETURN_IF_ERROR(OnTables(std::move(*tables)));
    } else if (auto* holders = std::get_if<LockHoldersAnswer>(&*answer)) {
      const TableId id = barrier_questions_.front();
      barrier_questions_.pop_front();
      ETL_RETURN_IF_ERROR(OnLockHolders(id, *holders));
    } else if (auto* plan = std::get_if<ChunkPlanAnswer>(&*answer)) {
      TableRuntime* table = tables_.Find(plan->table);
      if (table == nullptr || !table->copy || table->copy->stage() != TableCopy::Stage::kPlan)
        continue;
      if (plan->chunks.empty() && !table->leaves.empty()) {
        // It was dropped, or lost its partitions: folded now, the copy would be an empty table. The
        // next look tells what became of it.
        poll_wanted_ = true;
        continue;
      }
      ETL_RETURN_IF_ERROR(segment_.Add(
          *table,
          CopyPlan{.table = plan->table, .generation = table->generation, .chunks = plan->chunks}));
      table->plan_open = true;
      table->copy->OnPlan(std::move(plan->chunks));
      table->copy->asked = false;
    } else if (auto* xids = std::get_if<RunningXidsAnswer>(&*answer)) {
      TableRuntime* table = tables_.Find(xid_questions_.front());
      xid_questions_.pop_front();
      if (table == nullptr || !table->copy || table->copy->stage() != TableCopy::Stage::kSettleWait)
        continue;
      table->copy->asked = false;
      if (xids->running.empty()) {
        table->copy->OnXidsVisible();
      } else {
        table->copy->ask_again = now + std::chrono::milliseconds(100);
      }
    } else if (auto* positions = std::get_if<PositionsAnswer>(&*answer)) {
      server_end_ = std::max(server_end_, positions->insert);
      retained_bytes_ = positions->retained_bytes;
      // WAL moves and none of it reaches us: some servers send no keepalive while they skip it.
      if (positions->insert > received_ && heartbeat_seen_insert_ > received_ &&
          now - last_wal_moved_ > options_.heartbeat_after && emit_allowed_ && at_hand_empty_) {
        catalog_->Ask(EmitMessageQuery{.transactional = false});
        last_wal_moved_ = now;
      }
      heartbeat_seen_insert_ = positions->insert;
    } else if (auto* emitted = std::get_if<EmitMessageAnswer>(&*answer)) {
      emit_allowed_ = emitted->allowed;
    }
  }
}

Status Reader::OnTables(TablesAnswer answer) {
  --tables_asked_;
  if (target_looks_ > 0 && --target_looks_ > 0) poll_wanted_ = true;
  for (TableId id : tables_.ids()) {
    TableRuntime& table = tables_.at(id);
    if (table.looks_needed == 0) continue;
    if (--table.looks_needed > 0) {
      poll_wanted_ = true;
      continue;
    }
    if (table.awaited_types) table.writers_gone_at = answer.wal_insert;
    if (table.wants_new_stream) {
      if (!table.new_stream_at.valid()) table.new_stream_at = answer.wal_insert;
      continue;
    }
    for (const TableFacts& facts : answer.tables) {
      if (facts.id != id || table.schema == nullptr) continue;
      const Result<SchemaStep> step = StepForCatalog(facts, *table.schema, table.rules);
      table.looked = step.ok() && step->kind == SchemaStep::Kind::kSame && !table.awaited_types &&
                     ReasonToCopy(table, facts).empty();
    }
  }
  // The oldest is kept: on a busy server the newest may always be ahead of the stream.
  if (found_.size() > 1) found_.pop_back();
  found_.push_back(std::move(answer));
  if (stalled_for_tables_ && tables_asked_ == 0) stall_answered_ = true;
  return Status::OK();
}

// Acted on only once the stream has passed the WAL position at which the catalog was read: then no
// older row can follow.
Status Reader::ActOnTables() {
  if (found_.empty() || received_ < found_.front().wal_insert || holding_ || frozen_ ||
      stalled_for_tables_) {
    return Status::OK();
  }
  const TablesAnswer answer = std::move(found_.front());
  found_.pop_front();
  worked_ = true;
  ETL_RETURN_IF_ERROR(CheckOperations(options_.publication, answer.all_operations));
  std::set<uint32_t> present;
  for (const TableFacts& facts : answer.tables) present.insert(facts.id.oid);
  for (TableId id : tables_.ids()) {
    TableRuntime& table = tables_.at(id);
    if (present.contains(id.oid) || table.phase == TablePhase::kStopped) continue;
    ETL_RETURN_IF_ERROR(
        StopTable(id, table, std::string(kLeft),
                  "it left the publication or was dropped; the copy stays as it is"));
  }
  const std::vector<std::string> resyncs = std::exchange(resyncs_, {});
  for (const std::string& resync : resyncs) {
    for (TableId id : tables_.ids()) {
      TableRuntime& table = tables_.at(id);
      if (table.schema == nullptr || !present.contains(id.oid)) continue;
      if (!resync.empty() && resync != table.schema->QualifiedName()) continue;
      // What readers see goes on being changed only while it is known to be right (C10).
      bool keep_target = table.phase == TablePhase::kLive && !table.copy_wanted;
      for (const TableFacts& facts : answer.tables) {
        if (facts.id != id || !keep_target) continue;
        const Result<SchemaStep> step = StepForCatalog(facts, *table.schema, table.rules);
        keep_target = step.ok() && step->kind == SchemaStep::Kind::kSame &&
                      ReasonToCopy(table, facts).empty();
      }
      WantCopy(table, "asked for", keep_target);
    }
  }
  for (const TableFacts& facts : answer.tables) ETL_RETURN_IF_ERROR(ActOnTable(facts));
  first_look_done_ = true;
  look_open_ = !segment_.empty() || piece_open_;
  // By now their copies have begun, or the tables were set aside.
  resyncs_begun_ += resyncs.size();
  if (segment_.empty() && !piece_open_) HandOverResyncs();
  return Status::OK();
}

Status Reader::ActOnTable(const TableFacts& facts) {
  if (!options_.selected(facts.schema, facts.name)) {
    TableRuntime* table = tables_.Find(facts.id);
    if (table == nullptr || table->phase == TablePhase::kStopped) return Status::OK();
    return StopTable(facts.id, *table, std::string(kNotSelected),
                     "it is no longer selected by `tables`; the copy stays as it is");
  }
  TableRuntime* table = tables_.Find(facts.id);
  if (table == nullptr) return BeginTable(facts);
  table->leaves = facts.leaves;
  table->row_filter = facts.row_filter;
  if (table->phase == TablePhase::kStopped) {
    // Set aside in an earlier run: tried anew once a run, in case the cause has been mended. One
    // that had left the publication is back (rule 7.8).
    const bool is_back = table->stop_code == kLeft || table->stop_code == kNotSelected;
    if (!first_look_done_ || table->copy_wanted || is_back) return BeginTable(facts);
    return Status::OK();
  }
  if (table->copy_wanted || table->phase == TablePhase::kWaiting) return BeginTable(facts);
  if (!TakeRules(*table, facts.QualifiedName()))
    return StopWithoutRules(facts.id, *table, facts.QualifiedName());
  std::string reason = ReasonToCopy(*table, facts);
  if (reason.empty() && WritersGone(*table)) {
    table->writers_gone = !TypesChanged(*table->awaited_types, facts.types);
    reason = "no transaction uses the former form of its types any more";
  }
  if (!reason.empty()) {
    // Rows changed without messages: the target is wrong by now, so it stays frozen until the swap
    // (C10).
    WantCopy(*table, reason, false);
    return BeginTable(facts);
  }
  Result<SchemaStep> step = StepForCatalog(facts, *table->schema, table->rules);
  if (!step.ok()) {
    const ErrorParts parts = PartsOf(step.status());
    if (KindOf(step.status()) != ErrorKind::kSchema) return step.status();
    return StopTable(facts.id, *table, parts.code, parts.what);
  }
  ETL_RETURN_IF_ERROR(ApplyStep(facts.id, *table, *step));
  if (table->copy_wanted) return BeginTable(facts);
  if (table->copy && table->copy->stage() == TableCopy::Stage::kPlan && !table->looked &&
      table->looks_needed == 0) {
    table->looks_needed = tables_asked_ + 1;
    poll_wanted_ = true;
  }
  return KeepFingerprint(facts.id, *table, facts);
}

// `columns` names tables. One that had rules and is renamed must not lose them, or what was to stay
// at the source would be copied: false if nothing is said of the new name. The stored schema has
// the old name until then, and so it is known after a restart, too.
bool Reader::TakeRules(TableRuntime& table, const std::string& name) {
  if (const auto found = options_.rules.find(name); found != options_.rules.end()) {
    table.rules = found->second;
    return true;
  }
  if (table.schema != nullptr && table.schema->QualifiedName() != name && HasRules(*table.schema))
    return false;
  table.rules = {};
  return true;
}

Status Reader::StopWithoutRules(TableId id, TableRuntime& table, const std::string& name) {
  return StopTable(id, table, std::string(kWithoutRules),
                   "it is called " + name + " now, of which `columns` says nothing; do: name " +
                       name + " under `columns` (with {} to copy it whole)");
}

std::string Reader::ReasonToCopy(const TableRuntime& table, const TableFacts& facts) const {
  if (!table.fingerprint_known) return {};
  Fingerprint now = FingerprintOf(facts);
  // Known already: the copy waits for the writers of before.
  if (table.awaited_types) now.types = table.fingerprint.types;
  return ReasonToCopyAgain(table.fingerprint, now);
}

bool Reader::WritersGone(const TableRuntime& table) const {
  return table.awaited_types && table.copy && table.writers_gone_at.valid() &&
         received_ >= table.writers_gone_at;
}

// Whether an error says that a composite type has changed, which the next look explains. A value
// that fits no copy is a fault of ours and ends the run.
bool Reader::UnfitValue(TableRuntime& table, const Status& status) {
  constexpr int kMost = 5;
  return PartsOf(status).code == kOtherAttributes && ++table.unfit <= kMost;
}

void Reader::WantCopy(TableRuntime& table, std::string reason, bool keep_target) {
  LogInfo("table will be copied again", {{"pipeline", options_.pipeline},
                                         {"table", table.schema->QualifiedName()},
                                         {"reason", reason}});
  table.copy_wanted = true;
  table.keep_target = keep_target;
  if (!keep_target) table.ignore_rows = true;
  table.note = std::move(reason);
  poll_wanted_ = true;
}

// The next look begins its copy, unless what stopped it still holds. A table that is not selected
// or not published is not set aside for a fault.
void Reader::RetryStoppedTables(const std::string& name) {
  for (TableId id : tables_.ids()) {
    TableRuntime& table = tables_.at(id);
    if (table.phase != TablePhase::kStopped || table.schema == nullptr) continue;
    if (table.stop_code == kLeft || table.stop_code == kNotSelected) continue;
    if (!name.empty() && name != table.schema->QualifiedName()) continue;
    table.phase = TablePhase::kWaiting;
    table.keep_target = false;
    table.stop_code.clear();
    table.note.clear();
    poll_wanted_ = true;
  }
}

// From here on its rows are not followed, until the next copy begins. The destination is told in
// the same transaction: after a crash the gap must be known.
Status Reader::AbandonTable(TableId id, TableRuntime& table, std::string reason) {
  WantCopy(table, reason, false);
  table.copy.reset();
  return segment_.Add(table, TableStop{.table = id,
                                       .code = std::string(kCopiedAgain),
                                       .reason = "it will be copied again: " + std::move(reason)});
}

// Starts the (next) copy of a table at the boundary reached (rule C1).
Status Reader::BeginTable(const TableFacts& facts) {
  TableRuntime& table = tables_.Add(facts.id);
  const bool writers_gone = std::exchange(table.writers_gone, false);
  if (!TakeRules(table, facts.QualifiedName()))
    return StopWithoutRules(facts.id, table, facts.QualifiedName());
  table.leaves = facts.leaves;
  table.row_filter = facts.row_filter;
  const uint32_t version = table.schema == nullptr ? 1 : table.schema->version + 1;
  Result<TableSchemaPtr> schema = MakeTableSchema(facts, table.rules, version);
  if (!schema.ok()) {
    if (KindOf(schema.status()) != ErrorKind::kSchema) return schema.status();
    const ErrorParts parts = PartsOf(schema.status());
    return StopTable(facts.id, table, parts.code, facts.QualifiedName() + ": " + parts.what);
  }
  const auto stop = [&](std::string code, std::string reason) {
    if (table.schema == nullptr) table.schema = *schema;
    return StopTable(facts.id, table, std::move(code), std::move(reason));
  };
  if (options_.snapshot && !facts.can_select) {
    return stop("ETL-S018", "the role may not read it; do: GRANT SELECT ON " +
                                facts.QualifiedName() + " TO the role");
  }
  if (options_.snapshot && facts.row_security) {
    return stop("ETL-S017",
                "row-level security would hide rows from the copy; give the role BYPASSRLS");
  }
  if (!facts.row_filter.empty() && facts.replica_identity != 'f') {
    for (const Column& column : (*schema)->columns) {
      if (CanBeOutOfLine(*column.type)) {
        return stop("ETL-S111",
                    "it has a row filter and column \"" + column.name +
                        "\" may be stored out of line; do: ALTER TABLE … REPLICA IDENTITY FULL");
      }
    }
  }
  if (options_.mode == Mode::kAppend) {
    for (const Column& column : (*schema)->columns) {
      if (std::find(std::begin(kReservedInAppend), std::end(kReservedInAppend), column.name) !=
          std::end(kReservedInAppend)) {
        return stop("ETL-S116", "its column \"" + column.name + "\" has a reserved name");
      }
    }
  }
  ETL_RETURN_IF_ERROR(CheckTransport(**schema));
  table.wants_new_stream = NewlyPublished(table, facts);
  table.new_stream_at = Lsn{};
  table.schema = *schema;
  ++table.generation;
  table.phase = TablePhase::kCopying;
  table.ignore_rows = false;
  table.copy_wanted = false;
  table.note.clear();
  table.stop_code.clear();
  table.copy.emplace(table.generation, received_);
  const bool types_changed =
      (table.fingerprint_known && TypesChanged(table.fingerprint.types, facts.types)) ||
      (table.awaited_types && TypesChanged(*table.awaited_types, facts.types));
  table.awaited_types.reset();
  table.writers_gone_at = Lsn{};
  // Without a snapshot no row of before is read.
  if (types_changed && !writers_gone && options_.snapshot) table.awaited_types = facts.types;
  table.looked = false;
  table.looks_needed = 0;
  if (const auto last = relations_.find(facts.id); last != relations_.end()) {
    ETL_RETURN_IF_ERROR(DecodeMessage(last->second.message, /*in_stream_block=*/false, &message_));
    table.relation_fits = RelationMatches(message_, *table.schema);
  }
  ETL_RETURN_IF_ERROR(segment_.Add(table, CopyStart{.schema = table.schema,
                                                    .generation = table.generation,
                                                    .from = received_,
                                                    .keep_target = table.keep_target}));
  table.batcher.reset();  // Only now: rows of the open segment were still in it.
  table.nulled = 0;
  table.keep_target = false;
  table.fingerprint_known = false;
  ETL_RETURN_IF_ERROR(KeepFingerprint(facts.id, table, facts));
  LogInfo("copy begins", {{"pipeline", options_.pipeline},
                          {"table", facts.QualifiedName()},
                          {"generation", table.generation},
                          {"from", FormatLsn(received_)}});
  if (!options_.snapshot) {
    table.copy->OnLockHolders({});
    ETL_RETURN_IF_ERROR(segment_.Add(
        table, CopyPlan{.table = facts.id, .generation = table.generation, .chunks = {}}));
    table.plan_open = true;
    table.copy->OnPlan({});
  }
  return Status::OK();
}

Status Reader::StopTable(TableId id, TableRuntime& table, std::string code, std::string reason) {
  LogError("table set aside", {{"pipeline", options_.pipeline},
                               {"table", table.schema == nullptr ? std::to_string(id.oid)
                                                                 : table.schema->QualifiedName()},
                               {"code", code},
                               {"reason", reason}});
  table.phase = TablePhase::kStopped;
  table.ignore_rows = true;
  table.copy.reset();
  table.copy_wanted = false;
  table.note = reason;
  table.stop_code = code;
  if (table.generation == 0) return Status::OK();  // The destination has never heard of it.
  return segment_.Add(table,
                      TableStop{.table = id, .code = std::move(code), .reason = std::move(reason)});
}

Status Reader::KeepFingerprint(TableId id, TableRuntime& table, const TableFacts& facts) {
  Fingerprint now = FingerprintOf(facts);
  if (table.awaited_types) now.types = table.fingerprint.types;
  if (std::any_of(table.schema->columns.begin(), table.schema->columns.end(),
                  [](const Column& column) { return column.hashed; })) {
    now.hash_key = options_.hash_key_digest;
  }
  if (table.fingerprint_known && table.fingerprint == now) return Status::OK();
  table.fingerprint = now;
  table.fingerprint_known = true;
  return segment_.Add(table, TableFingerprint{.table = id, .text = FingerprintToText(now)});
}

}  // namespace etl
