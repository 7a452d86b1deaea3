#pragma once

#include <memory>
#include <optional>

#include "batch/table_batcher.h"
#include "pipeline/messages.h"
#include "postgres/chunk_reader.h"
#include "runtime/stage.h"

namespace etl {

/// A copier stage: reads one chunk after the other on its own connection, straight into Arrow
/// builders, and hands the rows to the reader, which alone decides their order. Back-pressure: its
/// channel is small, and a full one stops the reading.
class Copier : public Stage {
 public:
  /// `piece_bytes`: rows are handed on in pieces of about this size. Everything outlives the
  /// copier.
  Copier(ChunkReader* reader, const BatchOptions* options, int64_t piece_bytes, TaskChannel* tasks,
         CopierChannel* events);
  Result<Wake> Step(Instant now) override;
  void AddPollFds(std::vector<pollfd>& fds) override;

 private:
  Status Begin(ReadTask task);
  Status Read(Instant now, bool* worked);
  Status HandOn(CopierEvent::Kind kind, Lsn high);
  bool Push();

  ChunkReader* const reader_;
  const BatchOptions* const options_;
  const int64_t piece_bytes_;
  TaskChannel* const tasks_;
  CopierChannel* const events_;
  std::optional<ReadTask> task_;
  std::unique_ptr<CopyBatcher> batcher_;
  std::optional<CopierEvent> unsent_;
  int64_t rows_ = 0;
};

}  // namespace etl
