#include <cstdio>
#include <memory>

#include <arrow/array.h>

#include "base/check.h"
#include "batch/column_builder.h"
#include "value_seeds.h"

namespace {

void TryOne(etl::ColumnBuilder& builder, std::string_view bytes, bool binary) {
  const int64_t before = builder.length();
  const etl::CellResult result = binary ? builder.AppendBinary(bytes) : builder.AppendText(bytes);
  ETL_CHECK(builder.length() == before + (result == etl::CellResult::kOk ? 1 : 0));
  ETL_CHECK(result != etl::CellResult::kNoMemory);
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max,
                                          unsigned seed) {
  return etl::MutateFromSeeds(etl::Seeds(), data, size, size_max, seed);
}

// The first byte chooses the type; the rest is its value, in both forms.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const etl::ColumnType& type = *etl::Types()[data[0] % etl::Types().size()];
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto builder = etl::ColumnBuilder::Make(type);
  TryOne(*builder, bytes, false);
  ETL_CHECK(builder->AppendNull() == etl::CellResult::kOk);
  TryOne(*builder, bytes, true);
  TryOne(*builder, bytes, false);
  const auto array = arrow::MakeArray(builder->Finish());
  // Arrow itself holds that 24:00:00 is no time of day; it is kept.
  const arrow::Status valid =
      type.kind == etl::TypeKind::kTime ? array->Validate() : array->ValidateFull();
  if (!valid.ok()) std::fprintf(stderr, "%s\n%s\n", type.name.c_str(), valid.ToString().c_str());
  ETL_CHECK(valid.ok());
  return 0;
}
