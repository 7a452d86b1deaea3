#pragma once

// For the tests of the destination against the emulator, which runs as a program of its own.

#include <atomic>
#include <span>
#include <thread>

#include <arrow/api.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>

#include "destination/conformance_model.h"
#include "destination/snowflake/emulator_testing.h"
#include "destination/snowflake/snowflake_destination.h"

namespace etl {

using Json = nlohmann::json;

inline int Seeds() {
  if (const char* text = std::getenv("ETL_TEST_SEEDS")) return std::atoi(text);
  return std::getenv("ETL_TEST_SHORT") == nullptr ? 2 : 1;
}

/// A source that sends segments again from where the destination says it is, and a process that is
/// killed now and then.
class Feed {
 public:
  Feed(EmulatorProcess& emulator, Mode mode, uint64_t seed)
      : emulator_(emulator), mode_(mode), random_(seed) {}

  void Open() {
    SnowflakeOptions options{.config = Config(),
                             .key = [this]() -> Result<KeyOrigin> { return TestOrigin(&key_); },
                             .forward_every = std::chrono::milliseconds(50),
                             .purge_rows = 10};
    if (tune) tune(options);
    destination_ = std::make_unique<SnowflakeDestination>(std::move(options), SystemClock());
    auto started = destination_->Start({.pipeline = "p", .mode = mode_});
    ASSERT_TRUE(started.ok()) << ErrorLine(started.status());
    checkpoint_ = *started;
    if (!checkpoint_.identity.has_value()) {
      const Status begun = destination_->BeginHistory(
          {.identity = {.system_id = 7512345678901234567u, .database_oid = 5, .slot = "etl_p"},
           .timeline = 1,
           .position = {1000},
           .lc_monetary = "C"});
      ASSERT_TRUE(begun.ok()) << ErrorLine(begun);
      checkpoint_.position = {1000};
    }
    ASSERT_GE(checkpoint_.position, durable_) << "what was reported durable is gone";
    durable_ = checkpoint_.position;
    next_ = 0;
    while (next_ < segments_.size() && durable_ >= EndOf(next_)) ++next_;
    done_.clear();
    sent_.clear();
    folds_.clear();
    settled_.clear();
    folds_waiting_ = 0;
    asked_.clear();
    for (const TableCheckpoint& table : checkpoint_.tables) {
      for (const auto& chunk : table.done) done_.insert({table.schema->id.oid, chunk.number});
      if (table.phase == TablePhase::kLive && table.generation >= GenerationOf(table.schema->id))
        asked_.insert(table.schema->id.oid);
      if (chunks_.contains(table.schema->id.oid)) continue;
      if (table.phase == TablePhase::kCopying && table.planned)
        folds_.push_back({.table = table.schema->id, .generation = table.generation});
    }
  }

  void Add(Segment segment) { segments_.push_back(std::move(segment)); }
  /// Tables that have no rows yet.
  void AddTables(const std::vector<ModelTable>& tables, Lsn at) {
    Segment segment;
    for (const ModelTable& table : tables) {
      segment.parts.push_back(CopyStart{.schema = table.schema(), .generation = 1, .from = at});
      segment.parts.push_back(CopyPlan{.table = table.schema()->id, .generation = 1});
    }
    segment.end = at;
    Add(std::move(segment));
  }

  /// Copied rows for a table: each chunk is sent in two pieces, again in every run until it is
  /// done.
  void AddChunks(TableId table, std::vector<ChunkRows> chunks, Lsn ignore_below,
                 Lsn from = {2000}) {
    chunks_[table.oid] = std::move(chunks);
    ignore_below_[table.oid] = ignore_below;
    chunks_from_ = from;
  }

