#include "postgres/table_pattern.h"

namespace etl {
namespace {

bool MatchesGlob(std::string_view pattern, std::string_view text) {
  size_t p = 0;
  size_t t = 0;
  size_t star = pattern.npos;
  size_t resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != pattern.npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace

bool MatchesTablePatterns(const std::vector<std::string>& patterns, std::string_view schema,
                          std::string_view name) {
  std::string text(schema);
  text += '.';
  text += name;
  bool selected = false;
  for (std::string_view pattern : patterns) {
    const bool exclude = pattern.starts_with('!');
    if (exclude) pattern.remove_prefix(1);
    if (MatchesGlob(pattern, text)) selected = !exclude;
  }
  return selected;
}

}  // namespace etl
