#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "apply/schema_step.h"
#include "batch/open_transactions.h"
#include "batch/table_batcher.h"
#include "decode/pgoutput.h"
#include "destination/destination.h"
#include "model/checkpoint.h"
#include "model/status.h"
#include "pipeline/messages.h"
#include "pipeline/segment_builder.h"
#include "pipeline/table_book.h"
#include "postgres/system_catalog.h"
#include "postgres/wal_stream.h"
#include "runtime/byte_budget.h"
#include "runtime/event_fd.h"
#include "runtime/latest.h"
#include "runtime/stage.h"

namespace etl {

struct ReaderOptions {
  std::string pipeline;
  std::string publication;
  bool binary = false;  ///< the stream's transport (rule 8.1)
  Mode mode = Mode::kMirror;
  bool snapshot = true;  ///< false: append only, changes from now on
  int64_t max_rows = 100000;
  int64_t max_bytes = 16 << 20;
  Duration max_delay = std::chrono::seconds(1);
  int64_t chunk_rows = 100000;
  Duration status_interval = std::chrono::seconds(10);  ///< at most wal_sender_timeout / 3
  Duration poll_interval = std::chrono::seconds(10);    ///< system catalog
  /// The server has LosesPublishedChanges.
  bool loses_published_changes = false;
  Duration heartbeat_after = std::chrono::seconds(60);
  /// Whether a table is the pipeline's (`tables:`).
  std::function<bool(const std::string& schema, const std::string& name)> selected;
  /// `columns:`, by qualified name.
  std::map<std::string, ColumnRules> rules;
  std::string hash_key_digest;  ///< HashKeyDigest of batch.hash_key; empty: there is none
  /// How many values of each table had become NULL before (`TableStatus::nulled`).
  std::map<TableId, int64_t> nulled;
  BatchOptions batch;
  OpenTransactionsOptions open_transactions;
};

/// What the reader talks to; all of it outlives the reader.
struct ReaderChannels {
  DeliveryChannel* deliveries = nullptr;
  ReplyChannel* replies = nullptr;
  CommandChannel* commands = nullptr;
  struct CopierEnd {
    TaskChannel* tasks = nullptr;
    CopierChannel* events = nullptr;
    bool busy = false;
  };
  std::vector<CopierEnd> copiers;
};

/// What others may see of the reader at any time, without a lock.
struct ReaderBoard {
  Latest<PipelineStatus> status;
  std::atomic<uint64_t> durable{0};  ///< stored position
  std::atomic<bool> reached{
      false};  ///< readers see the target of SetTarget; every table is live or stopped
  std::atomic<uint64_t> held_at{0};  ///< HoldAt is in force and readers see what is below: its LSN
  std::atomic<bool> frozen{false};
  std::atomic<bool> drained{false};
  std::atomic<int64_t> changes{0};
  /// How many of the Resync commands, in their order, the destination keeps by now: the copies that
  /// they ask for have begun there.
  std::atomic<uint64_t> resyncs_stored{0};
  EventFd changed;  ///< notified when one of the flags above changes
};

/// The reader stage: takes the WAL stream, turns it into segments, decides the order of everything
/// a destination gets, drives the copies of tables, and acknowledges what is stored. One thread;
/// waits nowhere but in its thread's poll.
///
/// Progress is kept in three boundaries (rule 1.2): received (seen on the stream) >= handed (in a
/// delivery) >= durable (stored at the destination, the only one ever reported as flushed).
class Reader : public Stage {
 public:
  Reader(ReaderOptions options, const Checkpoint& checkpoint, WalStream* stream,
         SystemCatalog* catalog, ReaderChannels channels, ByteBudget* budget, ReaderBoard* board,
         const Clock& clock);
  Result<Wake> Step(Instant now) override;
  void AddPollFds(std::vector<pollfd>& fds) override;
  /// After the last Step: ends the stream with a last acknowledgement.
  void Close(Instant deadline);