  /// Until all is durable; dies in one of `crash_one_in` steps, and after each time a little more
  /// seldom, so that it ends on a slow machine, too.
  void Run(uint64_t crash_one_in) {
    const Instant give_up = SystemClock().Now() + std::chrono::seconds(300);
    Open();
    while (!testing::Test::HasFatalFailure() &&
           (durable_ < segments_.back().end || !folds_.empty() || folds_waiting_ > 0 ||
            asked_.size() < chunks_.size())) {
      ASSERT_LT(SystemClock().Now(), give_up) << "durable " << FormatLsn(durable_);
      if (crash_one_in > 0 && random_.OneIn(crash_one_in)) {
        ++crashes_;
        crash_one_in += 1 + crash_one_in / 10;
        destination_.reset();
        Open();
        continue;
      }
      Step();
    }
  }

  void Step() {
    const Instant now = SystemClock().Now();
    if (destination_->Ready(now)) {
      if (SendChunk()) {
      } else if (!settled_.empty()) {
        ASSERT_TRUE(destination_->Accept(settled_.front()).ok());
        settled_.pop_front();
      } else if (!folds_.empty()) {
        ASSERT_TRUE(destination_->Accept(folds_.front()).ok());
        folds_.pop_front();
        ++folds_waiting_;
      } else if (next_ < segments_.size()) {
        for (const SegmentPart& part : segments_[next_].parts) {
          if (const auto* plan = std::get_if<CopyPlan>(&part);
              plan != nullptr && !chunks_.contains(plan->table.oid))
            folds_.push_back({.table = plan->table, .generation = plan->generation});
        }
        ASSERT_TRUE(destination_->Accept(segments_[next_++]).ok());
      }
    }
    auto progress = destination_->Advance(SystemClock().Now());
    ASSERT_TRUE(progress.ok()) << ErrorLine(progress.status());
    ASSERT_GE(progress->durable, durable_);
    durable_ = progress->durable;
    used_ = progress->used.value_or(DestinationUse{});
    for (const auto& chunk : progress->chunks) done_.insert({chunk.table.oid, chunk.chunk});
    for (const TableStop& stop : progress->stopped) {
      ASSERT_EQ(stop.code, stop_expected_) << stop.reason;
      stopped_ = true;
    }
    for (const FoldResult& fold : progress->folds) {
      --folds_waiting_;
      if (fold.folded) continue;
      ++rounds_;
      ASSERT_FALSE(fold.xids.empty());
      ASSERT_NE(model_, nullptr);
      settled_.push_back({.table = fold.table,
                          .generation = fold.generation,
                          .read_after = fold.at,
                          .high = durable_,
                          .rows = model_->Lookup(*fold.missing_keys)});
      folds_.push_back({.table = fold.table, .generation = fold.generation});
    }
    if (progress->worked) return;
    std::vector<pollfd> fds;
    destination_->AddPollFds(fds);
    poll(fds.data(), fds.size(), 5);
  }

  /// Changes the options of each run.
  std::function<void(SnowflakeOptions&)> tune;

  Destination& destination() { return *destination_; }
  void Close() { destination_.reset(); }
  const Checkpoint& checkpoint() const { return checkpoint_; }
  const DestinationUse& used() const { return used_; }
  const std::vector<Segment>& segments() const { return segments_; }
  const std::vector<ChunkRows>& chunks(TableId table) const { return chunks_.at(table.oid); }
  Lsn durable() const { return durable_; }
  int crashes() const { return crashes_; }
  /// Rows that are missing are read again from here.
  void ReadAgainFrom(const ModelTable& table) { model_ = &table; }
  int rounds() const { return rounds_; }
  void ExpectStop(std::string code) { stop_expected_ = std::move(code); }
  bool stopped() const { return stopped_; }
  /// What was sent, and how far it got: another history begins.
  void Forget() {
    segments_.clear();
    next_ = 0;
    durable_ = {1};
  }
  /// As the destination has it.
  const TableCheckpoint* Table(TableId id) {
    destination_.reset();
    Open();
    for (const TableCheckpoint& table : checkpoint_.tables) {
      if (table.schema->id == id) return &table;
    }
    return nullptr;
  }

  /// Steps on until `done`.
  void StepUntil(const std::function<bool()>& done) {
    const Instant give_up = SystemClock().Now() + std::chrono::seconds(60);
    while (!testing::Test::HasFatalFailure() && !done()) {
      if (SystemClock().Now() > give_up) return;
      const Instant pause = SystemClock().Now() + std::chrono::milliseconds(200);
      while (!testing::Test::HasFatalFailure() && SystemClock().Now() < pause) Step();
    }
  }

