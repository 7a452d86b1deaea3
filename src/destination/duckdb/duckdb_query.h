#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace etl {

struct DuckDbQueryColumn {
  std::string name;
  std::string type;  ///< as DuckDB names it
};

struct DuckDbQuery {
  std::string path;
  std::string sql;
  std::function<Status(const std::vector<DuckDbQueryColumn>&)> on_columns;
  /// One row, every value as DuckDB shows it; NULL is nullopt.
  std::function<Status(const std::vector<std::optional<std::string>>&)> on_row;
};

/// Opens the file read-only and runs one statement that gives rows. ETL-D125 is a mistake of the
/// statement. ETL-D131 (kBusy) while another process has the
/// file open.
Status RunDuckDbQuery(const DuckDbQuery& query);

/// A row as a JSON object: numbers and booleans as such where JSON can hold them, JSON columns as
/// they are, the rest as text.
std::string DuckDbRowToJson(const std::vector<DuckDbQueryColumn>& columns,
                            const std::vector<std::optional<std::string>>& row);

}  // namespace etl