 private:
  // reader.cc: the step and what is around the stream.
  Status TakeReplies(Instant now);
  Status TakeCommands();
  Status ReadStream(Instant now);
  Status HandOver(Instant now);
  Status PushSegment(bool complete, Instant now);
  void StoreIdlePosition(Instant now);
  Lsn AwaitedPosition() const;
  Status SendStatus(Instant now);
  void Publish(Instant now);
  bool Replaced(const TableRuntime& table);
  bool SegmentFull() const;
  bool MayRead() const;
  bool CanDeliver() const;
  bool EndsBeforeChange() const;
  void Deliver(Delivery delivery, int64_t bytes);
  void HandOverResyncs();
  void NoteStoredResyncs();
  bool AllSettled() const;
  Instant NextDeadline(Instant now) const;

  // reader_stream.cc: messages of the stream.
  Status OnFrame(std::string_view bytes, Instant now);
  Status OnMessage(std::string_view payload, Instant now);
  Status OnStreamMessage(std::string_view payload);
  Status OnStreamCommit(std::string_view payload, Instant now);
  Status ReplayNext(Instant now);
  Status LetWaitingGoFirst(Instant now);
  Status BeginTransaction();
  Status EndTransaction(Lsn end, Instant now);
  Status OnRow();
  Status OnTruncate();
  Status OnRelation(std::string_view payload);
  void RememberRelation(std::string_view payload);
  Status ApplyStep(TableId id, TableRuntime& table, const SchemaStep& step);
  Status CheckTransport(const TableSchema& schema) const;
  Status BatcherFor(TableRuntime& table);

  // reader_tables.cc: `columns:` against what is stored, the system catalog, tables coming,
  // changing and going.
  Status CompareRules();
  Status TakeAnswers(Instant now);
  Status OnTables(TablesAnswer answer);
  Status ActOnTables();
  Status ActOnTable(const TableFacts& facts);
  Status BeginTable(const TableFacts& facts);
  Status StopTable(TableId id, TableRuntime& table, std::string code, std::string reason);
  Status KeepFingerprint(TableId id, TableRuntime& table, const TableFacts& facts);
  void RetryStoppedTables(const std::string& name);
  bool TakeRules(TableRuntime& table, const std::string& name);
  Status StopWithoutRules(TableId id, TableRuntime& table, const std::string& name);
  std::string ReasonToCopy(const TableRuntime& table, const TableFacts& facts) const;
  bool WritersGone(const TableRuntime& table) const;
  bool UnfitValue(TableRuntime& table, const Status& status);
  void WantCopy(TableRuntime& table, std::string reason, bool keep_target);
  Status AbandonTable(TableId id, TableRuntime& table, std::string reason);
  Status StartWantedCopies();
  void AskTables();
  bool NewlyPublished(const TableRuntime& table, const TableFacts& facts) const;
  Status ReopenStreamIfDue();

  // reader_copy.cc: copies.
  Status DriveCopies(Instant now);
  Status DriveCopy(TableId id, TableRuntime& table, Instant now);
  Status TakeCopierEvents();
  Status OnCopierEvent(CopierEvent event);
  Status AssignChunks();
  Status OnLockHolders(TableId id, const LockHoldersAnswer& answer);
  Status OnFold(FoldResult result);
  bool GiveTask(ReadTask task);

  const ReaderOptions options_;
  WalStream* const stream_;
  SystemCatalog* const catalog_;
  ReaderChannels channels_;
  ByteBudget* const budget_;
  ReaderBoard* const board_;
  const Clock& clock_;

  // Stream.
  DecodedMessage message_;
  struct SeenRelation {
    std::string message;
    uint64_t number = 0;  ///< of the frame it came in
  };
  std::unordered_map<TableId, SeenRelation> relations_;  ///< the last of each table
  uint64_t frame_number_ = 0;                            ///< counts messages of this connection

