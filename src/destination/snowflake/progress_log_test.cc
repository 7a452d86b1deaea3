#include "destination/snowflake/progress_log.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <arrow/api.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "model/column_type.h"

namespace etl {
namespace {

/// Under sanitizers every history takes ten times as long.
bool Short() { return std::getenv("ETL_TEST_SHORT") != nullptr; }

TableSchemaPtr Schema(uint32_t oid, int columns) {
  auto schema = std::make_shared<TableSchema>();
  schema->id = {oid};
  schema->schema = "public";
  schema->name = "t" + std::to_string(oid);
  for (int i = 0; i < columns; ++i) {
    auto type = std::make_shared<ColumnType>();
    type->kind = TypeKind::kInt8;
    schema->columns.push_back(
        {.attnum = static_cast<int16_t>(i + 1), .name = "c" + std::to_string(i), .type = type});
  }
  return schema;
}

/// Rows as the destination writes them: runs that end anywhere, copies, stops, other histories.
class History {
 public:
  explicit History(uint64_t seed) : random_(seed) {
    Checkpoint first;
    first.identity = SourceIdentity{7, 5, "slot"};
    first.position = {100};
    Write(ProgressLog::History(first, true));
  }

  /// One thing that happens, on top of what the rows come to so far.
  void Step() {
    const ProgressLog log = Loaded(0);
    position_ += 8;
    switch (random_.Below(8)) {
      case 0:
      case 1:
      case 2: Boundary(log); break;
      case 3: Immediate(log); break;
      case 4:
        // A run that ended before its boundary was written, and the next one.
        if (!log.tables().empty()) Write(ProgressLog::Table(log.tables().begin()->second, false));
        Write(Loaded(0).Begin());
        break;
      case 5:
        if (random_.OneIn(4)) {
          ++history_;
          Write(ProgressLog::History(log.checkpoint(), true));
        } else {
          Checkpoint next = log.checkpoint();
          ++next.timeline;
          Write(ProgressLog::History(next, false));
        }
        break;
      default: Write(ProgressLog::Forward({position_})); break;
    }
  }

  void Repeat() {
    first_ = sequence_ + 1;
    const ProgressLog log = Loaded(0);
    std::vector<const SnowflakeTableState*> tables;
    for (const auto& [oid, table] : log.tables()) tables.push_back(&table);
    for (const ProgressRecord& record : ProgressLog::Whole(log.checkpoint(), tables)) Write(record);
  }

  /// What a run reads when rows before `first` are gone.
  ProgressLog Loaded(uint64_t first) const {
    SqlRows rows;
    for (const SqlRow& row : rows_) {
      if (std::stoull(*row[0]) >= first) rows.rows.push_back(row);
    }
    ProgressLog log;
    const Status loaded = log.Load(rows);
    EXPECT_TRUE(loaded.ok()) << ErrorLine(loaded);
    return log;
  }
  uint64_t first() const { return first_; }
  size_t size() const { return rows_.size(); }
  /// The session of the repetition ends: its last `rows` rows never come.
  void Cut(size_t rows) { rows_.resize(rows_.size() - rows); }

 private:
  void Write(const ProgressRecord& record) {
    char lsn[17];
    snprintf(lsn, sizeof lsn, "%016llx", static_cast<unsigned long long>(record.lsn.value));
    rows_.push_back({std::to_string(++sequence_), std::to_string(history_),
                     std::string(ProgressKindName(record.kind)), std::to_string(record.table.oid),
                     std::to_string(record.generation), lsn, record.body});
  }

  void Boundary(const ProgressLog& log) {
    for (int n = static_cast<int>(random_.Below(3)); n > 0; --n) {
      const auto oid = static_cast<uint32_t>(random_.Below(4));
      SnowflakeTableState state;
      if (const auto at = log.tables().find(oid); at != log.tables().end()) state = at->second;
      TableCheckpoint& checkpoint = state.checkpoint;
      if (checkpoint.schema == nullptr || random_.OneIn(4)) {
        checkpoint = {.schema = Schema(oid, 1 + static_cast<int>(random_.Below(3))),
                      .generation = checkpoint.generation + 1,
                      .phase = TablePhase::kCopying,
                      .from = {position_}};
        state.landing = checkpoint.schema;
        state.landing_history = history_;
        state.fill.clear();
        state.again = random_.OneIn(2);
        state.attempts.clear();
        state.xids.clear();
        Write(ProgressLog::Landing(state));
        state.spreads.clear();
      } else if (checkpoint.phase == TablePhase::kCopying) {
        Write(ProgressLog::Xids(state, {position_}, {{{position_ - 1}, ++attempt_}}));
        checkpoint.planned = true;
        checkpoint.chunks = {{.number = 0, .leaf = {oid}}, {.number = 1, .leaf = {oid}}};
      } else {
        checkpoint.fingerprint += "x";
        checkpoint.stop_reason = checkpoint.phase == TablePhase::kStopped ? "why" : "";
      }
      Write(ProgressLog::Table(state, false));
    }
    Write(ProgressLog::Forward({position_}));
  }

