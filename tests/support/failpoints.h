#pragma once

#include <set>
#include <string>

namespace etl {

/// Every failpoint of the Snowflake destination. All are passed by snowflake_crash_test.
inline const std::set<std::string> kSnowflakeFailpoints = {
    "snowflake.control.before_append", "snowflake.copy.before_append",
    "snowflake.data.before_append", "snowflake.job.before", "snowflake.sql.before"};

}  // namespace etl
