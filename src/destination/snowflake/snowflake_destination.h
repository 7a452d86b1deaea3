#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "destination/destination.h"
#include "destination/snowflake/alter_sql.h"
#include "destination/snowflake/link.h"
#include "destination/snowflake/progress_log.h"
#include "destination/snowflake/row_writer.h"

namespace etl {

struct SnowflakeOptions {
  SnowflakeConfig config;
  std::function<Result<KeyOrigin>()> key;
  OnUnrepresentable on_unrepresentable = OnUnrepresentable::kError;
  Duration forward_every = std::chrono::seconds(1);  ///< F is written at most this often
  int64_t bytes_max = int64_t{64} << 20;             ///< compressed, not proved committed
};

/// One pipeline's tables in Snowflake. Rows go to the landing tables' channels as they are
/// accepted; when all rows before a boundary are proved committed, the boundary is written to the
/// control channel, together with what changed about tables, and is durable when that row is proved
/// committed (correctness, section 6). After any error only Start, on a new object, goes on: it
/// reads the log, and each channel's committed token says which rows are there already.
///
/// In mirror mode the landing rows below F are merged into the targets, by transactions that claim
/// them (snowflake_jobs.cc), beside the stream.
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
/// So far: merge by engine. Read is refused.
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
    bool known = false;     ///< a boundary behind its first copy's begin was stored
    bool loaded = false;    ///< known from the log: rows may have landed
    ChannelId channel = 0;  ///< 0: closed
    bool open = false;
    Position committed;            ///< rows up to here are in the table
    std::set<std::string> landed;  ///< rows behind it that are there, too (rule 6.4)
    std::unique_ptr<RowWriter> writer;
    TableSchemaPtr writer_schema;
    uint64_t given = 0;  ///< batches
    uint64_t proved = 0;
    Lsn newest;           ///< commit of the newest row that landed
    uint32_t live = 0;    ///< the generation whose changes are merged into the target; 0: none
    Lsn applied;          ///< merged up to here, as the watermark says
    std::string mark;     ///< phase of the watermark; empty: not folded by what we know
    bool finish = false;  ///< a fold that an earlier run began is to be ended
    std::map<Lsn, uint32_t> new_xids;  ///< since the last boundary
    Instant merge_at{};
    std::vector<std::unique_ptr<Lane>> lanes;
    std::unique_ptr<Lane> settling;  ///< for rows that are read again
    bool copy_made = false;          ///< append: the table that copied rows wait in
    std::deque<int64_t> sizes;       ///< of batches not proved
  };
  /// A boundary whose rows were all given to channels.
  struct Boundary {
    Lsn end;
    std::map<uint32_t, uint64_t> given;  ///< by table: so many batches must be proved
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
  };
  /// A fold, a merge, or a change of columns.
  struct Job {
    enum class Kind : uint8_t { kMerge, kFold, kAlter } kind = Kind::kMerge;
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
    bool direct = false;  ///< into the target itself
  };
  using Statements = std::vector<std::string>;
  /// Where the work on the accepted delivery stands.
  struct Cursor {
    size_t part = 0;
    int step = 0;
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
  void PrepareLanding(const Table& table, const CopyStart& start, bool anew);
  Result<bool> ApplySettled(const SettledRows& rows, Instant now, bool* worked);
  Result<bool> OpenTable(Table& table, Instant now, bool* worked);
  Result<bool> CloseTable(Table& table);
  Result<bool> RunSql(const std::string& what, Instant now, bool* worked);
  bool Stores(const Table& table) const;
  bool Landed(const Table& table, const Position& position) const;
  Status PrepareWriter(Table& table);
  Result<std::unique_ptr<RowWriter>> WriterFor(const TableSchemaPtr& schema) const;
  Status Flush(Table& table);
  void Remember(const Table& table);
  Table* Find(TableId table);

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
  Status WriteCopied(Table& table, Lane& lane, const std::shared_ptr<arrow::RecordBatch>& rows,
                     Lsn before, uint32_t attempt);
  void CloseLanes(Table& table);
  bool LanesQuiet() const;

  // snowflake_jobs.cc
  Status StepJobs(Instant now, bool* worked);
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
  Instant forward_at_{};

  std::optional<Delivery> delivery_;
  Cursor cursor_;
  SqlClient::Id sql_ = 0;
  std::optional<SqlOutcome> outcome_;
  std::deque<FoldRequest> deferred_;  ///< until no destination transaction is open or on its way
  bool inside_ = false;               ///< a segment was not complete
  std::optional<Job> job_;
  bool job_running_ = false;
  std::optional<SqlOutcome> job_outcome_;
  std::vector<Progress::ChunkDone> chunks_;  ///< to report
  std::vector<TableStop> stops_;             ///< to report
  std::set<uint32_t> changed_;               ///< tables whose records go with the next boundary
  std::deque<Boundary> boundaries_;
  Lsn given_end_;                  ///< of the newest boundary
  std::vector<FoldResult> folds_;  ///< to report
  int64_t bytes_ = 0;              ///< given and not proved
  bool started_ = false;
  Status failed_;
};

}  // namespace etl
