#include "destination/snowflake/account.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "net/jwt.h"

namespace etl {
namespace {

std::string HostText(std::string_view text) {
  std::string out;
  for (char c : text)
    out += c == '_' ? '-' : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

bool IsAccountText(std::string_view text) {
  return !text.empty() && text.size() <= 255 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
}

// The part of a host that belongs to Snowflake, or nothing.
std::string_view SnowflakeDomain(std::string_view host) {
  for (std::string_view domain : {".snowflakecomputing.com", ".snowflakecomputing.cn"}) {
    if (host.ends_with(domain)) return domain;
  }
  return {};
}

Status NotUnderstood(std::string why) {
  return MakeError(ErrorKind::kTransient,
                   ErrorParts{.code = "ETL-D113",
                              .what = "snowflake: the account does not say which host takes rows",
                              .why = std::move(why),
                              .safe = {},
                              .remedy = "look at account and url"});
}

}  // namespace

Result<SnowflakeAccount> MakeSnowflakeAccount(std::string_view account, std::string_view url) {
  if (!IsAccountText(account)) {
    return MakeError(ErrorKind::kConfig, "ETL-C013", "the Snowflake account is not an identifier",
                     "write it as ORGANIZATION-ACCOUNT");
  }
  SnowflakeAccount out;
  out.name = JwtAccount(account);
  const std::string derived =
      url.empty() ? fmt::format("https://{}.snowflakecomputing.com", HostText(account))
                  : std::string(url);
  ETL_ASSIGN_OR_RETURN(out.url, ParseHttpUrl(derived));
  out.base = out.url.Origin() + out.url.path;
  return out;
}

Result<IngestHost> ParseIngestHost(const SnowflakeAccount& account, std::string_view answer) {
  const nlohmann::json json = nlohmann::json::parse(answer, nullptr, false);
  std::string text(answer);
  if (json.is_object()) {
    const auto at = json.find("hostname");
    if (at == json.end() || !at->is_string()) return NotUnderstood("an answer without hostname");
    text = at->get<std::string>();
  } else if (json.is_string()) {
    text = json.get<std::string>();
  }
  const auto blank = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  while (!text.empty() && blank(text.back())) text.pop_back();
  while (!text.empty() && blank(text.front())) text.erase(0, 1);
  const Result<HttpUrl> parsed = ParseHttpUrl(account.url.scheme + "://" + HostText(text));
  if (!parsed.ok() || !parsed->path.empty())
    return NotUnderstood(fmt::format("\"{}\" is no host", EscapeControl(text.substr(0, 100))));
  HttpUrl url = *parsed;
  const std::string_view domain = SnowflakeDomain(account.url.host);
  if (!domain.empty() && SnowflakeDomain(url.host) != domain)
    return NotUnderstood(fmt::format("{} is not a host of Snowflake's", url.host));
  if (url.port == 0) url.port = account.url.port;
  return IngestHost{.base = url.Origin(), .scope = url.host};
}

}  // namespace etl
