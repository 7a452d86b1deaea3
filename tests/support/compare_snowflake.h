#pragma once

#include <functional>
#include <string>

#include <nlohmann/json.hpp>

namespace etl {

/// The rows of a table of Snowflake as objects, values in the texts of the SQL API.
using SnowflakeRows =
    std::function<nlohmann::json(const std::string& schema, const std::string& table)>;

struct SnowflakeCompareOptions {
  /// Tables of the source to compare: those of this publication.
  std::string publication = "etl_p";
  /// Where the tables are; {schema}, if there, stands for the source's.
  std::string schema = "S";
};

/// Compares source and target tables value by value, without any code of the engine: the source is
/// asked for each column in the form in which the SQL API writes it. Values that Snowflake cannot
/// hold count as NULL. Empty: equal. Otherwise what differs.
std::string SnowflakeDifferences(const std::string& conninfo, const SnowflakeRows& rows_of,
                                 const SnowflakeCompareOptions& options = {});

}  // namespace etl
