#include "destination/snowflake/progress_log.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <arrow/api.h>
#include <arrow/io/memory.h>
#include <arrow/ipc/reader.h>
#include <arrow/ipc/writer.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "model/schema_json.h"

namespace etl {
namespace {

using Json = nlohmann::json;

uint64_t Number(const std::optional<std::string>& text, int base = 10) {
  uint64_t value = 0;
  if (text.has_value()) std::from_chars(text->data(), text->data() + text->size(), value, base);
  return value;
}

Json ChunkJson(const Chunk& chunk) {
  Json json{{"n", chunk.number},          {"leaf", chunk.leaf.oid},  {"schema", chunk.leaf_schema},
            {"name", chunk.leaf_name},    {"node", chunk.file_node}, {"first", chunk.first_block},
            {"rows", chunk.rows_estimate}};
  if (chunk.end_block.has_value()) json["end"] = *chunk.end_block;
  return json;
}

Chunk ChunkOf(const Json& json) {
  Chunk chunk{.number = json.at("n"),
              .leaf = {json.at("leaf").get<uint32_t>()},
              .leaf_schema = json.at("schema"),
              .leaf_name = json.at("name"),
              .file_node = json.at("node"),
              .first_block = json.at("first"),
              .end_block = {},
              .rows_estimate = json.at("rows")};
  if (json.contains("end")) chunk.end_block = json.at("end").get<uint32_t>();
  return chunk;
}

Json DoneJson(const TableCheckpoint::DoneChunk& done) {
  return {{"n", done.number}, {"high", done.high.value}, {"rows", done.rows}};
}

TableCheckpoint::DoneChunk DoneOf(const Json& json) {
  return {json.at("n").get<uint32_t>(), Lsn{json.at("high").get<uint64_t>()},
          json.at("rows").get<int64_t>()};
}

std::vector<ChannelSpread> SpreadsOf(const Json& body) {
  std::vector<ChannelSpread> spreads;
  for (const Json& json : body.value("spreads", Json::array()))
    spreads.push_back({Lsn{json.at("from").get<uint64_t>()}, json.at("channels").get<uint32_t>()});
  return spreads;
}

void AddXids(const Json& body, SnowflakeTableState* table) {
  for (const Json& pair : body.at("xids")) table->xids[Lsn{pair.at(0)}] = pair.at(1);
}

Json XidsJson(const std::map<Lsn, uint32_t>& xids) {
  Json list = Json::array();
  for (const auto& [commit, xid] : xids) list.push_back({commit.value, xid});
  return list;
}

TableId IdOf(const SnowflakeTableState& table) {
  return (table.checkpoint.schema != nullptr ? table.checkpoint.schema : table.landing)->id;
}

// A record of this program's own that does not read back means that it is not ours.
TableSchemaPtr SchemaOf(const Json& json) {
  return SchemaFromJson(json.get<std::string>()).ValueOrDie();
}

TablePhase PhaseOf(const std::string& name) {
  for (const TablePhase phase : {TablePhase::kCopying, TablePhase::kLive, TablePhase::kStopped}) {
    if (TablePhaseName(phase) == name) return phase;
  }
  return TablePhase::kWaiting;
}

/// Values of any type as text: an Arrow stream of one row, its columns named by attnum, in hex.
std::string FillText(const FillValues& fill) {
  arrow::FieldVector fields;
  arrow::ArrayVector columns;
  for (const auto& [attnum, value] : fill) {
    if (value == nullptr) continue;
    fields.push_back(arrow::field(std::to_string(attnum), value->type()));
    columns.push_back(value->Slice(0, 1));
  }
  if (fields.empty()) return {};
  const auto schema = arrow::schema(std::move(fields));
  const auto out = arrow::io::BufferOutputStream::Create().ValueOrDie();
  const auto writer = arrow::ipc::MakeStreamWriter(out, schema).ValueOrDie();
  ETL_CHECK(writer->WriteRecordBatch(*arrow::RecordBatch::Make(schema, 1, columns)).ok());
  ETL_CHECK(writer->Close().ok());
  return out->Finish().ValueOrDie()->ToHexString();
}

FillValues FillOf(const std::string& text) {
  FillValues fill;
  if (text.empty()) return fill;
  std::string bytes(text.size() / 2, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    uint8_t value = 0;
    std::from_chars(&text[2 * i], &text[2 * i] + 2, value, 16);
    bytes[i] = static_cast<char>(value);
  }
  const auto input = std::make_shared<arrow::io::BufferReader>(arrow::Buffer::FromString(bytes));
  const auto reader = arrow::ipc::RecordBatchStreamReader::Open(input).ValueOrDie();
  std::shared_ptr<arrow::RecordBatch> batch;
  ETL_CHECK(reader->ReadNext(&batch).ok());
  for (int i = 0; i < batch->num_columns(); ++i)
    fill[static_cast<int16_t>(std::stoi(batch->column_name(i)))] = batch->column(i);
  return fill;
}

std::optional<ProgressKind> KindOfName(std::string_view name) {
  for (const ProgressKind kind :
       {ProgressKind::kHistory, ProgressKind::kForward, ProgressKind::kTable, ProgressKind::kPlan,
        ProgressKind::kChunk, ProgressKind::kStop, ProgressKind::kSpread, ProgressKind::kXids}) {
    if (ProgressKindName(kind) == name) return kind;
  }
  return std::nullopt;
}

bool Immediate(const ProgressRecord& record) {
  return record.kind == ProgressKind::kChunk || record.kind == ProgressKind::kSpread ||
         (record.kind == ProgressKind::kTable &&
          Json::parse(record.body).value("immediate", false));
}

}  // namespace

int16_t NewestAttnum(const TableSchema& schema) {
  int16_t newest = 0;
  for (const Column& column : schema.columns) newest = std::max(newest, column.attnum);
  return newest;
}

Status ProgressLog::Load(const SqlRows& rows) {
  try {
    for (const SqlRow& row : rows.rows) {
      const auto kind = KindOfName(row.at(2).value_or(""));
      if (!kind.has_value()) {
        return MakeError(ErrorKind::kConfig, "ETL-D123",
                         "_ETL_PROGRESS was written by a newer version of this program",
                         "use that version");
      }
      Row next{.sequence = Number(row.at(0)),
               .record = {.kind = *kind,
                          .table = {static_cast<uint32_t>(Number(row.at(3)))},
                          .generation = static_cast<uint32_t>(Number(row.at(4))),
                          .lsn = {Number(row.at(5), 16)},
                          .body = row.at(6).value_or("{}")}};
      last_ = next.sequence;
      if (*kind == ProgressKind::kHistory) history_ = static_cast<uint32_t>(Number(row.at(1)));
      if (*kind == ProgressKind::kForward) {
        Count(next.sequence);
        last_forward_ = next.sequence;
        checkpoint_.position = next.record.lsn;
      } else if (*kind == ProgressKind::kHistory) {
        Count(Json::parse(next.record.body).value("keep", last_forward_));
        waiting_.clear();
        Apply(next.record);
      } else if (Immediate(next.record)) {
        Apply(next.record);
      } else {
        waiting_.push_back(std::move(next));
      }
    }
  } catch (const std::exception& error) {
    return MakeError(
        ErrorKind::kConfig, "ETL-D123",
        std::string("_ETL_PROGRESS holds what this version cannot read: ") + error.what(),
        "use the version that wrote it");
  }
  waiting_.clear();
  return Status::OK();
}

void ProgressLog::Count(uint64_t up_to) {
  for (const Row& row : waiting_) {
    if (row.sequence <= up_to) Apply(row.record);
  }
  waiting_.clear();
}

void ProgressLog::Apply(const ProgressRecord& record) {
  const Json body = Json::parse(record.body);
  if (record.kind == ProgressKind::kHistory) {
    if (!body.contains("system_id")) return;
    checkpoint_.identity = SourceIdentity{body.at("system_id"), body.at("database"),
                                          body.at("slot").get<std::string>()};
    checkpoint_.timeline = body.at("timeline");
    checkpoint_.lc_monetary = body.at("lc_monetary");
    checkpoint_.position = record.lsn;
    last_forward_ = 0;
    if (!body.value("again", false)) return;
    for (auto& [oid, table] : tables_) {
      TableCheckpoint& old = table.checkpoint;
      old = TableCheckpoint{
          .schema = old.schema, .generation = old.generation, .fingerprint = old.fingerprint};
      table.spreads.clear();
      table.attempts.clear();
      table.xids.clear();
    }
    return;
  }
  SnowflakeTableState& table = tables_[record.table.oid];
  if (body.value("whole", false)) table = SnowflakeTableState();
  TableCheckpoint& checkpoint = table.checkpoint;
  if (record.kind == ProgressKind::kChunk) {
    if (checkpoint.generation != record.generation) return;
    checkpoint.done.push_back(DoneOf(body));
    checkpoint.rows += checkpoint.done.back().rows;
    table.attempts.push_back(body.at("attempt"));
    return;
  }
  if (record.kind == ProgressKind::kSpread) {
    if (checkpoint.generation != record.generation) return;
    table.spreads.push_back({record.lsn, body.at("channels").get<uint32_t>()});
    return;
  }
  if (record.kind == ProgressKind::kXids) {
    if (checkpoint.generation == record.generation) AddXids(body, &table);
    return;
  }
  if (body.contains("places")) {
    const auto read = [&body](const char* name) {
      return body.contains(name) ? SchemaOf(body.at(name)) : nullptr;
    };
    table.landing = read("landing");
    table.landing_history = body.at("places");
    table.target = read("target");
    table.altering = read("altering");
    table.altering_target = read("altering_target");
    table.fill = FillOf(body.at("fill"));
    table.newest_attnum = body.at("attnum");
  } else if (body.contains("target")) {
    table.target = SchemaOf(body.at("target"));
  }
  if (!body.contains("schema")) return;
  // What was stored while a record waited for its boundary is not part of it: spreads, …
  const std::vector<ChannelSpread> spreads = SpreadsOf(body);
  if (checkpoint.generation != record.generation || spreads.size() > table.spreads.size())
    table.spreads = spreads;
  // … and chunks that were done.
  const bool same_copy =
      checkpoint.generation == record.generation && checkpoint.phase == TablePhase::kCopying;
  std::vector<TableCheckpoint::DoneChunk> done;
  if (same_copy) done = std::move(checkpoint.done);
  const int64_t rows = same_copy ? checkpoint.rows : 0;
  checkpoint = TableCheckpoint{.schema = SchemaOf(body.at("schema")),
                               .generation = record.generation,
                               .phase = PhaseOf(body.at("phase")),
                               .from = Lsn{body.at("from").get<uint64_t>()},
                               .keep_target = body.at("keep_target"),
                               .planned = body.at("planned"),
                               .stop_code = body.at("stop_code"),
                               .stop_reason = body.at("stop_reason"),
                               .rows = body.at("rows"),
                               .fingerprint = body.at("fingerprint")};
  for (const Json& chunk : body.at("chunks")) checkpoint.chunks.push_back(ChunkOf(chunk));
  table.again = body.value("again", false);
  if (!same_copy || checkpoint.phase != TablePhase::kCopying) {
    table.attempts.clear();
    table.xids.clear();
  }
  if (checkpoint.phase == TablePhase::kCopying) {
    checkpoint.done = std::move(done);
    if (same_copy) checkpoint.rows = rows;
  }
  for (const Json& chunk : body.value("done", Json::array()))
    checkpoint.done.push_back(DoneOf(chunk));
  for (const Json& attempt : body.value("attempts", Json::array()))
    table.attempts.push_back(attempt);
  if (body.contains("xids")) AddXids(body, &table);
}

ProgressRecord ProgressLog::Begin() const {
  return {.kind = ProgressKind::kHistory, .body = Json{{"keep", last_forward_}}.dump()};
}

ProgressRecord ProgressLog::History(const Checkpoint& checkpoint, bool again) {
  return {.kind = ProgressKind::kHistory,
          .lsn = checkpoint.position,
          .body = Json{
              {"system_id", checkpoint.identity->system_id},
              {"database", checkpoint.identity->database_oid},
              {"slot", checkpoint.identity->slot},
              {"timeline", checkpoint.timeline},
              {"lc_monetary", checkpoint.lc_monetary},
              {"again",
               again}}.dump()};
}

ProgressRecord ProgressLog::Forward(Lsn boundary) {
  return {.kind = ProgressKind::kForward, .lsn = boundary, .body = "{}"};
}

ProgressRecord ProgressLog::Table(const SnowflakeTableState& table, bool immediate) {
  const TableCheckpoint& checkpoint = table.checkpoint;
  Json chunks = Json::array();
  for (const Chunk& chunk : checkpoint.chunks) chunks.push_back(ChunkJson(chunk));
  Json body{{"schema", SchemaToJson(*checkpoint.schema)},
            {"phase", TablePhaseName(checkpoint.phase)},
            {"from", checkpoint.from.value},
            {"keep_target", checkpoint.keep_target},
            {"planned", checkpoint.planned},
            {"chunks", std::move(chunks)},
            {"stop_code", checkpoint.stop_code},
            {"stop_reason", checkpoint.stop_reason},
            {"rows", checkpoint.rows},
            {"fingerprint", checkpoint.fingerprint},
            {"again", table.again},
            {"immediate", immediate}};
  Json spreads = Json::array();
  for (const ChannelSpread& spread : table.spreads)
    spreads.push_back({{"from", spread.from.value}, {"channels", spread.channels}});
  if (!spreads.empty()) body["spreads"] = std::move(spreads);
  // One that counts later would bring back a target of before.
  if (immediate && table.target != nullptr) body["target"] = SchemaToJson(*table.target);
  return {.kind = ProgressKind::kTable,
          .table = checkpoint.schema->id,
          .generation = checkpoint.generation,
          .lsn = checkpoint.from,
          .body = body.dump()};
}

std::vector<ProgressRecord> ProgressLog::Whole(
    const Checkpoint& stored, const std::vector<const SnowflakeTableState*>& tables) {
  std::vector<ProgressRecord> records{History(stored, false)};
  for (const SnowflakeTableState* table : tables) {
    ProgressRecord record = Landing(*table);
    Json body = Json::parse(record.body);
    body["whole"] = true;
    // Else its landing table was made, and nothing of it counts yet.
    if (table->checkpoint.schema != nullptr) {
      record = Table(*table, /*immediate=*/true);
      body.update(Json::parse(record.body));
      body["done"] = Json::array();
      for (const auto& done : table->checkpoint.done) body["done"].push_back(DoneJson(done));
      body["attempts"] = table->attempts;
      body["xids"] = XidsJson(table->xids);
    }
    record.body = body.dump();
    records.push_back(std::move(record));
  }
  records.push_back(Forward(stored.position));
  return records;
}

ProgressRecord ProgressLog::Landing(const SnowflakeTableState& table) {
  Json body{{"places", table.landing_history},
            {"attnum", table.newest_attnum},
            {"fill", FillText(table.fill)},
            {"immediate", true}};
  const auto write = [&body](const char* name, const TableSchemaPtr& schema) {
    if (schema != nullptr) body[name] = SchemaToJson(*schema);
  };
  write("landing", table.landing);
  write("target", table.target);
  write("altering", table.altering);
  write("altering_target", table.altering_target);
  return {.kind = ProgressKind::kTable,
          .table = IdOf(table),
          .generation = table.checkpoint.generation,
          .body = body.dump()};
}

ProgressRecord ProgressLog::Xids(const SnowflakeTableState& table, Lsn boundary,
                                 const std::map<Lsn, uint32_t>& xids) {
  return {.kind = ProgressKind::kXids,
          .table = table.checkpoint.schema->id,
          .generation = table.checkpoint.generation,
          .lsn = boundary,
          .body = Json{{"xids", XidsJson(xids)}}.dump()};
}

ProgressRecord ProgressLog::ChunkDone(const SnowflakeTableState& table,
                                      const TableCheckpoint::DoneChunk& chunk, uint32_t attempt) {
  Json body = DoneJson(chunk);
  body["attempt"] = attempt;
  return {.kind = ProgressKind::kChunk,
          .table = table.checkpoint.schema->id,
          .generation = table.checkpoint.generation,
          .lsn = chunk.high,
          .body = body.dump()};
}

ProgressRecord ProgressLog::Spread(const SnowflakeTableState& table) {
  const ChannelSpread& spread = table.spreads.back();
  return {.kind = ProgressKind::kSpread,
          .table = table.checkpoint.schema->id,
          .generation = table.checkpoint.generation,
          .lsn = spread.from,
          .body = Json{{"channels", spread.channels}}.dump()};
}

std::string ProgressLog::Line(const std::string& pipeline, uint32_t history, uint64_t sequence,
                              UnixMicros at, const ProgressRecord& record) {
  return Json{{"PIPELINE", pipeline},
              {"HISTORY", history},
              {"SEQUENCE", sequence},
              {"KIND", ProgressKindName(record.kind)},
              {"TABLE_OID", record.table.oid},
              {"GENERATION", record.generation},
              {"LSN", BoundaryText(record.lsn)},
              {"BODY", record.body},
              {"AT", FormatUtc(at)}}
             .dump() +
         "\n";
}

std::string ProgressLog::SelectSql(const SnowflakeNames& names, const std::string& pipeline) {
  return fmt::format(
      "SELECT \"SEQUENCE\", \"HISTORY\", \"KIND\", \"TABLE_OID\", \"GENERATION\", \"LSN\", "
      "\"BODY\" FROM {} WHERE \"PIPELINE\" = {} ORDER BY \"SEQUENCE\"",
      names.Progress().Sql(), QuoteLiteral(pipeline));
}

}  // namespace etl
