// The reader's part that drives the copies of tables (copy and fold; correctness, section 3).
#include <utility>

#include "base/log.h"
#include "pipeline/reader.h"

namespace etl {

Status Reader::DriveCopies(Instant now) {
  for (TableId id : tables_.ids()) {
    TableRuntime& table = tables_.at(id);
    if (table.copy) ETL_RETURN_IF_ERROR(DriveCopy(id, table, now));
  }
  ETL_RETURN_IF_ERROR(AssignChunks());
  // Rows of chunks go between whole destination transactions of the stream.
  while (!waiting_rows_.empty() && CanDeliver() && !piece_open_) {
    // The plan goes first: chunks stored without it would be copied again after a crash (C8).
    if (const TableRuntime* next = tables_.Find(waiting_rows_.front().table);
        next != nullptr && next->plan_open) {
      break;
    }
    CopierEvent event = std::move(waiting_rows_.front());
    waiting_rows_.pop_front();
    TableRuntime* table = tables_.Find(event.table);
    if (table == nullptr || !table->copy || table->copy->generation() != event.generation) continue;
    if (event.settling) {
      if (event.rows != nullptr) table->copy->OnSettledRows(std::move(event.rows), event.bytes);
      if (event.kind == CopierEvent::Kind::kDone) {
        table->copy->OnSettled(event.high);
        table->nulled += event.nulled;
      }
      continue;
    }
    ChunkRows rows;
    rows.table = event.table;
    rows.generation = event.generation;
    rows.chunk = event.chunk;
    rows.attempt =
        event.chunk +
        1;  // Unique among the chunks of a generation; unfinished attempts leave nothing behind.
    rows.schema = table->schema;
    rows.rows = std::move(event.rows);
    rows.bytes = event.bytes;
    if (event.kind == CopierEvent::Kind::kDone) {
      rows.done = ChunkRows::Done{.high = event.high, .rows = event.row_count};
      table->copy->OnChunkRead(event.chunk, event.high, event.row_count);
      table->nulled += event.nulled;
      if (table->schema->identity != Identity::kKey) table->copy->set_ignore_below(event.high);
    }
    Deliver(std::move(rows), event.bytes);
  }
  return Status::OK();
}

Status Reader::DriveCopy(TableId id, TableRuntime& table, Instant now) {
  if (table.copy_wanted)
    return Status::OK();  // Given up already; the next one begins with the next look.
  TableCopy& copy = *table.copy;
  switch (copy.stage()) {
    case TableCopy::Stage::kBarrier:
      if (!copy.asked && now >= copy.ask_again) {
        copy.asked = true;
        barrier_questions_.push_back(id);
        catalog_->Ask(LockHoldersQuery{.tables = {id}});
        worked_ = true;
      }
      return Status::OK();
    case TableCopy::Stage::kPlan:
      if (!table.looked) return Status::OK();
      if (table.schema->identity != Identity::kKey) {
        // Copied whole under the snapshot of a slot.
        Chunk whole;
        whole.leaf = id;
        whole.leaf_schema = table.schema->schema;
        whole.leaf_name = table.schema->name;
        for (const LeafFacts& leaf : table.leaves) {
          if (leaf.id == id) whole.file_node = leaf.file_node;
          whole.rows_estimate += static_cast<int64_t>(leaf.rows_estimate);
        }
        ETL_RETURN_IF_ERROR(segment_.Add(
            table, CopyPlan{.table = id, .generation = copy.generation(), .chunks = {whole}}));
        table.plan_open = true;
        copy.OnPlan({whole});
        worked_ = true;
      } else if (!copy.asked) {
        copy.asked = true;
        catalog_->Ask(ChunkPlanQuery{.table = id, .chunk_rows = options_.chunk_rows});
        worked_ = true;
      }
      return Status::OK();
    case TableCopy::Stage::kSettleWait:
      if (!copy.asked && now >= copy.ask_again) {
        copy.asked = true;
        xid_questions_.push_back(id);
        catalog_->Ask(RunningXidsQuery{.xids = copy.missing().xids});
        worked_ = true;
      }
      return Status::OK();
    case TableCopy::Stage::kSettleRead: {
      ReadTask task;
      task.table = id;
      task.generation = copy.generation();
      task.spec.schema = table.schema;
      task.spec.chunk.leaf = id;
      task.spec.chunk.leaf_schema = table.schema->schema;
      task.spec.chunk.leaf_name = table.schema->name;
      task.spec.row_filter = table.row_filter;
      task.spec.keys = copy.KeysToRead();
      if (GiveTask(std::move(task))) copy.OnSettleReading(table.schema);
      return Status::OK();
    }
    case TableCopy::Stage::kSettleCatchUp:
      // They go out only now: the destination keeps what it was given over a restart, after which
      // nobody would know up to where the fold has to wait (S3).
      if (copy.SettledCount(durable_) && CanDeliver() && !piece_open_) {
        std::optional<SettledRows> rows = copy.NextSettled(table.schema);
        if (rows.has_value()) Deliver(std::move(*rows), 0);
        worked_ = true;
      }
      return Status::OK();
    case TableCopy::Stage::kFold:
      // The plan must be on its way before the fold of a table without chunks.
      if (copy.ReadyToFold(durable_) && CanDeliver() && !piece_open_ && !table.plan_open) {
        Deliver(
            FoldRequest{
                .table = id, .generation = copy.generation(), .ignore_below = copy.ignore_below()},
            0);
        copy.OnFoldAsked();
      }
      return Status::OK();
    case TableCopy::Stage::kRead:
    case TableCopy::Stage::kFolding: return Status::OK();
  }
  return Status::OK();
}

Status Reader::OnLockHolders(TableId id, const LockHoldersAnswer& answer) {
  TableRuntime* table = tables_.Find(id);
  if (table == nullptr || !table->copy || table->copy->stage() != TableCopy::Stage::kBarrier)
    return Status::OK();
  std::vector<std::string> holders;
  for (const LockHolder& holder : answer.holders) holders.push_back(holder.id);
  table->copy->asked = false;
  table->note.clear();
  if (!answer.holders.empty())
    table->note = "waits for " + answer.holders.front().description + " to end its transaction";
  if (!table->copy->OnLockHolders(holders)) {
    table->copy->ask_again = clock_.Now() + std::chrono::milliseconds(100);
    return Status::OK();
  }
  // Transactions below the start are visible only now, so only a look from now on shows the schema
  // that the chunks must be read with. One that is asked for already was asked for later than this
  // question, and is answered after it.
  table->looked = false;
  table->looks_needed = 1;
  if (tables_asked_ == 0) poll_wanted_ = true;
  return Status::OK();
}

bool Reader::GiveTask(ReadTask task) {
  for (ReaderChannels::CopierEnd& copier : channels_.copiers) {
    if (copier.busy || copier.tasks->Full()) continue;
    copier.busy = copier.tasks->TryPush(task);
    worked_ = true;
    return copier.busy;
  }
  return false;
}

// Chunks of the tables in their order; several chunks of one table and several tables at a time, as
// copiers are free.
Status Reader::AssignChunks() {
  for (TableId id : tables_.ids()) {
    TableRuntime& table = tables_.at(id);
    if (!table.copy) continue;
    while (true) {
      bool free = false;
      for (const ReaderChannels::CopierEnd& copier : channels_.copiers) free = free || !copier.busy;
      if (!free) return Status::OK();
      std::optional<Chunk> chunk = table.copy->NextChunk();
      if (!chunk) break;
      ReadTask task;
      task.table = id;
      task.generation = table.copy->generation();
      task.spec.schema = table.schema;
      task.spec.chunk = *chunk;
      task.spec.row_filter = table.row_filter;
      task.spec.under_slot = table.schema->identity != Identity::kKey;
      if (!GiveTask(std::move(task))) {
        table.copy->OnChunkAbandoned(chunk->number);
        return Status::OK();
      }
    }
  }
  return Status::OK();
}

Status Reader::TakeCopierEvents() {
  constexpr size_t kWaitingRows = 2;
  for (ReaderChannels::CopierEnd& copier : channels_.copiers) {
    while (waiting_rows_.size() < kWaitingRows) {
      std::optional<CopierEvent> event = copier.events->TryPop();
      if (!event) break;
      worked_ = true;
      if (event->kind != CopierEvent::Kind::kRows) copier.busy = false;
      ETL_RETURN_IF_ERROR(OnCopierEvent(std::move(*event)));
    }
  }
  return Status::OK();
}

Status Reader::OnCopierEvent(CopierEvent event) {
  TableRuntime* table = tables_.Find(event.table);
  const bool current =
      table != nullptr && table->copy && table->copy->generation() == event.generation;
  switch (event.kind) {
    case CopierEvent::Kind::kRows:
    case CopierEvent::Kind::kDone:
      if (current) waiting_rows_.push_back(std::move(event));
      return Status::OK();
    case CopierEvent::Kind::kMoved:
      if (current)
        return AbandonTable(event.table, *table, "its storage was replaced while it was copied");
      return Status::OK();
    case CopierEvent::Kind::kFailed:
      if (!current) return KindOf(event.error) == ErrorKind::kSchema ? Status::OK() : event.error;
      if (UnfitValue(*table, event.error))
        return AbandonTable(event.table, *table, "a composite type changed while it was copied");
      if (KindOf(event.error) == ErrorKind::kSchema) {
        const ErrorParts parts = PartsOf(event.error);
        return StopTable(event.table, *table, parts.code, parts.what);
      }
      return event.error;
  }
  return Status::OK();
}

Status Reader::OnFold(FoldResult result) {
  TableRuntime* table = tables_.Find(result.table);
  if (table == nullptr || !table->copy || table->copy->generation() != result.generation)
    return Status::OK();
  if (!result.folded) {
    LogInfo("values that were never sent are read again",
            {{"pipeline", options_.pipeline}, {"table", table->schema->QualifiedName()}});
    table->copy->OnMissing(std::move(result));
    return Status::OK();
  }
  table->phase = TablePhase::kLive;
  table->rows = result.rows;
  table->unfit = 0;
  table->copy.reset();
  LogInfo("table is live", {{"pipeline", options_.pipeline},
                            {"table", table->schema->QualifiedName()},
                            {"rows", result.rows}});
  return Status::OK();
}

}  // namespace etl
