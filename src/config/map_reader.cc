#include "config/map_reader.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "config/nearest.h"

namespace etl {

std::string ResolvePath(const DecodeContext& context, const std::string& path) {
  const std::filesystem::path given(path);
  if (given.is_absolute() || context.folder.empty()) return given.lexically_normal().string();
  return (std::filesystem::path(context.folder) / given).lexically_normal().string();
}

std::optional<std::string> ScalarText(const YamlNode& node, std::string_view where,
                                      DecodeContext& context) {
  if (node.kind != YamlNode::Kind::kScalar) {
    context.problems.Add(
        "ETL-C012", node.span, fmt::format("{} must be text, not {}", where, KindName(node)),
        node.kind == YamlNode::Kind::kNull ? "put the word in quotes if it is meant as text" : "");
    return std::nullopt;
  }
  Interpolated result = Interpolate(node.text, context.env);
  if (!result.error.empty()) {
    context.problems.Add("ETL-C020", node.span, fmt::format("{}: {}", where, result.error),
                         result.hint);
    return std::nullopt;
  }
  return std::move(result.text);
}

MapReader::MapReader(const YamlNode& node, std::string where, DecodeContext& context)
    : node_(node), where_(std::move(where)), context_(context) {
  if (node_.kind != YamlNode::Kind::kMap) {
    context_.problems.Add(
        "ETL-C012", node_.span,
        fmt::format("{} must be a map of keys and values, not {}",
                    where_.empty() ? "the configuration" : where_, KindName(node_)));
  }
}

std::string MapReader::Path(const std::string& key) const {
  return where_.empty() ? key : where_ + "." + key;
}

const YamlNode::Entry* MapReader::Take(const std::string& key) {
  const bool asked_before = std::find(known_.begin(), known_.end(), key) != known_.end();
  if (!asked_before) known_.push_back(key);
  for (const YamlNode::Entry& entry : node_.entries) {
    if (entry.key != key) continue;
    if (entry.value.kind != YamlNode::Kind::kNull || null_is_a_word_) return &entry;
    if (asked_before) return nullptr;
    context_.problems.Add("ETL-C012", entry.span, fmt::format("{} has no value", Path(key)),
                          "give it one, or remove the key");
    return nullptr;
  }
  return nullptr;
}

const YamlNode::Entry* MapReader::Require(const std::string& key) {
  const YamlNode::Entry* entry = Take(key);
  if (entry != nullptr || node_.kind != YamlNode::Kind::kMap) return entry;
  for (const YamlNode::Entry& other : node_.entries) {
    if (other.key == key) return nullptr;  // without a value: said already
  }
  context_.problems.Add("ETL-C014", node_.span, fmt::format("{} is missing", Path(key)));
  return nullptr;
}

void MapReader::Wrong(const YamlNode::Entry& entry, const std::string& expected) {
  const std::string found = entry.value.kind == YamlNode::Kind::kScalar
                                ? ""
                                : fmt::format(", not {}", KindName(entry.value));
  context_.problems.Add("ETL-C012", entry.value.span,
                        fmt::format("{} must be {}{}", Path(entry.key), expected, found));
}

bool MapReader::Text(const std::string& key, std::string* out) {
  const YamlNode::Entry* entry = Take(key);
  if (entry == nullptr) return false;
  const std::optional<std::string> text = ScalarText(entry->value, Path(key), context_);
  if (!text.has_value()) return false;
  if (text->empty()) {
    context_.problems.Add("ETL-C013", entry->value.span, fmt::format("{} is empty", Path(key)));
    return false;
  }
  *out = *text;
  return true;
}

void MapReader::Bool(const std::string& key, bool* out) {
  const YamlNode::Entry* entry = Take(key);
  if (entry == nullptr) return;
  if (entry->value.kind != YamlNode::Kind::kScalar || entry->value.quoted)
    return Wrong(*entry, "true or false, without quotes");
  const std::optional<std::string> text = ScalarText(entry->value, Path(key), context_);
  if (!text.has_value()) return;
  if (*text != "true" && *text != "false") return Wrong(*entry, "true or false");
  *out = *text == "true";
}

void MapReader::Int(const std::string& key, int64_t* out, int64_t min, int64_t max) {
  const YamlNode::Entry* entry = Take(key);
  if (entry == nullptr) return;
  if (entry->value.kind != YamlNode::Kind::kScalar || entry->value.quoted)
    return Wrong(*entry, "a whole number");
  const std::optional<std::string> text = ScalarText(entry->value, Path(key), context_);
  if (!text.has_value()) return;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error == std::errc::invalid_argument || end != text->data() + text->size())
    return Wrong(*entry, "a whole number");
  if (error != std::errc() || value < min || value > max) {
    context_.problems.Add("ETL-C013", entry->value.span,
                          fmt::format("{} must be from {} to {}", Path(key), min, max));
    return;
  }
  *out = value;
}

void MapReader::Time(const std::string& key, Duration* out, Duration min, Duration max) {
  const YamlNode::Entry* entry = Take(key);
  if (entry == nullptr) return;
  const std::string expected = "a duration such as 250ms, 5s, 1m or 2h";
  if (entry->value.kind != YamlNode::Kind::kScalar) return Wrong(*entry, expected);
  const std::optional<std::string> text = ScalarText(entry->value, Path(key), context_);
  if (!text.has_value()) return;
  const std::optional<Duration> value = ParseDuration(*text);
  if (!value.has_value()) return Wrong(*entry, expected);
  if (*value < min || *value > max) {
    context_.problems.Add("ETL-C013", entry->value.span,
                          fmt::format("{} must be from {} to {}", Path(key), FormatDuration(min),
                                      FormatDuration(max)));
    return;
  }
  *out = *value;
}

