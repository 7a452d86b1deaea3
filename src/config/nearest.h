#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace etl {

/// Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`.
int EditDistance(std::string_view a, std::string_view b);

/// The candidate a person most likely meant by `word`, if one is near enough to be worth saying.
std::optional<std::string> NearestName(std::string_view word,
                                       const std::vector<std::string>& candidates);

}  // namespace etl
