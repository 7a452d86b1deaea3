#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "postgres/connection.h"
#include "postgres/wal_stream.h"

namespace etl {

/// Code of a (kTransient) error; see StreamOptions::streaming.
inline constexpr std::string_view kOpenTransactionFailed = "ETL-S221";

struct StreamOptions {
  std::string slot;
  bool temporary = false;  ///< `slot` is created first, and goes with the stream
  std::vector<std::string> publications;
  Lsn start;  ///< the stored position P (rule 2.3); transactions below it are not sent
  bool binary = false;
  int protocol = 0;  ///< 0: the newest that server and we know
  /// Send transactions that are still in progress. A failure of the server that may come from it is
  /// kOpenTransactionFailed: without it the transaction can be had after its commit.
  bool streaming = false;
  bool messages = true;
};

/// The status is sent every 10 s at least. A shorter limit of the server would end the stream, and
/// before version 16 a long stretch of skipped WAL does, because nothing is read in it: raises
/// wal_sender_timeout for this session.
Status RaiseSenderTimeout(PgConnection& connection, Instant deadline);

/// `slot` streaming on a replication connection of its own (libpq).
///
/// While changes flow, Next leaves the socket alone for a moment after it ran dry: PostgreSQL sends
/// one message a system call, and taking them one by one would cost both sides several times as
/// much.
class LibpqWalStream : public WalStream {
 public:
  /// Connects and starts the stream; waits no longer than `deadline`.
  static Result<std::unique_ptr<LibpqWalStream>> Make(const SourceOptions& source,
                                                      const StreamOptions& options,
                                                      Instant deadline);
  ~LibpqWalStream() override;

  Result<std::optional<std::string_view>> Next(Instant now) override;
  Status SendStatus(Lsn received, Lsn flushed, bool request_reply) override;
  Instant LookAgainBy(Instant now) override;
  void AddPollFds(std::vector<pollfd>& fds) override;
  void Close(Lsn received, Lsn flushed, Instant deadline) override;

  int protocol() const { return protocol_; }

 private:
  explicit LibpqWalStream(std::string slot) : what_("stream slot \"" + std::move(slot) + "\"") {}
  Status TryFlush();
  Status EndOfStream();
  void FreeFrame();

  std::string what_;
  std::unique_ptr<PgConnection> connection_;
  int protocol_ = 1;
  bool streaming_ = false;
  char* frame_ = nullptr;

  Lsn received_;
  Lsn flushed_;
  bool reply_ = false;
  bool status_waiting_ = false;  ///< a status that libpq had no room for
  bool unsent_ = false;          ///< libpq holds bytes for the socket

  bool dry_ = true;          ///< Next gave nothing the last time
  int64_t burst_bytes_ = 0;  ///< received since Next last ran dry
  Instant dry_since_{};      ///< when it last did
  Instant nap_until_{};      ///< the socket is left alone until then
};

}  // namespace etl
