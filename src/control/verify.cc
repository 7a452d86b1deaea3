// `verify`: source and destination at one position.
//
// A temporary slot gives a snapshot of the source and the position it stands for: exactly the
// transactions below it. The pipeline is brought to that position and held there while a read
// transaction of the destination is opened; then both sides are read at leisure. A destination
// without such a transaction is read while the pipeline stays held.
//
// The server makes the slot once the transactions that are open have ended. Until then the pipeline
// follows the source, but not beyond where the slot cannot be yet.
#include "control/verify.h"

#include <poll.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "batch/table_batcher.h"
#include "control/row_hash.h"
#include "control/stored_side.h"
#include "control/sync_target.h"
#include "postgres/slot_snapshot.h"
#include "postgres/table_query.h"

namespace etl {
namespace {

using OnBatch = std::function<Status(const std::shared_ptr<arrow::RecordBatch>&)>;
constexpr size_t kKeysNamed = 100;
constexpr int64_t kBatchBytes = 4 << 20;

// Sums of row hashes do not depend on the order of rows.
struct Digest {
  int64_t rows = 0;
  RowHash sum;
  void Add(const RowHash& hash) {
    ++rows;
    sum.low += hash.low;
    sum.high += hash.high;
  }
  friend bool operator==(const Digest&, const Digest&) = default;
};

std::vector<int> AllColumns(const TableSchema& schema) {
  std::vector<int> columns(schema.columns.size());
  for (size_t i = 0; i < columns.size(); ++i) columns[i] = static_cast<int>(i);
  return columns;
}

// Both sides of one table, each readable any number of times at the one position.
struct Sides {
  TableSchemaPtr schema;
  std::function<Status(const OnBatch&)> read_source;
  std::shared_ptr<int64_t> nulled;  ///< values of the source that became NULL when it was read last
  std::function<Status(const OnBatch&)> read_destination;
};

Result<Digest> DigestOf(const std::function<Status(const OnBatch&)>& read,
                        const std::vector<int>& columns) {
  Digest digest;
  ETL_RETURN_IF_ERROR(read([&](const std::shared_ptr<arrow::RecordBatch>& rows) -> Status {
    ETL_ASSIGN_OR_RETURN(const std::vector<RowHash> hashes, HashRows(*rows, columns));
    for (const RowHash& hash : hashes) digest.Add(hash);
    return Status::OK();
  }));
  return digest;
}

// Names the keys that differ: one pass over each side for a share of the keys, so that memory stays
// bounded.
Status NameDifferences(const Sides& sides, int64_t rows, VerifiedTable* table) {
  constexpr int64_t kKeysAtATime = 2'000'000;
  const auto passes = static_cast<uint64_t>(rows / kKeysAtATime + 1);
  const std::vector<int> all = AllColumns(*sides.schema);
  const std::vector<int>& key = sides.schema->key;
  std::set<std::string> columns_seen;
  for (uint64_t pass = 0; pass < passes && table->keys.size() < kKeysNamed; ++pass) {
    std::map<RowHash, RowHash> source;
    ETL_RETURN_IF_ERROR(
        sides.read_source([&](const std::shared_ptr<arrow::RecordBatch>& batch) -> Status {
          ETL_ASSIGN_OR_RETURN(const std::vector<RowHash> keys, HashRows(*batch, key));
          ETL_ASSIGN_OR_RETURN(const std::vector<RowHash> whole, HashRows(*batch, all));
          for (size_t i = 0; i < keys.size(); ++i) {
            if (keys[i].low % passes == pass) source[keys[i]] = whole[i];
          }
          return Status::OK();
        }));
    std::set<RowHash> wrong;
    ETL_RETURN_IF_ERROR(
        sides.read_destination([&](const std::shared_ptr<arrow::RecordBatch>& batch) -> Status {
          ETL_ASSIGN_OR_RETURN(const std::vector<RowHash> keys, HashRows(*batch, key));
          ETL_ASSIGN_OR_RETURN(const std::vector<RowHash> whole, HashRows(*batch, all));
          for (size_t i = 0; i < keys.size(); ++i) {
            if (keys[i].low % passes != pass) continue;
            const auto found = source.find(keys[i]);
            const bool extra = found == source.end();
            if (!extra && found->second == whole[i]) {
              source.erase(found);
              continue;
            }
            if (table->keys.size() < kKeysNamed) {
              table->keys.push_back(ShowKey(*batch, key, static_cast<int64_t>(i)) +
                                    (extra ? " (extra)" : " (different)"));
            }
            if (!extra) source.erase(found);
          }
          return Status::OK();
        }));
    if (source.empty()) continue;
    ETL_RETURN_IF_ERROR(
        sides.read_source([&](const std::shared_ptr<arrow::RecordBatch>& batch) -> Status {
          ETL_ASSIGN_OR_RETURN(const std::vector<RowHash> keys, HashRows(*batch, key));
          for (size_t i = 0; i < keys.size() && table->keys.size() < kKeysNamed; ++i) {
            if (source.contains(keys[i])) {
              table->keys.push_back(ShowKey(*batch, key, static_cast<int64_t>(i)) + " (missing)");
            }
          }
          return Status::OK();
        }));
  }
  return Status::OK();
}

// Which columns differ in sum: enough to know where to look.
Status NameColumns(const Sides& sides, VerifiedTable* table) {
  std::string names;
  for (size_t column = 0; column < sides.schema->columns.size(); ++column) {
    const std::vector<int> one = {static_cast<int>(column)};
    ETL_ASSIGN_OR_RETURN(const Digest source, DigestOf(sides.read_source, one));
    ETL_ASSIGN_OR_RETURN(const Digest destination, DigestOf(sides.read_destination, one));
    if (source != destination)
      names += (names.empty() ? "" : ", ") + sides.schema->columns[column].name;
  }
  if (!names.empty()) table->note = "columns that differ: " + names;
  return Status::OK();
}

Result<VerifiedTable> Compare(const Sides& sides) {
  VerifiedTable table;
  table.name = sides.schema->QualifiedName();
  const std::vector<int> all = AllColumns(*sides.schema);
  ETL_ASSIGN_OR_RETURN(const Digest source, DigestOf(sides.read_source, all));
  table.nulled = *sides.nulled;
  ETL_ASSIGN_OR_RETURN(const Digest destination, DigestOf(sides.read_destination, all));
  table.source_rows = source.rows;
  table.destination_rows = destination.rows;
  table.equal = source == destination;
  if (*table.equal) return table;
  if (sides.schema->identity == Identity::kKey) {
    ETL_RETURN_IF_ERROR(NameDifferences(sides, std::max(source.rows, destination.rows), &table));
  } else {
    table.note = "the table has no key: only numbers of rows can be told";
    return table;
  }
  ETL_RETURN_IF_ERROR(NameColumns(sides, &table));
  return table;
}

// How long the pipeline may take to stand still where it is told to.
constexpr auto kStandStill = std::chrono::minutes(1);
// How often it may be started anew in the middle.
constexpr int kAttempts = 3;
// Who is waited for is told when it is worth a word, and then now and again.
constexpr auto kTellAfter = std::chrono::seconds(1);
constexpr auto kTellEvery = std::chrono::seconds(10);

class Verifier {
 public:
  explicit Verifier(const VerifyWork& work)
      : work_(work),
        spec_(work.supervisor->spec()),
        definition_(work.config->pipelines.at(spec_.name)),
        source_(spec_.source.Clone()) {
    source_.stop = work.stop;
  }

