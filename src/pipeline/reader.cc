#include "pipeline/reader.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace etl {
namespace {

constexpr std::string_view kDiverged = "ETL-D150";
constexpr size_t kDeliveriesInFlight = 4;
constexpr int kSegmentsInFlight = 2;
constexpr int kFramesPerStep = 2048;
constexpr int kFramesUnlooked = 64;
constexpr int64_t kBytesUnlooked = 64 << 10;
constexpr Duration kHurry = std::chrono::milliseconds(100);
constexpr Duration kPublishEvery = std::chrono::milliseconds(200);

}  // namespace

Reader::Reader(ReaderOptions options, const Checkpoint& checkpoint, WalStream* stream,
               SystemCatalog* catalog, ReaderChannels channels, ByteBudget* budget,
               ReaderBoard* board, const Clock& clock)
    : options_(std::move(options)),
      stream_(stream),
      catalog_(catalog),
      channels_(std::move(channels)),
      budget_(budget),
      board_(board),
      clock_(clock),
      open_(options_.open_transactions, budget),
      start_(checkpoint.position),
      received_(checkpoint.position),
      handed_(checkpoint.position),
      durable_(checkpoint.position),
      open_lease_(budget) {
  for (const TableCheckpoint& stored : checkpoint.tables) {
    if (stored.schema == nullptr) continue;
    TableRuntime& table = tables_.Add(stored.schema->id);
    table.schema = stored.schema;
    table.generation = stored.generation;
    table.phase = stored.phase;
    table.rows = stored.rows;
    if (const auto nulled = options_.nulled.find(stored.schema->id);
        nulled != options_.nulled.end()) {
      table.nulled = nulled->second;
    }
    table.note = stored.stop_reason;
    table.stop_code = stored.stop_code;
    table.ignore_rows =
        stored.phase == TablePhase::kStopped || stored.phase == TablePhase::kWaiting;
    if (auto rules = options_.rules.find(stored.schema->QualifiedName());
        rules != options_.rules.end()) {
      table.rules = rules->second;
    }
    if (Result<Fingerprint> fingerprint = FingerprintFromText(stored.fingerprint);
        fingerprint.ok()) {
      table.fingerprint = *fingerprint;
      table.fingerprint_known = !stored.fingerprint.empty();
    }
    if (stored.phase == TablePhase::kCopying) {
      table.copy = TableCopy::Resume(stored);
      if (stored.schema->identity != Identity::kKey)
        table.copy->set_ignore_below(table.copy->until());
    }
  }
  board_->durable = durable_.value;
}

Result<Wake> Reader::Step(Instant now) {
  worked_ = false;
  channels_.replies->ClearConsumer();
  channels_.commands->ClearConsumer();
  channels_.deliveries->ClearProducer();
  for (ReaderChannels::CopierEnd& copier : channels_.copiers) copier.events->ClearConsumer();

  if (!std::exchange(rules_compared_, true)) ETL_RETURN_IF_ERROR(CompareRules());
  ETL_RETURN_IF_ERROR(TakeReplies(now));
  ETL_RETURN_IF_ERROR(TakeCommands());
  ETL_RETURN_IF_ERROR(TakeAnswers(now));
  ETL_RETURN_IF_ERROR(TakeCopierEvents());
  ETL_RETURN_IF_ERROR(ReadStream(now));
  if (!in_transaction_ && !draining_) ETL_RETURN_IF_ERROR(ReopenStreamIfDue());
  if (!in_transaction_ && !draining_ && !reopening_) {
    ETL_RETURN_IF_ERROR(ActOnTables());
    ETL_RETURN_IF_ERROR(DriveCopies(now));
  }
  ETL_RETURN_IF_ERROR(HandOver(now));
  StoreIdlePosition(now);
  ETL_RETURN_IF_ERROR(SendStatus(now));
  if (now >= next_publish_) Publish(now);
  if (draining_ && in_flight_.empty() && (segment_.empty() || in_transaction_) &&
      !board_->drained) {
    board_->drained = true;
    board_->changed.Notify();
    worked_ = true;
  }
  return Wake{.worked = worked_, .by = NextDeadline(now)};
}

void Reader::AddPollFds(std::vector<pollfd>& fds) {
  fds.push_back({.fd = channels_.replies->consumer_fd(), .events = POLLIN, .revents = 0});
  fds.push_back({.fd = channels_.commands->consumer_fd(), .events = POLLIN, .revents = 0});
  for (const ReaderChannels::CopierEnd& copier : channels_.copiers) {
    fds.push_back({.fd = copier.events->consumer_fd(), .events = POLLIN, .revents = 0});
  }
  catalog_->AddPollFds(fds);
  if (MayRead()) stream_->AddPollFds(fds);
}

