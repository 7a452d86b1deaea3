#include "config/load.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "config/conninfo.h"
#include "config/load_snowflake.h"
#include "config/map_reader.h"
#include "config/nearest.h"
#include "config/yaml_tree.h"

namespace etl {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr int64_t kKiB = int64_t{1} << 10;
constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGiB = int64_t{1} << 30;
constexpr int64_t kTiB = int64_t{1} << 40;
constexpr size_t kProblemsShown = 20;
constexpr size_t kIdentifierBytesMax = 63;

std::string NotCarriedOut(std::string_view what) {
  return fmt::format("this version does not carry out {} yet", what);
}

// The chunks of a table that the Snowflake destination takes at a time (its kLanesMax).
constexpr int kSnowflakeParallelismMax = 16;

// Where things stand in the file, for checks that look at several of them.
struct Places {
  std::map<std::string, SourceSpan> source_of;       // by pipeline
  std::map<std::string, SourceSpan> destination_of;  // by pipeline
  std::map<std::string, SourceSpan> pipeline;
  std::map<std::string, SourceSpan> destination;
  // Written, though perhaps refused: a reference to one of them is not dangling.
  std::vector<std::string> source_names;
  std::vector<std::string> destination_names;
};

class Loader {
 public:
  explicit Loader(DecodeContext context) : context_(std::move(context)) {}

  Config Load(const YamlNode& root) {
    MapReader reader(root, "", context_);
    Version(reader);
    Server(reader);
    Catalog(reader);
    Limits(reader);
    reader.NotYet("alerts", NotCarriedOut("alerts"));
    EachNamed(reader, "sources",
              [&](const std::string& name, const YamlNode::Entry& entry) { Source(name, entry); });
    EachNamed(reader, "destinations", [&](const std::string& name, const YamlNode::Entry& entry) {
      Destination(name, entry);
    });
    EachNamed(reader, "pipelines", [&](const std::string& name, const YamlNode::Entry& entry) {
      Pipeline(name, entry);
    });
    reader.Finish();
    CheckReferences();
    CheckSharing();
    return std::move(config_);
  }

 private:
  template <typename Decode>
  void EachNamed(MapReader& parent, const std::string& key, Decode decode) {
    const YamlNode::Entry* entry = parent.Take(key);
    if (entry == nullptr) return;
    MapReader reader(entry->value, key, context_);
    for (const YamlNode::Entry& named : entry->value.entries) {
      if (!IsValidName(named.key)) {
        context_.problems.Add("ETL-C013", named.span,
                              fmt::format("\"{}\" is not a valid name in {}", named.key, key),
                              "a lower-case letter, then at most 47 of a-z, 0-9 and _");
      }
      decode(named.key, named);
    }
  }

  void Version(MapReader& reader) {
    int64_t version = 1;
    reader.Int("version", &version, 1, 1);
  }

  void Server(MapReader& root) {
    const YamlNode::Entry* entry = root.Take("server");
    if (entry == nullptr) return;
    MapReader reader(entry->value, "server", context_);
    const YamlNode::Entry* listen = reader.Take("listen");
    const std::string reason = NotCarriedOut("server.listen (health, metrics, status page, API)");
    if (listen != nullptr) {
      const std::optional<std::string> text = ScalarText(listen->value, "server.listen", context_);
      if (text.has_value() && *text != "off") {
        context_.problems.Add("ETL-C040", listen->value.span, reason,
                              "write listen: off, or leave server out");
      }
    }
    SecretRef token;
    reader.Secret("token", &token);
    if (listen == nullptr && !token.empty()) {
      context_.problems.Add("ETL-C040", entry->span, reason,
                            "write listen: off, or leave server out");
    }
    reader.Finish();
  }

