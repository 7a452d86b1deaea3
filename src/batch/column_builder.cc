#include "batch/column_builder.h"

#include <bit>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include <arrow/array/data.h>
#include <arrow/type.h>

#include "base/check.h"
#include "decode/datetime.h"
#include "decode/numeric.h"
#include "decode/scalar.h"

namespace etl {

bool ColumnBuilder::StartBitmap() {
  const int64_t size = (length_ + 7) / 8;
  bitmap_.Truncate(0);
  if (!bitmap_.Reserve(size + 1)) return false;
  if (size > 0) std::memset(bitmap_.tail(), 0xff, static_cast<size_t>(size));
  bitmap_.Advance(size);
  has_nulls_ = true;
  return true;
}

std::shared_ptr<arrow::ArrayData> ColumnBuilder::FinishWith(
    std::vector<std::shared_ptr<arrow::Buffer>> buffers,
    std::vector<std::shared_ptr<arrow::ArrayData>> children) {
  int64_t nulls = 0;
  std::shared_ptr<arrow::Buffer> validity;
  if (has_nulls_) {
    bitmap_.Truncate((length_ + 7) / 8);
    if (length_ % 8 != 0) {  // the bits behind the last value, so that all of them can be counted
      uint8_t& last = bitmap_[bitmap_.size() - 1];
      last = static_cast<uint8_t>(last & ((1u << (length_ % 8)) - 1));
    }
    nulls = length_;
    for (int64_t i = 0; i < bitmap_.size(); ++i) nulls -= std::popcount(bitmap_[i]);
    validity = bitmap_.Finish();
    if (nulls == 0) validity = nullptr;
  }
  std::vector<std::shared_ptr<arrow::Buffer>> all;
  all.reserve(buffers.size() + 1);
  all.push_back(std::move(validity));
  for (auto& buffer : buffers) all.push_back(std::move(buffer));
  auto data = arrow::ArrayData::Make(type_, length_, std::move(all), std::move(children), nulls);
  has_nulls_ = false;
  length_ = 0;
  return data;
}

namespace {

// Values of one size. Codec: `using Value`, FromText, FromBinary.
template <typename Codec>
class FixedBuilder : public ColumnBuilder {
 public:
  using Value = typename Codec::Value;

  FixedBuilder(std::shared_ptr<arrow::DataType> type, Codec codec)
      : ColumnBuilder(std::move(type)), codec_(codec) {}

  CellResult AppendText(std::string_view text) override {
    Value value;
    const CellResult result = codec_.FromText(text, &value);
    return result == CellResult::kOk ? Push(value) : result;
  }
  CellResult AppendBinary(std::string_view bytes) override {
    Value value;
    const CellResult result = codec_.FromBinary(bytes, &value);
    return result == CellResult::kOk ? Push(value) : result;
  }
  CellResult AppendNull() override {
    if (!values_.Reserve(1) || !PushNull()) return CellResult::kNoMemory;
    values_.UnsafePush(Value{});
    return CellResult::kOk;
  }
  void Truncate(int64_t length) override {
    TruncateValidity(length);
    values_.Truncate(length);
  }
  std::shared_ptr<arrow::ArrayData> Finish() override { return FinishWith({values_.Finish()}); }
  int64_t bytes() const override {
    return values_.size() * static_cast<int64_t>(sizeof(Value)) + validity_bytes();
  }

 protected:
  GrowBuffer<Value>& values() { return values_; }

 private:
  CellResult Push(const Value& value) {
    if (!values_.Reserve(1) || !PushValid()) [[unlikely]]
      return CellResult::kNoMemory;
    values_.UnsafePush(value);
    return CellResult::kOk;
  }

