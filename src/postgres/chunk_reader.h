#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include <arrow/type_fwd.h>
#include <poll.h>

#include "base/clock.h"
#include "base/status.h"
#include "model/segment.h"
#include "model/table_schema.h"

namespace etl {

/// What to read in one short snapshot: a chunk (C4), or the rows of some keys (settling, S2).
struct ReadSpec {
  TableSchemaPtr schema;
  Chunk chunk;             ///< the leaf is locked ACCESS SHARE and its file node checked
  std::string row_filter;  ///< the publication's, or empty
  std::shared_ptr<arrow::RecordBatch>
      keys;  ///< settling: read these keys of the whole table instead of the chunk
  /// Read the whole table under the snapshot of a temporary slot; `high` is then the slot's
  /// consistent point: the rows hold exactly the transactions with a commit LSN below it (tables
  /// without a key, verify).
  bool under_slot = false;
};

/// What came of a poll of the reader.
struct ReadEvent {
  enum class Kind : uint8_t {
    kNothing,  ///< nothing at hand yet
    kData,     ///< COPY bytes in `data`, valid until the next call (a byte stream: cut anywhere)
    kDone,     ///< all rows came, and the source has flushed WAL past `high` (C5)
    kMoved,    ///< the leaf has another file node than planned, or is gone; `high` = WAL position
               ///< read with it (C7)
  };
  Kind kind = Kind::kNothing;
  std::string_view data;
  Lsn high;
  bool binary = false;  ///< format of `data`: COPY binary or text
};

/// Reads one chunk after the other on a connection of its own. Owned and called by one copier;
/// never waits.
class ChunkReader {
 public:
  virtual ~ChunkReader() = default;
  /// Begins to read; the one before must have ended (kDone, kMoved or an error).
  virtual Status Begin(const ReadSpec& spec) = 0;
  virtual Result<ReadEvent> Next(Instant now) = 0;
  /// Whether the data of this spec comes as COPY binary; known after Begin.
  virtual bool binary() const = 0;
  /// Abandons what is being read; the connection is closed.
  virtual void Cancel() = 0;
  /// Called before a wait: when to call Next again at the latest, whatever the descriptors say.
  virtual Instant LookAgainBy(Instant /*now*/) { return kNever; }
  virtual void AddPollFds(std::vector<pollfd>& fds) = 0;
};

}  // namespace etl