 private:
  SnowflakeConfig Config() const {
    SnowflakeConfig config = emulator_.Config();
    config.merge_every = std::chrono::milliseconds(100);
    return config;
  }
  /// The next piece of a chunk, or a fold when all are done.
  bool SendChunk() {
    if (durable_ < chunks_from_ || chunks_.empty()) return false;
    for (auto& [oid, chunks] : chunks_) {
      size_t done = 0;
      for (ChunkRows& chunk : chunks) {
        const std::pair<uint32_t, uint32_t> id{oid, chunk.chunk};
        if (done_.contains(id)) {
          ++done;
          continue;
        }
        int& pieces = sent_[id];
        if (pieces >= 2 || (pieces == 0 && random_.OneIn(3))) continue;
        if (pieces == 0) ++chunk.attempt;
        ChunkRows piece = chunk;
        const int64_t half = chunk.rows->num_rows() / 2;
        piece.rows = pieces == 0 ? chunk.rows->Slice(0, half) : chunk.rows->Slice(half);
        if (pieces == 0) piece.done.reset();
        ++pieces;
        // Now and then the copier begins a chunk anew.
        if (pieces == 1 && random_.OneIn(5)) pieces = 0;
        EXPECT_TRUE(destination_->Accept(std::move(piece)).ok());
        return true;
      }
      if (done == chunks.size() && durable_ >= segments_.back().end && asked_.insert(oid).second) {
        folds_.push_back({.table = {oid},
                          .generation = GenerationOf({oid}),
                          .ignore_below = ignore_below_.at(oid)});
      }
    }
    return false;
  }

  uint32_t GenerationOf(TableId table) const {
    const auto chunks = chunks_.find(table.oid);
    return chunks == chunks_.end() ? 1 : chunks->second.at(0).generation;
  }
  Lsn EndOf(size_t index) const {
    while (index < segments_.size() && !segments_[index].complete) ++index;
    return segments_[index].end;
  }