  void Catalog(MapReader& root) {
    config_.catalog = ResolvePath(context_, "etl-stream.db");
    std::string text;
    const YamlNode::Entry* entry = root.Take("catalog");
    if (entry == nullptr || !root.Text("catalog", &text)) return;
    if (text.starts_with("postgres://") || text.starts_with("postgresql://")) {
      context_.problems.Add("ETL-C040", entry->span, NotCarriedOut("a catalog in PostgreSQL"),
                            "name a file");
      return;
    }
    config_.catalog = ResolvePath(context_, text);
  }

  void Limits(MapReader& root) {
    const YamlNode::Entry* entry = root.Take("limits");
    if (entry == nullptr) return;
    MapReader reader(entry->value, "limits", context_);
    reader.Size("memory", &config_.limits.memory, 64 * kMiB, 16 * kTiB);
    reader.Size("spill", &config_.limits.spill, 1 * kMiB, 1024 * kTiB);
    std::string dir;
    if (reader.Text("spill_dir", &dir)) config_.limits.spill_dir = ResolvePath(context_, dir);
    reader.Time("shutdown", &config_.limits.shutdown, seconds(0), hours(1));
    reader.Finish();
  }

  void Source(const std::string& name, const YamlNode::Entry& entry) {
    places_.source_names.push_back(name);
    SourceConfig source;
    source.name = name;
    const std::string where = "sources." + name;
    MapReader reader(entry.value, where, context_);
    reader.Require("type");
    int type = 0;
    reader.Choice<int>("type", {{"postgres", 0}}, &type);
    reader.Secret("password", &source.password);
    const YamlNode::Entry* url = reader.Require("url");
    if (url != nullptr) SourceUrl(where, *url, source);
    reader.Finish();
    config_.sources.emplace(name, std::move(source));
  }

  // The url is kept without its password, so that it may be shown and logged.
  void SourceUrl(const std::string& where, const YamlNode::Entry& url, SourceConfig& source) {
    const std::optional<std::string> text = ScalarText(url.value, where + ".url", context_);
    if (!text.has_value()) return;
    SplitConninfo split = SplitPassword(*text);
    if (!split.error.empty()) {
      context_.problems.Add("ETL-C012", url.span, fmt::format("{}.url: {}", where, split.error));
      return;
    }
    source.url = split.conninfo;
    if (!split.password.has_value()) return;
    // A password that comes whole from the environment does not stand in the file.
    const std::optional<std::string> written = SplitPassword(url.value.text).password;
    const bool from_env = (!written.has_value() || (written->starts_with("${") &&
                                                    written->find('}') == written->size() - 1 &&
                                                    written->find(":-") == std::string::npos)) &&
                          url.value.text.find(":-") == std::string::npos;
    if (!from_env && !context_.allow_plaintext) {
      context_.problems.Add("ETL-C021", url.span,
                            fmt::format("{}.url holds a password in clear", where),
                            "take it out and add password: {env: NAME} or password: {file: PATH}");
    } else if (!source.password.empty()) {
      context_.problems.Add("ETL-C013", url.span,
                            fmt::format("{} has a password in url and in password", where),
                            "keep one of them");
    } else {
      if (!from_env)
        context_.warnings.push_back(fmt::format("{}.url holds a password in clear", where));
      source.password = SecretRef::Literal(Secret(std::move(*split.password)));
    }
  }

