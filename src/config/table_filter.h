#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace etl {

/// Table patterns: `schema.table` with `*` for any run of characters; `!` excludes; a later pattern
/// wins. Without patterns every table is selected. Immutable.
class TableFilter {
 public:
  TableFilter() = default;
  explicit TableFilter(std::vector<std::string> patterns) : patterns_(std::move(patterns)) {}
  bool Selects(std::string_view schema, std::string_view table) const;
  bool empty() const { return patterns_.empty(); }
  const std::vector<std::string>& patterns() const { return patterns_; }
  friend bool operator==(const TableFilter&, const TableFilter&) = default;

 private:
  std::vector<std::string> patterns_;
};

/// Whether `text` matches `pattern`, in which `*` is any run of characters.
bool MatchesPattern(std::string_view pattern, std::string_view text);

}  // namespace etl
