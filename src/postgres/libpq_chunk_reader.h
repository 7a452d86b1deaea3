#pragma once

#include <memory>
#include <string>
#include <vector>

#include "postgres/chunk_reader.h"
#include "postgres/connection.h"

namespace etl {

struct ChunkReaderOptions {
  /// After this many questions without the flush passing H, one transactional message is written to
  /// move it (rule 9.3), where the role may.
  int polls_before_nudge = 20;
};

/// Chunks by COPY over a connection of its own (libpq), which is kept from chunk to chunk. With
/// `under_slot` it is a replication connection, closed at the end.
class LibpqChunkReader : public ChunkReader {
 public:
  static Result<std::unique_ptr<LibpqChunkReader>> Make(const SourceOptions& source,
                                                        ChunkReaderOptions options = {});
  ~LibpqChunkReader() override;

  Status Begin(const ReadSpec& spec) override;
  Result<ReadEvent> Next(Instant now) override;
  bool binary() const override { return binary_; }
  void Cancel() override;
  Instant LookAgainBy(Instant now) override;
  void AddPollFds(std::vector<pollfd>& fds) override;

 private:
  /// What the server is doing for us; each is one Send, in this order.
  enum class Phase {
    kIdle,
    kConnect,
    kLocate,  ///< name and kind of the relation, by oid; not if the chunk before had the same
    kLock,    ///< under_slot: BEGIN, LOCK TABLE: takes no snapshot
    kSlot,    ///< under_slot: the slot whose snapshot the transaction uses
    kFacts,   ///< else BEGIN, LOCK TABLE; takes the snapshot; file node, columns, H
    kCopy,
    kCommit,  ///< and the flush position
    kFlush,   ///< asked again until it has passed H (C5)
    kRollback,
  };

  LibpqChunkReader(const SourceOptions& source, ChunkReaderOptions options)
      : source_(source.Clone()), options_(options) {}

  Result<ReadEvent> Step();
  Status Enter(Phase phase, const std::string& sql);
  Result<ReadEvent> Finished(ReadEvent::Kind kind);
  Result<ReadEvent> Moved();
  /// Asks for the name, `before` (an end of the transaction) first.
  Status Locate(std::string_view before);
  Status Lock();
  void WakeFor(int bytes);
  Result<ReadEvent> OnResults();
  Result<ReadEvent> OnLocated(const PgResult& row);
  Result<ReadEvent> OnLockFailed(const PgResult& failed);
  Result<ReadEvent> OnFacts(const PgResult& facts);
  Result<ReadEvent> OnFlush(const PgResult& row);
  Result<ReadEvent> ReadCopy();
  std::string FactsSql() const;
  Result<std::string> CopySql(const PgResult& facts) const;
  Result<std::string> KeyCondition(const PgResult& facts) const;
  TableId Target() const;
  bool WholeTable() const { return spec_.keys != nullptr || spec_.under_slot; }
  std::string What() const;

  const SourceOptions source_;
  const ChunkReaderOptions options_;
  std::unique_ptr<PgConnection> connection_;
  bool replication_ = false;

  ReadSpec spec_;
  bool binary_ = false;
  Phase phase_ = Phase::kIdle;
  std::vector<PgResult> results_;
  std::optional<TableId> located_;  ///< whose name and kind these are
  bool remembered_ = false;         ///< they were found for an earlier chunk
  std::string target_schema_;
  std::string target_name_;
  bool partitioned_ = false;
  int locate_attempts_ = 0;
  int flush_polls_ = 0;
  Lsn high_;
  bool copying_ = false;
  int64_t burst_bytes_ = 0;  ///< read since the socket was last empty
  bool napping_ = false;
  bool tcp_ = false;
  int wake_for_ = 1;  ///< SO_RCVLOWAT
  std::string buffer_;
  char* frame_ = nullptr;
};

}  // namespace etl
