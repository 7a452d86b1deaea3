#include "postgres/preflight_server.h"

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>

#include "postgres/connection.h"

namespace etl {
namespace {

using Severity = PreflightFinding::Severity;

// The reader reports at least so often, and oftener where the server wants it.
constexpr int64_t kReportMs = 10'000;
// Lags are differences between the two clocks.
constexpr UnixMicros kSkewTold = 5'000'000;
constexpr int64_t kMegabyte = int64_t{1} << 20;

std::string Megabytes(int64_t bytes) {
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / static_cast<double>(kMegabyte));
}

PreflightFinding Ok(std::string id, std::string what) {
  return {Severity::kOk, std::move(id), std::move(what), {}, {}, {}};
}

}  // namespace

PreflightFinding JudgeFailover(const FailoverFacts& facts, const std::string& slot) {
  if (facts.standbys == 0) return Ok("S24", "no standby that the slot could be copied to");
  if (facts.slot.value_or(false)) {
    if (facts.reader_waits) return Ok("S24", "the slot is copied to standbys");
    return WithSql(
        {Severity::kWarn,
         "S24",
         "synchronized_standby_slots is empty, and the slot is copied to standbys",
         "changes may reach the destination before the standby has them; after a failover "
         "that is another history, and the pipeline asks for a resync",
         {},
         {}},
        {}, "set synchronized_standby_slots to the standby's slot, and reload");
  }
  const std::string why =
      "after a failover the new primary does not have it: the pipeline asks for a resync";
  if (facts.slot.has_value()) {
    return WithSql({Severity::kWarn,
                    "S24",
                    fmt::format("slot \"{}\" is not copied to standbys", slot),
                    why,
                    {},
                    {}},
                   {},
                   fmt::format("while the pipeline is paused: psql \"… replication=database\" -c "
                               "'ALTER_REPLICATION_SLOT {} "
                               "(FAILOVER true)'",
                               QuoteIdentifier(slot)));
  }
  return WithSql(
      {Severity::kWarn,
       "S24",
       fmt::format("slot \"{}\" will be made without copies on standbys", slot),
       why,
       {},
       {}},
      {fmt::format("SELECT pg_create_logical_replication_slot({}, 'pgoutput', false, false, true)",
                   QuoteLiteral(slot))},
      "before the first start, if the standby has sync_replication_slots");
}

PreflightFinding JudgeClock(UnixMicros before, UnixMicros server, UnixMicros after) {
  // Between the two looks any reading is right.
  const UnixMicros ahead = server > after ? server - after : server < before ? server - before : 0;
  if (std::abs(ahead) < kSkewTold) return Ok("S27", "its clock agrees with ours");
  return {Severity::kWarn,
          "S27",
          fmt::format("its clock is {:.1f} s {} ours", std::abs(static_cast<double>(ahead)) / 1e6,
                      ahead > 0 ? "ahead of" : "behind"),
          "lag is the difference between the two clocks, and so are the alerts that rest on it",
          "let both machines take their time from NTP",
          {}};
}

PreflightFinding JudgeSenderTimeout(int64_t server_ms, int64_t session_ms) {
  const auto short_one = [](int64_t ms) { return ms > 0 && ms <= kReportMs; };
  if (short_one(session_ms)) {
    return WithSql(
        {Severity::kFail,
         "S28",
         fmt::format("wal_sender_timeout is {} ms, and stays so when a session sets it", server_ms),
         "the stream would be ended between two reports of ours",
         {},
         {}},
        {"ALTER SYSTEM SET wal_sender_timeout = '60s'", "SELECT pg_reload_conf()"});
  }
  if (short_one(server_ms)) {
    return WithSql(
        {Severity::kWarn,
         "S28",
         fmt::format("wal_sender_timeout is only {} ms", server_ms),
         fmt::format("the stream raises it to {} ms for itself; other readers of the server, and a "
                     "pooler that gives sessions back as they were, are cut off",
                     session_ms),
         {},
         {}},
        {"ALTER SYSTEM SET wal_sender_timeout = '60s'", "SELECT pg_reload_conf()"});
  }
  return Ok("S28", session_ms == 0 ? "wal_sender_timeout is off"
                                   : fmt::format("wal_sender_timeout {} ms", session_ms));
}

PreflightFinding JudgeDecodingMemory(const DecodingFacts& facts, const std::string& role) {
  if (facts.spilled > 0) {
    const int64_t each = facts.spilled_bytes / facts.spilled;
    int64_t wanted = kMegabyte;
    while (wanted < each * 2 && wanted < 1024 * kMegabyte) wanted *= 2;
    wanted = std::max(wanted, std::min(facts.work_mem * 2, 1024 * kMegabyte));
    return WithSql({Severity::kWarn,
                    "S29",
                    fmt::format("{} transactions did not fit into logical_decoding_work_mem ({})",
                                facts.spilled, Megabytes(facts.work_mem)),
                    fmt::format("the server wrote them to its disk and read them again, {} each",
                                Megabytes(each)),
                    {},
                    {}},
                   {fmt::format("ALTER ROLE {} SET logical_decoding_work_mem = '{}MB'",
                                QuoteIdentifier(role), wanted / kMegabyte)},
                   "read when the stream begins");
  }
  if (facts.streamed > 0) {
    return Ok("S29",
              fmt::format("{} transactions past logical_decoding_work_mem ({}) were sent while "
                          "they were open, {} each",
                          facts.streamed, Megabytes(facts.work_mem),
                          Megabytes(facts.streamed_bytes / facts.streamed)));
  }
  return Ok("S29", fmt::format("no transaction was larger than logical_decoding_work_mem ({})",
                               Megabytes(facts.work_mem)));
}

}  // namespace etl
