#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "model/position.h"
#include "postgres/connection.h"
#include "postgres/table_facts.h"

namespace etl {

/// What the server waits for while it makes a slot: a transaction that was open when it began; a
/// standby for its primary, too.
struct SlotWait {
  std::string what;    ///< "pid 812 (psql, open for 00:03:10) to end transaction 771"
  std::string remedy;  ///< what may be done about it
  Lsn below;           ///< the slot's position will not be less, in all likelihood
};

/// The snapshot of a temporary slot: it shows exactly the transactions with a commit LSN below
/// `position()`, which no other snapshot can be said of. Holds a replication slot, a WAL sender and
/// an xmin for as long as it lives. Owned by one thread; waits with deadlines.
class SlotSnapshot {
 public:
  /// Waits for the transactions that write at that moment to end, no longer than `deadline`, and
  /// tells `waiting` what it waits for, about every 100 ms.
  static Result<std::unique_ptr<SlotSnapshot>> Open(
      const SourceOptions& source, Instant deadline,
      const std::function<void(const SlotWait&)>& waiting = {});

  /// The consistent point.
  Lsn position() const { return position_; }

  /// COPY of all rows of the table, `schema.wire` columns in their order; `on_bytes` gets the byte
  /// stream, cut anywhere.
  Status CopyTable(const TableSchema& schema, const TableFacts& facts, bool binary,
                   const std::function<Status(std::string_view)>& on_bytes);

 private:
  SlotSnapshot(std::unique_ptr<PgConnection> connection, Lsn position)
      : connection_(std::move(connection)), position_(position) {}

  std::unique_ptr<PgConnection> connection_;
  Lsn position_;
};

}  // namespace etl
