#pragma once

#include <string>
#include <vector>

#include "destination/destination.h"
#include "destination/duckdb/duckdb_file.h"

namespace etl {

struct DuckDbProbe {
  DuckDbOptions file;
  std::string pipeline;
  /// The tables that are to come; only names and columns are looked at.
  std::vector<TableSchemaPtr> tables;
};

/// What would fail: D20 the path, D21 free space, D22 the file itself, D23 names, D24 columns.
/// Leaves nothing behind: a file that does not exist is not made.
std::vector<ProbeFinding> ProbeDuckDb(const DuckDbProbe& probe);

}  // namespace etl
