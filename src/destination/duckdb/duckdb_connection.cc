#include "destination/duckdb/duckdb_connection.h"

#include <algorithm>
#include <charconv>

#include <arrow/api.h>
#include <arrow/c/bridge.h>

#include "base/check.h"

namespace etl {
namespace {

struct ResultHolder {
  duckdb_result result{};
  ~ResultHolder() { duckdb_destroy_result(&result); }
};

struct ChunkHolder {
  duckdb_data_chunk chunk = nullptr;
  ~ChunkHolder() {
    if (chunk != nullptr) duckdb_destroy_data_chunk(&chunk);
  }
};

/// A query whose rows are fetched as they are made.
struct StreamedResult {
  duckdb_prepared_statement statement = nullptr;
  ResultHolder holder;
  ~StreamedResult() { duckdb_destroy_prepare(&statement); }

  Status Run(duckdb_connection connection, const std::string& sql) {
    if (duckdb_prepare(connection, sql.c_str(), &statement) == DuckDBError) {
      return DuckDbError(DUCKDB_ERROR_INVALID, duckdb_prepare_error(statement), sql.substr(0, 200));
    }
    if (duckdb_execute_prepared_streaming(statement, &holder.result) == DuckDBError)
      return Error(sql);
    return Status::OK();
  }
  /// A result that ends early looks like one that ends, but for this.
  Status End(const std::string& sql) {
    const char* error = duckdb_result_error(&holder.result);
    return error == nullptr || *error == '\0' ? Status::OK() : Error(sql);
  }
  Status Error(const std::string& sql) {
    return DuckDbError(duckdb_result_error_type(&holder.result),
                       duckdb_result_error(&holder.result), sql.substr(0, 200));
  }
};

Status TakeErrorData(duckdb_error_data error, std::string_view doing) {
  if (error == nullptr) return Status::OK();
  Status status;
  if (duckdb_error_data_has_error(error)) {
    status =
        DuckDbError(duckdb_error_data_error_type(error), duckdb_error_data_message(error), doing);
  }
  duckdb_destroy_error_data(&error);
  return status;
}

/// The type DuckDB exports where ours is `type`: booleans are arrow.bool8.
std::shared_ptr<arrow::DataType> ExportedType(const std::shared_ptr<arrow::DataType>& type) {
  switch (type->id()) {
    case arrow::Type::BOOL: return arrow::int8();
    case arrow::Type::LIST:
      return arrow::list(ExportedType(static_cast<const arrow::ListType&>(*type).value_type()));
    case arrow::Type::STRUCT: {
      arrow::FieldVector fields;
      for (const auto& field : type->fields())
        fields.push_back(arrow::field(field->name(), ExportedType(field->type())));
      return arrow::struct_(std::move(fields));
    }
    default: return type;
  }
}

Result<std::shared_ptr<arrow::Array>> ToOurType(const std::shared_ptr<arrow::Array>& array,
                                                const std::shared_ptr<arrow::DataType>& type) {
  switch (type->id()) {
    case arrow::Type::BOOL: {
      const auto& bytes = static_cast<const arrow::Int8Array&>(*array);
      arrow::BooleanBuilder builder;
      ETL_RETURN_IF_ERROR(builder.Reserve(bytes.length()));
      for (int64_t i = 0; i < bytes.length(); ++i) {
        if (bytes.IsNull(i)) {
          builder.UnsafeAppendNull();
        } else {
          builder.UnsafeAppend(bytes.Value(i) != 0);
        }
      }
      return builder.Finish();
    }
    case arrow::Type::LIST:
    case arrow::Type::STRUCT: {
      auto data = array->data()->Copy();
      data->type = type;
      for (size_t i = 0; i < data->child_data.size(); ++i) {
        ETL_ASSIGN_OR_RETURN(auto child, ToOurType(arrow::MakeArray(data->child_data[i]),
                                                   type->field(static_cast<int>(i))->type()));
        data->child_data[i] = child->data();
      }
      return arrow::MakeArray(data);
    }
    default: {
      auto data = array->data()->Copy();
      data->type = type;
      return arrow::MakeArray(data);
    }
  }
}

Result<std::shared_ptr<arrow::RecordBatch>> ImportChunk(
    duckdb_arrow_options options, duckdb_data_chunk chunk,
    const std::shared_ptr<arrow::Schema>& exported, const std::shared_ptr<arrow::Schema>& schema) {
  ArrowArray raw{};
  ETL_RETURN_IF_ERROR(TakeErrorData(duckdb_data_chunk_to_arrow(options, chunk, &raw), "read rows"));
  ETL_ASSIGN_OR_RETURN(auto batch, arrow::ImportRecordBatch(&raw, exported));
  arrow::ArrayVector columns;
  for (int i = 0; i < batch->num_columns(); ++i) {
    ETL_ASSIGN_OR_RETURN(auto column, ToOurType(batch->column(i), schema->field(i)->type()));
    columns.push_back(std::move(column));
  }
  return arrow::RecordBatch::Make(schema, batch->num_rows(), std::move(columns));
}

class Appender {
 public:
  ~Appender() {
    if (appender_ != nullptr) duckdb_appender_destroy(&appender_);
  }
  Status Open(duckdb_connection connection, const DuckDbTable& table, const arrow::Schema& schema) {
    if (duckdb_appender_create_ext(connection, table.catalog.c_str(), table.schema.c_str(),
                                   table.name.c_str(), &appender_) == DuckDBError)
      return Error("open " + table.Sql());
    for (const auto& field : schema.fields()) {
      if (duckdb_appender_add_column(appender_, field->name().c_str()) == DuckDBError)
        return Error("column " + field->name() + " of " + table.Sql());
    }
    return Status::OK();
  }
  Status Add(duckdb_data_chunk chunk) {
    if (duckdb_append_data_chunk(appender_, chunk) == DuckDBError) return Error("append");
    return Status::OK();
  }
  Status Close() {
    if (duckdb_appender_close(appender_) == DuckDBError) return Error("append");
    return Status::OK();
  }

