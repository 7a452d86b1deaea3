#pragma once

#include <string>
#include <vector>

#include "destination/snowflake/ddl_sql.h"

namespace etl {

/// The range of commit LSNs [low, high) whose changes a statement takes. The bounds are SQL text:
/// literals, or (in a task) subqueries on the watermark.
struct WindowBounds {
  std::string low;
  std::string high;
  /// Rows that were read again for values that were never sent: what a fold needs, and no merge.
  bool settled = true;
};

/// Common parts of the statements that read changes from a landing table: what the changes of a
/// window come to, key by key. Pure text.
///
/// Common table expressions have plain names, and so have their columns: C<i> is column i of the
/// schema, U<i> whether its value was never sent, O<i> a key column as it was before key changes.
class WindowSql {
 public:
  WindowSql(const SnowflakeTable& table, WindowBounds bounds);

  /// Condition on landing rows of the window.
  std::string InRange() const;
  /// `W AS (…)`: changes of the window behind its last truncate, each position once. Columns POS,
  /// OP, MOVED (an insert half with unsent values), C<i>, and N<i> (not sent) where that may be.
  std::string Changes() const;

  /// `… F AS (…)`: one row a key, its state after the last change: OP (D: gone), POS, C<i>, U<i>
  /// (sent nowhere: still to be taken from elsewhere), ALIEN.
  ///
  /// A row is followed through its key changes: ALIEN says that the row was not under this key when
  /// the window began, but under O<i>; its unsent values are those of that row. Without `moves` the
  /// window is known to have no insert half with unsent values.
  std::string FinalStates(bool moves) const;

  /// `f.C0 = r.C0 AND …` over the key.
  std::string SameKey(const std::string& a, const std::string& b) const;
  /// `t."ID" = s.C0 AND …`: a stored table against such rows.
  std::string TargetKey(const std::string& target, const std::string& rows,
                        char prefix = 'C') const;
  /// The value of column i as equality, groups and partitions see it.
  std::string Comparable(int column, const std::string& value) const;

  /// `, `-separated names of all columns, each after `alias` (which may be empty).
  std::string StoredColumns(const std::string& alias) const;
  std::string PlainColumns(const std::string& alias) const;
  std::string Stored(int column) const;  ///< the quoted name
  /// Copied rows and changes alike: `l."A" AS C0, …`.
  std::string Selected() const;

  const std::vector<int>& unsent() const { return unsent_; }
  int columns() const { return static_cast<int>(table_.schema->columns.size()); }
  const std::string& landing() const { return landing_; }

 private:
  std::string PartitionKey(const std::string& alias) const;
  std::string Lines() const;
  std::string LastStates(const std::string& rows, const std::string& line, bool moves) const;

  const SnowflakeTable& table_;
  const WindowBounds bounds_;
  const std::string landing_;
  std::vector<int> unsent_;  ///< columns that may be unsent
};

}  // namespace etl
