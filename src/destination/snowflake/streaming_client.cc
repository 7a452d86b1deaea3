#include "destination/snowflake/streaming_client.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/log.h"

namespace etl {

StreamingClient::StreamingClient(StreamingOptions options, SnowflakeAccount account,
                                 ApiSession& session)
    : options_(std::move(options)),
      account_(std::move(account)),
      context_{.session = session, .options = options_} {}

StreamingClient::~StreamingClient() {
  context_.session.Cancel(discovery_);
  for (auto& [key, pipe] : pipes_) context_.session.Cancel(pipe.call);
}

StreamingClient::PipeKey StreamingClient::KeyOf(const ChannelAddress& address) {
  return {address.database, address.schema, address.pipe};
}

ChannelId StreamingClient::OpenChannel(ChannelAddress address) {
  const ChannelId id = ++last_id_;
  pipes_[KeyOf(address)];
  channels_.emplace(id, std::make_unique<ChannelClient>(id, std::move(address), context_));
  return id;
}

void StreamingClient::Append(ChannelId channel, StreamBatch batch) {
  const auto at = channels_.find(channel);
  if (at != channels_.end() && !at->second->finished()) at->second->Append(std::move(batch));
}

void StreamingClient::DropChannel(ChannelId channel) {
  if (const auto at = channels_.find(channel); at != channels_.end()) at->second->Drop();
}

void StreamingClient::CloseChannel(ChannelId channel) { channels_.erase(channel); }

const ChannelClient* StreamingClient::channel(ChannelId channel) const {
  const auto at = channels_.find(channel);
  return at == channels_.end() ? nullptr : at->second.get();
}

Result<bool> StreamingClient::Step(Instant now, std::vector<ChannelEvent>& events) {
  bool worked = false;
  if (context_.rediscover && discovery_ == 0) {
    context_.rediscover = false;
    context_.base.clear();
  }
  if (context_.base.empty() && discovery_ == 0 && failed_.ok() && !channels_.empty()) {
    Discover(now);
    worked = true;
  }
  for (auto& [id, channel] : channels_) worked = channel->Step(now) || worked;
  worked = AskForStatus(now) || worked;
  worked = worked || !context_.events.empty();
  std::move(context_.events.begin(), context_.events.end(), std::back_inserter(events));
  context_.events.clear();
  ETL_RETURN_IF_ERROR(std::exchange(failed_, Status::OK()));
  return worked;
}

void StreamingClient::Discover(Instant now) {
  ApiCall call;
  call.what = "find the streaming host";
  call.url = account_.base + "/v2/streaming/hostname";
  call.headers = {{"Accept", "application/json"}, {"User-Agent", options_.user_agent}};
  call.retry = options_.retry;
  discovery_ = context_.session.Start(
      std::move(call),
      [this](const ApiResult& result, Instant when) {
        discovery_ = 0;
        OnDiscovered(result, when);
      },
      now);
}

void StreamingClient::OnDiscovered(const ApiResult& result, Instant now) {
  if (!result.status.ok()) {
    failed_ = result.status;
    return;
  }
  if (result.response.code != 200) {
    const StreamingError error = ParseStreamingError(result.response.code, result.response.body);
    const bool denied = error.http == 403;
    failed_ =
        MakeError(denied ? ErrorKind::kAuth : ErrorKind::kTransient,
                  ErrorParts{.code = denied ? "ETL-D104" : "ETL-D113",
                             .what = "snowflake: the account does not say which host takes rows",
                             .why = error.Words(),
                             .safe = {},
                             .remedy = "look at account and url"});
    return;
  }
  const Result<IngestHost> host = ParseIngestHost(account_, result.response.body);
  if (!host.ok()) {
    failed_ = host.status();
    return;
  }
  LogInfo("the streaming host was found", {{"host", host->base}});
  context_.session.tokens().SetIngestHost(host->scope);
  context_.base = host->base;
  for (auto& [id, channel] : channels_) channel->HostChanged(now);
}

StreamingClient::Asked StreamingClient::Waiting(const PipeKey& key) const {
  Asked ids;
  for (const auto& [id, channel] : channels_) {
    if (channel->wants_status() && KeyOf(channel->address()) == key)
      ids.emplace_back(id, channel->era());
  }
  return ids;
}

bool StreamingClient::AskForStatus(Instant now) {
  if (context_.base.empty()) return false;
  bool worked = false;
  for (auto& [key, pipe] : pipes_) {
    if (pipe.call != 0) continue;
    Asked asked = Waiting(key);
    if (asked.empty()) {
      pipe.pause = Duration::zero();
      continue;
    }
    if (pipe.pause == Duration::zero()) {
      pipe.pause = options_.status_first;
      pipe.ask_at = now + pipe.pause;
    }
    if (now < pipe.ask_at) continue;
    if (asked.size() > options_.status_channels_max) asked.resize(options_.status_channels_max);
    nlohmann::json names = nlohmann::json::array();
    for (const auto& [id, era] : asked) names.push_back(channels_.at(id)->address().channel);
    ApiCall call;
    call.what = fmt::format("status of the channels of {}", key[2]);
    call.host = ApiHost::kIngest;
    call.method = HttpMethod::kPost;
    call.url = fmt::format("{}/v2/streaming/databases/{}/schemas/{}/pipes/{}:bulk-channel-status",
                           context_.base, PercentEncode(key[0]), PercentEncode(key[1]),
                           PercentEncode(key[2]));
    call.headers = {{"Accept", "application/json"},
                    {"Content-Type", "application/json"},
                    {"User-Agent", options_.user_agent}};
    call.retry = options_.retry;
    call.body = HttpBody::Of(nlohmann::json{{"channel_names", std::move(names)}}.dump());
    pipe.call = context_.session.Start(
        std::move(call),
        [this, at = key, asked](const ApiResult& result, Instant when) {
          pipes_.at(at).call = 0;
          OnStatus(at, asked, result, when);
        },
        now);
    worked = true;
  }
  return worked;
}

void StreamingClient::OnStatus(const PipeKey& key, const Asked& asked, const ApiResult& result,
                               Instant now) {
  Pipe& pipe = pipes_.at(key);
  pipe.pause = std::min(options_.status_most, pipe.pause * 3 / 2);
  std::map<std::string, ChannelStatus> statuses;
  Status failure = result.status;
  if (failure.ok() && result.response.code == 200) {
    auto parsed = ParseStatusAnswer(result.response.body);
    if (parsed.has_value()) {
      statuses = std::move(*parsed);
    } else {
      failure = MakeError(ErrorKind::kTransient, "ETL-D113",
                          "snowflake: the status of channels cannot be read");
    }
  } else if (failure.ok()) {
    // Opening says more about what is wrong than the status does: every channel is treated as lost.
    const StreamingError error = ParseStreamingError(result.response.code, result.response.body);
    if (ActionFor(error) == StreamingAction::kRediscover) context_.rediscover = true;
    LogWarn("the status of channels was refused", {{"pipe", key[2]}, {"why", error.Words()}});
  }
  for (const auto& [id, era] : asked) {
    const auto at = channels_.find(id);
    if (at == channels_.end()) continue;
    if (!failure.ok()) {
      at->second->Fail(failure);
      continue;
    }
    const auto status = statuses.find(at->second->address().channel);
    const size_t before = at->second->batches();
    at->second->OnStatus(status == statuses.end() ? nullptr : &status->second, era, now);
    // What moves is asked about soon again.
    if (at->second->batches() < before) pipe.pause = options_.status_first;
  }
  pipe.ask_at = now + pipe.pause;
}

Instant StreamingClient::next_deadline(Instant now) const {
  Instant by = kNever;
  for (const auto& [id, channel] : channels_) by = std::min(by, channel->next_deadline(now));
  for (const auto& [key, pipe] : pipes_) {
    if (pipe.call == 0 && pipe.pause != Duration::zero() && !context_.base.empty())
      by = std::min(by, pipe.ask_at);
  }
  return by;
}

}  // namespace etl
