#include "destination/row_mapping.h"

#include <arrow/api.h>
#include <arrow/compute/api.h>

namespace etl {

bool SameColumns(const TableSchema& a, const TableSchema& b) {
  if (&a == &b) return true;
  if (a.columns.size() != b.columns.size() || a.key != b.key || a.identity != b.identity)
    return false;
  for (size_t i = 0; i < a.columns.size(); ++i) {
    if (a.columns[i].attnum != b.columns[i].attnum || a.columns[i].name != b.columns[i].name)
      return false;
    if (a.columns[i].type != b.columns[i].type &&
        !ArrowFieldOf("", *a.columns[i].type)
             ->Equals(ArrowFieldOf("", *b.columns[i].type), /*check_metadata=*/true))
      return false;
  }
  return true;
}

Result<std::shared_ptr<arrow::RecordBatch>> MapRows(const std::shared_ptr<arrow::RecordBatch>& rows,
                                                    const TableSchema& from, const TableSchema& to,
                                                    const FillValues& fill) {
  if (SameColumns(from, to)) return rows;
  const auto schema = to.ArrowSchema();
  arrow::ArrayVector columns;
  for (size_t i = 0; i < to.columns.size(); ++i) {
    const auto& type = schema->field(static_cast<int>(i))->type();
    const int source = from.ColumnByAttnum(to.columns[i].attnum);
    if (source >= 0) {
      std::shared_ptr<arrow::Array> column = rows->column(source);
      if (!column->type()->Equals(*type)) {
        ETL_ASSIGN_OR_RETURN(column, arrow::compute::Cast(*column, type));
      }
      columns.push_back(std::move(column));
      continue;
    }
    const auto value = fill.find(to.columns[i].attnum);
    if (value == fill.end() || value->second == nullptr) {
      ETL_ASSIGN_OR_RETURN(auto nulls, arrow::MakeArrayOfNull(type, rows->num_rows()));
      columns.push_back(std::move(nulls));
    } else {
      ETL_ASSIGN_OR_RETURN(auto scalar, value->second->GetScalar(0));
      ETL_ASSIGN_OR_RETURN(auto filled, arrow::MakeArrayFromScalar(*scalar, rows->num_rows()));
      columns.push_back(std::move(filled));
    }
  }
  return arrow::RecordBatch::Make(schema, rows->num_rows(), std::move(columns));
}

Result<const ChangeBatch*> MapChanges(const ChangeBatch& batch, const TableSchemaPtr& to,
                                      const FillValues& fill, ChangeBatch* mapped) {
  if (SameColumns(*batch.schema, *to)) return &batch;
  mapped->schema = to;
  ETL_ASSIGN_OR_RETURN(mapped->rows, MapRows(batch.rows, *batch.schema, *to, fill));
  mapped->ops = batch.ops;
  mapped->ordinals = batch.ordinals;
  mapped->transactions = batch.transactions;
  mapped->bytes = batch.bytes;
  if (batch.unsent.empty()) return mapped;
  mapped->unsent_words = static_cast<int>((to->columns.size() + 63) / 64);
  mapped->unsent.assign(batch.ops.size() * static_cast<size_t>(mapped->unsent_words), 0);
  for (size_t c = 0; c < to->columns.size(); ++c) {
    const int source = batch.schema->ColumnByAttnum(to->columns[c].attnum);
    for (int64_t row = 0; source >= 0 && row < batch.size(); ++row) {
      if (!batch.Unsent(row, source)) continue;
      mapped
          ->unsent[static_cast<size_t>(row) * static_cast<size_t>(mapped->unsent_words) + c / 64] |=
          uint64_t{1} << (c % 64);
    }
  }
  return mapped;
}

}  // namespace etl
