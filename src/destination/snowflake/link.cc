#include "destination/snowflake/link.h"

#include <algorithm>
#include <optional>
#include <random>
#include <utility>

#include <poll.h>

#include "destination/snowflake/identifiers.h"
#include "net/jwt.h"

namespace etl {
namespace {

// All of it counts: request ids are made from it, and the service remembers them.
uint64_t Seed() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

constexpr Duration kStartPatience = std::chrono::seconds(5);

BreakerOptions BreakerOf(const BreakerConfig& config) {
  return {.failures = config.failures,
          .within = config.within,
          .open = config.open,
          .successes = config.successes};
}

}  // namespace

Result<std::unique_ptr<SnowflakeLink>> SnowflakeLink::Make(const SnowflakeConfig& config,
                                                           KeyOrigin key, const Clock& clock,
                                                           LinkOptions options) {
  ETL_ASSIGN_OR_RETURN(SnowflakeAccount account, MakeSnowflakeAccount(config.account, config.url));
  std::unique_ptr<SnowflakeLink> out(
      new SnowflakeLink(config, std::move(account), std::move(key), clock, std::move(options)));
  ETL_RETURN_IF_ERROR(out->tokens_.Start(clock.Now()));
  return out;
}

SnowflakeLink::SnowflakeLink(const SnowflakeConfig& config, SnowflakeAccount account, KeyOrigin key,
                             const Clock& clock, LinkOptions options)
    : config_(config),
      account_(std::move(account)),
      clock_(clock),
      http_({.ca_file = CaFileOfEnvironment(), .user_agent = "etl-stream/1.0"}),
      tokens_({.account_url = account_.base,
               .account = account_.name,
               .user = UpperAscii(config.user),
               .role = config.role},
              std::move(key), http_, clock, Seed()),
      session_({.breaker = BreakerOf(config.breaker)}, http_, tokens_, clock, Seed()),
      sql_(std::move(options.sql), account_, session_),
      streaming_(std::move(options.streaming), account_, session_) {}

Result<bool> SnowflakeLink::Step(Instant now, std::vector<ChannelEvent>& events) {
  const bool session = session_.Step(now);
  const bool sql = sql_.Step(now);
  ETL_ASSIGN_OR_RETURN(const bool streaming, streaming_.Step(now, events));
  return session || sql || streaming;
}

Instant SnowflakeLink::next_deadline(Instant now) const {
  return std::min(
      {session_.next_deadline(now), sql_.next_deadline(), streaming_.next_deadline(now)});
}

void SnowflakeLink::Wait(Instant by) {
  const Instant now = clock_.Now();
  std::vector<pollfd> fds;
  session_.AddPollFds(fds);
  const Duration wait = std::min(by, next_deadline(now)) - now;
  const int64_t millis = std::chrono::ceil<std::chrono::milliseconds>(wait).count();
  poll(fds.data(), fds.size(), static_cast<int>(std::clamp<int64_t>(millis, 0, 200)));
}

SqlRequest SnowflakeLink::Request(std::string what, std::string sql) const {
  SqlRequest request;
  request.what = std::move(what);
  request.text = std::move(sql);
  request.warehouse = config_.warehouse;
  request.role = config_.role;
  if (starting_) request.submit_within = kStartPatience;
  return request;
}

SqlRequest SnowflakeLink::Request(std::string what, const std::vector<std::string>& sql) const {
  std::string text;
  for (const std::string& statement : sql) text += (text.empty() ? "" : ";\n") + statement;
  SqlRequest request = Request(std::move(what), std::move(text));
  request.statements = static_cast<int>(sql.size());
  return request;
}

SqlOutcome SnowflakeLink::RunAndWait(const SqlRequest& request, std::vector<ChannelEvent>& events) {
  std::optional<SqlOutcome> outcome;
  const SqlClient::Id id = sql_.Run(
      request, [&](SqlOutcome got, Instant) { outcome = std::move(got); }, clock_.Now());
  while (!outcome.has_value()) {
    const Result<bool> worked = Step(clock_.Now(), events);
    Status status = worked.status();
    if (status.ok() && interrupted()) status = Interrupted();
    if (!status.ok() && !outcome.has_value()) {
      sql_.Cancel(id, clock_.Now());
      SqlOutcome failed;
      failed.status = status;
      failed.outcome_unknown = true;
      return failed;
    }
    if (status.ok() && !*worked) Wait(kNever);
  }
  return std::move(*outcome);
}

void SnowflakeLink::BeginStart(const std::atomic<bool>* stop) {
  starting_ = true;
  stop_ = stop;
}

void SnowflakeLink::EndStart() {
  starting_ = false;
  stop_ = nullptr;
}

void SnowflakeLink::Interrupt() {
  interrupted_ = true;
  http_.Interrupt();
}

Status SnowflakeLink::Interrupted() {
  return MakeError(ErrorKind::kTransient, "ETL-D111", "snowflake: interrupted while waiting");
}

StreamBatch BatchOf(RequestBody body) {
  StreamBatch batch;
  batch.first = PositionText(body.first);
  batch.last = PositionText(body.last);
  batch.rows = body.rows;
  batch.encoding = body.encoding;
  batch.uncompressed_bytes = body.uncompressed_bytes;
  batch.body = HttpBody::Of(std::move(body.bytes));
  return batch;
}

}  // namespace etl
