#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "destination/destination.h"
#include "destination/snowflake/alter_sql.h"
#include "destination/snowflake/channel_spread.h"
#include "destination/snowflake/link.h"
#include "destination/snowflake/merge_sql.h"
#include "destination/snowflake/progress_log.h"
#include "destination/snowflake/row_writer.h"
#include "destination/snowflake/table_channel.h"

namespace etl {

struct SnowflakeOptions {
  SnowflakeConfig config;
  std::function<Result<KeyOrigin>()> key;
  OnUnrepresentable on_unrepresentable = OnUnrepresentable::kError;
  Duration forward_every = std::chrono::seconds(1);  ///< F is written at most this often
  int64_t bytes_max = int64_t{64} << 20;             ///< compressed, not proved committed
  int64_t purge_rows = 10000;  ///< of _ETL_PROGRESS, then those that no longer count go
  /// By task: a table whose changes wait three of its periods and this long is merged by the
  /// engine.
  Duration task_grace = std::chrono::minutes(1);
  StreamingOptions streaming;
  SpreadOptions spread;
};

/// One pipeline's tables in Snowflake. Rows go to the landing tables' channels as they are
/// accepted; when all rows before a boundary are proved committed, the boundary is written to the
/// control channel, together with what changed about tables, and is durable when that row is proved
/// committed (correctness, section 6). After any error only Start, on a new object, goes on: it
/// reads the log, and each channel's committed token says which rows are there already.
///
/// A table's changes go over one channel; over more, by key, when they are too many for it
/// (snowflake_channels.cc). While a channel cannot take a request, or had many of late, rows
/// gather.
///
/// In mirror mode the landing rows below F are merged into the targets, by transactions that claim
/// them (snowflake_jobs.cc), beside the stream; or the tables' tasks do that, which are put in
/// place and watched from here (snowflake_tasks.cc). Both take their turns at the claim.
///
/// A copy's rows go to the landing table, too, on channels of their own (snowflake_copy.cc); a
/// chunk counts by its record in the log.
///
/// A change of columns or of the name is carried out where it stands in the stream, on landing
/// table and target alike (snowflake_alter.cc); rows of before are mapped to it.
///
/// Every statement that changes a table comes with a guard: what a run that was ended had sent may
/// be carried out late, and then does nothing (RunGuardSql).
///
/// Owned and called by the writer thread. Advance never waits; Start, BeginHistory, SetTimeline,
/// Forget and Shutdown do.
class SnowflakeDestination : public Destination {
 public:
  SnowflakeDestination(SnowflakeOptions options, const Clock& clock);
  ~SnowflakeDestination() override;

  Result<Checkpoint> Start(const StartOptions& options) override;
  Status BeginHistory(const NewHistory& history) override;
  Status AbandonCopies(const std::vector<TableId>& tables) override;
  Status SetTimeline(uint32_t timeline) override;
  bool Ready(Instant now) const override;
  Status Accept(Delivery delivery) override;
  Result<Progress> Advance(Instant now) override;
  void AddPollFds(std::vector<pollfd>& fds) override;
  Status Read(const ReadOptions& options) override;
  Status Forget() override;
  void Interrupt() override;
  /// Nothing that was accepted, and nothing that came of it, is on its way.
  bool at_rest() const;
  Status Shutdown(Instant deadline) override;

