#include "sim/model_destination.h"

#include <algorithm>
#include <utility>

#include <arrow/array.h>
#include <arrow/array/util.h>
#include <arrow/builder.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <fmt/format.h>

#include "base/check.h"
#include "sim/cell_text.h"

namespace etl {
namespace {

Row RowOf(const TableSchema& schema, const arrow::RecordBatch& batch, int64_t row) {
  Row values;
  for (size_t c = 0; c < schema.columns.size(); ++c)
    values[schema.columns[c].attnum] = CellText(*batch.column(static_cast<int>(c)), row);
  return values;
}

Key KeyOfRow(const TableSchema& schema, const Row& row) {
  Key key;
  for (int index : schema.key)
    key.push_back(row.at(schema.columns[static_cast<size_t>(index)].attnum));
  return key;
}

std::string Describe(const Key& key) {
  std::string text;
  for (const Value& value : key) text += (text.empty() ? "" : ",") + value.value_or("NULL");
  return "(" + text + ")";
}

std::vector<PendingChange> ChangesOf(const ChangeBatch& batch) {
  std::vector<PendingChange> changes;
  size_t run = 0;
  for (int64_t row = 0; row < batch.size(); ++row) {
    while (batch.transactions[run].end_row <= row) ++run;
    PendingChange change;
    change.op = batch.ops[static_cast<size_t>(row)];
    change.commit = batch.transactions[run].commit;
    change.xid = batch.transactions[run].xid;
    change.row = RowOf(*batch.schema, *batch.rows, row);
    change.key = KeyOfRow(*batch.schema, change.row);
    for (size_t c = 0; c < batch.schema->columns.size(); ++c) {
      if (batch.Unsent(row, static_cast<int>(c)))
        change.unsent.insert(batch.schema->columns[c].attnum);
    }
    changes.push_back(std::move(change));
  }
  return changes;
}

std::shared_ptr<arrow::RecordBatch> KeyBatch(const TableSchema& schema,
                                             const std::vector<Key>& keys) {
  arrow::FieldVector fields;
  arrow::ArrayVector columns;
  for (size_t k = 0; k < schema.key.size(); ++k) {
    const Column& column = schema.columns[static_cast<size_t>(schema.key[k])];
    fields.push_back(ArrowFieldOf(column.name, *column.type));
    std::shared_ptr<arrow::Array> array;
    if (column.type->kind == TypeKind::kInt4) {
      arrow::Int32Builder builder;
      for (const Key& key : keys) ETL_CHECK(builder.Append(std::stoi(*key[k])).ok());
      array = *builder.Finish();
    } else if (column.type->kind == TypeKind::kInt8) {
      arrow::Int64Builder builder;
      for (const Key& key : keys) ETL_CHECK(builder.Append(std::stoll(*key[k])).ok());
      array = *builder.Finish();
    } else {
      arrow::StringBuilder builder;
      for (const Key& key : keys) ETL_CHECK(builder.Append(*key[k]).ok());
      array = *builder.Finish();
    }
    columns.push_back(std::move(array));
  }
  return arrow::RecordBatch::Make(arrow::schema(fields), static_cast<int64_t>(keys.size()),
                                  columns);
}

// Rows of an older schema in the columns of a newer one, by attnum (rule 7.2).
void MapRows(const SchemaChange& change, std::vector<Row>& rows) {
  for (Row& row : rows) {
    Row mapped;
    for (const Column& column : change.to->columns) {
      const auto found = row.find(column.attnum);
      if (found != row.end()) {
        mapped[column.attnum] = found->second;
      } else if (const auto fill = change.fill.find(column.attnum); fill != change.fill.end()) {
        mapped[column.attnum] = CellText(*fill->second, 0);
      } else {
        mapped[column.attnum] = std::nullopt;
      }
    }
    row = std::move(mapped);
  }
}

}  // namespace

std::string DescribeRow(const Row& row) {
  std::string text;
  for (const auto& [attnum, value] : row)
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", attnum, value.value_or("NULL"));
  return text;
}

Result<Checkpoint> ModelDestination::Start(const StartOptions&) {
  working_ = store_->durable;
  Checkpoint checkpoint = working_.checkpoint;
  for (const auto& [oid, table] : working_.tables) checkpoint.tables.push_back(table.checkpoint);
  early_ = checkpoint.position;
  return checkpoint;
}

Status ModelDestination::BeginHistory(const NewHistory& history) {
  working_.checkpoint.identity = history.identity;
  working_.checkpoint.timeline = history.timeline;
  working_.checkpoint.position = history.position;
  working_.checkpoint.lc_monetary = history.lc_monetary;
  Commit();
  return Status::OK();
}

Status ModelDestination::SetTimeline(uint32_t timeline) {
  working_.checkpoint.timeline = timeline;
  Commit();
  return Status::OK();
}

bool ModelDestination::Ready(Instant now) const {
  if (refuses_until_ != kNever && now < refuses_until_) return false;
  return queue_.size() < 2;
}

Status ModelDestination::Accept(Delivery delivery) {
  ETL_CHECK(queue_.size() < 2);
  if (const auto* segment = std::get_if<Segment>(&delivery);
      segment != nullptr && segment->complete)
    early_ = segment->end;
  queue_.push_back(std::move(delivery));
  return Status::OK();
}

void ModelDestination::Commit() {
  ++store_->commits;
  store_->durable = working_;
  if (store_->on_commit) store_->on_commit(store_->durable);
}

void ModelDestination::Violation(std::string text) {
  if (store_->trace) store_->trace("VIOLATION " + text);
  store_->violations.push_back(std::move(text));
}

Result<Progress> ModelDestination::Advance(Instant now) {
  Progress progress;
  const Instant was_refusing = refuses_until_;
  if (refuses_until_ != kNever && now >= refuses_until_) refuses_until_ = kNever;
  progress.worked = was_refusing != refuses_until_;
  if (!queue_.empty() && now >= busy_until_) {
    const Delivery delivery = std::move(queue_.front());
    queue_.pop_front();
    progress.worked = true;
    if (const auto* segment = std::get_if<Segment>(&delivery)) {
      ETL_RETURN_IF_ERROR(ApplySegment(*segment));
      if (!piece_open_) progress.stopped = std::exchange(stopped_, {});
    } else if (const auto* chunk = std::get_if<ChunkRows>(&delivery)) {
      ETL_RETURN_IF_ERROR(ApplyChunk(*chunk, &progress));
    } else if (const auto* settled = std::get_if<SettledRows>(&delivery)) {
      ApplySettled(*settled);
    } else {
      Fold(std::get<FoldRequest>(delivery), &progress);
    }
    if (*disturb_ && random_->OneIn(4)) {
      busy_until_ = now + std::chrono::milliseconds(random_->Below(random_->OneIn(10) ? 5000 : 50));
    }
    if (*disturb_ && random_->OneIn(10))
      refuses_until_ = now + std::chrono::milliseconds(1 + random_->Below(500));
  }
  progress.durable =
      mutant_ == Mutant::kDurableTooEarly ? early_ : store_->durable.checkpoint.position;
  progress.by = queue_.empty() ? refuses_until_ : std::max(busy_until_, now + Duration(1));
  return progress;
}

DestinationTable* ModelDestination::Find(TableId id) {
  const auto found = working_.tables.find(id.oid);
  return found == working_.tables.end() ? nullptr : &found->second;
}

Status ModelDestination::ApplySegment(const Segment& segment) {
  for (const SegmentPart& part : segment.parts) {
    ETL_RETURN_IF_ERROR(std::visit([&](const auto& p) { return ApplyPart(p); }, part));
  }
  piece_open_ = !segment.complete;
  if (!segment.complete) return Status::OK();
  if (segment.end < working_.checkpoint.position)
    Violation(fmt::format("the position goes back from {} to {}",
                          FormatLsn(working_.checkpoint.position), FormatLsn(segment.end)));
  working_.checkpoint.position = segment.end;
  Commit();
  return Status::OK();
}

Status ModelDestination::ApplyPart(const ChangeBatch& batch) {
  DestinationTable* table = Find(batch.schema->id);
  if (table == nullptr) {
    Violation("changes of a table that was never started");
    return Status::OK();
  }
  if (batch.schema->version != table->checkpoint.schema->version) {
    Violation(fmt::format("{}: rows of version {} while the table has {}",
                          batch.schema->QualifiedName(), batch.schema->version,
                          table->checkpoint.schema->version));
    return Status::OK();
  }
  std::vector<PendingChange> changes = ChangesOf(batch);
  for (const PendingChange& change : changes) {
    if (change.commit < store_->durable.checkpoint.position)
      Violation(fmt::format("{}: a change of {} comes again after {} was stored",
                            batch.schema->QualifiedName(), FormatLsn(change.commit),
                            FormatLsn(store_->durable.checkpoint.position)));
  }
  switch (table->checkpoint.phase) {
    case TablePhase::kLive: ApplyLive(*table, changes); break;
    case TablePhase::kCopying:
      if (table->checkpoint.keep_target) ApplyLive(*table, changes);
      if (mutant_ != Mutant::kForgetPending)
        std::move(changes.begin(), changes.end(), std::back_inserter(table->pending));
      break;
    default:
      if (table->checkpoint.stop_code != "ETL-D150")
        Violation("changes of a table that is set aside");
  }
  return Status::OK();
}

void ModelDestination::ApplyLive(DestinationTable& table,
                                 const std::vector<PendingChange>& changes) {
  const TableSchema& schema = *table.checkpoint.schema;
  const auto mismatch = [&](const PendingChange& change, std::string_view what) {
    if (store_->may_diverge(schema.id.oid, table.target_from, change.commit))
      return SetAside(table);
    Violation(fmt::format("strict apply: {} (oid {}): {} {} at {}: {}", schema.QualifiedName(),
                          schema.id.oid, static_cast<char>(change.op), Describe(change.key),
                          FormatLsn(change.commit), what));
  };
  Row moved;
  for (const PendingChange& change : changes) {
    const bool keyed = schema.identity == Identity::kKey;
    const auto same = [&](const Row& row) {
      return keyed ? KeyOfRow(schema, row) == change.key : row == change.row;
    };
    const auto found = std::find_if(table.target.begin(), table.target.end(), same);
    switch (change.op) {
      case Op::kInsert:
      case Op::kMove: {
        if (keyed && found != table.target.end()) return mismatch(change, "the key exists");
        Row row = change.row;
        for (int16_t attnum : change.unsent) {
          if (change.op == Op::kInsert) return mismatch(change, "an insert with unsent columns");
          row[attnum] = moved.at(attnum);
        }
        table.target.push_back(std::move(row));
        break;
      }
      case Op::kUpdate: {
        if (!keyed) return mismatch(change, "an update without a key");
        if (found == table.target.end()) return mismatch(change, "no such row");
        Row row = change.row;
        for (int16_t attnum : change.unsent) row[attnum] = found->at(attnum);
        *found = std::move(row);
        break;
      }
      case Op::kDelete:
        if (found == table.target.end()) return mismatch(change, "no such row");
        moved = *found;
        table.target.erase(found);
        break;
      case Op::kSnapshot: return mismatch(change, "a copied row in the stream");
    }
  }
}

// Rule 5.3.
void ModelDestination::SetAside(DestinationTable& table) {
  if (store_->trace) store_->trace("diverged: " + table.checkpoint.schema->QualifiedName());
  if (table.checkpoint.phase == TablePhase::kCopying) {
    table.checkpoint.keep_target = false;
    return;
  }
  const TableStop stop{.table = table.checkpoint.schema->id,
                       .code = "ETL-D150",
                       .reason = "it differs from the source"};
  (void)ApplyPart(stop);
  stopped_.push_back(stop);
}

Status ModelDestination::ApplyPart(const TruncateChange& truncate) {
  DestinationTable* table = Find(truncate.schema->id);
  if (table == nullptr) {
    Violation("truncate of a table that was never started");
    return Status::OK();
  }
  if (table->checkpoint.phase == TablePhase::kLive ||
      (table->checkpoint.phase == TablePhase::kCopying && table->checkpoint.keep_target)) {
    table->target.clear();
  }
  if (table->checkpoint.phase == TablePhase::kCopying) {
    PendingChange change;
    change.truncate = true;
    change.commit = truncate.at.commit;
    change.xid = truncate.xid;
    table->pending.push_back(std::move(change));
  }
  return Status::OK();
}

Status ModelDestination::ApplyPart(const SchemaChange& change) {
  DestinationTable* table = Find(change.to->id);
  if (table == nullptr || table->checkpoint.schema->version != change.from->version) {
    Violation("a schema change from a version that the table does not have");
    return Status::OK();
  }
  if (table->checkpoint.stop_code == "ETL-D150") return Status::OK();
  if (table->checkpoint.phase != TablePhase::kLive) {
    Violation("a schema change of a table that is not live");
    return Status::OK();
  }
  MapRows(change, table->target);
  table->checkpoint.schema = change.to;
  table->target_name = change.to->QualifiedName();
  return Status::OK();
}

Status ModelDestination::ApplyPart(const CopyStart& start) {
  DestinationTable& table = working_.tables[start.schema->id.oid];
  TableCheckpoint& checkpoint = table.checkpoint;
  if (checkpoint.schema != nullptr && start.generation <= checkpoint.generation)
    Violation("a copy begins with a generation that was used before");
  const bool maintained =
      table.has_target && (checkpoint.phase == TablePhase::kLive ||
                           (checkpoint.phase == TablePhase::kCopying && checkpoint.keep_target));
  // The reader may not know yet that the destination has set the table aside.
  if (start.keep_target && !maintained && checkpoint.phase != TablePhase::kStopped)
    Violation(fmt::format("{} (oid {}): a copy keeps a target that is not live",
                          start.schema->QualifiedName(), start.schema->id.oid));
  const std::string fingerprint = checkpoint.fingerprint;
  checkpoint = TableCheckpoint{};
  checkpoint.fingerprint = fingerprint;
  checkpoint.schema = start.schema;
  checkpoint.generation = start.generation;
  checkpoint.phase = TablePhase::kCopying;
  checkpoint.from = start.from;
  checkpoint.keep_target = start.keep_target && maintained;
  table.shadow.clear();
  table.pending.clear();
  table.settled.clear();
  std::erase_if(open_chunks_,
                [&](const auto& entry) { return entry.first.first == start.schema->id.oid; });
  return Status::OK();
}

Status ModelDestination::ApplyPart(const CopyPlan& plan) {
  DestinationTable* table = Find(plan.table);
  if (table == nullptr || table->checkpoint.generation != plan.generation) return Status::OK();
  table->checkpoint.planned = true;
  table->checkpoint.chunks = plan.chunks;
  return Status::OK();
}

Status ModelDestination::ApplyPart(const TableStop& stop) {
  DestinationTable* table = Find(stop.table);
  if (table == nullptr) return Status::OK();
  table->checkpoint.phase = TablePhase::kStopped;
  table->checkpoint.stop_code = stop.code;
  table->checkpoint.stop_reason = stop.reason;
  table->checkpoint.planned = false;
  table->checkpoint.keep_target = false;
  table->checkpoint.chunks.clear();
  table->checkpoint.done.clear();
  table->pending.clear();
  table->shadow.clear();
  table->settled.clear();
  if (store_->trace) store_->trace(fmt::format("stopped {}: {}", stop.table.oid, stop.reason));
  return Status::OK();
}

Status ModelDestination::ApplyPart(const TableFingerprint& fingerprint) {
  DestinationTable* table = Find(fingerprint.table);
  if (table != nullptr) table->checkpoint.fingerprint = fingerprint.text;
  return Status::OK();
}

Status ModelDestination::ApplyChunk(const ChunkRows& chunk, Progress* progress) {
  DestinationTable* table = Find(chunk.table);
  if (table == nullptr || table->checkpoint.phase != TablePhase::kCopying ||
      table->checkpoint.generation != chunk.generation) {
    return Status::OK();
  }
  if (piece_open_) Violation("rows of a chunk inside a destination transaction of the stream");
  const auto planned =
      std::any_of(table->checkpoint.chunks.begin(), table->checkpoint.chunks.end(),
                  [&](const Chunk& candidate) { return candidate.number == chunk.chunk; });
  if (!planned) Violation("rows of a chunk that is not in the stored plan");
  std::vector<Row>& rows = open_chunks_[{chunk.table.oid, chunk.chunk}];
  if (chunk.rows != nullptr) {
    for (int64_t row = 0; row < chunk.rows->num_rows(); ++row)
      rows.push_back(RowOf(*chunk.schema, *chunk.rows, row));
  }
  if (!chunk.done) return Status::OK();
  if (chunk.done->rows != static_cast<int64_t>(rows.size()))
    Violation(fmt::format("a chunk is done with {} rows, {} came", chunk.done->rows, rows.size()));
  std::move(rows.begin(), rows.end(), std::back_inserter(table->shadow));
  open_chunks_.erase({chunk.table.oid, chunk.chunk});
  table->checkpoint.done.push_back(
      {.number = chunk.chunk, .high = chunk.done->high, .rows = chunk.done->rows});
  table->checkpoint.rows += chunk.done->rows;
  Commit();
  progress->chunks.push_back(
      {.table = chunk.table, .generation = chunk.generation, .chunk = chunk.chunk});
  return Status::OK();
}

void ModelDestination::ApplySettled(const SettledRows& settled) {
  DestinationTable* table = Find(settled.table);
  if (table == nullptr || table->checkpoint.phase != TablePhase::kCopying ||
      table->checkpoint.generation != settled.generation) {
    return;
  }
  const TableSchema& schema = *table->checkpoint.schema;
  for (int64_t i = 0; i < settled.rows->num_rows(); ++i) {
    Row row = RowOf(schema, *settled.rows, i);
    const Key key = KeyOfRow(schema, row);
    table->settled[key] = {.read_after = settled.read_after, .row = std::move(row)};
  }
}

void ModelDestination::Fold(const FoldRequest& request, Progress* progress) {
  DestinationTable* table = Find(request.table);
  if (table == nullptr || table->checkpoint.phase != TablePhase::kCopying ||
      table->checkpoint.generation != request.generation) {
    return;
  }
  if (piece_open_) Violation("a fold inside a destination transaction of the stream");
  if (!table->checkpoint.planned ||
      table->checkpoint.done.size() != table->checkpoint.chunks.size())
    Violation("a fold before every chunk is stored");
  for (const TableCheckpoint::DoneChunk& done : table->checkpoint.done) {
    if (done.high > working_.checkpoint.position)
      Violation("a fold before the position reached the last H");
  }
  FoldResult result = table->checkpoint.schema->identity == Identity::kKey
                          ? FoldByKey(*table)
                          : FoldAsMultiset(*table, request.ignore_below);
  result.table = request.table;
  result.generation = request.generation;
  result.at = working_.checkpoint.position;
  if (result.folded) {
    table->checkpoint.phase = TablePhase::kLive;
    table->checkpoint.keep_target = false;
    table->checkpoint.planned = false;
    table->checkpoint.chunks.clear();
    table->checkpoint.done.clear();
    table->has_target = true;
    table->target_from = table->checkpoint.from;
    table->target_name = table->checkpoint.schema->QualifiedName();
    table->pending.clear();
    table->shadow.clear();
    table->settled.clear();
    result.rows = static_cast<int64_t>(table->target.size());
    for (auto& [oid, other] : working_.tables) {
      if (&other != table && other.checkpoint.phase == TablePhase::kStopped &&
          other.target_name == table->target_name) {
        other.has_target = false;
        other.target.clear();
      }
    }
    Commit();
  }
  if (store_->trace)
    store_->trace(fmt::format("fold of {}: {}", request.table.oid,
                              result.folded ? "live" : "values are missing"));
  progress->folds.push_back(std::move(result));
}

// Rules F1 to F3.
FoldResult ModelDestination::FoldByKey(DestinationTable& table) {
  const TableSchema& schema = *table.checkpoint.schema;
  struct State {
    bool broken = false;
    bool exists = true;
    Row known;  // explicit values since the last I, D or I*
    Lsn broken_at;
    uint32_t broken_by = 0;
    uint32_t last_xid = 0;
  };
  std::map<Key, State> states;
  bool truncated = false;
  State moved;
  for (const PendingChange& change : table.pending) {
    if (change.truncate) {
      states.clear();
      truncated = true;
      continue;
    }
    State& state = states[change.key];
    const auto learn = [&] {
      for (const auto& [attnum, value] : change.row) {
        if (!change.unsent.contains(attnum)) state.known[attnum] = value;
      }
    };
    switch (change.op) {
      case Op::kUpdate: learn(); break;
      case Op::kDelete:
        moved = state;
        state = State{
            .broken = true, .exists = false, .broken_at = change.commit, .broken_by = change.xid};
        break;
      default:
        state = State{
            .broken = true, .exists = true, .broken_at = change.commit, .broken_by = change.xid};
        if (change.op == Op::kMove) state.known = moved.known;
        learn();
        break;
    }
  }
  std::map<Key, Row> shadow;
  std::vector<Row> rows;
  for (const Row& row : table.shadow) {
    const Key key = KeyOfRow(schema, row);
    if (truncated && mutant_ != Mutant::kKeepShadowAfterTruncate) continue;
    if (states.contains(key)) {
      shadow[key] = row;
      continue;
    }
    for (const Row& other : rows) {
      if (KeyOfRow(schema, other) == key)
        Violation(fmt::format("{}: two copied rows with key {} that no pending change touched",
                              schema.QualifiedName(), Describe(key)));
    }
    rows.push_back(row);
  }
  FoldResult result;
  std::vector<Key> missing;
  std::set<uint32_t> xids;
  for (auto& [key, state] : states) {
    if (!state.exists) continue;
    bool complete = true;
    for (const Column& column : schema.columns) {
      if (state.known.contains(column.attnum)) continue;
      const auto copied = shadow.find(key);
      const bool trusted = !state.broken || mutant_ == Mutant::kTrustShadowOfBrokenKeys;
      if (trusted && copied != shadow.end()) {
        state.known[column.attnum] = copied->second.at(column.attnum);
        continue;
      }
      const auto settled = table.settled.find(key);
      if (settled != table.settled.end() && (state.broken_at < settled->second.read_after ||
                                             mutant_ == Mutant::kIgnoreSettledBreaks)) {
        state.known[column.attnum] = settled->second.row.at(column.attnum);
        continue;
      }
      complete = false;
    }
    if (!complete) {
      missing.push_back(key);
      if (state.broken_by != 0) xids.insert(state.broken_by);
    }
    rows.push_back(state.known);
  }
  if (!missing.empty()) {
    result.missing_keys = KeyBatch(schema, missing);
    result.xids.assign(xids.begin(), xids.end());
    return result;
  }
  table.target = std::move(rows);
  result.folded = true;
  return result;
}

FoldResult ModelDestination::FoldAsMultiset(DestinationTable& table, Lsn ignore_below) {
  std::vector<Row> rows = table.shadow;
  for (const PendingChange& change : table.pending) {
    if (change.commit < ignore_below) continue;
    if (change.truncate) {
      rows.clear();
    } else if (change.op == Op::kInsert) {
      rows.push_back(change.row);
    } else {
      const auto found = std::find(rows.begin(), rows.end(), change.row);
      if (found == rows.end() && store_->may_diverge(table.checkpoint.schema->id.oid,
                                                     table.checkpoint.from, change.commit)) {
        continue;  // Columns changed silently; the next look copies the table again.
      }
      if (found == rows.end()) {
        Violation(fmt::format("fold: {}: a pending delete at {} finds no row {}",
                              table.checkpoint.schema->QualifiedName(), FormatLsn(change.commit),
                              DescribeRow(change.row)));
      } else {
        rows.erase(found);
      }
    }
  }
  table.target = std::move(rows);
  FoldResult result;
  result.folded = true;
  return result;
}

}  // namespace etl
