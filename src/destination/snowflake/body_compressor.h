#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/status.h"
#include "destination/snowflake/text_buffer.h"

namespace etl {

enum class Compression : uint8_t { kZstd, kGzip };

/// Compresses one request body after another, piece by piece, with one long-lived state. zstd and
/// zlib stop here. One owner, one thread.
class BodyCompressor {
 public:
  /// `level`: zstd -7 to 19, gzip 1 to 9; nearer levels are taken for others.
  static Result<std::unique_ptr<BodyCompressor>> Make(Compression compression, int level);
  virtual ~BodyCompressor() = default;

  /// Compresses `raw`, which need not live on, and appends to `out` what came of it so far.
  virtual Status Append(std::string_view raw, TextBuffer* out) = 0;
  /// Ends the body: all of it is in `out` then. The next Append begins another.
  virtual Status Finish(TextBuffer* out) = 0;
  /// Forgets a body that was begun.
  virtual void Reset() = 0;
  /// The most that Finish can append now.
  virtual size_t HeldMax() const = 0;
  /// The most that `raw` more bytes can add to that, whatever they are.
  static constexpr size_t Bound(size_t raw) { return raw + (raw >> 8) + 64; }
  /// Memory in use, about.
  virtual size_t memory() const = 0;
  /// Value of the header Content-Encoding.
  virtual std::string_view name() const = 0;
};

}  // namespace etl
