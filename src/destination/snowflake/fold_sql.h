#pragma once

#include <optional>
#include <string>
#include <vector>

#include "destination/snowflake/ddl_sql.h"

namespace etl {

/// The number of one try at one chunk; unique in a generation. Its rows have the position
/// (Q−1, attempt·2⁴⁰ + n).
using CopyAttempt = uint32_t;
inline constexpr int kAttemptShift = 40;
Position CopiedPosition(Lsn from, CopyAttempt attempt, uint64_t row);

/// A copied table becomes true at `high` (correctness: copy and fold).
struct Fold {
  Lsn from;  ///< Q
  Lsn high;  ///< a boundary ≥ until, ≤ F
  std::vector<CopyAttempt> done;
  Lsn ignore_below;       ///< FoldRequest::ignore_below; 0: none
  bool appended = false;  ///< the copied rows are those of AppendCopiedSql, whatever is in `done`
};

/// The keys whose last state has a value that was never sent and that no copied row may be trusted
/// for (rule F3): key columns, then LAST (position of the last change) and BROKEN (of the last
/// insert, or of the first change if there is none). Fold when there are none.
///
/// A row that was read again for them becomes a `U` at (n−1, …), n the boundary of rule S1, with
/// every value as it was read: what changed since n was sent, and comes after it. Values of fixed
/// length are never looked for elsewhere, so none may be left out.
std::string MissingSql(const SnowflakeTable& table, const Fold& fold);

/// The rows of the table at `high`, one column for each of the schema; a value that was sent
/// nowhere and cannot be trusted in a copied row is NULL.
std::string FoldedRowsSql(const SnowflakeTable& table, const Fold& fold);

/// Rows that were read again land as copied rows of this attempt. They count, as `U`, once it is
/// known that no key among them was freed or taken between `read_after` and `high` (rule S3).
inline constexpr CopyAttempt kSettledAttempt = 0xffffff;
std::vector<std::string> SettleSql(const SnowflakeTable& table, Lsn read_after, Lsn high);
/// Removes those that count.
std::string ForgetSettledSql(const SnowflakeTable& table);

/// The fold as one transaction of statements, into `place`.
///
/// Only rows change in it, no DDL, so it is done or not, and the claim in the watermark (see
/// MergeSql) lets it be done once. Where the target exists with the columns of this version,
/// `place` is the target: readers see the old rows until COMMIT, and its grants and policies stay;
/// the phase becomes `live`. Otherwise `place` is the shadow, made before by CreateTargetSql, and
/// the phase becomes `swap`. Landing rows below `high` go either way.
std::vector<std::string> FoldSql(const SnowflakeTable& table, const Fold& fold,
                                 const SnowflakeName& place);

/// The same in append mode, where copied rows wait in a table of their own, `copied`, which has the
/// columns of the landing table: they are appended to it, and behind what was there `before` a
/// truncate, for keys that were deleted while nobody looked have no D.
std::vector<std::string> AppendCopiedSql(const SnowflakeTable& table, const Fold& fold,
                                         const SnowflakeName& copied, bool before);
/// The name that makes SnowflakeNames::Landing that table. Its columns are those of `table`.
TableSchemaPtr CopiedSchema(const SnowflakeTable& table);

/// Which of the three tables of a swap exist.
struct SwapState {
  bool target = false;
  bool shadow = false;
  bool retired = false;
};
/// SELECT TABLE_NAME of those that do.
std::string SwapStateSql(const SnowflakeTable& table);

/// In phase `swap`: the statement that comes next, by what exists; none when the phase is to become
/// `live`. Each step leaves a state that tells the next one, so a crash may come anywhere, and a
/// step done twice fails without harm. Between the two renames of a target that is replaced it is
/// missing for a moment: run them in one request.
std::optional<std::string> NextSwapStep(const SnowflakeTable& table, const SwapState& state);
/// swap → live, once NextSwapStep has nothing left.
std::string FinishSwapSql(const SnowflakeTable& table);
/// What a swap leaves behind; any time in phase `live`.
std::string DropRetiredSql(const SnowflakeTable& table);

}  // namespace etl
