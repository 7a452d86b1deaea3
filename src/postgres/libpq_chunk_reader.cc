#include "postgres/libpq_chunk_reader.h"

#include <algorithm>

#include <arrow/api.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <libpq-fe.h>
#include <sys/socket.h>
#include <unistd.h>

#include "postgres/key_literal.h"
#include "postgres/server_error.h"
#include "postgres/table_query.h"
#include "postgres/wal_position.h"

namespace etl {
namespace {

// Rows are handed on in pieces of about this size, not one by one.
constexpr size_t kPieceBytes = 64 * 1024;
constexpr int kMaxLocateAttempts = 3;

// While rows come in plenty, the socket wakes us only for so many bytes, else it is looked at after
// a pause. Woken for each packet of a server on this machine, we would be put on the processor that
// the server runs on, and take turns with it.
constexpr int kCopyGatherBytes = 512 * 1024;
constexpr int64_t kPlentyBytes = 32 * 1024;
constexpr Duration kNap = std::chrono::milliseconds(1);
// A Unix socket cannot be told, and holds little.
constexpr Duration kUnixNap = std::chrono::microseconds(300);

// Columns of the facts query.
enum FactsColumn { kHigh, kSegmentSize, kFileNode, kAttnum, kName, kSameType, kTypeName };

bool ReadsBinary(const TableSchema& schema) {
  return std::all_of(schema.wire.begin(), schema.wire.end(), [&](const WireColumn& column) {
    // A hash is made of the server's own text.
    const bool hashed =
        column.output >= 0 && schema.columns[static_cast<size_t>(column.output)].hashed;
    return !hashed && BinaryUnderstood(*column.type);
  });
}

/// The relation, a column or a type that the statement names is not there (any more).
bool IsGone(const std::string& sqlstate) {
  return sqlstate == "42P01" || sqlstate == "3F000" || sqlstate == "42703" || sqlstate == "42704" ||
         sqlstate == "42883";
}

bool OverTcp(PGconn* handle) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  const int got = getsockname(PQsocket(handle), reinterpret_cast<sockaddr*>(&address), &length);
  return got == 0 && (address.ss_family == AF_INET || address.ss_family == AF_INET6);
}

}  // namespace

Result<std::unique_ptr<LibpqChunkReader>> LibpqChunkReader::Make(const SourceOptions& source,
                                                                 ChunkReaderOptions options) {
  return std::unique_ptr<LibpqChunkReader>(new LibpqChunkReader(source, options));
}

LibpqChunkReader::~LibpqChunkReader() {
  if (frame_ != nullptr) PQfreemem(frame_);
}

std::string LibpqChunkReader::What() const { return "copy " + spec_.schema->QualifiedName(); }

TableId LibpqChunkReader::Target() const {
  return WholeTable() ? spec_.schema->id : spec_.chunk.leaf;
}

Status LibpqChunkReader::Begin(const ReadSpec& spec) {
  if (phase_ != Phase::kIdle) {
    return MakeError(ErrorKind::kInternal, "ETL-X001",
                     "a chunk was begun before the one before had ended");
  }
  spec_ = spec;
  binary_ = ReadsBinary(*spec.schema);
  locate_attempts_ = 0;
  flush_polls_ = 0;
  high_ = Lsn{};
  copying_ = false;
  if (connection_ != nullptr && (replication_ || spec.under_slot)) connection_.reset();
  remembered_ = connection_ != nullptr && located_ == Target();
  if (remembered_) return Lock();
  if (connection_ != nullptr) return Locate("");
  replication_ = spec.under_slot;
  wake_for_ = 1;
  connection_ = PgConnection::Start(
      source_, replication_ ? PgConnection::Mode::kReplication : PgConnection::Mode::kNormal);
  phase_ = Phase::kConnect;
  return Status::OK();
}

Status LibpqChunkReader::Enter(Phase phase, const std::string& sql) {
  phase_ = phase;
  results_.clear();
  return connection_->Send(sql);
}

