#include "destination/snowflake/request_body.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace etl {
namespace {

// Enough for a call into the compressor to cost nothing, and little enough to stay in the cache.
constexpr size_t kStage = 32 << 10;
// Before so much is compressed a body's own ratio says little.
constexpr size_t kMeasured = 256 << 10;
// What an idle writer keeps of each buffer.
constexpr size_t kKeep = 256 << 10;

}  // namespace

Result<std::unique_ptr<RequestBodyWriter>> RequestBodyWriter::Make(
    const RequestBodyOptions& options) {
  ETL_ASSIGN_OR_RETURN(auto compressor, BodyCompressor::Make(options.compression, options.level));
  return std::unique_ptr<RequestBodyWriter>(new RequestBodyWriter(options, std::move(compressor)));
}

size_t RequestBodyWriter::EstimatedBytes() const {
  const double estimate = ratio_ * static_cast<double>(body_.uncompressed_bytes);
  return std::max(compressed_.size(), static_cast<size_t>(estimate));
}

// Whether a row with a line of this size has to wait for the next body.
bool RequestBodyWriter::Full(size_t line) const {
  if (ended_ || EstimatedBytes() >= options_.target || fed_ + staged_ >= options_.raw_target) {
    return true;
  }
  const size_t worst = compressed_.size() + compressor_->HeldMax() +
                       BodyCompressor::Bound(staged_) + BodyCompressor::Bound(line);
  return worst > options_.limit;
}

Result<RequestBodyWriter::Outcome> RequestBodyWriter::Add(const Position& position,
                                                          int64_t value_bytes) {
  const size_t line = lines_.size() - staged_;
  ETL_DCHECK(line > 0);
  if (Full(line)) [[unlikely]] {
    if (!empty()) return Outcome::kFull;
    ETL_ASSIGN_OR_RETURN(const bool fits, FitsAlone(lines_.view()));
    lines_.Truncate(0);
    if (!fits) return Outcome::kTooLarge;
    fed_ = line;
  } else {
    staged_ += line;
  }
  if (body_.rows == 0) body_.first = position;
  body_.last = position;
  ++body_.rows;
  body_.uncompressed_bytes += static_cast<int64_t>(line);
  body_.value_bytes += value_bytes;
  if (staged_ >= kStage) ETL_RETURN_IF_ERROR(CompressStaged());
  return Outcome::kAdded;
}

Status RequestBodyWriter::CompressStaged() {
  ETL_RETURN_IF_ERROR(compressor_->Append(lines_.view().substr(0, staged_), &compressed_));
  fed_ += staged_;
  lines_.DropFront(staged_);
  staged_ = 0;
  if (fed_ >= kMeasured)
    ratio_ = static_cast<double>(compressed_.size()) / static_cast<double>(fed_);
  return Status::OK();
}

// Compresses the first row of a body although its worst case passes the limit.
Result<bool> RequestBodyWriter::FitsAlone(std::string_view line) {
  constexpr size_t kSlice = 256 << 10;
  for (; !line.empty(); line.remove_prefix(std::min(kSlice, line.size()))) {
    ETL_RETURN_IF_ERROR(compressor_->Append(line.substr(0, kSlice), &compressed_));
    if (compressed_.size() > options_.limit) break;
  }
  // Where the worst case still is too much, only the end tells.
  if (line.empty() && compressed_.size() + compressor_->HeldMax() > options_.limit) {
    ETL_RETURN_IF_ERROR(compressor_->Finish(&compressed_));
    ended_ = true;
  }
  if (compressed_.size() <= options_.limit) return true;
  if (!ended_) compressor_->Reset();
  ended_ = false;
  compressed_.Truncate(0);
  return false;
}

Result<RequestBody> RequestBodyWriter::Take() {
  ETL_CHECK(!empty());
  if (staged_ > 0) ETL_RETURN_IF_ERROR(CompressStaged());
  if (!ended_) ETL_RETURN_IF_ERROR(compressor_->Finish(&compressed_));
  ETL_CHECK(compressed_.size() <= options_.limit);
  if (body_.uncompressed_bytes >= static_cast<int64_t>(kMeasured)) {
    ratio_ =
        static_cast<double>(compressed_.size()) / static_cast<double>(body_.uncompressed_bytes);
  }
  RequestBody taken = std::exchange(body_, {});
  taken.encoding = compressor_->name();
  taken.bytes = compressed_.view();
  compressed_.Clear(kKeep);
  if (lines_.size() == 0) lines_.Clear(kKeep);
  fed_ = 0;
  ended_ = false;
  return taken;
}

}  // namespace etl
