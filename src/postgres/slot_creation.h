#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "postgres/connection.h"

namespace etl {

/// Creates a temporary pgoutput slot that every later change can be decoded from; the server drops
/// it with `connection`'s session, a replication connection.
///
/// While a slot is created the server waits for the transactions that are open. Schema changes that
/// are committed meanwhile are forgotten: what follows is decoded with the tables as they were, so
/// that a new column is left out without a word, or not at all ("could not map filenode"). Such a
/// slot is dropped and created again, until none was committed meanwhile or the deadline comes.
/// `waiting` is called about every 100 ms.
Status CreateTemporarySlot(PgConnection& connection, const std::string& name, Instant deadline,
                           const std::function<void()>& waiting);

/// What a standby waits for besides: nothing there tells it which transactions are open.
inline constexpr std::string_view kAwaitedByStandby =
    "the primary to log which transactions are open (it does so every 15 s or so while it is "
    "written to, and at SELECT pg_log_standby_snapshot();)";

/// What failed to make a slot that is wanted for a moment only: that none was free may pass
/// (kBusy).
Status LaterMayWork(const Status& failed);

}  // namespace etl
