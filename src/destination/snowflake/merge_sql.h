#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "destination/snowflake/ddl_sql.h"

namespace etl {

/// One merge of a table: landing rows with low ≤ commit LSN < high (rule 6.5). Both are boundaries,
/// `low` what the watermark says, `high` ≤ F.
struct MergeWindow {
  Lsn low;
  Lsn high;
};

struct MergeOptions {
  /// What the window may hold; false only if it is known to hold none (ProbeWindowSql).
  bool truncates = true;
  bool moves = true;  ///< insert halves of key changes with unsent values
  /// Landing rows from here on stay: those of a copy under way (Q−1 of its start). None: all rows
  /// below `high` go.
  Lsn keep_from;
  /// Fails if an insert finds a row, or an update or delete finds none (rule 5.3): costs one more
  /// look at the target's keys.
  bool strict = true;
};

/// The merge as statements of one request, BEGIN and COMMIT included: all or nothing.
///
/// The claim is an UPDATE of the table's row in the watermark, from APPLIED = low: it is the lock
/// that other merges of the table wait at, and when they get it they find another APPLIED and fail.
/// So a retry, an outcome that was not heard of, or a second engine never merges a window twice.
/// CLAIMED is NULL again at COMMIT: a claim is seen by its own transaction only.
///
/// A row is followed through its key changes within the window, so any number of them fits into one
/// merge; the result is that of applying them in order.
std::vector<std::string> MergeSql(const SnowflakeTable& table, const MergeWindow& window,
                                  const MergeOptions& options = {});

/// Counts of a window: ROWS, TRUNCATES, MOVES. For MergeOptions, and to skip what is empty.
std::string ProbeWindowSql(const SnowflakeTable& table, const MergeWindow& window);

struct TaskOptions {
  std::string warehouse;
  int64_t every_seconds = 60;
  uint32_t history = 1;  ///< whose F counts
  Lsn keep_from;
};

/// What the task runs: the same merge, up to the newest F in _ETL_PROGRESS, as statements between
/// BEGIN and COMMIT. A second run at the same time waits at the claim, then takes what is left.
///
/// A run may begin late, or be compiled statement by statement while the table changes. So its
/// claim holds only while the watermark's TASK says that this very text is the one that counts.
std::vector<std::string> TaskMergeSql(const SnowflakeTable& table, const TaskOptions& options);
/// That text, in short: equal only for equal ones.
std::string TaskVersion(const SnowflakeTable& table, const TaskOptions& options);

/// Makes the task, or makes it anew, and lets it run on its schedule, if TASK still is `seen` (NULL
/// is empty). Each statement commits by itself; after an end anywhere look at TASK and begin again.
/// What a run of the engine that was ended had sent may come late: then TASK is another one, and
/// what it made claims nothing. `run` tells runs apart.
std::vector<std::string> PutTaskSql(const SnowflakeTable& table, const TaskOptions& options,
                                    const std::string& seen, const std::string& run);
/// Removes the task, and waits until no transaction of it is open: whatever of it comes later fails
/// without having changed a row. Repeatable; to be done before the table is changed.
std::vector<std::string> FenceTaskSql(const SnowflakeTable& table, const std::string& run);
/// What TASK is then. There may be a task unless it is that of any run, or NULL.
std::string NoTask(const std::string& run);
bool MayHaveTask(std::string_view task);
/// No merge or fold of earlier generations claims anything from here on: one that was sent would
/// take the rows of this one.
std::string EndEarlierSql(const SnowflakeTable& table);

}  // namespace etl
