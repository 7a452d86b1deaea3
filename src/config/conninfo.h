#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace etl {

/// A libpq connection string whose password, if it held one, was taken out.
struct SplitConninfo {
  std::string conninfo;                 ///< without the password
  std::optional<std::string> password;  ///< decoded; the caller wipes it
  std::string error;  ///< not empty: neither a postgres:// URL nor a keyword string
};

/// Takes the password out of a URL (`postgres://user:password@host`, `?password=`) or keyword
/// string (`password=…`).
SplitConninfo SplitPassword(std::string_view conninfo);

}  // namespace etl
