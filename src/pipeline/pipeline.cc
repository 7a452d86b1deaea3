#include "pipeline/pipeline.h"

#include <algorithm>
#include <utility>

#include <poll.h>

#include "base/check.h"
#include "base/log.h"
#include "batch/hash_builder.h"
#include "postgres/libpq_chunk_reader.h"
#include "postgres/libpq_system_catalog.h"
#include "postgres/libpq_wal_stream.h"
#include "postgres/source_setup.h"
#include "postgres/table_query.h"

namespace etl {
namespace {

// Rows of a chunk travel in pieces of this size, so that several copiers stay within the memory
// budget.
constexpr int64_t kChunkPieceBytes = 4 << 20;

// Layers below know no pipeline; what a person is to type names it.
Status Named(const Status& status, const std::string& pipeline) {
  constexpr std::string_view kPlaceholder = "PIPELINE";
  ErrorParts parts = PartsOf(status);
  const size_t at = parts.remedy.find(kPlaceholder);
  if (at == std::string::npos) return WithContext(status, "pipeline " + pipeline);
  parts.remedy.replace(at, kPlaceholder.size(), pipeline);
  return WithContext(MakeError(KindOf(status), std::move(parts)), "pipeline " + pipeline);
}

}  // namespace

Pipeline::Pipeline(const PipelineSpec& spec, ByteBudget* budget, const Clock& clock)
    : spec_(spec), budget_(budget), clock_(clock) {}

Pipeline::~Pipeline() { ETL_CHECK(stopped_ || reader_thread_ == nullptr); }

Result<std::unique_ptr<Pipeline>> Pipeline::Start(const PipelineSpec& spec, History history,
                                                  ByteBudget* budget, const Clock& clock) {
  std::unique_ptr<Pipeline> pipeline(new Pipeline(spec, budget, clock));
  Status status = pipeline->PrepareEnds(history);
  if (status.ok()) status = pipeline->MakeStages();
  if (!status.ok()) {
    if (pipeline->destination_ != nullptr) {
      const Status closed = pipeline->destination_->Shutdown(clock.Now() + std::chrono::seconds(1));
      if (!closed.ok())
        LogWarn("closing the destination", {{"pipeline", spec.name}, {"error", ErrorLine(closed)}});
    }
    return Named(status, spec.name);
  }
  pipeline->StartThreads();
  return pipeline;
}

// The destination says where to go on; the source is made ready for it.
Status Pipeline::PrepareEnds(History history) {
  ETL_ASSIGN_OR_RETURN(destination_, spec_.make_destination());
  ETL_ASSIGN_OR_RETURN(checkpoint_, destination_->Start({.pipeline = spec_.name,
                                                         .mode = spec_.reader.mode,
                                                         .stop = spec_.source.stop}));

  const Instant deadline = clock_.Now() + spec_.connect_timeout;
  SourceOptions source = spec_.source.Clone();
  if (spec_.read_password) {
    ETL_ASSIGN_OR_RETURN(source.password, spec_.read_password());
  }
  source.lc_monetary = checkpoint_.lc_monetary;
  ETL_ASSIGN_OR_RETURN(std::unique_ptr<SourceSetup> setup, SourceSetup::Connect(source, deadline));
  std::vector<TableName> wanted;
  if (spec_.tables_given) {
    ETL_ASSIGN_OR_RETURN(std::vector<CandidateTable> candidates,
                         setup->ListCandidateTables(deadline));
    for (CandidateTable& candidate : candidates) {
      if (candidate.persistence == 'p' &&
          spec_.reader.selected(candidate.name.schema, candidate.name.name)) {
        wanted.push_back(std::move(candidate.name));
      }
    }
  }
  ETL_RETURN_IF_ERROR(setup->EnsurePublication(spec_.publication, wanted, deadline).status());
  ETL_RETURN_IF_ERROR(PrepareHistory(*setup, history, deadline));
  ETL_RETURN_IF_ERROR(ChooseTransport(*setup, deadline));
  setup.reset();

  source.lc_monetary = checkpoint_.lc_monetary;
  ETL_ASSIGN_OR_RETURN(stream_, LibpqWalStream::Make(source,
                                                     {.slot = spec_.slot,
                                                      .publications = {spec_.publication},
                                                      .start = checkpoint_.position,
                                                      .binary = binary_,
                                                      .streaming = spec_.streaming,
                                                      .messages = true},
                                                     deadline));
  ETL_ASSIGN_OR_RETURN(catalog_, LibpqSystemCatalog::Make(source, {.publication = spec_.publication,
                                                                   .slot = spec_.slot}));
  for (int i = 0; i < spec_.parallelism; ++i) {
    ETL_ASSIGN_OR_RETURN(std::unique_ptr<ChunkReader> reader, LibpqChunkReader::Make(source));
    chunk_readers_.push_back(std::move(reader));
  }
  return Status::OK();
}

// Proves that nothing was lost since the stored position (rule 2.4), or begins a history.
Status Pipeline::PrepareHistory(SourceSetup& setup, History wanted, Instant deadline) {
  if (!checkpoint_.identity) return BeginHistory(setup, deadline);
  const SystemFacts& system = setup.system();
  const SourceIdentity identity{
      .system_id = system.system_id, .database_oid = system.database_oid, .slot = spec_.slot};
  Result<ResumeAnswer> answer = setup.CheckResume({.identity = *checkpoint_.identity,
                                                   .timeline = checkpoint_.timeline,
                                                   .position = checkpoint_.position},
                                                  deadline);
  Status status = answer.status();
  if (status.ok() && *checkpoint_.identity != identity) {
    status = MakeError(ErrorKind::kLost, "ETL-S205",
                       "the destination was filled from another database or slot",
                       "etl-stream pipeline resync " + spec_.name);
  }
  const bool lost = !status.ok() && KindOf(status) == ErrorKind::kLost;
  if ((wanted == History::kReplace && status.ok()) || (wanted != History::kKeep && lost)) {
    LogWarn("the position cannot be continued: everything is copied again",
            {{"pipeline", spec_.name},
             {"because",
              status.ok() ? "the server cannot decode what follows it" : ErrorLine(status)}});
    ETL_RETURN_IF_ERROR(setup.DropSlot(spec_.slot, deadline));
    return BeginHistory(setup, deadline);
  }
  ETL_RETURN_IF_ERROR(status);
  if (answer->timeline == checkpoint_.timeline) return Status::OK();
  // The copies first: should the timeline not be stored after them, it is found to differ again.
  ETL_RETURN_IF_ERROR(AbandonCopiesBeyond(answer->switched_at.value_or(checkpoint_.position)));
  return destination_->SetTimeline(answer->timeline);
}

// A chunk read beyond the switch shows rows of a history that is not ours, and they stand among the
// others at the destination: the table is copied again.
Status Pipeline::AbandonCopiesBeyond(Lsn switched_at) {
  std::vector<TableId> tables;
  for (TableCheckpoint& table : checkpoint_.tables) {
    if (table.phase != TablePhase::kCopying || table.schema == nullptr) continue;
    const bool beyond = std::any_of(table.done.begin(), table.done.end(),
                                    [&](const auto& done) { return done.high > switched_at; });
    if (!beyond) continue;
    LogWarn("a table is copied again: parts were read after the source's history parted",
            {{"pipeline", spec_.name}, {"table", table.schema->QualifiedName()}});
    tables.push_back(table.schema->id);
    table.phase = TablePhase::kWaiting;
    table.keep_target = false;
    table.planned = false;
    table.rows = 0;
    table.chunks.clear();
    table.done.clear();
  }
  return tables.empty() ? Status::OK() : destination_->AbandonCopies(tables);
}

Status Pipeline::BeginHistory(SourceSetup& setup, Instant deadline) {
  const SystemFacts& system = setup.system();
  NewHistory history;
  history.identity = {
      .system_id = system.system_id, .database_oid = system.database_oid, .slot = spec_.slot};
  history.timeline = system.timeline;
  ETL_ASSIGN_OR_RETURN(history.lc_monetary, setup.ReadLcMonetary(deadline));
  ETL_ASSIGN_OR_RETURN(const SlotFacts slot,
                       setup.EnsureSlot(spec_.slot, /*temporary=*/false, deadline));
  ETL_RETURN_IF_ERROR(CheckSlotUsable(spec_.slot, slot, system));
  history.position = slot.confirmed_flush;
  ETL_RETURN_IF_ERROR(destination_->BeginHistory(history));
  checkpoint_.identity = history.identity;
  checkpoint_.timeline = history.timeline;
  checkpoint_.position = history.position;
  checkpoint_.lc_monetary = history.lc_monetary;
  for (TableCheckpoint& table : checkpoint_.tables) {
    table.phase = TablePhase::kWaiting;
    table.planned = false;
    table.chunks.clear();
    table.done.clear();
  }
  LogInfo("pipeline begins", {{"pipeline", spec_.name}, {"position", FormatLsn(history.position)}});
  return Status::OK();
}

// Binary only where every published value is understood; one column that is not puts the stream
// into text (rule 8.1).
Status Pipeline::ChooseTransport(SourceSetup& setup, Instant deadline) {
  ETL_ASSIGN_OR_RETURN(const TablesAnswer tables,
                       LoadTables(setup.connection(), spec_.publication, deadline));
  binary_ = true;
  for (const auto& [name, rules] : spec_.reader.rules) binary_ = binary_ && rules.hash.empty();
  for (const TableFacts& table : tables.tables) {
    for (const AttributeFacts& column : table.columns) {
      if (column.published && !BinaryUnderstood(*column.type)) binary_ = false;
    }
  }
  // Rows from before the catalog's last changes are still to come.
  for (const TableCheckpoint& table : checkpoint_.tables) {
    if (table.schema == nullptr || table.phase == TablePhase::kStopped) continue;
    for (const WireColumn& column : table.schema->wire)
      binary_ = binary_ && BinaryUnderstood(*column.type);
  }
  ETL_ASSIGN_OR_RETURN(
      const PgResult timeout,
      setup.connection().Query(
          "SELECT setting::bigint FROM pg_settings WHERE name = 'wal_sender_timeout'", deadline));
  if (timeout.rows() == 1 && timeout.Int(0, 0) > 0) {
    status_interval_ =
        std::min<Duration>(status_interval_, std::chrono::milliseconds(timeout.Int(0, 0)) / 3);
  }
  return Status::OK();
}

Status Pipeline::MakeStages() {
  ReaderChannels channels;
  channels.deliveries = &deliveries_;
  channels.replies = &replies_;
  channels.commands = &commands_;
  for (size_t i = 0; i < chunk_readers_.size(); ++i) {
    tasks_.push_back(std::make_unique<TaskChannel>(1));
    copier_events_.push_back(std::make_unique<CopierChannel>(1));
    channels.copiers.push_back(
        {.tasks = tasks_.back().get(), .events = copier_events_.back().get(), .busy = false});
  }
  ReaderOptions options = spec_.reader;
  if (!options.batch.hash_key.empty()) {
    ETL_ASSIGN_OR_RETURN(options.hash_key_digest, HashKeyDigest(options.batch.hash_key));
  }
  options.binary = binary_;
  options.publication = spec_.publication;
  options.status_interval = status_interval_;
  reader_ = std::make_unique<Reader>(std::move(options), checkpoint_, stream_.get(), catalog_.get(),
                                     std::move(channels), budget_, &board_, clock_);
  writer_ = std::make_unique<Writer>(destination_.get(), &deliveries_, &replies_, &stored_latency_,
                                     clock_);
  for (size_t i = 0; i < chunk_readers_.size(); ++i) {
    copiers_.push_back(std::make_unique<Copier>(chunk_readers_[i].get(), &spec_.reader.batch,
                                                kChunkPieceBytes, tasks_[i].get(),
                                                copier_events_[i].get()));
  }
  return Status::OK();
}

void Pipeline::StartThreads() {
  const auto on_end = [this](const Status& status) { OnEnd(status); };
  reader_thread_ =
      std::make_unique<StageThread>("reader " + spec_.name, reader_.get(), clock_, on_end);
  writer_thread_ =
      std::make_unique<StageThread>("writer " + spec_.name, writer_.get(), clock_, on_end);
  for (const std::unique_ptr<Copier>& copier : copiers_) {
    copier_threads_.push_back(
        std::make_unique<StageThread>("copier " + spec_.name, copier.get(), clock_, on_end));
  }
  reader_thread_->Start();
  writer_thread_->Start();
  for (const std::unique_ptr<StageThread>& thread : copier_threads_) thread->Start();
}

void Pipeline::OnEnd(const Status& status) {
  if (status.ok()) return;
  outcome_.StoreFirst(std::make_shared<const Status>(status));
  board_.changed.Notify();
}

void Pipeline::Command(ReaderCommand command) {
  // A full channel means a reader that has ended or a storm of commands; both end with the
  // pipeline.
  if (!commands_.TryPush(command)) LogWarn("a command was dropped", {{"pipeline", spec_.name}});
}

bool Pipeline::WaitUntilDrained(Instant deadline) {
  while (!board_.drained && !ended()) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - clock_.Now()).count();
    if (left <= 0) return false;
    pollfd fd{.fd = board_.changed.fd(), .events = POLLIN, .revents = 0};
    poll(&fd, 1, static_cast<int>(std::min<int64_t>(left, 100)));
    board_.changed.Clear();
  }
  return board_.drained;
}

Status Pipeline::Stop(Instant deadline) {
  stopped_ = true;
  for (const std::unique_ptr<StageThread>& thread : copier_threads_) thread->Stop();
  bool drained = false;
  if (!ended()) {
    Command(Drain{});
    drained = WaitUntilDrained(deadline);
  }
  reader_thread_->Stop();
  reader_thread_->Join();
  if (drained) reader_->Close(deadline);
  writer_thread_->Stop();
  if (!drained) destination_->Interrupt();
  writer_thread_->Join();
  for (const std::unique_ptr<StageThread>& thread : copier_threads_) thread->Join();
  const Status closed =
      destination_->Shutdown(std::max(deadline, clock_.Now() + std::chrono::milliseconds(500)));
  const std::shared_ptr<const Status> outcome = outcome_.Load();
  if (outcome != nullptr) return Named(*outcome, spec_.name);
  return closed.ok() ? Status::OK() : Named(closed, spec_.name);
}

}  // namespace etl
