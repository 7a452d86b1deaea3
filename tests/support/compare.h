#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace etl {

struct CompareOptions {
  /// Tables of the source to compare: those of this publication.
  std::string publication = "etl_p";
  /// A table of the DuckDB file that the source does not have (any more) is a difference.
  bool extra_is_difference = true;
};

/// Compares source and copy value by value, without any code of the engine: both sides are read as
/// text through their own client libraries, each column by an expression that gives the same text
/// on both sides. The file is read from a private copy. Empty: equal. Otherwise what differs.
std::string Differences(const std::string& conninfo, const std::string& duckdb_path,
                        const CompareOptions& options = {});

/// One query, or several statements, on a connection of its own, as text.
Result<std::vector<std::vector<std::optional<std::string>>>> QuerySource(
    const std::string& conninfo, const std::string& sql);

/// One query on a private copy of a DuckDB file, as text.
Result<std::vector<std::vector<std::optional<std::string>>>> QueryDuckDb(const std::string& path,
                                                                         const std::string& sql);

/// A statement on the file itself, which nobody may hold.
Status ExecuteDuckDb(const std::string& path, const std::string& sql);

/// An identifier and a string as SQL writes them, in every dialect met here.
std::string Quote(const std::string& name);
std::string Literal(const std::string& text);

using TextRows = std::vector<std::vector<std::string>>;

/// A row as one line of a message.
std::string ShowTexts(const std::vector<std::string>& row);

struct DifferenceNames {
  std::vector<std::string> columns;
  std::string other;  ///< what is compared with the source
};
/// What differs between sorted rows, a few of them named; empty: nothing.
std::string DescribeDifferences(const std::string& name, const TextRows& source,
                                const TextRows& other, const DifferenceNames& names);

}  // namespace etl
