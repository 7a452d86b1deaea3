#include "destination/snowflake/snowflake_destination.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/check.h"
#include "base/failpoint.h"
#include "destination/snowflake/claim_sql.h"
#include "destination/snowflake/fold_sql.h"
#include "destination/snowflake/snowflake_read.h"

namespace etl {
namespace {

SnowflakeNaming NamingOf(const SnowflakeConfig& config) {
  return {.database = config.database,
          .schema = config.schema,
          .landing_schema = config.landing_schema,
          .identifiers = config.identifiers};
}

}  // namespace

std::string SnowflakeDestination::Token(uint64_t sequence) {
  return fmt::format("{:020}", sequence);
}

SnowflakeDestination::SnowflakeDestination(SnowflakeOptions options, const Clock& clock)
    : options_(std::move(options)), clock_(clock), names_(NamingOf(options_.config)) {}

SnowflakeDestination::~SnowflakeDestination() = default;

Status SnowflakeDestination::Fail(Status status) {
  if (!status.ok() && failed_.ok()) failed_ = status;
  return status;
}

SnowflakeTable SnowflakeDestination::Of(const TableSchemaPtr& schema, uint32_t generation) const {
  return {.names = names_,
          .pipeline = start_.pipeline,
          .schema = schema,
          .generation = generation,
          .run = begin_};
}

// Landing table and target are where `landing` says; the stream may be behind that.
SnowflakeTable SnowflakeDestination::Of(const Table& table) const {
  const SnowflakeTableState& state = table.state;
  return Of(state.landing != nullptr ? state.landing : state.checkpoint.schema,
            state.checkpoint.generation);
}

bool SnowflakeDestination::Committed(const std::string& token) const {
  return written_.empty() || written_.front().token > token;
}

SnowflakeDestination::Statements SnowflakeDestination::Guarded(const Statements& sql) const {
  Statements guarded;
  for (const std::string& statement : sql) {
    guarded.push_back(RunGuardSql(names_, start_.pipeline, begin_));
    guarded.push_back(statement);
  }
  return guarded;
}

Result<Checkpoint> SnowflakeDestination::Start(const StartOptions& options) {
  ETL_CHECK(!started_);
  start_ = options;
  Result<Checkpoint> checkpoint = StartInner();
  if (!checkpoint.ok()) return Fail(checkpoint.status());
  started_ = true;
  return checkpoint;
}

Result<Checkpoint> SnowflakeDestination::StartInner() {
  ETL_ASSIGN_OR_RETURN(KeyOrigin key, options_.key());
  ETL_ASSIGN_OR_RETURN(link_, SnowflakeLink::Make(options_.config, std::move(key), clock_,
                                                  {.sql = {}, .streaming = options_.streaming}));
  link_->BeginStart(start_.stop);
  ETL_RETURN_IF_ERROR(Prepare());
  // Opening takes the pipeline from whoever ran it, and waits until what that one wrote is in the
  // table: from here on the log does not change but by us.
  ETL_RETURN_IF_ERROR(OpenControl());
  const SqlOutcome rows = link_->RunAndWait(
      link_->Request("read _ETL_PROGRESS", ProgressLog::SelectSql(names_, start_.pipeline)),
      events_);
  ETL_RETURN_IF_ERROR(rows.status);
  ProgressLog log;
  ETL_RETURN_IF_ERROR(log.Load(rows.results.at(0)));
  uint64_t token = 0;
  if (!control_token_.empty()) token = std::stoull(control_token_);
  sequence_ = std::max(log.last_sequence(), token);
  history_ = log.history();
  run_ = fmt::format("{:x}-{:x}", clock_.WallNow(), sequence_);
  stored_ = log.checkpoint();
  given_end_ = forward_written_ = stored_.position;
  rows_logged_ = static_cast<int64_t>(rows.results.at(0).rows.size());
  Checkpoint out = stored_;
  for (const auto& [oid, state] : log.tables()) {
    Table& table = tables_[oid];
    table.state = state;
    table.loaded = true;
    table.known = state.checkpoint.schema != nullptr;
    if (table.known) {
      out.tables.push_back(state.checkpoint);
    } else {
      // Its landing table was made; the boundary behind was not reached.
      table.state.checkpoint.schema = state.landing;
    }
  }
  ETL_RETURN_IF_ERROR(LoadWatermarks());
  // What was written and does not count must not count later.
  if (stored_.identity.has_value()) ETL_RETURN_IF_ERROR(WriteRecords({log.Begin()}, {}, {}));
  link_->EndStart();
  return out;
}

Status SnowflakeDestination::LoadWatermarks() {
  const SqlOutcome marks = link_->RunAndWait(
      link_->Request("read _ETL_WATERMARK", SelectWatermarksSql(names_, start_.pipeline)), events_);
  ETL_RETURN_IF_ERROR(marks.status);
  TakeWatermarks(marks.results.at(0));
  for (auto& [oid, table] : tables_) {
    // Whatever lies in between may have landed.
    if (table.applied < stored_.position)
      table.newest = std::max(table.newest, Lsn{stored_.position.value - 1});
  }
  return Status::OK();
}

void SnowflakeDestination::TakeWatermarks(const SqlRows& rows) {
  for (const SqlRow& row : rows.rows) {
    const auto oid = static_cast<uint32_t>(std::stoul(row.at(0).value_or("0")));
    const auto generation = static_cast<uint32_t>(std::stoul(row.at(1).value_or("0")));
    const std::string phase = row.at(2).value_or("");
    Table* table = Find({oid});
    if (table == nullptr || generation > table->state.checkpoint.generation) continue;
    if (generation == table->state.checkpoint.generation) {
      table->mark = phase;
      table->task = row.at(4).value_or("");
      // Folded; the generation is not to be merged before it is in its place.
      if (phase == "swap") table->applied = Lsn{std::stoull(row.at(3).value_or("0"), nullptr, 16)};
    }
    if (phase != "live" || generation < table->live) continue;
    table->live = generation;
    table->applied = Lsn{std::stoull(row.at(3).value_or("0"), nullptr, 16)};
    // Folded, and the record of it was not written.
    if (table->state.target == nullptr) table->state.target = table->state.landing;
  }
}

Status SnowflakeDestination::Prepare() {
  for (const std::string& sql : BookkeepingSql(names_)) {
    const SqlOutcome outcome =
        link_->RunAndWait(link_->Request("prepare the bookkeeping", sql), events_);
    ETL_RETURN_IF_ERROR(ForgiveSchema(sql, outcome.status));
  }
  return Status::OK();
}

Status SnowflakeDestination::OpenControl() {
  control_ = link_->streaming().OpenChannel({.database = names_.database(),
                                             .schema = names_.landing_schema(),
                                             .pipe = names_.Progress().name + "-STREAMING",
                                             .channel = "etl/" + start_.pipeline + "/control"});
  return WaitFor([this] { return control_open_; });
}

// For the calls that may wait.
Status SnowflakeDestination::WaitFor(const std::function<bool()>& done) {
  while (true) {
    ETL_ASSIGN_OR_RETURN(const bool worked, link_->Step(clock_.Now(), events_));
    ETL_RETURN_IF_ERROR(OnEvents());
    if (done()) return Status::OK();
    if (link_->interrupted()) return SnowflakeLink::Interrupted();
    if (!worked) link_->Wait(kNever);
  }
}

Status SnowflakeDestination::OnEvents() {
  for (const ChannelEvent& event : std::exchange(events_, {})) ETL_RETURN_IF_ERROR(OnEvent(event));
  return Status::OK();
}

Status SnowflakeDestination::OnEvent(const ChannelEvent& event) {
  if (event.kind == ChannelEvent::Kind::kFailed) return event.status;
  if (event.channel == control_) {
    if (event.kind == ChannelEvent::Kind::kOpened) {
      if (!control_open_) control_token_ = event.token;
      control_open_ = true;
      return Status::OK();
    }
    while (!written_.empty() && written_.front().token <= event.token) {
      Written& done = written_.front();
      if (done.forward.valid()) stored_.position = std::max(stored_.position, done.forward);
      for (FoldResult& fold : done.folds) {
        fold.at = stored_.position;
        folds_.push_back(std::move(fold));
      }
      for (const Written::Chunk& chunk : done.chunks) {
        chunks_.push_back({chunk.table, chunk.generation, chunk.done.number});
        Table* table = Find(chunk.table);
        if (table == nullptr || table->state.checkpoint.generation != chunk.generation) continue;
        table->state.checkpoint.done.push_back(chunk.done);
        table->state.checkpoint.rows += chunk.done.rows;
        table->state.attempts.push_back(chunk.attempt);
      }
      for (const TableId id : done.spreads) {
        if (Table* table = Find(id)) --table->spreads_waiting;
      }
      purge_.proved = purge_.proved || done.whole;
      std::move(done.stops.begin(), done.stops.end(), std::back_inserter(stops_));
      written_.pop_front();
    }
    return Status::OK();
  }
  const auto at = table_of_.find(event.channel);
  if (at == table_of_.end()) return Status::OK();
  Table& table = tables_.at(at->second);
  for (const auto& lane : table.lanes) {
    if (lane->channel == event.channel) return OnLane(table, *lane, event);
  }
  if (table.settling != nullptr && table.settling->channel == event.channel)
    return OnLane(table, *table.settling, event);
  for (TableChannel& channel : table.channels) {
    if (channel.id == event.channel) return OnTable(table, channel, event);
  }
  return Status::OK();
}

Status SnowflakeDestination::WriteRecords(const std::vector<ProgressRecord>& records, Lsn forward,
                                          std::vector<FoldResult> folds) {
  std::string lines;
  const uint64_t first = sequence_ + 1;
  rows_logged_ += static_cast<int64_t>(records.size());
  forward_written_ = std::max(forward_written_, forward);
  for (const ProgressRecord& record : records) {
    lines += ProgressLog::Line(start_.pipeline, history_, ++sequence_, clock_.WallNow(), record);
    if (record.kind == ProgressKind::kHistory) begin_ = sequence_;
  }
  StreamBatch batch;
  batch.uncompressed_bytes = static_cast<int64_t>(lines.size());
  used_.bytes_sent += batch.uncompressed_bytes;
  batch.body = HttpBody::Of(std::move(lines));
  batch.first = Token(first);
  batch.last = Token(sequence_);
  batch.rows = static_cast<int64_t>(records.size());
  written_.push_back({.token = batch.last,
                      .forward = forward,
                      .folds = std::move(folds),
                      .stops = {},
                      .chunks = {},
                      .spreads = {},
                      .whole = false});
  ETL_FAILPOINT("snowflake.control.before_append");
  link_->streaming().Append(control_, std::move(batch));
  return Status::OK();
}

bool SnowflakeDestination::Proved(const Boundary& boundary) const {
  return std::all_of(boundary.owed.begin(), boundary.owed.end(), [this](const auto& owed) {
    return tables_.at(owed.table).channels.at(owed.channel).proved >= owed.given;
  });
}

// The newest boundary before which every row is proved, with the records of all up to it.
Status SnowflakeDestination::WriteForward(Instant now, bool* worked) {
  if (boundaries_.empty() || !Proved(boundaries_.front())) return Status::OK();
  // When all rows are proved, somebody may wait for that: one record may go ahead of its time.
  const bool all = !boundaries_.back().owed.empty() && Proved(boundaries_.back());
  const Instant due = forward_at_ - (all ? options_.forward_every : Duration{});
  if (now < due && deferred_.empty()) return Status::OK();
  std::vector<ProgressRecord> records;
  Lsn end;
  while (!boundaries_.empty() && Proved(boundaries_.front())) {
    for (ProgressRecord& record : boundaries_.front().records) records.push_back(std::move(record));
    end = boundaries_.front().end;
    boundaries_.pop_front();
  }
  records.push_back(ProgressLog::Forward(end));
  forward_at_ = std::max(now, forward_at_) + options_.forward_every;
  *worked = true;
  return WriteRecords(std::move(records), end, {});
}

Status SnowflakeDestination::BeginHistory(const NewHistory& history) {
  ETL_CHECK(started_ && failed_.ok() && !delivery_.has_value());
  Checkpoint next = stored_;
  next.identity = history.identity;
  next.timeline = history.timeline;
  next.position = history.position;
  next.lc_monetary = history.lc_monetary;
  boundaries_.clear();
  changed_.clear();
  holding_.clear();
  ++history_;
  ETL_RETURN_IF_ERROR(Fail(WriteRecords({ProgressLog::History(next, true)}, {}, {})));
  ETL_RETURN_IF_ERROR(Fail(WaitFor([this] { return written_.empty(); })));
  for (auto& [oid, table] : tables_) {
    for (const TableChannel& channel : table.channels) {
      link_->streaming().CloseChannel(channel.id);
      table_of_.erase(channel.id);
    }
    CloseLanes(table);
    const TableCheckpoint old = table.state.checkpoint;
    Table fresh;
    fresh.state = std::move(table.state);
    fresh.state.checkpoint = {
        .schema = old.schema, .generation = old.generation, .fingerprint = old.fingerprint};
    fresh.state.spreads.clear();
    fresh.state.attempts.clear();
    fresh.state.xids.clear();
    fresh.known = table.known;
    fresh.task = table.task;
    table = std::move(fresh);
  }
  stored_ = next;
  given_end_ = forward_written_ = next.position;
  bytes_ = 0;
  return Status::OK();
}

Status SnowflakeDestination::AbandonCopies(const std::vector<TableId>& tables) {
  ETL_CHECK(started_ && failed_.ok() && !delivery_.has_value());
  std::vector<ProgressRecord> records;
  for (const TableId id : tables) {
    Table* table = Find(id);
    if (table == nullptr || !table->known) continue;
    CloseLanes(*table);
    SnowflakeTableState& state = table->state;
    state.checkpoint = {.schema = state.checkpoint.schema,
                        .generation = state.checkpoint.generation,
                        .fingerprint = state.checkpoint.fingerprint};
    state.attempts.clear();
    state.xids.clear();
    records.push_back(ProgressLog::Table(state, /*immediate=*/true));
  }
  if (records.empty()) return Status::OK();
  ETL_RETURN_IF_ERROR(Fail(WriteRecords(records, {}, {})));
  return Fail(WaitFor([this] { return written_.empty(); }));
}

Status SnowflakeDestination::SetTimeline(uint32_t timeline) {
  ETL_CHECK(started_ && failed_.ok() && !delivery_.has_value());
  stored_.timeline = timeline;
  ETL_RETURN_IF_ERROR(Fail(WriteRecords({ProgressLog::History(stored_, false)}, {}, {})));
  ETL_RETURN_IF_ERROR(Fail(WaitFor([this] { return written_.empty(); })));
  if (start_.mode != Mode::kMirror) return Status::OK();
  // Rows read again by key may show the end of the old timeline; the next fold asks once more.
  for (const auto& [oid, table] : tables_) {
    if (table.state.checkpoint.phase != TablePhase::kCopying || table.state.landing == nullptr)
      continue;
    ETL_RETURN_IF_ERROR(
        Fail(link_
                 ->RunAndWait(link_->Request("forget rows read again",
                                             Guarded({ForgetSettledSql(Of(table))})),
                              events_)
                 .status));
  }
  return Status::OK();
}

bool SnowflakeDestination::Ready(Instant) const {
  return started_ && failed_.ok() && !delivery_.has_value() && !Full() &&
         (deferred_.empty() || inside_);
}

Status SnowflakeDestination::Accept(Delivery delivery) {
  ETL_CHECK(started_ && failed_.ok() && !delivery_.has_value());
  delivery_ = std::move(delivery);
  cursor_ = Cursor();
  return Status::OK();
}

Result<Progress> SnowflakeDestination::Advance(Instant now) {
  ETL_CHECK(started_);
  ETL_RETURN_IF_ERROR(failed_);
  Progress progress;
  const Result<bool> stepped = link_->Step(now, events_);
  ETL_RETURN_IF_ERROR(Fail(stepped.status()));
  progress.worked = *stepped;
  ETL_RETURN_IF_ERROR(Fail(OnEvents()));
  if (delivery_.has_value()) {
    const Result<bool> done = Execute(now, &progress.worked);
    ETL_RETURN_IF_ERROR(Fail(done.status()));
    if (*done) {
      delivery_.reset();
      progress.worked = true;
    }
  }
  ETL_RETURN_IF_ERROR(Fail(FlushFree(now, &progress.worked)));
  ETL_RETURN_IF_ERROR(Fail(Spread(now, &progress.worked)));
  ETL_RETURN_IF_ERROR(Fail(WriteForward(now, &progress.worked)));
  ETL_RETURN_IF_ERROR(Fail(WriteChunks(&progress.worked)));
  ETL_RETURN_IF_ERROR(Fail(StepJobs(now, &progress.worked)));
  ETL_RETURN_IF_ERROR(Fail(Purge(now, &progress.worked)));
  progress.durable = stored_.position;
  progress.applied = AppliedByAll();
  used_.statements = link_->sql().statements();
  progress.used = used_;
  progress.folds = std::exchange(folds_, {});
  progress.chunks = std::exchange(chunks_, {});
  progress.stopped = std::exchange(stops_, {});
  progress.merged = std::exchange(merged_, {});
  progress.by = std::min({link_->next_deadline(now), MergesDue(), TasksDue(), FreeAt(now)});
  const Instant ahead = forward_at_ - options_.forward_every;
  if (!boundaries_.empty() && forward_at_ > now)
    progress.by = std::min(progress.by, ahead > now ? ahead : forward_at_);
  return progress;
}

void SnowflakeDestination::AddPollFds(std::vector<pollfd>& fds) {
  if (link_ != nullptr) link_->AddPollFds(fds);
}

Status SnowflakeDestination::Read(const ReadOptions& options) {
  ETL_CHECK(started_ && failed_.ok());
  const Table* table = Find(options.schema->id);
  if (table == nullptr) return Status::OK();
  if (start_.mode == Mode::kAppend) {
    const Fold fold{.from = table->state.checkpoint.from,
                    .high = stored_.position,
                    .done = {},
                    .ignore_below = {},
                    .appended = true};
    return ReadStored(*link_, *options.schema, SelectLatestSql(Of(*table), fold), events_,
                      options.on_batch);
  }
  ETL_RETURN_IF_ERROR(Fail(ShowStored()));
  const SnowflakeTableState& state = table->state;
  const SnowflakeTable target =
      state.target != nullptr ? Of(state.target, state.checkpoint.generation) : Of(*table);
  return ReadStored(*link_, *options.schema, SelectTargetSql(target), events_, options.on_batch);
}

// Merges what is stored, and waits for that.
Status SnowflakeDestination::ShowStored() {
  awaited_ = std::max(awaited_, stored_.position);
  while (AppliedByAll() < stored_.position || job_.has_value()) {
    ETL_ASSIGN_OR_RETURN(bool worked, link_->Step(clock_.Now(), events_));
    ETL_RETURN_IF_ERROR(OnEvents());
    ETL_RETURN_IF_ERROR(StepJobs(clock_.Now(), &worked));
    if (link_->interrupted()) return SnowflakeLink::Interrupted();
    if (!worked) link_->Wait(kNever);
  }
  return Status::OK();
}

Status SnowflakeDestination::Forget() {
  ETL_CHECK(started_ && !delivery_.has_value());
  // A record that is still on its way would come back after it was deleted.
  ETL_RETURN_IF_ERROR(Fail(WaitFor([this] { return written_.empty(); })));
  std::vector<std::string> statements;
  for (const auto& [oid, table] : tables_) {
    const SnowflakeTable of = Of(table);
    if (start_.mode == Mode::kMirror) {
      for (std::string& sql : ForgetTableSql(of)) statements.push_back(std::move(sql));
    } else {
      statements.push_back("DROP TABLE IF EXISTS " + names_.Landing(*CopiedSchema(of)).Sql());
    }
  }
  for (std::string& sql : ForgetPipelineSql(names_, start_.pipeline))
    statements.push_back(std::move(sql));
  for (const std::string& sql : statements) {
    ETL_RETURN_IF_ERROR(
        Fail(link_->RunAndWait(link_->Request("forget the pipeline", sql), events_).status));
  }
  // Its token is what a control channel begins at: a pipeline of the same name begins anew.
  link_->streaming().DropChannel(control_);
  while (link_->streaming().channel(control_) != nullptr) {
    const Result<bool> worked = link_->Step(clock_.Now(), events_);
    ETL_RETURN_IF_ERROR(Fail(worked.status()));
    for (const ChannelEvent& event : std::exchange(events_, {})) {
      if (event.channel == control_ && event.kind == ChannelEvent::Kind::kDropped) {
        failed_ = SnowflakeLink::Interrupted();  // Of no more use.
        return Status::OK();
      }
      ETL_RETURN_IF_ERROR(Fail(OnEvent(event)));
    }
    if (link_->interrupted()) return Fail(SnowflakeLink::Interrupted());
    if (!*worked) link_->Wait(kNever);
  }
  return Status::OK();
}

bool SnowflakeDestination::at_rest() const {
  return !delivery_.has_value() && deferred_.empty() && boundaries_.empty() && written_.empty() &&
         !job_.has_value() && LanesQuiet() && chunks_.empty() && folds_.empty() && stops_.empty();
}

void SnowflakeDestination::Interrupt() {
  if (link_ != nullptr) link_->Interrupt();
}

Status SnowflakeDestination::Shutdown(Instant deadline) {
  Status status;
  while (
      started_ && failed_.ok() && status.ok() && clock_.Now() < deadline && !link_->interrupted() &&
      (delivery_.has_value() || !deferred_.empty() || !boundaries_.empty() || !written_.empty())) {
    forward_at_ = {};
    const Result<Progress> progress = Advance(clock_.Now());
    status = progress.status();
    if (status.ok() && !progress->worked) link_->Wait(std::min(deadline, progress->by));
  }
  started_ = false;
  tables_.clear();
  return status;
}

}  // namespace etl
