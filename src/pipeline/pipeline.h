#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "destination/destination.h"
#include "pipeline/copier.h"
#include "pipeline/messages.h"
#include "pipeline/reader.h"
#include "pipeline/writer.h"
#include "postgres/connection.h"
#include "runtime/byte_budget.h"
#include "runtime/latest.h"
#include "runtime/stage_thread.h"
#include "telemetry/histogram.h"

namespace etl {

class SourceSetup;

/// Everything a pipeline needs to be started, any number of times. Built from the configuration by
/// control.
struct PipelineSpec {
  std::string name;
  SourceOptions source;
  std::function<Result<Secret>()>
      read_password;  ///< read again at each start: it may have been rotated
  std::string publication;
  std::string slot;
  bool tables_given = false;  ///< `tables:` is written: the publication may be created for them
  ReaderOptions reader;
  int parallelism = 2;    ///< copiers
  bool streaming = true;  ///< receive transactions while they are open
  Duration connect_timeout = std::chrono::seconds(30);
  Duration shutdown = std::chrono::seconds(5);
  /// Makes a fresh destination object; called once for each life.
  std::function<Result<std::unique_ptr<Destination>>()> make_destination;
};

/// What becomes of the slot and the stored position at the start.
enum class History : uint8_t {
  kKeep,           ///< go on; fail where that is not possible (lost slot, other cluster)
  kReplaceIfLost,  ///< begin anew, with a fresh slot and every table, where that is not possible
  kReplace,        ///< begin anew: the server cannot decode what comes next
};

/// One life of a pipeline: from what the destination remembers to the first failure or Stop. Owned
/// and called by one control thread; owns the stages, their channels and their threads.
class Pipeline {
 public:
  /// Prepares both ends and starts the threads. After an error nothing is left running.
  /// `history` other than kKeep is what `pipeline resync` asks for. `spec` outlives the pipeline.
  static Result<std::unique_ptr<Pipeline>> Start(const PipelineSpec& spec, History history,
                                                 ByteBudget* budget, const Clock& clock);
  /// Stop must have been called.
  ~Pipeline();

  /// A stage has failed: call Stop.
  bool ended() const { return outcome_.Load() != nullptr; }
  const ReaderBoard& board() const { return board_; }
  ReaderBoard& board() { return board_; }
  std::shared_ptr<const PipelineStatus> status() const { return board_.status.Load(); }
  const LatencyHistogram& stored_latency() const { return stored_latency_; }
  Destination* destination() { return destination_.get(); }
  /// Server's position to which sync should bring the destination, read at the start.
  const SourceOptions& source() const { return spec_.source; }

  /// False: it was not taken.
  bool Command(ReaderCommand command);
  /// Ends source first: drains until the deadline, acknowledges, closes, joins. Returns the failure
  /// that ended the life, or OK. Call once.
  Status Stop(Instant deadline);

 private:
  Pipeline(const PipelineSpec& spec, ByteBudget* budget, const Clock& clock);
  Status PrepareEnds(History history);
  Status PrepareHistory(SourceSetup& setup, History wanted, Instant deadline);
  Status AbandonCopiesBeyond(Lsn switched_at);
  Status BeginHistory(SourceSetup& setup, Instant deadline);
  Status ChooseTransport(SourceSetup& setup, Instant deadline);
  Status MakeStages();
  void StartThreads();
  void OnEnd(const Status& status);
  bool WaitUntilDrained(Instant deadline);

  const PipelineSpec& spec_;
  ByteBudget* const budget_;
  const Clock& clock_;
  Checkpoint checkpoint_;
  bool binary_ = false;
  bool loses_published_changes_ = false;
  Duration status_interval_ = std::chrono::seconds(10);

  std::unique_ptr<Destination> destination_;
  std::unique_ptr<WalStream> stream_;
  std::unique_ptr<SystemCatalog> catalog_;
  std::vector<std::unique_ptr<ChunkReader>> chunk_readers_;

  DeliveryChannel deliveries_{8};
  ReplyChannel replies_{64};
  CommandChannel commands_{16};
  std::vector<std::unique_ptr<TaskChannel>> tasks_;
  std::vector<std::unique_ptr<CopierChannel>> copier_events_;

  ReaderBoard board_;
  LatencyHistogram stored_latency_;
  std::unique_ptr<Reader> reader_;
  std::unique_ptr<Writer> writer_;
  std::vector<std::unique_ptr<Copier>> copiers_;
  std::unique_ptr<StageThread> reader_thread_;
  std::unique_ptr<StageThread> writer_thread_;
  std::vector<std::unique_ptr<StageThread>> copier_threads_;
  Latest<Status> outcome_;
  bool stopped_ = false;
};

}  // namespace etl
