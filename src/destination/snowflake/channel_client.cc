#include "destination/snowflake/channel_client.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/http_url.h"
#include "base/log.h"

namespace etl {
namespace {

// A broken pipe is told by its code, whatever the HTTP code says.
bool IsFinal(const HttpResponse& response) {
  return response.code >= 500 &&
         response.body.find("ERR_PIPE_IN_INVALID_STATE") != std::string::npos;
}

}  // namespace

ChannelClient::ChannelClient(ChannelId id, ChannelAddress address, StreamingContext& context)
    : id_(id),
      address_(std::move(address)),
      context_(context),
      window_(context.options.requests_max, context.options.bytes_max,
              context.options.requests_window) {}

ChannelClient::~ChannelClient() { context_.session.Cancel(call_); }

bool ChannelClient::Step(Instant now) {
  if (finished() || call_ != 0 || context_.base.empty()) return false;
  if (now < Allowed(now)) return false;
  if (state_ == State::kToOpen) {
    SendOpen(now);
  } else if (state_ == State::kReady && accepted_ < batches_.size()) {
    SendAppend(now);
  } else if (state_ == State::kReady && dropping_ && batches_.empty()) {
    SendDrop(now);
  } else {
    return false;
  }
  return true;
}

Instant ChannelClient::next_deadline(Instant now) const {
  const bool waits =
      state_ == State::kToOpen ||
      (state_ == State::kReady && (accepted_ < batches_.size() || (dropping_ && batches_.empty())));
  if (!waits || call_ != 0 || context_.base.empty()) return kNever;
  return Allowed(now);
}

Instant ChannelClient::Allowed(Instant now) const {
  const bool append = state_ == State::kReady && accepted_ < batches_.size();
  const int64_t bytes = append ? batches_[accepted_].uncompressed_bytes : 0;
  return std::max(not_before_, window_.next(now, bytes));
}

Instant ChannelClient::free_at(Instant now) const {
  if (state_ != State::kReady || accepted_ < batches_.size()) return kNever;
  return std::max({not_before_, window_.next(now), window_.paced(now)});
}

std::string ChannelClient::Path(std::string_view prefix, std::string_view suffix) const {
  return fmt::format("{}/v2/streaming{}/databases/{}/schemas/{}/pipes/{}/channels/{}{}",
                     context_.base, prefix, PercentEncode(address_.database),
                     PercentEncode(address_.schema), PercentEncode(address_.pipe),
                     PercentEncode(address_.channel), suffix);
}

ApiCall ChannelClient::MakeCall(std::string_view verb, HttpMethod method) const {
  ApiCall call;
  call.what = fmt::format("{} channel {} of {}", verb, address_.channel, address_.pipe);
  call.host = ApiHost::kIngest;
  call.method = method;
  call.headers = {{"Accept", "application/json"}, {"User-Agent", context_.options.user_agent}};
  call.retry = context_.options.retry;
  call.is_final = &IsFinal;
  return call;
}

void ChannelClient::Send(ApiCall call, State state,
                         void (ChannelClient::*then)(const ApiResult&, Instant), Instant now) {
  const bool append = state == State::kAppending;
  window_.Sent(now, append ? batches_[accepted_].uncompressed_bytes : 0);
  state_ = state;
  call_ = context_.session.Start(
      std::move(call),
      [this, then](const ApiResult& result, Instant when) {
        call_ = 0;
        window_.Answered(when);
        (this->*then)(result, when);
      },
      now);
}

void ChannelClient::SendOpen(Instant now) {
  if (!opening_since_.has_value()) opening_since_ = now;
  ApiCall call = MakeCall("open", HttpMethod::kPut);
  call.url = Path("", "");
  call.headers.push_back({"Content-Type", "application/json"});
  call.body = HttpBody::Of(R"({"fail_on_uncommitted_rows":true})");
  Send(std::move(call), State::kOpening, &ChannelClient::OnOpened, now);
}

void ChannelClient::OnOpened(const ApiResult& result, Instant now) {
  state_ = State::kToOpen;
  if (!result.status.ok()) return Fail(result.status);
  if (result.response.code != 200 && result.response.code != 201)
    return Act(ParseStreamingError(result.response.code, result.response.body), now);
  std::optional<OpenAnswer> answer = ParseOpenAnswer(result.response.body);
  if (!answer.has_value()) {
    return Fail(
        Error(ErrorKind::kTransient, "ETL-D113", "its answer to being opened cannot be read", {}));
  }
  if (!answer->status.usable() || answer->continuation_token.empty()) {
    return Fail(Error(ErrorKind::kTransient, "ETL-D108", "it is not usable",
                      fmt::format("status {}", EscapeControl(answer->status.code))));
  }
  Opened(std::move(*answer), now);
}

void ChannelClient::Opened(OpenAnswer answer, Instant now) {
  const ChannelStatus& status = answer.status;
  opening_since_.reset();
  session_header_.clear();
  if (!opened_) {
    opened_ = true;
    committed_ = status.committed;
    created_on_ms_ = status.created_on_ms;
    errors_at_open_ = status.rows_error_count;
  } else if (!Prove(status, batches_.size(), now)) {
    return;
  } else if (status.committed.value_or("") > committed_.value_or("")) {
    committed_ = status.committed;
  }
  ++era_;
  // Everything that was accepted is committed now (fail_on_uncommitted_rows); the rest goes again.
  accepted_ = 0;
  rows_at_open_ = status.rows_inserted;
  rows_proved_ = 0;
  rows_missing_since_.reset();
  if (!batches_.empty() && committed_.has_value() && batches_.front().first <= *committed_) {
    return Fail(Error(ErrorKind::kTransient, "ETL-D108", "a batch is committed in part",
                      "it is sent anew from the committed token"));
  }
  continuation_token_ = std::move(answer.continuation_token);
  state_ = State::kReady;
  ChannelEvent event{.kind = ChannelEvent::Kind::kOpened, .channel = id_};
  event.token = committed_.value_or("");
  context_.events.push_back(std::move(event));
}

void ChannelClient::SendAppend(Instant now) {
  const StreamBatch& batch = batches_[accepted_];
  ApiCall call = MakeCall("append to", HttpMethod::kPost);
  call.url = Path("/data", "/rows");
  call.query = fmt::format("startOffsetToken={}&endOffsetToken={}&continuationToken={}",
                           PercentEncode(batch.first), PercentEncode(batch.last),
                           PercentEncode(continuation_token_));
  call.headers.push_back({"Content-Type", "application/x-ndjson"});
  if (!batch.encoding.empty()) {
    call.headers.push_back({"Content-Encoding", batch.encoding});
    call.headers.push_back(
        {"x-snowflake-uncompressed-content-length", std::to_string(batch.uncompressed_bytes)});
  }
  if (batch.oldest > 0) {
    call.headers.push_back(
        {"x-snowflake-min-append-timestamp-ms", std::to_string(batch.oldest / 1000)});
  }
  if (!session_header_.empty()) call.headers.push_back({"x-snowflake-session", session_header_});
  call.body = batch.body;
  Send(std::move(call), State::kAppending, &ChannelClient::OnAppended, now);
}

void ChannelClient::OnAppended(const ApiResult& result, Instant now) {
  state_ = State::kReady;
  if (!result.status.ok()) return Fail(result.status);
  const int code = result.response.code;
  if (code != 200 && code != 201) return Act(ParseStreamingError(code, result.response.body), now);
  StreamingError error;
  std::optional<std::string> next = ParseAppendAnswer(result.response.body, error);
  if (!next.has_value()) {
    // A success without a token leaves nothing to chain to: opening again shows what came of it.
    return error.status_code.value_or(0) != 0
               ? Act(error, now)
               : Reopen("an append was answered without a token", now);
  }
  continuation_token_ = std::move(*next);
  session_header_ = std::string(result.response.Header("x-snowflake-session"));
  ++accepted_;
}

void ChannelClient::SendDrop(Instant now) {
  ApiCall call = MakeCall("drop", HttpMethod::kDelete);
  call.url = Path("", "");
  Send(std::move(call), State::kRemoving, &ChannelClient::OnDropped, now);
}

void ChannelClient::OnDropped(const ApiResult& result, Instant now) {
  state_ = State::kReady;
  if (!result.status.ok()) return Fail(result.status);
  const int code = result.response.code;
  if (code == 200 || code == 201 || code == 202 || code == 204 || code == 404) {
    state_ = State::kDropped;
    ChannelEvent event{.kind = ChannelEvent::Kind::kDropped, .channel = id_};
    context_.events.push_back(std::move(event));
    return;
  }
  Act(ParseStreamingError(code, result.response.body), now);
}

void ChannelClient::OnStatus(const ChannelStatus* status, uint64_t era, Instant now) {
  if (era != era_ || (state_ != State::kReady && state_ != State::kAppending)) return;
  // Opening it says for certain whether it is another one.
  if (status == nullptr || !status->usable() || IsAnother(*status)) {
    if (state_ == State::kReady) Reopen("the service does not know it any more", now);
    return;
  }
  // One in flight stays until it is answered, even if it is committed by now.
  Prove(*status, accepted_, now);
}

bool ChannelClient::IsAnother(const ChannelStatus& status) const {
  return (created_on_ms_ != 0 && status.created_on_ms != 0 &&
          status.created_on_ms != created_on_ms_) ||
         status.committed.value_or("") < committed_.value_or("") ||
         status.rows_error_count < errors_at_open_;
}

bool ChannelClient::Prove(const ChannelStatus& status, size_t most, Instant now) {
  if (status.rows_error_count > errors_at_open_) {
    Fail(
        Error(ErrorKind::kData, "ETL-D112",
              fmt::format("{} rows were rejected, at or before {}",
                          status.rows_error_count - errors_at_open_, status.last_error_token),
              EscapeControl(status.last_error_message),
              "SELECT * FROM ERROR_TABLE(<landing table>) shows them; nothing past the last proved "
              "position was confirmed to the source"));
    return false;
  }
  if (IsAnother(status)) {
    Fail(Error(ErrorKind::kTransient, "ETL-D108", "it is not the channel that it was",
               "it was dropped, or made anew; work goes on from what the table holds"));
    return false;
  }
  int64_t rows = 0;
  size_t count = 0;
  while (count < batches_.size() && status.committed.has_value() &&
         batches_[count].last <= *status.committed) {
    if (count < most) rows += batches_[count].rows;
    ++count;
  }
  count = std::min(count, most);
  if (count == 0) return true;
  if (status.rows_inserted < rows_at_open_ + rows_proved_ + rows) {
    if (!rows_missing_since_.has_value()) rows_missing_since_ = now;
    if (now - *rows_missing_since_ < context_.options.proof_within && state_ != State::kToOpen)
      return true;
    Fail(Error(ErrorKind::kData, "ETL-D112", "rows are missing though their token is committed",
               fmt::format("{} of {} rows are counted", status.rows_inserted - rows_at_open_,
                           rows_proved_ + rows),
               "look at the pipe of the landing table"));
    return false;
  }
  rows_missing_since_.reset();
  rows_proved_ += rows;
  reopens_ = 0;
  committed_ = batches_[count - 1].last;
  batches_.erase(batches_.begin(), batches_.begin() + static_cast<ptrdiff_t>(count));
  accepted_ -= std::min(accepted_, count);
  ChannelEvent event{.kind = ChannelEvent::Kind::kCommitted, .channel = id_};
  event.token = *committed_;
  event.batches = count;
  event.rows = rows;
  context_.events.push_back(std::move(event));
  return true;
}

void ChannelClient::Act(const StreamingError& error, Instant now) {
  const ChannelClient::State before = state_;
  switch (ActionFor(error)) {
    // Not as it was: the session keeps a request's id only while it retries. Opening shows where we
    // are.
    case StreamingAction::kRetry: return Reopen(error.Words(), now + context_.options.open_wait);
    case StreamingAction::kReopen: return Reopen(error.Words(), now);
    case StreamingAction::kRediscover:
      context_.rediscover = true;
      return Reopen(error.Words(), now);
    case StreamingAction::kWait:
      why_ = error.Words();
      not_before_ = now + context_.options.open_wait;
      // Rows sent before are committed within seconds; discarding them is never asked for.
      if (before != State::kToOpen || now - *opening_since_ < context_.options.open_within) return;
      return Fail(
          Error(ErrorKind::kTransient, "ETL-D108", "its earlier rows do not get committed", why_));
    case StreamingAction::kFenced:
      return Fail(Error(ErrorKind::kBusy, "ETL-D107", "somebody else has opened it", error.Words(),
                        "a pipeline has one runner: end the other one"));
    case StreamingAction::kTooLarge:
      return Fail(Error(ErrorKind::kData, "ETL-D109", "a request is too large", error.Words()));
    case StreamingAction::kDenied:
      return Fail(Error(ErrorKind::kAuth, "ETL-D104", "not authorised", error.Words(),
                        "etl-stream check --fix-sql"));
    case StreamingAction::kMissing:
      return Fail(Error(ErrorKind::kSchema, "ETL-D106",
                        "its pipe or table is missing, broken, or may not be seen", error.Words(),
                        "etl-stream check --fix-sql"));
    case StreamingAction::kRefused:
      return Fail(Error(ErrorKind::kInternal, "ETL-D113", "a request was refused", error.Words()));
  }
}

void ChannelClient::Reopen(const std::string& why, Instant at) {
  if (finished()) return;
  why_ = why;
  if (++reopens_ > context_.options.reopens_max) {
    return Fail(Error(ErrorKind::kTransient, "ETL-D108",
                      fmt::format("it was opened {} times in a row, to no avail", reopens_), why));
  }
  LogInfo("a channel is opened again",
          {{"channel", address_.channel}, {"pipe", address_.pipe}, {"why", why}});
  state_ = State::kToOpen;
  not_before_ = reopens_ == 1 ? at : at + context_.options.open_wait * reopens_;
}

void ChannelClient::HostChanged(Instant now) {
  if (finished() || state_ == State::kToOpen) return;
  context_.session.Cancel(std::exchange(call_, 0));
  state_ = State::kToOpen;
  not_before_ = now;
}

void ChannelClient::Fail(Status status) {
  if (finished()) return;
  context_.session.Cancel(std::exchange(call_, 0));
  state_ = State::kFailed;
  batches_.clear();
  accepted_ = 0;
  ChannelEvent event{.kind = ChannelEvent::Kind::kFailed, .channel = id_};
  event.status = std::move(status);
  context_.events.push_back(std::move(event));
}

Status ChannelClient::Error(ErrorKind kind, std::string_view code, std::string_view what,
                            std::string why, std::string_view remedy) const {
  return MakeError(kind, ErrorParts{.code = std::string(code),
                                    .what = fmt::format("snowflake: channel {} of {}: {}",
                                                        address_.channel, address_.pipe, what),
                                    .why = std::move(why),
                                    .safe = {},
                                    .remedy = std::string(remedy)});
}

}  // namespace etl
