#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "catalog/catalog.h"
#include "config/config.h"
#include "model/status.h"
#include "runtime/interrupt.h"

namespace etl {

/// What every command that works on pipelines is given. All of it outlives the call.
struct ControlContext {
  std::shared_ptr<const Config> config;
  std::vector<std::string> pipelines;  ///< chosen ones, all of them in the configuration
  Catalog& catalog;
  const Clock& clock;
  Interrupt& interrupt;
  /// Called a few times a second for each pipeline, from any one thread at a time; draws progress.
  std::function<void(const PipelineStatus&)> on_status = {};
};

/// `run`: runs the chosen pipelines until the interrupt asks to stop, obeys the catalog within a
/// second, and writes back what it sees. kBusy if another process runs one of them. `reload` reads
/// the configuration again (null: invalid, said already) and is called on the control thread after
/// SIGHUP.
Status RunService(ControlContext& context,
                  const std::function<std::shared_ptr<const Config>()>& reload);

/// `sync`: brings the destinations up to where the source stands now. Where another process runs
/// the pipeline, waits until that one has got there. Gives a failure for each pipeline that did not
/// get there (kNegative if it, or a table of it, was left behind); the last one is the gravest.
std::vector<Status> RunSync(ControlContext& context);

struct VerifyOptions {
  std::string pipeline;
  std::string table;  ///< schema.table; empty: all
};
struct VerifiedTable {
  std::string name;
  std::optional<bool> equal;  ///< none: there is nothing to compare it with
  int64_t source_rows = -1;   ///< -1: not counted
  int64_t destination_rows = -1;
  std::vector<std::string> keys;  ///< differing keys, as text; the first ones
  std::string note;               ///< columns that differ, or why the table was not compared
  int64_t nulled = 0;             ///< the source's values that are stored as NULL: no differences
};
struct VerifyReport {
  std::string pipeline;
  Lsn position;
  std::vector<VerifiedTable> tables;
  /// No table was found to differ.
  bool equal() const;
};
/// `verify`: compares source and destination at one position, table by table. Where another process
/// runs the pipeline, that one does it. In append mode the destination's side is the latest change
/// of each key; tables without a key, and pipelines without a snapshot, are not compared.
Result<VerifyReport> RunVerify(ControlContext& context, const VerifyOptions& options);

/// `tap`: hands each change from now on to `print` as one JSON object without a newline, until the
/// interrupt or until `print` answers false. Leaves nothing behind.
Status RunTap(ControlContext& context, const std::string& pipeline,
              const std::function<bool(std::string_view)>& print);

/// `pipeline drop` where no process runs the pipeline: removes slot, own publication and own
/// bookkeeping, leaves the tables.
Status RunDrop(ControlContext& context, const std::string& pipeline);

}  // namespace etl