  Result<VerifyReport> Run() {
    if (spec_.read_password) {
      ETL_ASSIGN_OR_RETURN(source_.password, spec_.read_password());
    }
    ETL_ASSIGN_OR_RETURN(const Lsn target,
                         ReadSyncTarget(source_, work_.clock->Now() + std::chrono::seconds(30)));
    work_.supervisor->SetTarget(target);
    ETL_RETURN_IF_ERROR(WaitFor(kNever, [&] { return Reached(target); }));
    Status status;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      Result<bool> open = OpenBoth();
      const bool hold = open.ok() && *open && stored_->needs_hold();
      if (!hold) Release();
      ETL_RETURN_IF_ERROR(open.status());
      if (!*open) continue;
      if (!hold) return CompareAll(snapshot_->position());
      Result<VerifyReport> report = CompareAll(snapshot_->position());
      const Result<bool> still = Held();
      Release();
      ETL_RETURN_IF_ERROR(report.status());
      ETL_RETURN_IF_ERROR(still.status());
      if (*still) return report;
    }
    return MakeError(ErrorKind::kTransient, "ETL-V004",
                     "pipeline " + spec_.name + " does not stand still long enough to be compared",
                     "run verify again");
  }

 private:
  // A target of somebody else may stand in the place of ours; what was stored tells the truth.
  bool Reached(Lsn target) const {
    return work_.supervisor->reached() && work_.supervisor->status()->applied >= target;
  }

