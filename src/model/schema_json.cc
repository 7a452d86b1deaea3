#include "model/schema_json.h"

#include <nlohmann/json.hpp>

namespace etl {
namespace {

using Json = nlohmann::json;

Json TypeToJson(const ColumnType& type) {
  Json json{{"kind", static_cast<int>(type.kind)},
            {"oid", type.oid},
            {"typmod", type.typmod},
            {"name", type.name}};
  if (type.kind == TypeKind::kDecimal) {
    json["precision"] = type.precision;
    json["scale"] = type.scale;
  }
  if (type.kind == TypeKind::kList) {
    json["dimensions"] = type.dimensions;
    json["delimiter"] = std::string(1, type.delimiter);
    json["element"] = TypeToJson(*type.element);
  }
  for (const ColumnType::Field& field : type.fields) {
    json["fields"].push_back(Json{{"name", field.name}, {"type", TypeToJson(*field.type)}});
  }
  return json;
}

ColumnTypePtr TypeFromJson(const Json& json) {
  auto type = std::make_shared<ColumnType>();
  type->kind = static_cast<TypeKind>(json.at("kind").get<int>());
  type->oid = json.at("oid");
  type->typmod = json.at("typmod");
  type->name = json.at("name");
  if (type->kind == TypeKind::kDecimal) {
    type->precision = json.at("precision");
    type->scale = json.at("scale");
  }
  if (type->kind == TypeKind::kList) {
    type->dimensions = json.at("dimensions");
    type->delimiter = json.at("delimiter").get<std::string>().at(0);
    type->element = TypeFromJson(json.at("element"));
  }
  if (json.contains("fields")) {
    for (const Json& field : json.at("fields")) {
      type->fields.push_back({field.at("name"), TypeFromJson(field.at("type"))});
    }
  }
  return type;
}

}  // namespace

std::string SchemaToJson(const TableSchema& schema) {
  Json json{{"oid", schema.id.oid},
            {"schema", schema.schema},
            {"name", schema.name},
            {"version", schema.version},
            {"identity", static_cast<int>(schema.identity)},
            {"full_images", schema.full_images},
            {"key", schema.key},
            {"columns", Json::array()},
            {"wire", Json::array()}};
  for (const Column& column : schema.columns) {
    json["columns"].push_back(Json{{"attnum", column.attnum},
                                   {"name", column.name},
                                   {"type", TypeToJson(*column.type)},
                                   {"hashed", column.hashed}});
  }
  for (const WireColumn& column : schema.wire) {
    json["wire"].push_back(Json{{"attnum", column.attnum},
                                {"name", column.name},
                                {"type_oid", column.type_oid},
                                {"typmod", column.typmod},
                                {"type", TypeToJson(*column.type)},
                                {"output", column.output}});
  }
  return json.dump();
}

Result<TableSchemaPtr> SchemaFromJson(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    auto schema = std::make_shared<TableSchema>();
    schema->id.oid = json.at("oid");
    schema->schema = json.at("schema");
    schema->name = json.at("name");
    schema->version = json.at("version");
    schema->identity = static_cast<Identity>(json.at("identity").get<int>());
    schema->full_images = json.at("full_images");
    schema->key = json.at("key").get<std::vector<int>>();
    for (const Json& column : json.at("columns")) {
      schema->columns.push_back({.attnum = column.at("attnum"),
                                 .name = column.at("name"),
                                 .type = TypeFromJson(column.at("type")),
                                 .hashed = column.at("hashed")});
    }
    for (const Json& column : json.at("wire")) {
      schema->wire.push_back({.attnum = column.at("attnum"),
                              .name = column.at("name"),
                              .type_oid = column.at("type_oid"),
                              .typmod = column.at("typmod"),
                              .type = TypeFromJson(column.at("type")),
                              .output = column.at("output")});
    }
    return schema;
  } catch (const Json::exception& error) {
    return MakeError(ErrorKind::kInternal, "ETL-R103",
                     std::string("stored schema cannot be read: ") + error.what());
  }
}

}  // namespace etl
