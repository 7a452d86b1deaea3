#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "destination/snowflake/body_compressor.h"
#include "destination/snowflake/text_buffer.h"
#include "model/position.h"

namespace etl {

/// One append request's body and what its query and headers say about it. Kept until it is proven
/// committed: a resend is the same bytes.
struct RequestBody {
  std::string bytes;
  std::string_view encoding;  ///< Content-Encoding
  Position first;             ///< startOffsetToken
  Position last;              ///< endOffsetToken, inclusive
  int64_t rows = 0;
  int64_t uncompressed_bytes = 0;  ///< x-snowflake-uncompressed-content-length
  int64_t value_bytes = 0;         ///< of the values alone, for the estimate of cost
};

struct RequestBodyOptions {
  Compression compression = Compression::kZstd;
  int level = 1;
  size_t limit = 4'000'000;        ///< compressed bytes that no body ever passes
  size_t target = 3'800'000;       ///< compressed bytes, as estimated, at which a body is full
  size_t raw_target = 32'000'000;  ///< uncompressed bytes at which a body is full
};

/// Gathers lines into request bodies: compressed as they come, cut between rows only. A row is
/// taken only while even the worst case of everything that is not compressed yet stays within
/// `limit`, so no body is ever made twice; the target is aimed at by the ratio measured so far.
/// One for each channel that has rows; about 1 MB while it lives, besides the body. Owned and
/// called by one thread. After an error it is of no more use.
class RequestBodyWriter {
 public:
  enum class Outcome : uint8_t {
    kAdded,     ///< the row is part of the body
    kFull,      ///< Take the body first, then Add again: the line is kept
    kTooLarge,  ///< not even alone does the row fit; its line is gone
  };

  static Result<std::unique_ptr<RequestBodyWriter>> Make(const RequestBodyOptions& options);

  /// Where the next row's line is appended, before Add.
  TextBuffer* lines() { return &lines_; }
  /// Adds what was appended to lines() as one row. Positions grow.
  Result<Outcome> Add(const Position& position, int64_t value_bytes);
  /// Ends the body and hands it over. Not while empty().
  Result<RequestBody> Take();

  bool empty() const { return body_.rows == 0; }
  int64_t rows() const { return body_.rows; }
  int64_t uncompressed_bytes() const { return body_.uncompressed_bytes; }
  /// Compressed size of the body if it were taken now, by the ratio measured so far.
  size_t EstimatedBytes() const;
  /// Memory in use, about.
  int64_t memory() const {
    return static_cast<int64_t>(lines_.capacity() + compressed_.capacity() + compressor_->memory());
  }

 private:
  RequestBodyWriter(const RequestBodyOptions& options, std::unique_ptr<BodyCompressor> compressor)
      : options_(options), compressor_(std::move(compressor)) {}
  bool Full(size_t line) const;
  Status CompressStaged();
  Result<bool> FitsAlone(std::string_view line);

  const RequestBodyOptions options_;
  std::unique_ptr<BodyCompressor> compressor_;
  TextBuffer lines_;  // [0, staged_) rows of the body, not compressed yet; then the row to come
  size_t staged_ = 0;
  TextBuffer compressed_;
  size_t fed_ = 0;       // bytes of the body the compressor has
  bool ended_ = false;   // a single large row ended the compressor's frame
  double ratio_ = 0.25;  // compressed to uncompressed, of this body or the one before
  RequestBody body_;
};

}  // namespace etl
