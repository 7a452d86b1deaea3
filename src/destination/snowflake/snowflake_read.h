#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <arrow/type_fwd.h>

#include "destination/snowflake/ddl_sql.h"
#include "destination/snowflake/fold_sql.h"
#include "destination/snowflake/link.h"
#include "model/table_schema.h"

namespace etl {

/// Called with batches of the schema's columns until it returns an error.
using OnStoredRows = std::function<Status(const std::shared_ptr<arrow::RecordBatch>&)>;

/// All rows of the target, one result column for each of the schema.
std::string SelectTargetSql(const SnowflakeTable& table);
/// The rows that the landing table of an append pipeline stands for at `high`: the latest change of
/// each key, behind the copy that began at `from` (rule C11).
std::string SelectLatestSql(const SnowflakeTable& table, const Fold& fold);

/// Rows of such a statement, as a batch. Fails (schema, ETL-D140) where a value is not one of its
/// column's type.
Result<std::shared_ptr<arrow::RecordBatch>> BatchOfStored(const TableSchema& schema,
                                                          const SqlRows& rows);

/// Reads all rows of a statement over `link`, a part of the result at a time; blocks.
Status ReadStored(SnowflakeLink& link, const TableSchema& schema, const std::string& sql,
                  std::vector<ChannelEvent>& events, const OnStoredRows& on_rows);

/// The same rows, as Snowflake would hold them: values outside of the key that its columns cannot
/// hold (docs/types.md) are NULL, as `on_unrepresentable: null` stores them. `nulled` counts them.
Result<std::shared_ptr<arrow::RecordBatch>> AsSnowflakeHolds(
    const TableSchema& schema, std::shared_ptr<arrow::RecordBatch> rows, int64_t* nulled);

/// What the tables of one pipeline hold, read on a connection of its own while the pipeline stands
/// still at the position it has stored and shown. Any one thread.
class SnowflakeReader {
 public:
  struct Options {
    SnowflakeConfig config;
    std::string pipeline;
    bool append = false;
    const std::atomic<bool>* stop = nullptr;  ///< once set, reading ends soon, with an error
  };
  static Result<std::unique_ptr<SnowflakeReader>> Open(Options options, KeyOrigin key,
                                                       const Clock& clock);
  Status Read(const TableSchemaPtr& schema, const OnStoredRows& on_rows);

 private:
  SnowflakeReader(Options options, std::unique_ptr<SnowflakeLink> link);
  Status LoadLog();

  struct Copy {
    uint32_t generation = 0;
    Fold fold;
  };

  const Options options_;
  const SnowflakeNames names_;
  std::unique_ptr<SnowflakeLink> link_;
  std::map<uint32_t, Copy> copies_;  ///< append: what counts of each table, by its oid
};

}  // namespace etl
