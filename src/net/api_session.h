#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/circuit_breaker.h"
#include "net/http_client.h"
#include "net/request_id.h"
#include "net/retry.h"
#include "net/token_source.h"

namespace etl {

/// Which host a call goes to, and so which token it carries.
enum class ApiHost : uint8_t { kAccount, kIngest };

/// How the attempts of one call say that they are one.
enum class ApiNumbering : uint8_t {
  kRetryCount,  ///< requestId=…&retryCount=n
  kRetryFlag,   ///< requestId=…, and retry=true from the second attempt on
};

/// One call of a service: the same bytes and the same request id on each attempt.
struct ApiCall {
  std::string what;  ///< for errors and the log: "open channel X"
  ApiHost host = ApiHost::kAccount;
  HttpMethod method = HttpMethod::kGet;
  std::string url;    ///< scheme, host, path
  std::string query;  ///< without ?, may be empty
  std::vector<HttpHeader> headers;
  HttpBody body;
  ApiNumbering numbering = ApiNumbering::kRetryCount;
  RetryOptions retry;
  Duration total = std::chrono::seconds(60);  ///< of one attempt
  Duration stall = std::chrono::seconds(30);
  bool retry_408 = true;  ///< 408 is an overloaded server, not an answer
  /// An answer that would be retried by its HTTP code alone, and must not be. May be empty.
  std::function<bool(const HttpResponse&)> is_final;
};

/// What came of a call.
struct ApiResult {
  /// OK: there is an answer for the caller to judge (any code that is not retried). Else the
  /// calls's deadline has passed, or trying again is of no use.
  Status status;
  HttpResponse response;
  int attempts = 0;
  /// Without an answer: an attempt may have been carried out (`status` ETL-D111).
  bool outcome_unknown = false;
};

struct ApiSessionOptions {
  std::string service = "snowflake";  ///< for errors
  BreakerOptions breaker;
};

/// Sends calls with a token, and again while their outcome asks for it: no connection, 429, 5xx and
/// (mostly) 408 within the call's deadline, honouring Retry-After, behind one circuit breaker; 401
/// once more with a new token. The only place that retries requests.
///
/// Owned and called by one thread, together with the HttpClient and TokenSource that it drives.
/// Callbacks run inside Step, each once, and may start or cancel other calls.
class ApiSession {
 public:
  using Done = std::function<void(ApiResult result, Instant now)>;
  using CallId = uint64_t;

  /// `http`, `tokens` and `clock` outlive it. `seed` makes the request ids, which the service
  /// remembers: 64 random bits, anew for each process.
  ApiSession(ApiSessionOptions options, HttpClient& http, TokenSource& tokens, const Clock& clock,
             uint64_t seed);
  ~ApiSession();

  CallId Start(ApiCall call, Done done, Instant now);
  /// The callback will not be called. What was sent may be carried out all the same.
  void Cancel(CallId id);
  /// Does what can be done now; true if anything was.
  bool Step(Instant now);
  void AddPollFds(std::vector<pollfd>& fds) { http_.AddPollFds(fds); }
  Instant next_deadline(Instant now) const;
  size_t calls() const { return calls_.size(); }

  TokenSource& tokens() { return tokens_; }
  CircuitBreaker::State breaker_state(Instant now) const { return breaker_.state(now); }
  /// Seeds and ids for those who use the session.
  Random& random() { return random_; }

 private:
  struct Running {
    ApiCall call;
    Done done;
    std::string request_id;
    RetrySchedule schedule;
    Instant begin_at{};         ///< not before
    HttpRequestId request = 0;  ///< in flight; 0: waiting
    CircuitBreaker::Ticket ticket = 0;
    Bearer bearer;
    int attempts = 0;
    int refusals = 0;      ///< 401 in a row
    bool unknown = false;  ///< an attempt may have been carried out
    Status last;           ///< why it is being retried
  };
  using Calls = std::map<CallId, std::unique_ptr<Running>>;

  Result<bool> Send(Running& running, Instant now);
  std::string UrlOf(const Running& running) const;
  void Answered(Calls::iterator at, HttpResponse response, Instant now);
  bool WantsRetry(const Running& running, const HttpResponse& response) const;
  void RetryLater(Calls::iterator at, const HttpResponse& response, Instant now);
  bool TokenRefused(Running& running, const HttpResponse& response, Instant now);
  void Finish(Calls::iterator at, ApiResult result, Instant now);
  Status Why(const Running& running, const HttpResponse& response) const;
  Status Expired(const Running& running) const;

  const ApiSessionOptions options_;
  HttpClient& http_;
  TokenSource& tokens_;
  const Clock& clock_;
  Random random_;
  CircuitBreaker breaker_;
  Calls calls_;
  CallId last_id_ = 0;
  std::vector<HttpResponse> arrived_;
};

}  // namespace etl