 private:
  /// A channel for copied rows: one chunk at a time. Attempts are numbered so that no two of a
  /// generation share a number, whatever runs came before: 20 bits that grow with each attempt on
  /// the lane, as its token tells, and 4 bits for the lane.
  struct Lane {
    uint32_t number = 0;
    ChannelId channel = 0;
    bool open = false;
    bool asked = false;  ///< whether rows of a lost token are there
    uint32_t sequence = 0;
    std::unique_ptr<RowWriter> writer;
    TableSchemaPtr writer_schema;
    bool coming = false;  ///< rows of `chunk` are coming
    uint32_t chunk = 0;
    uint32_t attempt = 0;  ///< the copier's
    uint64_t rows = 0;
    Lsn settled_at;  ///< where its rows were read again
    uint64_t given = 0;
    uint64_t proved = 0;
    struct Done {
      TableCheckpoint::DoneChunk chunk;
      uint32_t attempt = 0;
      uint64_t given = 0;
    };
    std::deque<Done> done;
    std::deque<int64_t> sizes;
  };
  struct Table {
    SnowflakeTableState state;
    bool known = false;   ///< a boundary behind its first copy's begin was stored
    bool loaded = false;  ///< known from the log: rows may have landed
    std::vector<TableChannel> channels;
    std::set<std::string> landed;  ///< rows that channels without a token sent (rule 6.4)
    TableSchemaPtr writer_schema;  ///< of the channels' writers
    SpreadMeter meter;
    int spreads_waiting = 0;  ///< records of spreads that are not proved
    Lsn newest;               ///< commit of the newest row that landed
    uint32_t live = 0;        ///< the generation whose changes are merged into the target; 0: none
    Lsn applied;              ///< merged up to here, as the watermark says
    Lsn empty_until;          ///< no row from there to here had to be merged
    std::string mark;         ///< phase of the watermark; empty: not folded by what we know
    bool finish = false;      ///< a fold that an earlier run began is to be ended
    std::map<Lsn, uint32_t> new_xids;  ///< since the last boundary
    Instant merge_at{};
    std::string task;            ///< TASK of the watermark
    std::string task_wanted;     ///< of `task_schema`
    TableSchemaPtr task_schema;  ///< what `task_wanted` was made from
    Lsn task_stuck;              ///< invalid: nothing waits for the task
    Instant task_stuck_since{};
    Instant task_put_at{};   ///< not before
    bool task_late = false;  ///< the engine merges for it, once …
    bool task_anew = false;  ///< … and then it is made again
    bool still = false;      ///< it becomes another table: no job begins
    std::vector<std::unique_ptr<Lane>> lanes;
    std::unique_ptr<Lane> settling;  ///< for rows that are read again
    bool copy_made = false;          ///< append: the table that copied rows wait in
  };
  /// A boundary whose rows were all given to channels.
  struct Boundary {
    Lsn end;
    struct Owed {
      uint32_t table = 0;
      size_t channel = 0;  ///< of the table
      uint64_t given = 0;  ///< so many batches must be proved
    };
    std::vector<Owed> owed;
    std::vector<ProgressRecord> records;
  };
  /// Records on the control channel that are not proved.
  struct Written {
    std::string token;
    Lsn forward;  ///< valid: F
    std::vector<FoldResult> folds;
    std::vector<TableStop> stops;
    struct Chunk {
      TableId table;
      uint32_t generation = 0;
      TableCheckpoint::DoneChunk done;
      uint32_t attempt = 0;
    };
    std::vector<Chunk> chunks;
    std::vector<TableId> spreads;
    bool whole = false;  ///< ends a repetition of all that counts
  };
  /// A fold, a merge, a change of columns, or something about a task.
  struct Job {
    enum class Kind : uint8_t { kMerge, kFold, kAlter, kTask } kind = Kind::kMerge;
    TableId table;
    int step = 0;
    uint32_t generation = 0;  ///< kMerge
    bool quiet = false;       ///< kFold: nobody waits for the answer
    std::string token;        ///< goes on when the control channel has committed it
    size_t place = 0;         ///< kAlter
    std::set<SnowflakeName> there;
    std::vector<std::string> after;
    Lsn low;
    Lsn high;
    Lsn ignore_below;
    bool asking = false;  ///< for the watermark, which has moved
    int64_t rows = 0;     ///< changes of a merge
    bool direct = false;  ///< into the target itself
  };
  using Statements = std::vector<std::string>;
  /// Where the work on the accepted delivery stands.
  struct Cursor {
    size_t part = 0;
    int step = 0;
    int64_t row = 0;              ///< of the part, or of the chunk's piece
    std::vector<Statements> sql;  ///< one request each
    size_t next_sql = 0;
    std::string token;
    uint64_t given = 0;
  };
  /// A table that changes its columns or its name.
  struct Place {
    TableSchemaPtr from;
    TableSchemaPtr to;
    SnowflakeName old_name;
    SnowflakeName name;
    bool landing = false;
  };

