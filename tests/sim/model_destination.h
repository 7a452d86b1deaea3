#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "destination/destination.h"
#include "sim/model_postgres.h"

namespace etl {

/// Rules a mutant breaks on purpose: the simulator must notice each of them.
enum class Mutant : uint8_t {
  kNone,
  kTrustShadowOfBrokenKeys,   ///< F3: takes unsent values of a broken key from the shadow
  kForgetPending,             ///< C1: changes that come while chunks are read are dropped
  kDurableTooEarly,           ///< 2.2: reports a position before it is stored
  kIgnoreSettledBreaks,       ///< S3: takes settled values of keys that were broken meanwhile
  kKeepShadowAfterTruncate,   ///< C7
  kHideSubtransactionAborts,  ///< 1.1: rows of rolled-back subtransactions stay
  kKeepForgetfulStream,       ///< C2: a stream that may have forgotten a table goes on
};

using Key = std::vector<Value>;

struct PendingChange {
  Op op = Op::kInsert;
  bool truncate = false;
  Lsn commit;
  uint32_t xid = 0;
  Key key;
  Row row;
  std::set<int16_t> unsent;
};

/// What a destination keeps of one table.
struct DestinationTable {
  TableCheckpoint checkpoint;
  bool has_target = false;
  std::vector<Row> target;
  std::vector<Row> shadow;
  std::vector<PendingChange> pending;
  struct Settled {
    Lsn read_after;
    Row row;
  };
  std::map<Key, Settled> settled;
  Lsn target_from;          ///< CopyStart::from of the copy that made the target
  std::string target_name;  ///< as readers see it
};

/// All that survives a crash of the pipeline.
struct DestinationState {
  Checkpoint checkpoint;  ///< without tables
  std::map<uint32_t, DestinationTable> tables;
};

/// What outlives the pipeline's lives: the durable state and what the test wants to know.
struct DestinationStore {
  DestinationState durable;
  uint64_t commits = 0;
  std::vector<std::string> violations;
  std::function<void(const DestinationState&)> on_commit;
  /// Whether rows of the table may differ since `from` by a change that sent no messages, made
  /// before `before`: then strict apply may find a mismatch.
  std::function<bool(uint32_t oid, Lsn from, Lsn before)> may_diverge;
  std::function<void(const std::string&)> trace;
};

/// A destination that is a map for each table. Refuses, stalls and is slow by the virtual clock;
/// applies live changes strictly (rule 5.3): a mismatch is a violation.
class ModelDestination : public Destination {
 public:
  ModelDestination(DestinationStore* store, Random* random, bool* disturb, Mutant mutant)
      : store_(store), random_(random), disturb_(disturb), mutant_(mutant) {}

  Result<Checkpoint> Start(const StartOptions& options) override;
  Status BeginHistory(const NewHistory& history) override;
  Status SetTimeline(uint32_t timeline) override;
  bool Ready(Instant now) const override;
  Status Accept(Delivery delivery) override;
  Result<Progress> Advance(Instant now) override;
  Status Read(const ReadOptions&) override { return Status::OK(); }
  Status Forget() override { return Status::OK(); }
  Status Shutdown(Instant) override { return Status::OK(); }
  Instant NextEvent() const { return queue_.empty() ? refuses_until_ : busy_until_; }

 private:
  void Commit();
  void Violation(std::string text);
  Status ApplySegment(const Segment& segment);
  Status ApplyPart(const ChangeBatch& batch);
  Status ApplyPart(const TruncateChange& truncate);
  Status ApplyPart(const SchemaChange& change);
  Status ApplyPart(const CopyStart& start);
  Status ApplyPart(const CopyPlan& plan);
  Status ApplyPart(const TableStop& stop);
  Status ApplyPart(const TableFingerprint& fingerprint);
  Status ApplyChunk(const ChunkRows& chunk, Progress* progress);
  void ApplySettled(const SettledRows& settled);
  void Fold(const FoldRequest& request, Progress* progress);
  FoldResult FoldByKey(DestinationTable& table);
  FoldResult FoldAsMultiset(DestinationTable& table, Lsn ignore_below);
  void ApplyLive(DestinationTable& table, const std::vector<PendingChange>& changes);
  void SetAside(DestinationTable& table);
  DestinationTable* Find(TableId id);

  DestinationStore* const store_;
  Random* const random_;
  bool* const disturb_;
  const Mutant mutant_;
  DestinationState working_;
  std::deque<Delivery> queue_;
  std::map<std::pair<uint32_t, uint32_t>, std::vector<Row>> open_chunks_;
  bool piece_open_ = false;
  std::vector<TableStop> stopped_;  ///< not yet stored
  Instant busy_until_{};
  mutable Instant refuses_until_ = kNever;
  Lsn early_;
};

std::string DescribeRow(const Row& row);

}  // namespace etl
