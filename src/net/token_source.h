#pragma once

#include <memory>
#include <optional>
#include <string>

#include "net/http_client.h"
#include "net/key_origin.h"
#include "net/retry.h"

namespace etl {

/// A token as requests carry it; shared, so that a renewal does not disturb what is in flight.
using Bearer = std::shared_ptr<const Secret>;

struct TokenOptions {
  std::string account_url;  ///< scheme://host[:port] of the account
  std::string account;      ///< as JwtAccount gives it
  std::string user;         ///< upper case
  std::string role;         ///< empty: the user's default role
  Duration jwt_life = std::chrono::minutes(59);
  Duration key_look = std::chrono::seconds(5);  ///< how often the key file is looked at
  RetryOptions exchange = {.initial = std::chrono::milliseconds(500),
                           .cap = std::chrono::seconds(30)};
};

/// The two bearers of a key pair: a self-signed JWT for the account's host, and the token it is
/// exchanged for (`POST /oauth/token`, scope = the ingest host) for the ingest host. Both are
/// renewed before they end, the second by its own `exp`; an old one stays in use until the new one
/// is there.
///
/// The key is read at Start, and again when its file changes, when Reload is called and when a
/// token was refused; a key that cannot be read then is logged, and the old one kept. A clock that
/// differs from the server's by more than a minute is noticed when a token is refused, and allowed
/// for.
///
/// Owned and called by one thread. Its requests go through `http`, whose finished ones the owner
/// hands to Take first.
class TokenSource {
 public:
  /// `http` and `clock` outlive it. `seed` spreads the retries.
  TokenSource(TokenOptions options, KeyOrigin key, HttpClient& http, const Clock& clock,
              uint64_t seed);
  ~TokenSource();

  /// Reads the key; kConfig if it cannot be used.
  Status Start(Instant now);
  /// The host that the exchanged token is for, without port. A new one drops the old token.
  void SetIngestHost(const std::string& host);

  /// Never null on success.
  Result<Bearer> Account(Instant now);
  /// Null: it is on its way, ask again after the next Step. kAuth: it was refused for good.
  Result<Bearer> Ingest(Instant now);
  /// The server answered 401 to `bearer`, with its own time in `date` (HTTP date; may be empty). If
  /// that token is still the current one, the next one will be another.
  void Refused(const Bearer& bearer, std::string_view date, Instant now);
  /// Reads the key anew at once (SIGHUP). On failure the old key stays in use.
  Status Reload(Instant now);

  /// Does what is due. Cheap when nothing is.
  void Step(Instant now);
  /// true: the answer was to a request of this object, and is used up.
  bool Take(HttpResponse& response, Instant now);
  Instant next_deadline() const;

  const std::string& fingerprint() const { return key_->fingerprint(); }
  /// Why the exchange does not succeed at the moment; empty if it does.
  const std::string& problem() const { return problem_; }

 private:
  struct Token {
    Bearer bearer;
    Instant renew_at{};
    Instant ends_at{};
  };
  int64_t ServerSeconds() const;
  Status SignAccount(Instant now);
  void UseKey(PrivateKeyPtr key);
  void LookAtKey(Instant now);
  void BeginExchange(Instant now);
  void ExchangeAnswered(const HttpResponse& response, Instant now);
  void ExchangeFailed(const std::string& why, std::optional<Duration> retry_after, Instant now);

  const TokenOptions options_;
  const KeyOrigin origin_;
  HttpClient& http_;
  const Clock& clock_;
  Random random_;
  PrivateKeyPtr key_;
  Instant look_at_key_{};
  Token account_;
  Token ingest_;
  std::string ingest_host_;
  bool ingest_wanted_ = false;
  HttpRequestId exchange_ = 0;  ///< in flight; 0: none
  Bearer exchange_bearer_;
  Instant exchange_sent_{};
  Instant exchange_at_{};  ///< not before
  std::optional<RetrySchedule> schedule_;
  int refused_ = 0;  ///< exchanges in a row
  Status denied_;    ///< sticky until another key is there
  std::string problem_;
  int64_t server_ahead_seconds_ = 0;
};

/// The token in the answer of an exchange: bare text, or a JSON object with `token` or
/// `access_token`. Empty if there is none.
Secret TokenOfAnswer(std::string_view body);

}  // namespace etl
