#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "pipeline/copier.h"
#include "pipeline/reader.h"
#include "pipeline/writer.h"
#include "sim/model_destination.h"
#include "sim/model_postgres.h"
#include "sim/model_source.h"

namespace etl {

struct SimulationOptions {
  uint64_t seed = 1;
  Mutant mutant = Mutant::kNone;
  bool streaming = true;                 ///< most seeds send transactions while they are open
  bool loses_published_changes = false;  ///< an old server (rule C2)
  std::function<void(const std::string&)> trace;
};

struct SimulationResult {
  std::string failure;  ///< empty: passed
  uint64_t trace_hash = 0;
  uint64_t rounds = 0;
  uint64_t lives = 0;
  uint64_t commits = 0;
  uint64_t transactions = 0;
};

/// One seeded run: the real stages between a model PostgreSQL and a model destination, crashes and
/// failures included, and the comparison at the end.
class Simulation {
 public:
  explicit Simulation(const SimulationOptions& options);
  SimulationResult Run();

 private:
  /// What a crash takes: the stages, their channels and connections.
  struct Life;

  Status Begin();
  void Crash(const std::string& why);
  bool Round();
  bool StepActor(size_t actor);
  void Wait();
  void Control();
  void CheckCommit(const DestinationState& state);
  void CheckTable(const DestinationTable& table, Lsn position);
  std::string CompareAtEnd() const;
  bool Finished();
  void Fail(std::string text);
  void Say(const std::string& text);
  void Hash(uint64_t value) { hash_ = (hash_ ^ value) * 0x100000001b3u; }

  const SimulationOptions options_;
  Random random_;
  Random stream_random_;
  SimClock clock_;
  ModelPostgres postgres_;
  DestinationStore store_;
  SimSource source_;
  bool disturb_ = true;
  std::unique_ptr<Life> life_;
  std::vector<Instant> by_;
  Instant next_action_{};
  uint64_t actions_left_ = 0;
  uint64_t crash_one_in_ = 0;
  Instant calm_since_ = kNever;
  bool target_set_ = false;
  bool use_target_ = false;
  Lsn last_reported_;
  Lsn last_received_;
  Instant last_status_{};
  Lsn hold_;
  std::string failure_;
  std::string last_end_;
  uint64_t hash_ = 0xcbf29ce484222325u;
  SimulationResult result_;
};

/// Prints the lines of a run's trace to stderr.
SimulationResult RunSeed(uint64_t seed, bool trace, Mutant mutant = Mutant::kNone,
                         bool streaming = true, bool loses_published_changes = false);

}  // namespace etl
