// CPU of one row of 20 mixed columns on its way from Arrow to a compressed request body of NDJSON,
// and of the same row through a JSON library's documents into the same compressor.
//
//   ndjson_bench [rows=200000] [rounds=3] [level=1] [part=both|engine|documents]
//
// The rows are those of bench/run's `wide`. The last line of the output is JSON.
#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include <arrow/api.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "batch/column_builder.h"
#include "bench_tool.h"
#include "destination/snowflake/row_writer.h"
#include "destination/snowflake/value_text.h"

namespace etl::bench {
namespace {

struct WideColumn {
  TypeKind kind;
  std::function<std::string(int64_t)> text;  // of row n; empty: NULL
  uint8_t precision = 0;
  uint8_t scale = 0;
};

std::string Micros(int64_t n) {
  return fmt::format("{:02}:{:02}:{:02}.{:03}", n / 3'600'000 % 24, n / 60'000 % 60, n / 1000 % 60,
                     n % 1000);
}
std::string Noise(int64_t n) {
  const uint64_t mixed = (static_cast<uint64_t>(n) + 1) * 0x9e3779b97f4a7c15u;
  return fmt::format("{:016x}{:016x}", mixed ^ mixed >> 29,
                     (mixed ^ mixed >> 32) * 0xbf58476d1ce4e5b9u);
}
std::string Uuid(int64_t n) {
  std::string text = Noise(n);
  for (const size_t at : {20, 16, 12, 8}) text.insert(at, "-");
  return text;
}
std::string Date(int64_t n) { return fmt::format("2026-{:02}-{:02}", n / 28 % 12 + 1, n % 28 + 1); }

std::vector<WideColumn> Wide() {
  using enum TypeKind;
  const auto number = [](int64_t n) { return std::to_string(n); };
  const auto always = [](const std::string& text) { return [text](int64_t) { return text; }; };
  return {
      {kInt8, number},
      {kInt4, number},
      {kInt2, [](int64_t n) { return std::to_string(n % 30000); }},
      {kBool, [](int64_t n) { return n % 2 == 0 ? "t" : "f"; }},
      {kFloat8, [](int64_t n) { return fmt::format("{}", static_cast<double>(n) * 1.5); }},
      {kFloat4, [](int64_t n) { return fmt::format("{}", static_cast<float>(n) * 0.25f); }},
      {kDecimal, [](int64_t n) { return fmt::format("{}.{:02}", n % 1000000 / 100, n % 100); }, 12,
       2},
      {kNumericText, [](int64_t n) { return fmt::format("{}.{:03}", n * 1001 / 1000, n % 1000); }},
      {kDate, [](int64_t n) { return Date(n % 336); }},
      {kTimestamp, [](int64_t n) { return Date(n / 86400) + " " + Micros(n); }},
      {kTimestampTz, [](int64_t n) { return Date(n / 86400) + " " + Micros(n) + "+00"; }},
      {kUuid, Uuid},
      {kJsonb, always(R"({"a": 1, "b": [true, null]})")},
      {kBytea, [](int64_t n) { return "\\x" + Noise(n); }},
      {kText, always("twenty characters ab")},
      {kText, always(std::string(60, 'x'))},
      {kText, always("a value of 30 characters here")},
      {kInt4, [](int64_t n) { return n % 3 == 0 ? "" : std::to_string(n); }},
      {kInt8, [](int64_t n) { return std::to_string(n * 7); }},
      {kTime, [](int64_t n) { return Micros(43'200'000 + n % 3600 * 1000); }},
  };
}

struct Rows {
  ChangeBatch batch;
  std::vector<std::string> names;
};

Rows MakeRows(int64_t count) {
  auto schema = std::make_shared<TableSchema>();
  schema->schema = "public";
  schema->name = "wide";
  schema->identity = Identity::kKey;
  schema->key = {0};
  Rows made;
  arrow::ArrayVector arrays;
  for (const WideColumn& column : Wide()) {
    auto type = std::make_shared<ColumnType>();
    type->kind = column.kind;
    type->precision = column.precision;
    type->scale = column.scale;
    const std::string name =
        made.names.empty() ? "ID" : std::string(1, static_cast<char>('@' + made.names.size()));
    schema->columns.push_back({static_cast<int16_t>(made.names.size() + 1), name, type, false});
    made.names.push_back(name);
    const auto builder = ColumnBuilder::Make(*type);
    for (int64_t n = 1; n <= count; ++n) {
      const std::string text = column.text(n);
      const CellResult result = text.empty() ? builder->AppendNull() : builder->AppendText(text);
      if (result != CellResult::kOk) Die("a value was refused: " + text);
    }
    arrays.push_back(arrow::MakeArray(builder->Finish()));
  }
  ChangeBatch& batch = made.batch;
  batch.rows = arrow::RecordBatch::Make(schema->ArrowSchema(), count, std::move(arrays));
  batch.schema = schema;
  for (int64_t n = 0; n < count; ++n) {
    batch.ops.push_back(Op::kInsert);
    batch.ordinals.push_back(static_cast<uint64_t>(n % 1000 * 2));
    if (n % 1000 == 999 || n + 1 == count)
      batch.transactions.push_back(
          {Lsn{0x16b3748u + static_cast<uint64_t>(n)}, 1'790'000'000'000'000 + n, 7, n + 1});
  }
  return made;
}

struct Cost {
  double seconds = 0;
  int64_t rows = 0;
  int64_t raw_bytes = 0;
  int64_t compressed_bytes = 0;

  void Count(const RequestBody& body) {
    rows += body.rows;
    raw_bytes += body.uncompressed_bytes;
    compressed_bytes += static_cast<int64_t>(body.bytes.size());
  }
};

template <typename T>
T Must(Result<T> result) {
  if (!result.ok()) Die(result.status().ToString());
  return std::move(result).ValueUnsafe();
}

Cost Engine(const Rows& rows, RowWriter* writer) {
  Cost cost;
  const double began = ThreadCpuSeconds();
  if (!writer->Bind(rows.batch).ok()) Die("a batch was refused");
  for (int64_t row = 0; row < rows.batch.size();) {
    if (Must(writer->Add(row))) {
      ++row;
    } else {
      cost.Count(Must(writer->Take()));
    }
  }
  if (!writer->empty()) cost.Count(Must(writer->Take()));
  cost.seconds = ThreadCpuSeconds() - began;
  return cost;
}

double EncoderAlone(const Rows& rows, NdjsonEncoder* encoder) {
  TextBuffer lines;
  const double began = ThreadCpuSeconds();
  if (!encoder->Bind(rows.batch).ok()) Die("a batch was refused");
  for (int64_t row = 0; row < rows.batch.size(); ++row) {
    if (!encoder->AppendRow(row, &lines).ok()) Die("a row was refused");
    if (lines.size() > (32 << 10)) lines.Truncate(0);
  }
  return ThreadCpuSeconds() - began;
}

// One value as a document's, in the same form as the engine writes it.
nlohmann::json Document(const arrow::Array& array, int64_t row) {
  char text[128];
  const auto written = [&text](char* end) { return std::string(&text[0], end); };
  switch (array.type_id()) {
    case arrow::Type::BOOL: return static_cast<const arrow::BooleanArray&>(array).Value(row);
    case arrow::Type::INT16: return static_cast<const arrow::Int16Array&>(array).Value(row);
    case arrow::Type::INT32: return static_cast<const arrow::Int32Array&>(array).Value(row);
    case arrow::Type::INT64: return static_cast<const arrow::Int64Array&>(array).Value(row);
    case arrow::Type::FLOAT: return static_cast<const arrow::FloatArray&>(array).Value(row);
    case arrow::Type::DOUBLE: return static_cast<const arrow::DoubleArray&>(array).Value(row);
    case arrow::Type::DECIMAL128:
      return static_cast<const arrow::Decimal128Array&>(array).FormatValue(row);
    case arrow::Type::STRING: return static_cast<const arrow::StringArray&>(array).GetString(row);
    case arrow::Type::DATE32:
      return written(WriteDate(static_cast<const arrow::Date32Array&>(array).Value(row), text));
    case arrow::Type::TIMESTAMP:
      return written(
          WriteTimestamp(static_cast<const arrow::TimestampArray&>(array).Value(row), text));
    case arrow::Type::TIME64:
      return written(WriteTime(static_cast<const arrow::Time64Array&>(array).Value(row), text));
    case arrow::Type::FIXED_SIZE_BINARY:
      return written(
          WriteUuid(static_cast<const arrow::FixedSizeBinaryArray&>(array).GetValue(row), text));
    case arrow::Type::BINARY:
      return written(WriteBase64(static_cast<const arrow::BinaryArray&>(array).GetView(row), text));
    default: Die("no document for this type");
  }
}

Cost Documents(const Rows& rows, RequestBodyWriter* body) {
  Cost cost;
  const double began = ThreadCpuSeconds();
  size_t run = 0;
  for (int64_t row = 0; row < rows.batch.size(); ++row) {
    nlohmann::json line;
    for (size_t i = 0; i < rows.names.size(); ++i) {
      const arrow::Array& array = *rows.batch.rows->column(static_cast<int>(i));
      if (!array.IsNull(row)) line[rows.names[i]] = Document(array, row);
    }
    const auto& runs = rows.batch.transactions;
    while (row >= runs[run].end_row) ++run;
    const Position at{runs[run].commit, rows.batch.ordinals[static_cast<size_t>(row)]};
    char time[32];
    line["_ETL_OP"] = "I";
    line["_ETL_POSITION"] = fmt::format("{:016x}/{:016x}", at.commit.value, at.ordinal);
    line["_ETL_COMMIT_TS"] = std::string(time, WriteTimestamp(runs[run].commit_time, time)) + "Z";
    body->lines()->Append(line.dump() + "\n");
    while (Must(body->Add(at, 0)) != RequestBodyWriter::Outcome::kAdded)
      cost.Count(Must(body->Take()));
  }
  cost.Count(Must(body->Take()));
  cost.seconds = ThreadCpuSeconds() - began;
  return cost;
}

}  // namespace

int Main(int count, char** values) {
  const Arguments arguments(count, values);
  const int64_t row_count = arguments.Number("rows", 200'000);
  const std::string part = arguments.Text("part", "both");
  const Rows rows = MakeRows(row_count);
  RowWriterOptions options;
  options.body.level = static_cast<int>(arguments.Number("level", options.body.level));
  const auto writer = Must(RowWriter::Make(rows.batch.schema, rows.names, options));
  const auto encoder =
      Must(NdjsonEncoder::Make(rows.batch.schema, rows.names, OnUnrepresentable::kError));
  const auto body = Must(RequestBodyWriter::Make(options.body));

  Cost engine, documents;
  double encoder_seconds = 1e9;
  const auto keep = [](Cost* best, const Cost& found) {
    if (best->rows == 0 || found.seconds < best->seconds) *best = found;
  };
  for (int64_t round = 0; round < arguments.Number("rounds", 3); ++round) {
    if (part != "documents") {
      keep(&engine, Engine(rows, writer.get()));
      encoder_seconds = std::min(encoder_seconds, EncoderAlone(rows, encoder.get()));
    }
    if (part != "engine") keep(&documents, Documents(rows, body.get()));
  }
  const auto each = [](double total, int64_t n) {
    return n == 0 ? 0 : total / static_cast<double>(n);
  };
  const double us = each(engine.seconds * 1e6, engine.rows);
  const double documents_us = each(documents.seconds * 1e6, documents.rows);
  std::printf(
      "%s\n",
      nlohmann::json{
          {"us_per_row", us},
          {"encoder_us", each(encoder_seconds * 1e6, row_count)},
          {"documents_us", documents_us},
          {"times", us == 0 ? 0 : documents_us / us},
          {"line_bytes", each(static_cast<double>(engine.raw_bytes), engine.rows)},
          {"compressed_bytes", each(static_cast<double>(engine.compressed_bytes), engine.rows)}}
          .dump()
          .c_str());
  return 0;
}

}  // namespace etl::bench

int main(int argc, char** argv) { return etl::bench::Main(argc, argv); }
