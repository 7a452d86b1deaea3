#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "pipeline/pipeline.h"
#include "runtime/backoff.h"
#include "runtime/event_fd.h"
#include "runtime/latest.h"

namespace etl {

/// What is done about an error of a kind; the only place that decides it.
enum class Policy : uint8_t {
  kRetry,  ///< a new life after a pause
  kStop,   ///< the pipeline stops until somebody starts it
};
Policy PolicyFor(ErrorKind kind);

struct RestartOptions {
  Duration max_delay = std::chrono::minutes(1);
  /// Once failures have gone on for so long without progress between them, an error that would be
  /// retried stops the pipeline (`sync`). None: for ever (`run`). Progress is what a new life need
  /// not do again: a position stored short of the target, a copy that got further than ever.
  std::optional<Duration> give_up;
};

/// What `pipeline resync` asks for.
struct ResyncWish {
  std::string table;  ///< schema.table, or empty: all tables, with a new history where the old one
                      ///< cannot be continued
  int64_t id = 0;     ///< what TakeFulfilled calls it; 0: nobody asks
  bool start = true;  ///< a pipeline that is paused or stopped is started for it
};

/// Keeps one pipeline running: starts it anew after failures that may pass, from what the
/// destination says, and stops it for those that will not. Owned by control; runs the lives of the
/// pipeline on a thread of its own.
class Supervisor {
 public:
  Supervisor(PipelineSpec spec, RestartOptions retry, ByteBudget* budget, const Clock& clock);
  /// Stop must have been called if Start was.
  ~Supervisor();

  void Start();
  /// Ends by `deadline`; then the destination is closed. Blocks.
  void Stop(Instant deadline);

  // Requests, from the control thread. They are obeyed in order, within a fraction of a second.
  void Pause();
  /// Also tries a stopped pipeline again, or the tables of a running one that were set aside: the
  /// named one (schema.table), or all.
  void Resume(std::string table = {});
  /// Stands, from one life of the pipeline to the next, until it is fulfilled.
  void Resync(ResyncWish wish);
  /// The wishes that were fulfilled since the last call: the destination keeps that their copies
  /// have begun, so that they survive the process.
  std::vector<int64_t> TakeFulfilled();
  /// The stored position that must be reached; see `reached`.
  void SetTarget(Lsn target);
  /// Something that needs the running pipeline (verify); called on the supervisor's thread, at once
  /// or when it runs again.
  void WithPipeline(std::function<void(Pipeline&)> work);

  /// Any thread. Never null.
  std::shared_ptr<const PipelineStatus> status() const { return status_.Load(); }
  bool reached() const { return reached_; }
  /// Why the pipeline is stopped; null while it is not.
  std::shared_ptr<const Status> stopped_by() const { return stopped_by_.Load(); }
  /// Notified when reached, stopped_by or the phase changes.
  EventFd& changed() { return changed_; }
  const PipelineSpec& spec() const { return spec_; }

 private:
  struct Request {
    enum class Kind : uint8_t { kPause, kResume, kResync, kTarget, kWork } kind;
    std::string table;
    ResyncWish wish;
    Lsn target;
    std::function<void(Pipeline&)> work;
  };
  void Put(Request request);
  void Run();
  /// One life; returns why it ended (OK: asked to).
  Status Live();
  void TakeRequests(Pipeline* pipeline);
  void TakeWish(ResyncWish wish);
  void Forward(Pipeline& pipeline);
  void NoteFulfilled(Pipeline& pipeline);
  /// Whether the end of a life is what a resync that was asked for repairs.
  bool RepairedByResync(const Status& outcome);
  void ForgetResyncOnceDone(const Pipeline& pipeline);
  void TakeUpNulled();
  void Publish(const Pipeline* pipeline, PipelinePhase phase, const std::string& error);
  void WaitFor(Duration time, Pipeline* pipeline);
  /// Looks at what the pipeline has come to.
  void NoteProgress(Pipeline& pipeline);
  bool CopiedFurther(const PipelineStatus& status);

  /// Not changed after construction, but for what the supervisor's thread alone looks at.
  PipelineSpec spec_;
  const RestartOptions retry_;
  ByteBudget* const budget_;
  const Clock& clock_;

  std::mutex mutex_;  // guards the next two; never held while anything else is done
  std::deque<Request> requests_;
  std::vector<int64_t> fulfilled_;
  EventFd wake_;
  EventFd changed_;
  std::atomic<bool> stop_{false};
  std::atomic<Instant> stop_deadline_{Instant{}};
  Latest<PipelineStatus> status_;
  Latest<Status> stopped_by_;
  std::atomic<bool> reached_{false};
  std::thread thread_;

  // The supervisor's thread only.
  bool paused_ = false;
  History history_ = History::kKeep;  ///< for the next life
  /// When a resync of everything was asked for; none once it is done.
  std::optional<Instant> resync_asked_;
  Lsn target_;
  std::deque<ResyncWish> wishes_;  ///< not fulfilled yet
  size_t wishes_sent_ = 0;         ///< this life: the first so many
  uint64_t wishes_done_ = 0;       ///< this life
  std::deque<std::string> retries_;
  std::deque<std::function<void(Pipeline&)>> work_;
  bool target_sent_ = false;
  Lsn last_durable_;
  std::map<std::string, int64_t> copied_;  ///< table → the most rows that a copy had read
  bool started_ = false;                   ///< this life: it came to be
  bool progress_ = false;                  ///< this life: it got somewhere
  bool was_refused_ = false;               ///< the life before ended so (kAuth)
  std::optional<Instant> failing_since_;   ///< when the first failure since the last progress began
};

}  // namespace etl
