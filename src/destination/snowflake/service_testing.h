#pragma once

#include <memory>

#include "net/api_session.h"
#include "net/key_testing.h"
#include "net/service_testing.h"

namespace etl {

/// A session over a scripted service, in virtual time. `answer` sees every request but the token
/// exchange.
class ScriptedService {
 public:
  explicit ScriptedService(ScriptedHttpClient::Handler answer)
      : answer_(std::move(answer)),
        http([this](const HttpRequest& request) {
          if (!request.url.ends_with("/oauth/token")) return answer_(request);
          ++exchanges;
          return ScriptedHttpClient::Answer(200, TestToken("scoped" + std::to_string(exchanges),
                                                           clock.WallNow() / 1'000'000, 600));
        }),
        tokens({.account_url = "https://a.snowflakecomputing.com", .account = "A", .user = "U"},
               TestOrigin(&key), http, clock, 1),
        session({}, http, tokens, clock, 2) {
    ETL_CHECK(tokens.Start(clock.now).ok());
  }

 private:
  ScriptedHttpClient::Handler answer_;

 public:
  TestClock clock;
  int key = 0;
  int exchanges = 0;
  ScriptedHttpClient http;
  TokenSource tokens;
  ApiSession session;
};

}  // namespace etl
