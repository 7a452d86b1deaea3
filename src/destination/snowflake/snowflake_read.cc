#include "destination/snowflake/snowflake_read.h"

#include <algorithm>
#include <utility>

#include <arrow/api.h>
#include <fmt/format.h>

#include "destination/snowflake/progress_log.h"
#include "destination/snowflake/value_encoder.h"
#include "destination/snowflake/value_reader.h"
#include "destination/snowflake/value_text.h"

namespace etl {
namespace {

// As long as a result is kept for those who fetch it.
constexpr Duration kReadTime = std::chrono::hours(12);

Status NotOfItsType(const TableSchema& schema, const Column& column) {
  return MakeError(ErrorKind::kSchema, "ETL-D140",
                   fmt::format("snowflake: {}, column {}: a stored value is not a {}",
                               schema.QualifiedName(), column.name, column.type->name),
                   "see that nobody else changes the table, then: etl-stream pipeline resync "
                   "PIPELINE --table " +
                       schema.QualifiedName());
}

// Whether a column of Snowflake has no place for value `row`.
bool Unrepresentable(const arrow::Array& values, int64_t row) {
  switch (values.type_id()) {
    case arrow::Type::DATE32: {
      const int32_t days = static_cast<const arrow::Date32Array&>(values).Value(row);
      return days < kFirstDay || days > kLastDay;
    }
    case arrow::Type::TIMESTAMP:
      return !TimestampFits(static_cast<const arrow::TimestampArray&>(values).Value(row));
    case arrow::Type::TIME64:
      return static_cast<const arrow::Time64Array&>(values).Value(row) >= kMicrosPerDay;
    case arrow::Type::STRING:
      return static_cast<const arrow::StringArray&>(values).GetView(row).size() > kVarcharBytesMax;
    case arrow::Type::BINARY:
      return static_cast<const arrow::BinaryArray&>(values).GetView(row).size() > kBinaryBytesMax;
    default: return false;
  }
}

Result<std::shared_ptr<arrow::Array>> WithNulls(const arrow::Array& values, int64_t* nulled) {
  std::unique_ptr<arrow::ArrayBuilder> builder;
  ETL_RETURN_IF_ERROR(arrow::MakeBuilder(arrow::default_memory_pool(), values.type(), &builder));
  const arrow::ArraySpan span(*values.data());
  for (int64_t row = 0; row < values.length(); ++row) {
    if (values.IsValid(row) && Unrepresentable(values, row)) {
      ++*nulled;
      ETL_RETURN_IF_ERROR(builder->AppendNull());
    } else {
      ETL_RETURN_IF_ERROR(builder->AppendArraySlice(span, row, 1));
    }
  }
  return builder->Finish();
}

bool AnyUnrepresentable(const arrow::Array& values) {
  for (int64_t row = 0; row < values.length(); ++row) {
    if (values.IsValid(row) && Unrepresentable(values, row)) return true;
  }
  return false;
}

}  // namespace

std::string SelectTargetSql(const SnowflakeTable& table) {
  std::string columns;
  for (const Column& column : table.schema->columns)
    columns += (columns.empty() ? "" : ", ") + QuoteIdentifier(table.names.Fold(column.name));
  return "SELECT " + columns + " FROM " + table.names.Target(*table.schema).Sql();
}

std::string SelectLatestSql(const SnowflakeTable& table, const Fold& fold) {
  return FoldedRowsSql(table, fold);
}

Result<std::shared_ptr<arrow::RecordBatch>> BatchOfStored(const TableSchema& schema,
                                                          const SqlRows& rows) {
  const std::shared_ptr<arrow::Schema> fields = schema.ArrowSchema();
  std::vector<std::shared_ptr<arrow::Array>> arrays;
  for (size_t i = 0; i < schema.columns.size(); ++i) {
    std::unique_ptr<arrow::ArrayBuilder> builder;
    ETL_RETURN_IF_ERROR(arrow::MakeBuilder(arrow::default_memory_pool(),
                                           fields->field(static_cast<int>(i))->type(), &builder));
    for (const SqlRow& row : rows.rows) {
      if (row.size() != schema.columns.size() || !AppendStored(row[i], builder.get()))
        return NotOfItsType(schema, schema.columns[i]);
    }
    ETL_ASSIGN_OR_RETURN(arrays.emplace_back(), builder->Finish());
  }
  return arrow::RecordBatch::Make(fields, static_cast<int64_t>(rows.rows.size()),
                                  std::move(arrays));
}

Status ReadStored(SnowflakeLink& link, const TableSchema& schema, const std::string& sql,
                  std::vector<ChannelEvent>& events, const OnStoredRows& on_rows) {
  SqlRequest request = link.Request("read " + schema.QualifiedName(), sql);
  request.timeout = kReadTime;
  request.on_rows = [&](const SqlRows& rows) -> Status {
    if (rows.rows.empty()) return Status::OK();
    ETL_ASSIGN_OR_RETURN(const std::shared_ptr<arrow::RecordBatch> batch,
                         BatchOfStored(schema, rows));
    return on_rows(batch);
  };
  return link.RunAndWait(request, events).status;
}

Result<std::shared_ptr<arrow::RecordBatch>> AsSnowflakeHolds(
    const TableSchema& schema, std::shared_ptr<arrow::RecordBatch> rows, int64_t* nulled) {
  for (int i = 0; i < rows->num_columns(); ++i) {
    const bool key = std::find(schema.key.begin(), schema.key.end(), i) != schema.key.end();
    if (key || !AnyUnrepresentable(*rows->column(i))) continue;
    ETL_ASSIGN_OR_RETURN(const std::shared_ptr<arrow::Array> column,
                         WithNulls(*rows->column(i), nulled));
    ETL_ASSIGN_OR_RETURN(rows, rows->SetColumn(i, rows->schema()->field(i), column));
  }
  return rows;
}

SnowflakeReader::SnowflakeReader(Options options, std::unique_ptr<SnowflakeLink> link)
    : options_(std::move(options)),
      names_({.database = options_.config.database,
              .schema = options_.config.schema,
              .landing_schema = options_.config.landing_schema,
              .identifiers = options_.config.identifiers}),
      link_(std::move(link)) {}

Result<std::unique_ptr<SnowflakeReader>> SnowflakeReader::Open(Options options, KeyOrigin key,
                                                               const Clock& clock) {
  ETL_ASSIGN_OR_RETURN(std::unique_ptr<SnowflakeLink> link,
                       SnowflakeLink::Make(options.config, std::move(key), clock));
  link->StopWith(options.stop);
  std::unique_ptr<SnowflakeReader> reader(new SnowflakeReader(std::move(options), std::move(link)));
  if (reader->options_.append) ETL_RETURN_IF_ERROR(reader->LoadLog());
  return reader;
}

Status SnowflakeReader::LoadLog() {
  std::vector<ChannelEvent> none;
  const SqlOutcome rows = link_->RunAndWait(
      link_->Request("read _ETL_PROGRESS", ProgressLog::SelectSql(names_, options_.pipeline)),
      none);
  ETL_RETURN_IF_ERROR(rows.status);
  ProgressLog log;
  ETL_RETURN_IF_ERROR(log.Load(rows.results.at(0)));
  for (const auto& [oid, table] : log.tables())
    copies_[oid] = {.generation = table.checkpoint.generation,
                    .fold = {.from = table.checkpoint.from,
                             .high = log.checkpoint().position,
                             .done = {},
                             .ignore_below = {},
                             .appended = true}};
  return Status::OK();
}

Status SnowflakeReader::Read(const TableSchemaPtr& schema, const OnStoredRows& on_rows) {
  SnowflakeTable table{
      .names = names_, .pipeline = options_.pipeline, .schema = schema, .generation = 0};
  std::vector<ChannelEvent> none;
  if (!options_.append) return ReadStored(*link_, *schema, SelectTargetSql(table), none, on_rows);
  const auto copy = copies_.find(schema->id.oid);
  if (copy == copies_.end()) return Status::OK();
  table.generation = copy->second.generation;
  return ReadStored(*link_, *schema, SelectLatestSql(table, copy->second.fold), none, on_rows);
}

}  // namespace etl
