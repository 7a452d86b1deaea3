#include "destination/duckdb/change_columns.h"

#include <arrow/api.h>
#include <arrow/compute/api.h>

#include "base/check.h"

namespace etl {
namespace {

std::shared_ptr<arrow::Array> IndexArray(const std::vector<int64_t>& indices) {
  return std::make_shared<arrow::Int64Array>(static_cast<int64_t>(indices.size()),
                                             arrow::Buffer::Wrap(indices));
}

/// The columns that tell about each change, built row by row.
class MetadataBuilder {
 public:
  explicit MetadataBuilder(bool pending)
      : pending_(pending),
        unchanged_(arrow::default_memory_pool(), std::make_shared<arrow::StringBuilder>()),
        attnums_(arrow::default_memory_pool(), std::make_shared<arrow::Int16Builder>()) {}

  Status Add(char op, Lsn commit, uint64_t ordinal, std::optional<UnixMicros> time,
             std::optional<uint32_t> xid) {
    ETL_RETURN_IF_ERROR(op_.Append(std::string_view(&op, 1)));
    ETL_RETURN_IF_ERROR(lsn_.Append(commit.value));
    ETL_RETURN_IF_ERROR(ordinal_.Append(ordinal));
    ETL_RETURN_IF_ERROR(time.has_value() ? time_.Append(*time) : time_.AppendNull());
    return xid.has_value() ? xid_.Append(*xid) : xid_.AppendNull();
  }
  Status AddUnsent(const ChangeBatch& batch, int64_t row) {
    bool any = false;
    const auto columns = static_cast<int>(batch.schema->columns.size());
    for (int c = 0; !batch.unsent.empty() && c < columns; ++c) {
      if (!batch.Unsent(row, c)) continue;
      const Column& column = batch.schema->columns[static_cast<size_t>(c)];
      if (!any) ETL_RETURN_IF_ERROR(pending_ ? attnums_.Append() : unchanged_.Append());
      any = true;
      ETL_RETURN_IF_ERROR(
          pending_
              ? static_cast<arrow::Int16Builder*>(attnums_.value_builder())->Append(column.attnum)
              : static_cast<arrow::StringBuilder*>(unchanged_.value_builder())
                    ->Append(column.name));
    }
    return any ? Status::OK() : AddNoUnsent();
  }
  Status AddNoUnsent() { return pending_ ? attnums_.AppendNull() : unchanged_.AppendNull(); }

  Status Finish(arrow::FieldVector* fields, arrow::ArrayVector* columns) {
    ETL_RETURN_IF_ERROR(Put(pending_ ? "op" : "_etl_op", &op_, fields, columns));
    ETL_RETURN_IF_ERROR(Put(pending_ ? "lsn" : "_etl_lsn", &lsn_, fields, columns));
    ETL_RETURN_IF_ERROR(Put(pending_ ? "ordinal" : "_etl_seq", &ordinal_, fields, columns));
    if (!pending_) ETL_RETURN_IF_ERROR(Put("_etl_commit_ts", &time_, fields, columns));
    ETL_RETURN_IF_ERROR(Put(pending_ ? "xid" : "_etl_xid", &xid_, fields, columns));
    if (pending_) return Put("unsent", &attnums_, fields, columns);
    return Put("_etl_unchanged", &unchanged_, fields, columns);
  }

 private:
  static Status Put(const char* name, arrow::ArrayBuilder* builder, arrow::FieldVector* fields,
                    arrow::ArrayVector* columns) {
    ETL_ASSIGN_OR_RETURN(auto array, builder->Finish());
    fields->push_back(arrow::field(name, array->type()));
    columns->push_back(std::move(array));
    return Status::OK();
  }

