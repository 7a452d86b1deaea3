// The channels that a table's changes go to: one, and more where that is not enough.

#include <algorithm>

#include <fmt/format.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "destination/snowflake/snowflake_destination.h"

namespace etl {
namespace {

// How many the newest changes of a table have.
size_t CountOf(const SnowflakeTableState& state) {
  return state.spreads.empty() ? 1 : state.spreads.back().channels;
}

}  // namespace

std::span<TableChannel> SnowflakeDestination::ChannelsOf(Table& table) {
  return std::span(table.channels).first(CountOf(table.state));
}

void SnowflakeDestination::OpenChannels(Table& table, bool* worked) {
  const TableCheckpoint& checkpoint = table.state.checkpoint;
  const size_t count = CountOf(table.state);
  if (table.channels.size() < count) table.channels.resize(count);
  for (size_t i = 0; i < count; ++i) {
    TableChannel& channel = table.channels[i];
    if (channel.id != 0) continue;
    const SnowflakeName pipe = names_.Pipe(*table.state.landing);
    channel.id = link_->streaming().OpenChannel(
        {.database = pipe.database,
         .schema = pipe.schema,
         .pipe = pipe.name,
         .channel = fmt::format("etl/{}/{}/{}/{}/{}/{}", start_.pipeline, stored_.identity->slot,
                                history_, checkpoint.schema->id.oid, checkpoint.generation, i)});
    table_of_[channel.id] = checkpoint.schema->id.oid;
    *worked = true;
  }
}

Result<bool> SnowflakeDestination::OpenTable(Table& table, Instant now, bool* worked) {
  if (table.state.altering != nullptr) return false;
  OpenChannels(table, worked);
  const std::span<TableChannel> channels = ChannelsOf(table);
  if (!std::all_of(channels.begin(), channels.end(), [](const auto& one) { return one.open; }))
    return false;
  if (table.loaded && std::any_of(channels.begin(), channels.end(),
                                  [](const auto& one) { return one.committed == Position{}; })) {
    // A channel has no token, though it may have had rows: it expired, or the table was altered.
    if (cursor_.sql.empty()) cursor_.sql = {{SelectLandedSql(Of(table), stored_.position)}};
    ETL_ASSIGN_OR_RETURN(const bool done, RunSql("look for landed rows", now, worked));
    if (!done) return false;
    for (const SqlRow& row : outcome_->results.at(0).rows)
      table.landed.insert(row.at(0).value_or(""));
    outcome_.reset();
    cursor_.sql.clear();
    cursor_.next_sql = 0;
  }
  table.loaded = false;
  return true;
}

/// Everything given is proved, and the channels are closed: the table may be changed.
Result<bool> SnowflakeDestination::CloseTable(Table& table) {
  ETL_RETURN_IF_ERROR(Flush(table));
  for (const TableChannel& channel : table.channels) {
    if (channel.id != 0 && (!channel.open || channel.given > channel.proved)) return false;
  }
  // Boundaries that are not written yet know them by their place.
  for (TableChannel& channel : table.channels) {
    link_->streaming().CloseChannel(channel.id);
    table_of_.erase(channel.id);
    channel.id = 0;
    channel.open = false;
    channel.writer.reset();
  }
  table.writer_schema.reset();
  return true;
}

Status SnowflakeDestination::OnTable(Table& table, TableChannel& channel,
                                     const ChannelEvent& event) {
  if (event.kind == ChannelEvent::Kind::kOpened && !channel.open) {
    channel.open = true;
    channel.committed = {};
    if (!event.token.empty()) {
      const auto position = ParsePositionText(event.token);
      if (!position.has_value()) {
        return MakeError(ErrorKind::kTransient, "ETL-D113",
                         "snowflake: the offset token of a channel is not a position");
      }
      channel.committed = *position;
    }
  } else if (event.kind == ChannelEvent::Kind::kCommitted) {
    channel.proved += event.batches;
    table.meter.Proved();
    for (size_t i = 0; i < event.batches; ++i) {
      bytes_ -= channel.sizes.front();
      channel.sizes.pop_front();
    }
  }
  return Status::OK();
}

bool SnowflakeDestination::Landed(const Table& table, const TableChannel& channel,
                                  const Position& position) const {
  if (position <= channel.committed) return true;
  return !table.landed.empty() && table.landed.contains(PositionText(position));
}

Result<std::unique_ptr<RowWriter>> SnowflakeDestination::MakeWriter(
    const TableSchemaPtr& schema) const {
  std::vector<std::string> names;
  for (const Column& column : schema->columns) names.push_back(names_.Fold(column.name));
  RowWriterOptions options{.on_unrepresentable = options_.on_unrepresentable, .body = {}};
  // A little less than a quarter of what a channel takes in its window: four of them fit.
  options.body.raw_target = std::min(options.body.raw_target,
                                     static_cast<size_t>(options_.streaming.bytes_max * 15 / 64));
  return RowWriter::Make(schema, std::move(names), options);
}

Result<RowWriter*> SnowflakeDestination::WriterOf(Table& table, TableChannel& channel) {
  const TableSchemaPtr& schema = table.state.landing;
  if (table.writer_schema != schema) {
    ETL_RETURN_IF_ERROR(Flush(table));
    for (TableChannel& other : table.channels) other.writer.reset();
    table.writer_schema = schema;
  }
  if (channel.writer == nullptr) {
    ETL_ASSIGN_OR_RETURN(channel.writer, MakeWriter(schema));
  }
  return channel.writer.get();
}

Status SnowflakeDestination::Flush(Table& table) {
  for (TableChannel& channel : table.channels) ETL_RETURN_IF_ERROR(Flush(table, channel));
  return Status::OK();
}

Status SnowflakeDestination::Flush(Table& table, TableChannel& channel) {
  if (!channel.holds()) return Status::OK();
  ETL_ASSIGN_OR_RETURN(RequestBody body, channel.writer->Take());
  const int64_t size = static_cast<int64_t>(body.bytes.size());
  ++channel.given;
  channel.sizes.push_back(size);
  bytes_ += size;
  used_.bytes_sent += size;
  table.meter.Gave(body.uncompressed_bytes);
  ETL_FAILPOINT("snowflake.data.before_append");
  link_->streaming().Append(channel.id, BatchOf(std::move(body)));
  return Status::OK();
}

// Gives what was taken to the channels that would send it now.
Status SnowflakeDestination::FlushFree(Instant now, bool* worked) {
  for (auto at = holding_.begin(); at != holding_.end();) {
    Table& table = tables_.at(*at);
    bool holds = false;
    for (TableChannel& channel : table.channels) {
      if (!channel.holds()) continue;
      if (link_->streaming().channel(channel.id)->free_at(now) > now) {
        holds = true;
        continue;
      }
      ETL_RETURN_IF_ERROR(Flush(table, channel));
      *worked = true;
    }
    at = holds ? std::next(at) : holding_.erase(at);
  }
  return Status::OK();
}

Instant SnowflakeDestination::FreeAt(Instant now) const {
  Instant by = kNever;
  for (const uint32_t oid : holding_) {
    for (const TableChannel& channel : tables_.at(oid).channels) {
      if (channel.holds()) by = std::min(by, link_->streaming().channel(channel.id)->free_at(now));
    }
  }
  return by;
}

/// A whole request waits behind the one that is on its way.
bool SnowflakeDestination::Behind(const TableChannel& channel) const {
  const ChannelClient* client = link_->streaming().channel(channel.id);
  return client != nullptr && client->batches() >= client->accepted() + 2;
}

/// Whether a restart would know how changes of `commit` were spread.
bool SnowflakeDestination::SpreadStored(const Table& table, Lsn commit) const {
  return table.spreads_waiting == 0 || commit < table.state.spreads.back().from;
}

Status SnowflakeDestination::Spread(Instant now, bool* worked) {
  if (now >= spread_at_) {
    spread_at_ = now + options_.spread.every;
    for (auto& [oid, table] : tables_) ETL_RETURN_IF_ERROR(Spread(table, now, worked));
  } else {
    for (const uint32_t oid : holding_) ETL_RETURN_IF_ERROR(Spread(tables_.at(oid), now, worked));
  }
  return Status::OK();
}

// Gives a table that sends much more channels. Which change goes to which of them must be known
// after a restart: the record of it says from which commit on, a little ahead, and what lies behind
// waits until it is proved. So all earlier channels go on without a pause.
Status SnowflakeDestination::Spread(Table& table, Instant now, bool* worked) {
  SpreadMeter::Taken taken{.position = std::max(given_end_, table.newest)};
  for (const TableChannel& channel : table.channels) {
    if (channel.holds()) taken.held += channel.writer->body().uncompressed_bytes();
    taken.behind = taken.behind || Behind(channel);
  }
  const std::optional<SpreadMeter::Advice> advice =
      table.meter.Look(now, options_.spread, static_cast<uint32_t>(CountOf(table.state)), taken);
  if (!advice.has_value() || !Stores(table) || table.spreads_waiting > 0) return Status::OK();
  const TableSchema& schema = *table.state.checkpoint.schema;
  // Closed: the table becomes another, and its channels are opened behind that.
  if (RecordWaits(schema.id.oid) || table.channels.empty() || table.channels.front().id == 0)
    return Status::OK();
  table.state.spreads.push_back(
      {Lsn{std::max({given_end_, table.newest, advice->from}).value + 1}, advice->channels});
  ETL_RETURN_IF_ERROR(WriteRecords({ProgressLog::Spread(table.state)}, {}, {}));
  written_.back().spreads.push_back(schema.id);
  ++table.spreads_waiting;
  LogInfo("a table's changes are spread over more channels",
          {{"table", schema.QualifiedName()},
           {"channels", std::to_string(advice->channels)},
           {"from", FormatLsn(table.state.spreads.back().from)}});
  OpenChannels(table, worked);
  *worked = true;
  return Status::OK();
}

/// A record of the table is waiting for its boundary; what counts at once must not overtake it.
bool SnowflakeDestination::RecordWaits(uint32_t oid) const {
  return changed_.contains(oid) ||
         std::any_of(boundaries_.begin(), boundaries_.end(), [&](const Boundary& boundary) {
           return std::any_of(boundary.records.begin(), boundary.records.end(),
                              [&](const auto& record) { return record.table.oid == oid; });
         });
}

}  // namespace etl
