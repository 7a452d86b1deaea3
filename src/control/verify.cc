// `verify`: source and destination at one position.
//
// A temporary slot gives a snapshot of the source and the position it stands for: exactly the
// transactions below it. The pipeline is brought to that position and held there while a read
// transaction of the destination is opened; then both sides are read at leisure.
#include <poll.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/log.h"
#include "batch/table_batcher.h"
#include "control/commands.h"
#include "control/pipeline_factory.h"
#include "control/row_hash.h"
#include "control/sync_target.h"
#include "destination/duckdb/duckdb_read.h"
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
  ETL_ASSIGN_OR_RETURN(const Digest destination, DigestOf(sides.read_destination, all));
  table.source_rows = source.rows;
  table.destination_rows = destination.rows;
  table.equal = source == destination;
  if (table.equal) return table;
  if (sides.schema->identity == Identity::kKey) {
    ETL_RETURN_IF_ERROR(NameDifferences(sides, std::max(source.rows, destination.rows), &table));
  } else {
    table.note = "the table has no key: only numbers of rows can be told";
    return table;
  }
  ETL_RETURN_IF_ERROR(NameColumns(sides, &table));
  return table;
}

class Verifier {
 public:
  Verifier(ControlContext& context, const VerifyOptions& options)
      : context_(context),
        options_(options),
        definition_(context.config->pipelines.at(options.pipeline)),
        resources_(*context.config) {}

  Result<VerifyReport> Run() {
    if (definition_.mode == PipelineMode::kAppend) {
      return MakeError(
          ErrorKind::kUsage, "ETL-U010",
          "pipeline " + options_.pipeline + " is in append mode: there is no copy to compare");
    }
    ETL_ASSIGN_OR_RETURN(lock_, context_.catalog.TryLockPipeline(options_.pipeline));
    ETL_ASSIGN_OR_RETURN(PipelineSpec spec,
                         MakePipelineSpec(*context_.config, options_.pipeline, &resources_));
    batch_ = spec.reader.batch;
    rules_ = spec.reader.rules;
    source_ = spec.source.Clone();
    supervisor_ =
        std::make_unique<Supervisor>(std::move(spec),
                                     RetryOptions{.max_delay = definition_.retry_max_delay,
                                                  .give_up = definition_.retry_give_up},
                                     resources_.budget(), context_.clock);
    ETL_ASSIGN_OR_RETURN(const Lsn target,
                         ReadSyncTarget(source_, context_.clock.Now() + std::chrono::seconds(30)));
    supervisor_->SetTarget(target);
    supervisor_->Start();
    Result<VerifyReport> report = Verify();
    supervisor_->Stop(context_.clock.Now() + context_.config->limits.shutdown);
    return report;
  }

 private:
  Result<VerifyReport> Verify() {
    ETL_RETURN_IF_ERROR(WaitFor([&] { return supervisor_->reached(); }));
    supervisor_->WithPipeline([](Pipeline& pipeline) { pipeline.Command(Freeze{}); });
    ETL_RETURN_IF_ERROR(WaitForBoard([](const ReaderBoard& board) { return board.frozen.load(); }));
    ETL_ASSIGN_OR_RETURN(
        snapshot_, SlotSnapshot::Open(source_, context_.clock.Now() + std::chrono::seconds(60)));
    const Lsn position = snapshot_->position();
    supervisor_->WithPipeline(
        [position](Pipeline& pipeline) { pipeline.Command(HoldAt{position}); });
    ETL_RETURN_IF_ERROR(WaitForBoard(
        [position](const ReaderBoard& board) { return board.held_at == position.value; }));
    // A table that the schema change or copy of which is under way would have been named by
    // `reached`.
    ETL_ASSIGN_OR_RETURN(stored_, DuckDbSnapshot::Open(resources_.FileOf(
                                      context_.config->destinations.at(definition_.destination))));
    supervisor_->WithPipeline([](Pipeline& pipeline) { pipeline.Command(Release{}); });
    return CompareAll(position);
  }

  Result<VerifyReport> CompareAll(Lsn position) {
    VerifyReport report;
    report.pipeline = options_.pipeline;
    report.position = position;
    ETL_ASSIGN_OR_RETURN(const TablesAnswer tables, LoadCatalog());
    bool found = options_.table.empty();
    for (const TableStatus& status : supervisor_->status()->tables) {
      if (!options_.table.empty() && status.name != options_.table) continue;
      found = true;
      VerifiedTable table;
      table.name = status.name;
      const TableFacts* facts = nullptr;
      for (const TableFacts& candidate : tables.tables) {
        if (candidate.QualifiedName() == status.name) facts = &candidate;
      }
      if (status.phase != TablePhase::kLive || facts == nullptr) {
        table.note = "not compared: " +
                     (status.error.empty() ? std::string("it is not live") : status.error);
        report.tables.push_back(std::move(table));
        continue;
      }
      ETL_ASSIGN_OR_RETURN(Sides sides, SidesOf(*facts));
      ETL_ASSIGN_OR_RETURN(table, Compare(sides));
      report.tables.push_back(std::move(table));
    }
    if (!found) {
      return MakeError(ErrorKind::kUsage, "ETL-U011",
                       "table " + options_.table + " is not one of pipeline " + options_.pipeline);
    }
    return report;
  }