  void Release() {
    work_.supervisor->WithPipeline([](Pipeline& pipeline) { pipeline.Command(etl::Release{}); });
  }
  // False: the pipeline was started anew, and has gone on.
  Result<bool> Held() {
    const uint64_t position = snapshot_->position().value;
    return Command([position](Pipeline& pipeline) { return pipeline.board().held_at == position; });
  }

  // Both sides at one position; false if the pipeline was started anew meanwhile.
  Result<bool> OpenBoth() {
    ETL_RETURN_IF_ERROR(Command([](Pipeline& pipeline) {
                          pipeline.Command(Freeze{});
                          return true;
                        }).status());
    ETL_RETURN_IF_ERROR(WaitForBoard([](const ReaderBoard& board) { return board.frozen.load(); }));
    Lsn let_go;
    ETL_RETURN_IF_ERROR(OpenSource(&let_go));
    const Lsn position = snapshot_->position();
    if (position < let_go) return false;
    // A pipeline that is no longer frozen may have gone past the position.
    ETL_ASSIGN_OR_RETURN(const bool same, Command([position](Pipeline& pipeline) {
                           if (!pipeline.board().frozen) return false;
                           pipeline.Command(HoldAt{position});
                           return true;
                         }));
    if (!same) return false;
    const auto held = [position](const ReaderBoard& board) {
      return board.held_at == position.value;
    };
    ETL_RETURN_IF_ERROR(WaitForBoard(held));
    // A table that the schema change or copy of which is under way would have been named by
    // `reached`.
    ETL_ASSIGN_OR_RETURN(
        stored_, StoredSide::Open(*work_.config, spec_, work_.resources, *work_.clock, work_.stop));
    return Held();
  }

  // The snapshot of the source. The pipeline may have gone as far as `let_go` meanwhile.
  Status OpenSource(Lsn* let_go) {
    const Instant begun = work_.clock->Now();
    const Instant deadline = begun + definition_.retry_give_up;
    std::optional<SlotWait> waited;
    Instant tell = begun + kTellAfter;
    const auto waiting = [&](const SlotWait& wait) {
      *let_go = wait.below;
      work_.supervisor->WithPipeline([below = wait.below](Pipeline& pipeline) {
        if (pipeline.board().frozen) pipeline.Command(HoldAt{below});
      });
      const bool another = waited && waited->remedy != wait.remedy;
      waited = wait;
      const Instant now = work_.clock->Now();
      if (now < begun + kTellAfter || (now < tell && !another)) return;
      tell = now + kTellEvery;
      LogInfo("verify waits, the pipeline goes on",
              {{"pipeline", spec_.name}, {"waiting_for", wait.what}});
      if (work_.on_wait) work_.on_wait("verify waits for " + wait.what);
    };
    Result<std::unique_ptr<SlotSnapshot>> opened = SlotSnapshot::Open(source_, deadline, waiting);
    if (opened.ok()) {
      snapshot_ = std::move(*opened);
      return Status::OK();
    }
    ETL_RETURN_IF_ERROR(CheckAsked());
    if (!waited || work_.clock->Now() < deadline) return opened.status();
    return MakeError(ErrorKind::kTransient,
                     {.code = "ETL-V005",
                      .what = "pipeline " + spec_.name + ": verify has no snapshot of the source",
                      .why = "it waited for " + waited->what,
                      .safe = "the pipeline went on meanwhile; nothing was changed",
                      .remedy = waited->remedy});
  }

