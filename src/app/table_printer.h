#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace etl {

/// Columns a terminal uses for `text`: wide characters count twice, combining ones not at all.
int DisplayWidth(std::string_view text);
/// `text` so that it can neither drive a terminal nor break a line: control characters (also C1)
/// and bytes that are not UTF-8 are escaped.
std::string Printable(std::string_view text);
/// The first characters of `text` that fit `width` columns, with an ellipsis if something was left
/// out.
std::string Fitted(std::string_view text, int width);

/// Rows of text in aligned columns. Cells are made printable.
class TablePrinter {
 public:
  enum class Align { kLeft, kRight };
  explicit TablePrinter(std::vector<std::string> titles, std::vector<Align> aligns = {});
  void Add(std::vector<std::string> cells);
  /// Title line, rows, each line indented by `indent` spaces; a column is at most `widest` columns
  /// wide.
  std::string Render(int indent = 0, int widest = 60) const;

 private:
  std::vector<Align> aligns_;
  std::vector<std::vector<std::string>> rows_;
};

/// 81204113 as 81,204,113.
std::string Grouped(int64_t number);
/// 12582912 as 12.0 MiB.
std::string HumanBytes(int64_t bytes);

}  // namespace etl