  void Destination(const std::string& name, const YamlNode::Entry& entry) {
    places_.destination_names.push_back(name);
    places_.destination[name] = entry.span;
    DestinationConfig destination;
    destination.name = name;
    const std::string where = "destinations." + name;
    MapReader reader(entry.value, where, context_);
    const YamlNode::Entry* type = reader.Require("type");
    if (type != nullptr && type->value.text == "http") {
      context_.problems.Add("ETL-C040", type->value.span,
                            NotCarriedOut("destinations of type http"), "use type: duckdb");
      return;
    }
    int chosen = 0;
    reader.Choice<int>("type", {{"duckdb", 0}, {"snowflake", 1}, {"http", 2}}, &chosen);
    if (chosen == 1) {
      LoadSnowflake(reader, context_, &destination.snowflake.emplace());
      reader.Finish();
      config_.destinations.emplace(name, std::move(destination));
      return;
    }
    reader.Require("path");
    std::string path;
    if (reader.Text("path", &path)) destination.path = ResolvePath(context_, path);
    const YamlNode::Entry* release = reader.Take("release");
    if (release != nullptr && release->value.kind == YamlNode::Kind::kScalar &&
        release->value.text == "off") {
      destination.release.reset();
    } else if (release != nullptr) {
      Duration after = *destination.release;
      reader.Time("release", &after, milliseconds(1), hours(24));
      destination.release = after;
    }
    reader.Finish();
    config_.destinations.emplace(name, std::move(destination));
  }

  void Pipeline(const std::string& name, const YamlNode::Entry& entry) {
    PipelineConfig pipeline;
    pipeline.name = name;
    places_.pipeline[name] = entry.span;
    MapReader reader(entry.value, "pipelines." + name, context_);
    if (const YamlNode::Entry* source = reader.Require("source"))
      places_.source_of[name] = source->value.span;
    if (const YamlNode::Entry* target = reader.Require("destination"))
      places_.destination_of[name] = target->value.span;
    reader.Text("source", &pipeline.source);
    reader.Text("destination", &pipeline.destination);
    reader.Choice<PipelineMode>(
        "mode", {{"mirror", PipelineMode::kMirror}, {"append", PipelineMode::kAppend}},
        &pipeline.mode);
    Tables(reader, pipeline);
    SlotAndPublication(reader, pipeline);
    Snapshot(reader, pipeline);
    Batch(reader, pipeline);
    Retry(reader, pipeline);
    WalBudget(reader);
    Columns(reader, pipeline);
    reader.ChoiceWithNull<UnrepresentablePolicy>(
        "on_unrepresentable",
        {{"error", UnrepresentablePolicy::kError}, {"null", UnrepresentablePolicy::kNull}},
        &pipeline.on_unrepresentable);
    reader.Bool("enabled", &pipeline.enabled);
    reader.Finish();
    config_.pipelines.emplace(name, std::move(pipeline));
  }

  void Tables(MapReader& reader, PipelineConfig& pipeline) {
    std::vector<std::string> patterns;
    const YamlNode::Entry* entry = reader.Take("tables");
    if (entry == nullptr) return;
    reader.TextList("tables", &patterns);
    bool includes = patterns.empty();
    for (const std::string& pattern : patterns) {
      const std::string_view bare =
          std::string_view(pattern).substr(pattern.starts_with('!') ? 1 : 0);
      includes = includes || !pattern.starts_with('!');
      const size_t dot = bare.find('.');
      if (bare.find('.', dot == std::string_view::npos ? dot : dot + 1) != std::string_view::npos ||
          (dot != std::string_view::npos && (dot == 0 || dot + 1 == bare.size()))) {
        context_.problems.Add(
            "ETL-C013", SpanOfItem(entry->value, pattern),
            fmt::format("{}: \"{}\" is not schema.table", reader.Path("tables"), pattern),
            "one dot, between the two names; for a dot inside a name write *");
      } else if (bare.empty() ||
                 (dot == std::string_view::npos && bare.find('*') == std::string_view::npos)) {
        context_.problems.Add(
            "ETL-C013", SpanOfItem(entry->value, pattern),
            fmt::format("{}: \"{}\" names no schema", reader.Path("tables"), pattern),
            fmt::format("a pattern is schema.table, such as \"public.{}\"",
                        bare.empty() ? "*" : bare));
      }
    }
    if (entry->value.kind == YamlNode::Kind::kList && entry->value.items.empty()) {
      context_.problems.Add("ETL-C013", entry->value.span,
                            fmt::format("{} is empty", reader.Path("tables")),
                            "leave it out to take what the publication holds");
    } else if (!includes) {
      context_.problems.Add(
          "ETL-C013", entry->value.span,
          fmt::format("{} only excludes, so it selects nothing", reader.Path("tables")),
          "begin with what to include, such as \"*.*\"");
    }
    pipeline.tables = TableFilter(std::move(patterns));
  }

