#include "postgres/libpq_wal_stream.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <libpq-fe.h>

#include "postgres/server_error.h"
#include "postgres/slot_creation.h"

namespace etl {
namespace {

using std::chrono::microseconds;

// As much as is worth a wake-up while changes flow, and the bounds of the pause to let it gather.
// A wake-up for a number of bytes (SO_RCVLOWAT) would be dearer: until they are there, the kernel
// acknowledges every few messages, and each acknowledgement lets the server send the next ones
// singly instead of gathering them, too.
constexpr int kGatherBytes = 128 * 1024;
constexpr Duration kShortestNap = microseconds(200);
constexpr Duration kLongestNap = microseconds(700);

// 2000-01-01 in Unix microseconds.
constexpr int64_t kPostgresEpoch = 946684800000000;

void PutU64(char* at, uint64_t value) {
  for (int i = 7; i >= 0; --i) {
    at[i] = static_cast<char>(value & 0xff);
    value >>= 8;
  }
}

std::array<char, 34> EncodeStatus(Lsn received, Lsn flushed, bool request_reply) {
  std::array<char, 34> message{};
  message[0] = 'r';
  PutU64(&message[1], received.value);
  PutU64(&message[9], flushed.value);
  PutU64(&message[17], flushed.value);
  PutU64(&message[25], static_cast<uint64_t>(SystemClock().WallNow() - kPostgresEpoch));
  message[33] = request_reply ? 1 : 0;
  return message;
}

int NewestProtocol(int server_version) {
  if (server_version >= 160000) return 4;
  return server_version >= 150000 ? 3 : 2;
}

std::string StartCommand(const StreamOptions& options, int protocol) {
  std::string names;
  for (const std::string& name : options.publications) {
    if (!names.empty()) names += ',';
    names += QuoteIdentifier(name);
  }
  // In replication commands a literal knows no backslash escapes; only the quote is doubled.
  std::string quoted = "'";
  for (char c : names) {
    if (c == '\'') quoted += c;
    quoted += c;
  }
  quoted += '\'';
  std::string command =
      fmt::format("START_REPLICATION SLOT {} LOGICAL {} (proto_version '{}', publication_names {}",
                  QuoteIdentifier(options.slot), FormatLsn(options.start), protocol, quoted);
  if (options.binary) command += ", binary 'true'";
  if (options.messages) command += ", messages 'true'";
  if (options.streaming) command += ", streaming 'on'";
  return command + ")";
}

/// The server decodes changes of a subtransaction although it has been rolled back meanwhile. If
/// that one changed a table's definition, its catalog entries can be gone by then: "could not map
/// filenode …", and it may be the same again at each attempt.
Status OpenTransactionFailed(const Status& failed) {
  ErrorParts parts = PartsOf(failed);
  parts.code = kOpenTransactionFailed;
  parts.safe = "nothing is lost: what is open now is received after its commit";
  return MakeError(ErrorKind::kTransient, std::move(parts));
}

}  // namespace

Status RaiseSenderTimeout(PgConnection& connection, Instant deadline) {
  ETL_ASSIGN_OR_RETURN(
      const PgResult shown,
      connection.Query("SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'",
                       deadline));
  const int64_t current = shown.rows() == 0 ? 0 : shown.Int(0, 0);
  int64_t wanted = connection.server_version() < 160000 ? 300000 : 60000;
  // Without a limit the server looks for our answer after every single change; a day is as good.
  if (current == 0) wanted = 24 * 3600 * 1000;
  if (current >= wanted) return Status::OK();
  return connection.Query(fmt::format("SET wal_sender_timeout = {}", wanted), deadline).status();
}

Result<std::unique_ptr<LibpqWalStream>> LibpqWalStream::Make(const SourceOptions& source,
                                                             const StreamOptions& options,
                                                             Instant deadline) {
  std::unique_ptr<LibpqWalStream> stream(new LibpqWalStream(options.slot));
  ETL_ASSIGN_OR_RETURN(stream->connection_,
                       PgConnection::Connect(source, PgConnection::Mode::kReplication, deadline));
  PgConnection& connection = *stream->connection_;
  ETL_RETURN_IF_ERROR(RaiseSenderTimeout(connection, deadline));
  if (options.temporary) {
    // It goes with the session that made it, so the stream is started in the same one.
    const Status created = CreateTemporarySlot(connection, options.slot, deadline, nullptr);
    if (!created.ok()) return WithContext(LaterMayWork(created), "create a temporary slot");
  }
  const int newest = NewestProtocol(connection.server_version());
  stream->protocol_ = options.protocol == 0 ? newest : std::min(options.protocol, newest);
  stream->streaming_ = options.streaming;
  ETL_RETURN_IF_ERROR(connection.Send(StartCommand(options, stream->protocol_)));
  while (true) {
    ETL_ASSIGN_OR_RETURN(const std::optional<PgResult> result, connection.Poll());
    if (result) {
      ETL_RETURN_IF_ERROR(StatementStatus(*result, stream->what_));
      if (PQresultStatus(result->get()) == PGRES_COPY_BOTH) break;
      return MakeError(ErrorKind::kInternal, "ETL-S199",
                       stream->what_ + ": the server did not start a stream");
    }
    if (SystemClock().Now() >= deadline || !connection.busy()) {
      return MakeError(ErrorKind::kTransient, "ETL-S204",
                       stream->what_ + ": the server did not start in time");
    }
    std::vector<pollfd> fds;
    connection.AddPollFds(fds);
    WaitFor(fds, deadline);
  }
  return stream;
}

LibpqWalStream::~LibpqWalStream() { FreeFrame(); }

void LibpqWalStream::FreeFrame() {
  if (frame_ != nullptr) PQfreemem(frame_);
  frame_ = nullptr;
}

Result<std::optional<std::string_view>> LibpqWalStream::Next(Instant now) {
  FreeFrame();
  if (connection_ == nullptr) {
    return MakeError(ErrorKind::kTransient, "ETL-S204", what_ + ": the stream is closed");
  }
  if (status_waiting_ || unsent_) ETL_RETURN_IF_ERROR(TryFlush());
  if (dry_ && now < nap_until_) return std::nullopt;
  PGconn* handle = connection_->handle();
  for (bool looked = false;; looked = true) {
    const int size = PQgetCopyData(handle, &frame_, 1);
    dry_ = size == 0;
    if (size > 0) {
      burst_bytes_ += size;
      return std::optional<std::string_view>(std::string_view(frame_, static_cast<size_t>(size)));
    }
    if (size == -1) return EndOfStream();
    if (size < -1) return MapConnectionLost(handle, what_);
    if (looked) return std::nullopt;
    if (PQconsumeInput(handle) != 1) return MapConnectionLost(handle, what_);
  }
}

Status LibpqWalStream::EndOfStream() {
  // Errors of the server, too, end the copy first.
  Status status =
      MakeError(ErrorKind::kTransient, "ETL-S204", what_ + ": the server ended the stream");
  while (PGresult* raw = PQgetResult(connection_->handle())) {
    const PgResult result(raw);
    if (const Status failed = StatementStatus(result, what_); !failed.ok()) {
      const std::string code = PartsOf(failed).code;
      const bool undecodable = code == "ETL-S199" || code == "ETL-S207";
      return streaming_ && undecodable ? OpenTransactionFailed(failed) : failed;
    }
    if (PQresultStatus(raw) == PGRES_COPY_BOTH || PQresultStatus(raw) == PGRES_COPY_IN) break;
  }
  return status;
}

Status LibpqWalStream::SendStatus(Lsn received, Lsn flushed, bool request_reply) {
  received_ = std::max(received_, received);
  flushed_ = std::max(flushed_, flushed);
  reply_ |= request_reply;
  status_waiting_ = true;
  if (connection_ == nullptr) return Status::OK();
  return TryFlush();
}

Status LibpqWalStream::TryFlush() {
  PGconn* handle = connection_->handle();
  if (status_waiting_) {
    const auto message = EncodeStatus(std::max(received_, flushed_), flushed_, reply_);
    const int put = PQputCopyData(handle, message.data(), static_cast<int>(message.size()));
    if (put < 0) return MapConnectionLost(handle, what_);
    if (put == 1) {
      status_waiting_ = false;
      reply_ = false;
    }
  }
  const int left = PQflush(handle);
  if (left < 0) return MapConnectionLost(handle, what_);
  unsent_ = left > 0;
  return Status::OK();
}

Instant LibpqWalStream::LookAgainBy(Instant now) {
  if (!dry_) return now;
  if (now < nap_until_) return nap_until_;
  if (burst_bytes_ == 0) {
    nap_until_ = Instant{};
    dry_since_ = now;
    return kNever;
  }
  // Long enough for about 128 KiB at the rate of the last burst, within the bounds.
  const auto elapsed = std::max<Duration>(now - dry_since_, microseconds(1));
  const double nap =
      static_cast<double>(elapsed.count()) * kGatherBytes / static_cast<double>(burst_bytes_);
  const double longest = static_cast<double>(kLongestNap.count());
  Duration pause = std::max(kShortestNap, Duration(static_cast<int64_t>(std::min(nap, longest))));
  // The first change after a quiet time tells nothing about the rate.
  if (nap_until_ == Instant{}) pause = kShortestNap;
  burst_bytes_ = 0;
  dry_since_ = now;
  nap_until_ = now + pause;
  return nap_until_;
}

void LibpqWalStream::AddPollFds(std::vector<pollfd>& fds) {
  if (connection_ == nullptr) return;
  short events = 0;
  if (nap_until_ == Instant{}) events |= POLLIN;
  if (status_waiting_ || unsent_) events |= POLLOUT;
  if (events == 0) return;
  fds.push_back(pollfd{.fd = PQsocket(connection_->handle()), .events = events, .revents = 0});
}

void LibpqWalStream::Close(Lsn received, Lsn flushed, Instant deadline) {
  if (connection_ == nullptr) return;
  PGconn* handle = connection_->handle();
  FreeFrame();
  // In the middle of a big transaction the server goes on sending it: then it is quicker to hang
  // up.
  deadline = std::min<Instant>(deadline, SystemClock().Now() + std::chrono::seconds(1));
  bool open = SendStatus(received, flushed, false).ok() && PQputCopyEnd(handle, nullptr) == 1;
  while (open && SystemClock().Now() < deadline) {
    if (!TryFlush().ok()) break;
    const int size = PQgetCopyData(handle, &frame_, 1);
    if (size < 0) break;
    if (size > 0) {
      FreeFrame();
      continue;
    }
    nap_until_ = Instant{};
    std::vector<pollfd> fds;
    AddPollFds(fds);
    WaitFor(fds, deadline);
    open = PQconsumeInput(handle) == 1;
  }
  connection_.reset();
}

}  // namespace etl