  Result<VerifyReport> CompareAll(Lsn position) {
    VerifyReport report;
    report.pipeline = spec_.name;
    report.position = position;
    ETL_ASSIGN_OR_RETURN(const TablesAnswer tables, LoadCatalog());
    bool found = work_.table.empty();
    const std::shared_ptr<const PipelineStatus> seen = work_.supervisor->status();
    for (const TableStatus& status : seen->tables) {
      if (!work_.table.empty() && status.name != work_.table) continue;
      found = true;
      VerifiedTable table;
      table.name = status.name;
      // By its oid, as the pipeline follows it: another table may have its name by now, and its
      // rules are those of the name that the pipeline knows.
      const TableFacts* facts = nullptr;
      for (const TableFacts& candidate : tables.tables) {
        if (candidate.id == status.id) facts = &candidate;
      }
      if (status.phase == TablePhase::kLive && facts != nullptr &&
          facts->QualifiedName() != status.name) {
        table.equal = false;
        table.note = "not compared: it has just been renamed to " + facts->QualifiedName();
        report.tables.push_back(std::move(table));
        continue;
      }
      if (status.phase != TablePhase::kLive || facts == nullptr) {
        table.equal = false;
        table.note = "not compared: " +
                     (status.error.empty() ? std::string("it is not live") : status.error);
        report.tables.push_back(std::move(table));
        continue;
      }
      ETL_ASSIGN_OR_RETURN(Sides sides, SidesOf(*facts));
      if (spec_.reader.mode == Mode::kAppend && sides.schema->identity != Identity::kKey) {
        table.note = "not compared: without a key nobody can tell which change is a row's latest";
        report.tables.push_back(std::move(table));
        continue;
      }
      ETL_ASSIGN_OR_RETURN(table, Compare(sides));
      report.tables.push_back(std::move(table));
    }
    if (!found) return NoSuchTable(spec_.name, work_.table);
    return report;
  }

  Result<TablesAnswer> LoadCatalog() {
    const Instant deadline = work_.clock->Now() + std::chrono::seconds(30);
    ETL_ASSIGN_OR_RETURN(const std::unique_ptr<PgConnection> connection,
                         PgConnection::Connect(source_, PgConnection::Mode::kNormal, deadline));
    return LoadTables(*connection, definition_.publication, deadline);
  }

  Result<Sides> SidesOf(const TableFacts& facts) {
    ColumnRules rules;
    if (const auto found = spec_.reader.rules.find(facts.QualifiedName());
        found != spec_.reader.rules.end())
      rules = found->second;
    Sides sides;
    ETL_ASSIGN_OR_RETURN(sides.schema, MakeTableSchema(facts, rules, 1));
    const bool binary =
        rules.hash.empty() &&
        std::all_of(sides.schema->wire.begin(), sides.schema->wire.end(),
                    [](const WireColumn& column) { return BinaryUnderstood(*column.type); });
    sides.nulled = std::make_shared<int64_t>(0);
    sides.read_source = [this, facts, binary, nulled = sides.nulled,
                         schema = sides.schema](const OnBatch& as_held) -> Status {
      int64_t not_held = 0;
      const OnBatch on_batch = [&](std::shared_ptr<arrow::RecordBatch> rows) -> Status {
        if (spec_.reader.batch.on_unrepresentable == OnUnrepresentable::kNull) {
          ETL_ASSIGN_OR_RETURN(rows, stored_->AsHeld(*schema, std::move(rows), &not_held));
        }
        return as_held(rows);
      };
      ETL_ASSIGN_OR_RETURN(const std::unique_ptr<CopyBatcher> batcher,
                           CopyBatcher::Make(schema, binary, &spec_.reader.batch));
      const auto on_bytes = [&](std::string_view bytes) -> Status {
        ETL_RETURN_IF_ERROR(CheckAsked());
        ETL_RETURN_IF_ERROR(batcher->Append(bytes));
        if (batcher->bytes() < kBatchBytes) return Status::OK();
        ETL_ASSIGN_OR_RETURN(const std::shared_ptr<arrow::RecordBatch> rows, batcher->Seal());
        return on_batch(rows);
      };
      ETL_RETURN_IF_ERROR(snapshot_->CopyTable(*schema, facts, binary, on_bytes));
      ETL_RETURN_IF_ERROR(batcher->Finish());
      if (batcher->rows() > 0) {
        ETL_ASSIGN_OR_RETURN(const std::shared_ptr<arrow::RecordBatch> rows, batcher->Seal());
        ETL_RETURN_IF_ERROR(on_batch(rows));
      }
      *nulled = batcher->nulled() + not_held;
      return Status::OK();
    };
    // Without a key there is nothing to read in append mode: it is not compared.
    if (spec_.reader.mode == Mode::kAppend && sides.schema->identity != Identity::kKey)
      return sides;
    ETL_ASSIGN_OR_RETURN(StoredSide::Reader reader, stored_->ReaderOf(sides.schema));
    sides.read_destination = [this, reader](const OnBatch& on_batch) -> Status {
      return reader([&](const std::shared_ptr<arrow::RecordBatch>& rows) -> Status {
        ETL_RETURN_IF_ERROR(CheckAsked());
        return on_batch(rows);
      });
    };
    return sides;
  }

