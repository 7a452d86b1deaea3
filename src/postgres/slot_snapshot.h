#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "model/position.h"
#include "postgres/connection.h"
#include "postgres/table_facts.h"

namespace etl {

/// The snapshot of a temporary slot: it shows exactly the transactions with a commit LSN below
/// `position()`, which no other snapshot can be said of. Holds a replication slot, a WAL sender and
/// an xmin for as long as it lives. Owned by one thread; waits with deadlines.
class SlotSnapshot {
 public:
  /// Waits for the transactions that write at that moment to end, no longer than `deadline`.
  static Result<std::unique_ptr<SlotSnapshot>> Open(const SourceOptions& source, Instant deadline);

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