 private:
  Status Error(const std::string& doing) {
    duckdb_error_data error = duckdb_appender_error_data(appender_);
    Status status = TakeErrorData(error, doing);
    if (status.ok()) status = DuckDbError(DUCKDB_ERROR_INVALID, "unknown appender error", doing);
    return status;
  }
  duckdb_appender appender_ = nullptr;
};

std::optional<std::string> TextAt(duckdb_vector vector, idx_t row) {
  uint64_t* validity = duckdb_vector_get_validity(vector);
  if (validity != nullptr && !duckdb_validity_row_is_valid(validity, row)) return std::nullopt;
  auto* strings = static_cast<duckdb_string_t*>(duckdb_vector_get_data(vector));
  return std::string(duckdb_string_t_data(&strings[row]), duckdb_string_t_length(strings[row]));
}

}  // namespace

Status DuckDbError(duckdb_error_type type, std::string_view message, std::string_view doing) {
  const std::string text(message);
  ErrorParts parts{.code = "ETL-D190",
                   .what = "DuckDB: " + std::string(doing),
                   .why = text.substr(0, text.find('\n'))};
  // ENOSPC, EDQUOT, EFBIG, and DuckDB's own bound of what it spills.
  for (const char* sign : {"No space left", "disk full", "quota exceeded", "File too large",
                           "max_temp_directory_size"}) {
    if (text.find(sign) == std::string::npos) continue;
    parts.code = "ETL-D130";
    parts.safe = "nothing of the transaction at hand was stored";
    parts.remedy = "free space on the file system that holds the file; work goes on by itself";
    return MakeError(ErrorKind::kTransient, std::move(parts));
  }
  if (text.find("Could not set lock on file") != std::string::npos) {
    parts.code = "ETL-D131";
    parts.remedy = "end the other process, or set `release` so that the file is shared";
    return MakeError(ErrorKind::kBusy, std::move(parts));
  }
  // A COMMIT says it as an error of the transaction.
  bool memory = type == DUCKDB_ERROR_OUT_OF_MEMORY;
  for (const char* sign :
       {"Out of Memory", "failed to pin block", "could not allocate block", "failed to allocate"})
    memory = memory || text.find(sign) != std::string::npos;
  if (memory) {
    parts.code = "ETL-D132";
    parts.safe = "nothing of the transaction at hand was stored";
    // DuckDB says the same when it may not spill any more.
    parts.remedy =
        "raise limits.memory (to append, DuckDB's half of it needs about 0.5 MiB for each column "
        "of the table, and to commit it needs room for 2,048 of its rows at once), or "
        "limits.spill where what may be spilled is used up";
    return MakeError(ErrorKind::kTransient, std::move(parts));
  }
  if (type == DUCKDB_ERROR_IO || type == DUCKDB_ERROR_FATAL || type == DUCKDB_ERROR_TRANSACTION ||
      type == DUCKDB_ERROR_INTERRUPT) {
    parts.code = type == DUCKDB_ERROR_TRANSACTION ? "ETL-D134" : "ETL-D133";
    return MakeError(ErrorKind::kTransient, std::move(parts));
  }
  return MakeError(ErrorKind::kInternal, std::move(parts));
}

std::string DuckDbWords(std::string_view message) {
  std::string words(message.substr(0, message.find("\n\n")));
  std::replace(words.begin(), words.end(), '\n', ' ');
  return words;
}

Result<std::unique_ptr<DuckDbConnection>> DuckDbConnection::Open(duckdb_database database) {
  std::unique_ptr<DuckDbConnection> connection(new DuckDbConnection());
  if (duckdb_connect(database, &connection->connection_) == DuckDBError)
    return DuckDbError(DUCKDB_ERROR_CONNECTION, "no connection", "connect");
  // Lossless: uuid and json keep their types on the way out. UTC: how timestamps with a zone are
  // labelled.
  ETL_RETURN_IF_ERROR(
      connection->Execute("SET arrow_lossless_conversion = true; SET TimeZone = 'UTC'").status());
  ETL_ASSIGN_OR_RETURN(auto rows, connection->Rows("SELECT current_database()"));
  connection->catalog_ = rows.at(0).at(0).value();
  return connection;
}

DuckDbConnection::~DuckDbConnection() {
  if (connection_ == nullptr) return;
  Rollback();
  duckdb_disconnect(&connection_);
}

Result<int64_t> DuckDbConnection::Execute(const std::string& sql) {
  ResultHolder holder;
  if (duckdb_query(connection_, sql.c_str(), &holder.result) == DuckDBError) {
    return DuckDbError(duckdb_result_error_type(&holder.result),
                       duckdb_result_error(&holder.result), sql.substr(0, 200));
  }
  return static_cast<int64_t>(duckdb_rows_changed(&holder.result));
}

Result<std::vector<TextRow>> DuckDbConnection::Rows(const std::string& sql) {
  std::vector<TextRow> rows;
  ETL_RETURN_IF_ERROR(TextRows(sql, [&](const TextRow& row) {
    rows.push_back(row);
    return Status::OK();
  }));
  return rows;
}

Status DuckDbConnection::TextRows(const std::string& sql,
                                  const std::function<Status(const TextRow&)>& on_row) {
  StreamedResult streamed;
  ETL_RETURN_IF_ERROR(streamed.Run(connection_, sql));
  const idx_t columns = duckdb_column_count(&streamed.holder.result);
  for (idx_t c = 0; c < columns; ++c)
    ETL_CHECK(duckdb_column_type(&streamed.holder.result, c) == DUCKDB_TYPE_VARCHAR);
  while (true) {
    ChunkHolder chunk{duckdb_fetch_chunk(streamed.holder.result)};
    if (chunk.chunk == nullptr) return streamed.End(sql);
    const idx_t size = duckdb_data_chunk_get_size(chunk.chunk);
    for (idx_t r = 0; r < size; ++r) {
      TextRow row;
      for (idx_t c = 0; c < columns; ++c)
        row.push_back(TextAt(duckdb_data_chunk_get_vector(chunk.chunk, c), r));
      ETL_RETURN_IF_ERROR(on_row(row));
    }
  }
}

Result<int64_t> DuckDbConnection::Number(const std::string& sql) {
  ETL_ASSIGN_OR_RETURN(auto rows, Rows("SELECT (" + sql + ")::BIGINT::VARCHAR"));
  int64_t number = 0;
  const std::string text = rows.at(0).at(0).value_or("0");
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

Status DuckDbConnection::Query(
    const std::string& sql, const std::shared_ptr<arrow::Schema>& schema,
    const std::function<Status(const std::shared_ptr<arrow::RecordBatch>&)>& on_batch) {
  StreamedResult streamed;
  ETL_RETURN_IF_ERROR(streamed.Run(connection_, sql));
  ResultHolder& holder = streamed.holder;
  arrow::FieldVector fields;
  for (const auto& field : schema->fields())
    fields.push_back(arrow::field(field->name(), ExportedType(field->type())));
  const auto exported = arrow::schema(std::move(fields));
  struct Options {
    duckdb_arrow_options options;
    ~Options() { duckdb_destroy_arrow_options(&options); }
  } options{duckdb_result_get_arrow_options(&holder.result)};
  while (true) {
    ChunkHolder chunk{duckdb_fetch_chunk(holder.result)};
    if (chunk.chunk == nullptr) break;
    if (duckdb_data_chunk_get_size(chunk.chunk) == 0) continue;
    ETL_ASSIGN_OR_RETURN(auto batch, ImportChunk(options.options, chunk.chunk, exported, schema));
    ETL_RETURN_IF_ERROR(on_batch(batch));
  }
  return streamed.End(sql);
}

Result<std::shared_ptr<arrow::RecordBatch>> DuckDbConnection::QueryBatch(
    const std::string& sql, const std::shared_ptr<arrow::Schema>& schema) {
  arrow::RecordBatchVector batches;
  ETL_RETURN_IF_ERROR(Query(sql, schema, [&](const std::shared_ptr<arrow::RecordBatch>& batch) {
    batches.push_back(batch);
    return Status::OK();
  }));
  if (batches.empty()) return arrow::RecordBatch::MakeEmpty(schema);
  if (batches.size() == 1) return batches[0];
  return arrow::ConcatenateRecordBatches(batches);
}

Status DuckDbConnection::Append(const DuckDbTable& table, const arrow::RecordBatch& rows) {
  if (rows.num_rows() == 0) return Status::OK();
  ArrowSchema raw{};
  ETL_RETURN_IF_ERROR(arrow::ExportSchema(*rows.schema(), &raw));
  duckdb_arrow_converted_schema converted = nullptr;
  struct Closer {
    ArrowSchema* schema;
    duckdb_arrow_converted_schema* converted;
    ~Closer() {
      if (*converted != nullptr) duckdb_destroy_arrow_converted_schema(converted);
      if (schema->release != nullptr) schema->release(schema);
    }
  } closer{&raw, &converted};
  ETL_RETURN_IF_ERROR(
      TakeErrorData(duckdb_schema_from_arrow(connection_, &raw, &converted), "convert types"));
  Appender appender;
  ETL_RETURN_IF_ERROR(appender.Open(connection_, table, *rows.schema()));
  for (int64_t at = 0; at < rows.num_rows(); at += kVectorRows) {
    ArrowArray array{};
    ETL_RETURN_IF_ERROR(arrow::ExportRecordBatch(*rows.Slice(at, kVectorRows), &array));
    ChunkHolder chunk;
    Status status = TakeErrorData(
        duckdb_data_chunk_from_arrow(connection_, &array, converted, &chunk.chunk), "convert rows");
    if (array.release != nullptr) array.release(&array);
    ETL_RETURN_IF_ERROR(status);
    ETL_RETURN_IF_ERROR(appender.Add(chunk.chunk));
  }
  return appender.Close();
}

Result<bool> DuckDbConnection::Has(const DuckDbTable& table) {
  struct Description {
    duckdb_table_description description = nullptr;
    ~Description() { duckdb_table_description_destroy(&description); }
  } found;
  if (duckdb_table_description_create_ext(connection_, table.catalog.c_str(), table.schema.c_str(),
                                          table.name.c_str(), &found.description) == DuckDBSuccess)
    return true;
  const char* words = duckdb_table_description_error(found.description);
  const std::string_view message = words == nullptr ? "no description" : words;
  if (message.find("could be located") != message.npos) return false;
  if (message.find("is not a") != message.npos) return true;  // A view.
  return DuckDbError(DUCKDB_ERROR_INVALID, message, "look for " + table.Sql());
}

Status DuckDbConnection::Begin() {
  ETL_CHECK(!in_transaction_);
  ETL_RETURN_IF_ERROR(Execute("BEGIN TRANSACTION").status());
  in_transaction_ = true;
  return Status::OK();
}

Status DuckDbConnection::Commit() {
  ETL_CHECK(in_transaction_);
  in_transaction_ = false;
  const auto committed = Execute("COMMIT");
  if (committed.ok()) return Status::OK();
  // Whatever it was, only the stored position says whether the transaction counts.
  ErrorParts parts = PartsOf(committed.status());
  if (KindOf(committed.status()) == ErrorKind::kInternal) parts.code = "ETL-D133";
  return MakeError(ErrorKind::kTransient, std::move(parts));
}

void DuckDbConnection::Rollback() {
  if (!in_transaction_) return;
  in_transaction_ = false;
  (void)Execute("ROLLBACK");
}

}  // namespace etl
