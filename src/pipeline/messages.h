#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "base/status.h"
#include "destination/destination.h"
#include "model/segment.h"
#include "postgres/chunk_reader.h"
#include "runtime/channel.h"

namespace etl {

/// Writer → reader: what has become durable, and how many deliveries are behind it.
struct WriterReply {
  uint64_t taken =
      0;  ///< deliveries finished so far, in order; the destination is ready for the next
  Progress progress;
};

/// Reader → copier.
struct ReadTask {
  ReadSpec spec;
  TableId table;
  uint32_t generation = 1;
};

/// Copier → reader.
struct CopierEvent {
  enum class Kind : uint8_t { kRows, kDone, kMoved, kFailed } kind = Kind::kRows;
  TableId table;
  uint32_t generation = 1;
  uint32_t chunk = 0;
  bool settling = false;
  std::shared_ptr<arrow::RecordBatch> rows;  ///< kRows; kDone: the last ones, may be null
  int64_t bytes = 0;
  int64_t row_count = 0;  ///< kDone: rows of the whole chunk
  int64_t nulled = 0;     ///< kDone: values of the whole chunk that became NULL
  Lsn high;               ///< kDone, kMoved
  Status error;           ///< kFailed
};

/// Control → reader.
struct SetTarget {
  Lsn lsn;  ///< sync: ask for keepalives until this is stored; 0/0: no target
};
/// Stop taking changes at once (verify, before its snapshot is made).
struct Freeze {};
/// Go on until exactly the transactions with a commit LSN below `lsn` are handed over, then stop
/// (verify). May be given again with a later position.
struct HoldAt {
  Lsn lsn;
};
struct Release {};
/// Copy a table again, or all of them; readers keep the old rows until the swap.
struct Resync {
  std::string table;  ///< schema.table; empty: every table
};
/// Try a table that was set aside again, or all of them.
struct RetryStopped {
  std::string table;  ///< schema.table; empty: every one
};
/// Finish what is complete, drain and end.
struct Drain {};
using ReaderCommand = std::variant<SetTarget, Freeze, HoldAt, Release, Resync, RetryStopped, Drain>;

using DeliveryChannel = Channel<Delivery>;
using ReplyChannel = Channel<WriterReply>;
using TaskChannel = Channel<ReadTask>;
using CopierChannel = Channel<CopierEvent>;
using CommandChannel = Channel<ReaderCommand>;

}  // namespace etl