  // snowflake_destination.cc
  Status Fail(Status status);
  Result<Checkpoint> StartInner();
  Status Prepare();
  Status LoadWatermarks();
  void TakeWatermarks(const SqlRows& rows);
  Status OpenControl();
  Status WaitFor(const std::function<bool()>& done);
  Status ShowStored();
  Status OnEvents();
  Status OnEvent(const ChannelEvent& event);
  Status WriteRecords(const std::vector<ProgressRecord>& records, Lsn forward,
                      std::vector<FoldResult> folds);
  Status WriteForward(Instant now, bool* worked);
  bool Proved(const Boundary& boundary) const;
  SnowflakeTable Of(const Table& table) const;
  SnowflakeTable Of(const TableSchemaPtr& schema, uint32_t generation) const;
  static std::string Token(uint64_t sequence);
  bool Committed(const std::string& token) const;
  Statements Guarded(const Statements& sql) const;

  // snowflake_segment.cc: each returns whether it is done; if not, something is waited for.
  Result<bool> Execute(Instant now, bool* worked);
  Result<bool> ApplySegment(Segment& segment, Instant now, bool* worked);
  Result<bool> Apply(const ChangeBatch& batch, Instant now, bool* worked);
  Result<bool> Apply(const TruncateChange& truncate, Instant now, bool* worked);
  Result<bool> Apply(const SchemaChange& change, Instant now, bool* worked);
  Result<bool> Apply(const CopyStart& start, Instant now, bool* worked);
  Result<bool> Apply(const CopyPlan& plan, Instant now, bool* worked);
  Result<bool> Apply(const TableStop& stop, Instant now, bool* worked);
  Result<bool> Apply(const TableFingerprint& fingerprint, Instant now, bool* worked);
  void PrepareLanding(Table& table, const CopyStart& start, bool anew);
  Result<bool> ApplySettled(const SettledRows& rows, Instant now, bool* worked);
  Result<bool> RunSql(const std::string& what, Instant now, bool* worked);
  bool Stores(const Table& table) const;
  bool Full() const;
  void Remember(const Table& table);
  Table* Find(TableId table);

  // snowflake_channels.cc
  Result<bool> OpenTable(Table& table, Instant now, bool* worked);
  Result<bool> CloseTable(Table& table);
  bool Landed(const Table& table, const TableChannel& channel, const Position& position) const;
  Result<std::unique_ptr<RowWriter>> MakeWriter(const TableSchemaPtr& schema) const;
  Result<RowWriter*> WriterOf(Table& table, TableChannel& channel);
  Status Flush(Table& table);
  Status Flush(Table& table, TableChannel& channel);
  Status FlushFree(Instant now, bool* worked);
  Instant FreeAt(Instant now) const;
  Status OnTable(Table& table, TableChannel& channel, const ChannelEvent& event);
  static std::span<TableChannel> ChannelsOf(Table& table);
  void OpenChannels(Table& table, bool* worked);
  bool Behind(const TableChannel& channel) const;
  bool SpreadStored(const Table& table, Lsn commit) const;
  Status Spread(Instant now, bool* worked);
  Status Spread(Table& table, Instant now, bool* worked);
  bool RecordWaits(uint32_t oid) const;

  // snowflake_alter.cc
  static bool SameColumns(const TableSchema& a, const TableSchema& b);
  static bool SamePlace(const TableSchema& a, const TableSchema& b);
  bool Follows(const Table& table) const;
  Result<bool> MakeRoom(Table& table, const TableSchema& schema, Instant now, bool* worked);
  Result<bool> AlterTo(Table& table, const TableSchemaPtr& landing, const TableSchemaPtr& target,
                       bool* worked);
  std::vector<Place> PlacesOf(const Table& table) const;
  Result<AlterPlan> PlanOf(const Table& table, const Place& place) const;
  Status StepAlter(SqlOutcome& outcome, Instant now);

  // snowflake_copy.cc
  Result<bool> ApplyChunk(const ChunkRows& rows, Instant now, bool* worked);
  Result<bool> OpenLane(Table& table, Lane& lane, Instant now, bool* worked);
  Lane* LaneFor(Table& table, const ChunkRows& rows);
  Status FlushLane(Lane& lane);
  Status OnLane(Table& table, Lane& lane, const ChannelEvent& event);
  Status WriteChunks(bool* worked);
  Result<bool> RestLanes(Table& table);
  Result<bool> WriteCopied(Table& table, Lane& lane,
                           const std::shared_ptr<arrow::RecordBatch>& rows, Lsn before,
                           uint32_t attempt);
  void CloseLanes(Table& table);
  bool LanesQuiet() const;

