#include "destination/snowflake/grants_sql.h"

#include <algorithm>

#include <fmt/format.h>

#include "net/jwt.h"

namespace etl {

std::string SnowflakeGrants::ToRole() const { return " TO ROLE " + QuoteIdentifier(config_.role); }

bool SnowflakeGrants::schemas_follow_source() const {
  return config_.schema.find("{schema}") != std::string::npos;
}

std::string SnowflakeGrants::Key(KeySlot slot, const std::string& public_key) const {
  return SetKeySql(config_.user, slot, public_key);
}

std::vector<std::string> SnowflakeGrants::Role() const {
  const std::string user = QuoteIdentifier(UpperAscii(config_.user));
  return {"CREATE ROLE IF NOT EXISTS " + QuoteIdentifier(config_.role),
          fmt::format("CREATE USER IF NOT EXISTS {} TYPE = SERVICE DEFAULT_ROLE = {}", user,
                      QuoteIdentifier(config_.role)),
          fmt::format("GRANT ROLE {} TO USER {}", QuoteIdentifier(config_.role), user)};
}

std::string SnowflakeGrants::Warehouse() const {
  return "GRANT USAGE ON WAREHOUSE " + QuoteIdentifier(config_.warehouse) + ToRole();
}

std::string SnowflakeGrants::Database() const {
  return "GRANT USAGE ON DATABASE " + QuoteIdentifier(names_.database()) + ToRole();
}

std::string SnowflakeGrants::CreateSchemas() const {
  return "GRANT CREATE SCHEMA ON DATABASE " + QuoteIdentifier(names_.database()) + ToRole();
}

std::vector<std::string> SnowflakeGrants::Schema(const std::string& schema) const {
  const std::string name = QuoteIdentifier(names_.database()) + "." + QuoteIdentifier(schema);
  return {"CREATE SCHEMA IF NOT EXISTS " + name, "GRANT USAGE ON SCHEMA " + name + ToRole(),
          "GRANT CREATE TABLE ON SCHEMA " + name + ToRole()};
}

std::vector<std::string> SnowflakeGrants::Tasks() const {
  return {fmt::format("GRANT CREATE TASK ON SCHEMA {}.{}{}", QuoteIdentifier(names_.database()),
                      QuoteIdentifier(names_.landing_schema()), ToRole()),
          "GRANT EXECUTE TASK ON ACCOUNT" + ToRole()};
}

std::vector<std::string> SnowflakeGrants::Schemas(bool mirror,
                                                  const std::vector<TableSchemaPtr>& tables) const {
  std::vector<std::string> schemas{names_.landing_schema()};
  const auto add = [&](const std::string& schema) {
    if (std::find(schemas.begin(), schemas.end(), schema) == schemas.end())
      schemas.push_back(schema);
  };
  if (!mirror) return schemas;
  if (!schemas_follow_source()) add(names_.Target(TableSchema{}).schema);
  for (const TableSchemaPtr& table : tables) add(names_.Target(*table).schema);
  return schemas;
}

std::vector<std::string> SnowflakeGrants::All(bool mirror,
                                              const std::vector<TableSchemaPtr>& tables,
                                              KeySlot slot, const std::string& public_key) const {
  std::vector<std::string> all = Role();
  const auto add = [&](std::vector<std::string> more) {
    std::move(more.begin(), more.end(), std::back_inserter(all));
  };
  if (!public_key.empty()) add({Key(slot, public_key)});
  add({Warehouse(), Database()});
  if (mirror && schemas_follow_source()) {
    // Schemas come with the source's; those that the role makes are its own.
    add({CreateSchemas()});
    add(Schema(names_.landing_schema()));
  } else {
    for (const std::string& schema : Schemas(mirror, tables)) add(Schema(schema));
  }
  if (mirror && config_.merge_by == MergeBy::kTask) add(Tasks());
  return all;
}

}  // namespace etl
