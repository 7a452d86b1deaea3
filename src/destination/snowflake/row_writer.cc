#include "destination/snowflake/row_writer.h"

#include <utility>

#include <fmt/format.h>

#include "base/check.h"

namespace etl {

Result<std::unique_ptr<RowWriter>> RowWriter::Make(TableSchemaPtr schema,
                                                   std::vector<std::string> names,
                                                   const RowWriterOptions& options) {
  ETL_ASSIGN_OR_RETURN(auto encoder, NdjsonEncoder::Make(std::move(schema), std::move(names),
                                                         options.on_unrepresentable));
  ETL_ASSIGN_OR_RETURN(auto body, RequestBodyWriter::Make(options.body));
  return std::unique_ptr<RowWriter>(
      new RowWriter(std::move(encoder), std::move(body), options.body.limit));
}

Result<bool> RowWriter::Add(int64_t row) {
  if (!waiting_) ETL_RETURN_IF_ERROR(encoder_->AppendRow(row, body_->lines()));
  ETL_ASSIGN_OR_RETURN(const auto outcome,
                       body_->Add(encoder_->position(), encoder_->value_bytes()));
  waiting_ = outcome == RequestBodyWriter::Outcome::kFull;
  if (outcome == RequestBodyWriter::Outcome::kTooLarge) [[unlikely]]
    return AddShortened(row);
  return !waiting_;
}

Result<bool> RowWriter::AddTruncate(const TruncateChange& truncate) {
  if (!waiting_) encoder_->AppendTruncate(truncate, body_->lines());
  ETL_ASSIGN_OR_RETURN(const auto outcome,
                       body_->Add(encoder_->position(), encoder_->value_bytes()));
  ETL_CHECK(outcome != RequestBodyWriter::Outcome::kTooLarge);
  waiting_ = outcome == RequestBodyWriter::Outcome::kFull;
  return !waiting_;
}

// The largest values become NULL, one after another, until the row fits; or that is an error.
Result<bool> RowWriter::AddShortened(int64_t row) {
  std::vector<int> dropped;
  while (true) {
    ETL_ASSIGN_OR_RETURN(
        const int next,
        encoder_->DropLargest(
            row, dropped,
            fmt::format("the row is larger than a request, which has at most {} compressed bytes",
                        limit_)));
    dropped.push_back(next);
    ETL_RETURN_IF_ERROR(encoder_->AppendRow(row, dropped, body_->lines()));
    ETL_ASSIGN_OR_RETURN(const auto outcome,
                         body_->Add(encoder_->position(), encoder_->value_bytes()));
    ETL_CHECK(outcome != RequestBodyWriter::Outcome::kFull);
    if (outcome == RequestBodyWriter::Outcome::kAdded) return true;
  }
}

}  // namespace etl
