#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

struct pg_conn;
struct pg_result;

namespace etl {

/// An error as PostgreSQL reports it.
struct ServerError {
  std::string sqlstate;  ///< empty: the client library's own error
  std::string message;   ///< primary message, one line
  std::string detail;
  std::string context;
};

/// Turns a server's error into ours; `what` says what was being done ("stream slot \"s\"").
///
/// Codes: S101 unreachable · S102 TLS · S103 not authorised · S104 not a direct connection (pooler)
/// · S105 no such database · S106 no free connection or WAL sender · S107 no free replication slot
/// · S108 wal_level · S116 row too big · S117 encoding · S120 publication missing · S122
/// conflicting column lists · S199 any other error of the server · S201 slot missing · S202 slot in
/// use · S203 slot invalidated · S204 restarted, cancelled or connection lost · S205 another
/// history · S206 slot moved by somebody else · S207 a transaction cannot be decoded · S208 WAL
/// segment missing.
Status MapServerError(const ServerError& error, std::string_view what);
Status MapResultError(const pg_result* result, std::string_view what);
/// The connection broke while `what` was going on.
Status MapConnectionLost(pg_conn* connection, std::string_view what);
/// Why a connection could not be made, from libpq's text with SQLSTATEs (verbose).
Status MapConnectError(std::string_view message, std::string_view what);

ServerError ServerErrorOf(const pg_result* result);

}  // namespace etl
