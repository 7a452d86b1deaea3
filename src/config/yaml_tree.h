#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/problem.h"

namespace etl {

/// One node of a configuration file. Scalars keep their text exactly as written; nothing is guessed
/// from it.
struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };
  struct Entry;

  Kind kind = Kind::kNull;
  SourceSpan span;
  std::string text;             ///< kScalar
  bool quoted = false;          ///< kScalar: written in quotes or as a block
  std::vector<YamlNode> items;  ///< kList
  std::vector<Entry> entries;   ///< kMap, in the order of the file, without duplicates
};

struct YamlNode::Entry {
  std::string key;
  SourceSpan span;
  YamlNode value;
};

/// How a person would call the kind: "a map", "a list", "text", "nothing".
std::string_view KindName(const YamlNode& node);

inline constexpr size_t kYamlBytesMax = 1 << 20;
inline constexpr int kYamlDepthMax = 32;

/// Parses one document into a tree. Refuses (as problems, ETL-C001 and ETL-C010) what a
/// configuration never needs and what has fooled others: anchors, aliases, tags, merge keys, keys
/// that are not text, duplicate keys, several documents, bytes that are not UTF-8, more than 1 MiB,
/// more than 32 levels. The tree is usable where problems were found, apart from a syntax error.
YamlNode ParseYaml(std::string_view text, ProblemList& problems);

}  // namespace etl
