#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include <arrow/type_fwd.h>

#include "base/status.h"
#include "control/pipeline_factory.h"
#include "model/table_schema.h"

namespace etl {

/// The destination's side of a comparison: what it holds at the position where the pipeline was
/// held when this was opened. Used by one thread.
class StoredSide {
 public:
  using OnBatch = std::function<Status(const std::shared_ptr<arrow::RecordBatch>&)>;
  /// Reads all rows of a table as batches of its columns; may be called again.
  using Reader = std::function<Status(const OnBatch&)>;

  /// Call while the pipeline is held. `stop`: reading ends soon once it is set.
  static Result<std::unique_ptr<StoredSide>> Open(const Config& config, const PipelineSpec& spec,
                                                  ProcessResources* resources, const Clock& clock,
                                                  const std::atomic<bool>* stop);
  virtual ~StoredSide() = default;

  /// The pipeline has to stand still until everything was read; otherwise it may go on.
  virtual bool needs_hold() const { return false; }
  /// `schema` is the version that is stored; in append mode it has a key.
  virtual Result<Reader> ReaderOf(const TableSchemaPtr& schema) = 0;
  /// Rows of the source, as this destination holds them under `on_unrepresentable: null`.
  virtual Result<std::shared_ptr<arrow::RecordBatch>> AsHeld(
      const TableSchema&, std::shared_ptr<arrow::RecordBatch> rows, int64_t*) {
    return rows;
  }
};

}  // namespace etl
