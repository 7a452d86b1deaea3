#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "destination/snowflake/account.h"
#include "destination/snowflake/channel_client.h"

namespace etl {

/// Snowpipe Streaming (high-performance REST): the channels of one destination. Finds the ingest
/// host through the account, and again when it turns out to be another; asks for the status of all
/// channels of a pipe at once, only while one of them waits for a commit.
///
/// An accepted append is not a commit: only kCommitted events are. Everything accepted, and what
/// was given and not yet sent, is kept in memory until then; the owner bounds it.
///
/// Owned and called by the thread that owns the session. Destroying it abandons what is in flight;
/// channels and what they have committed stay.
class StreamingClient {
 public:
  StreamingClient(StreamingOptions options, SnowflakeAccount account, ApiSession& session);
  ~StreamingClient();

  /// One owner a name, on the whole service: opening takes the channel from whoever had it.
  ChannelId OpenChannel(ChannelAddress address);
  /// May be called before the channel is opened, if the tokens are known to lie past its committed
  /// one. Call only with tokens past all earlier ones.
  void Append(ChannelId channel, StreamBatch batch);
  /// Removes the channel with its token, once all it was given is committed: ends with kDropped.
  void DropChannel(ChannelId channel);
  /// Forgets the channel here; it stays there.
  void CloseChannel(ChannelId channel);
  /// Null once it was closed.
  const ChannelClient* channel(ChannelId channel) const;

  /// After ApiSession::Step. Appends what has happened; true if anything was done. An error
  /// concerns all channels: the host cannot be found.
  Result<bool> Step(Instant now, std::vector<ChannelEvent>& events);
  Instant next_deadline(Instant now) const;

 private:
  // The channels of one pipe, which are asked about together.
  struct Pipe {
    ApiSession::CallId call = 0;
    Instant ask_at{};
    Duration pause{};
  };
  using PipeKey = std::vector<std::string>;                   // database, schema, pipe
  using Asked = std::vector<std::pair<ChannelId, uint64_t>>;  // with the channel's era

  void Discover(Instant now);
  void OnDiscovered(const ApiResult& result, Instant now);
  bool AskForStatus(Instant now);
  void OnStatus(const PipeKey& key, const Asked& asked, const ApiResult& result, Instant now);
  Asked Waiting(const PipeKey& key) const;
  static PipeKey KeyOf(const ChannelAddress& address);

  const StreamingOptions options_;
  const SnowflakeAccount account_;
  StreamingContext context_;
  std::map<ChannelId, std::unique_ptr<ChannelClient>> channels_;
  std::map<PipeKey, Pipe> pipes_;
  ChannelId last_id_ = 0;
  ApiSession::CallId discovery_ = 0;
  Status failed_;
};

}  // namespace etl