void Reader::Close(Instant deadline) { stream_->Close(received_, durable_, deadline); }

Status Reader::TakeReplies(Instant now) {
  while (std::optional<WriterReply> reply = channels_.replies->TryPop()) {
    worked_ = true;
    while (taken_ < reply->taken) {
      ETL_CHECK(!in_flight_.empty());
      if (in_flight_.front().segment) --segments_in_flight_;
      in_flight_.pop_front();
      ++taken_;
    }
    if (reply->progress.durable > durable_) {
      durable_ = reply->progress.durable;
      board_->durable = durable_.value;
      while (!commit_times_.empty() && commit_times_.front().first <= durable_) {
        commit_times_.pop_front();
      }
    }
    applied_ = reply->progress.applied;
    if (reply->progress.used.has_value()) used_ = reply->progress.used;
    for (const Progress::Merged& merged : reply->progress.merged) {
      if (TableRuntime* table = tables_.Find(merged.table)) table->rows_merged += merged.rows;
    }
    for (const Progress::ChunkDone& done : reply->progress.chunks) {
      TableRuntime* table = tables_.Find(done.table);
      if (table != nullptr && table->copy && table->copy->generation() == done.generation) {
        table->copy->OnChunkDurable(done.chunk);
      }
    }
    for (FoldResult& fold : reply->progress.folds) ETL_RETURN_IF_ERROR(OnFold(std::move(fold)));
    for (const TableStop& stop : reply->progress.stopped) {
      TableRuntime* table = tables_.Find(stop.table);
      if (table == nullptr) continue;
      LogError("table set aside by the destination", {{"pipeline", options_.pipeline},
                                                      {"table", table->schema->QualifiedName()},
                                                      {"code", stop.code},
                                                      {"reason", stop.reason}});
      table->phase = TablePhase::kStopped;
      table->ignore_rows = true;
      table->copy.reset();
      table->stop_code = stop.code;
      table->note = stop.reason;
      // Divergence, found by strict apply: copied again, never mended by an upsert (rule 5.3).
      if (stop.code == kDiverged) {
        table->copy_wanted = true;
        table->keep_target = false;
        poll_wanted_ = true;
      }
    }
    next_publish_ = std::min(next_publish_, now + std::chrono::milliseconds(20));
  }
  NoteStoredResyncs();
  return Status::OK();
}

Status Reader::TakeCommands() {
  while (std::optional<ReaderCommand> command = channels_.commands->TryPop()) {
    worked_ = true;
    if (const auto* target = std::get_if<SetTarget>(&*command)) {
      target_ = target->lsn;
      board_->reached = false;
      target_looks_ = tables_asked_ + 1;
      poll_wanted_ = true;
    } else if (std::holds_alternative<Freeze>(*command)) {
      frozen_ = true;
      board_->frozen = true;
      board_->changed.Notify();
    } else if (const auto* hold = std::get_if<HoldAt>(&*command)) {
      hold_at_ = hold->lsn;
      frozen_ = false;
      // One that was held at an earlier position goes on.
      holding_ = !in_transaction_ && stalled_.empty() && received_ >= hold_at_;
    } else if (std::holds_alternative<Release>(*command)) {
      hold_at_ = Lsn{};
      holding_ = false;
      frozen_ = false;
      board_->frozen = false;
      board_->held_at = 0;
    } else if (const auto* resync = std::get_if<Resync>(&*command)) {
      resyncs_.push_back(resync->table);
      poll_wanted_ = true;
    } else if (const auto* retry = std::get_if<RetryStopped>(&*command)) {
      RetryStoppedTables(retry->table);
    } else {
      draining_ = true;
    }
  }
  return Status::OK();
}

bool Reader::SegmentFull() const {
  return segment_.rows() >= options_.max_rows || segment_.bytes() >= options_.max_bytes ||
         (budget_->WouldExceed(0) && segment_.rows() > 0);
}

bool Reader::MayRead() const {
  if (draining_ || frozen_ || holding_ || stalled_for_tables_ || reopening_) return false;
  return !SegmentFull() || (segments_in_flight_ < kSegmentsInFlight && CanDeliver());
}

bool Reader::CanDeliver() const {
  return in_flight_.size() < kDeliveriesInFlight && !channels_.deliveries->Full();
}

