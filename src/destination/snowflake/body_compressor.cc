#include "destination/snowflake/body_compressor.h"

#include <algorithm>
#include <string>
#include <utility>

#include <zlib.h>
#include <zstd.h>

namespace etl {
namespace {

// What zstd compresses at once; it holds back up to so much, and nothing that is compressed where
// there is room for the whole block.
constexpr size_t kBlock = 128 << 10;
constexpr size_t kRoom = BodyCompressor::Bound(kBlock) + 64;

Status CompressorError(const char* which, const char* why) {
  return MakeError(ErrorKind::kInternal, "ETL-D146",
                   std::string(which) + " could not compress a request: " + why);
}

class ZstdCompressor final : public BodyCompressor {
 public:
  explicit ZstdCompressor(int level) : context_(ZSTD_createCCtx()) {
    Set(ZSTD_c_compressionLevel, level);
    // The window stays at what the level says, 512 KiB: in a smaller one zstd's ring buffer wraps
    // with nearly every block, and matching across the seam is slower.
    Set(ZSTD_c_checksumFlag, 1);
  }
  bool usable() const { return context_ != nullptr; }

  Status Append(std::string_view raw, TextBuffer* out) override {
    ZSTD_inBuffer input{raw.data(), raw.size(), 0};
    while (input.pos < input.size) {
      ETL_RETURN_IF_ERROR(Step(&input, ZSTD_e_continue, out).status());
    }
    held_ = std::min(held_ + raw.size(), kBlock);
    return Status::OK();
  }
  Status Finish(TextBuffer* out) override {
    ZSTD_inBuffer input{nullptr, 0, 0};
    for (size_t left = 1; left != 0;) {
      ETL_ASSIGN_OR_RETURN(left, Step(&input, ZSTD_e_end, out));
    }
    held_ = 0;
    return Status::OK();
  }
  void Reset() override {
    ZSTD_CCtx_reset(context_.get(), ZSTD_reset_session_only);
    held_ = 0;
  }
  // With the header, the last block's and the checksum.
  size_t HeldMax() const override { return Bound(held_) + 64; }
  size_t memory() const override { return ZSTD_sizeof_CCtx(context_.get()); }
  std::string_view name() const override { return "zstd"; }

 private:
  struct Free {
    void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  };
  void Set(ZSTD_cParameter parameter, int value) {
    if (context_ != nullptr) ZSTD_CCtx_setParameter(context_.get(), parameter, value);
  }
  Result<size_t> Step(ZSTD_inBuffer* input, ZSTD_EndDirective end, TextBuffer* out) {
    char* at = out->Reserve(kRoom);
    ZSTD_outBuffer output{at, out->capacity() - out->size(), 0};
    const size_t left = ZSTD_compressStream2(context_.get(), &output, input, end);
    if (ZSTD_isError(left)) return CompressorError("zstd", ZSTD_getErrorName(left));
    out->SetEnd(at + output.pos);
    return left;
  }

  std::unique_ptr<ZSTD_CCtx, Free> context_;
  size_t held_ = 0;
};

class GzipCompressor final : public BodyCompressor {
 public:
  explicit GzipCompressor(int level) {
    // 16: the gzip form.
    usable_ =
        deflateInit2(&stream_, level, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK;
  }
  ~GzipCompressor() override { deflateEnd(&stream_); }
  GzipCompressor(const GzipCompressor&) = delete;
  GzipCompressor& operator=(const GzipCompressor&) = delete;
  bool usable() const { return usable_; }

  Status Append(std::string_view raw, TextBuffer* out) override {
    // zlib's lengths have 32 bits.
    while (!raw.empty()) {
      const std::string_view piece = raw.substr(0, size_t{1} << 30);
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(piece.data()));
      stream_.avail_in = static_cast<uInt>(piece.size());
      while (stream_.avail_in > 0) {
        if (Step(Z_NO_FLUSH, out) != Z_OK) return CompressorError("zlib", "deflate failed");
      }
      raw.remove_prefix(piece.size());
    }
    return Status::OK();
  }
  Status Finish(TextBuffer* out) override {
    int result = Z_OK;
    while (result == Z_OK) result = Step(Z_FINISH, out);
    if (result != Z_STREAM_END) return CompressorError("zlib", "deflate failed");
    Reset();
    return Status::OK();
  }
  void Reset() override { deflateReset(&stream_); }
  // zlib does not tell what it holds: at most its window, twice, and 16384 symbols of up to 48
  // bits.
  size_t HeldMax() const override { return 256 << 10; }
  size_t memory() const override { return 272 << 10; }  // as zlib's manual says
  std::string_view name() const override { return "gzip"; }

 private:
  int Step(int flush, TextBuffer* out) {
    char* at = out->Reserve(kRoom);
    stream_.next_out = reinterpret_cast<Bytef*>(at);
    stream_.avail_out =
        static_cast<uInt>(std::min<size_t>(out->capacity() - out->size(), size_t{1} << 30));
    const int result = deflate(&stream_, flush);
    out->SetEnd(reinterpret_cast<char*>(stream_.next_out));
    return result;
  }

  z_stream stream_{};
  bool usable_ = false;
};

template <typename T>
Result<std::unique_ptr<BodyCompressor>> Usable(int level) {
  auto made = std::make_unique<T>(level);
  if (!made->usable()) return CompressorError("the library", "no memory");
  return made;
}

}  // namespace

Result<std::unique_ptr<BodyCompressor>> BodyCompressor::Make(Compression compression, int level) {
  if (compression == Compression::kZstd) return Usable<ZstdCompressor>(std::clamp(level, -7, 19));
  return Usable<GzipCompressor>(std::clamp(level, 1, 9));
}

}  // namespace etl