Status LibpqChunkReader::Locate(std::string_view before) {
  ++locate_attempts_;
  remembered_ = false;
  high_ = Lsn{};
  return Enter(
      Phase::kLocate,
      fmt::format(
          "{}SELECT {}, {}, n.nspname, c.relname, c.relkind FROM (SELECT 1) one "
          "LEFT JOIN pg_class c ON c.oid = {} LEFT JOIN pg_namespace n ON n.oid = c.relnamespace",
          before, kInsertPositionSql, kSegmentSizeSql, Target().oid));
}

// LOCK takes no snapshot, the look at the table behind it does: a rewrite or truncate is wholly
// before or wholly after what is read (C4).
Status LibpqChunkReader::Lock() {
  std::string sql = fmt::format(
      "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE {}{} IN ACCESS SHARE MODE",
      partitioned_ ? "" : "ONLY ", QuoteTable(target_schema_, target_name_));
  if (spec_.under_slot) return Enter(Phase::kLock, sql);
  return Enter(Phase::kFacts, sql + "; " + FactsSql());
}

Result<ReadEvent> LibpqChunkReader::Next(Instant /*now*/) {
  if (phase_ == Phase::kIdle) return ReadEvent{};
  Result<ReadEvent> event = Step();
  if (!event.ok()) {
    // Whatever the session is in the middle of, it is of no more use.
    connection_.reset();
    phase_ = Phase::kIdle;
    return WithContext(event.status(), What());
  }
  event->binary = binary_;
  return event;
}

Result<ReadEvent> LibpqChunkReader::Step() {
  if (phase_ == Phase::kConnect) {
    ETL_ASSIGN_OR_RETURN(const bool ready, connection_->PollConnect());
    if (!ready) return ReadEvent{};
    tcp_ = OverTcp(connection_->handle());
    ETL_RETURN_IF_ERROR(Locate(""));
  }
  // Each round ends one phase and begins the next, as far as answers are at hand.
  while (true) {
    if (copying_) {
      ETL_ASSIGN_OR_RETURN(const ReadEvent event, ReadCopy());
      if (event.kind != ReadEvent::Kind::kNothing || copying_) return event;
    }
    ETL_ASSIGN_OR_RETURN(std::optional<PgResult> result, connection_->Poll());
    if (result) {
      copying_ = PQresultStatus(result->get()) == PGRES_COPY_OUT;
      if (!copying_) results_.push_back(std::move(*result));
      continue;
    }
    if (connection_->busy()) return ReadEvent{};
    if (results_.empty()) {
      return MakeError(ErrorKind::kTransient, "ETL-S204", "the server gave no answer");
    }
    ETL_ASSIGN_OR_RETURN(const ReadEvent event, OnResults());
    if (event.kind != ReadEvent::Kind::kNothing) return event;
  }
}

Result<ReadEvent> LibpqChunkReader::OnResults() {
  const PgResult& last = results_.back();
  const std::string failed = SqlState(last);
  switch (phase_) {
    case Phase::kLocate:
      ETL_RETURN_IF_ERROR(StatementStatus(last, "find the table"));
      return OnLocated(last);
    case Phase::kLock:
      if (IsGone(failed)) return OnLockFailed(last);
      ETL_RETURN_IF_ERROR(StatementStatus(last, "lock the table"));
      ETL_RETURN_IF_ERROR(
          Enter(Phase::kSlot, fmt::format("CREATE_REPLICATION_SLOT \"etl_copy_{}_{}\" TEMPORARY "
                                          "LOGICAL pgoutput USE_SNAPSHOT",
                                          getpid(), PQbackendPID(connection_->handle()))));
      return ReadEvent{};
    case Phase::kSlot:
      ETL_RETURN_IF_ERROR(StatementStatus(last, "take a snapshot under a temporary slot"));
      high_ = last.LsnAt(0, 1);
      ETL_RETURN_IF_ERROR(Enter(Phase::kFacts, FactsSql()));
      return ReadEvent{};
    case Phase::kFacts:
      if (!spec_.under_slot && !failed.empty() && (remembered_ || IsGone(failed)))
        return OnLockFailed(last);
      ETL_RETURN_IF_ERROR(StatementStatus(last, "lock the table and look at it"));
      return OnFacts(last);
    case Phase::kCopy:
      // A column of the filter or of the list was changed since the plan was made.
      if (IsGone(failed)) return Moved();
      ETL_RETURN_IF_ERROR(StatementStatus(last, "read rows"));
      ETL_RETURN_IF_ERROR(
          Enter(Phase::kCommit,
                fmt::format("COMMIT; SELECT {}, pg_is_in_recovery()", kFlushPositionSql)));
      return ReadEvent{};
    case Phase::kCommit:
    case Phase::kFlush: return OnFlush(last);
    case Phase::kRollback: return Finished(ReadEvent::Kind::kMoved);
    case Phase::kIdle:
    case Phase::kConnect: break;
  }
  return MakeError(ErrorKind::kInternal, "ETL-X001", "an answer without a question");
}

