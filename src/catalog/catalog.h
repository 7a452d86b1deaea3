#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "catalog/runner_lock.h"
#include "catalog/sqlite.h"
#include "model/status.h"

namespace etl {

enum class RequestKind : uint8_t {
  kStart,
  kPause,
  kResync,
  kDrop,
  kVerify,  ///< the outcome is the report, or the error, as JSON
  kSync,    ///< also starts it; `table` is the LSN that is to be reached
};
std::string_view RequestKindName(RequestKind kind);

/// Something a command asked of the runner of a pipeline. Open until the runner acknowledges it,
/// across crashes.
struct Request {
  int64_t id = 0;
  std::string pipeline;
  RequestKind kind = RequestKind::kStart;
  std::string table;  ///< schema.table; empty: the whole pipeline
  UnixMicros at = 0;
};

/// What became of a request.
struct RequestState {
  bool done = false;
  /// Empty: as asked; else an error line. Of one that is not done: what it waits for.
  std::string outcome;
};

struct Event {
  UnixMicros at = 0;
  std::string pipeline;
  std::string kind;  ///< start, stop, error, request, schema …
  std::string text;
};

/// Where commands and runners meet: what was asked for, what was last seen, events. Safe from any
/// thread; several processes use one file. Small and slow on purpose: nothing on the data path
/// calls it.
class Catalog {
 public:
  /// Opens the file, makes it (mode 0600) or migrates it. A newer version's file is refused
  /// (kConfig, ETL-C050), a foreign one too (ETL-C052); a damaged one is renamed to
  /// `<path>.damaged` and replaced.
  static Result<std::unique_ptr<Catalog>> Open(const std::string& path, const Clock& clock);

  /// Leaves a request and gives its id. kStart and kPause of a whole pipeline and kSync also change
  /// what Paused answers, at once.
  Result<int64_t> PutRequest(std::string_view pipeline, RequestKind kind,
                             std::string_view table = {});
  /// The open requests of a pipeline, oldest first. They stay open until acknowledged.
  Result<std::vector<Request>> TakeRequests(std::string_view pipeline);
  Status Acknowledge(int64_t id, std::string_view outcome = {});
  /// What an open request waits for, for the command that waits for it.
  Status Tell(int64_t id, std::string_view line);
  /// For a command that waits for its request.
  Result<RequestState> StateOf(int64_t id);
  /// Whether the pipeline was paused by request and not started since.
  Result<bool> Paused(std::string_view pipeline);
  /// Whether it is paused by a request that came after `request`.
  Result<bool> PausedSince(std::string_view pipeline, int64_t request);

  Status PutStatus(const PipelineStatus& status);
  /// What the runner last wrote; none if it never did.
  Result<std::optional<PipelineStatus>> GetStatus(std::string_view pipeline);
  /// Removes wishes, status and requests of a dropped pipeline; its events stay.
  Status Forget(std::string_view pipeline);

  Status AddEvent(std::string_view pipeline, std::string_view kind, std::string_view text);
  /// The newest events, newest first.
  Result<std::vector<Event>> Events(std::string_view pipeline, int limit);

  /// The right to run a pipeline, for as long as the lock lives; kBusy if another process has it.
  Result<std::unique_ptr<RunnerLock>> TryLockPipeline(const std::string& pipeline);
  /// The pid of the pipeline's runner, if there is one.
  Result<std::optional<int64_t>> RunnerOf(const std::string& pipeline);

  const std::string& path() const { return path_; }

 private:
  Catalog(std::string path, const Clock& clock) : path_(std::move(path)), clock_(clock) {}
  Status OpenFile();
  Status Prepare();
  Status SetAside(const Status& why);
  std::string LockPath(const std::string& pipeline) const {
    return path_ + "." + pipeline + ".lock";
  }

  const std::string path_;
  const Clock& clock_;
  std::mutex mutex_;  // guards file_
  SqliteFile file_;
};

}  // namespace etl
