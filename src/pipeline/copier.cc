#include "pipeline/copier.h"

#include <algorithm>
#include <utility>

namespace etl {

Copier::Copier(ChunkReader* reader, const BatchOptions* options, int64_t piece_bytes,
               TaskChannel* tasks, CopierChannel* events)
    : reader_(reader),
      options_(options),
      piece_bytes_(piece_bytes),
      tasks_(tasks),
      events_(events) {}

Result<Wake> Copier::Step(Instant now) {
  tasks_->ClearConsumer();
  events_->ClearProducer();
  Wake wake;
  if (!Push()) return wake;
  Status status;
  if (!task_) {
    std::optional<ReadTask> task = tasks_->TryPop();
    if (!task) return wake;
    wake.worked = true;
    status = Begin(std::move(*task));
  }
  if (status.ok()) status = Read(now, &wake.worked);
  if (!status.ok()) {
    reader_->Cancel();
    batcher_.reset();
    CopierEvent event;
    event.kind = CopierEvent::Kind::kFailed;
    event.table = task_->table;
    event.generation = task_->generation;
    event.chunk = task_->spec.chunk.number;
    event.settling = task_->spec.keys != nullptr;
    event.error = WithContext(status, "copy " + task_->spec.schema->QualifiedName());
    unsent_ = std::move(event);
    task_.reset();
    wake.worked = true;
    Push();
  }
  // The reader of chunks also waits without a socket (for the source to flush, rule C5).
  if (task_) wake.by = now + std::chrono::milliseconds(50);
  if (task_ && !unsent_ && !wake.worked)
    wake.by = std::min<Instant>(wake.by, reader_->LookAgainBy(now));
  return wake;
}

Status Copier::Begin(ReadTask task) {
  task_ = std::move(task);
  rows_ = 0;
  ETL_RETURN_IF_ERROR(reader_->Begin(task_->spec));
  ETL_ASSIGN_OR_RETURN(batcher_,
                       CopyBatcher::Make(task_->spec.schema, reader_->binary(), options_));
  return Status::OK();
}

Status Copier::Read(Instant now, bool* worked) {
  constexpr int kReadsPerStep = 256;
  for (int i = 0; i < kReadsPerStep && task_ && !unsent_; ++i) {
    ETL_ASSIGN_OR_RETURN(ReadEvent event, reader_->Next(now));
    switch (event.kind) {
      case ReadEvent::Kind::kNothing: return Status::OK();
      case ReadEvent::Kind::kData:
        ETL_RETURN_IF_ERROR(batcher_->Append(event.data));
        if (batcher_->bytes() >= piece_bytes_)
          ETL_RETURN_IF_ERROR(HandOn(CopierEvent::Kind::kRows, Lsn{}));
        break;
      case ReadEvent::Kind::kDone:
        ETL_RETURN_IF_ERROR(batcher_->Finish());
        ETL_RETURN_IF_ERROR(HandOn(CopierEvent::Kind::kDone, event.high));
        break;
      case ReadEvent::Kind::kMoved:
        ETL_RETURN_IF_ERROR(HandOn(CopierEvent::Kind::kMoved, event.high));
        break;
    }
    *worked = true;
  }
  return Status::OK();
}

Status Copier::HandOn(CopierEvent::Kind kind, Lsn high) {
  CopierEvent event;
  event.kind = kind;
  event.table = task_->table;
  event.generation = task_->generation;
  event.chunk = task_->spec.chunk.number;
  event.settling = task_->spec.keys != nullptr;
  event.high = high;
  if (kind != CopierEvent::Kind::kMoved && batcher_->rows() > 0) {
    rows_ += batcher_->rows();
    event.bytes = batcher_->bytes();
    ETL_ASSIGN_OR_RETURN(event.rows, batcher_->Seal());
  }
  event.row_count = rows_;
  event.nulled = batcher_->nulled();
  unsent_ = std::move(event);
  if (kind != CopierEvent::Kind::kRows) {
    task_.reset();
    batcher_.reset();
  }
  Push();
  return Status::OK();
}

bool Copier::Push() {
  if (!unsent_) return true;
  if (!events_->TryPush(*unsent_)) return false;
  unsent_.reset();
  return true;
}

void Copier::AddPollFds(std::vector<pollfd>& fds) {
  if (unsent_) {
    fds.push_back({.fd = events_->producer_fd(), .events = POLLIN, .revents = 0});
  } else if (task_) {
    reader_->AddPollFds(fds);
  } else {
    fds.push_back({.fd = tasks_->consumer_fd(), .events = POLLIN, .revents = 0});
  }
}

}  // namespace etl