Result<ReadEvent> LibpqChunkReader::OnLocated(const PgResult& row) {
  high_ = NormaliseInsertLsn(row.LsnAt(0, 0), static_cast<uint64_t>(row.Int(0, 1)));
  if (row.Null(0, 3)) return Finished(ReadEvent::Kind::kMoved);
  target_schema_ = row.String(0, 2);
  target_name_ = row.String(0, 3);
  partitioned_ = row.Text(0, 4) == "p";
  located_ = Target();
  ETL_RETURN_IF_ERROR(Lock());
  return ReadEvent{};
}

Result<ReadEvent> LibpqChunkReader::OnLockFailed(const PgResult& failed) {
  // Renamed or dropped since it was located. The rest of this question's transaction is rolled
  // back.
  if (locate_attempts_ >= kMaxLocateAttempts) return StatementStatus(failed, "lock the table");
  ETL_RETURN_IF_ERROR(Locate("ROLLBACK; "));
  return ReadEvent{};
}

std::string LibpqChunkReader::FactsSql() const {
  std::vector<int> attnums;
  std::vector<uint32_t> types;
  std::vector<int32_t> typmods;
  for (const WireColumn& column : spec_.schema->wire) {
    attnums.push_back(column.attnum);
    types.push_back(column.type_oid);
    typmods.push_back(column.typmod);
  }
  // Columns keep their number when they are renamed; a partition's are found by the root's names.
  return fmt::format(
      "SELECT {0}, {1}, (SELECT {9} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
      "WHERE c.oid = {2} AND n.nspname = {3} AND c.relname = {4}), w.attnum, a.attname, "
      "a.atttypid = w.typ AND a.atttypmod = w.typmod, format_type(w.typ, w.typmod) "
      "FROM unnest(ARRAY[{5}]::int2[], ARRAY[{6}]::oid[], ARRAY[{7}]::int4[]) WITH ORDINALITY "
      "AS w(attnum, typ, typmod, n) "
      "LEFT JOIN pg_attribute r ON r.attrelid = {8} AND r.attnum = w.attnum AND NOT r.attisdropped "
      "LEFT JOIN pg_attribute a ON a.attrelid = {2} AND a.attnum > 0 AND NOT a.attisdropped "
      "AND a.attname = r.attname ORDER BY w.n",
      kInsertPositionSql, kSegmentSizeSql, Target().oid, QuoteLiteral(target_schema_),
      QuoteLiteral(target_name_), fmt::join(attnums, ","), fmt::join(types, ","),
      fmt::join(typmods, ","), spec_.schema->id.oid,
      partitioned_ && !WholeTable() ? LeavesFileNodeSql(Target()) : "c.relfilenode::bigint");
}