  Codec codec_;
  GrowBuffer<Value> values_;
};

template <typename T>
struct IntCodec {
  using Value = T;
  static CellResult FromText(std::string_view text, T* out) { return ParseIntText(text, out); }
  static CellResult FromBinary(std::string_view bytes, T* out) {
    return ParseIntBinary(bytes, out);
  }
};

template <typename T>
struct FloatCodec {
  using Value = T;
  static CellResult FromText(std::string_view text, T* out) { return ParseFloatText(text, out); }
  static CellResult FromBinary(std::string_view bytes, T* out) {
    return ParseFloatBinary(bytes, out);
  }
};

// A codec out of two functions.
template <typename T, CellResult (*kText)(std::string_view, T*),
          CellResult (*kBinary)(std::string_view, T*)>
struct FunctionCodec {
  using Value = T;
  static CellResult FromText(std::string_view text, T* out) { return kText(text, out); }
  static CellResult FromBinary(std::string_view bytes, T* out) { return kBinary(bytes, out); }
};
using DateCodec = FunctionCodec<int32_t, ParseDateText, ParseDateBinary>;
using TimestampCodec = FunctionCodec<int64_t, ParseTimestampText, ParseTimestampBinary>;
using TimestampTzCodec = FunctionCodec<int64_t, ParseTimestampTzText, ParseTimestampBinary>;
using TimeCodec = FunctionCodec<int64_t, ParseTimeText, ParseTimeBinary>;
using IntervalCodec = FunctionCodec<IntervalValue, ParseIntervalText, ParseIntervalBinary>;
static_assert(sizeof(IntervalValue) == 16);  // Arrow's month_day_nano

struct UuidCodec {
  struct Value {
    uint8_t bytes[16];
  };
  static CellResult FromText(std::string_view text, Value* out) {
    return ParseUuidText(text, out->bytes);
  }
  static CellResult FromBinary(std::string_view bytes, Value* out) {
    if (bytes.size() != sizeof(Value)) return CellResult::kMalformed;
    std::memcpy(out->bytes, bytes.data(), sizeof(Value));
    return CellResult::kOk;
  }
};

struct DecimalCodec {
  using Value = Int128;
  int precision;
  int scale;
  CellResult FromText(std::string_view text, Int128* out) const {
    return DecimalFromText(text, precision, scale, out);
  }
  CellResult FromBinary(std::string_view bytes, Int128* out) const {
    NumericView view;
    const CellResult result = ParseNumericBinary(bytes, &view);
    return result == CellResult::kOk ? NumericToDecimal(view, precision, scale, out) : result;
  }
};

// One byte a value while it grows, so that it can be cut back; packed at the end.
struct BoolCodec {
  using Value = uint8_t;
  static CellResult FromText(std::string_view text, uint8_t* out) {
    return Take(ParseBoolText, text, out);
  }
  static CellResult FromBinary(std::string_view bytes, uint8_t* out) {
    return Take(ParseBoolBinary, bytes, out);
  }
  static CellResult Take(CellResult (*parse)(std::string_view, bool*), std::string_view bytes,
                         uint8_t* out) {
    bool value = false;
    const CellResult result = parse(bytes, &value);
    *out = value ? 1 : 0;
    return result;
  }
};

class BoolBuilder final : public FixedBuilder<BoolCodec> {
 public:
  BoolBuilder() : FixedBuilder(arrow::boolean(), BoolCodec()) {}
  // Packs in place: the byte for eight values is never ahead of the first of them.
  std::shared_ptr<arrow::ArrayData> Finish() override {
    GrowBuffer<uint8_t>& bits = values();
    const int64_t count = bits.size();
    for (int64_t i = 0; i < count; i += 8) {
      unsigned byte = 0;
      for (int64_t k = i; k < std::min(i + 8, count); ++k) byte |= unsigned{bits[k]} << (k - i);
      bits[i / 8] = static_cast<uint8_t>(byte);
    }
    bits.Truncate((count + 7) / 8);
    return FixedBuilder::Finish();
  }
};

// Values of any length. Codec: Bound(bytes) is the most that Write…() puts down.
template <typename Codec>
class VarBuilder final : public ColumnBuilder {
 public:
  explicit VarBuilder(std::shared_ptr<arrow::DataType> type) : ColumnBuilder(std::move(type)) {}

