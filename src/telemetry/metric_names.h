#pragma once

#include <string_view>

/// Names of everything that is measured, in one place. Units come last. Labels: pipeline, table,
/// kind.
namespace etl::metric {

inline constexpr std::string_view kChanges = "etl_changes_total";  ///< handed to the destination
inline constexpr std::string_view kTransactions = "etl_transactions_total";
inline constexpr std::string_view kReceivedBytes = "etl_received_bytes_total";
inline constexpr std::string_view kCopiedRows = "etl_copied_rows_total";
inline constexpr std::string_view kCopiedBytes = "etl_copied_bytes_total";
inline constexpr std::string_view kBatches = "etl_batches_total";
inline constexpr std::string_view kSentBytes = "etl_sent_bytes_total";  ///< DestinationUse …
inline constexpr std::string_view kStatements = "etl_statements_total";
inline constexpr std::string_view kMerges = "etl_merges_total";
inline constexpr std::string_view kMergedRows = "etl_merged_rows_total";  ///< … by table
inline constexpr std::string_view kUnrepresentable =
    "etl_unrepresentable_values_total";                          ///< stored as NULL
inline constexpr std::string_view kErrors = "etl_errors_total";  ///< by kind
inline constexpr std::string_view kRestarts = "etl_restarts_total";
inline constexpr std::string_view kLagBytes = "etl_lag_bytes";
inline constexpr std::string_view kLagSeconds = "etl_lag_seconds";
inline constexpr std::string_view kRetainedWalBytes = "etl_retained_wal_bytes";
inline constexpr std::string_view kMemoryBytes = "etl_memory_bytes";
inline constexpr std::string_view kSpillBytes = "etl_spill_bytes";
inline constexpr std::string_view kQueueDepth = "etl_queue_depth";
inline constexpr std::string_view kCommitLatency =
    "etl_commit_latency_seconds";  ///< commit received → stored
inline constexpr std::string_view kPipelinePhase = "etl_pipeline_phase";

}  // namespace etl::metric
