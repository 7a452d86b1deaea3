#include "app/error_printer.h"

#include <fmt/format.h>

#include "app/error_pages.h"
#include "base/log.h"

namespace etl {
namespace {

// Further lines of a part stand under its first one.
void AddPart(std::string& out, std::string_view label, const std::string& text) {
  if (text.empty()) return;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin)
      out += fmt::format("  {:<6} {}\n", begin == 0 ? label : "",
                         EscapeControl(text.substr(begin, end - begin)));
    begin = end + 1;
  }
}

}  // namespace

std::string FormatError(const Status& status) {
  const ErrorParts parts = PartsOf(status);
  std::string out = fmt::format("error {}: {}\n", parts.code, EscapeControl(parts.what));
  AddPart(out, "why", parts.why);
  AddPart(out, "safe", parts.safe);
  AddPart(out, "do", parts.remedy);
  if (FindErrorPage(parts.code) != nullptr) AddPart(out, "more", "etl-stream help " + parts.code);
  return out;
}

}  // namespace etl
