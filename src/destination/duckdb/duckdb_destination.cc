#include "destination/duckdb/duckdb_destination.h"

#include <algorithm>

#include <arrow/api.h>
#include <fmt/format.h>

#include "base/check.h"
#include "base/failpoint.h"

namespace etl {
namespace {

/// A pause as long as the write before it keeps a steady stream of small commits from taking every
/// core; more than this is not worth the delay, and big transactions are worth it anyway.
constexpr Duration kLongestPause = std::chrono::milliseconds(100);
constexpr int64_t kSmallTransaction = 20000;
constexpr Duration kLockPause = std::chrono::milliseconds(100);
/// Complete chunks wait this long for more, while nothing else comes.
constexpr Duration kChunksWait = std::chrono::milliseconds(20);

}  // namespace

DuckDbDestination::DuckDbDestination(std::shared_ptr<DuckDbFile> file, const Clock& clock)
    : file_(std::move(file)), clock_(clock) {}

DuckDbDestination::~DuckDbDestination() { CloseFile(); }

Status DuckDbDestination::OpenFile() {
  if (connection_ != nullptr) return Status::OK();
  auto lease = DuckDbFile::Acquire(file_);
  if (!lease.ok()) return lease.status();
  lease_ = std::move(lease).ValueUnsafe();
  ETL_ASSIGN_OR_RETURN(connection_, DuckDbConnection::Open(lease_->database()));
  const std::lock_guard<std::mutex> lock(interrupt_mutex_);
  interruptible_ = connection_->handle();
  return Status::OK();
}

void DuckDbDestination::CloseFile() {
  {
    const std::lock_guard<std::mutex> lock(interrupt_mutex_);
    interruptible_ = nullptr;
  }
  groups_.clear();
  idle_sides_.clear();
  connection_.reset();
  lease_.reset();
  deleted_.clear();
  rebuilt_ = false;
}

Result<Checkpoint> DuckDbDestination::Start(const StartOptions& options) {
  ETL_CHECK(!started_);
  options_ = options;
  books_ = DuckDbBookkeeping(options.pipeline, options.mode);
  auto start = [&]() -> Status {
    ETL_RETURN_IF_ERROR(OpenFile());
    ETL_RETURN_IF_ERROR(file_->PrepareBookkeeping(*connection_));
    ETL_ASSIGN_OR_RETURN(progress_, books_.LoadProgress(*connection_));
    ETL_ASSIGN_OR_RETURN(tables_, books_.LoadTables(*connection_));
    ETL_RETURN_IF_ERROR(books_.CheckMode(*connection_, tables_));
    return CountRows();
  };
  if (Status status = NameFullPlace(start(), file_->options()); !status.ok()) {
    CloseFile();
    // With `release` the file is shared by agreement: the other program will close it.
    if (file_->options().release.has_value() && KindOf(status) == ErrorKind::kBusy)
      return MakeError(ErrorKind::kTransient, PartsOf(status));
    return status;
  }
  started_ = true;
  last_work_ = clock_.Now();
  Checkpoint checkpoint = progress_;
  for (const auto& [oid, table] : tables_) checkpoint.tables.push_back(table.checkpoint);
  return checkpoint;
}

Status DuckDbDestination::BeginHistory(const NewHistory& history) {
  ETL_CHECK(started_ && !failed_ && pieces_ == 0);
  ETL_RETURN_IF_ERROR(Fail(OpenFile()));
  groups_.clear();
  Checkpoint next = progress_;
  next.identity = history.identity;
  next.timeline = history.timeline;
  next.position = history.position;
  next.lc_monetary = history.lc_monetary;
  const Status stored = InTransaction(
      [&]() -> Status {
        for (auto& [oid, table] : tables_) {
          Remember(table.checkpoint.schema->id);
          ETL_RETURN_IF_ERROR(DropCopy(table));
          table.checkpoint.phase = TablePhase::kWaiting;
          table.checkpoint.stop_code.clear();
          table.checkpoint.stop_reason.clear();
          ETL_RETURN_IF_ERROR(books_.SaveTable(*connection_, table));
        }
        return books_.SaveHistory(*connection_, next);
      },
      "duckdb.history.before_commit", "duckdb.history.after_commit");
  ETL_RETURN_IF_ERROR(Fail(stored));
  progress_ = std::move(next);
  return Status::OK();
}

Status DuckDbDestination::AbandonCopies(const std::vector<TableId>& tables) {
  ETL_CHECK(started_ && !failed_ && pieces_ == 0);
  ETL_RETURN_IF_ERROR(Fail(OpenFile()));
  for (const TableId id : tables) DropOpenChunks(id);
  return Fail(InTransaction(
      [&]() -> Status {
        for (const TableId id : tables) {
          TableState* table = Find(id);
          if (table == nullptr) continue;
          Remember(id);
          ETL_RETURN_IF_ERROR(DropCopy(*table));
          TableCheckpoint& checkpoint = table->checkpoint;
          checkpoint.phase = TablePhase::kWaiting;
          checkpoint.keep_target = false;
          checkpoint.planned = false;
          checkpoint.rows = 0;
          checkpoint.chunks.clear();
          checkpoint.done.clear();
          ETL_RETURN_IF_ERROR(books_.SaveTable(*connection_, *table));
        }
        return Status::OK();
      },
      "duckdb.abandon.before_commit", "duckdb.abandon.after_commit"));
}

Status DuckDbDestination::SetTimeline(uint32_t timeline) {
  ETL_CHECK(started_ && !failed_ && pieces_ == 0);
  ETL_RETURN_IF_ERROR(Fail(OpenFile()));
  progress_.timeline = timeline;
  const auto store = [&]() -> Status {
    // Rows read again by key may show the end of the old timeline; the next fold asks once more.
    for (const auto& [oid, table] : tables_) {
      if (table.checkpoint.phase != TablePhase::kCopying) continue;
      ETL_RETURN_IF_ERROR(
          connection_->Execute("DROP TABLE IF EXISTS " + books_.Settled(*connection_, table).Sql())
              .status());
    }
    return books_.SaveHistory(*connection_, progress_);
  };
  return Fail(
      InTransaction(store, "duckdb.timeline.before_commit", "duckdb.timeline.after_commit"));
}

bool DuckDbDestination::Ready(Instant now) const {
  return started_ && !failed_ && !delivery_.has_value() && now >= ready_at_;
}

Status DuckDbDestination::Accept(Delivery delivery) {
  ETL_CHECK(started_ && !failed_ && !delivery_.has_value());
  delivery_ = std::move(delivery);
  return Status::OK();
}

bool DuckDbDestination::ReleaseDue(Instant now) const {
  return file_->options().release.has_value() && connection_ != nullptr && pieces_ == 0 &&
         groups_.empty() && !delivery_.has_value() && now >= last_work_ + *file_->options().release;
}

// When complete chunks have waited long enough for company.
Instant DuckDbDestination::ChunksDue() const {
  Instant due = kNever;
  for (const ChunkGroup& group : groups_) {
    if (!group.coming) due = std::min<Instant>(due, group.complete_since + kChunksWait);
  }
  return due;
}

Result<Progress> DuckDbDestination::Advance(Instant now) {
  ETL_CHECK(started_ && !failed_);
  Progress progress;
  progress.durable = progress_.position;
  if (delivery_.has_value()) {
    if (Status status = OpenFile(); !status.ok()) {
      if (!file_->options().release.has_value() || KindOf(status) != ErrorKind::kBusy)
        return Fail(std::move(status));
      progress.by = now + kLockPause;
      return progress;
    }
    const Instant begin = clock_.Now();
    Delivery delivery = std::move(*delivery_);
    delivery_.reset();
    ETL_RETURN_IF_ERROR(Fail(Execute(delivery, &progress)));
    // Nor do folds: each is a transaction of its own.
    if (pieces_ == 0 && !folds_.empty()) rows_in_transaction_ = kSmallTransaction;
    while (pieces_ == 0 && !folds_.empty()) {
      const FoldRequest request = folds_.front();
      folds_.pop_front();
      ETL_RETURN_IF_ERROR(Fail(ApplyFold(request, &progress)));
    }
    const Instant end = clock_.Now();
    if (pieces_ == 0) {
      if (rows_in_transaction_ < kSmallTransaction)
        ready_at_ = end + std::min<Duration>(end - begin, kLongestPause);
      rows_in_transaction_ = 0;
    }
    last_work_ = end;
    progress.worked = true;
    progress.durable = progress_.position;
  } else if (pieces_ == 0 && ChunksDue() <= now) {
    ETL_RETURN_IF_ERROR(Fail(StoreCompleteGroups(&progress)));
    progress.worked = true;
  } else if (ReleaseDue(now)) {
    CloseFile();
  }
  progress.by = std::min(progress.by, ChunksDue());
  if (ready_at_ > now) progress.by = std::min(progress.by, ready_at_);
  if (file_->options().release.has_value() && connection_ != nullptr)
    progress.by = std::min(progress.by, last_work_ + *file_->options().release);
  if (!progress.worked && progress.by <= now) progress.by = now + std::chrono::milliseconds(10);
  return progress;
}

Status DuckDbDestination::Execute(Delivery& delivery, Progress* progress) {
  if (auto* segment = std::get_if<Segment>(&delivery)) {
    rows_in_transaction_ += segment->rows;
    return ApplySegment(*segment, progress);
  }
  if (auto* rows = std::get_if<ChunkRows>(&delivery)) {
    // Chunks need no pause between them: nothing is gained by making them bigger.
    if (pieces_ == 0) rows_in_transaction_ = kSmallTransaction;
    return ApplyChunk(*rows, progress);
  }
  if (auto* settled = std::get_if<SettledRows>(&delivery)) return ApplySettled(*settled);
  folds_.push_back(std::get<FoldRequest>(delivery));
  return Status::OK();
}

Status DuckDbDestination::Read(const ReadOptions& options) {
  ETL_CHECK(started_);
  const TableState* table = Find(options.schema->id);
  if (table == nullptr || !table->has_target) {
    return MakeError(ErrorKind::kSchema, "ETL-D140",
                     "table " + options.schema->QualifiedName() + " is not at the destination yet",
                     "wait until its copy is done");
  }
  ETL_ASSIGN_OR_RETURN(auto snapshot, DuckDbSnapshot::Open(file_));
  std::string columns;
  for (const Column& column : options.schema->columns)
    columns += (columns.empty() ? "" : ", ") + QuoteIdentifier(column.name);
  DuckDbConnection& connection = snapshot->connection();
  return connection.Query("SELECT " + columns + " FROM " + books_.Target(connection, *table).Sql(),
                          options.schema->ArrowSchema(), options.on_batch);
}

Status DuckDbDestination::Forget() {
  ETL_CHECK(started_ && !delivery_.has_value());
  ETL_RETURN_IF_ERROR(OpenFile());
  return InTransaction(
      [this]() -> Status {
        for (auto& [oid, table] : tables_) ETL_RETURN_IF_ERROR(DropCopy(table));
        return books_.DropPipeline(*connection_);
      },
      "duckdb.forget.before_commit", "duckdb.forget.after_commit");
}

void DuckDbDestination::Interrupt() {
  const std::lock_guard<std::mutex> lock(interrupt_mutex_);
  if (interruptible_ != nullptr) duckdb_interrupt(interruptible_);
}

Status DuckDbDestination::Shutdown(Instant deadline) {
  Status status;
  while (started_ && !failed_ && delivery_.has_value() && clock_.Now() < deadline) {
    const auto progress = Advance(clock_.Now());
    if (!progress.ok()) status = progress.status();
    // A file that another program holds is not waited for at the end.
    if (!progress.ok() || !progress->worked) break;
  }
  delivery_.reset();
  if (started_ && !failed_ && status.ok() && connection_ != nullptr) {
    Progress stored;
    status = StoreCompleteGroups(&stored);
  }
  CloseFile();
  pieces_ = 0;
  started_ = false;
  return status;
}

Status DuckDbDestination::Fail(Status status) {
  if (status.ok()) return status;
  failed_ = true;
  Undo();
  CloseFile();
  return NameFullPlace(status, file_->options());
}

Status DuckDbDestination::InTransaction(const std::function<Status()>& work,
                                        const char* before_commit, const char* after_commit) {
  ETL_RETURN_IF_ERROR(connection_->Begin());
  Status status = work();
  if (!status.ok()) {
    connection_->Rollback();
    Undo();
    return status;
  }
  ETL_FAILPOINT(before_commit);
  ETL_RETURN_IF_ERROR(connection_->Commit());
  ETL_FAILPOINT(after_commit);
  undo_.clear();
  changed_.clear();
  return Status::OK();
}

void DuckDbDestination::Undo() {
  for (auto& [oid, before] : undo_) {
    if (before.has_value()) {
      tables_[oid] = std::move(*before);
    } else {
      tables_.erase(oid);
    }
  }
  undo_.clear();
  changed_.clear();
}

void DuckDbDestination::Remember(TableId table) {
  if (undo_.contains(table.oid)) return;
  const TableState* state = Find(table);
  undo_.emplace(table.oid, state == nullptr ? std::nullopt : std::optional<TableState>(*state));
}

DuckDbDestination::TableState* DuckDbDestination::Find(TableId table) {
  const auto found = tables_.find(table.oid);
  return found == tables_.end() ? nullptr : &found->second;
}

DuckDbDestination::TableState& DuckDbDestination::Make(TableId table) {
  Remember(table);
  TableState& state = tables_[table.oid];
  if (state.checkpoint.schema == nullptr) {
    auto schema = std::make_shared<TableSchema>();
    schema->id = table;
    state.checkpoint.schema = std::move(schema);
  }
  return state;
}

int64_t DuckDbDestination::HeldBy(const std::map<uint32_t, int64_t>& deleted) const {
  int64_t held = 0;
  for (const auto& [oid, rows] : deleted) {
    const auto table = tables_.find(oid);
    // Of a table that is copied again while readers see the old one, the size is not known here.
    const bool live = table != tables_.end() && table->second.checkpoint.phase == TablePhase::kLive;
    const int64_t vectors = live ? table->second.checkpoint.rows / kVectorRows + 1 : rows;
    held += std::min(rows, vectors) * kBytesPerTouchedVector;
  }
  return held;
}

// When deleted rows hold enough; or, `before` a segment, when they hold what would make one of its
// tables be built anew.
Status DuckDbDestination::CheckpointIfNeeded(const Segment* before) {
  if (deleted_.empty() && !rebuilt_) return Status::OK();
  std::map<uint32_t, int64_t> deleted = deleted_;
  int64_t append_bytes = 0;
  if (before != nullptr) {
    for (const SegmentPart& part : before->parts) {
      const auto* batch = std::get_if<ChangeBatch>(&part);
      if (batch == nullptr) continue;
      deleted[batch->schema->id.oid] += batch->size();
      append_bytes = std::max(append_bytes, AppendBytes(*batch->schema, lease_->block_bytes()));
    }
  }
  const int64_t most = file_->options().most_held_by_deletes(append_bytes);
  const bool needed = rebuilt_ || HeldBy(deleted) >= most;
  if (!needed || !groups_.empty()) return Status::OK();
  // Another pipeline's open transaction is reason enough to try again later.
  if (connection_->Execute("CHECKPOINT").ok()) {
    deleted_.clear();
    rebuilt_ = false;
  }
  return Status::OK();
}

Status DuckDbDestination::CountRows() {
  for (auto& [oid, table] : tables_) {
    if (options_.mode != Mode::kMirror || table.checkpoint.phase != TablePhase::kLive) continue;
    ETL_ASSIGN_OR_RETURN(
        table.checkpoint.rows,
        connection_->Number("SELECT count(*) FROM " + books_.Target(*connection_, table).Sql()));
  }
  return Status::OK();
}

}  // namespace etl
