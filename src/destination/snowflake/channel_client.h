#pragma once

#include <compare>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "destination/snowflake/request_window.h"
#include "destination/snowflake/streaming_answer.h"
#include "net/api_session.h"

namespace etl {

/// The full name of a channel; each part exactly as Snowflake stores it.
struct ChannelAddress {
  std::string database;
  std::string schema;
  std::string pipe;  ///< <TABLE>-STREAMING for a table's own
  std::string channel;
  friend auto operator<=>(const ChannelAddress&, const ChannelAddress&) = default;
};

/// Rows for one append: NDJSON, compressed as `encoding` says, at most 4 MB. Tokens have a fixed
/// width and are ordered as text; no token is in two batches.
struct StreamBatch {
  HttpBody body;
  std::string first;
  std::string last;
  int64_t rows = 0;
  std::string encoding;  ///< zstd, gzip, or empty
  int64_t uncompressed_bytes = 0;
  UnixMicros oldest = 0;  ///< when the oldest row came; 0: not sent
};

using ChannelId = uint64_t;

struct ChannelEvent {
  enum class Kind : uint8_t {
    kOpened,     ///< `token` is the last committed one, empty if there is none
    kCommitted,  ///< proved: everything up to `token` is in the table; `batches` were taken off
    kDropped,    ///< it and its token are gone
    kFailed,     ///< `status`; nothing more will come of this channel
  } kind = Kind::kOpened;
  ChannelId channel = 0;
  std::string token;
  size_t batches = 0;
  int64_t rows = 0;
  Status status;
};

struct StreamingOptions {
  std::string user_agent = "etl-stream/1.0";
  RetryOptions retry;                                   ///< of one request
  Duration open_wait = std::chrono::milliseconds(500);  ///< while earlier rows are uncommitted
  Duration open_within = std::chrono::seconds(180);
  Duration status_first = std::chrono::milliseconds(100);  ///< after an append, then growing …
  Duration status_most = std::chrono::seconds(1);          ///< … to this
  size_t status_channels_max = 100;                        ///< of one request
  size_t requests_max = 10;                                ///< a channel, and …
  int64_t bytes_max = 20'000'000;                          ///< uncompressed, a channel, in any …
  Duration requests_window = std::chrono::milliseconds(1050);
  int reopens_max = 5;                               ///< in a row, without a batch being committed
  Duration proof_within = std::chrono::seconds(20);  ///< counters may lag behind the token so long
};

/// What the channels of one StreamingClient share.
struct StreamingContext {
  ApiSession& session;
  const StreamingOptions& options;
  std::string base;         ///< of the ingest host; empty while it is not known
  bool rediscover = false;  ///< a channel met a host that is not the right one any more
  std::vector<ChannelEvent> events;
};

/// One named channel: opened with fail_on_uncommitted_rows, so that nothing buffered is ever
/// discarded; one append in flight, chained by continuation token; the same bytes and request id on
/// each attempt. What was accepted stays here until the service has proved it: committed token at
/// its end, no more row errors than at open, all rows counted. A stale or lost channel is opened
/// again, and its committed token decides what is sent anew.
///
/// Owned by a StreamingClient; pure but for the session it sends through.
class ChannelClient {
 public:
  ChannelClient(ChannelId id, ChannelAddress address, StreamingContext& context);
  ~ChannelClient();
  ChannelClient(const ChannelClient&) = delete;
  ChannelClient& operator=(const ChannelClient&) = delete;

  const ChannelAddress& address() const { return address_; }
  /// In the order of tokens. After kFailed it is ignored.
  void Append(StreamBatch batch) { batches_.push_back(std::move(batch)); }
  /// Waits until everything is committed, then removes the channel. Its token is lost.
  void Drop() { dropping_ = true; }

  bool Step(Instant now);
  Instant next_deadline(Instant now) const;

  /// Whether a status is of use now: also while the next append is on its way, for under steady
  /// changes there always is one.
  bool wants_status() const {
    return (state_ == State::kReady || state_ == State::kAppending) && accepted_ > 0;
  }
  /// Counts openings: a status that was asked for before the last one says nothing.
  uint64_t era() const { return era_; }
  /// `status` is null if the service does not know the channel.
  void OnStatus(const ChannelStatus* status, uint64_t era, Instant now);
  /// The host has changed: everything is begun anew from the committed token.
  void HostChanged(Instant now);
  void Fail(Status status);

  bool finished() const { return state_ == State::kFailed || state_ == State::kDropped; }
  bool ready() const { return state_ == State::kReady; }
  /// When an append given now would be sent, and is best: later while there is a reason to gather
  /// more rows for it. kNever: something has to happen first.
  Instant free_at(Instant now) const;
  size_t batches() const { return batches_.size(); }
  size_t accepted() const { return accepted_; }
  const std::optional<std::string>& committed() const { return committed_; }

 private:
  enum class State : uint8_t {
    kToOpen,
    kOpening,
    kReady,
    kAppending,
    kRemoving,
    kDropped,
    kFailed
  };

  std::string Path(std::string_view prefix, std::string_view suffix) const;
  ApiCall MakeCall(std::string_view verb, HttpMethod method) const;
  /// When the next request may be sent.
  Instant Allowed(Instant now) const;
  void Send(ApiCall call, State state, void (ChannelClient::*then)(const ApiResult&, Instant),
            Instant now);
  void SendOpen(Instant now);
  void SendAppend(Instant now);
  void SendDrop(Instant now);
  void OnOpened(const ApiResult& result, Instant now);
  void OnAppended(const ApiResult& result, Instant now);
  void OnDropped(const ApiResult& result, Instant now);
  void Opened(OpenAnswer answer, Instant now);
  /// Whether `status` is of a channel that was made anew.
  bool IsAnother(const ChannelStatus& status) const;
  /// Takes off what `status` proves; false if the channel failed over it.
  bool Prove(const ChannelStatus& status, size_t most, Instant now);
  void Act(const StreamingError& error, Instant now);
  void Reopen(const std::string& why, Instant at);
  Status Error(ErrorKind kind, std::string_view code, std::string_view what, std::string why,
               std::string_view remedy = {}) const;

  const ChannelId id_;
  const ChannelAddress address_;
  StreamingContext& context_;
  State state_ = State::kToOpen;
  ApiSession::CallId call_ = 0;
  Instant not_before_{};  ///< the next request
  RequestWindow window_;

  std::deque<StreamBatch> batches_;  ///< not proved committed, in order
  size_t accepted_ = 0;              ///< so many at the front were answered with 200
  std::string continuation_token_;
  std::string session_header_;

  bool opened_ = false;  ///< at least once
  uint64_t era_ = 0;
  std::optional<std::string> committed_;  ///< the greatest token known
  int64_t created_on_ms_ = 0;
  int64_t errors_at_open_ = 0;
  int64_t rows_at_open_ = 0;  ///< rows_inserted then
  int64_t rows_proved_ = 0;   ///< since then
  std::optional<Instant> rows_missing_since_;
  std::optional<Instant> opening_since_;
  int reopens_ = 0;
  std::string why_;  ///< it is being opened again
  bool dropping_ = false;
};

}  // namespace etl