  static SourceSpan SpanOfItem(const YamlNode& list, const std::string& text) {
    for (const YamlNode& item : list.items) {
      if (item.text == text) return item.span;
    }
    return list.span;
  }

  void SlotAndPublication(MapReader& reader, PipelineConfig& pipeline) {
    pipeline.publication = "etl_" + pipeline.name;
    pipeline.slot = "etl_" + pipeline.name;
    const YamlNode::Entry* publication = reader.Take("publication");
    pipeline.publication_named = publication != nullptr;
    if (reader.Text("publication", &pipeline.publication) &&
        pipeline.publication.size() > kIdentifierBytesMax) {
      context_.problems.Add("ETL-C013", publication->value.span,
                            fmt::format("{} has more than {} bytes", reader.Path("publication"),
                                        kIdentifierBytesMax));
    }
    const YamlNode::Entry* slot = reader.Take("slot");
    if (reader.Text("slot", &pipeline.slot) && !IsSlotName(pipeline.slot)) {
      context_.problems.Add("ETL-C013", slot->value.span,
                            fmt::format("{} is not a valid slot name", reader.Path("slot")),
                            "at most 63 of a-z, 0-9 and _");
    }
  }

  static bool IsSlotName(const std::string& slot) {
    return slot.size() <= kIdentifierBytesMax && std::all_of(slot.begin(), slot.end(), [](char c) {
             return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
           });
  }

  void Snapshot(MapReader& parent, PipelineConfig& pipeline) {
    const YamlNode::Entry* entry = parent.Take("snapshot");
    if (entry == nullptr) return;
    MapReader reader(entry->value, parent.Path("snapshot"), context_);
    reader.Bool("enabled", &pipeline.snapshot_enabled);
    int64_t parallelism = pipeline.snapshot_parallelism;
    reader.Int("parallelism", &parallelism, 1, 64);
    pipeline.snapshot_parallelism = static_cast<int>(parallelism);
    reader.Int("chunk_rows", &pipeline.snapshot_chunk_rows, 100, 100'000'000);
    reader.Finish();
    if (!pipeline.snapshot_enabled && pipeline.mode != PipelineMode::kAppend) {
      context_.problems.Add("ETL-C013", entry->span,
                            fmt::format("{}.enabled: false is possible with mode: append only",
                                        parent.Path("snapshot")),
                            "a mirror needs the rows that are there already");
    }
  }

  void Batch(MapReader& parent, PipelineConfig& pipeline) {
    const YamlNode::Entry* entry = parent.Take("batch");
    if (entry == nullptr) return;
    MapReader reader(entry->value, parent.Path("batch"), context_);
    reader.Int("max_rows", &pipeline.batch_max_rows, 1, 100'000'000);
    reader.Size("max_bytes", &pipeline.batch_max_bytes, 4 * kKiB, 1 * kGiB);
    reader.Time("max_delay", &pipeline.batch_max_delay, seconds(0), minutes(60));
    reader.Finish();
  }

  void Retry(MapReader& parent, PipelineConfig& pipeline) {
    const YamlNode::Entry* entry = parent.Take("retry");
    if (entry == nullptr) return;
    MapReader reader(entry->value, parent.Path("retry"), context_);
    reader.Time("max_delay", &pipeline.retry_max_delay, milliseconds(10), hours(24));
    reader.Time("give_up", &pipeline.retry_give_up, seconds(0), hours(24 * 365));
    reader.Finish();
  }

