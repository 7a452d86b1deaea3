#pragma once

#include <string>
#include <vector>

#include "config/config.h"
#include "destination/snowflake/identifiers.h"
#include "destination/snowflake/user_keys.h"
#include "model/table_schema.h"

namespace etl {

/// Statements that let a role do what a pipeline needs, and no more: for somebody who may grant.
/// Pure; each is repeatable.
class SnowflakeGrants {
 public:
  /// `config` and `names` outlive it.
  SnowflakeGrants(const SnowflakeConfig& config, const SnowflakeNames& names)
      : config_(config), names_(names) {}

  /// `public_key` is PrivateKey::public_key().
  std::string Key(KeySlot slot, const std::string& public_key) const;
  std::vector<std::string> Role() const;
  std::string Warehouse() const;
  std::string Database() const;
  std::string CreateSchemas() const;
  /// The schema itself, and what is made in it.
  std::vector<std::string> Schema(const std::string& schema) const;
  /// What tasks need beyond that.
  std::vector<std::string> Tasks() const;

  /// Everything. `tables`: those that are to come; they name the schemas. Without a key the user's
  /// is left as it is.
  std::vector<std::string> All(bool mirror, const std::vector<TableSchemaPtr>& tables, KeySlot slot,
                               const std::string& public_key) const;

  /// The schemas that are written to, the landing schema first.
  std::vector<std::string> Schemas(bool mirror, const std::vector<TableSchemaPtr>& tables) const;
  /// Whether schemas are made as tables of the source come.
  bool schemas_follow_source() const;

 private:
  std::string ToRole() const;
  const SnowflakeConfig& config_;
  const SnowflakeNames& names_;
};

}  // namespace etl
