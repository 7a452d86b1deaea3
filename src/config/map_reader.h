#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/secret_ref.h"
#include "config/values.h"
#include "config/yaml_tree.h"

namespace etl {

/// What decoding a configuration needs beside the tree.
struct DecodeContext {
  ProblemList& problems;
  const EnvReader& env;
  bool allow_plaintext = false;
  std::vector<std::string>& warnings;
  std::string folder;  ///< relative paths start here
};

/// `path` from the folder of the configuration file.
std::string ResolvePath(const DecodeContext& context, const std::string& path);

/// The text of a scalar with `${…}` replaced; none (and a problem) if it is no scalar.
std::optional<std::string> ScalarText(const YamlNode& node, std::string_view where,
                                      DecodeContext& context);

/// Reads the keys of one map. Each call names a key of the schema, so that Finish knows which ones
/// are unknown. A key that is absent leaves its target alone; one that is wrong adds a problem and
/// leaves its target alone.
class MapReader {
 public:
  /// `where` is how messages call the map: "pipelines.shop", or empty for the file itself.
  MapReader(const YamlNode& node, std::string where, DecodeContext& context);

  /// The entry of `key`, or null. A key without a value is a problem, and null.
  const YamlNode::Entry* Take(const std::string& key);
  /// The same; absent is a problem (ETL-C014).
  const YamlNode::Entry* Require(const std::string& key);

  bool Text(const std::string& key, std::string* out);
  void Bool(const std::string& key, bool* out);
  void Int(const std::string& key, int64_t* out, int64_t min, int64_t max);
  void Time(const std::string& key, Duration* out, Duration min, Duration max);
  void Size(const std::string& key, int64_t* out, int64_t min, int64_t max);
  void Secret(const std::string& key, SecretRef* out);
  void TextList(const std::string& key, std::vector<std::string>* out);
  template <typename T>
  void Choice(const std::string& key, std::initializer_list<std::pair<const char*, T>> choices,
              T* out) {
    std::vector<std::string> names;
    for (const auto& choice : choices) names.emplace_back(choice.first);
    const std::optional<size_t> index = ChoiceIndex(key, names);
    if (index.has_value()) *out = (choices.begin() + *index)->second;
  }
  /// As Choice, where a plain `null` (YAML's word for nothing) is one of the words.
  template <typename T>
  void ChoiceWithNull(const std::string& key,
                      std::initializer_list<std::pair<const char*, T>> choices, T* out) {
    null_is_a_word_ = true;
    Choice<T>(key, choices, out);
    null_is_a_word_ = false;
  }
  /// A key that exists, but that this version does not act on: written at all, it is refused with
  /// the reason (ETL-C040).
  void NotYet(const std::string& key, const std::string& reason);

  /// Reports the keys that no call above has named.
  void Finish();

  const YamlNode& node() const { return node_; }
  /// "pipelines.shop.batch" for key "batch".
  std::string Path(const std::string& key) const;

 private:
  std::optional<size_t> ChoiceIndex(const std::string& key, const std::vector<std::string>& names);
  void Wrong(const YamlNode::Entry& entry, const std::string& expected);

  const YamlNode& node_;
  const std::string where_;
  DecodeContext& context_;
  std::vector<std::string> known_;
  bool null_is_a_word_ = false;
};

}  // namespace etl
