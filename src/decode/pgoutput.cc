#include "decode/pgoutput.h"

#include <cstring>

#include <fmt/format.h>

#include "base/byte_reader.h"
#include "decode/datetime.h"

namespace etl {
namespace {

constexpr size_t kColumnsMax = 1664;  // MaxTupleAttributeNumber of the server

UnixMicros ToUnix(int64_t postgres_micros) {
  return static_cast<int64_t>(static_cast<uint64_t>(postgres_micros) +
                              static_cast<uint64_t>(kPostgresEpochMicros));
}

Lsn ReadLsn(ByteReader& in) { return Lsn{in.U64()}; }
UnixMicros ReadTime(ByteReader& in) { return ToUnix(in.I64()); }

Status Broken(std::string_view payload, std::string_view why) {
  const unsigned char type = payload.empty() ? 0 : static_cast<unsigned char>(payload[0]);
  ErrorParts parts;
  parts.code = "ETL-P301";
  parts.what = fmt::format(
      "the server sent a replication message that cannot be read (type 0x{:02x}, {} bytes)", type,
      payload.size());
  parts.why = std::string(why);
  parts.safe = "nothing of the message was used";
  parts.remedy =
      "check that the server is PostgreSQL 14 to 18 and that nothing between alters its bytes";
  return MakeError(ErrorKind::kInternal, std::move(parts));
}

// Flags that no server sets yet: a set bit is a change of the protocol.
void ReadZeroFlags(ByteReader& in) {
  if (in.U8() != 0) in.Fail();
}

void ReadTuple(ByteReader& in, std::vector<Cell>* cells) {
  const size_t count = in.U16();
  // Each cell takes a byte at least: a count that the message cannot hold must not size the vector.
  if (count > kColumnsMax || count > in.remaining()) [[unlikely]] {
    in.Fail();
    return;
  }
  if (cells->size() != count) cells->resize(count);
  for (Cell& cell : *cells) {
    const char kind = static_cast<char>(in.U8());
    cell.kind = kind;
    if (kind == 't' || kind == 'b') [[likely]] {
      cell.bytes = in.Bytes(in.U32());
    } else if (kind == 'n' || kind == 'u') {
      cell.bytes = {};
    } else {
      in.Fail();
      return;
    }
  }
}

void ReadRelation(ByteReader& in, DecodedMessage* out) {
  out->table = TableId{in.U32()};
  out->schema = in.CString();
  out->name = in.CString();
  out->replica_identity = static_cast<char>(in.U8());
  if (std::string_view("dnfi").find(out->replica_identity) == std::string_view::npos) in.Fail();
  const size_t count = in.U16();
  if (count > kColumnsMax || count > in.remaining()) {
    in.Fail();
    return;
  }
  out->columns.resize(count);
  for (RelationColumn& column : out->columns) {
    const uint8_t flags = in.U8();
    if ((flags & ~1) != 0) in.Fail();
    column.key = (flags & 1) != 0;
    column.name = in.CString();
    column.type_oid = in.U32();
    column.typmod = in.I32();
  }
}

void ReadInsert(ByteReader& in, DecodedMessage* out) {
  out->table = TableId{in.U32()};
  if (in.U8() != 'N') in.Fail();
  ReadTuple(in, &out->cells);
}

void ReadUpdate(ByteReader& in, DecodedMessage* out) {
  out->table = TableId{in.U32()};
  char tag = static_cast<char>(in.U8());
  if (tag == 'K' || tag == 'O') {
    out->old_kind = tag;
    ReadTuple(in, &out->old_cells);
    tag = static_cast<char>(in.U8());
  }
  if (tag != 'N') in.Fail();
  ReadTuple(in, &out->cells);
}

void ReadDelete(ByteReader& in, DecodedMessage* out) {
  out->table = TableId{in.U32()};
  out->old_kind = static_cast<char>(in.U8());
  if (out->old_kind != 'K' && out->old_kind != 'O') in.Fail();
  ReadTuple(in, &out->old_cells);
}

void ReadTruncate(ByteReader& in, DecodedMessage* out) {
  const size_t count = in.U32();
  out->flags = in.U8();
  if ((out->flags & ~3) != 0 || count > in.remaining() / 4) {
    in.Fail();
    return;
  }
  out->tables.resize(count);
  for (TableId& table : out->tables) table = TableId{in.U32()};
}

void ReadLogical(ByteReader& in, DecodedMessage* out) {
  out->flags = in.U8();
  if ((out->flags & ~1) != 0) in.Fail();
  out->lsn = ReadLsn(in);
  out->name = in.CString();
  out->content = in.Bytes(in.U32());
}

void ReadPositions(ByteReader& in, DecodedMessage* out) {
  out->lsn = ReadLsn(in);
  out->end_lsn = ReadLsn(in);
  out->time = ReadTime(in);
}

void ReadPrepared(ByteReader& in, DecodedMessage* out) {
  ReadPositions(in, out);
  out->xid = in.U32();
  out->content = in.CString();
}

void ReadRollbackPrepared(ByteReader& in, DecodedMessage* out) {
  ReadZeroFlags(in);
  out->lsn = ReadLsn(in);
  out->end_lsn = ReadLsn(in);
  in.I64();  // when it was prepared
  out->time = ReadTime(in);
  out->xid = in.U32();
  out->content = in.CString();
}

void ReadStreamAbort(ByteReader& in, DecodedMessage* out) {
  out->xid = in.U32();
  out->subxid = in.U32();
  if (in.remaining() == 0) return;  // position and time are sent with streaming=parallel only
  out->lsn = ReadLsn(in);
  out->time = ReadTime(in);
}

void ReadStreamStart(ByteReader& in, DecodedMessage* out) {
  out->xid = in.U32();
  const uint8_t first = in.U8();
  if (first > 1) in.Fail();
  out->first_segment = first == 1;
}

// Within a streamed block these carry the transaction they belong to.
bool CarriesXidInStream(MessageType type) {
  switch (type) {
    case MessageType::kRelation:
    case MessageType::kType:
    case MessageType::kInsert:
    case MessageType::kUpdate:
    case MessageType::kDelete:
    case MessageType::kTruncate:
    case MessageType::kLogical: return true;
    default: return false;
  }
}

// False for a type that this program does not know.
bool ReadBody(ByteReader& in, DecodedMessage* out) {
  switch (out->type) {
    case MessageType::kInsert: ReadInsert(in, out); return true;
    case MessageType::kUpdate: ReadUpdate(in, out); return true;
    case MessageType::kDelete: ReadDelete(in, out); return true;
    case MessageType::kBegin:
      out->lsn = ReadLsn(in);
      out->time = ReadTime(in);
      out->xid = in.U32();
      return true;
    case MessageType::kCommit:
      ReadZeroFlags(in);
      ReadPositions(in, out);
      return true;
    case MessageType::kRelation: ReadRelation(in, out); return true;
    case MessageType::kType:
      out->type_oid = in.U32();
      out->schema = in.CString();
      out->name = in.CString();
      return true;
    case MessageType::kTruncate: ReadTruncate(in, out); return true;
    case MessageType::kLogical: ReadLogical(in, out); return true;
    case MessageType::kOrigin:
      out->lsn = ReadLsn(in);
      out->name = in.CString();
      return true;
    case MessageType::kStreamStart: ReadStreamStart(in, out); return true;
    case MessageType::kStreamStop: return true;
    case MessageType::kStreamCommit:
      out->xid = in.U32();
      ReadZeroFlags(in);
      ReadPositions(in, out);
      return true;
    case MessageType::kStreamAbort: ReadStreamAbort(in, out); return true;
    case MessageType::kBeginPrepare: ReadPrepared(in, out); return true;
    case MessageType::kPrepare:
    case MessageType::kCommitPrepared:
    case MessageType::kStreamPrepare:
      ReadZeroFlags(in);
      ReadPrepared(in, out);
      return true;
    case MessageType::kRollbackPrepared: ReadRollbackPrepared(in, out); return true;
  }
  return false;
}

void Reset(DecodedMessage* out) {
  out->xid = 0;
  out->subxid = 0;
  out->lsn = {};
  out->end_lsn = {};
  out->time = 0;
  out->first_segment = false;
  out->table = {};
  out->schema = {};
  out->name = {};
  out->type_oid = 0;
  out->old_kind = 0;
  out->flags = 0;
  out->content = {};
  out->columns.clear();
  out->old_cells.clear();
  out->tables.clear();
  // Cells of the row before are overwritten one by one, which is quicker than to make them anew.
  const bool row = out->type == MessageType::kInsert || out->type == MessageType::kUpdate;
  if (!row) out->cells.clear();
}

template <typename T>
char* PutBigEndian(char* at, T value) {
  for (int shift = static_cast<int>(sizeof(T)) * 8 - 8; shift >= 0; shift -= 8) {
    *at++ = static_cast<char>(static_cast<uint64_t>(value) >> shift);
  }
  return at;
}

}  // namespace

Result<ReplicationFrame> ParseReplicationFrame(std::string_view copy_data) {
  ByteReader in(copy_data);
  ReplicationFrame frame;
  const char type = static_cast<char>(in.U8());
  if (type == 'w') {
    frame.start = ReadLsn(in);
    frame.wal_end = ReadLsn(in);
    frame.send_time = ReadTime(in);
    frame.payload = in.rest();
    if (!in.failed()) return frame;
  } else if (type == 'k') {
    frame.keepalive = true;
    frame.wal_end = ReadLsn(in);
    frame.send_time = ReadTime(in);
    frame.reply_requested = in.U8() != 0;
    if (in.Finished()) return frame;
  }
  return Broken(copy_data, "not a frame of the replication stream ('w' or 'k') of the right size");
}

std::array<char, 34> EncodeStandbyStatus(Lsn written, Lsn flushed, UnixMicros now,
                                         bool request_reply) {
  std::array<char, 34> bytes;
  char* at = bytes.data();
  *at++ = 'r';
  at = PutBigEndian(at, written.value);
  at = PutBigEndian(at, flushed.value);
  at = PutBigEndian(at, flushed.value);  // applied: what is stored is visible at once
  at = PutBigEndian(at, static_cast<uint64_t>(now) - static_cast<uint64_t>(kPostgresEpochMicros));
  *at = request_reply ? 1 : 0;
  return bytes;
}

Status DecodeMessage(std::string_view payload, bool in_stream_block, DecodedMessage* out) {
  ByteReader in(payload);
  out->type = static_cast<MessageType>(in.U8());
  Reset(out);
  if (in_stream_block && CarriesXidInStream(out->type)) out->xid = in.U32();
  if (!ReadBody(in, out)) [[unlikely]] {
    return Broken(payload, "a message of this type is not known");
  }
  if (!in.Finished()) [[unlikely]] {
    return Broken(payload, in.failed() ? "it is too short, or a field has a value that is not known"
                                       : "bytes are left over");
  }
  return Status::OK();
}

}  // namespace etl
