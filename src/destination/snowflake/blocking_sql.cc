#include "destination/snowflake/blocking_sql.h"

#include <algorithm>
#include <optional>
#include <random>
#include <utility>

#include <poll.h>

#include "net/jwt.h"

namespace etl {
namespace {

// Somebody waits at the terminal: what does not come soon is told.
constexpr auto kPatience = std::chrono::seconds(30);

// All of it counts: request ids are made from it, and the service remembers them.
uint64_t Seed() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

SqlClientOptions Impatient() {
  SqlClientOptions options;
  options.retry.within = kPatience;
  return options;
}

}  // namespace

Result<std::unique_ptr<BlockingSql>> BlockingSql::Make(const SnowflakeConfig& config, KeyOrigin key,
                                                       const std::string& role) {
  ETL_ASSIGN_OR_RETURN(SnowflakeAccount account, MakeSnowflakeAccount(config.account, config.url));
  std::unique_ptr<BlockingSql> out(new BlockingSql(config, std::move(account), std::move(key),
                                                   role.empty() ? config.role : role));
  ETL_RETURN_IF_ERROR(out->tokens_.Start(SystemClock().Now()));
  return out;
}

BlockingSql::BlockingSql(const SnowflakeConfig& config, SnowflakeAccount account, KeyOrigin key,
                         std::string role)
    : role_(std::move(role)),
      account_(std::move(account)),
      http_({.ca_file = CaFileOfEnvironment(), .user_agent = "etl-stream/1.0"}),
      tokens_({.account_url = account_.base,
               .account = account_.name,
               .user = UpperAscii(config.user),
               .role = role_},
              std::move(key), http_, SystemClock(), Seed()),
      session_({}, http_, tokens_, SystemClock(), Seed()),
      sql_(Impatient(), account_, session_) {}

SqlOutcome BlockingSql::Run(SqlRequest request) {
  if (request.role.empty()) request.role = role_;
  std::optional<SqlOutcome> outcome;
  sql_.Run(
      request, [&](SqlOutcome got, Instant) { outcome = std::move(got); }, SystemClock().Now());
  while (!outcome.has_value()) {
    const Instant now = SystemClock().Now();
    const bool session = session_.Step(now);
    if (sql_.Step(now) || session) continue;
    std::vector<pollfd> fds;
    session_.AddPollFds(fds);
    const Duration wait = std::min(session_.next_deadline(now), sql_.next_deadline()) - now;
    const int64_t millis = std::chrono::ceil<std::chrono::milliseconds>(wait).count();
    poll(fds.data(), fds.size(), static_cast<int>(std::clamp<int64_t>(millis, 0, 1000)));
  }
  return std::move(*outcome);
}

}  // namespace etl