  void WalBudget(MapReader& reader) {
    const YamlNode::Entry* entry = reader.Take("wal_budget");
    if (entry == nullptr) return;
    const std::optional<std::string> text =
        ScalarText(entry->value, reader.Path("wal_budget"), context_);
    if (text.has_value() && *text != "off") {
      context_.problems.Add("ETL-C040", entry->value.span, NotCarriedOut("wal_budget"),
                            "write wal_budget: off");
    }
  }

  void Columns(MapReader& parent, PipelineConfig& pipeline) {
    parent.Secret("hash_key", &pipeline.hash_key);
    const YamlNode::Entry* entry = parent.Take("columns");
    if (entry == nullptr) return;
    const std::string where = parent.Path("columns");
    MapReader tables(entry->value, where, context_);
    bool hashes = false;
    for (const YamlNode::Entry& table : entry->value.entries) {
      if (table.key.find('.') == std::string::npos || table.key.find('*') != std::string::npos) {
        context_.problems.Add("ETL-C013", table.span,
                              fmt::format("{}: \"{}\" is not schema.table", where, table.key),
                              "each table is named in full");
      }
      MapReader reader(table.value, where + "." + table.key, context_);
      ColumnRulesConfig rules;
      reader.TextList("exclude", &rules.exclude);
      reader.TextList("hash", &rules.hash);
      reader.Finish();
      for (const std::string& column : rules.hash) {
        if (std::find(rules.exclude.begin(), rules.exclude.end(), column) == rules.exclude.end())
          continue;
        context_.problems.Add("ETL-C013", table.span,
                              fmt::format("{}.{}: column \"{}\" is both excluded and hashed", where,
                                          table.key, column),
                              "keep one of them");
      }
      hashes = hashes || !rules.hash.empty();
      pipeline.columns.emplace(table.key, std::move(rules));
    }
    const bool key_written =
        std::any_of(parent.node().entries.begin(), parent.node().entries.end(),
                    [](const YamlNode::Entry& e) { return e.key == "hash_key"; });
    if (hashes && !key_written) {
      context_.problems.Add(
          "ETL-C014", entry->span,
          fmt::format("{} hashes columns, but {} is missing", where, parent.Path("hash_key")),
          "add hash_key: {env: NAME}");
    }
  }

  void CheckReference(std::string_view kind, const std::string& pipeline, const std::string& name,
                      SourceSpan span, const std::vector<std::string>& names) {
    if (name.empty() || std::find(names.begin(), names.end(), name) != names.end()) return;
    const std::optional<std::string> nearest = NearestName(name, names);
    std::string list;
    for (const std::string& each : names) list += (list.empty() ? "" : ", ") + each;
    context_.problems.Add(
        "ETL-C030", span, fmt::format("pipelines.{}: there is no {} \"{}\"", pipeline, kind, name),
        nearest.has_value() ? fmt::format("did you mean \"{}\"?", *nearest) : "",
        names.empty() ? fmt::format("no {} is defined", kind) : fmt::format("defined: {}", list));
  }

  void CheckReferences() {
    for (const auto& [name, pipeline] : config_.pipelines) {
      CheckReference("source", name, pipeline.source, places_.source_of[name],
                     places_.source_names);
      CheckReference("destination", name, pipeline.destination, places_.destination_of[name],
                     places_.destination_names);
      const auto destination = config_.destinations.find(pipeline.destination);
      if (pipeline.snapshot_parallelism > kSnowflakeParallelismMax &&
          destination != config_.destinations.end() && destination->second.snowflake.has_value()) {
        context_.problems.Add(
            "ETL-C013", places_.pipeline[name],
            fmt::format("pipelines.{}.snapshot.parallelism is {}; into Snowflake "
                        "at most {} chunks are copied at a time",
                        name, pipeline.snapshot_parallelism, kSnowflakeParallelismMax));
      }
    }
  }

