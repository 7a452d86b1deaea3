// Copied rows: chunks of a table on channels of their own, beside its changes.

#include <algorithm>

#include <arrow/api.h>
#include <fmt/format.h>

#include "base/failpoint.h"
#include "destination/snowflake/fold_sql.h"
#include "destination/snowflake/snowflake_destination.h"

namespace etl {
namespace {

constexpr uint32_t kLaneBits = 4;
constexpr size_t kLanesMax = size_t{1} << kLaneBits;

uint32_t AttemptOf(const Position& position) {
  return static_cast<uint32_t>(position.ordinal >> kAttemptShift);
}

}  // namespace

void SnowflakeDestination::CloseLanes(Table& table) {
  for (const auto& lane : table.lanes) {
    for (const int64_t size : lane->sizes) bytes_ -= size;
    link_->streaming().CloseChannel(lane->channel);
    table_of_.erase(lane->channel);
  }
  table.lanes.clear();
  if (table.settling == nullptr) return;
  for (const int64_t size : table.settling->sizes) bytes_ -= size;
  link_->streaming().CloseChannel(table.settling->channel);
  table_of_.erase(table.settling->channel);
  table.settling.reset();
}

/// Everything given is proved, and the channels are closed: the table may be changed. A chunk that
/// is coming goes on behind that.
Result<bool> SnowflakeDestination::RestLanes(Table& table) {
  std::vector<Lane*> lanes;
  for (const auto& lane : table.lanes) lanes.push_back(lane.get());
  if (table.settling != nullptr) lanes.push_back(table.settling.get());
  for (Lane* lane : lanes) ETL_RETURN_IF_ERROR(FlushLane(*lane));
  for (Lane* lane : lanes) {
    if (lane->channel != 0 && (!lane->open || lane->given > lane->proved)) return false;
  }
  for (Lane* lane : lanes) {
    link_->streaming().CloseChannel(lane->channel);
    table_of_.erase(lane->channel);
    lane->channel = 0;
    lane->open = false;
    lane->writer.reset();
    lane->writer_schema.reset();
  }
  return true;
}

bool SnowflakeDestination::LanesQuiet() const {
  return std::all_of(tables_.begin(), tables_.end(), [](const auto& entry) {
    return std::all_of(entry.second.lanes.begin(), entry.second.lanes.end(),
                       [](const auto& lane) { return lane->given == lane->proved; });
  });
}

Status SnowflakeDestination::OnLane(Table& table, Lane& lane, const ChannelEvent& event) {
  if (event.kind == ChannelEvent::Kind::kOpened && !lane.open) {
    lane.open = true;
    const auto position = ParsePositionText(event.token);
    if (&lane == table.settling.get()) {
      lane.asked = true;
      if (position.has_value() && lane.rows == 0) {
        // Rows of another run have the numbers before.
        lane.settled_at = Lsn{position->commit.value + 1};
        lane.rows = (position->ordinal & ((uint64_t{1} << kAttemptShift) - 1)) + 1;
      }
      return Status::OK();
    }
    if (position.has_value() && position->commit.value == table.state.checkpoint.from.value - 1) {
      lane.asked = true;
      lane.sequence = std::max(lane.sequence, AttemptOf(*position) >> kLaneBits);
    }
    // A chunk without rows left a number behind, and no token.
    for (const uint32_t attempt : table.state.attempts) {
      if ((attempt & (kLanesMax - 1)) == lane.number)
        lane.sequence = std::max(lane.sequence, attempt >> kLaneBits);
    }
  } else if (event.kind == ChannelEvent::Kind::kCommitted) {
    lane.proved += event.batches;
    for (size_t i = 0; i < event.batches; ++i) {
      bytes_ -= lane.sizes.front();
      lane.sizes.pop_front();
    }
  }
  return Status::OK();
}

// The chunk's own, or a free one. None: all are taken.
SnowflakeDestination::Lane* SnowflakeDestination::LaneFor(Table& table, const ChunkRows& rows) {
  for (const auto& lane : table.lanes) {
    if (lane->coming && lane->chunk == rows.chunk) return lane.get();
  }
  for (const auto& lane : table.lanes) {
    if (!lane->coming) return lane.get();
  }
  if (table.lanes.size() >= kLanesMax) return nullptr;
  table.lanes.push_back(std::make_unique<Lane>());
  table.lanes.back()->number = static_cast<uint32_t>(table.lanes.size() - 1);
  return table.lanes.back().get();
}

Result<bool> SnowflakeDestination::OpenLane(Table& table, Lane& lane, Instant now, bool* worked) {
  const TableCheckpoint& checkpoint = table.state.checkpoint;
  if (table.state.altering != nullptr) return false;
  const SnowflakeTable of = Of(table);
  const TableSchemaPtr place =
      start_.mode == Mode::kAppend ? CopiedSchema(of) : table.state.landing;
  if (start_.mode == Mode::kAppend && !table.copy_made) {
    if (cursor_.sql.empty())
      cursor_.sql = {Guarded({CreateLandingSql(Of(place, checkpoint.generation))})};
    ETL_ASSIGN_OR_RETURN(const bool made, RunSql("make the table of copied rows", now, worked));
    if (!made) return false;
    outcome_.reset();
    cursor_.sql.clear();
    cursor_.next_sql = 0;
    table.copy_made = true;
  }
  if (lane.channel == 0) {
    const SnowflakeName pipe = names_.Pipe(*place);
    const bool settling = &lane == table.settling.get();
    lane.channel = link_->streaming().OpenChannel(
        {.database = pipe.database,
         .schema = pipe.schema,
         .pipe = pipe.name,
         .channel =
             fmt::format("etl/{}/{}/{}/{}/{}/copy/{}", start_.pipeline, stored_.identity->slot,
                         history_, checkpoint.schema->id.oid, checkpoint.generation,
                         settling ? "settled" : std::to_string(lane.number))});
    table_of_[lane.channel] = checkpoint.schema->id.oid;
    *worked = true;
  }
  if (!lane.open) return false;
  if (lane.asked) return true;
  // No token: nothing was ever sent, or the channel is another one. The rows themselves tell.
  if (cursor_.sql.empty()) {
    cursor_.sql = {{fmt::format(
        "SELECT MAX({0}) FROM {1} WHERE {0} >= {2} AND {0} < {3} AND {4} = 'R'",
        QuoteIdentifier(kPositionColumn), names_.Landing(*place).Sql(),
        QuoteLiteral(BoundaryText(Lsn{checkpoint.from.value - 1})),
        QuoteLiteral(PositionText(CopiedPosition(checkpoint.from, kSettledAttempt, 0))),
        QuoteIdentifier(kOpColumn))}};
  }
  ETL_ASSIGN_OR_RETURN(const bool done, RunSql("look for copied rows", now, worked));
  if (!done) return false;
  const SqlRows& found = outcome_->results.at(0);
  if (!found.rows.empty() && found.rows[0].at(0).has_value()) {
    const auto position = ParsePositionText(*found.rows[0][0]);
    if (position.has_value())
      lane.sequence = std::max(lane.sequence, AttemptOf(*position) >> kLaneBits);
  }
  outcome_.reset();
  cursor_ = Cursor();
  lane.asked = true;
  return true;
}

Status SnowflakeDestination::FlushLane(Lane& lane) {
  if (lane.writer == nullptr || lane.writer->empty()) return Status::OK();
  ETL_ASSIGN_OR_RETURN(RequestBody body, lane.writer->Take());
  const int64_t size = static_cast<int64_t>(body.bytes.size());
  ++lane.given;
  lane.sizes.push_back(size);
  bytes_ += size;
  used_.bytes_sent += size;
  ETL_FAILPOINT("snowflake.copy.before_append");
  link_->streaming().Append(lane.channel, BatchOf(std::move(body)));
  return Status::OK();
}

/// `rows`, which have the landing table's columns, just before a boundary: from cursor_.row on.
Result<bool> SnowflakeDestination::WriteCopied(Table& table, Lane& lane,
                                               const std::shared_ptr<arrow::RecordBatch>& rows,
                                               Lsn before, uint32_t attempt) {
  if (lane.writer == nullptr || lane.writer_schema != table.state.landing) {
    ETL_RETURN_IF_ERROR(FlushLane(lane));
    ETL_ASSIGN_OR_RETURN(lane.writer, MakeWriter(table.state.landing));
    lane.writer_schema = table.state.landing;
  }
  ChangeBatch batch;
  batch.schema = table.state.landing;
  batch.rows = rows;
  const int64_t size = rows->num_rows();
  batch.ops.assign(static_cast<size_t>(size), Op::kSnapshot);
  for (int64_t i = 0; i < size; ++i)
    batch.ordinals.push_back(
        CopiedPosition(before, attempt, lane.rows + static_cast<uint64_t>(i)).ordinal);
  batch.transactions = {{Lsn{before.value - 1}, 0, 0, size}};
  ETL_RETURN_IF_ERROR(lane.writer->Bind(batch));
  for (int64_t& row = cursor_.row; row < size;) {
    if (Full()) return false;
    ETL_ASSIGN_OR_RETURN(const bool added, lane.writer->Add(row));
    if (added) {
      ++row;
    } else {
      ETL_RETURN_IF_ERROR(FlushLane(lane));
    }
  }
  lane.rows += static_cast<uint64_t>(size);
  return true;
}

Result<bool> SnowflakeDestination::ApplyChunk(const ChunkRows& rows, Instant now, bool* worked) {
  Table* table = Find(rows.table);
  if (table == nullptr || table->state.checkpoint.phase != TablePhase::kCopying ||
      table->state.checkpoint.generation != rows.generation)
    return true;
  const TableCheckpoint& checkpoint = table->state.checkpoint;
  if (std::any_of(checkpoint.done.begin(), checkpoint.done.end(),
                  [&](const auto& done) { return done.number == rows.chunk; })) {
    if (rows.done.has_value()) chunks_.push_back({rows.table, rows.generation, rows.chunk});
    return true;
  }
  Lane* lane = LaneFor(*table, rows);
  if (lane == nullptr) {
    return MakeError(
        ErrorKind::kConfig, "ETL-C040",
        fmt::format("{}: more than {} chunks at a time", checkpoint.schema->name, kLanesMax),
        "set snapshot: {parallelism: 16} or less");
  }
  ETL_ASSIGN_OR_RETURN(const bool open, OpenLane(*table, *lane, now, worked));
  if (!open) return false;
  if (lane->coming && rows.attempt < lane->attempt) return true;
  if (!lane->coming || lane->chunk != rows.chunk || rows.attempt > lane->attempt) {
    lane->coming = true;
    lane->chunk = rows.chunk;
    lane->attempt = rows.attempt;
    lane->rows = 0;
    ++lane->sequence;
  }
  const uint32_t number = lane->sequence << kLaneBits | lane->number;
  if (rows.rows != nullptr && rows.rows->num_rows() > 0) {
    // A chunk may have been read some time ago, under the columns of that time.
    ETL_ASSIGN_OR_RETURN(const auto mapped, MapRows(rows.rows, *rows.schema, *table->state.landing,
                                                    table->state.fill));
    ETL_ASSIGN_OR_RETURN(const bool written,
                         WriteCopied(*table, *lane, mapped, checkpoint.from, number));
    if (!written) return false;
  }
  // Many small pieces share a request; a chunk's last one ends it.
  if (!rows.done.has_value()) return true;
  ETL_RETURN_IF_ERROR(FlushLane(*lane));
  lane->coming = false;
  lane->done.push_back({.chunk = {rows.chunk, rows.done->high, rows.done->rows},
                        .attempt = number,
                        .given = lane->given});
  return true;
}

// A chunk is done by its record, written when its rows are proved, and after those of its copy.
Status SnowflakeDestination::WriteChunks(bool* worked) {
  for (auto& [oid, table] : tables_) {
    if (RecordWaits(oid)) continue;
    for (const auto& lane : table.lanes) {
      while (!lane->done.empty() && lane->proved >= lane->done.front().given) {
        const Lane::Done done = lane->done.front();
        lane->done.pop_front();
        *worked = true;
        ETL_RETURN_IF_ERROR(
            WriteRecords({ProgressLog::ChunkDone(table.state, done.chunk, done.attempt)}, {}, {}));
        written_.back().chunks.push_back({.table = table.state.checkpoint.schema->id,
                                          .generation = table.state.checkpoint.generation,
                                          .done = done.chunk,
                                          .attempt = done.attempt});
      }
    }
  }
  return Status::OK();
}

}  // namespace etl
