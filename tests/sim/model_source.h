#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "postgres/chunk_reader.h"
#include "postgres/system_catalog.h"
#include "postgres/wal_stream.h"
#include "sim/model_postgres.h"

namespace etl {

/// The virtual clock.
class SimClock : public Clock {
 public:
  Instant Now() const override { return now_; }
  UnixMicros WallNow() const override {
    return std::chrono::duration_cast<std::chrono::microseconds>(now_.time_since_epoch()).count() +
           1'700'000'000'000'000;
  }
  void Set(Instant now) { now_ = now; }

 private:
  Instant now_ = Instant(std::chrono::seconds(1000));
};

/// What the model connections of one life of a pipeline share.
struct SimSource {
  ModelPostgres* postgres = nullptr;
  const SimClock* clock = nullptr;
  Random* random = nullptr;
  bool disturb = true;  ///< delays and failures happen
  uint64_t failure_one_in = 0;
  bool slow_copies = false;  ///< chunks stay open while much happens
  bool spontaneous_keepalives = true;
  /// Transactions are sent while they are open: a block about once in so many chances; 0: never.
  uint64_t stream_one_in = 0;
  bool hide_subtransaction_aborts = false;  ///< as if the engine did not act on them
  bool loses_published_changes = false;     ///< as servers did before 15.13
  Random* stream_random = nullptr;
  std::function<void(Lsn received, Lsn flushed)> on_status;
  std::function<void(const std::string&)> trace;

  bool Fails() const { return disturb && failure_one_in != 0 && random->OneIn(failure_one_in); }
  Duration Delay() const;
};

/// START_REPLICATION over the model: real pgoutput bytes.
class ModelWalStream : public WalStream {
 public:
  ModelWalStream(SimSource* source, Lsn start);
  Result<std::optional<std::string_view>> Next(Instant now) override;
  Status SendStatus(Lsn received, Lsn flushed, bool request_reply) override;
  Instant LookAgainBy(Instant) override { return kNever; }
  void AddPollFds(std::vector<pollfd>&) override {}
  void Close(Lsn, Lsn, Instant) override {}
  /// When something may be at hand that is not yet; kNever: after the next action of the world.
  Instant NextEvent() const { return stalled_until_; }

 private:
  /// What was sent of a transaction before its end.
  struct Streamed {
    TxnPtr txn;
    size_t next = 0;  ///< in its log
    std::set<uint32_t> subxids;
    std::map<uint32_t, uint64_t> relations_sent;
  };
  void Decode();
  void DecodeTo(Lsn position);
  void DecodeWhole(const Txn& txn);
  bool StreamOpen();
  void StreamBlock(const TxnPtr& txn);
  void StreamCommit(const Txn& txn);
  void StreamAbort(Streamed& streamed, uint32_t subxid);
  void Keepalive(bool reply);
  void Push(const std::string& payload, Lsn end);
  void ForgetWhat(const Txn& txn);
  bool Forgotten(uint32_t oid, const ModelTableState& state);
  void Send(const WireChange& change, Lsn lsn, std::map<uint32_t, uint64_t>& relations_sent,
            std::optional<uint32_t> subxid);

  SimSource* const source_;
  Lsn start_;
  size_t next_txn_ = 0;
  Lsn position_;  ///< end of the last record decoded
  Lsn last_keepalive_;
  std::deque<std::string> frames_;
  std::string current_;
  std::map<uint32_t, uint64_t> relations_sent_;
  std::map<uint32_t, Streamed> streamed_;  ///< by xid
  /// Tables whose publication it has forgotten, until they change again.
  std::map<uint32_t, uint64_t> forgotten_;
  Instant stalled_until_ = kNever;
};

/// The system catalog, answered from the model with delays.
class ModelCatalog : public SystemCatalog {
 public:
  explicit ModelCatalog(SimSource* source) : source_(source) {}
  void Ask(CatalogQuery query) override;
  Result<std::optional<CatalogAnswer>> Poll(Instant now) override;
  void AddPollFds(std::vector<pollfd>&) override {}
  Instant NextEvent() const { return questions_.empty() ? kNever : questions_.front().at; }

 private:
  struct Question {
    CatalogQuery query;
    Instant at;
    std::optional<CatalogAnswer> answer;
  };
  CatalogAnswer Answer(const CatalogQuery& query);
  std::deque<Question> questions_;
  SimSource* const source_;
};

/// COPY of a chunk, of some keys, or under the snapshot of a slot.
class ModelChunkReader : public ChunkReader {
 public:
  explicit ModelChunkReader(SimSource* source) : source_(source) {}
  ~ModelChunkReader() override { Unlock(); }
  Status Begin(const ReadSpec& spec) override;
  Result<ReadEvent> Next(Instant now) override;
  bool binary() const override { return false; }
  void Cancel() override;
  void AddPollFds(std::vector<pollfd>&) override {}
  Instant NextEvent() const { return stalled_until_; }

 private:
  bool Snapshot(ReadEvent* event, Status* error);
  void Unlock();

  SimSource* const source_;
  std::optional<ReadSpec> spec_;
  std::optional<std::set<uint32_t>> waits_for_;  ///< under a slot: running when it was asked for
  bool locked_ = false;
  bool read_ = false;
  std::string bytes_;
  size_t at_ = 0;
  std::string piece_;
  std::optional<Lsn> high_;
  Instant stalled_until_ = kNever;
};

}  // namespace etl
