#pragma once

#include <cstdint>
#include <deque>
#include <memory>

#include "destination/snowflake/channel_client.h"
#include "destination/snowflake/row_writer.h"
#include "model/position.h"

namespace etl {

/// One of the channels that a table's changes go to; a part of SnowflakeDestination.
struct TableChannel {
  ChannelId id = 0;  ///< 0: closed
  bool open = false;
  Position committed;  ///< its rows up to here are in the table
  std::unique_ptr<RowWriter> writer;
  uint64_t given = 0;  ///< batches
  uint64_t proved = 0;
  std::deque<int64_t> sizes;  ///< of batches not proved

  /// Rows that were taken and are not given yet.
  bool holds() const { return writer != nullptr && !writer->empty(); }
  /// So many batches must be proved for all that was taken.
  uint64_t owed() const { return given + (holds() ? 1 : 0); }
};

}  // namespace etl
