#include "net/jwt.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "net/base64.h"

namespace etl {
namespace {

// Seconds reach this in the year 5138, milliseconds in 1973.
constexpr int64_t kMillisecondsFrom = 100'000'000'000;

std::optional<int64_t> Seconds(const nlohmann::json& claims, const char* name) {
  const auto at = claims.find(name);
  if (at == claims.end() || !at->is_number()) return std::nullopt;
  const double value = at->get<double>();
  if (!(value >= 0) || value > 1e17) return std::nullopt;
  const auto seconds = static_cast<int64_t>(value);
  return seconds >= kMillisecondsFrom ? seconds / 1000 : seconds;
}

}  // namespace

std::string UpperAscii(std::string_view text) {
  std::string out;
  for (char c : text) out += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return out;
}

std::string JwtAccount(std::string_view account) {
  const char cut = account.find(".global") != std::string_view::npos ? '-' : '.';
  return UpperAscii(account.substr(0, account.find(cut)));
}

Result<Secret> SignJwt(const PrivateKey& key, const JwtClaims& claims) {
  const std::string subject = fmt::format("{}.{}", claims.account, claims.user);
  std::string body = fmt::format("{{\"iss\":{},\"sub\":{}",
                                 JsonQuote(subject + "." + key.fingerprint()), JsonQuote(subject));
  if (!claims.role.empty())
    body += fmt::format(",\"scp\":{}", JsonQuote("session:role:" + claims.role));
  body += fmt::format(",\"iat\":{},\"exp\":{}}}", claims.issued_at, claims.expires_at);
  std::string token = Base64Url(R"({"typ":"JWT","alg":"RS256"})") + "." + Base64Url(body);
  ETL_ASSIGN_OR_RETURN(const std::string signature, key.Sign(token));
  token += "." + Base64Url(signature);
  return Secret(std::move(token));
}

std::optional<JwtTimes> ReadJwtTimes(std::string_view token) {
  const size_t first = token.find('.');
  if (first == std::string_view::npos) return std::nullopt;
  const size_t second = token.find('.', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  const std::optional<std::string> body =
      DecodeBase64Url(token.substr(first + 1, second - first - 1));
  if (!body.has_value()) return std::nullopt;
  const nlohmann::json claims = nlohmann::json::parse(*body, nullptr, false);
  if (!claims.is_object()) return std::nullopt;
  const std::optional<int64_t> expires_at = Seconds(claims, "exp");
  if (!expires_at.has_value()) return std::nullopt;
  return JwtTimes{.expires_at = *expires_at, .issued_at = Seconds(claims, "iat")};
}

}  // namespace etl