  // Two pipelines cannot read one slot, and one file is opened by one destination only.
  void CheckSharing() {
    std::map<std::pair<std::string, std::string>, std::string> slots;
    for (const auto& [name, pipeline] : config_.pipelines) {
      const auto [at, fresh] = slots.emplace(std::pair(pipeline.source, pipeline.slot), name);
      if (!fresh) {
        context_.problems.Add(
            "ETL-C013", places_.pipeline[name],
            fmt::format("pipelines.{} and pipelines.{} use the same slot \"{}\" of source {}",
                        at->second, name, pipeline.slot, pipeline.source),
            "a slot serves one pipeline");
      }
    }
    std::map<std::string, std::string> files;
    for (const auto& [name, destination] : config_.destinations) {
      if (destination.path.empty()) continue;
      const auto [at, fresh] = files.emplace(destination.path, name);
      if (!fresh) {
        context_.problems.Add(
            "ETL-C013", places_.destination[name],
            fmt::format("destinations.{} and destinations.{} are the same file", at->second, name),
            "let the pipelines share one destination");
      } else if (destination.path == config_.catalog) {
        context_.problems.Add(
            "ETL-C013", places_.destination[name],
            fmt::format("destinations.{} and the catalog are the same file", name));
      }
    }
  }

  DecodeContext context_;
  Config config_;
  Places places_;
};

}  // namespace

LoadedConfig LoadConfigText(std::string_view text, const std::string& file,
                            const LoadOptions& options) {
  LoadedConfig out;
  out.file = file;
  ProblemList problems(text);
  const YamlNode root = ParseYaml(text, problems);
  if (root.kind == YamlNode::Kind::kNull && problems.empty()) {
    problems.Add("ETL-C012", {}, "the configuration is empty",
                 "etl-stream init writes a first one");
  } else if (root.kind != YamlNode::Kind::kNull) {
    Loader loader(DecodeContext{.problems = problems,
                                .env = options.env,
                                .allow_plaintext = options.allow_plaintext,
                                .warnings = out.warnings,
                                .folder = std::filesystem::path(file).parent_path().string()});
    Config config = loader.Load(root);
    config.file = file;
    if (problems.empty()) out.config = std::make_shared<const Config>(std::move(config));
  }
  out.problems = problems.TakeSorted();
  return out;
}

LoadedConfig LoadConfigFile(const std::string& path, const LoadOptions& options) {
  LoadedConfig unreadable;
  unreadable.file = path;
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    unreadable.problems.push_back({"ETL-C002",
                                   fmt::format("{} is a folder, not a configuration file", path),
                                   {},
                                   {},
                                   {},
                                   {}});
    return unreadable;
  }
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    const std::string reason = std::strerror(errno);
    unreadable.problems.push_back(
        {"ETL-C002",
         fmt::format("the configuration file cannot be read: {}", reason),
         {},
         {},
         "name one with --config, or write a first one with: etl-stream init",
         {}});
    return unreadable;
  }
  // One byte more than allowed is enough to see that it is too large.
  std::string text(kYamlBytesMax + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  return LoadConfigText(text, path, options);
}

Status LoadedConfig::status() const {
  if (problems.empty()) return Status::OK();
  const ConfigProblem& first = problems.front();
  std::string what = first.span.line > 0 ? fmt::format("{}:{}:{}: {}", file, first.span.line,
                                                       first.span.column, first.what)
                                         : fmt::format("{}: {}", file, first.what);
  if (problems.size() > 1) what += fmt::format(" (and {} more)", problems.size() - 1);
  return MakeError(ErrorKind::kConfig, first.code, std::move(what), first.hint);
}

std::string LoadedConfig::Describe() const {
  std::string out;
  for (size_t i = 0; i < problems.size() && i < kProblemsShown; ++i)
    out += FormatProblem(problems[i], file);
  if (problems.size() > kProblemsShown)
    out += fmt::format("and {} more errors\n", problems.size() - kProblemsShown);
  return out;
}

}  // namespace etl
