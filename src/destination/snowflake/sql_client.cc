#include "destination/snowflake/sql_client.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace etl {
namespace {

// The server answers within 45 s, done or not.
constexpr auto kAttempt = std::chrono::seconds(75);
// After the statement's own timeout, for the answer to arrive.
constexpr auto kSlack = std::chrono::seconds(60);
constexpr auto kCancelWithin = std::chrono::seconds(20);

Status NotUnderstood(const std::string& what, int http) {
  return MakeError(ErrorKind::kTransient, "ETL-D113",
                   fmt::format("snowflake: {}: an answer (HTTP {}) could not be read", what, http));
}

}  // namespace

std::string SqlRequestBody(const SqlRequest& request) {
  nlohmann::json body = {
      {"statement", request.text},
      {"timeout", std::chrono::duration_cast<std::chrono::seconds>(request.timeout).count()}};
  const auto name = [&](const char* key, const std::string& value) {
    if (!value.empty()) body[key] = value;
  };
  name("database", request.database);
  name("schema", request.schema);
  name("warehouse", request.warehouse);
  name("role", request.role);
  nlohmann::json parameters = nlohmann::json::object();
  for (const auto& [key, value] : request.parameters) parameters[key] = value;
  if (!request.query_tag.empty()) parameters["query_tag"] = request.query_tag;
  if (request.statements != 1)
    parameters["MULTI_STATEMENT_COUNT"] = std::to_string(request.statements);
  if (!parameters.empty()) body["parameters"] = std::move(parameters);
  for (size_t i = 0; i < request.bindings.size(); ++i) {
    const SqlBinding& binding = request.bindings[i];
    nlohmann::json& out = body["bindings"][std::to_string(i + 1)];
    out["type"] = binding.type;
    out["value"] = binding.value.has_value() ? nlohmann::json(*binding.value) : nullptr;
  }
  return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

SqlClient::~SqlClient() {
  for (auto& [id, running] : running_) session_.Cancel(running->call);
}

ApiCall SqlClient::MakeCall(const Running& running, HttpMethod method, const std::string& path,
                            std::string query) const {
  ApiCall call;
  call.what = running.what;
  call.method = method;
  call.url = account_.base + "/api/v2/statements" + path;
  call.query = std::move(query);
  call.headers = {{"Accept", "application/json"},
                  {"Content-Type", "application/json"},
                  {"User-Agent", options_.user_agent}};
  call.numbering = ApiNumbering::kRetryFlag;
  call.retry = options_.retry;
  call.total = kAttempt;
  call.stall = kAttempt;
  // Here 408 is an answer: the statement took longer than it may, and was ended.
  call.retry_408 = false;
  return call;
}

SqlClient::Id SqlClient::Run(const SqlRequest& request, Done done, Instant now) {
  statements_ += request.statements;
  const Id id = ++last_id_;
  auto running = std::make_unique<Running>();
  running->what = request.what;
  running->done = std::move(done);
  running->statements = request.statements;
  running->on_rows = request.on_rows;
  running->ends_at = now + request.timeout + kSlack;
  ApiCall call = MakeCall(*running, HttpMethod::kPost, "", "");
  call.body = HttpBody::Of(SqlRequestBody(request));
  call.retry.within = request.submit_within.value_or(call.retry.within);
  Running& at = *running_.emplace(id, std::move(running)).first->second;
  at.call = session_.Start(
      std::move(call),
      [this, id](const ApiResult& result, Instant when) { OnAnswer(id, result, when); }, now);
  return id;
}

void SqlClient::Get(Id id, Running& running, const std::string& handle, std::string query,
                    Instant now) {
  running.poll_at = kNever;
  running.call = session_.Start(
      MakeCall(running, HttpMethod::kGet, "/" + PercentEncode(handle), std::move(query)),
      [this, id](const ApiResult& result, Instant when) { OnAnswer(id, result, when); }, now);
}

void SqlClient::OnAnswer(Id id, const ApiResult& result, Instant now) {
  const auto at = running_.find(id);
  if (at == running_.end()) return;
  Running& running = *at->second;
  running.call = 0;
  if (!result.status.ok()) {
    // Once there is a handle, the request was taken.
    SqlOutcome outcome{.status = result.status};
    outcome.outcome_unknown = result.outcome_unknown || !running.handle.empty();
    return Finish(id, std::move(outcome), now);
  }
  const int http = result.response.code;
  std::optional<SqlAnswer> answer = ParseSqlAnswer(result.response.body);
  const bool good = http == 200 || http == 202;
  if (!answer.has_value() && good)
    return Finish(id, {.status = NotUnderstood(running.what, http), .outcome_unknown = true}, now);
  if (!answer.has_value()) {
    answer.emplace();
    answer->message = "an answer that is not JSON";
  }
  if (!good || (http == 200 && !answer->code.empty() && !answer->code.starts_with("09"))) {
    SqlFailure failure{.http = http,
                       .code = std::move(answer->code),
                       .sql_state = std::move(answer->sql_state),
                       .message = std::move(answer->message),
                       .handle = std::move(answer->handle)};
    Status status = SqlError(running.what, failure);
    return Finish(id, {.status = std::move(status), .failure = std::move(failure)}, now);
  }
  if (running.handle.empty()) running.handle = answer->handle;
  if (http == 202) {
    if (running.handle.empty())
      return Finish(id, {.status = NotUnderstood(running.what, http), .outcome_unknown = true},
                    now);
    running.poll_pause = running.poll_pause == Duration::zero()
                             ? options_.poll_first
                             : std::min(options_.poll_most, running.poll_pause * 2);
    running.poll_at = now + running.poll_pause;
    return;
  }
  if (running.partition > 0) return OnPartition(id, running, std::move(*answer), now);
  OnResult(id, running, std::move(*answer), now);
}

void SqlClient::OnResult(Id id, Running& running, SqlAnswer answer, Instant now) {
  // The answer about several statements names them; each has a result of its own.
  if (running.statements != 1 && running.to_fetch.empty() && running.results.empty() &&
      running.fetching.empty() && !answer.statements.empty()) {
    running.to_fetch.assign(answer.statements.rbegin(), answer.statements.rend());
    return FetchNext(id, running, now);
  }
  running.partitions = answer.partitions;
  if (running.fetching.empty()) running.fetching = running.handle;
  running.results.push_back(std::move(answer.result));
  running.partition = 1;
  if (HandOver(id, running, now)) FetchNext(id, running, now);
}

void SqlClient::OnPartition(Id id, Running& running, SqlAnswer answer, Instant now) {
  std::vector<SqlRow>& rows = running.results.back().rows;
  std::move(answer.result.rows.begin(), answer.result.rows.end(), std::back_inserter(rows));
  ++running.partition;
  if (HandOver(id, running, now)) FetchNext(id, running, now);
}

// False: the rows were refused, and that was the end.
bool SqlClient::HandOver(Id id, Running& running, Instant now) {
  if (running.on_rows == nullptr) return true;
  SqlRows& at_hand = running.results.back();
  Status status = running.on_rows(at_hand);
  at_hand.rows.clear();
  if (status.ok()) return true;
  Finish(id, {.status = std::move(status)}, now);
  return false;
}

void SqlClient::FetchNext(Id id, Running& running, Instant now) {
  if (running.partition > 0 && running.partition < running.partitions) {
    return Get(id, running, running.fetching, fmt::format("partition={}", running.partition), now);
  }
  if (running.to_fetch.empty()) {
    SqlOutcome outcome{.results = std::move(running.results)};
    return Finish(id, std::move(outcome), now);
  }
  running.fetching = std::move(running.to_fetch.back());
  running.to_fetch.pop_back();
  running.partition = 0;
  running.partitions = 0;
  Get(id, running, running.fetching, "", now);
}

bool SqlClient::Step(Instant now) {
  bool worked = false;
  for (auto at = running_.begin(); at != running_.end();) {
    const Id id = at->first;
    Running& running = *at->second;
    if (now >= running.ends_at) {
      worked = true;
      session_.Cancel(running.call);
      SendCancel(running, now);
      Finish(id,
             {.status = MakeError(ErrorKind::kTransient, "ETL-D111",
                                  fmt::format("snowflake: {}: no result in time", running.what)),
              .outcome_unknown = true},
             now);
    } else if (now >= running.poll_at) {
      worked = true;
      Get(id, running, running.fetching.empty() ? running.handle : running.fetching, "", now);
    }
    at = running_.upper_bound(id);
  }
  return worked;
}

void SqlClient::Cancel(Id id, Instant now) {
  const auto at = running_.find(id);
  if (at == running_.end()) return;
  session_.Cancel(at->second->call);
  SendCancel(*at->second, now);
  running_.erase(at);
}

void SqlClient::SendCancel(const Running& running, Instant now) {
  if (running.handle.empty()) return;
  ApiCall call =
      MakeCall(running, HttpMethod::kPost, "/" + PercentEncode(running.handle) + "/cancel", "");
  call.what = "cancel " + running.what;
  call.retry.within = kCancelWithin;
  session_.Start(
      std::move(call), [](const ApiResult&, Instant) {}, now);
}

void SqlClient::Finish(Id id, SqlOutcome outcome, Instant now) {
  const auto at = running_.find(id);
  const std::unique_ptr<Running> running = std::move(at->second);
  running_.erase(at);
  running->done(std::move(outcome), now);
}

Instant SqlClient::next_deadline() const {
  Instant by = kNever;
  for (const auto& [id, running] : running_)
    by = std::min({by, running->poll_at, running->ends_at});
  return by;
}

}  // namespace etl
