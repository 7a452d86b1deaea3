#include "destination/duckdb/duckdb_probe.h"

#include <filesystem>
#include <map>

#include <fmt/format.h>
#include <unistd.h>

#include "destination/duckdb/duckdb_bookkeeping.h"

namespace etl {
namespace {

using Severity = ProbeFinding::Severity;
namespace fs = std::filesystem;

constexpr uintmax_t kLittleSpace = uintmax_t{1} << 30;
constexpr int64_t kDefaultBlockBytes = int64_t{256} << 10;

ProbeFinding ProbePath(const fs::path& path) {
  fs::path directory = path.parent_path();
  if (directory.empty()) directory = ".";
  std::error_code error;
  if (!fs::is_directory(directory, error)) {
    return {Severity::kFail, "D20", "the directory " + directory.string() + " does not exist",
            error.message(), "mkdir -p " + directory.string()};
  }
  if (access(directory.c_str(), W_OK | X_OK) != 0 ||
      (fs::exists(path, error) && access(path.c_str(), R_OK | W_OK) != 0)) {
    return {Severity::kFail,
            "D20",
            path.string() + " is not writable for this user",
            {},
            "make the directory and the file writable, or run as their owner"};
  }
  return {Severity::kOk, "D20", path.string() + " is writable", {}, {}};
}

ProbeFinding ProbeSpace(const fs::path& path) {
  std::error_code error;
  fs::path directory = path.parent_path();
  if (directory.empty()) directory = ".";
  const fs::space_info space = fs::space(directory, error);
  if (error) return {Severity::kWarn, "D21", "free space is not known", error.message(), {}};
  const std::string free = fmt::format(
      "{:.1f} GiB free", static_cast<double>(space.available) / static_cast<double>(1 << 30));
  if (space.available < kLittleSpace)
    return {
        Severity::kWarn, "D21", free + " beside the file", {}, "free space, or use another disk"};
  return {Severity::kOk, "D21", free + " beside the file", {}, {}};
}

// Deleted rows hold memory, too: a table that fits without them may not do so always.
void ProbeWidth(const DuckDbProbe& probe, const TableSchema& table, int64_t block_bytes,
                std::vector<ProbeFinding>* findings) {
  const int64_t memory = probe.file.memory_bytes;
  const bool fits = !WhyTooWide(table, block_bytes, memory).has_value();
  const std::optional<std::string> why = WhyTooWide(
      table, block_bytes, memory, probe.file.most_held_by_deletes(AppendBytes(table, block_bytes)));
  if (!why.has_value()) return;
  const size_t remedy = why->find("; do: ");
  findings->push_back({fits ? Severity::kWarn : Severity::kFail, "D24",
                       table.QualifiedName() + (fits ? " is very wide" : " is too wide"),
                       why->substr(0, remedy), why->substr(remedy + 6)});
}

void ProbeNames(const DuckDbProbe& probe, int64_t block_bytes,
                std::vector<ProbeFinding>* findings) {
  std::map<std::string, std::string> seen;
  auto fail = [&](std::string what, std::string remedy) {
    findings->push_back({Severity::kFail, "D23", std::move(what), {}, std::move(remedy)});
  };
  for (const TableSchemaPtr& table : probe.tables) {
    const std::string name = table->QualifiedName();
    if (FoldName(table->schema) == "_etl")
      fail(name + ": the schema _etl is the engine's own", "leave the table out");
    if (table->columns.empty()) fail(name + " has no columns", "leave the table out");
    ProbeWidth(probe, *table, block_bytes, findings);
    const auto [other, first] = seen.emplace(FoldName(name), name);
    if (!first && other->second != name)
      fail(other->second + " and " + name + " differ only in case", "leave one of them out");
    std::map<std::string, std::string> columns;
    for (const Column& column : table->columns) {
      const auto [same, first_column] = columns.emplace(FoldName(column.name), column.name);
      if (!first_column) {
        fail(fmt::format("{}: columns {} and {} differ only in case", name, same->second,
                         column.name),
             "exclude one of them");
      }
    }
  }
}

Status ProbeTargets(const DuckDbProbe& probe, DuckDbConnection& connection,
                    std::vector<ProbeFinding>* findings) {
  ETL_ASSIGN_OR_RETURN(
      auto present,
      connection.Rows("SELECT lower(schema_name || '.' || table_name) FROM duckdb_tables() WHERE "
                      "database_name = current_database() UNION ALL SELECT lower(schema_name || "
                      "'.' || view_name) FROM duckdb_views() WHERE database_name = "
                      "current_database()"));
  std::map<std::string, std::string> owners;
  ETL_ASSIGN_OR_RETURN(const int64_t ours,
                       connection.Number("SELECT count(*) FROM duckdb_tables() WHERE database_name "
                                         "= current_database() AND schema_name = '_etl' AND "
                                         "table_name = 'tables'"));
  if (ours > 0) {
    ETL_ASSIGN_OR_RETURN(
        auto rows, connection.Rows("SELECT lower(target_schema || '.' || target_name), pipeline "
                                   "FROM _etl.tables WHERE has_target"));
    for (const TextRow& row : rows) owners[row[0].value_or("")] = row[1].value_or("");
  }
  for (const TableSchemaPtr& table : probe.tables) {
    const std::string name = FoldName(table->QualifiedName());
    bool there = false;
    for (const TextRow& row : present) there = there || row[0] == name;
    if (!there) continue;
    const auto owner = owners.find(name);
    if (owner == owners.end()) {
      findings->push_back(
          {Severity::kFail,
           "D23",
           table->QualifiedName() + " is in the file, and the engine did not make it",
           {},
           "rename or drop it, or use another file"});
    } else if (owner->second != probe.pipeline) {
      findings->push_back({Severity::kFail,
                           "D23",
                           table->QualifiedName() + " belongs to pipeline " + owner->second,
                           {},
                           "use another file, or leave the table out of one of the two"});
    }
  }
  return Status::OK();
}

}  // namespace

std::vector<ProbeFinding> ProbeDuckDb(const DuckDbProbe& probe) {
  const fs::path path = probe.file.path;
  std::vector<ProbeFinding> findings{ProbePath(path)};
  if (findings[0].severity == Severity::kFail) return findings;
  findings.push_back(ProbeSpace(path));
  int64_t block_bytes = kDefaultBlockBytes;
  std::error_code ignored;
  if (fs::exists(path, ignored)) {
    auto look = [&]() -> Status {
      struct Open {
        duckdb_database database = nullptr;
        ~Open() {
          if (database != nullptr) duckdb_close(&database);
        }
      } open;
      ETL_ASSIGN_OR_RETURN(open.database, OpenDuckDb({.path = path.string(), .read_only = true}));
      ETL_ASSIGN_OR_RETURN(auto connection, DuckDbConnection::Open(open.database));
      ETL_ASSIGN_OR_RETURN(block_bytes, BlockBytes(*connection));
      return ProbeTargets(probe, *connection, &findings);
    };
    const Status status = look();
    const ErrorParts parts = PartsOf(status);
    if (status.ok()) {
      findings.push_back({Severity::kOk, "D22", "the file can be read", {}, {}});
    } else if (parts.code == "ETL-D131") {
      findings.push_back({probe.file.release.has_value() ? Severity::kWarn : Severity::kFail, "D20",
                          path.string() + " is open in another process", parts.why, parts.remedy});
    } else {
      findings.push_back({Severity::kFail, "D22", parts.what, parts.why, parts.remedy});
    }
  }
  const size_t before = findings.size();
  ProbeNames(probe, block_bytes, &findings);
  if (findings.size() == before)
    findings.push_back({Severity::kOk, "D23", "names fit into a DuckDB file", {}, {}});
  return findings;
}

}  // namespace etl
