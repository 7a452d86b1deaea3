#include "config/table_filter.h"

namespace etl {

bool MatchesPattern(std::string_view pattern, std::string_view text) {
  size_t p = 0;
  size_t t = 0;
  size_t star = std::string_view::npos;
  size_t resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool TableFilter::Selects(std::string_view schema, std::string_view table) const {
  if (patterns_.empty()) return true;
  std::string name(schema);
  name += '.';
  name += table;
  for (size_t i = patterns_.size(); i-- > 0;) {
    std::string_view pattern = patterns_[i];
    const bool exclude = pattern.starts_with('!');
    if (exclude) pattern.remove_prefix(1);
    if (MatchesPattern(pattern, name)) return !exclude;
  }
  return false;
}

}  // namespace etl
