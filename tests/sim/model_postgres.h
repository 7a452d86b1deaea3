#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "model/position.h"
#include "postgres/table_facts.h"

namespace etl {

using Value = std::optional<std::string>;
using Row = std::map<int16_t, Value>;  ///< by attnum

/// A value at least this long is stored out of line by the model, and unsent while unchanged.
constexpr size_t kToastLength = 16;

struct ModelColumn {
  int16_t attnum = 0;
  std::string name;
  uint32_t type_oid = 0;
  int32_t typmod = -1;
  bool toastable = false;
  bool has_missing = false;
  Value missing;
  uint32_t row_xmin = 0;
};

/// One version of a table's system catalog entries. Immutable.
struct ModelTableState {
  std::string schema = "public";
  std::string name;
  char replica_identity = 'd';
  std::vector<int16_t> key;
  std::vector<ModelColumn> columns;
  uint32_t file_node = 0;
  uint32_t publication_entry = 0;  ///< 0: not published
  uint64_t relation_serial = 0;    ///< another one makes the stream send a Relation message again
  int16_t next_attnum = 1;
  bool dropped = false;

  const ModelColumn* Find(int16_t attnum) const;
  bool published() const { return publication_entry != 0 && !dropped; }
  bool IsKey(int16_t attnum) const;
};
using ModelTableStatePtr = std::shared_ptr<const ModelTableState>;

struct Tuple {
  uint32_t block = 0;
  Row values;
  uint32_t xmin = 0;
  uint32_t xmax = 0;
};
using Heap = std::list<Tuple>;

struct ModelTable {
  uint32_t oid = 0;
  std::vector<std::pair<uint32_t, ModelTableStatePtr>> versions;  ///< xid that made it, state
  std::map<uint32_t, Heap> heaps;                                 ///< by file node
  int share_locks = 0;                                            ///< ACCESS SHARE of chunk reads
};

/// A change as logical decoding sees it.
struct WireChange {
  char kind = 'I';  ///< I U D T, M: a logical message
  uint32_t oid = 0;
  ModelTableStatePtr relation;
  Row old_row;  ///< U D: the whole old row
  Row new_row;  ///< I U: the whole new row
  std::set<int16_t> unsent;
  std::vector<std::pair<uint32_t, ModelTableStatePtr>> truncated;  ///< T
};

/// A change as the decoding of a transaction that is still open meets it: what is rolled back later
/// is there too.
struct LoggedChange {
  WireChange change;
  uint32_t subxid = 0;
  Lsn lsn;
  Lsn undone;  ///< its subtransaction's abort record; 0/0: none
};

struct Txn {
  uint32_t xid = 0;
  enum class State : uint8_t { kOpen, kCommitted } state = State::kOpen;
  std::set<uint32_t> write_locks;
  std::set<uint32_t> exclusive_locks;
  std::vector<WireChange> changes;
  std::vector<LoggedChange> log;
  std::vector<size_t> kept;  ///< for each of `changes`, its place in `log`
  size_t plain_steps = 0;  ///< made before the first savepoint; every later step has one of its own
  Lsn aborted;             ///< the abort record; 0/0: none
  struct Undo {
    std::function<void()> run;
    size_t changes_before;
  };
  std::vector<Undo> undo;
  Lsn commit_lsn;
  Lsn end_lsn;
  UnixMicros time = 0;
  /// The tables it touched as they were when it had committed: what a destination at that position
  /// must show.
  struct Outcome {
    ModelTableStatePtr state;  ///< null: dropped
    std::vector<Row> rows;
  };
  std::map<uint32_t, Outcome> outcomes;
  /// Tables that were published while it was open and had changed them, with the serial they had:
  /// decoding it makes a sender of an old server forget that they are published.
  std::map<uint32_t, uint64_t> forgets;
  std::set<uint32_t> silently_changed;  ///< tables whose rows it changed without row messages
};
using TxnPtr = std::shared_ptr<Txn>;

/// What the workload may do, drawn once a seed, so that each seed stresses something else.
struct WorkloadOptions {
  bool ddl = true;
  bool visibility_lag = true;
  bool asynchronous_commit = true;
  bool publication_changes = true;
  uint64_t take_over_one_in = 0;  ///< how often a row takes the key of one just deleted; 0: never
  uint64_t keys = 8;              ///< size of the key space; small: keys are freed and taken again
  bool savepoints = false;        ///< rolled-back subtransactions are kept for streaming
};

/// A model of one PostgreSQL database: tables with tuple versions and blocks, open transactions, a
/// list of committed ones, positions, one slot. Time is the list of calls; nothing happens by
/// itself. One owner.
class ModelPostgres {
 public:
  ModelPostgres(uint64_t seed, WorkloadOptions options);

