#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "destination/snowflake/ndjson_encoder.h"
#include "destination/snowflake/request_body.h"

namespace etl {

struct RowWriterOptions {
  OnUnrepresentable on_unrepresentable = OnUnrepresentable::kError;
  RequestBodyOptions body;
};

/// Rows of one version of a table to the request bodies of one channel: the encoder, the body
/// writer, and the decision about rows that are too large for any request. Which rows go to which
/// channel, and when a body is sent though not full, is the caller's. Owned and called by one
/// thread. After an error of kind data the same row may be tried again.
class RowWriter {
 public:
  static Result<std::unique_ptr<RowWriter>> Make(TableSchemaPtr schema,
                                                 std::vector<std::string> names,
                                                 const RowWriterOptions& options);

  /// The next rows are those of `batch`, which outlives them.
  Status Bind(const ChangeBatch& batch) { return encoder_->Bind(batch); }
  /// Adds one row, in growing order of positions. False: the body is full, and has to be taken
  /// before the same row is added again.
  Result<bool> Add(int64_t row);
  /// The same for a TRUNCATE.
  Result<bool> AddTruncate(const TruncateChange& truncate);
  /// What was added since the last time. Not while empty().
  Result<RequestBody> Take() { return body_->Take(); }

  bool empty() const { return body_->empty(); }
  const RequestBodyWriter& body() const { return *body_; }
  /// Values stored as NULL since the beginning.
  int64_t nulled() const { return encoder_->nulled(); }

 private:
  RowWriter(std::unique_ptr<NdjsonEncoder> encoder, std::unique_ptr<RequestBodyWriter> body,
            size_t limit)
      : encoder_(std::move(encoder)), body_(std::move(body)), limit_(limit) {}
  Result<bool> AddLine();
  Result<bool> AddShortened(int64_t row);

  std::unique_ptr<NdjsonEncoder> encoder_;
  std::unique_ptr<RequestBodyWriter> body_;
  const size_t limit_;
  bool waiting_ = false;  // the body keeps the line of the row that found it full
};

}  // namespace etl
