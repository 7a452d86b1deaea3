#include "postgres/server_error.h"

#include <array>

#include <libpq-fe.h>

namespace etl {
namespace {

bool Has(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

bool StartsWith(std::string_view text, std::string_view part) { return text.starts_with(part); }

Status Error(ErrorKind kind, std::string_view code, std::string_view what, std::string_view why,
             std::string_view remedy = {}) {
  return MakeError(kind, ErrorParts{.code = std::string(code),
                                    .what = std::string(what),
                                    .why = std::string(why),
                                    .safe = {},
                                    .remedy = std::string(remedy)});
}

std::string OneLine(std::string_view text) {
  std::string line;
  for (char c : text) {
    const bool space = c == '\n' || c == '\r' || c == '\t' || c == ' ';
    if (space && (line.empty() || line.back() == ' ')) continue;
    line += space ? ' ' : c;
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

std::string Words(const ServerError& error) {
  std::string words = error.message;
  if (!error.sqlstate.empty()) words += " [" + error.sqlstate + "]";
  // The context of decoding errors names slot, callback and position; other contexts may show data.
  if (Has(error.context, "output plugin")) words += "; " + OneLine(error.context);
  return words;
}

Status MapObjectState(const ServerError& error, std::string_view what) {
  const std::string words = Words(error);
  if (Has(error.message, "wal_level")) {
    return Error(ErrorKind::kConfig, "ETL-S108", what, words,
                 "ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL");
  }
  if (Has(error.message, "invalidated") || Has(error.message, "can no longer")) {
    return Error(ErrorKind::kLost, "ETL-S203", what, words,
                 "etl-stream pipeline resync PIPELINE: changes since the last stored position are "
                 "no longer on the server");
  }
  if (Has(error.message, "replica identity")) {
    return Error(ErrorKind::kSchema, "ETL-S110", what, words);
  }
  return Error(ErrorKind::kInternal, "ETL-S199", what, words);
}

Status MapUndefined(const ServerError& error, std::string_view what) {
  const std::string words = Words(error);
  if (Has(error.message, "publication")) {
    return Error(
        ErrorKind::kLost, "ETL-S120", what, words,
        "create the publication, then etl-stream pipeline resync PIPELINE: a slot older than its "
        "publication cannot be streamed");
  }
  if (Has(error.message, "slot")) {
    return Error(
        ErrorKind::kLost, "ETL-S201", what, words,
        "etl-stream pipeline resync PIPELINE: a new slot cannot know the changes in between");
  }
  return Error(ErrorKind::kInternal, "ETL-S199", what, words);
}

}  // namespace

Status MapServerError(const ServerError& error, std::string_view what) {
  const std::string& state = error.sqlstate;
  const std::string words = Words(error);
  // Sessions are let in while a server still recovers, before it is promoted.
  const bool recovering = Has(error.message, "in recovery") ||
                          Has(error.message, "recovery is in progress") ||
                          Has(error.message, "during recovery");
  if (recovering && (state == "0A000" || state == "55000" || state == "25006")) {
    return Error(ErrorKind::kTransient, "ETL-S204", what, words,
                 "it is tried again until the recovery has ended; to stay a standby, the source "
                 "needs PostgreSQL 16");
  }
  if (state == "55006") {
    return Error(ErrorKind::kBusy, "ETL-S202", what, words,
                 "end the other user of the slot, or wait until PostgreSQL notices that it is gone "
                 "(wal_sender_timeout)");
  }
  if (state == "42710" && Has(error.message, "replication slot")) {
    return Error(ErrorKind::kBusy, "ETL-S202", what, words, "end the session that creates it");
  }
  if (state == "42704") return MapUndefined(error, what);
  if (state == "55000") return MapObjectState(error, what);
  if (state == "58P01") return Error(ErrorKind::kTransient, "ETL-S208", what, words);
  if (state == "28P01" || state == "28000") {
    return Error(ErrorKind::kAuth, "ETL-S103", what, words, "check user, password and pg_hba.conf");
  }
  if (state == "42501") {
    const bool sender = Has(error.message, "replication") || Has(error.message, "WAL sender") ||
                        Has(error.message, "walsender");
    return Error(ErrorKind::kAuth, "ETL-S103", what, words,
                 sender ? "ALTER ROLE … REPLICATION; (managed services have a role to grant "
                          "instead, such as rds_replication)"
                        : "grant the missing privilege");
  }
  if (state == "3D000") {
    return Error(ErrorKind::kConfig, "ETL-S105", what, words,
                 "correct the database name in the source's url");
  }
  if (state == "53300") {
    return Error(ErrorKind::kTransient, "ETL-S106", what, words,
                 "raise max_wal_senders or max_connections");
  }
  // It stops the pipeline: nothing of ours gives a slot back. Nothing is wrong with our
  // configuration, either: the verdict is that the pipeline is behind.
  if (state == "53400") {
    return Error(
        ErrorKind::kNegative, "ETL-S107", what, words,
        "raise max_replication_slots and restart PostgreSQL, or drop a slot that nobody uses");
  }
  if (state == "22021") return Error(ErrorKind::kData, "ETL-S117", what, words);
  if (state == "54000" || (state == "XX000" && Has(error.message, "invalid memory alloc"))) {
    return Error(ErrorKind::kData, "ETL-S116", what, words);
  }
  if (state == "0A000" && Has(error.message, "column lists")) {
    return Error(ErrorKind::kConfig, "ETL-S122", what, words);
  }
  // "filenode" until 15, "filenumber" since: see slot_creation.h.
  if (state == "XX000" && Has(error.message, "could not map filen")) {
    return MakeError(
        ErrorKind::kLost,
        ErrorParts{.code = "ETL-S207",
                   .what = std::string(what) + ": PostgreSQL cannot decode a transaction",
                   .why = words + "; it overlooked a schema change, most likely one that was "
                                  "committed while the slot was created",
                   .safe = "what the destination holds is left as it is",
                   .remedy = "etl-stream pipeline resync PIPELINE: this slot will never get past "
                             "that transaction, so it is replaced"});
  }
  for (std::string_view passing : {"08", "53", "57", "58", "40"}) {
    if (StartsWith(state, passing)) return Error(ErrorKind::kTransient, "ETL-S204", what, words);
  }
  if (state == "25P03" || state == "25P04")
    return Error(ErrorKind::kTransient, "ETL-S204", what, words);
  return Error(ErrorKind::kInternal, "ETL-S199", what, words);
}

ServerError ServerErrorOf(const PGresult* result) {
  const auto field = [&](int code) -> std::string {
    const char* text = PQresultErrorField(result, code);
    return text == nullptr ? std::string() : std::string(text);
  };
  ServerError error{.sqlstate = field(PG_DIAG_SQLSTATE),
                    .message = OneLine(field(PG_DIAG_MESSAGE_PRIMARY)),
                    .detail = OneLine(field(PG_DIAG_MESSAGE_DETAIL)),
                    .context = field(PG_DIAG_CONTEXT)};
  if (error.message.empty()) error.message = OneLine(PQresultErrorMessage(result));
  return error;
}

Status MapResultError(const PGresult* result, std::string_view what) {
  const ServerError error = ServerErrorOf(result);
  // Without an SQLSTATE it is the client library that failed: the connection is gone.
  if (error.sqlstate.empty()) return Error(ErrorKind::kTransient, "ETL-S204", what, error.message);
  return MapServerError(error, what);
}

Status MapConnectionLost(PGconn* connection, std::string_view what) {
  return Error(ErrorKind::kTransient, "ETL-S204", what, OneLine(PQerrorMessage(connection)));
}

Status MapConnectError(std::string_view message, std::string_view what) {
  // Lines look like `FATAL:  28P01: password authentication failed …`; LOCATION lines are noise.
  std::string text;
  std::string sqlstate;
  size_t at = 0;
  while (at < message.size()) {
    const size_t end = std::min(message.find('\n', at), message.size());
    std::string_view line = message.substr(at, end - at);
    at = end + 1;
    if (StartsWith(line, "LOCATION:")) continue;
    if (const size_t mark = line.find(":  ");
        mark != line.npos && line.size() > mark + 10 && line[mark + 8] == ':') {
      const std::string_view state = line.substr(mark + 3, 5);
      if (state.find_first_not_of("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == state.npos)
        sqlstate = state;
    }
    text += std::string(line) + " ";
  }
  text = OneLine(text);
  if (Has(text, "unsupported startup parameter") || Has(text, "startup option") ||
      Has(text, "does not support replication")) {
    return Error(ErrorKind::kConfig, "ETL-S104", what, text,
                 "connect to PostgreSQL itself: a connection pooler does not pass replication on");
  }
  if (!sqlstate.empty()) {
    return MapServerError(
        ServerError{.sqlstate = sqlstate, .message = text, .detail = {}, .context = {}}, what);
  }
  if (Has(text, "no password supplied")) {
    return Error(ErrorKind::kAuth, "ETL-S103", what, text, "set the source's password");
  }
  if (Has(text, "certificate") || Has(text, "does not support SSL") || Has(text, "SSL error") ||
      Has(text, "channel binding")) {
    return Error(
        ErrorKind::kConfig, "ETL-S102", what, text,
        "check sslmode and sslrootcert in the source's url; without sslmode it is verify-full");
  }
  return Error(ErrorKind::kTransient, "ETL-S101", what, text,
               "check host and port in the source's url, and that PostgreSQL is running");
}

}  // namespace etl
