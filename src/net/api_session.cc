#include "net/api_session.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"

namespace etl {
namespace {

constexpr int kRefusalsMax = 2;
constexpr size_t kWordsMax = 300;
constexpr size_t kLookedAtMax = 16 * 1024;

bool NothingWasSent(HttpFailure failure) {
  return failure == HttpFailure::kUnreachable || failure == HttpFailure::kTls ||
         failure == HttpFailure::kInvalid;
}

// The beginning of an answer, for people; without the token, should a proxy have repeated the
// request.
std::string WordsOf(const HttpResponse& response, const Bearer& bearer) {
  std::string words = response.body.substr(0, kLookedAtMax);
  if (bearer != nullptr && !bearer->empty()) {
    for (size_t at; (at = words.find(bearer->Reveal())) != std::string::npos;)
      words.replace(at, bearer->Reveal().size(), "***");
  }
  return EscapeControl(std::string_view(words).substr(0, kWordsMax));
}

Status Error(ErrorKind kind, std::string_view code, std::string what, std::string why,
             std::string remedy) {
  return MakeError(kind, ErrorParts{.code = std::string(code),
                                    .what = std::move(what),
                                    .why = std::move(why),
                                    .safe = {},
                                    .remedy = std::move(remedy)});
}

}  // namespace

ApiSession::ApiSession(ApiSessionOptions options, HttpClient& http, TokenSource& tokens,
                       const Clock& clock, uint64_t seed)
    : options_(std::move(options)),
      http_(http),
      tokens_(tokens),
      clock_(clock),
      random_(seed),
      breaker_(options_.breaker) {}

ApiSession::~ApiSession() {
  for (auto& [id, running] : calls_) {
    if (running->request != 0) http_.Cancel(running->request);
  }
}

ApiSession::CallId ApiSession::Start(ApiCall call, Done done, Instant now) {
  const CallId id = ++last_id_;
  RetrySchedule schedule(call.retry, now, random_.Next());
  calls_.emplace(id, std::unique_ptr<Running>(new Running{.call = std::move(call),
                                                          .done = std::move(done),
                                                          .request_id = MakeRequestId(random_),
                                                          .schedule = schedule,
                                                          .begin_at = now}));
  // On the wire at once where nothing stands in the way. What goes wrong here does so again
  // in Step, which may call back.
  [[maybe_unused]] const Result<bool> sent = Send(*calls_.at(id), now);
  return id;
}

void ApiSession::Cancel(CallId id) {
  const auto at = calls_.find(id);
  if (at == calls_.end()) return;
  if (at->second->request != 0) {
    http_.Cancel(at->second->request);
    breaker_.Dropped(at->second->ticket);
  }
  calls_.erase(at);
}

bool ApiSession::Step(Instant now) {
  bool worked = false;
  tokens_.Step(now);
  arrived_.clear();
  http_.Poll(now, arrived_);
  for (HttpResponse& response : std::exchange(arrived_, {})) {
    worked = true;
    if (tokens_.Take(response, now)) continue;
    const auto at = std::find_if(calls_.begin(), calls_.end(), [&](const auto& entry) {
      return entry.second->request == response.id;
    });
    if (at != calls_.end()) Answered(at, std::move(response), now);
  }
  // A callback may end any other call, so the next one is looked for by its id.
  for (auto at = calls_.begin(); at != calls_.end();) {
    const CallId id = at->first;
    Running& running = *at->second;
    if (running.request == 0) {
      if (now >= running.schedule.deadline()) {
        worked = true;
        Finish(at, {.status = Expired(running), .outcome_unknown = running.unknown}, now);
      } else if (now >= running.begin_at) {
        const Result<bool> sent = Send(running, now);
        worked = worked || !sent.ok() || *sent;
        if (!sent.ok())
          Finish(at, {.status = sent.status(), .outcome_unknown = running.unknown}, now);
      }
    }
    at = calls_.upper_bound(id);
  }
  return worked;
}

Instant ApiSession::next_deadline(Instant now) const {
  Instant by = std::min(http_.next_deadline(), tokens_.next_deadline());
  for (const auto& [id, running] : calls_) {
    if (running->request != 0) continue;
    by = std::min(by, running->schedule.deadline());
    // One whose time has come waits for the token or for the breaker.
    if (running->begin_at > now) {
      by = std::min(by, running->begin_at);
    } else if (breaker_.admits_at(now) > now) {
      by = std::min(by, breaker_.admits_at(now));
    }
  }
  return by;
}

Result<bool> ApiSession::Send(Running& running, Instant now) {
  const Result<Bearer> bearer =
      running.call.host == ApiHost::kAccount ? tokens_.Account(now) : tokens_.Ingest(now);
  if (!bearer.ok()) return WithContext(bearer.status(), running.call.what);
  if (*bearer == nullptr) {
    tokens_.Step(now);
    return false;
  }
  const std::optional<CircuitBreaker::Ticket> ticket = breaker_.Admit(now);
  if (!ticket.has_value()) return false;
  running.ticket = *ticket;
  running.bearer = *bearer;
  HttpRequest request;
  request.method = running.call.method;
  request.url = UrlOf(running);
  request.headers = running.call.headers;
  request.headers.push_back({"X-Snowflake-Authorization-Token-Type",
                             running.call.host == ApiHost::kAccount ? "KEYPAIR_JWT" : "OAUTH"});
  request.bearer = *bearer;
  request.body = running.call.body;
  request.total = std::min(running.call.total, running.schedule.deadline() - now);
  request.stall = running.call.stall;
  ++running.attempts;
  running.request = http_.Submit(std::move(request), now);
  return true;
}

std::string ApiSession::UrlOf(const Running& running) const {
  std::string url = running.call.url + "?" + running.call.query;
  if (!running.call.query.empty()) url += "&";
  url += "requestId=" + running.request_id;
  if (running.call.numbering == ApiNumbering::kRetryCount)
    return url + fmt::format("&retryCount={}", running.attempts);
  return running.attempts > 0 ? url + "&retry=true" : url;
}

bool ApiSession::WantsRetry(const Running& running, const HttpResponse& response) const {
  if (running.call.is_final && running.call.is_final(response)) return false;
  return response.code == 429 || response.code >= 500 ||
         (response.code == 408 && running.call.retry_408);
}

void ApiSession::Answered(Calls::iterator at, HttpResponse response, Instant now) {
  Running& running = *at->second;
  running.request = 0;
  if (!response.answered()) {
    running.unknown = running.unknown || !NothingWasSent(response.failure);
    if (response.failure == HttpFailure::kInterrupted) {
      breaker_.Dropped(running.ticket);
    } else {
      breaker_.Failed(running.ticket, now);
    }
    const bool again = response.failure == HttpFailure::kUnreachable ||
                       response.failure == HttpFailure::kBroken ||
                       response.failure == HttpFailure::kTimedOut;
    if (again) return RetryLater(at, response, now);
    ApiResult result{.status = Why(running, response), .outcome_unknown = running.unknown};
    return Finish(at, std::move(result), now);
  }
  const bool retry = WantsRetry(running, response);
  if (response.code == 429) {
    breaker_.Dropped(running.ticket);
  } else if (response.code >= 500 && retry) {
    breaker_.Failed(running.ticket, now);
  } else {
    breaker_.Succeeded(running.ticket);
  }
  if (retry) {
    // Except for being asked to wait, nobody knows what the server did before it failed.
    running.unknown = running.unknown || response.code != 429;
    return RetryLater(at, response, now);
  }
  if (TokenRefused(running, response, now)) return;
  ApiResult result;
  if (response.code == 401) result.status = Why(running, response);
  result.response = std::move(response);
  Finish(at, std::move(result), now);
}

bool ApiSession::TokenRefused(Running& running, const HttpResponse& response, Instant now) {
  const bool refused =
      response.code == 401 || (response.code == 403 && running.call.host == ApiHost::kIngest);
  if (!refused) return false;
  tokens_.Refused(running.bearer, response.Header("date"), now);
  if (++running.refusals >= kRefusalsMax) return false;
  running.begin_at = now;
  running.last = Why(running, response);
  [[maybe_unused]] const Result<bool> sent = Send(running, now);
  return true;
}

void ApiSession::RetryLater(Calls::iterator at, const HttpResponse& response, Instant now) {
  Running& running = *at->second;
  running.refusals = 0;
  running.last = Why(running, response);
  const std::optional<Duration> asked =
      ParseRetryAfter(response.Header("retry-after"), clock_.WallNow());
  const std::optional<Instant> next = running.schedule.Next(now, asked);
  if (!next.has_value()) {
    ApiResult result{.status = Expired(running), .outcome_unknown = running.unknown};
    return Finish(at, std::move(result), now);
  }
  running.begin_at = *next;
  const ErrorParts parts = PartsOf(running.last);
  LogWarn("a request is sent again",
          {{"code", parts.code},
           {"request", running.call.what},
           {"why", parts.why},
           {"attempt", running.attempts},
           {"next_seconds", std::chrono::duration<double>(*next - now).count()}});
}

void ApiSession::Finish(Calls::iterator at, ApiResult result, Instant now) {
  const std::unique_ptr<Running> running = std::move(at->second);
  calls_.erase(at);
  result.attempts = running->attempts;
  running->done(std::move(result), now);
}

Status ApiSession::Why(const Running& running, const HttpResponse& response) const {
  const std::string what = fmt::format("{}: {}", options_.service, running.call.what);
  switch (response.failure) {
    case HttpFailure::kNone: break;
    case HttpFailure::kInvalid:
      return Error(ErrorKind::kInternal, "ETL-D113", what, response.why, {});
    case HttpFailure::kTls:
      return Error(ErrorKind::kConfig, "ETL-D102", what, response.why,
                   "look at the address and at the authorities that this machine trusts");
    case HttpFailure::kTooLarge:
      return Error(ErrorKind::kInternal, "ETL-D113", what, response.why, {});
    case HttpFailure::kUnreachable:
      return Error(ErrorKind::kTransient, "ETL-D101", what, response.why,
                   "look at address, proxy and firewall");
    case HttpFailure::kBroken:
    case HttpFailure::kTimedOut:
    case HttpFailure::kInterrupted:
      return Error(ErrorKind::kTransient, "ETL-D111", what, response.why, {});
  }
  if (response.code == 401) {
    return Error(ErrorKind::kAuth, "ETL-D103", what, "HTTP 401: the token was refused",
                 fmt::format("DESC USER must show the fingerprint {}", tokens_.fingerprint()));
  }
  const std::string words =
      fmt::format("HTTP {} {}", response.code, WordsOf(response, running.bearer));
  if (response.code == 429) return Error(ErrorKind::kThrottled, "ETL-D110", what, words, {});
  return Error(ErrorKind::kTransient, "ETL-D111", what, words, {});
}

Status ApiSession::Expired(const Running& running) const {
  std::string why = running.last.ok() ? tokens_.problem() : PartsOf(running.last).why;
  if (running.last.ok() && why.empty()) why = "it does not answer, and is not asked for a while";
  const bool throttled = !running.last.ok() && KindOf(running.last) == ErrorKind::kThrottled;
  // Kind and code say what is known about the outcome, over all attempts.
  const std::string_view code = running.unknown ? "ETL-D111" : throttled ? "ETL-D110" : "ETL-D101";
  return Error(throttled ? ErrorKind::kThrottled : ErrorKind::kTransient, code,
               fmt::format("{}: {}: no success in time, after {} attempts", options_.service,
                           running.call.what, running.attempts),
               std::move(why), {});
}

}  // namespace etl