  // Transactions that come before their commit.
  OpenTransactions open_;
  std::unique_ptr<TransactionLog> replay_;  ///< committed: gone through before the stream goes on
  Lsn replay_end_;
  std::map<TableId, SeenRelation> newer_relations_;  ///< came after those of `replay_`: still hold
  uint64_t restored_number_ = 0;                     ///< of the one of these that is put back
  SegmentBuilder segment_;
  TableBook tables_;
  bool in_transaction_ = false;
  bool skip_transaction_ = false;  ///< stored already: commit LSN below the start position
  Lsn commit_lsn_;
  UnixMicros commit_time_ = 0;
  uint32_t xid_ = 0;
  uint64_t change_index_ = 0;  ///< i of rule 1.1
  uint64_t transaction_serial_ = 0;
  int64_t unlooked_bytes_ = 0;  ///< received since the sizes were looked at
  bool piece_open_ = false;     ///< a piece of an unfinished transaction was handed over
  std::string stalled_;         ///< a message that waits for the system catalog (or for Release)
  bool stalled_for_tables_ = false;
  bool stall_answered_ = false;

  // Boundaries.
  Lsn start_;
  Lsn received_;
  Lsn handed_;
  Lsn durable_;
  std::optional<DestinationUse> used_;
  Lsn applied_;     ///< what readers of the destination see
  Lsn awaited_;     ///< newest end that was handed over as awaited
  Lsn server_end_;  ///< newest walEnd or insert position seen
  Lsn reported_;
  bool reply_wanted_ = false;
  bool at_hand_empty_ = true;  ///< the last look found no further frame
  std::deque<std::pair<Lsn, UnixMicros>>
      commit_times_;  ///< end of a handed segment → its newest commit time

  // Deliveries in flight.
  uint64_t delivered_ = 0;
  uint64_t taken_ = 0;
  bool look_open_ = false;      ///< what a look at the catalog changed is in the open segment
  uint64_t look_delivery_ = 0;  ///< the delivery that had it, when it was handed over
  struct InFlight {
    bool segment = false;
    ByteLease lease;
  };
  std::deque<InFlight> in_flight_;
  int segments_in_flight_ = 0;
  ByteLease open_lease_;

  // Catalog.
  std::deque<TableId>
      barrier_questions_;  ///< tables of the LockHolders questions that are out, in order
  std::deque<TableId> xid_questions_;
  std::deque<TablesAnswer> found_;  ///< at most two; acted on once the stream has reached their W
  int tables_asked_ = 0;            ///< questions for the tables that are out
  bool poll_wanted_ = true;
  Instant next_poll_{};
  bool first_look_done_ = false;
  bool rules_compared_ = false;
  bool reopening_ = false;  ///< this life ends once everything is stored

  // Copies.
  std::deque<CopierEvent> waiting_rows_;  ///< rows that wait for room at the destination

  // Commands.
  Lsn target_;
  int target_looks_ = 0;  ///< answers still to come until one was asked for after SetTarget
  bool frozen_ = false;
  Lsn hold_at_;
  bool holding_ = false;
  bool draining_ = false;
  std::vector<std::string> resyncs_;  ///< schema.table; empty: all
  uint64_t resyncs_begun_ = 0;  ///< commands whose copies stand in the open segment, or before
  struct ResyncsOnTheirWay {
    uint64_t commands = 0;  ///< begun in this delivery, or before
    uint64_t delivery = 0;
    Lsn end;
  };
  std::deque<ResyncsOnTheirWay> resyncs_handed_;

  // Times.
  Instant next_status_{};
  Instant next_publish_{};
  Instant next_idle_store_{};
  Instant next_nudge_{};
  Instant last_wal_moved_{};
  Instant next_positions_{};
  Lsn heartbeat_seen_insert_;
  bool emit_allowed_ = true;
  int64_t retained_bytes_ = -1;
  bool worked_ = false;
};

}  // namespace etl
