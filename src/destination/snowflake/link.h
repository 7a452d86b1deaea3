#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "destination/snowflake/request_body.h"
#include "destination/snowflake/sql_client.h"
#include "destination/snowflake/streaming_client.h"
#include "net/curl_http_client.h"

namespace etl {

struct LinkOptions {
  SqlClientOptions sql;
  StreamingOptions streaming;
};

/// All I/O of one destination with its account: one HTTP client, one pair of tokens, one breaker;
/// channels and statements on top. Owned and called by one thread.
class SnowflakeLink {
 public:
  /// Reads the key.
  static Result<std::unique_ptr<SnowflakeLink>> Make(const SnowflakeConfig& config, KeyOrigin key,
                                                     const Clock& clock, LinkOptions options = {});

  /// Does what can be done now; true if anything was. An error concerns everything.
  Result<bool> Step(Instant now, std::vector<ChannelEvent>& events);
  Instant next_deadline(Instant now) const;
  void AddPollFds(std::vector<pollfd>& fds) { session_.AddPollFds(fds); }
  /// Sleeps until something may have come, at most until `by`.
  void Wait(Instant by);

  /// One statement with the configured role and warehouse.
  SqlRequest Request(std::string what, std::string sql) const;
  /// Several, one after the other until one fails.
  SqlRequest Request(std::string what, const std::vector<std::string>& sql) const;
  /// Runs it, and waits. Events of channels that come meanwhile go to `events`.
  SqlOutcome RunAndWait(const SqlRequest& request, std::vector<ChannelEvent>& events);

  SqlClient& sql() { return sql_; }
  StreamingClient& streaming() { return streaming_; }
  /// Any thread: waits end, now and from now on.
  void Interrupt();
  bool interrupted() const { return interrupted_.load() || (stop_ != nullptr && stop_->load()); }
  /// While a pipeline starts: a server that cannot be reached is given up soon, for whoever started
  /// it tries again, and waits end once `stop` is set.
  void BeginStart(const std::atomic<bool>* stop);
  void EndStart();
  /// Waits end once `stop` is set; may be null. With the patience of a pipeline that runs.
  void StopWith(const std::atomic<bool>* stop) { stop_ = stop; }
  static Status Interrupted();

 private:
  SnowflakeLink(const SnowflakeConfig& config, SnowflakeAccount account, KeyOrigin key,
                const Clock& clock, LinkOptions options);

  const SnowflakeConfig config_;
  const SnowflakeAccount account_;
  const Clock& clock_;
  CurlHttpClient http_;
  TokenSource tokens_;
  ApiSession session_;
  SqlClient sql_;
  StreamingClient streaming_;
  std::atomic<bool> interrupted_ = false;
  bool starting_ = false;
  const std::atomic<bool>* stop_ = nullptr;
};

/// A body of rows as one append of a channel; its positions are the offset tokens.
StreamBatch BatchOf(RequestBody body);

}  // namespace etl
