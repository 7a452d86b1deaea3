// Cost of decoding and appending one Insert message: narrow rows of 5 columns and rows of 20 mixed
// columns, as text and as binary.
#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "batch/table_batcher.h"
#include "decode/pgoutput.h"

namespace etl {
namespace {

struct BenchColumn {
  TypeKind kind;
  std::string text;
  std::string binary;
  uint8_t precision = 0;
  uint8_t scale = 0;
};

std::string BigEndian(uint64_t value, int bytes) {
  std::string out;
  for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8)
    out.push_back(static_cast<char>(value >> shift));
  return out;
}

const std::string kNumeric = BigEndian(3, 2) + BigEndian(1, 2) + BigEndian(0, 2) + BigEndian(2, 2) +
                             BigEndian(12, 2) + BigEndian(3456, 2) + BigEndian(7800, 2);

std::vector<BenchColumn> Narrow() {
  return {{TypeKind::kInt8, "1234567", BigEndian(1234567, 8)},
          {TypeKind::kInt4, "42", BigEndian(42, 4)},
          {TypeKind::kText, "twenty characters ab", "twenty characters ab"},
          {TypeKind::kTimestampTz, "2026-11-23 18:00:00.123456+00", BigEndian(848772000123456, 8)},
          {TypeKind::kDecimal, "123456.78", kNumeric, 12, 2}};
}

std::vector<BenchColumn> Wide() {
  std::vector<BenchColumn> columns;
  for (int i = 0; i < 2; ++i) {
    for (BenchColumn& column : Narrow()) columns.push_back(std::move(column));
  }
  const std::string uuid = "0123456789abcdef";
  columns.push_back({TypeKind::kBool, "t", BigEndian(1, 1)});
  columns.push_back({TypeKind::kInt2, "-7", BigEndian(0xfff9, 2)});
  columns.push_back({TypeKind::kFloat8, "3.141592653589793", BigEndian(0x400921fb54442d18, 8)});
  columns.push_back({TypeKind::kUuid, "30313233-3435-3637-3839-616263646566", uuid});
  columns.push_back({TypeKind::kDate, "2026-11-23", BigEndian(9823, 4)});
  columns.push_back({TypeKind::kTimestamp, "2026-11-23 18:00:00", BigEndian(848772000000000, 8)});
  columns.push_back({TypeKind::kJsonb, R"({"a": 1, "b": [true, null]})",
                     std::string("\1") + R"({"a": 1, "b": [true, null]})"});
  columns.push_back({TypeKind::kBytea, "\\x30313233343536373839", "0123456789"});
  columns.push_back({TypeKind::kNumericText, "123456.78", kNumeric});
  columns.push_back({TypeKind::kText, std::string(60, 'x'), std::string(60, 'x')});
  return columns;
}

TableSchemaPtr SchemaOf(const std::vector<BenchColumn>& columns) {
  auto schema = std::make_shared<TableSchema>();
  schema->schema = "public";
  schema->name = "bench";
  schema->identity = Identity::kKey;
  schema->key = {0};
  for (size_t i = 0; i < columns.size(); ++i) {
    auto type = std::make_shared<ColumnType>();
    type->kind = columns[i].kind;
    type->precision = columns[i].precision;
    type->scale = columns[i].scale;
    schema->columns.push_back(
        Column{static_cast<int16_t>(i + 1), "c" + std::to_string(i), type, false});
    WireColumn wire;
    wire.type = type;
    wire.output = static_cast<int>(i);
    schema->wire.push_back(wire);
  }
  return schema;
}

std::string InsertMessage(const std::vector<BenchColumn>& columns, bool binary) {
  std::string message = "I" + BigEndian(77, 4) + "N" + BigEndian(columns.size(), 2);
  for (const BenchColumn& column : columns) {
    const std::string& cell = binary ? column.binary : column.text;
    message += (binary ? "b" : "t") + BigEndian(cell.size(), 4) + cell;
  }
  return message;
}

void DecodeAndAppend(benchmark::State& state, const std::vector<BenchColumn>& columns,
                     bool binary) {
  const BatchOptions options;
  auto batcher = TableBatcher::Make(SchemaOf(columns), &options).ValueOrDie();
  const std::string payload = InsertMessage(columns, binary);
  DecodedMessage message;
  batcher->Begin(Lsn{1}, 0, 1);
  uint64_t ordinal = 0;
  for (auto _ : state) {
    if (!DecodeMessage(payload, false, &message).ok() ||
        !batcher->Insert(message.cells, ordinal += 2).ok()) {
      state.SkipWithError("a row was refused");
      break;
    }
    if (batcher->bytes() > (16 << 20)) benchmark::DoNotOptimize(batcher->Seal());
  }
  state.SetItemsProcessed(state.iterations());
}

void CopyRows(benchmark::State& state, const std::vector<BenchColumn>& columns) {
  const BatchOptions options;
  auto batcher = CopyBatcher::Make(SchemaOf(columns), /*binary=*/true, &options).ValueOrDie();
  (void)batcher->Append(std::string("PGCOPY\n\377\r\n\0", 11) + std::string(8, '\0'));
  std::string row = BigEndian(columns.size(), 2);
  for (const BenchColumn& column : columns)
    row += BigEndian(column.binary.size(), 4) + column.binary;
  for (auto _ : state) {
    if (!batcher->Append(row).ok()) {
      state.SkipWithError("a row was refused");
      break;
    }
    if (batcher->bytes() > (16 << 20)) benchmark::DoNotOptimize(batcher->Seal());
  }
  state.SetItemsProcessed(state.iterations());
}

BENCHMARK_CAPTURE(DecodeAndAppend, narrow_text, Narrow(), false);
BENCHMARK_CAPTURE(DecodeAndAppend, narrow_binary, Narrow(), true);
BENCHMARK_CAPTURE(DecodeAndAppend, wide_text, Wide(), false);
BENCHMARK_CAPTURE(DecodeAndAppend, wide_binary, Wide(), true);
BENCHMARK_CAPTURE(CopyRows, narrow_binary, Narrow());
BENCHMARK_CAPTURE(CopyRows, wide_binary, Wide());

}  // namespace
}  // namespace etl

BENCHMARK_MAIN();