  Result<TablesAnswer> LoadCatalog() {
    const Instant deadline = context_.clock.Now() + std::chrono::seconds(30);
    ETL_ASSIGN_OR_RETURN(const std::unique_ptr<PgConnection> connection,
                         PgConnection::Connect(source_, PgConnection::Mode::kNormal, deadline));
    return LoadTables(*connection, definition_.publication, deadline);
  }

  Result<Sides> SidesOf(const TableFacts& facts) {
    ColumnRules rules;
    if (const auto found = rules_.find(facts.QualifiedName()); found != rules_.end())
      rules = found->second;
    Sides sides;
    ETL_ASSIGN_OR_RETURN(sides.schema, MakeTableSchema(facts, rules, 1));
    const bool binary =
        rules.hash.empty() &&
        std::all_of(sides.schema->wire.begin(), sides.schema->wire.end(),
                    [](const WireColumn& column) { return BinaryUnderstood(*column.type); });
    sides.read_source = [this, facts, binary,
                         schema = sides.schema](const OnBatch& on_batch) -> Status {
      ETL_ASSIGN_OR_RETURN(const std::unique_ptr<CopyBatcher> batcher,
                           CopyBatcher::Make(schema, binary, &batch_));
      const auto on_bytes = [&](std::string_view bytes) -> Status {
        ETL_RETURN_IF_ERROR(batcher->Append(bytes));
        if (batcher->bytes() < kBatchBytes) return Status::OK();
        ETL_ASSIGN_OR_RETURN(const std::shared_ptr<arrow::RecordBatch> rows, batcher->Seal());
        return on_batch(rows);
      };
      ETL_RETURN_IF_ERROR(snapshot_->CopyTable(*schema, facts, binary, on_bytes));
      ETL_RETURN_IF_ERROR(batcher->Finish());
      if (batcher->rows() == 0) return Status::OK();
      ETL_ASSIGN_OR_RETURN(const std::shared_ptr<arrow::RecordBatch> rows, batcher->Seal());
      return on_batch(rows);
    };
    sides.read_destination = [this, schema = sides.schema](const OnBatch& on_batch) {
      return ReadDuckDbTable(stored_->connection(), *schema, on_batch);
    };
    return sides;
  }

  Status WaitFor(const std::function<bool()>& done) {
    while (!done()) {
      if (context_.interrupt.stopping()) {
        return MakeError(ErrorKind::kNegative, "ETL-V002",
                         "verify was interrupted before it came to a verdict");
      }
      if (const auto stopped = supervisor_->stopped_by(); stopped != nullptr) return *stopped;
      if (context_.on_status) context_.on_status(*supervisor_->status());
      pollfd fd{.fd = context_.interrupt.changed().fd(), .events = POLLIN, .revents = 0};
      poll(&fd, 1, 20);
      if ((fd.revents & POLLIN) != 0) context_.interrupt.changed().Clear();
    }
    return Status::OK();
  }

  // Waits for a flag of the running reader; asked on the supervisor's thread, which alone may touch
  // the pipeline.
  Status WaitForBoard(std::function<bool(const ReaderBoard&)> done) {
    auto seen = std::make_shared<std::atomic<bool>>(false);
    Instant next{};
    return WaitFor([&, seen] {
      if (!seen->load() && context_.clock.Now() >= next) {
        supervisor_->WithPipeline(
            [seen, done](Pipeline& pipeline) { *seen = done(pipeline.board()); });
        next = context_.clock.Now() + std::chrono::milliseconds(10);
      }
      return seen->load();
    });
  }

  ControlContext& context_;
  const VerifyOptions& options_;
  const PipelineConfig& definition_;
  ProcessResources resources_;
  std::unique_ptr<RunnerLock> lock_;
  std::unique_ptr<Supervisor> supervisor_;
  SourceOptions source_;
  BatchOptions batch_;
  std::map<std::string, ColumnRules> rules_;
  std::unique_ptr<SlotSnapshot> snapshot_;
  std::unique_ptr<DuckDbSnapshot> stored_;
};

}  // namespace

Result<VerifyReport> RunVerify(ControlContext& context, const VerifyOptions& options) {
  return Verifier(context, options).Run();
}

}  // namespace etl