Status Reader::ReadStream(Instant now) {
  if (reopening_) return Status::OK();
  if (!stalled_.empty()) {
    if (holding_ || (stalled_for_tables_ && (!stall_answered_ || EndsBeforeChange())))
      return Status::OK();
    const std::string message = std::exchange(stalled_, {});
    stalled_for_tables_ = false;
    ETL_RETURN_IF_ERROR(OnMessage(message, now));
    stall_answered_ = false;
    worked_ = true;
  }
  // Looking at sizes costs more than a small row; a segment may pass its limits by a little.
  const int64_t most_unlooked = std::min(kBytesUnlooked, options_.max_bytes / 8);
  for (int i = 0; i < kFramesPerStep; ++i) {
    if (draining_ || frozen_ || holding_ || stalled_for_tables_) return Status::OK();
    if (i % kFramesUnlooked == 0 || unlooked_bytes_ >= most_unlooked) {
      unlooked_bytes_ = 0;
      open_lease_.Resize(segment_.bytes());
      if (SegmentFull()) {
        ETL_RETURN_IF_ERROR(HandOver(now));
        if (SegmentFull()) return Status::OK();
      }
    }
    if (replay_ != nullptr) {
      worked_ = true;
      ETL_RETURN_IF_ERROR(ReplayNext(now));
      continue;
    }
    ETL_ASSIGN_OR_RETURN(std::optional<std::string_view> frame, stream_->Next(now));
    at_hand_empty_ = !frame.has_value();
    if (!frame) break;
    worked_ = true;
    unlooked_bytes_ += static_cast<int64_t>(frame->size());
    ETL_RETURN_IF_ERROR(OnFrame(*frame, now));
  }
  open_lease_.Resize(segment_.bytes());
  return Status::OK();
}

// When to hand over what has gathered. Idle destination: at once, whole transactions only. Busy
// destination: what comes gathers until it is worth a delivery of its own, so batches grow with the
// load.
Status Reader::HandOver(Instant now) {
  // An empty segment may still have to end a transaction whose rows were all handed over as pieces.
  if ((segment_.empty() && !piece_open_) || segments_in_flight_ >= kSegmentsInFlight ||
      !CanDeliver()) {
    return Status::OK();
  }
  const bool full = SegmentFull();
  if (in_transaction_ && !EndsBeforeChange())
    return full && !draining_ ? PushSegment(false, now) : Status::OK();
  const bool idle = segments_in_flight_ == 0;
  const bool aged =
      segment_.first_commit() != kNever && now - segment_.first_commit() >= options_.max_delay;
  const bool large =
      segment_.rows() >= options_.max_rows / 2 || segment_.bytes() >= options_.max_bytes / 2;
  if (idle || full || aged || large || piece_open_ || in_transaction_)
    return PushSegment(true, now);
  return Status::OK();
}

// What stands before a change of columns is stored at a boundary of its own, where the transaction
// has brought nothing yet: rows of before a change of the key have to be merged under the former
// one, and only whole transactions are.
bool Reader::EndsBeforeChange() const {
  return stalled_for_tables_ && change_index_ == 0 && (!segment_.empty() || piece_open_);
}

Status Reader::PushSegment(bool complete, Instant now) {
  ETL_ASSIGN_OR_RETURN(Segment segment, segment_.Take(complete, received_, now));
  piece_open_ = !complete;
  for (TableId id : tables_.ids()) tables_.at(id).plan_open = false;
  board_->changes.fetch_add(segment.rows, std::memory_order_relaxed);
  if (complete) {
    handed_ = received_;
    const Lsn awaited = AwaitedPosition();
    if (applied_ < awaited && handed_ >= awaited) {
      segment.awaited = true;
      awaited_ = handed_;
    }
    if (segment.last_commit_time != 0)
      commit_times_.emplace_back(handed_, segment.last_commit_time);
  }
  const int64_t bytes = segment.bytes;
  ++segments_in_flight_;
  Deliver(Delivery(std::move(segment)), bytes);
  in_flight_.back().segment = true;
  if (complete) {
    HandOverResyncs();
    if (std::exchange(look_open_, false)) look_delivery_ = delivered_;
  }
  open_lease_.Resize(0);
  next_idle_store_ = now + options_.status_interval;
  return Status::OK();
}

void Reader::Deliver(Delivery delivery, int64_t bytes) {
  ETL_CHECK(channels_.deliveries->TryPush(delivery));
  InFlight flight;
  flight.lease = ByteLease(budget_);
  flight.lease.Resize(bytes);
  in_flight_.push_back(std::move(flight));
  ++delivered_;
  worked_ = true;
}

