#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "batch/column_builder.h"
#include "destination/snowflake/ndjson_encoder.h"
#include "value_seeds.h"

namespace {

// A table of one column of the type.
etl::TableSchemaPtr TableOf(const etl::ColumnTypePtr& type) {
  auto schema = std::make_shared<etl::TableSchema>();
  schema->schema = "public";
  schema->name = "fuzz";
  schema->columns.push_back({1, "v", type, false});
  return schema;
}

etl::ChangeBatch BatchOf(const etl::TableSchemaPtr& schema, etl::ColumnBuilder* builder) {
  etl::ChangeBatch batch;
  const int64_t rows = builder->length();
  batch.schema = schema;
  batch.rows = arrow::RecordBatch::Make(schema->ArrowSchema(), rows,
                                        arrow::ArrayVector{arrow::MakeArray(builder->Finish())});
  for (int64_t row = 0; row < rows; ++row) {
    batch.ops.push_back(etl::Op::kUpdate);
    batch.ordinals.push_back(static_cast<uint64_t>(row));
  }
  batch.transactions.push_back({etl::Lsn{1}, 1, 1, rows});
  return batch;
}

// Every row is one line, every line one strict JSON object whose only unusual key is `name`.
void Check(const etl::ChangeBatch& batch, const std::string& name) {
  auto encoder = etl::NdjsonEncoder::Make(batch.schema, {name}, etl::OnUnrepresentable::kNull);
  ETL_CHECK(encoder.ok() && (*encoder)->Bind(batch).ok());
  for (int64_t row = 0; row < batch.size(); ++row) {
    etl::TextBuffer out;
    ETL_CHECK((*encoder)->AppendRow(row, &out).ok());
    ETL_CHECK(out.view().find('\n') == out.size() - 1);
    const auto line = nlohmann::json::parse(out.view());
    ETL_CHECK(line.is_object() && line.at("_ETL_OP") == "U");
    ETL_CHECK(line.size() == 3 + line.count(name));
    ETL_CHECK(!batch.rows->column(0)->IsNull(row) || line.size() == 3);
  }
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max,
                                          unsigned seed) {
  return etl::MutateFromSeeds(etl::Seeds(), data, size, size_max, seed);
}

// The first byte chooses the type; the rest is its value, in both forms.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const etl::ColumnTypePtr& type = etl::Types()[data[0] % etl::Types().size()];
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto builder = etl::ColumnBuilder::Make(*type);
  (void)builder->AppendText(bytes);
  (void)builder->AppendBinary(bytes);
  ETL_CHECK(builder->AppendNull() == etl::CellResult::kOk);
  (void)builder->AppendText(bytes);
  Check(BatchOf(TableOf(type), builder.get()), "V");
  // The same bytes as the name of a column, where they are text. (Names of ours are refused
  // before.)
  if (bytes.starts_with("_ETL_")) return 0;
  const auto text = etl::ColumnBuilder::Make(*etl::Scalar(etl::TypeKind::kText));
  if (text->AppendText(bytes) == etl::CellResult::kOk) {
    const auto schema = TableOf(etl::Scalar(etl::TypeKind::kText));
    Check(BatchOf(schema, text.get()), std::string(bytes));
  }
  return 0;
}