  EmulatorProcess& emulator_;
  const Mode mode_;
  Random random_;
  int key_ = 0;
  std::unique_ptr<SnowflakeDestination> destination_;
  Checkpoint checkpoint_;
  std::vector<Segment> segments_;
  size_t next_ = 0;
  std::map<uint32_t, std::vector<ChunkRows>> chunks_;
  std::map<uint32_t, Lsn> ignore_below_;
  Lsn chunks_from_;
  std::set<std::pair<uint32_t, uint32_t>> done_;
  std::map<std::pair<uint32_t, uint32_t>, int> sent_;
  std::set<uint32_t> asked_;  ///< to be folded
  std::deque<FoldRequest> folds_;
  std::deque<SettledRows> settled_;
  const ModelTable* model_ = nullptr;
  int rounds_ = 0;
  int folds_waiting_ = 0;
  std::string stop_expected_;
  bool stopped_ = false;
  Lsn durable_{1};
  DestinationUse used_;
  int crashes_ = 0;
};

/// Position and operation of everything that was sent.
inline std::map<std::string, std::string> Expected(const std::vector<Segment>& segments,
                                                   TableId table) {
  std::map<std::string, std::string> out;
  for (const Segment& segment : segments) {
    for (const SegmentPart& part : segment.parts) {
      if (const auto* truncate = std::get_if<TruncateChange>(&part)) {
        if (truncate->schema->id == table) out[PositionText(truncate->at)] = "T";
      }
      const auto* batch = std::get_if<ChangeBatch>(&part);
      if (batch == nullptr || batch->schema->id != table) continue;
      size_t run = 0;
      for (int64_t row = 0; row < batch->size(); ++row) {
        while (batch->transactions[run].end_row <= row) ++run;
        const auto at = static_cast<size_t>(row);
        const char op = static_cast<char>(std::toupper(static_cast<char>(batch->ops[at])));
        out[PositionText({batch->transactions[run].commit, batch->ordinals[at]})] =
            std::string(1, op == 'M' ? 'I' : op);
      }
    }
  }
  return out;
}

/// Segments of two tables, some in pieces, some idle.
enum class Columns : uint8_t { kStay, kChange };
inline void Fill(Feed& feed, std::span<ModelTable> tables, uint64_t seed, int segments,
                 Columns columns = Columns::kStay) {
  Random random(seed);
  uint64_t lsn = std::max<uint64_t>(feed.segments().back().end.value, 2000);
  uint32_t xid = 100;
  for (int i = 0; i < segments; ++i) {
    Segment segment;
    for (int n = static_cast<int>(random.Below(4)); n > 0; --n) {
      ModelTable& table = tables[random.Below(tables.size())];
      lsn += 8;
      if (columns == Columns::kChange && random.OneIn(4)) table.ChangeSchema(&segment.parts);
      if (random.OneIn(8)) {
        table.Truncate({lsn}, ++xid, &segment.parts);
        lsn += 8;
      }
      segment.rows +=
          table.Transaction({lsn}, ++xid, 1 + static_cast<int>(random.Below(40)), &segment.parts);
    }
    lsn += 8;
    if (segment.parts.size() > 1 && random.OneIn(3)) {
      Segment first;
      first.complete = false;
      first.parts.push_back(segment.parts.front());
      segment.parts.erase(segment.parts.begin());
      feed.Add(std::move(first));
    }
    segment.end = {lsn};
    feed.Add(std::move(segment));
  }
}

inline void ExpectLanded(EmulatorProcess& emulator, const Feed& feed, const ModelTable& table,
                         const std::string& landing) {
  std::map<std::string, std::string> found;
  for (const Json& row : emulator.Rows("ETL", landing, "_ETL_POSITION")) {
    const std::string position = row.at("_ETL_POSITION");
    EXPECT_TRUE(found.emplace(position, row.at("_ETL_OP")).second) << "twice: " << position;
  }
  EXPECT_EQ(found, Expected(feed.segments(), table.schema()->id));
}

using Texts = std::vector<std::vector<std::string>>;

/// What the model holds, as the SQL API writes it; numbers and lists in one form.
inline Texts ModelRows(const ModelTable& table) {
  const auto rows = table.All();
  Texts out(static_cast<size_t>(rows->num_rows()));
  for (int c = 0; c < rows->num_columns(); ++c) {
    const arrow::Array& column = *rows->column(c);
    for (int64_t row = 0; row < rows->num_rows(); ++row) {
      std::string text = "null";
      if (column.IsValid(row)) {
        text = (*column.GetScalar(row))->ToString();
        if (column.type_id() == arrow::Type::DOUBLE)
          text = std::to_string(static_cast<const arrow::DoubleArray&>(column).Value(row));
        if (column.type_id() == arrow::Type::LIST) {
          const auto& list = static_cast<const arrow::ListArray&>(column);
          const auto values = list.value_slice(row);
          Json json = Json::array();
          for (int64_t i = 0; i < values->length(); ++i) {
            json.push_back(values->IsNull(i) ? Json() : Json((*values->GetScalar(i))->ToString()));
          }
          text = json.dump();
        }
      }
      out[static_cast<size_t>(row)].push_back(text == "-0.000000" ? "0.000000" : text);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

inline Texts TargetRows(EmulatorProcess& emulator, const ModelTable& table,
                        const std::string& name) {
  Texts out;
  const SnowflakeNames names({.database = "DB", .schema = "S", .landing_schema = "ETL"});
  for (const Json& row : emulator.Rows("S", name, names.Fold("id"))) {
    out.emplace_back();
    for (const Column& column : table.schema()->columns) {
      const Json& value = row.at(names.Fold(column.name));
      std::string text = value.is_null() ? "null" : value.get<std::string>();
      if (!value.is_null() && column.type->kind == TypeKind::kFloat8)
        text = std::to_string(std::stod(text));
      if (!value.is_null() && column.type->kind == TypeKind::kList) text = Json::parse(text).dump();
      out.back().push_back(text == "-0.000000" ? "0.000000" : text);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace etl