// What has begun since the last time goes with the delivery that was made last.
void Reader::HandOverResyncs() {
  const uint64_t before =
      resyncs_handed_.empty() ? board_->resyncs_stored.load() : resyncs_handed_.back().commands;
  if (resyncs_begun_ == before) return;
  resyncs_handed_.push_back({.commands = resyncs_begun_, .delivery = delivered_, .end = handed_});
}

void Reader::NoteStoredResyncs() {
  while (!resyncs_handed_.empty() && resyncs_handed_.front().delivery <= taken_ &&
         resyncs_handed_.front().end <= durable_) {
    board_->resyncs_stored = resyncs_handed_.front().commands;
    resyncs_handed_.pop_front();
    board_->changed.Notify();
  }
}

// Up to where readers of the destination have to see everything; 0/0: nobody waits for them.
Lsn Reader::AwaitedPosition() const { return std::max(target_, holding_ ? handed_ : Lsn{}); }

// An idle or foreign stretch of WAL is stored at the destination before it is confirmed (rule 2.2):
// now and then, and at once when somebody waits for it. What is stored and not yet shown to readers
// is asked for, once.
void Reader::StoreIdlePosition(Instant now) {
  if (in_transaction_ || piece_open_ || !segment_.empty() || segments_in_flight_ > 0) return;
  if (!CanDeliver()) return;
  if (const Lsn awaited = AwaitedPosition();
      applied_.valid() && applied_ < awaited && durable_ >= awaited && awaited_ < awaited) {
    (void)PushSegment(true, now);
    return;
  }
  if (holding_ || received_ <= handed_) return;
  bool waited_for = reply_wanted_ || target_ > durable_ || draining_;
  for (TableId id : tables_.ids()) {
    const TableRuntime& table = tables_.at(id);
    if (table.copy && !table.copy->ReadyToFold(durable_) && table.copy->ReadyToFold(received_))
      waited_for = true;
  }
  if (!waited_for && now < next_idle_store_) return;
  // Take cannot fail: there is nothing to seal.
  (void)PushSegment(true, now);
}

Status Reader::SendStatus(Instant now) {
  // Somebody waits for the stream to get somewhere: ask where the server's sender stands.
  const Lsn look = found_.empty() ? Lsn{} : found_.front().wal_insert;
  bool hurry = std::max(target_, look) > received_;
  Lsn wanted = std::max(target_, look);
  for (TableId id : tables_.ids()) {
    const TableRuntime& table = tables_.at(id);
    if (table.copy && table.copy->until() > received_) {
      hurry = true;
      wanted = std::max(wanted, table.copy->until());
    }
  }
  if (hold_at_ > received_ && !holding_) {
    hurry = true;
    wanted = std::max(wanted, hold_at_);
  }
  if (hurry && at_hand_empty_) {
    // The server's flush position can stay behind for seconds while a transaction is open: nudge it
    // (rule 9.3).
    if (next_nudge_ == Instant{}) next_nudge_ = now + std::chrono::seconds(1);
    if (now >= next_nudge_ && emit_allowed_) {
      LogDebug("nudging the source",
               {{"pipeline", options_.pipeline}, {"wanted", FormatLsn(wanted)}});
      catalog_->Ask(EmitMessageQuery{.transactional = true});
      next_nudge_ = now + std::chrono::seconds(5);
    }
    if (now >= next_status_ - options_.status_interval + kHurry) {
      ETL_RETURN_IF_ERROR(stream_->SendStatus(received_, durable_, true));
      reported_ = durable_;
      next_status_ = now + options_.status_interval;
      return Status::OK();
    }
  } else {
    next_nudge_ = Instant{};
  }
  const bool moved = durable_ > reported_ &&
                     now >= next_status_ - options_.status_interval + std::chrono::milliseconds(10);
  const bool asked = reply_wanted_ && (durable_ >= received_ || in_transaction_ ||
                                       segments_in_flight_ > 0 || frozen_);
  if (moved || asked || now >= next_status_) {
    ETL_RETURN_IF_ERROR(stream_->SendStatus(received_, durable_, false));
    reply_wanted_ = false;
    reported_ = durable_;
    next_status_ = now + options_.status_interval;
  }
  return Status::OK();
}

bool Reader::AllSettled() const {
  if (!first_look_done_ || !resyncs_.empty() || target_looks_ > 0 || !found_.empty()) return false;
  for (TableId id : tables_.ids()) {
    const TableRuntime& table = tables_.at(id);
    if (table.copy_wanted || table.copy) return false;
    if (table.phase != TablePhase::kLive && table.phase != TablePhase::kStopped) return false;
  }
  return true;
}