  // snowflake_jobs.cc
  Status StepJobs(Instant now, bool* worked);
  bool BeginAlter();
  bool BeginMerge(Instant now);
  Status StepMerge(SqlOutcome& outcome, Instant now);
  Status BeginFold(const FoldRequest& request);
  Status StepFold(SqlOutcome& outcome, Instant now);
  Status StepAppendFold(SqlOutcome& outcome, Instant now);
  Status FinishFold(Table& table, int64_t rows, bool quiet);
  Status ReportMissing(const Table& table, const SqlRows& found);
  Status StopTable(Table& table, std::string code, std::string reason);
  bool BeginJob(Instant now);
  void RunJob(const std::string& what, const Statements& sql, Instant now);
  bool Owns(const SnowflakeName& target, const Table& table) const;
  bool Busy(TableId table) const;
  bool FoldDue();
  Instant MergesDue() const;
  bool MayMerge(const Table& table) const;
  bool HasChanges(const Table& table) const;
  Lsn AppliedOf(const Table& table) const;
  Lsn AppliedByAll() const;
  bool Awaited(const Table& table) const;

  // snowflake_purge.cc
  Status Purge(Instant now, bool* worked);
  Status WriteWhole();

  // snowflake_tasks.cc
  bool ByTask(const Table& table) const;
  TaskOptions TaskOf() const;
  const std::string& WantedTask(Table& table) const;
  bool BeginTaskJob(Instant now);
  Status StepTask(const SqlOutcome& outcome, Instant now);
  Instant TasksDue() const;
  void LookForLateTasks(Instant now);
  std::vector<std::string> Fence(Table& table);

  const SnowflakeOptions options_;
  const Clock& clock_;
  const SnowflakeNames names_;
  StartOptions start_;
  std::unique_ptr<SnowflakeLink> link_;
  std::vector<ChannelEvent> events_;

  Checkpoint stored_;  ///< without its tables
  uint32_t history_ = 0;
  std::map<uint32_t, Table> tables_;
  std::map<ChannelId, uint32_t> table_of_;

  ChannelId control_ = 0;
  bool control_open_ = false;
  std::string control_token_;
  uint64_t sequence_ = 0;
  uint64_t begin_ = 0;  ///< SEQUENCE of the newest record of kind `history` that is ours
  std::deque<Written> written_;
  Lsn forward_written_;      ///< newest F of all that was written
  int64_t rows_logged_ = 0;  ///< of _ETL_PROGRESS
  struct {
    uint64_t first = 0;  ///< rows before it no longer count; 0: none asked for
    UnixMicros at = 0;
    bool proved = false;
    bool running = false;
    Status status;
  } purge_;
  Instant forward_at_{};

  std::optional<Delivery> delivery_;
  Cursor cursor_;
  SqlClient::Id sql_ = 0;
  std::optional<SqlOutcome> outcome_;
  std::deque<FoldRequest> deferred_;  ///< until no destination transaction is open or on its way
  bool inside_ = false;               ///< a segment was not complete
  std::optional<Job> job_;
  bool job_running_ = false;
  Instant tasks_looked_at_{};
  std::string run_;  ///< tells this run from all others, for PutTaskSql
  std::optional<SqlOutcome> job_outcome_;
  std::vector<Progress::ChunkDone> chunks_;  ///< to report
  std::vector<TableStop> stops_;             ///< to report
  std::vector<Progress::Merged> merged_;     ///< to report
  std::set<uint32_t> holding_;               ///< tables that may hold rows not given
  RowSpreader spreader_;
  Instant spread_at_{};
  std::set<uint32_t> changed_;  ///< tables whose records go with the next boundary
  std::deque<Boundary> boundaries_;
  Lsn given_end_;                  ///< of the newest boundary
  Lsn awaited_;                    ///< somebody waits until the targets hold everything below
  std::vector<FoldResult> folds_;  ///< to report
  int64_t bytes_ = 0;              ///< given and not proved
  DestinationUse used_;
  bool started_ = false;
  Status failed_;
};

}  // namespace etl