Result<ReadEvent> LibpqChunkReader::OnFacts(const PgResult& facts) {
  if (!spec_.under_slot) {
    high_ = NormaliseInsertLsn(facts.LsnAt(0, kHigh),
                               static_cast<uint64_t>(facts.Int(0, kSegmentSize)));
  }
  if (facts.Null(0, kFileNode)) {
    // Renamed between the look and the lock, or gone. A name that an earlier chunk found may be
    // older than the plan.
    if (!remembered_) return Moved();
    ETL_RETURN_IF_ERROR(Locate("ROLLBACK; "));
    return ReadEvent{};
  }
  if (!WholeTable() && facts.Oid(0, kFileNode) != spec_.chunk.file_node) return Moved();
  for (int i = 0; i < facts.rows(); ++i) {
    // A dropped column is no obstacle; one of another type is as good as another table.
    if (!facts.Null(i, kName) && !facts.Bool(i, kSameType)) return Moved();
  }
  ETL_ASSIGN_OR_RETURN(const std::string sql, CopySql(facts));
  ETL_RETURN_IF_ERROR(Enter(Phase::kCopy, sql));
  return ReadEvent{};
}

Result<std::string> LibpqChunkReader::CopySql(const PgResult& facts) const {
  std::string columns;
  for (int i = 0; i < facts.rows(); ++i) {
    if (i > 0) columns += ", ";
    columns +=
        facts.Null(i, kName) ? std::string("NULL::text") : QuoteIdentifier(facts.Text(i, kName));
  }
  std::vector<std::string> conditions;
  if (spec_.keys != nullptr) {
    ETL_ASSIGN_OR_RETURN(std::string condition, KeyCondition(facts));
    conditions.push_back(std::move(condition));
  } else if (!spec_.under_slot) {
    // A leaf that is read whole has no range: it may have no ctid to range over.
    const Chunk& chunk = spec_.chunk;
    if (chunk.first_block > 0)
      conditions.push_back(fmt::format("ctid >= '({},0)'::tid", chunk.first_block));
    if (chunk.end_block)
      conditions.push_back(fmt::format("ctid < '({},0)'::tid", *chunk.end_block));
  }
  if (!spec_.row_filter.empty()) conditions.push_back("(" + spec_.row_filter + ")");
  std::string sql = fmt::format("COPY (SELECT {} FROM {}{}", columns, partitioned_ ? "" : "ONLY ",
                                QuoteTable(target_schema_, target_name_));
  if (!conditions.empty()) sql += fmt::format(" WHERE {}", fmt::join(conditions, " AND "));
  return sql + (binary_ ? ") TO STDOUT (FORMAT binary)" : ") TO STDOUT");
}

Result<std::string> LibpqChunkReader::KeyCondition(const PgResult& facts) const {
  const TableSchema& schema = *spec_.schema;
  const int64_t rows = spec_.keys->num_rows();
  if (rows == 0 || schema.key.empty()) return std::string("false");
  std::string names;
  std::vector<std::string> types;
  for (int key : schema.key) {
    const int16_t attnum = schema.columns[static_cast<size_t>(key)].attnum;
    for (int i = 0; i < facts.rows(); ++i) {
      if (facts.Int(i, kAttnum) != attnum) continue;
      if (facts.Null(i, kName)) {
        return MakeError(ErrorKind::kSchema, "ETL-S111", "a key column is gone");
      }
      names += (names.empty() ? "" : ", ") + QuoteIdentifier(facts.Text(i, kName));
      types.push_back(facts.String(i, kTypeName));
    }
  }
  std::string values;
  for (int64_t row = 0; row < rows; ++row) {
    values += row == 0 ? "(" : ", (";
    for (size_t k = 0; k < types.size(); ++k) {
      ETL_ASSIGN_OR_RETURN(const std::string text,
                           KeyText(*spec_.keys->column(static_cast<int>(k)), row));
      if (k > 0) values += ", ";
      values += QuoteLiteral(text) + "::" + types[k];
    }
    values += ")";
  }
  return fmt::format("({}) IN (VALUES {})", names, values);
}

