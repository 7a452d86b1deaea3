#include <memory>
#include <vector>

#include <arrow/record_batch.h>

#include "base/check.h"
#include "batch/table_batcher.h"
#include "seeds.h"

namespace {

etl::TableSchemaPtr Schema() {
  auto schema = std::make_shared<etl::TableSchema>();
  schema->schema = "s";
  schema->name = "t";
  for (const etl::TypeKind kind :
       {etl::TypeKind::kInt4, etl::TypeKind::kText, etl::TypeKind::kNumericText}) {
    auto type = std::make_shared<etl::ColumnType>();
    type->kind = kind;
    etl::WireColumn wire;
    wire.type = type;
    wire.output =
        kind == etl::TypeKind::kNumericText ? -1 : static_cast<int>(schema->columns.size());
    if (wire.output >= 0)
      schema->columns.push_back(etl::Column{0, std::to_string(wire.output), type, false});
    schema->wire.push_back(wire);
  }
  return schema;
}

const std::vector<std::string>& Seeds() {
  static const std::vector<std::string> seeds = {
      std::string(1, '\0') + "1\ta\t0.5\n2\t\\N\t\\N\n3\ta\\tb\\\\\\n\t0\n",
      "\x01" + etl::FromHex("5047434f50590aff0d0a00 00000000 00000000 0003 00000004 00000001 "
                            "00000002 6162 ffffffff "
                            "0003 ffffffff ffffffff ffffffff ffff")};
  return seeds;
}

// The rows of the stream, or the code of its error; cut into pieces of `piece` bytes.
std::string Run(const etl::TableSchemaPtr& schema, std::string_view bytes, bool binary,
                size_t piece) {
  static const etl::BatchOptions options;
  auto batcher = etl::CopyBatcher::Make(schema, binary, &options).ValueOrDie();
  etl::Status status;
  for (size_t at = 0; at < bytes.size() && status.ok(); at += piece)
    status = batcher->Append(bytes.substr(at, piece));
  if (status.ok()) status = batcher->Finish();
  if (!status.ok()) return etl::PartsOf(status).code;
  if (batcher->rows() == 0) return "";
  const auto batch = batcher->Seal().ValueOrDie();
  ETL_CHECK(batch->ValidateFull().ok());
  return batch->ToString();
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max,
                                          unsigned seed) {
  return etl::MutateFromSeeds(Seeds(), data, size, size_max, seed);
}

// The first byte chooses the form and the size of the pieces. What comes out must not depend on the
// cuts.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const etl::TableSchemaPtr schema = Schema();
  if (size < 2) return 0;
  const bool binary = data[0] % 2 == 1;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string whole = Run(schema, bytes, binary, bytes.size());
  ETL_CHECK(whole == Run(schema, bytes, binary, size_t{1} + data[0] / 2 % 40));
  return 0;
}