// It is gone from the source, and another table has its name: nothing is left to say about it.
bool Reader::Replaced(const TableRuntime& table) {
  if (table.phase != TablePhase::kStopped || table.stop_code != "ETL-S121" ||
      table.schema == nullptr) {
    return false;
  }
  for (TableId id : tables_.ids()) {
    const TableRuntime& other = tables_.at(id);
    if (&other != &table && other.schema != nullptr && other.stop_code != "ETL-S121" &&
        other.schema->QualifiedName() == table.schema->QualifiedName()) {
      return true;
    }
  }
  return false;
}

void Reader::Publish(Instant now) {
  next_publish_ = now + kPublishEvery;
  auto status = std::make_shared<PipelineStatus>();
  status->name = options_.pipeline;
  status->phase = first_look_done_ ? PipelinePhase::kRunning : PipelinePhase::kCopying;
  status->position = durable_;
  status->applied = applied_;
  status->used = used_;
  status->source_position = std::max(server_end_, received_);
  status->lag_bytes = static_cast<int64_t>(status->source_position.value -
                                           std::min(durable_, status->source_position).value);
  const bool caught_up =
      durable_ >= received_ && segment_.empty() && in_flight_.empty() && at_hand_empty_;
  if (caught_up) {
    status->lag_seconds = 0;
  } else if (const UnixMicros oldest =
                 commit_times_.empty() ? commit_time_ : commit_times_.front().second;
             oldest != 0) {
    // The age of what waits, not of what was stored last: after an hour of silence a new commit is
    // not an hour late.
    status->lag_seconds = std::max(0.0, static_cast<double>(clock_.WallNow() - oldest) / 1e6);
  }
  status->retained_bytes = retained_bytes_;
  status->at = clock_.WallNow();
  for (TableId id : tables_.ids()) {
    const TableRuntime& table = tables_.at(id);
    if (Replaced(table)) continue;
    TableStatus row;
    row.name = table.schema == nullptr ? std::to_string(id.oid) : table.schema->QualifiedName();
    row.phase = table.phase;
    row.changes = table.changes;
    row.rows = table.rows;
    row.nulled = table.AllNulled();
    row.rows_merged = table.rows_merged;
    row.id = id;
    row.rules = table.schema != nullptr && HasRules(*table.schema);
    row.error = table.note;
    if (!table.stop_code.empty()) row.error = table.stop_code + ": " + row.error;
    if (table.copy) {
      status->phase = PipelinePhase::kCopying;
      row.rows = table.copy->rows_read();
      row.rows_total = std::max(table.copy->rows_estimate(), table.copy->rows_read());
      if (table.copy->waiting_for().empty()) row.error.clear();
    } else if (table.phase == TablePhase::kStopped) {
      if (!status->error.empty()) status->error += "; ";
      status->error += row.name + " stopped: " + row.error;
    }
    status->changes += table.changes;
    status->tables.push_back(std::move(row));
  }
  board_->status.Store(std::move(status));
  // What the last look changed may stand at a position that is stored already.
  const bool reached = target_.valid() && durable_ >= target_ && applied_ >= target_ &&
                       AllSettled() && !look_open_ && taken_ >= look_delivery_;
  if (reached != board_->reached.exchange(reached)) board_->changed.Notify();
  const bool stored = segment_.empty() && !piece_open_ && in_flight_.empty() && durable_ >= handed_;
  const Lsn held = holding_ && stored && applied_ >= handed_ ? hold_at_ : Lsn{};
  if (held.value != board_->held_at.exchange(held.value)) board_->changed.Notify();
}

Instant Reader::NextDeadline(Instant now) const {
  Instant by = std::min({next_status_, next_publish_, next_poll_});
  if (MayRead()) by = std::min(by, stream_->LookAgainBy(now));
  // What cannot be handed over now waits for a reply or a command, not for a time.
  const bool may_deliver = CanDeliver() && segments_in_flight_ < kSegmentsInFlight;
  if (received_ > handed_ && !holding_ && may_deliver)
    by = std::min(by, std::max(next_idle_store_, now + std::chrono::milliseconds(1)));
  if (!segment_.empty() && segment_.first_commit() != kNever && may_deliver) {
    by = std::min(by, std::max(segment_.first_commit() + options_.max_delay,
                               now + std::chrono::milliseconds(1)));
  }
  if (durable_ > reported_) by = std::min(by, now + std::chrono::milliseconds(10));
  const bool busy = target_ > durable_ || !found_.empty() || !AllSettled() || hold_at_.valid();
  if (busy) by = std::min(by, now + std::chrono::milliseconds(20));
  return std::max(by, now + std::chrono::microseconds(1));
}

}  // namespace etl
