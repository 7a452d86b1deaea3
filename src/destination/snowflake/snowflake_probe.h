#pragma once

#include <string>
#include <vector>

#include "config/config.h"
#include "destination/destination.h"
#include "net/key_origin.h"

namespace etl {

struct SnowflakeProbe {
  SnowflakeConfig config;
  KeyOrigin key;
  std::string pipeline;
  Mode mode = Mode::kMirror;
  /// The tables that are to come; only names and columns are looked at.
  std::vector<TableSchemaPtr> tables;
  /// For one request with all its attempts. Somebody waits at the terminal.
  Duration patience = std::chrono::seconds(20);
};

struct SnowflakeProbeReport {
  std::vector<ProbeFinding> findings;
  /// All that the user and the role need, as statements for somebody who may grant it.
  std::vector<std::string> grants;
};

/// What would fail: D10 the account's form, D01 reach and TLS, D02 the key, D03 role and warehouse,
/// D04 database and schemas, D05 rights, D06 a channel, D07 the clocks, D08 tables that are there,
/// D09 tasks, S26 names. Rights are looked at by using them, on tables of its own that are named
/// `_ETL_CHECK_…` and dropped in every case; one that was left by a process that was killed is
/// taken and dropped by the next. What rests on something that failed is left out.
SnowflakeProbeReport ProbeSnowflake(const SnowflakeProbe& probe, const Clock& clock);

}  // namespace etl
