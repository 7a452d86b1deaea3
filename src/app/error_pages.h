#pragma once

#include <span>
#include <string_view>

namespace etl {

/// What `etl-stream help ETL-…` prints.
struct ErrorPage {
  std::string_view code;   ///< ETL-S203
  std::string_view title;  ///< what happened, in one line
  std::string_view text;   ///< what it means, what is safe, what to do
};

std::span<const ErrorPage> ErrorPages();
/// The page of `code` (in any case, with or without "ETL-"), or null.
const ErrorPage* FindErrorPage(std::string_view code);

}  // namespace etl
