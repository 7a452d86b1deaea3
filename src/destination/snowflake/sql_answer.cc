#include "destination/snowflake/sql_answer.h"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace etl {
namespace {

using Json = nlohmann::json;

std::string TextOf(const Json& object, const char* name) {
  const auto at = object.find(name);
  if (at == object.end()) return {};
  if (at->is_string()) return at->get<std::string>();
  return at->is_number_integer() ? at->dump() : std::string();
}

int64_t NumberOf(const Json& object, const char* name) {
  const auto at = object.find(name);
  return at != object.end() && at->is_number_integer() ? at->get<int64_t>() : 0;
}

bool ReadRows(const Json& data, std::vector<SqlRow>& rows) {
  if (!data.is_array()) return false;
  for (const Json& values : data) {
    if (!values.is_array()) return false;
    SqlRow row;
    for (const Json& value : values) {
      if (value.is_null()) {
        row.emplace_back();
      } else {
        row.emplace_back(value.is_string() ? value.get<std::string>() : value.dump());
      }
    }
    rows.push_back(std::move(row));
  }
  return true;
}

bool ReadMetadata(const Json& metadata, SqlAnswer& answer) {
  if (!metadata.is_object()) return false;
  if (const auto types = metadata.find("rowType"); types != metadata.end()) {
    if (!types->is_array()) return false;
    for (const Json& type : *types) {
      if (!type.is_object()) return false;
      answer.result.columns.push_back({TextOf(type, "name"), TextOf(type, "type")});
    }
  }
  if (const auto partitions = metadata.find("partitionInfo");
      partitions != metadata.end() && partitions->is_array()) {
    answer.partitions = std::max(1, static_cast<int>(partitions->size()));
  }
  return true;
}

bool EqualIgnoringCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; };
           return lower(x) == lower(y);
         });
}

}  // namespace

std::optional<std::string> SqlRows::First(std::string_view name) const {
  for (size_t i = 0; i < columns.size() && !rows.empty() && i < rows[0].size(); ++i) {
    if (EqualIgnoringCase(columns[i].name, name)) return rows[0][i];
  }
  return std::nullopt;
}

std::optional<SqlAnswer> ParseSqlAnswer(std::string_view body) {
  const Json json = Json::parse(body, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  SqlAnswer answer;
  answer.code = TextOf(json, "code");
  answer.sql_state = TextOf(json, "sqlState");
  answer.message = TextOf(json, "message");
  answer.handle = TextOf(json, "statementHandle");
  if (const auto handles = json.find("statementHandles");
      handles != json.end() && handles->is_array()) {
    for (const Json& handle : *handles) {
      if (!handle.is_string()) return std::nullopt;
      answer.statements.push_back(handle.get<std::string>());
    }
  }
  if (const auto metadata = json.find("resultSetMetaData");
      metadata != json.end() && !metadata->is_null() && !ReadMetadata(*metadata, answer)) {
    return std::nullopt;
  }
  if (const auto data = json.find("data");
      data != json.end() && !data->is_null() && !ReadRows(*data, answer.result.rows)) {
    return std::nullopt;
  }
  if (const auto stats = json.find("stats"); stats != json.end() && stats->is_object()) {
    answer.result.rows_inserted = NumberOf(*stats, "numRowsInserted");
    answer.result.rows_updated = NumberOf(*stats, "numRowsUpdated");
    answer.result.rows_deleted = NumberOf(*stats, "numRowsDeleted");
  }
  return answer;
}

}  // namespace etl