  void Immediate(const ProgressLog& log) {
    for (const auto& [oid, stored] : log.tables()) {
      SnowflakeTableState state = stored;
      TableCheckpoint& checkpoint = state.checkpoint;
      if (checkpoint.schema == nullptr || random_.OneIn(3)) {
        Alter(std::move(state));
      } else if (random_.OneIn(2)) {
        state.spreads.push_back({{position_}, static_cast<uint32_t>(random_.Below(4)) + 2});
        Write(ProgressLog::Spread(state));
      } else if (checkpoint.phase != TablePhase::kCopying) {
        continue;
      } else if (checkpoint.done.size() < 2) {
        Write(ProgressLog::ChunkDone(
            state, {static_cast<uint32_t>(checkpoint.done.size()), {position_}, 7}, ++attempt_));
      } else {
        checkpoint.phase = random_.OneIn(3) ? TablePhase::kStopped : TablePhase::kLive;
        checkpoint.chunks.clear();
        checkpoint.done.clear();
        checkpoint.rows = 14;
        state.attempts.clear();
        state.xids.clear();
        state.target = checkpoint.schema;
        Write(ProgressLog::Table(state, true));
      }
    }
  }

  /// The landing table goes on its way to other columns, or gets there.
  void Alter(SnowflakeTableState state) {
    if (state.altering == nullptr) {
      state.altering = Schema(state.landing->id.oid, 1 + static_cast<int>(random_.Below(4)));
      if (random_.OneIn(2)) state.altering_target = state.altering;
      state.newest_attnum = std::max(state.newest_attnum, NewestAttnum(*state.altering));
      arrow::Int32Builder value;
      EXPECT_TRUE(value.Append(static_cast<int32_t>(position_)).ok());
      state.fill[static_cast<int16_t>(1 + random_.Below(3))] = value.Finish().ValueOrDie();
    } else {
      state.landing = std::exchange(state.altering, nullptr);
      if (state.altering_target != nullptr)
        state.target = std::exchange(state.altering_target, nullptr);
    }
    Write(ProgressLog::Landing(state));
  }

  Random random_;
  std::vector<SqlRow> rows_;
  uint64_t sequence_ = 0;
  uint64_t first_ = 0;
  uint32_t history_ = 1;
  uint32_t attempt_ = 0;
  uint64_t position_ = 96;
};

/// All of what Start takes from a log.
std::string Text(const ProgressLog& log) {
  std::string text = std::to_string(log.history()) + " " + std::to_string(log.last_sequence()) +
                     " " + log.Begin().body;
  std::vector<const SnowflakeTableState*> tables;
  for (const auto& [oid, table] : log.tables()) tables.push_back(&table);
  for (const ProgressRecord& record : ProgressLog::Whole(log.checkpoint(), tables))
    text += "\n" + std::to_string(record.lsn.value) + " " + record.body;
  return text;
}

TEST(ProgressLog, ComesToTheSameWithoutTheRowsBeforeARepetition) {
  size_t copies = 0;
  for (uint64_t seed = 1; seed <= (Short() ? 10 : 40); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Random random(seed * 7);
    History history(seed);
    for (int step = 0; step < 60; ++step) {
      history.Step();
      if (random.OneIn(10)) {
        const std::string before = Text(history.Loaded(0));
        history.Repeat();
        // But for the sequence, which grew.
        EXPECT_EQ(Text(history.Loaded(history.first())), Text(history.Loaded(0)));
        const auto from = [](const std::string& text) { return text.substr(text.find('\n')); };
        EXPECT_EQ(from(before), from(Text(history.Loaded(0))));
      }
      ASSERT_EQ(Text(history.Loaded(history.first())), Text(history.Loaded(0))) << "step " << step;
      const ProgressLog log = history.Loaded(0);
      for (const auto& [oid, table] : log.tables()) copies += table.attempts.empty() ? 0 : 1;
    }
  }
  EXPECT_GT(copies, 50u);
}

TEST(ProgressLog, AnInterruptedRepetitionChangesNothing) {
  for (uint64_t seed = 1; seed <= (Short() ? 25 : 100); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    History history(seed);
    for (int step = 0; step < 40; ++step) history.Step();
    const std::string before = Text(history.Loaded(0));
    const size_t rows = history.size();
    history.Repeat();
    while (history.size() > rows) {
      const std::string text = Text(history.Loaded(0));
      EXPECT_EQ(text.substr(text.find('\n')), before.substr(before.find('\n')));
      history.Cut(1);
    }
  }
}

}  // namespace
}  // namespace etl