void MapReader::Size(const std::string& key, int64_t* out, int64_t min, int64_t max) {
  const YamlNode::Entry* entry = Take(key);
  if (entry == nullptr) return;
  const std::string expected = "a size such as 64KiB, 16MiB or 1GiB";
  if (entry->value.kind != YamlNode::Kind::kScalar) return Wrong(*entry, expected);
  const std::optional<std::string> text = ScalarText(entry->value, Path(key), context_);
  if (!text.has_value()) return;
  const std::optional<int64_t> value = ParseSize(*text);
  if (!value.has_value()) return Wrong(*entry, expected);
  if (*value < min || *value > max) {
    context_.problems.Add(
        "ETL-C013", entry->value.span,
        fmt::format("{} must be from {} to {}", Path(key), FormatSize(min), FormatSize(max)));
    return;
  }
  *out = *value;
}

void MapReader::Secret(const std::string& key, SecretRef* out) {
  const YamlNode::Entry* entry = Take(key);
  if (entry == nullptr) return;
  const YamlNode& node = entry->value;
  if (node.kind == YamlNode::Kind::kScalar) {
    if (!context_.allow_plaintext) {
      context_.problems.Add("ETL-C021", entry->span,
                            fmt::format("{} is a secret and must not stand in the file", Path(key)),
                            fmt::format("write {}: {{env: NAME}} or {}: {{file: PATH}}", key, key));
      return;
    }
    context_.warnings.push_back(
        fmt::format("{} stands in clear in the configuration file", Path(key)));
    *out = SecretRef::Literal(etl::Secret(std::string(node.text)));
    return;
  }
  MapReader reader(node, Path(key), context_);
  if (node.kind != YamlNode::Kind::kMap) return;
  // References are taken literally: no `${…}` inside a secret.
  const YamlNode::Entry* env = reader.Take("env");
  const YamlNode::Entry* file = reader.Take("file");
  reader.Finish();
  if ((env == nullptr) == (file == nullptr)) {
    context_.problems.Add("ETL-C012", node.span,
                          fmt::format("{} needs either env or file", Path(key)),
                          "{env: NAME} or {file: PATH}");
    return;
  }
  const YamlNode::Entry& chosen = env != nullptr ? *env : *file;
  if (chosen.value.kind != YamlNode::Kind::kScalar || chosen.value.text.empty()) {
    context_.problems.Add("ETL-C012", chosen.value.span,
                          fmt::format("{}.{} must be text", Path(key), chosen.key));
    return;
  }
  if (file != nullptr) {
    *out = SecretRef::File(ResolvePath(context_, chosen.value.text));
    return;
  }
  if (!IsEnvName(chosen.value.text)) {
    // Perhaps the secret itself stands here, so the text is not shown.
    context_.problems.Add(
        "ETL-C013", chosen.span,
        fmt::format("{}.env is not the name of an environment variable", Path(key)),
        "letters, digits and _ only");
    return;
  }
  *out = SecretRef::Env(chosen.value.text);
}

void MapReader::TextList(const std::string& key, std::vector<std::string>* out) {
  const YamlNode::Entry* entry = Take(key);
  if (entry == nullptr) return;
  if (entry->value.kind != YamlNode::Kind::kList) return Wrong(*entry, "a list");
  std::vector<std::string> items;
  for (const YamlNode& item : entry->value.items) {
    const std::optional<std::string> text =
        ScalarText(item, fmt::format("{}: an item", Path(key)), context_);
    if (!text.has_value()) continue;
    if (text->empty()) {
      context_.problems.Add("ETL-C013", item.span, fmt::format("{}: an item is empty", Path(key)));
    } else if (std::find(items.begin(), items.end(), *text) != items.end()) {
      context_.problems.Add("ETL-C013", item.span,
                            fmt::format("{}: \"{}\" is given twice", Path(key), *text));
    } else {
      items.push_back(*text);
    }
  }
  *out = std::move(items);
}

std::optional<size_t> MapReader::ChoiceIndex(const std::string& key,
                                             const std::vector<std::string>& names) {
  const YamlNode::Entry* entry = Take(key);
  if (entry == nullptr) return std::nullopt;
  const bool null_word = null_is_a_word_ && entry->value.kind == YamlNode::Kind::kNull;
  const std::optional<std::string> text = null_word ? std::optional<std::string>("null")
                                                    : ScalarText(entry->value, Path(key), context_);
  if (!text.has_value()) return std::nullopt;
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == *text) return i;
  }
  const std::optional<std::string> nearest = NearestName(*text, names);
  context_.problems.Add("ETL-C013", entry->value.span,
                        fmt::format("{} cannot be \"{}\"", Path(key), *text),
                        nearest.has_value() ? fmt::format("did you mean \"{}\"?", *nearest) : "",
                        fmt::format("allowed here: {}", fmt::join(names, ", ")));
  return std::nullopt;
}

void MapReader::NotYet(const std::string& key, const std::string& reason) {
  const YamlNode::Entry* entry = Take(key);
  if (entry == nullptr) return;
  context_.problems.Add("ETL-C040", entry->span, reason);
}

void MapReader::Finish() {
  for (const YamlNode::Entry& entry : node_.entries) {
    if (std::find(known_.begin(), known_.end(), entry.key) != known_.end()) continue;
    const std::optional<std::string> nearest = NearestName(entry.key, known_);
    std::vector<std::string> sorted = known_;
    std::sort(sorted.begin(), sorted.end());
    context_.problems.Add("ETL-C011", entry.span, fmt::format("unknown field \"{}\"", entry.key),
                          nearest.has_value() ? fmt::format("did you mean \"{}\"?", *nearest) : "",
                          fmt::format("allowed here: {}", fmt::join(sorted, ", ")));
  }
}

}  // namespace etl
