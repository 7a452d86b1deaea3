#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace etl {

/// Whether `tables:` selects schema.name: `*` stands for any run of characters, a leading `!`
/// excludes, a later pattern wins. No pattern that matches: not selected.
bool MatchesTablePatterns(const std::vector<std::string>& patterns, std::string_view schema,
                          std::string_view name);

}  // namespace etl