  const bool pending_;
  arrow::StringBuilder op_;
  arrow::UInt64Builder lsn_, ordinal_;
  arrow::TimestampBuilder time_{arrow::timestamp(arrow::TimeUnit::MICRO, "UTC"),
                                arrow::default_memory_pool()};
  arrow::UInt32Builder xid_;
  arrow::ListBuilder unchanged_, attnums_;
};

std::shared_ptr<arrow::Field> PendingField(const Column& column) {
  return ArrowFieldOf("c" + std::to_string(column.attnum), *column.type);
}

Result<std::shared_ptr<arrow::RecordBatch>> ChangeRows(const ChangeBatch& batch, bool pending) {
  MetadataBuilder metadata(pending);
  int64_t row = 0;
  for (const TransactionRun& run : batch.transactions) {
    for (; row < run.end_row; ++row) {
      Op op = batch.ops[static_cast<size_t>(row)];
      if (!pending && op == Op::kMove) op = Op::kInsert;
      ETL_RETURN_IF_ERROR(metadata.Add(static_cast<char>(op), run.commit,
                                       batch.ordinals[static_cast<size_t>(row)], run.commit_time,
                                       run.xid));
      ETL_RETURN_IF_ERROR(metadata.AddUnsent(batch, row));
    }
  }
  ETL_CHECK(row == batch.size());
  arrow::FieldVector fields = batch.rows->schema()->fields();
  if (pending) {
    fields.clear();
    for (const Column& column : batch.schema->columns) fields.push_back(PendingField(column));
  }
  arrow::ArrayVector columns = batch.rows->columns();
  ETL_RETURN_IF_ERROR(metadata.Finish(&fields, &columns));
  return arrow::RecordBatch::Make(arrow::schema(std::move(fields)), batch.size(),
                                  std::move(columns));
}

}  // namespace

Result<std::shared_ptr<arrow::RecordBatch>> PendingRows(const ChangeBatch& batch) {
  return ChangeRows(batch, /*pending=*/true);
}

Result<std::shared_ptr<arrow::RecordBatch>> AppendRows(const ChangeBatch& batch) {
  return ChangeRows(batch, /*pending=*/false);
}

Result<std::shared_ptr<arrow::RecordBatch>> TruncateRow(const TruncateChange& truncate,
                                                        bool pending) {
  MetadataBuilder metadata(pending);
  ETL_RETURN_IF_ERROR(metadata.Add('t', truncate.at.commit, truncate.at.ordinal,
                                   truncate.commit_time, truncate.xid));
  ETL_RETURN_IF_ERROR(metadata.AddNoUnsent());
  arrow::FieldVector fields;
  arrow::ArrayVector columns;
  for (const Column& column : truncate.schema->columns) {
    fields.push_back(pending ? PendingField(column) : ArrowFieldOf(column.name, *column.type));
    ETL_ASSIGN_OR_RETURN(auto null, arrow::MakeArrayOfNull(fields.back()->type(), 1));
    columns.push_back(std::move(null));
  }
  ETL_RETURN_IF_ERROR(metadata.Finish(&fields, &columns));
  return arrow::RecordBatch::Make(arrow::schema(std::move(fields)), 1, std::move(columns));
}

Result<std::shared_ptr<arrow::RecordBatch>> EngineRows(
    const std::shared_ptr<arrow::RecordBatch>& rows, Op op, Lsn commit, uint64_t first_ordinal) {
  MetadataBuilder metadata(/*pending=*/false);
  for (int64_t row = 0; row < rows->num_rows(); ++row) {
    ETL_RETURN_IF_ERROR(metadata.Add(static_cast<char>(op), commit,
                                     first_ordinal + static_cast<uint64_t>(row), {}, {}));
    ETL_RETURN_IF_ERROR(metadata.AddNoUnsent());
  }
  arrow::FieldVector fields = rows->schema()->fields();
  arrow::ArrayVector columns = rows->columns();
  ETL_RETURN_IF_ERROR(metadata.Finish(&fields, &columns));
  return arrow::RecordBatch::Make(arrow::schema(std::move(fields)), rows->num_rows(),
                                  std::move(columns));
}

Result<std::shared_ptr<arrow::Array>> TakeRows(const std::shared_ptr<arrow::Array>& array,
                                               const std::vector<int64_t>& indices) {
  return arrow::compute::Take(*array, *IndexArray(indices),
                              arrow::compute::TakeOptions::NoBoundsCheck());
}

Result<std::shared_ptr<arrow::RecordBatch>> TakeRows(
    const std::shared_ptr<arrow::RecordBatch>& rows, const std::vector<int64_t>& indices) {
  arrow::ArrayVector columns;
  for (const auto& column : rows->columns()) {
    ETL_ASSIGN_OR_RETURN(auto taken, TakeRows(column, indices));
    columns.push_back(std::move(taken));
  }
  return arrow::RecordBatch::Make(rows->schema(), static_cast<int64_t>(indices.size()),
                                  std::move(columns));
}

}  // namespace etl
