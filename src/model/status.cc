#include "model/status.h"

#include <nlohmann/json.hpp>

namespace etl {
namespace {

using OrderedJson = nlohmann::ordered_json;

OrderedJson NullIfEmpty(const std::string& text) {
  return text.empty() ? OrderedJson(nullptr) : OrderedJson(text);
}

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
  OrderedJson json{
      {"name", status.name},
      {"phase", PipelinePhaseName(status.phase)},
      {"position",
       status.position.valid() ? OrderedJson(FormatLsn(status.position)) : OrderedJson(nullptr)},
      {"applied",
       status.applied.valid() ? OrderedJson(FormatLsn(status.applied)) : OrderedJson(nullptr)},
      {"source_position", status.source_position.valid()
                              ? OrderedJson(FormatLsn(status.source_position))
                              : OrderedJson(nullptr)},
      {"lag_bytes", seen ? OrderedJson(status.lag_bytes) : OrderedJson(nullptr)},
      {"lag_seconds", status.lag_seconds ? OrderedJson(*status.lag_seconds) : OrderedJson(nullptr)},
      {"error", NullIfEmpty(status.error)},
      {"tables", OrderedJson::array()},
      {"changes", status.changes},
      {"retained_bytes",
       status.retained_bytes < 0 ? OrderedJson(nullptr) : OrderedJson(status.retained_bytes)},
      {"latency_p50_us",
       status.latency_p50_us < 0 ? OrderedJson(nullptr) : OrderedJson(status.latency_p50_us)},
      {"latency_p99_us",
       status.latency_p99_us < 0 ? OrderedJson(nullptr) : OrderedJson(status.latency_p99_us)},
      {"at", seen ? OrderedJson(FormatUtc(status.at)) : OrderedJson(nullptr)},
      {"at_us", seen ? OrderedJson(status.at) : OrderedJson(nullptr)}};
  if (status.used.has_value()) {
    json["used"] = OrderedJson{{"bytes_sent", status.used->bytes_sent},
                               {"statements", status.used->statements},
                               {"merges", status.used->merges},
                               {"rows_merged", status.used->rows_merged}};
  }
  for (const TableStatus& table : status.tables) {
    json["tables"].push_back(OrderedJson{{"name", table.name},
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
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

Result<PipelineStatus> StatusFromJson(std::string_view text) {
  try {
    const OrderedJson json = OrderedJson::parse(text);
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
    const auto words = [](const OrderedJson& value) {
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
    for (const OrderedJson& entry : json.at("tables")) {
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
  } catch (const OrderedJson::exception& error) {
    return MakeError(ErrorKind::kInternal, "ETL-R103",
                     std::string("stored status cannot be read: ") + error.what());
  }
}

}  // namespace etl
