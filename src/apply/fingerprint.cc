#include "apply/fingerprint.h"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace etl {
namespace {

using Json = nlohmann::json;

bool HasNewFileNode(const Fingerprint& before, const Fingerprint& now) {
  for (const auto& [leaf, node] : now.file_nodes) {
    const auto old = before.file_nodes.find(leaf);
    if (old != before.file_nodes.end() && old->second != node) return true;
  }
  return false;
}

// As long as one of its entries has stayed, it was published all the time.
bool HasLeft(const Fingerprint& before, const Fingerprint& now) {
  if (before.publication_entries.empty()) return false;
  return std::none_of(
      before.publication_entries.begin(), before.publication_entries.end(), [&](uint32_t entry) {
        return std::find(now.publication_entries.begin(), now.publication_entries.end(), entry) !=
               now.publication_entries.end();
      });
}

// A rewrite gives a new file node and touches the attribute row of a column that was there before,
// or adds one (a volatile default, whose values are in the rewritten rows only).
// A new file node alone is VACUUM FULL, CLUSTER, SET TABLESPACE or a truncate (which the stream
// shows); a touched row alone is a rename or a default.
bool WasRewritten(const Fingerprint& before, const Fingerprint& now) {
  if (!HasNewFileNode(before, now)) return false;
  for (const auto& [attnum, xmin] : now.attribute_rows) {
    const auto old = before.attribute_rows.find(attnum);
    if (old == before.attribute_rows.end() || old->second != xmin) return true;
  }
  return false;
}

}  // namespace

Fingerprint FingerprintOf(const TableFacts& facts) {
  Fingerprint fingerprint;
  for (const LeafFacts& leaf : facts.leaves) {
    fingerprint.file_nodes[leaf.id.oid] = leaf.file_node;
    fingerprint.bounds[leaf.id.oid] = leaf.bound;
  }
  for (const AttributeFacts& column : facts.columns)
    fingerprint.attribute_rows[column.attnum] = column.row_xmin;
  fingerprint.publication_entries = facts.publication_entries;
  fingerprint.publication_row = facts.publication_row;
  fingerprint.row_filter = facts.row_filter;
  fingerprint.persistence = facts.persistence;
  fingerprint.attributes = facts.attributes;
  fingerprint.types = facts.types;
  fingerprint.partitioned = facts.kind == 'p';
  return fingerprint;
}

std::string FingerprintToText(const Fingerprint& fingerprint) {
  Json json{{"entries", fingerprint.publication_entries},
            {"publication", fingerprint.publication_row},
            {"filter", fingerprint.row_filter},
            {"persistence", std::string(1, fingerprint.persistence)},
            {"given", fingerprint.attributes},
            {"partitioned", fingerprint.partitioned},
            {"hash_key", fingerprint.hash_key},
            {"leaves", Json::array()},
            {"attributes", Json::array()},
            {"types", Json::array()}};
  for (const auto& [leaf, node] : fingerprint.file_nodes) {
    json["leaves"].push_back(Json::array({leaf, node, fingerprint.bounds.at(leaf)}));
  }
  for (const auto& [attnum, xmin] : fingerprint.attribute_rows)
    json["attributes"].push_back(Json::array({attnum, xmin}));
  for (const auto& [oid, parts] : fingerprint.types) {
    Json list = Json::array();
    for (const TypePart& part : parts)
      list.push_back(Json::array({part.id, part.name, part.type, part.typmod, part.row_xmin}));
    json["types"].push_back(Json::array({oid, std::move(list)}));
  }
  // Names of a database without an encoding may be no UTF-8.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Fingerprint> FingerprintFromText(std::string_view text) {
  Fingerprint fingerprint;
  if (text.empty()) return fingerprint;
  try {
    const Json json = Json::parse(text);
    // "entry": of earlier versions, 0 where all tables or a schema were published.
    if (const uint32_t entry = json.value("entry", 0u); entry != 0)
      fingerprint.publication_entries = {entry};
    if (json.contains("entries")) json.at("entries").get_to(fingerprint.publication_entries);
    fingerprint.publication_row = json.value("publication", 0u);
    fingerprint.row_filter = json.at("filter");
    fingerprint.persistence = json.at("persistence").get<std::string>().at(0);
    fingerprint.attributes = json.value("given", int16_t{0});
    fingerprint.partitioned = json.value("partitioned", false);
    fingerprint.hash_key = json.value("hash_key", "");
    for (const Json& leaf : json.at("leaves")) {
      fingerprint.file_nodes[leaf.at(0)] = leaf.at(1);
      fingerprint.bounds[leaf.at(0)] = leaf.at(2);
    }
    for (const Json& attribute : json.at("attributes"))
      fingerprint.attribute_rows[attribute.at(0)] = attribute.at(1);
    for (const Json& type : json.value("types", Json::array())) {
      std::vector<TypePart>& parts = fingerprint.types[type.at(0)];
      for (const Json& part : type.at(1)) {
        parts.push_back({.id = part.at(0),
                         .name = part.at(1),
                         .type = part.at(2),
                         .typmod = part.at(3),
                         .row_xmin = part.at(4)});
      }
    }
    return fingerprint;
  } catch (const Json::exception& error) {
    return MakeError(ErrorKind::kInternal, "ETL-R103",
                     std::string("stored fingerprint cannot be read: ") + error.what());
  }
}

bool TypesChanged(const std::map<uint32_t, std::vector<TypePart>>& before,
                  const std::map<uint32_t, std::vector<TypePart>>& now) {
  for (const auto& [oid, parts] : before) {
    const auto found = now.find(oid);
    if (found == now.end()) continue;  // No column uses it any more.
    const auto stays = [&](const TypePart& part) {
      return std::find(found->second.begin(), found->second.end(), part) != found->second.end();
    };
    if (!std::all_of(parts.begin(), parts.end(), stays)) return true;
    const bool labels_only = std::all_of(found->second.begin(), found->second.end(),
                                         [](const TypePart& part) { return part.type == 0; });
    if (!labels_only && parts.size() != found->second.size()) return true;
  }
  return false;
}

std::string ReasonToCopyAgain(const Fingerprint& before, const Fingerprint& now) {
  if (before.file_nodes.empty() && before.attribute_rows.empty()) return {};
  if (HasLeft(before, now)) return "it left the publication and was added again";
  if (before.publication_row != 0 && before.publication_row != now.publication_row)
    return "the publication's options changed";
  if (before.row_filter != now.row_filter) return "the publication's row filter changed";
  if (before.persistence != now.persistence) return "its persistence changed";
  for (const auto& [leaf, bound] : before.bounds) {
    const auto found = now.bounds.find(leaf);
    if (found == now.bounds.end()) return "a partition was detached or dropped";
    if (found->second != bound) return "a partition's bound changed";
  }
  if (now.bounds.size() != before.bounds.size()) return "a partition was attached or created";
  // Published through its root, a truncate of one partition is not in the stream, and cannot be
  // told from VACUUM FULL of it.
  if (now.partitioned && HasNewFileNode(before, now))
    return "a partition was truncated or written anew";
  if (WasRewritten(before, now)) return "it was rewritten (ALTER TABLE)";
  if (TypesChanged(before.types, now.types))
    return "a label of an enum or an attribute of a composite type changed";
  return {};
}

}  // namespace etl
