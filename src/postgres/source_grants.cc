#include "postgres/source_grants.h"

#include <set>

#include <fmt/format.h>

namespace etl {

std::vector<std::string> SourceGrantsSql(const SourceGrants& grants) {
  std::vector<std::string> sql;
  if (grants.role.empty()) return sql;
  const std::string role = QuoteIdentifier(grants.role);
  sql.push_back("ALTER ROLE " + role + " LOGIN REPLICATION");
  if (!grants.database.empty()) {
    sql.push_back(
        fmt::format("GRANT CONNECT ON DATABASE {} TO {}", QuoteIdentifier(grants.database), role));
  }
  std::set<std::string> schemas;
  std::string published;
  for (const TableName& table : grants.tables) {
    schemas.insert(table.schema);
    published += (published.empty() ? "" : ", ") + QuoteTable(table.schema, table.name);
  }
  for (const TableName& table : grants.leaves) schemas.insert(table.schema);
  for (const std::string& schema : schemas)
    sql.push_back(fmt::format("GRANT USAGE ON SCHEMA {} TO {}", QuoteIdentifier(schema), role));
  for (const auto* tables : {&grants.tables, &grants.leaves}) {
    for (const TableName& table : *tables) {
      sql.push_back(
          fmt::format("GRANT SELECT ON {} TO {}", QuoteTable(table.schema, table.name), role));
    }
  }
  if (!grants.publication_exists && !published.empty()) {
    sql.push_back(
        fmt::format("CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)",
                    QuoteIdentifier(grants.publication), published));
  }
  return sql;
}

}  // namespace etl
