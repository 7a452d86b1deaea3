#include "sim/model_source.h"

#include <algorithm>

#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <fmt/format.h>

#include "base/check.h"
#include "sim/cell_text.h"

namespace etl {
namespace {

// Big-endian fields, as the server writes them.
class Bytes {
 public:
  Bytes& U8(uint8_t v) { return Put(v, 1); }
  Bytes& U16(uint16_t v) { return Put(v, 2); }
  Bytes& U32(uint32_t v) { return Put(v, 4); }
  Bytes& U64(uint64_t v) { return Put(v, 8); }
  Bytes& Text(std::string_view text) {
    bytes_.append(text);
    bytes_.push_back('\0');
    return *this;
  }
  Bytes& Raw(std::string_view text) {
    bytes_.append(text);
    return *this;
  }
  std::string Take() { return std::move(bytes_); }

 private:
  Bytes& Put(uint64_t v, int size) {
    for (int i = size - 1; i >= 0; --i) bytes_.push_back(static_cast<char>(v >> (8 * i)));
    return *this;
  }
  std::string bytes_;
};

constexpr int64_t kPostgresEpoch = 946'684'800'000'000;

uint64_t ServerTime(UnixMicros time) { return static_cast<uint64_t>(time - kPostgresEpoch); }

void PutTuple(Bytes& out, const ModelTableState& state, const Row& row,
              const std::set<int16_t>& unsent, bool key_only) {
  out.U16(static_cast<uint16_t>(state.columns.size()));
  for (const ModelColumn& column : state.columns) {
    const Value& value = row.at(column.attnum);
    if (key_only && !state.IsKey(column.attnum)) {
      out.U8('n');
    } else if (unsent.contains(column.attnum)) {
      out.U8('u');
    } else if (!value) {
      out.U8('n');
    } else {
      out.U8('t').U32(static_cast<uint32_t>(value->size())).Raw(*value);
    }
  }
}

void CopyField(std::string& out, const Value& value) {
  if (!value) {
    out += "\\N";
    return;
  }
  for (char c : *value) {
    switch (c) {
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default: out += c;
    }
  }
}

Status Lost(std::string_view what) {
  return MakeError(ErrorKind::kTransient, "ETL-S204",
                   std::string(what) + ": connection lost (simulated)");
}

}  // namespace

Duration SimSource::Delay() const {
  if (!disturb) return std::chrono::microseconds(200);
  if (random->OneIn(20)) return std::chrono::milliseconds(random->Below(15000));
  if (random->OneIn(3)) return std::chrono::milliseconds(random->Below(200));
  return std::chrono::microseconds(1 + random->Below(1000));
}

// The stream.

ModelWalStream::ModelWalStream(SimSource* source, Lsn start) : source_(source) {
  // A start below the confirmed position is moved up to it. Now and then the server sends more than
  // it was asked for.
  start_ = std::max(start, source->postgres->confirmed);
  if (source->disturb && source->random->OneIn(4)) start_ = source->postgres->confirmed;
  position_ = start_;
  const std::vector<TxnPtr>& all = source->postgres->committed();
  while (next_txn_ < all.size() && all[next_txn_]->commit_lsn < start_) ++next_txn_;
  Keepalive(false);
}

void ModelWalStream::Keepalive(bool reply) {
  last_keepalive_ = position_;
  Bytes out;
  out.U8('k').U64(position_.value).U64(ServerTime(source_->clock->WallNow())).U8(reply ? 1 : 0);
  frames_.push_back(out.Take());
}

void ModelWalStream::Push(const std::string& payload, Lsn end) {
  Bytes out;
  out.U8('w').U64(end.value).U64(end.value).U64(ServerTime(source_->clock->WallNow())).Raw(payload);
  frames_.push_back(out.Take());
}

namespace {

std::string RelationMessage(uint32_t oid, const ModelTableState& state) {
  Bytes out;
  out.U8('R').U32(oid).Text(state.schema).Text(state.name);
  out.U8(static_cast<uint8_t>(state.replica_identity));
  out.U16(static_cast<uint16_t>(state.columns.size()));
  for (const ModelColumn& column : state.columns) {
    const bool flagged = state.replica_identity == 'f' ||
                         (state.replica_identity != 'n' && state.IsKey(column.attnum));
    out.U8(flagged ? 1 : 0).Text(column.name).U32(column.type_oid);
    out.U32(static_cast<uint32_t>(column.typmod));
  }
  return out.Take();
}

std::string ChangeMessage(const WireChange& change, Lsn lsn) {
  Bytes out;
  switch (change.kind) {
    case 'I':
      out.U8('I').U32(change.oid).U8('N');
      PutTuple(out, *change.relation, change.new_row, {}, false);
      break;
    case 'U': {
      const ModelTableState& state = *change.relation;
      out.U8('U').U32(change.oid);
      const bool moved = std::any_of(state.key.begin(), state.key.end(), [&](int16_t attnum) {
        return change.old_row.at(attnum) != change.new_row.at(attnum);
      });
      if (state.replica_identity == 'f') {
        out.U8('O');
        PutTuple(out, state, change.old_row, {}, false);
      } else if (moved) {
        out.U8('K');
        PutTuple(out, state, change.old_row, {}, true);
      }
      out.U8('N');
      PutTuple(out, state, change.new_row, change.unsent, false);
      break;
    }
    case 'D': {
      const ModelTableState& state = *change.relation;
      out.U8('D').U32(change.oid).U8(state.replica_identity == 'f' ? 'O' : 'K');
      PutTuple(out, state, change.old_row, {}, state.replica_identity != 'f');
      break;
    }
    case 'T':
      out.U8('T').U32(static_cast<uint32_t>(change.truncated.size())).U8(0);
      for (const auto& [oid, state] : change.truncated) out.U32(oid);
      break;
    default: out.U8('M').U8(1).U64(lsn.value).Text("etl").U32(0); break;
  }
  return out.Take();
}

// Inside a streamed block the xid stands after the type.
std::string InBlock(std::string message, std::optional<uint32_t> subxid) {
  if (subxid) message.insert(1, Bytes().U32(*subxid).Take());
  return message;
}

}  // namespace

void ModelWalStream::ForgetWhat(const Txn& txn) {
  if (!source_->loses_published_changes) return;
  for (const auto& [oid, serial] : txn.forgets) forgotten_[oid] = serial;
}

bool ModelWalStream::Forgotten(uint32_t oid, const ModelTableState& state) {
  const auto found = forgotten_.find(oid);
  if (found == forgotten_.end()) return false;
  if (found->second == state.relation_serial) return true;
  forgotten_.erase(found);
  return false;
}

// A change, with the Relation messages that it needs first.
void ModelWalStream::Send(const WireChange& change, Lsn lsn,
                          std::map<uint32_t, uint64_t>& relations_sent,
                          std::optional<uint32_t> subxid) {
  if (change.relation != nullptr && Forgotten(change.oid, *change.relation)) return;
  if (change.kind == 'T' && !forgotten_.empty()) {
    WireChange seen = change;
    std::erase_if(seen.truncated,
                  [&](const auto& table) { return Forgotten(table.first, *table.second); });
    if (seen.truncated.size() < change.truncated.size()) {
      if (!seen.truncated.empty()) Send(seen, lsn, relations_sent, subxid);
      return;
    }
  }
  if (source_->disturb && source_->random->OneIn(12)) Keepalive(source_->random->OneIn(3));
  const auto relation = [&](uint32_t oid, const ModelTableState& state) {
    const auto sent = relations_sent.find(oid);
    if (sent != relations_sent.end() && sent->second == state.relation_serial) return;
    relations_sent[oid] = state.relation_serial;
    Push(InBlock(RelationMessage(oid, state), subxid), Lsn{});
  };
  if (change.relation != nullptr) relation(change.oid, *change.relation);
  for (const auto& [oid, state] : change.truncated) relation(oid, *state);
  Push(InBlock(ChangeMessage(change, lsn), subxid), lsn);
}

// Decodes the next transaction that is flushed whole, or sends a part of one that is still open.
void ModelWalStream::Decode() {
  const ModelPostgres& postgres = *source_->postgres;
  if (source_->stream_one_in != 0 && source_->stream_random->OneIn(source_->stream_one_in) &&
      StreamOpen()) {
    return;
  }
  if (next_txn_ >= postgres.committed().size() ||
      postgres.committed()[next_txn_]->end_lsn > postgres.flush()) {
    DecodeTo(postgres.flush());
    return;
  }
  const TxnPtr txn = postgres.committed()[next_txn_++];
  // Records before the commit record are decoded already; the commit itself is not.
  DecodeTo(txn->commit_lsn);
  if (streamed_.contains(txn->xid)) {
    StreamCommit(*txn);
  } else {
    DecodeWhole(*txn);
  }
  position_ = txn->end_lsn;
}

void ModelWalStream::DecodeWhole(const Txn& txn) {
  ForgetWhat(txn);
  if (txn.changes.empty()) return;
  Push(Bytes().U8('B').U64(txn.commit_lsn.value).U64(ServerTime(txn.time)).U32(txn.xid).Take(),
       txn.commit_lsn);
  for (const WireChange& change : txn.changes)
    Send(change, txn.commit_lsn, relations_sent_, std::nullopt);
  Push(Bytes()
           .U8('C')
           .U8(0)
           .U64(txn.commit_lsn.value)
           .U64(txn.end_lsn.value)
           .U64(ServerTime(txn.time))
           .Take(),
       txn.end_lsn);
}

// Meets the abort records on the way.
void ModelWalStream::DecodeTo(Lsn position) {
  position_ = std::max(position_, position);
  for (auto it = streamed_.begin(); it != streamed_.end();) {
    Streamed& streamed = it->second;
    const Txn& txn = *streamed.txn;
    for (const LoggedChange& logged : txn.log) {
      if (logged.undone.valid() && logged.undone <= position_ && logged.subxid != txn.xid &&
          streamed.subxids.erase(logged.subxid) > 0) {
        StreamAbort(streamed, logged.subxid);
      }
    }
    const bool gone = txn.aborted.valid() && txn.aborted <= position_;
    if (gone) StreamAbort(streamed, txn.xid);
    it = gone ? streamed_.erase(it) : std::next(it);
  }
}

void ModelWalStream::StreamAbort(Streamed& streamed, uint32_t subxid) {
  streamed.relations_sent.clear();
  if (subxid != streamed.txn->xid && source_->hide_subtransaction_aborts) return;
  Push(Bytes().U8('A').U32(streamed.txn->xid).U32(subxid).Take(), position_);
}

// Sends what has been decoded of some transaction that has not ended there. False: there is none.
bool ModelWalStream::StreamOpen() {
  const ModelPostgres& postgres = *source_->postgres;
  Random& random = *source_->stream_random;
  Lsn limit = postgres.flush();
  if (next_txn_ < postgres.committed().size())
    limit = std::min(limit, postgres.committed()[next_txn_]->commit_lsn);
  if (limit < position_) return false;
  const Lsn position{position_.value + 8 * random.Below((limit.value - position_.value) / 8 + 1)};
  std::vector<TxnPtr> open;
  for (const TxnPtr& txn : postgres.begun()) {
    if (txn->log.empty() || (txn->commit_lsn.valid() && txn->commit_lsn < position) ||
        (txn->aborted.valid() && txn->aborted <= position))
      continue;
    const auto streamed = streamed_.find(txn->xid);
    const size_t next = streamed == streamed_.end() ? 0 : streamed->second.next;
    if (next < txn->log.size() && txn->log[next].lsn <= position) open.push_back(txn);
  }
  if (open.empty()) return false;
  DecodeTo(position);
  StreamBlock(open[random.Below(open.size())]);
  return true;
}

void ModelWalStream::StreamBlock(const TxnPtr& txn) {
  Random& random = *source_->stream_random;
  const bool first = !streamed_.contains(txn->xid);
  Streamed& streamed = streamed_[txn->xid];
  streamed.txn = txn;
  ForgetWhat(*txn);
  Push(Bytes().U8('S').U32(txn->xid).U8(first ? 1 : 0).Take(), position_);
  for (; streamed.next < txn->log.size(); ++streamed.next) {
    const LoggedChange& logged = txn->log[streamed.next];
    if (logged.lsn > position_) break;
    // Rolled back before it was to be sent.
    if (logged.undone.valid() && logged.undone <= position_) continue;
    // The server notices that it has been rolled back meanwhile, and sends no more of it.
    if (txn->aborted.valid() && random.OneIn(3)) {
      streamed.next = txn->log.size();
      break;
    }
    if (random.OneIn(20))
      Push(InBlock(ChangeMessage({.kind = 'M'}, position_), txn->xid), position_);
    streamed.subxids.insert(logged.subxid);
    Send(logged.change, logged.lsn, streamed.relations_sent, logged.subxid);
  }
  Push("E", position_);
}

void ModelWalStream::StreamCommit(const Txn& txn) {
  const Streamed& streamed = streamed_.at(txn.xid);
  if (streamed.next < txn.log.size()) StreamBlock(streamed.txn);
  // From now on the others need not be told either.
  for (const auto& [oid, serial] : streamed.relations_sent)
    relations_sent_[oid] = std::max(relations_sent_[oid], serial);
  streamed_.erase(txn.xid);
  Push(Bytes()
           .U8('c')
           .U32(txn.xid)
           .U8(0)
           .U64(txn.commit_lsn.value)
           .U64(txn.end_lsn.value)
           .U64(ServerTime(txn.time))
           .Take(),
       txn.end_lsn);
}

Result<std::optional<std::string_view>> ModelWalStream::Next(Instant now) {
  if (stalled_until_ != kNever && now < stalled_until_) return std::nullopt;
  stalled_until_ = kNever;
  if (source_->disturb) {
    if (source_->Fails()) return Lost("stream");
    if (source_->random->OneIn(40)) {
      stalled_until_ = now + source_->Delay();
      return std::nullopt;
    }
  }
  if (frames_.empty()) {
    Decode();
    if (frames_.empty() && position_ > last_keepalive_ && source_->spontaneous_keepalives &&
        (!source_->disturb || source_->random->OneIn(8))) {
      Keepalive(source_->disturb && source_->random->OneIn(4));
    }
  }
  if (frames_.empty()) return std::nullopt;
  current_ = std::move(frames_.front());
  frames_.pop_front();
  return std::optional<std::string_view>(current_);
}

Status ModelWalStream::SendStatus(Lsn received, Lsn flushed, bool request_reply) {
  if (source_->Fails()) return Lost("stream");
  source_->on_status(received, flushed);
  if (flushed > source_->postgres->confirmed) source_->postgres->confirmed = flushed;
  if (source_->random->OneIn(6)) source_->postgres->persisted = source_->postgres->confirmed;
  if (request_reply) Keepalive(false);
  return Status::OK();
}

// The system catalog.

void ModelCatalog::Ask(CatalogQuery query) {
  Question question{
      .query = std::move(query), .at = source_->clock->Now() + source_->Delay(), .answer = {}};
  if (!questions_.empty()) question.at = std::max(question.at, questions_.back().at);
  if (source_->trace) {
    constexpr const char* kNames[] = {"tables",  "lock holders", "chunk plan", "running xids",
                                      "publish", "emit message", "positions"};
    source_->trace(fmt::format("asked for {}", kNames[question.query.index()]));
  }
  // The server may answer at once and the answer travel, or the question may.
  if (source_->random->OneIn(2)) question.answer = Answer(question.query);
  questions_.push_back(std::move(question));
}

Result<std::optional<CatalogAnswer>> ModelCatalog::Poll(Instant now) {
  if (questions_.empty() || now < questions_.front().at) return std::nullopt;
  if (source_->Fails()) return Lost("system catalog");
  Question question = std::move(questions_.front());
  questions_.pop_front();
  if (!question.answer) question.answer = Answer(question.query);
  return question.answer;
}

CatalogAnswer ModelCatalog::Answer(const CatalogQuery& query) {
  ModelPostgres& postgres = *source_->postgres;
  if (std::holds_alternative<TablesQuery>(query)) {
    TablesAnswer answer;
    answer.wal_insert = postgres.insert();
    for (uint32_t oid : postgres.oids()) {
      const ModelTableStatePtr state = postgres.VisibleState(oid);
      if (state != nullptr && state->published())
        answer.tables.push_back(postgres.Facts(oid, *state));
    }
    return answer;
  }
  if (const auto* locks = std::get_if<LockHoldersQuery>(&query)) {
    LockHoldersAnswer answer;
    for (const auto& [xid, txn] : postgres.active()) {
      const bool holds = std::any_of(locks->tables.begin(), locks->tables.end(),
                                     [&](TableId id) { return txn->write_locks.contains(id.oid); });
      if (holds)
        answer.holders.push_back({.id = fmt::format("t{}", xid), .description = "a client"});
    }
    return answer;
  }
  if (const auto* plan = std::get_if<ChunkPlanQuery>(&query)) {
    ChunkPlanAnswer answer{.table = plan->table, .chunks = {}};
    const ModelTableStatePtr state = postgres.VisibleState(plan->table.oid);
    if (state == nullptr) return answer;
    const LeafFacts leaf = postgres.Facts(plan->table.oid, *state).leaves.front();
    const auto blocks = static_cast<uint32_t>(leaf.blocks);
    const auto step = static_cast<uint32_t>(1 + source_->random->Below(3));
    for (uint32_t block = 0; block == 0 || block < blocks; block += step) {
      Chunk chunk;
      chunk.number = static_cast<uint32_t>(answer.chunks.size());
      chunk.leaf = plan->table;
      chunk.leaf_schema = leaf.schema;
      chunk.leaf_name = leaf.name;
      chunk.file_node = leaf.file_node;
      chunk.first_block = block;
      if (block + step < blocks) chunk.end_block = block + step;
      answer.chunks.push_back(std::move(chunk));
    }
    return answer;
  }
  if (const auto* xids = std::get_if<RunningXidsQuery>(&query)) {
    RunningXidsAnswer answer;
    for (uint32_t xid : xids->xids) {
      if (!postgres.Visible(xid)) answer.running.push_back(xid);
    }
    return answer;
  }
  if (std::holds_alternative<PublishQuery>(query)) return PublishAnswer{};
  if (const auto* emit = std::get_if<EmitMessageQuery>(&query)) {
    postgres.EmitMessage(emit->transactional);
    return EmitMessageAnswer{.allowed = true};
  }
  return PositionsAnswer{
      .insert = postgres.insert(), .flush = postgres.flush(), .retained_bytes = 0};
}

// Chunks.

Status ModelChunkReader::Begin(const ReadSpec& spec) {
  ETL_CHECK(!spec_);
  if (source_->trace) {
    source_->trace(fmt::format("reads chunk {} of {}{}{}", spec.chunk.number,
                               spec.schema->QualifiedName(), spec.under_slot ? " under a slot" : "",
                               spec.keys != nullptr ? " by key" : ""));
  }
  spec_ = spec;
  waits_for_.reset();
  read_ = false;
  bytes_.clear();
  at_ = 0;
  high_.reset();
  stalled_until_ = source_->clock->Now() + source_->Delay();
  if (source_->disturb && source_->slow_copies)
    stalled_until_ += std::chrono::milliseconds(source_->random->Below(8000));
  return Status::OK();
}

void ModelChunkReader::Unlock() {
  if (locked_) --source_->postgres->table(spec_->schema->id.oid).share_locks;
  locked_ = false;
}

void ModelChunkReader::Cancel() {
  Unlock();
  spec_.reset();
  stalled_until_ = kNever;
}

// BEGIN, LOCK TABLE … IN ACCESS SHARE MODE, the snapshot and the COPY, at one moment. False: waits.
bool ModelChunkReader::Snapshot(ReadEvent* event, Status* error) {
  ModelPostgres& postgres = *source_->postgres;
  const uint32_t oid = spec_->schema->id.oid;
  std::function<bool(uint32_t)> visible = [&](uint32_t xid) { return postgres.Visible(xid); };
  if (spec_->under_slot) {
    if (!waits_for_) {
      waits_for_.emplace();
      for (const auto& [xid, txn] : postgres.active()) waits_for_->insert(xid);
    }
    for (uint32_t xid : *waits_for_) {
      if (!postgres.Visible(xid)) return false;
    }
    // The snapshot of a slot shows what is committed before its consistent point, visible to others
    // or not.
    visible = [&](uint32_t xid) { return postgres.Committed(xid); };
  }
  if (postgres.ExclusivelyLocked(oid)) return false;
  const ModelTableStatePtr state = postgres.VisibleState(oid);
  if (state == nullptr || (spec_->keys == nullptr && spec_->chunk.file_node != state->file_node)) {
    event->kind = ReadEvent::Kind::kMoved;
    event->high = postgres.insert();
    return true;
  }
  std::vector<int16_t> attnums;
  for (const WireColumn& wire : spec_->schema->wire) {
    const ModelColumn* column = nullptr;
    for (const ModelColumn& candidate : state->columns) {
      if (candidate.name == wire.name) column = &candidate;
    }
    if (column == nullptr || column->type_oid != wire.type_oid) {
      // The statement fails, or the types are not as planned.
      event->kind = ReadEvent::Kind::kMoved;
      event->high = postgres.insert();
      return true;
    }
    attnums.push_back(column->attnum);
  }
  std::set<std::vector<std::string>> keys;
  if (spec_->keys != nullptr) {
    for (int64_t row = 0; row < spec_->keys->num_rows(); ++row) {
      std::vector<std::string> key;
      for (int c = 0; c < spec_->keys->num_columns(); ++c)
        key.push_back(*CellText(*spec_->keys->column(c), row));
      keys.insert(std::move(key));
    }
  }
  for (const auto& [block, row] : postgres.Rows(oid, *state, visible)) {
    if (spec_->keys != nullptr) {
      std::vector<std::string> key;
      for (int index : spec_->schema->key)
        key.push_back(*row.at(spec_->schema->columns[static_cast<size_t>(index)].attnum));
      if (!keys.contains(key)) continue;
    } else if (!spec_->under_slot &&
               (block < spec_->chunk.first_block ||
                (spec_->chunk.end_block && block >= *spec_->chunk.end_block))) {
      continue;
    }
    for (size_t i = 0; i < attnums.size(); ++i) {
      if (i > 0) bytes_ += '\t';
      CopyField(bytes_, row.at(attnums[i]));
    }
    bytes_ += '\n';
  }
  if (spec_->under_slot) high_ = postgres.insert();
  locked_ = true;
  ++postgres.table(oid).share_locks;
  read_ = true;
  (void)error;
  return true;
}

Result<ReadEvent> ModelChunkReader::Next(Instant now) {
  ETL_CHECK(spec_);
  ReadEvent event;
  if (stalled_until_ != kNever && now < stalled_until_) return event;
  stalled_until_ = kNever;
  if (source_->Fails()) return Lost("chunk");
  if (!read_) {
    Status error;
    if (!Snapshot(&event, &error)) return event;
    if (event.kind == ReadEvent::Kind::kMoved) {
      if (source_->trace) source_->trace("moved");
      Cancel();
      return event;
    }
    stalled_until_ = now + source_->Delay();
    if (source_->disturb && source_->slow_copies)
      stalled_until_ += std::chrono::milliseconds(source_->random->Below(8000));
    return event;
  }
  if (at_ < bytes_.size()) {
    const size_t size = std::min<size_t>(bytes_.size() - at_, 1 + source_->random->Below(60));
    piece_ = bytes_.substr(at_, size);
    at_ += size;
    event.kind = ReadEvent::Kind::kData;
    event.data = piece_;
    if (source_->disturb && source_->random->OneIn(10)) stalled_until_ = now + source_->Delay();
    return event;
  }
  if (!high_) {
    high_ = source_->postgres->insert();
    stalled_until_ = now + source_->Delay();
    Unlock();
    return event;
  }
  Unlock();
  if (source_->postgres->flush() < *high_) return event;
  event.kind = ReadEvent::Kind::kDone;
  if (source_->trace) {
    source_->trace(fmt::format("has read chunk {} of {}, H = {}", spec_->chunk.number,
                               spec_->schema->QualifiedName(), FormatLsn(*high_)));
  }
  event.high = *high_;
  spec_.reset();
  return event;
}

}  // namespace etl
