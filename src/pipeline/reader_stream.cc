// The reader's part that understands messages of the stream.
#include <utility>

#include "apply/schema_step.h"
#include "base/log.h"
#include "pipeline/reader.h"

namespace etl {

Status Reader::OnFrame(std::string_view bytes, Instant now) {
  ETL_ASSIGN_OR_RETURN(const ReplicationFrame frame, ParseReplicationFrame(bytes));
  if (!frame.keepalive) {
    ++frame_number_;
    return open_.in_block() ? OnStreamMessage(frame.payload) : OnMessage(frame.payload, now);
  }
  server_end_ = std::max(server_end_, frame.wal_end);
  if (frame.reply_requested) reply_wanted_ = true;
  // Inside a transaction its commit lies beyond walEnd; the boundary is taken at its end instead.
  // One that is streamed while it is open is no part of this: its commit has not been sent.
  if (!in_transaction_ && frame.wal_end > received_) {
    received_ = frame.wal_end;
    last_wal_moved_ = now;
    if (hold_at_.valid() && received_ >= hold_at_) holding_ = true;
  }
  return Status::OK();
}

Status Reader::OnMessage(std::string_view payload, Instant now) {
  ETL_RETURN_IF_ERROR(DecodeMessage(payload, /*in_stream_block=*/false, &message_));
  switch (message_.type) {
    case MessageType::kInsert:
    case MessageType::kUpdate:
    case MessageType::kDelete: return OnRow();
    case MessageType::kBegin:
      if (hold_at_.valid() && message_.lsn >= hold_at_) {
        stalled_ = payload;
        holding_ = true;
        return Status::OK();
      }
      ETL_RETURN_IF_ERROR(LetWaitingGoFirst(now));
      return BeginTransaction();
    case MessageType::kCommit:
      if (message_.lsn != commit_lsn_) {
        return MakeError(ErrorKind::kInternal, "ETL-X003", "a commit does not fit its transaction");
      }
      return EndTransaction(message_.end_lsn, now);
    case MessageType::kStreamStart:
      if (in_transaction_) break;
      return open_.OpenBlock(message_.xid, message_.first_segment);
    case MessageType::kStreamAbort: open_.Abort(message_.xid, message_.subxid); return Status::OK();
    case MessageType::kStreamCommit: return OnStreamCommit(payload, now);
    case MessageType::kRelation: return OnRelation(payload);
    case MessageType::kTruncate: return OnTruncate();
    case MessageType::kType:
    case MessageType::kOrigin:
    case MessageType::kLogical: return Status::OK();
    default: break;
  }
  return MakeError(ErrorKind::kInternal, "ETL-X003",
                   std::string("the server sent a message that was not asked for: '") +
                       static_cast<char>(message_.type) + "'");
}

// Inside a block of a transaction that is still open. Its messages are kept as they are.
Status Reader::OnStreamMessage(std::string_view payload) {
  if (payload == "E") return open_.CloseBlock();
  return open_.Add(payload, frame_number_);
}

// From here on the transaction is one like any other: its messages go through OnMessage one by one,
// before the stream goes on, at the position of its commit.
Status Reader::OnStreamCommit(std::string_view payload, Instant now) {
  if (hold_at_.valid() && message_.lsn >= hold_at_) {
    stalled_ = payload;
    holding_ = true;
    return Status::OK();
  }
  ETL_RETURN_IF_ERROR(LetWaitingGoFirst(now));
  ETL_ASSIGN_OR_RETURN(replay_, open_.Commit(message_.xid));
  replay_end_ = message_.end_lsn;
  return BeginTransaction();
}

Status Reader::ReplayNext(Instant now) {
  ETL_ASSIGN_OR_RETURN(const std::optional<std::string_view> message, replay_->Next());
  if (message) {
    unlooked_bytes_ += static_cast<int64_t>(message->size());
    return OnMessage(*message, now);
  }
  if (!replay_->at_end()) return Status::OK();
  if (!newer_relations_.empty()) {
    const SeenRelation newer = newer_relations_.extract(newer_relations_.begin()).mapped();
    restored_number_ = newer.number;
    return OnMessage(newer.message, now);
  }
  replay_.reset();
  return EndTransaction(replay_end_, now);
}

// Transactions that wait since a while go first, so that a large one does not hold them up.
Status Reader::LetWaitingGoFirst(Instant now) {
  const bool waiting = segment_.first_commit() != kNever &&
                       now - segment_.first_commit() > std::chrono::milliseconds(1);
  return segments_in_flight_ == 0 && waiting ? HandOver(now) : Status::OK();
}

Status Reader::BeginTransaction() {
  if (in_transaction_)
    return MakeError(ErrorKind::kInternal, "ETL-X003", "a transaction begins inside another");
  in_transaction_ = true;
  commit_lsn_ = message_.lsn;
  commit_time_ = message_.time;
  xid_ = message_.xid;
  change_index_ = 0;
  ++transaction_serial_;
  // The server sends again what it does not know to be confirmed; what is stored is dropped
  // (rule 2.3).
  skip_transaction_ = commit_lsn_ < start_;
  return Status::OK();
}

Status Reader::EndTransaction(Lsn end, Instant now) {
  if (!in_transaction_) {
    return MakeError(ErrorKind::kInternal, "ETL-X003", "a transaction ends that has not begun");
  }
  in_transaction_ = false;
  received_ = std::max(received_, end);
  server_end_ = std::max(server_end_, received_);
  last_wal_moved_ = now;
  if (!skip_transaction_ && change_index_ > 0) segment_.OnCommit(commit_time_, now);
  return Status::OK();
}

Status Reader::BatcherFor(TableRuntime& table) {
  ETL_ASSIGN_OR_RETURN(table.batcher, TableBatcher::Make(table.schema, &options_.batch));
  table.begun_transaction = 0;
  return Status::OK();
}

Status Reader::OnRow() {
  if (!in_transaction_)
    return MakeError(ErrorKind::kInternal, "ETL-X003", "a row stands outside a transaction");
  const uint64_t ordinal = 2 * change_index_++;
  TableRuntime* table = tables_.Find(message_.table);
  if (table == nullptr || table->ignore_rows || skip_transaction_) return Status::OK();
  if (!table->relation_fits) {
    // Its copy began with what the catalog showed, and the catalog was behind the stream: with
    // synchronous replication a change is decoded before it is visible.
    return AbandonTable(message_.table, *table, "the system catalog was behind the stream");
  }
  if (table->batcher == nullptr) ETL_RETURN_IF_ERROR(BatcherFor(*table));
  if (table->begun_transaction != transaction_serial_) {
    table->batcher->Begin(commit_lsn_, commit_time_, xid_);
    table->begun_transaction = transaction_serial_;
  }
  segment_.OnRow(*table);
  Status status;
  switch (message_.type) {
    case MessageType::kInsert:
      ++table->rows;
      status = table->batcher->Insert(message_.cells, ordinal);
      break;
    case MessageType::kUpdate:
      status =
          table->batcher->Update(message_.old_kind, message_.old_cells, message_.cells, ordinal);
      break;
    default:
      --table->rows;
      status = table->batcher->Delete(message_.old_kind, message_.old_cells, ordinal);
      break;
  }
  if (status.ok()) [[likely]]
    return status;
  if (!UnfitValue(*table, status)) return status;
  segment_.Drop(*table);
  return AbandonTable(message_.table, *table, "a composite type changed");
}

Status Reader::OnTruncate() {
  const uint64_t ordinal = 2 * change_index_++;
  if (skip_transaction_) return Status::OK();
  for (TableId id : message_.tables) {
    TableRuntime* table = tables_.Find(id);
    if (table == nullptr || table->ignore_rows) continue;
    ++table->changes;
    table->rows = 0;
    ETL_RETURN_IF_ERROR(segment_.Add(*table, TruncateChange{.schema = table->schema,
                                                            .at = {commit_lsn_, ordinal},
                                                            .commit_time = commit_time_,
                                                            .xid = xid_}));
  }
  return Status::OK();
}

// A transaction that was open for long may bring a Relation message that another one has overtaken
// (a change of the publication's columns waits for no writer). The server does not send the newer
// one again: it is put back when the transaction has ended.
void Reader::RememberRelation(std::string_view payload) {
  const uint64_t number = replay_ == nullptr  ? frame_number_
                          : replay_->at_end() ? restored_number_
                                              : replay_->relation_number();
  SeenRelation& last = relations_[message_.table];
  if (last.number > number) newer_relations_.try_emplace(message_.table, last);
  const auto newer = newer_relations_.find(message_.table);
  if (newer != newer_relations_.end() && newer->second.number <= number)
    newer_relations_.erase(newer);
  last = {.message = std::string(payload), .number = number};
}

// A Relation message says how rows from here on look. One that differs from what is stored is
// explained with the system catalog, and reading waits for its answer.
Status Reader::OnRelation(std::string_view payload) {
  // Remembered in any case: it is not sent again for rows that do count.
  RememberRelation(payload);
  TableRuntime* table = tables_.Find(message_.table);
  if (table == nullptr) {
    poll_wanted_ = true;
    return Status::OK();
  }
  if (table->ignore_rows || skip_transaction_) {
    table->relation_fits = table->schema != nullptr && RelationMatches(message_, *table->schema);
    return Status::OK();
  }
  table->relation_fits = true;
  if (RelationMatches(message_, *table->schema)) {
    if (table->relation_seen) poll_wanted_ = true;
    table->relation_seen = true;
    return Status::OK();
  }
  if (!stall_answered_) {
    stalled_ = payload;
    stalled_for_tables_ = true;
    ++tables_asked_;
    catalog_->Ask(TablesQuery{});
    return Status::OK();
  }
  const TableFacts* facts = nullptr;
  // Older answers do not know of this message's change yet.
  while (found_.size() > 1) found_.pop_front();
  for (const TableFacts& candidate : found_.front().tables) {
    if (candidate.id == message_.table) facts = &candidate;
  }
  const TableId id = message_.table;
  table->relation_seen = true;
  const std::string name = std::string(message_.schema) + "." + std::string(message_.name);
  if (!TakeRules(*table, name)) return StopWithoutRules(id, *table, name);
  if (facts != nullptr) {
    const std::string reason = ReasonToCopy(*table, *facts);
    if (!reason.empty()) return AbandonTable(id, *table, reason);
  }
  Result<SchemaStep> step =
      StepForRelation(message_, *table->schema, facts, table->rules, table->fingerprint.attributes);
  if (!step.ok()) {
    if (KindOf(step.status()) != ErrorKind::kSchema) return step.status();
    const ErrorParts parts = PartsOf(step.status());
    return StopTable(id, *table, parts.code, parts.what);
  }
  return ApplyStep(id, *table, *step);
}

// Before rows come that only the server can print: the next life chooses the transport anew.
Status Reader::CheckTransport(const TableSchema& schema) const {
  if (!options_.binary) return Status::OK();
  for (const WireColumn& column : schema.wire) {
    if (column.output < 0 || BinaryUnderstood(*column.type)) continue;
    return MakeError(ErrorKind::kTransient, "ETL-S127",
                     "the transport changes to text, for column \"" + column.name + "\" (" +
                         column.type->name + ") of " + schema.QualifiedName());
  }
  return Status::OK();
}

Status Reader::ApplyStep(TableId id, TableRuntime& table, const SchemaStep& step) {
  switch (step.kind) {
    case SchemaStep::Kind::kSame: return Status::OK();
    case SchemaStep::Kind::kCopy: return AbandonTable(id, table, step.reason);
    case SchemaStep::Kind::kChange: break;
  }
  if (table.copy) return AbandonTable(id, table, "its columns changed while it was copied");
  ETL_RETURN_IF_ERROR(CheckTransport(*step.to));
  LogInfo("schema change", {{"pipeline", options_.pipeline},
                            {"table", table.schema->QualifiedName()},
                            {"version", step.to->version},
                            {"oid", id.oid}});
  ETL_RETURN_IF_ERROR(
      segment_.Add(table, SchemaChange{.from = table.schema, .to = step.to, .fill = step.fill}));
  table.schema = step.to;
  table.DropBatcher();
  return Status::OK();
}

}  // namespace etl