  // The workload.
  /// One random action of the clients.
  void Act();
  /// Ends what is open, shows what is committed and flushes.
  void Calm();
  bool calm() const { return active_.empty() && flush_ == insert_; }
  void Flush() { flush_ = insert_; }
  void ForeignWal();
  /// pg_logical_emit_message.
  void EmitMessage(bool transactional);

  // Positions.
  Lsn insert() const { return Lsn{insert_}; }
  Lsn flush() const { return Lsn{flush_}; }

  // What others see.
  const std::vector<TxnPtr>& committed() const { return committed_; }
  const std::map<uint32_t, TxnPtr>& active() const { return active_; }
  /// Every transaction of clients, in the order they began; rolled back ones too.
  const std::vector<TxnPtr>& begun() const { return begun_; }
  const std::vector<uint32_t>& oids() const { return oids_; }
  ModelTable& table(uint32_t oid) { return tables_.at(oid); }
  const ModelTable& table(uint32_t oid) const { return tables_.at(oid); }
  bool Visible(uint32_t xid) const { return !active_.contains(xid); }
  bool Committed(uint32_t xid) const;
  /// As a new snapshot shows it; null: the table is not there.
  ModelTableStatePtr VisibleState(uint32_t oid) const;
  ModelTableStatePtr NewestState(uint32_t oid) const;
  bool ExclusivelyLocked(uint32_t oid) const;
  /// Rows a snapshot sees, by `visible`.
  std::vector<std::pair<uint32_t, Row>> Rows(uint32_t oid, const ModelTableState& state,
                                             const std::function<bool(uint32_t)>& visible) const;
  TableFacts Facts(uint32_t oid, const ModelTableState& state) const;

  // The slot.
  Lsn confirmed;
  Lsn persisted;  ///< what a crash of the server leaves of `confirmed`

  std::function<void(const std::string&)> trace;

 private:
  Txn* Begin();
  void Commit(Txn& txn, bool flush, bool visible);
  void MakeVisible(uint32_t xid);
  void Log(Txn& txn, WireChange change);
  void RollbackTo(Txn& txn, size_t undo_size);
  void Abort(uint32_t xid);
  Txn* PickOpen();
  std::optional<uint32_t> PickTable(const Txn& txn, bool exclusive);
  bool CanLock(const Txn& txn, uint32_t oid, bool exclusive) const;
  void Record() { insert_ += 8 * (1 + random_.Below(6)); }

  void RowAction(Txn& txn);
  void Insert(Txn& txn, uint32_t oid);
  void Update(Txn& txn, uint32_t oid);
  void Update(Txn& txn, uint32_t oid, Tuple* old, Row row, const std::set<int16_t>& touched);
  void Delete(Txn& txn, uint32_t oid, Tuple* old);
  void TakeOver(Txn& txn, uint32_t oid);
  void Truncate(Txn& txn);
  void SchemaAction(Txn& txn);
  void CreateTable(Txn& txn, const std::string& name);
  void PublicationAction();

  void SetState(Txn& txn, uint32_t oid, ModelTableState state);
  void NewHeap(Txn& txn, uint32_t oid, ModelTableState& state, bool keep_rows,
               const std::function<void(Row&)>& change);
  Tuple* PickRow(const Txn& txn, uint32_t oid);
  bool KeyIsFree(const Txn& txn, uint32_t oid, const ModelTableState& state, const Row& row) const;
  Tuple* AddTuple(Txn& txn, uint32_t oid, const ModelTableState& state, Row values, uint32_t near);
  Row FullRow(const ModelTableState& state, const Row& stored) const;
  Value RandomValue(const ModelColumn& column, bool key);
  void Vacuum(uint32_t oid);
  void Say(const std::string& text) {
    if (trace) trace(text);
  }

  Random random_;
  Random savepoint_random_;  ///< apart, so that the rest of a seed's run is the same without them
  const WorkloadOptions options_;
  uint64_t insert_ = 0x1000000;
  uint64_t flush_ = 0x1000000;
  uint32_t next_xid_ = 700;
  uint32_t next_subxid_ = 3'000'000'000;
  uint32_t next_oid_ = 16400;
  uint64_t next_serial_ = 1;
  uint64_t next_text_ = 1;
  UnixMicros wall_ = 1'700'000'000'000'000;
  std::vector<uint32_t> oids_;
  std::map<uint32_t, ModelTable> tables_;
  std::map<uint32_t, TxnPtr> active_;
  std::vector<TxnPtr> committed_;
  std::vector<TxnPtr> begun_;
};

constexpr uint32_t kInt4Oid = 23;
constexpr uint32_t kInt8Oid = 20;
constexpr uint32_t kTextOid = 25;
constexpr uint32_t kVarcharOid = 1043;

}  // namespace etl