Result<ReadEvent> LibpqChunkReader::ReadCopy() {
  if (frame_ != nullptr) PQfreemem(frame_);
  frame_ = nullptr;
  buffer_.clear();
  PGconn* handle = connection_->handle();
  bool looked = false;
  while (buffer_.size() < kPieceBytes) {
    const int size = PQgetCopyData(handle, &frame_, 1);
    if (size > 0) {
      burst_bytes_ += size;
      const std::string_view piece(frame_, static_cast<size_t>(size));
      if (buffer_.empty() && piece.size() >= kPieceBytes) {
        return ReadEvent{
            .kind = ReadEvent::Kind::kData, .data = piece, .high = {}, .binary = binary_};
      }
      buffer_ += piece;
      PQfreemem(frame_);
      frame_ = nullptr;
      looked = false;
      continue;
    }
    if (size < -1) return MapConnectionLost(handle, "read rows");
    if (size == -1) {
      copying_ = false;  // the copy's own result follows, or an error
      WakeFor(1);
      break;
    }
    if (looked) break;
    if (PQconsumeInput(handle) != 1) return MapConnectionLost(handle, "read rows");
    looked = true;
  }
  if (buffer_.empty()) return ReadEvent{};
  return ReadEvent{.kind = ReadEvent::Kind::kData, .data = buffer_, .high = {}, .binary = binary_};
}

Result<ReadEvent> LibpqChunkReader::OnFlush(const PgResult& row) {
  if (phase_ == Phase::kCommit) {
    for (const PgResult& result : results_)
      ETL_RETURN_IF_ERROR(StatementStatus(result, "end the snapshot"));
  }
  // A message that may not be written is no error: then the server flushes by itself within
  // seconds.
  const bool failed = !SqlState(row).empty();
  if (!failed && row.columns() == 2 &&
      (row.Bool(0, 1) || spec_.under_slot || row.LsnAt(0, 0) >= high_)) {
    return Finished(ReadEvent::Kind::kDone);
  }
  ++flush_polls_;
  std::string sql;
  if (flush_polls_ % std::max(1, options_.polls_before_nudge) == 0) {
    sql = "SELECT pg_logical_emit_message(true, 'etl_stream', '')";
  } else {
    // The server does the waiting, so that its answer wakes whoever polls the socket.
    sql = fmt::format("SELECT pg_sleep(0.05); SELECT {}, pg_is_in_recovery()", kFlushPositionSql);
  }
  ETL_RETURN_IF_ERROR(Enter(Phase::kFlush, sql));
  return ReadEvent{};
}

Result<ReadEvent> LibpqChunkReader::Moved() {
  ETL_RETURN_IF_ERROR(Enter(Phase::kRollback, "ROLLBACK"));
  return ReadEvent{};
}

Result<ReadEvent> LibpqChunkReader::Finished(ReadEvent::Kind kind) {
  phase_ = Phase::kIdle;
  results_.clear();
  if (kind == ReadEvent::Kind::kMoved) located_.reset();
  // Ends the temporary slot and gives the WAL sender back.
  if (replication_) connection_.reset();
  return ReadEvent{.kind = kind, .data = {}, .high = high_, .binary = binary_};
}

void LibpqChunkReader::Cancel() {
  // A session that waits for a lock or for transactions to end does not notice that we hang up.
  if (phase_ == Phase::kLock || phase_ == Phase::kFacts || phase_ == Phase::kSlot)
    connection_->Cancel();
  connection_.reset();
  copying_ = false;
  phase_ = Phase::kIdle;
}

Instant LibpqChunkReader::LookAgainBy(Instant now) {
  if (!copying_) return kNever;
  napping_ = burst_bytes_ >= kPlentyBytes;
  burst_bytes_ = 0;
  WakeFor(napping_ ? kCopyGatherBytes : 1);
  if (!napping_) return kNever;
  return now + (tcp_ ? kNap : kUnixNap);
}

void LibpqChunkReader::AddPollFds(std::vector<pollfd>& fds) {
  if (connection_ == nullptr || phase_ == Phase::kIdle) return;
  if (copying_ && napping_ && !tcp_) return;
  connection_->AddPollFds(fds);
}

void LibpqChunkReader::WakeFor(int bytes) {
  if (!tcp_ || wake_for_ == bytes) return;
  wake_for_ = bytes;
  tcp_ = setsockopt(PQsocket(connection_->handle()), SOL_SOCKET, SO_RCVLOWAT, &bytes,
                    sizeof bytes) == 0;
}

}  // namespace etl