  CellResult AppendText(std::string_view text) override {
    return Append(text, Codec::BoundText, Codec::WriteText);
  }
  CellResult AppendBinary(std::string_view bytes) override {
    return Append(bytes, Codec::BoundBinary, Codec::WriteBinary);
  }
  CellResult AppendNull() override {
    if (!ReserveValue(0) || !PushNull()) return CellResult::kNoMemory;
    offsets_.UnsafePush(static_cast<int32_t>(data_.size()));
    return CellResult::kOk;
  }
  void Truncate(int64_t length) override {
    TruncateValidity(length);
    if (offsets_.size() == 0) return;
    offsets_.Truncate(length + 1);
    data_.Truncate(offsets_[offsets_.size() - 1]);
  }
  std::shared_ptr<arrow::ArrayData> Finish() override {
    if (offsets_.size() == 0) offsets_.Push(0);
    std::shared_ptr<arrow::Buffer> offsets = offsets_.Finish();
    return FinishWith({std::move(offsets), data_.Finish()});
  }
  int64_t bytes() const override { return offsets_.size() * 4 + data_.size() + validity_bytes(); }

 private:
  // Room for one more value of `size` bytes; offsets are 32 bit.
  bool ReserveValue(size_t size) {
    if (size > static_cast<size_t>(std::numeric_limits<int32_t>::max() - data_.size())) [[unlikely]]
      return false;
    if (!data_.Reserve(static_cast<int64_t>(size)) || !offsets_.Reserve(2)) return false;
    if (offsets_.size() == 0) [[unlikely]]
      offsets_.UnsafePush(0);
    return true;
  }

  template <typename Bound, typename Write>
  CellResult Append(std::string_view cell, Bound bound, Write write) {
    if (!ReserveValue(bound(cell))) [[unlikely]]
      return CellResult::kNoMemory;
    size_t size = 0;
    const CellResult result = write(cell, data_.tail(), &size);
    if (result != CellResult::kOk) [[unlikely]]
      return result;
    if (!PushValid()) return CellResult::kNoMemory;
    data_.Advance(static_cast<int64_t>(size));
    offsets_.UnsafePush(static_cast<int32_t>(data_.size()));
    return CellResult::kOk;
  }

