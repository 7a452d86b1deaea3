#include "net/token_source.h"

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/http_url.h"
#include "base/log.h"
#include "net/jwt.h"

namespace etl {
namespace {

using std::chrono::seconds;

constexpr Duration kOpaqueLife =
    std::chrono::minutes(5);  // of a token that does not say when it ends
constexpr int64_t kSkewSeconds = 60;
constexpr int kRefusalsMax = 2;

// Renewed when a minute is left, or half of a very short life; not used in its last seconds, which
// a request may need to arrive.
Duration RenewBefore(Duration life) { return std::min<Duration>(seconds(60), life / 2); }
Duration UnusedBefore(Duration life) { return std::min<Duration>(seconds(5), life / 10); }

Status Denied(const TokenOptions& options, const std::string& fingerprint, int code) {
  return MakeError(
      ErrorKind::kAuth,
      ErrorParts{
          .code = "ETL-D103",
          .what = fmt::format("{} refused user {}", options.account_url, options.user),
          .why = fmt::format("HTTP {} to a token signed by the key {}", code, fingerprint),
          .safe = {},
          .remedy = fmt::format("DESC USER {} must show this fingerprint as RSA_PUBLIC_KEY_FP "
                                "or RSA_PUBLIC_KEY_2_FP; look at account, user and clock too",
                                options.user)});
}

}  // namespace

Secret TokenOfAnswer(std::string_view body) {
  const auto blank = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  while (!body.empty() && blank(body.front())) body.remove_prefix(1);
  while (!body.empty() && blank(body.back())) body.remove_suffix(1);
  const bool json = body.starts_with('{') || body.starts_with('"');
  if (!json) {
    // What could not stand in a header is no token; an HTML page, for instance.
    const bool bare =
        std::all_of(body.begin(), body.end(), [](char c) { return c > ' ' && c < 127; });
    return bare && !body.starts_with('<') ? Secret(std::string(body)) : Secret();
  }
  nlohmann::json parsed = nlohmann::json::parse(body, nullptr, false);
  for (const char* name : {"token", "access_token"}) {
    if (!parsed.is_object()) break;
    const auto at = parsed.find(name);
    if (at != parsed.end() && at->is_string())
      return Secret(std::move(at->get_ref<std::string&>()));
  }
  if (parsed.is_string()) return Secret(std::move(parsed.get_ref<std::string&>()));
  return Secret();
}

TokenSource::TokenSource(TokenOptions options, KeyOrigin key, HttpClient& http, const Clock& clock,
                         uint64_t seed)
    : options_(std::move(options)),
      origin_(std::move(key)),
      http_(http),
      clock_(clock),
      random_(seed) {}

TokenSource::~TokenSource() {
  if (exchange_ != 0) http_.Cancel(exchange_);
}

Status TokenSource::Start(Instant now) {
  ETL_ASSIGN_OR_RETURN(PrivateKeyPtr key, origin_.read());
  UseKey(std::move(key));
  look_at_key_ = now + options_.key_look;
  return SignAccount(now);
}

void TokenSource::SetIngestHost(const std::string& host) {
  if (host == ingest_host_) return;
  ingest_host_ = host;
  ingest_ = {};
  if (exchange_ != 0) http_.Cancel(std::exchange(exchange_, 0));
  exchange_at_ = {};
}

void TokenSource::UseKey(PrivateKeyPtr key) {
  key_ = std::move(key);
  account_ = {};
  denied_ = Status::OK();
  refused_ = 0;
  exchange_at_ = {};
  schedule_.reset();
}

int64_t TokenSource::ServerSeconds() const {
  return clock_.WallNow() / 1'000'000 + server_ahead_seconds_;
}

Status TokenSource::SignAccount(Instant now) {
  const int64_t issued = ServerSeconds();
  const int64_t life = std::chrono::duration_cast<seconds>(options_.jwt_life).count();
  ETL_ASSIGN_OR_RETURN(Secret token, SignJwt(*key_, {.account = options_.account,
                                                     .user = options_.user,
                                                     .role = options_.role,
                                                     .issued_at = issued,
                                                     .expires_at = issued + life}));
  account_.bearer = std::make_shared<const Secret>(std::move(token));
  account_.renew_at = now + options_.jwt_life * 5 / 6;
  account_.ends_at = now + options_.jwt_life;
  return Status::OK();
}

Result<Bearer> TokenSource::Account(Instant now) {
  if (account_.bearer == nullptr || now >= account_.renew_at) ETL_RETURN_IF_ERROR(SignAccount(now));
  return account_.bearer;
}

Result<Bearer> TokenSource::Ingest(Instant now) {
  ingest_wanted_ = true;
  if (ingest_.bearer != nullptr && now < ingest_.ends_at) return ingest_.bearer;
  ETL_RETURN_IF_ERROR(denied_);
  return Bearer();
}

void TokenSource::Refused(const Bearer& bearer, std::string_view date, Instant now) {
  const std::optional<int64_t> server = ParseHttpDate(date);
  if (server.has_value() && std::abs(*server - ServerSeconds()) > kSkewSeconds) {
    server_ahead_seconds_ += *server - ServerSeconds();
    LogWarn("this machine's clock differs from the server's; allowed for in tokens",
            {{"server", options_.account_url}, {"seconds", server_ahead_seconds_}});
    account_ = {};
  }
  if (bearer == ingest_.bearer) {
    ingest_ = {};
    exchange_at_ = now;
  }
  if (bearer == account_.bearer) account_ = {};
  if (const Status status = Reload(now); !status.ok())
    LogWarn("the private key could not be read again", {{"error", ErrorLine(status)}});
}

Status TokenSource::Reload(Instant now) {
  look_at_key_ = now + options_.key_look;
  ETL_ASSIGN_OR_RETURN(PrivateKeyPtr key, origin_.read());
  if (key->fingerprint() == key_->fingerprint()) return Status::OK();
  LogInfo("another private key is in use",
          {{"user", options_.user}, {"fingerprint", key->fingerprint()}});
  // The exchanged token stays good until it ends: nothing in flight is disturbed.
  UseKey(std::move(key));
  return Status::OK();
}

void TokenSource::LookAtKey(Instant now) {
  if (now < look_at_key_) return;
  look_at_key_ = now + options_.key_look;
  if (!origin_.changed()) return;
  if (const Status status = Reload(now); !status.ok())
    LogWarn("the changed private key cannot be used; the old one stays",
            {{"error", ErrorLine(status)}});
}

void TokenSource::Step(Instant now) {
  LookAtKey(now);
  if (!ingest_wanted_ || ingest_host_.empty() || exchange_ != 0 || !denied_.ok()) return;
  if (ingest_.bearer != nullptr && now < ingest_.renew_at) return;
  if (now >= exchange_at_) BeginExchange(now);
}

void TokenSource::BeginExchange(Instant now) {
  const Result<Bearer> bearer = Account(now);
  if (!bearer.ok()) {
    denied_ = bearer.status();
    return;
  }
  const std::string scope =
      options_.role.empty() ? ingest_host_ : ingest_host_ + " session:role:" + options_.role;
  HttpRequest request;
  request.method = HttpMethod::kPost;
  request.url = options_.account_url + "/oauth/token";
  request.headers = {{"Content-Type", "application/x-www-form-urlencoded"},
                     {"Accept", "application/json"},
                     {"X-Snowflake-Authorization-Token-Type", "KEYPAIR_JWT"}};
  request.bearer = *bearer;
  request.body =
      HttpBody::Of("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&scope=" +
                   PercentEncode(scope));
  exchange_bearer_ = *bearer;
  exchange_sent_ = now;
  exchange_ = http_.Submit(std::move(request), now);
}

bool TokenSource::Take(HttpResponse& response, Instant now) {
  if (exchange_ == 0 || response.id != exchange_) return false;
  exchange_ = 0;
  ExchangeAnswered(response, now);
  WipeString(response.body);
  exchange_bearer_.reset();
  return true;
}

void TokenSource::ExchangeAnswered(const HttpResponse& response, Instant now) {
  if (!response.answered()) return ExchangeFailed(response.why, std::nullopt, now);
  if (response.code == 401 || response.code == 403) {
    // Another key, or another clock, may have come with Refused.
    const std::string before = key_->fingerprint();
    Refused(exchange_bearer_, response.Header("date"), now);
    if (key_->fingerprint() == before && ++refused_ >= kRefusalsMax)
      denied_ = Denied(options_, before, response.code);
    problem_ = fmt::format("the token exchange was refused with HTTP {}", response.code);
    exchange_at_ = now;
    return;
  }
  if (response.code != 200 && response.code != 201) {
    return ExchangeFailed(fmt::format("the token exchange answered HTTP {}", response.code),
                          ParseRetryAfter(response.Header("retry-after"), clock_.WallNow()), now);
  }
  Secret token = TokenOfAnswer(response.body);
  if (token.empty())
    return ExchangeFailed("the token exchange answered no token", std::nullopt, now);
  Duration life = kOpaqueLife;
  if (const std::optional<JwtTimes> times = ReadJwtTimes(token.Reveal())) {
    const int64_t from = times->issued_at.value_or(ServerSeconds());
    life = seconds(std::clamp<int64_t>(times->expires_at - from, 1, 86400));
  }
  ingest_.bearer = std::make_shared<const Secret>(std::move(token));
  // Counted from when it was asked for: it cannot have been made earlier.
  ingest_.ends_at = exchange_sent_ + life - UnusedBefore(life);
  ingest_.renew_at = exchange_sent_ + life - RenewBefore(life);
  schedule_.reset();
  refused_ = 0;
  problem_.clear();
}

void TokenSource::ExchangeFailed(const std::string& why, std::optional<Duration> retry_after,
                                 Instant now) {
  problem_ = why;
  if (!schedule_.has_value()) schedule_.emplace(options_.exchange, now, random_.Next());
  const std::optional<Instant> next = schedule_->Next(now, retry_after);
  // Who waits for the token has a deadline; here it is tried for as long as somebody does.
  exchange_at_ = next.value_or(now + options_.exchange.cap);
  if (!next.has_value()) schedule_.reset();
}

Instant TokenSource::next_deadline() const {
  Instant by = look_at_key_;
  if (!ingest_wanted_ || ingest_host_.empty() || exchange_ != 0 || !denied_.ok()) return by;
  return std::min(
      by, ingest_.bearer == nullptr ? exchange_at_ : std::max(exchange_at_, ingest_.renew_at));
}

}  // namespace etl
