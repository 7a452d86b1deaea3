#include "model/status.h"

#include <nlohmann/json.hpp>

namespace etl {
namespace {

using Json = nlohmann::ordered_json;

Json NullIfEmpty(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

}  // namespace

std::string_view PipelinePhaseName(PipelinePhase phase) {
  switch (phase) {
    case PipelinePhase::kCopying: return "copying";
    case PipelinePhase::kRunning: return "running";
    case PipelinePhase::kRetrying: return "retrying";
    case PipelinePhase::kPaused: return "paused";
    case PipelinePhase::kStopped: return "stopped";
  }
  return "stopped";
}

std::string StatusToJson(const PipelineStatus& status) {
  const bool seen = status.at != 0;
  Json json{
      {"name", status.name},
      {"phase", PipelinePhaseName(status.phase)},
      {"position", status.position.valid() ? Json(FormatLsn(status.position)) : Json(nullptr)},
      {"applied", status.applied.valid() ? Json(FormatLsn(status.applied)) : Json(nullptr)},
      {"source_position",
       status.source_position.valid() ? Json(FormatLsn(status.source_position)) : Json(nullptr)},
      {"lag_bytes", seen ? Json(status.lag_bytes) : Json(nullptr)},
      {"lag_seconds", status.lag_seconds ? Json(*status.lag_seconds) : Json(nullptr)},
      {"error", NullIfEmpty(status.error)},
      {"tables", Json::array()},
      {"changes", status.changes},
      {"retained_bytes", status.retained_bytes < 0 ? Json(nullptr) : Json(status.retained_bytes)},
      {"latency_p50_us", status.latency_p50_us < 0 ? Json(nullptr) : Json(status.latency_p50_us)},
      {"latency_p99_us", status.latency_p99_us < 0 ? Json(nullptr) : Json(status.latency_p99_us)},
      {"at", seen ? Json(FormatUtc(status.at)) : Json(nullptr)},
      {"at_us", seen ? Json(status.at) : Json(nullptr)}};
  if (status.used.has_value()) {
    json["used"] = Json{{"bytes_sent", status.used->bytes_sent},
                        {"statements", status.used->statements},
                        {"merges", status.used->merges},
                        {"rows_merged", status.used->rows_merged}};
  }
  for (const TableStatus& table : status.tables) {
    json["tables"].push_back(Json{{"name", table.name},
                                  {"phase", TablePhaseName(table.phase)},
                                  {"rows", table.rows},
                                  {"rows_total", table.rows_total},
                                  {"changes", table.changes},
                                  {"nulled", table.nulled},
                                  {"error", NullIfEmpty(table.error)},
                                  {"oid", table.id.oid},
                                  {"rules", table.rules}});
    if (status.used.has_value()) json["tables"].back()["rows_merged"] = table.rows_merged;
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<PipelineStatus> StatusFromJson(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    PipelineStatus status;
    status.name = json.at("name");
    for (PipelinePhase phase :
         {PipelinePhase::kCopying, PipelinePhase::kRunning, PipelinePhase::kRetrying,
          PipelinePhase::kPaused, PipelinePhase::kStopped}) {
      if (json.at("phase") == PipelinePhaseName(phase)) status.phase = phase;
    }
    const auto lsn = [&](const char* key) {
      return json.at(key).is_null() ? Lsn{}
                                    : ParseLsn(json.at(key).get<std::string>()).value_or(Lsn{});
    };
    const auto number = [&](const char* key) {
      return json.at(key).is_null() ? int64_t{-1} : json.at(key).get<int64_t>();
    };
    const auto words = [](const Json& value) {
      return value.is_null() ? std::string() : value.get<std::string>();
    };
    status.position = lsn("position");
    // An earlier version wrote none, and had no destination in which the two differ.
    status.applied = json.contains("applied") ? lsn("applied") : status.position;
    status.source_position = lsn("source_position");
    if (!json.at("lag_bytes").is_null()) status.lag_bytes = json.at("lag_bytes");
    if (!json.at("lag_seconds").is_null())
      status.lag_seconds = json.at("lag_seconds").get<double>();
    status.error = words(json.at("error"));
    status.changes = json.at("changes");
    status.retained_bytes = number("retained_bytes");
    status.latency_p50_us = number("latency_p50_us");
    status.latency_p99_us = number("latency_p99_us");
    if (!json.at("at_us").is_null()) status.at = json.at("at_us");
    if (const auto used = json.find("used"); used != json.end()) {
      status.used = DestinationUse{.bytes_sent = used->at("bytes_sent"),
                                   .statements = used->at("statements"),
                                   .merges = used->at("merges"),
                                   .rows_merged = used->at("rows_merged")};
    }
    for (const Json& entry : json.at("tables")) {
      TableStatus table;
      table.name = entry.at("name");
      for (TablePhase phase :
           {TablePhase::kWaiting, TablePhase::kCopying, TablePhase::kLive, TablePhase::kStopped}) {
        if (entry.at("phase") == TablePhaseName(phase)) table.phase = phase;
      }
      table.rows = entry.at("rows");
      table.rows_total = entry.at("rows_total");
      table.changes = entry.at("changes");
      table.error = words(entry.at("error"));
      // Unknown to older programs.
      table.nulled = entry.value("nulled", int64_t{0});
      table.id.oid = entry.value("oid", uint32_t{0});
      table.rules = entry.value("rules", false);
      table.rows_merged = entry.value("rows_merged", int64_t{0});
      status.tables.push_back(std::move(table));
    }
    return status;
  } catch (const Json::exception& error) {
    return MakeError(ErrorKind::kInternal, "ETL-R103",
                     std::string("stored status cannot be read: ") + error.what());
  }
}

}  // namespace etl