  GrowBuffer<int32_t> offsets_;
  GrowBuffer<char> data_;
};

inline void Copy(std::string_view cell, char* out, size_t* size) {
  if (!cell.empty()) std::memcpy(out, cell.data(), cell.size());
  *size = cell.size();
}

inline CellResult CopyUtf8(std::string_view cell, char* out, size_t* size) {
  if (!IsUtf8(cell)) return CellResult::kNotUtf8;
  Copy(cell, out, size);
  return CellResult::kOk;
}

// Types whose text form is their value; with or without a binary form that is the same.
template <bool kBinaryToo>
struct Utf8Codec {
  static size_t BoundText(std::string_view text) { return text.size(); }
  static CellResult WriteText(std::string_view text, char* out, size_t* size) {
    return CopyUtf8(text, out, size);
  }
  static size_t BoundBinary(std::string_view bytes) { return kBinaryToo ? bytes.size() : 0; }
  static CellResult WriteBinary(std::string_view bytes, char* out, size_t* size) {
    if constexpr (!kBinaryToo) return CellResult::kMalformed;
    return CopyUtf8(bytes, out, size);
  }
};

struct JsonbCodec : Utf8Codec<true> {
  static CellResult WriteBinary(std::string_view bytes, char* out, size_t* size) {
    std::string_view text;
    const CellResult result = ParseJsonbBinary(bytes, &text);
    return result == CellResult::kOk ? CopyUtf8(text, out, size) : result;
  }
};

struct CharCodec {
  static size_t BoundText(std::string_view) { return 4; }
  static CellResult WriteText(std::string_view text, char* out, size_t* size) {
    return ParseCharText(text, out, size);
  }
  static size_t BoundBinary(std::string_view) { return 4; }
  static CellResult WriteBinary(std::string_view bytes, char* out, size_t* size) {
    return ParseCharBinary(bytes, out, size);
  }
};

struct ByteaCodec {
  static size_t BoundText(std::string_view text) { return text.size() / 2; }
  static CellResult WriteText(std::string_view text, char* out, size_t* size) {
    if (!IsByteaHex(text)) return CellResult::kMalformed;
    *size = (text.size() - 2) / 2;
    return ParseByteaHex(text, reinterpret_cast<uint8_t*>(out));
  }
  static size_t BoundBinary(std::string_view bytes) { return bytes.size(); }
  static CellResult WriteBinary(std::string_view bytes, char* out, size_t* size) {
    Copy(bytes, out, size);
    return CellResult::kOk;
  }
};

struct NumericTextCodec : Utf8Codec<false> {
  static size_t BoundBinary(std::string_view bytes) {
    NumericView view;
    return ParseNumericBinary(bytes, &view) == CellResult::kOk ? NumericTextBound(view) : 0;
  }
  static CellResult WriteBinary(std::string_view bytes, char* out, size_t* size) {
    NumericView view;
    const CellResult result = ParseNumericBinary(bytes, &view);
    if (result == CellResult::kOk) *size = static_cast<size_t>(WriteNumericText(view, out) - out);
    return result;
  }
};

struct TimeTzCodec {
  static size_t BoundText(std::string_view text) { return text.size(); }
  static CellResult WriteText(std::string_view text, char* out, size_t* size) {
    const CellResult result = CheckTimeTzText(text);
    if (result == CellResult::kOk) Copy(text, out, size);
    return result;
  }
  static size_t BoundBinary(std::string_view) { return kTimeTzTextMax; }
  static CellResult WriteBinary(std::string_view bytes, char* out, size_t* size) {
    return WriteTimeTzText(bytes, out, size);
  }
};

template <typename Codec>
std::unique_ptr<ColumnBuilder> Fixed(std::shared_ptr<arrow::DataType> type, Codec codec = Codec()) {
  return std::make_unique<FixedBuilder<Codec>>(std::move(type), codec);
}

template <typename Codec>
std::unique_ptr<ColumnBuilder> Var(std::shared_ptr<arrow::DataType> type) {
  return std::make_unique<VarBuilder<Codec>>(std::move(type));
}

}  // namespace

std::unique_ptr<ColumnBuilder> ColumnBuilder::Make(const ColumnType& type) {
  auto arrow_type = ArrowTypeOf(type);
  switch (type.kind) {
    case TypeKind::kBool: return std::make_unique<BoolBuilder>();
    case TypeKind::kInt2: return Fixed<IntCodec<int16_t>>(arrow_type);
    case TypeKind::kInt4: return Fixed<IntCodec<int32_t>>(arrow_type);
    case TypeKind::kInt8: return Fixed<IntCodec<int64_t>>(arrow_type);
    case TypeKind::kOid: return Fixed<IntCodec<uint32_t>>(arrow_type);
    case TypeKind::kFloat4: return Fixed<FloatCodec<float>>(arrow_type);
    case TypeKind::kFloat8: return Fixed<FloatCodec<double>>(arrow_type);
    case TypeKind::kDecimal: return Fixed(arrow_type, DecimalCodec{type.precision, type.scale});
    case TypeKind::kNumericText: return Var<NumericTextCodec>(arrow_type);
    case TypeKind::kText:
    case TypeKind::kJson: return Var<Utf8Codec<true>>(arrow_type);
    case TypeKind::kServerText: return Var<Utf8Codec<false>>(arrow_type);
    case TypeKind::kChar: return Var<CharCodec>(arrow_type);
    case TypeKind::kBytea: return Var<ByteaCodec>(arrow_type);
    case TypeKind::kUuid: return Fixed<UuidCodec>(arrow_type);
    case TypeKind::kJsonb: return Var<JsonbCodec>(arrow_type);
    case TypeKind::kDate: return Fixed<DateCodec>(arrow_type);
    case TypeKind::kTimestamp: return Fixed<TimestampCodec>(arrow_type);
    case TypeKind::kTimestampTz: return Fixed<TimestampTzCodec>(arrow_type);
    case TypeKind::kTime: return Fixed<TimeCodec>(arrow_type);
    case TypeKind::kTimeTz: return Var<TimeTzCodec>(arrow_type);
    case TypeKind::kInterval: return Fixed<IntervalCodec>(arrow_type);
    case TypeKind::kList: return MakeListBuilder(type);
    case TypeKind::kStruct: return MakeStructBuilder(type);
  }
  ETL_CHECK(false);
}

}  // namespace etl