  Status CheckAsked() const {
    if (!work_.stop->load()) return Status::OK();
    return MakeError(ErrorKind::kNegative, "ETL-V002",
                     "verify was interrupted before it came to a verdict");
  }

  Status WaitFor(Instant deadline, const std::function<bool()>& done) {
    while (!done()) {
      ETL_RETURN_IF_ERROR(CheckAsked());
      if (const auto stopped = work_.supervisor->stopped_by(); stopped != nullptr) return *stopped;
      const std::shared_ptr<const PipelineStatus> status = work_.supervisor->status();
      if (status->phase == PipelinePhase::kPaused) {
        return MakeError(ErrorKind::kBusy, "ETL-V003", "pipeline " + spec_.name + " is paused",
                         "etl-stream pipeline start " + spec_.name);
      }
      if (work_.clock->Now() >= deadline) {
        return MakeError(
            ErrorKind::kTransient, "ETL-V004",
            "pipeline " + spec_.name + " does not stand still long enough to be compared",
            "run verify again");
      }
      if (work_.on_status) work_.on_status(*status);
      poll(nullptr, 0, 20);
    }
    return Status::OK();
  }

  // Runs on the supervisor's thread, which alone may touch the pipeline, and waits for the answer.
  Result<bool> Command(std::function<bool(Pipeline&)> work) {
    enum : int { kWaiting, kNo, kYes };
    auto answer = std::make_shared<std::atomic<int>>(kWaiting);
    work_.supervisor->WithPipeline(
        [answer, work](Pipeline& pipeline) { *answer = work(pipeline) ? kYes : kNo; });
    ETL_RETURN_IF_ERROR(
        WaitFor(work_.clock->Now() + kStandStill, [&] { return answer->load() != kWaiting; }));
    return answer->load() == kYes;
  }

  Status WaitForBoard(const std::function<bool(const ReaderBoard&)>& done) {
    const Instant deadline = work_.clock->Now() + kStandStill;
    while (true) {
      ETL_ASSIGN_OR_RETURN(const bool seen,
                           Command([done](Pipeline& pipeline) { return done(pipeline.board()); }));
      if (seen) return Status::OK();
      bool waited = false;
      ETL_RETURN_IF_ERROR(WaitFor(deadline, [&] { return std::exchange(waited, true); }));
    }
  }

  const VerifyWork& work_;
  const PipelineSpec& spec_;
  const PipelineConfig& definition_;
  SourceOptions source_;
  std::unique_ptr<SlotSnapshot> snapshot_;
  std::unique_ptr<StoredSide> stored_;
};

}  // namespace

Status NoSuchTable(const std::string& pipeline, const std::string& table) {
  return MakeError(ErrorKind::kUsage, "ETL-U011",
                   "table " + table + " is not one of pipeline " + pipeline,
                   "etl-stream status " + pipeline);
}

Result<VerifyReport> VerifyRunning(const VerifyWork& work) { return Verifier(work).Run(); }

}  // namespace etl
