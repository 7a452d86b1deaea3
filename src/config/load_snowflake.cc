#include "config/load_snowflake.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/http_url.h"

namespace etl {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::string_view kSourceSchema = "{schema}";

void Name(MapReader& reader, const std::string& key, std::string* out) {
  reader.Require(key);
  reader.Text(key, out);
}

void Account(MapReader& reader, DecodeContext& context, std::string* account) {
  const YamlNode::Entry* entry = reader.Require("account");
  if (!reader.Text("account", account)) return;
  const bool valid =
      account->size() <= 255 && std::all_of(account->begin(), account->end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '_' || c == '.';
      });
  if (!valid) {
    context.problems.Add("ETL-C013", entry->value.span,
                         fmt::format("{} is not an account identifier", reader.Path("account")),
                         "write ORGANIZATION-ACCOUNT, and a whole address under url");
  }
}

void Url(MapReader& reader, DecodeContext& context, std::string* url) {
  const YamlNode::Entry* entry = reader.Take("url");
  if (entry == nullptr || !reader.Text("url", url)) return;
  const Result<HttpUrl> parsed = ParseHttpUrl(*url);
  if (parsed.ok()) return;
  const ErrorParts parts = PartsOf(parsed.status());
  context.problems.Add("ETL-C013", entry->value.span,
                       fmt::format("{}: {}", reader.Path("url"), parts.what), parts.remedy);
}

void Schema(MapReader& reader, DecodeContext& context, std::string* schema) {
  const YamlNode::Entry* entry = reader.Require("schema");
  if (!reader.Text("schema", schema)) return;
  std::string rest = *schema;
  if (const size_t at = rest.find(kSourceSchema); at != std::string::npos)
    rest.erase(at, kSourceSchema.size());
  if (rest.find_first_of("{}") == std::string::npos) return;
  context.problems.Add(
      "ETL-C013", entry->value.span,
      fmt::format("{} may hold {{schema}} once, and no other braces", reader.Path("schema")));
}

void Merge(MapReader& parent, DecodeContext& context, SnowflakeConfig* out) {
  const YamlNode::Entry* entry = parent.Take("merge");
  if (entry == nullptr) return;
  MapReader reader(entry->value, parent.Path("merge"), context);
  reader.Choice<MergeBy>("by", {{"engine", MergeBy::kEngine}, {"task", MergeBy::kTask}},
                         &out->merge_by);
  reader.Time("every", &out->merge_every, seconds(1), hours(24));
  reader.Finish();
}

void Breaker(MapReader& parent, DecodeContext& context, BreakerConfig* out) {
  const YamlNode::Entry* entry = parent.Take("breaker");
  if (entry == nullptr) return;
  MapReader reader(entry->value, parent.Path("breaker"), context);
  int64_t failures = out->failures;
  int64_t successes = out->successes;
  reader.Int("failures", &failures, 1, 1000);
  reader.Time("within", &out->within, seconds(1), hours(24));
  reader.Time("open", &out->open, milliseconds(10), hours(24));
  reader.Int("successes", &successes, 1, 1000);
  out->failures = static_cast<int>(failures);
  out->successes = static_cast<int>(successes);
  reader.Finish();
}

}  // namespace

void LoadSnowflake(MapReader& reader, DecodeContext& context, SnowflakeConfig* out) {
  Account(reader, context, &out->account);
  Url(reader, context, &out->url);
  Name(reader, "user", &out->user);
  Name(reader, "role", &out->role);
  Name(reader, "warehouse", &out->warehouse);
  Name(reader, "database", &out->database);
  Schema(reader, context, &out->schema);
  Name(reader, "landing_schema", &out->landing_schema);
  reader.Require("private_key");
  reader.Secret("private_key", &out->private_key);
  reader.Secret("private_key_passphrase", &out->private_key_passphrase);
  Merge(reader, context, out);
  Breaker(reader, context, &out->breaker);
  reader.Choice<IdentifierCase>(
      "identifiers", {{"upper", IdentifierCase::kUpper}, {"preserve", IdentifierCase::kPreserve}},
      &out->identifiers);
}

}  // namespace etl
