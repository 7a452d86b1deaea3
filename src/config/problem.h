#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace etl {

/// A place in the configuration file; lines and columns count from 1, 0 means the file as a whole.
struct SourceSpan {
  int line = 0;
  int column = 0;
  int length = 1;
};

/// One thing that is wrong with the configuration.
struct ConfigProblem {
  std::string code;  ///< ETL-C011
  std::string what;  ///< unknown field "bacth"
  SourceSpan span;
  std::string excerpt;  ///< the source line, with secrets taken out
  std::string hint;     ///< beside the caret: did you mean "batch"?
  std::string note;     ///< below: allowed here: …
};

/// Collects problems of one file and adds the excerpts. Keeps everything; the printer shows the
/// first ones.
class ProblemList {
 public:
  explicit ProblemList(std::string_view text) : text_(text) {}
  void Add(std::string code, SourceSpan span, std::string what, std::string hint = {},
           std::string note = {});
  bool empty() const { return problems_.empty(); }
  size_t size() const { return problems_.size(); }
  /// In the order of the file.
  std::vector<ConfigProblem> TakeSorted();

 private:
  std::string_view text_;
  std::vector<ConfigProblem> problems_;
};

/// The problem as several lines of text, ending in a newline: error line, place, excerpt with
/// caret, note.
std::string FormatProblem(const ConfigProblem& problem, std::string_view file);

/// `line` as it may be shown: passwords in URLs and values of keys that look like secrets become
/// `***`, control bytes are escaped, and what is very long is cut.
std::string MaskedExcerpt(std::string_view line);

}  // namespace etl
