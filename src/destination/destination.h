#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>
#include <poll.h>

#include "base/clock.h"
#include "base/status.h"
#include "model/checkpoint.h"
#include "model/segment.h"
#include "model/status.h"

namespace etl {

enum class Mode : uint8_t { kMirror, kAppend };

/// What a pipeline tells its destination when it starts.
struct StartOptions {
  std::string pipeline;
  Mode mode = Mode::kMirror;
  /// Once set, Start ends soon, with an error; outlives it. May be null.
  const std::atomic<bool>* stop = nullptr;
};

/// Written once, before the first segment: which history the positions belong to. `position` is the
/// slot's confirmed one.
struct NewHistory {
  SourceIdentity identity;
  uint32_t timeline = 0;
  Lsn position;
  std::string lc_monetary;
};

/// What Advance found done since the last call.
struct Progress {
  bool worked = false;
  Lsn durable;  ///< boundary stored at the destination; cumulative
  /// Boundary up to which the tables of all live copies hold everything that readers are to see;
  /// not cumulative. Not valid: what is durable is what readers see.
  Lsn applied;
  std::optional<DestinationUse> used;  ///< since Start, where it counts that
  struct Merged {
    TableId table;
    int64_t rows = 0;
  };
  std::vector<Merged> merged;  ///< changes that merges took, where `used` counts them
  struct ChunkDone {
    TableId table;
    uint32_t generation = 1;
    uint32_t chunk = 0;
  };
  std::vector<ChunkDone> chunks;  ///< stored as done
  std::vector<FoldResult> folds;  ///< answers to FoldRequests
  std::vector<TableStop>
      stopped;  ///< tables the destination itself could not go on with, and set aside (stored)
  Instant by = kNever;  ///< call again by then even without new deliveries
};

/// One finding of a check.
struct ProbeFinding {
  enum class Severity : uint8_t { kOk, kWarn, kFail } severity = Severity::kOk;
  std::string id;  ///< D20 …
  std::string what;
  std::string why;
  std::string remedy;
  std::vector<std::string> sql = {};  ///< the remedy as statements, if it is SQL
};

struct ReadOptions {
  TableSchemaPtr schema;
  /// Called with batches of the schema's columns until it returns an error.
  std::function<Status(const std::shared_ptr<arrow::RecordBatch>&)> on_batch;
};

/// The destination contract (architecture, section 6): takes deliveries in order from one producer,
/// stores data and position together, and tells what is durable. Owned and called by the writer
/// thread only, one destination object a pipeline.
///
/// It never sees a row object, a socket of PostgreSQL or another destination. Everything may be
/// replayed after a failure: what counts is what Start reports.
class Destination {
 public:
  virtual ~Destination() = default;

  /// Connects, validates, and reports what is stored for this pipeline.
  virtual Result<Checkpoint> Start(const StartOptions& options) = 0;
  /// Stores the identity and first position of a pipeline that has none, or (after a resync was
  /// asked for) replaces them: every table then needs a new copy.
  virtual Status BeginHistory(const NewHistory& history) = 0;
  /// Takes the copies of these tables back, with what is recorded of them: they wait for the next.
  /// Called before the first segment. A destination that cannot asks for a resync of everything.
  virtual Status AbandonCopies(const std::vector<TableId>& tables) {
    if (tables.empty()) return Status::OK();
    return MakeError(ErrorKind::kLost, "ETL-S205",
                     "the source has begun a new timeline, and parts of a table were copied from "
                     "the end of the old one",
                     "etl-stream pipeline resync PIPELINE");
  }
  /// Stores a changed timeline, and forgets rows that were read again by key under the old one.
  virtual Status SetTimeline(uint32_t timeline) = 0;

  /// Whether Accept may be called now. While it may not, commits gather at the reader and batches
  /// grow by themselves.
  virtual bool Ready(Instant now) const = 0;
  /// Takes ownership, in order. Call only while Ready. Errors of earlier work come from Advance.
  virtual Status Accept(Delivery delivery) = 0;
  /// Does I/O for what was accepted, and reports what has become durable.
  virtual Result<Progress> Advance(Instant now) = 0;
  virtual void AddPollFds(std::vector<pollfd>&) {}

  /// The stored rows of a table at the stored position, for verify. Callable between Advance calls.
  virtual Status Read(const ReadOptions& options) = 0;

  /// Removes everything the engine keeps about this pipeline, tables under copy included; leaves
  /// the tables that readers see.
  virtual Status Forget() = 0;

  /// Any thread, at any time: makes a call that is blocked in I/O return soon, with an error. What
  /// was not committed is lost, as after a crash. Shutdown follows.
  virtual void Interrupt() {}

  /// Drains what was accepted until `deadline`, abandons the rest, closes what was opened. The last
  /// call.
  virtual Status Shutdown(Instant deadline) = 0;
};

}  // namespace etl
