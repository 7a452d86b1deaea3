#include "postgres/table_facts.h"

#include <algorithm>
#include <map>

#include "postgres/type_resolver.h"

namespace etl {
namespace {

Status Refuse(std::string_view code, const TableFacts& facts, std::string what,
              std::string remedy) {
  return MakeError(ErrorKind::kSchema, code, facts.QualifiedName() + ": " + std::move(what),
                   std::move(remedy));
}

const AttributeFacts* ByName(const TableFacts& facts, const std::string& name) {
  for (const AttributeFacts& column : facts.columns) {
    if (column.published && column.name == name) return &column;
  }
  return nullptr;
}

bool IsKey(const TableFacts& facts, int16_t attnum) {
  return facts.replica_identity != 'n' &&
         std::find(facts.key.begin(), facts.key.end(), attnum) != facts.key.end();
}

Status CheckRules(const TableFacts& facts, const ColumnRules& rules) {
  for (const auto* list : {&rules.exclude, &rules.hash}) {
    const std::string_view verb = list == &rules.exclude ? "exclude" : "hash";
    for (const std::string& name : *list) {
      const AttributeFacts* column = ByName(facts, name);
      if (column == nullptr) {
        return Refuse("ETL-S112", facts,
                      "columns: " + std::string(verb) + " names \"" + name +
                          "\", which is no published column",
                      "correct `columns` in the configuration");
      }
      if (IsKey(facts, column->attnum)) {
        return Refuse(
            "ETL-S113", facts,
            "columns: " + std::string(verb) + " names \"" + name + "\", which is part of the key",
            "take it out of `columns` in the configuration");
      }
    }
  }
  return Status::OK();
}

Status CheckNames(const TableFacts& facts, const TableSchema& schema) {
  if (facts.schema == "_etl") {
    return Refuse("ETL-S119", facts, "the schema name _etl is reserved for bookkeeping",
                  "rename the schema, or exclude it from `tables`");
  }
  if (schema.columns.empty()) {
    return Refuse("ETL-S115", facts, "no column is left to copy",
                  "exclude the table from `tables`");
  }
  std::map<std::string, std::string> seen;
  for (const Column& column : schema.columns) {
    const auto [it, fresh] = seen.emplace(FoldCase(column.name), column.name);
    if (!fresh) {
      return Refuse(
          "ETL-S118", facts,
          "columns \"" + it->second + "\" and \"" + column.name + "\" differ only in case",
          "rename one of them, or exclude it in `columns`");
    }
  }
  return Status::OK();
}

ColumnTypePtr HashType() {
  static const ColumnTypePtr type = [] {
    auto text = std::make_shared<ColumnType>();
    text->kind = TypeKind::kText;
    text->oid = 25;
    text->name = "text";
    return text;
  }();
  return type;
}

}  // namespace

Result<TableSchemaPtr> MakeTableSchema(const TableFacts& facts, const ColumnRules& rules,
                                       uint32_t version) {
  ETL_RETURN_IF_ERROR(CheckRules(facts, rules));
  auto schema = std::make_shared<TableSchema>();
  schema->id = facts.id;
  schema->schema = facts.schema;
  schema->name = facts.name;
  schema->version = version;
  schema->full_images = facts.replica_identity == 'f';
  const auto listed = [](const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  for (const AttributeFacts& fact : facts.columns) {
    if (!fact.published) continue;
    WireColumn wire{.attnum = fact.attnum,
                    .name = fact.name,
                    .type_oid = fact.type_oid,
                    .typmod = fact.typmod,
                    .type = fact.type,
                    .output = -1};
    if (!listed(rules.exclude, fact.name)) {
      const bool hashed = listed(rules.hash, fact.name);
      wire.output = static_cast<int>(schema->columns.size());
      schema->columns.push_back(Column{.attnum = fact.attnum,
                                       .name = fact.name,
                                       .type = hashed ? HashType() : fact.type,
                                       .hashed = hashed});
    }
    schema->wire.push_back(std::move(wire));
  }
  ETL_RETURN_IF_ERROR(CheckNames(facts, *schema));
  if (facts.replica_identity == 'n') return schema;
  for (int16_t attnum : facts.key) {
    const int column = schema->ColumnByAttnum(attnum);
    if (column < 0) {
      return Refuse("ETL-S111", facts, "a key column is not in the publication's column list",
                    "publish all columns of the key");
    }
    schema->key.push_back(column);
  }
  if (!schema->key.empty()) {
    schema->identity = Identity::kKey;
  } else if (schema->full_images) {
    schema->identity = Identity::kFullRow;
  }
  return schema;
}

}  // namespace etl
