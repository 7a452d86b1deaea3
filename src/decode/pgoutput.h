#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "model/position.h"

namespace etl {

/// A frame of the CopyBoth stream (manual: "Streaming Replication Protocol").
struct ReplicationFrame {
  bool keepalive = false;
  Lsn start;  ///< 'w' only; diagnostics only (not monotonic)
  Lsn wal_end;
  UnixMicros send_time = 0;
  bool reply_requested = false;  ///< 'k' only
  std::string_view payload;      ///< 'w': one pgoutput message
};
Result<ReplicationFrame> ParseReplicationFrame(std::string_view copy_data);

/// Standby status update ('r'): 34 bytes.
std::array<char, 34> EncodeStandbyStatus(Lsn written, Lsn flushed, UnixMicros now,
                                         bool request_reply);

/// One cell of a tuple: 'n' NULL (in an old key tuple: absent), 'u' unchanged TOAST, 't' text, 'b'
/// binary.
struct Cell {
  char kind = 'n';
  std::string_view bytes;
};

enum class MessageType : char {
  kBegin = 'B',
  kCommit = 'C',
  kOrigin = 'O',
  kRelation = 'R',
  kType = 'Y',
  kInsert = 'I',
  kUpdate = 'U',
  kDelete = 'D',
  kTruncate = 'T',
  kLogical = 'M',
  kStreamStart = 'S',
  kStreamStop = 'E',
  kStreamCommit = 'c',
  kStreamAbort = 'A',
  kBeginPrepare = 'b',
  kPrepare = 'P',
  kCommitPrepared = 'K',
  kRollbackPrepared = 'r',
  kStreamPrepare = 'p',
};

struct RelationColumn {
  bool key = false;  ///< part of the replica identity
  std::string_view name;
  uint32_t type_oid = 0;
  int32_t typmod = -1;
};

/// One pgoutput message, protocol versions 1–4. Fields are meaningful for the types named. Views
/// point into the payload. Reused from call to call, so that nothing is allocated for a row.
struct DecodedMessage {
  MessageType type = MessageType::kBegin;
  uint32_t xid = 0;  ///< B S c A b P K r p: top-level; R Y I U D T M inside a streamed block: the
                     ///< subtransaction's
  uint32_t subxid = 0;  ///< A
  Lsn lsn;  ///< B C c K: commit LSN; A: abort LSN if sent; M: message LSN; b P p: prepare LSN; r:
            ///< prepare end LSN; O: origin's
  Lsn end_lsn;          ///< C c b P K r p
  UnixMicros time = 0;  ///< B C c b P K r p (r: of the rollback): commit time, Unix microseconds
  bool first_segment = false;           ///< S
  TableId table;                        ///< R I U D
  std::string_view schema, name;        ///< R Y ("" is pg_catalog), O: name; M: name = prefix
  uint32_t type_oid = 0;                ///< Y
  char replica_identity = 'd';          ///< R
  std::vector<RelationColumn> columns;  ///< R
  char old_kind = 0;                    ///< U D: 'K', 'O' or 0
  std::vector<Cell> old_cells;          ///< U D
  std::vector<Cell> cells;              ///< I U
  std::vector<TableId> tables;          ///< T
  uint8_t flags = 0;                    ///< T M
  std::string_view content;             ///< M; b P K r p: the gid
};

/// Decodes one message. `in_stream_block`: between S and E, where row messages carry an xid. Pure;
/// bounds-checked: unknown types, leftover or missing bytes are kInternal errors (a protocol
/// change), and nothing is read past the end. Layouts: manual "Logical Replication Message
/// Formats".
Status DecodeMessage(std::string_view payload, bool in_stream_block, DecodedMessage* out);

}  // namespace etl
