#include "destination/snowflake/value_encoder.h"

#include <charconv>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <arrow/array/data.h>
#include <arrow/type.h>

#include "destination/snowflake/json_escape.h"
#include "destination/snowflake/value_text.h"

namespace etl {

void ValueEncoder::Bind(const arrow::ArrayData& data) {
  validity_ = data.buffers[0] == nullptr ? nullptr : data.buffers[0]->data();
  offset_ = data.offset;
}

namespace {

// Where a value stands: as a column of its own type, or inside a VARIANT.
enum class Place : uint8_t { kColumn, kNested };

Result<std::unique_ptr<ValueEncoder>> MakeEncoder(const arrow::DataType& type, Place place);

char* Fault(LineSink* sink, const char* why) {
  sink->fault = why;
  return nullptr;
}

char* WriteLiteral(std::string_view text, char* at) {
  std::memcpy(at, text.data(), text.size());
  return at + text.size();
}

class BoolEncoder final : public ValueEncoder {
 public:
  void Bind(const arrow::ArrayData& data) override {
    ValueEncoder::Bind(data);
    bits_ = data.buffers[1]->data();
    offset_ = data.offset;
  }
  char* Write(int64_t row, char* at, LineSink*) override {
    const int64_t bit = offset_ + row;
    return WriteLiteral((bits_[bit / 8] >> (bit % 8) & 1) != 0 ? "true" : "false", at);
  }

 private:
  const uint8_t* bits_ = nullptr;
  int64_t offset_ = 0;
};

// Values of one size.
template <typename T>
class FixedEncoder : public ValueEncoder {
 public:
  void Bind(const arrow::ArrayData& data) override {
    ValueEncoder::Bind(data);
    values_ = data.GetValues<T>(1);
  }

 protected:
  const T& Value(int64_t row) const { return values_[row]; }

 private:
  const T* values_ = nullptr;
};

template <typename T>
class IntegerEncoder final : public FixedEncoder<T> {
 public:
  char* Write(int64_t row, char* at, LineSink*) override {
    return std::to_chars(at, at + 20, this->Value(row)).ptr;
  }
};

template <typename T>
class FloatEncoder final : public FixedEncoder<T> {
 public:
  char* Write(int64_t row, char* at, LineSink*) override {
    const T value = this->Value(row);
    if (std::isfinite(value)) [[likely]]
      return WriteFloat(value, at);
    *at++ = '"';
    at = WriteFloat(value, at);
    *at++ = '"';
    return at;
  }
};

// Something between quotes that needs no escapes.
template <typename T, typename Body>
char* Quoted(const T& value, char* at, Body body) {
  *at++ = '"';
  at = body(value, at);
  *at++ = '"';
  return at;
}

class DateEncoder final : public FixedEncoder<int32_t> {
 public:
  explicit DateEncoder(Place place) : place_(place) {}
  char* Write(int64_t row, char* at, LineSink* sink) override {
    const int32_t days = Value(row);
    if (days >= kFirstDay && days <= kLastDay) [[likely]]
      return Quoted(days, at, WriteDate);
    if (place_ == Place::kNested) return Quoted(days, at, WriteWideDate);
    return Fault(sink, "a DATE has the years 0001 to 9999");
  }

 private:
  const Place place_;
};

class TimestampEncoder final : public FixedEncoder<int64_t> {
 public:
  TimestampEncoder(Place place, bool utc) : place_(place), utc_(utc) {}
  char* Write(int64_t row, char* at, LineSink* sink) override {
    const int64_t micros = Value(row);
    if (!TimestampFits(micros)) [[unlikely]] {
      if (place_ == Place::kColumn) return Fault(sink, "a TIMESTAMP has the years 0001 to 9999");
      return Quoted(micros, at,
                    [this](int64_t v, char* to) { return WriteWideTimestamp(v, utc_, to); });
    }
    return Quoted(micros, at, [this](int64_t v, char* to) {
      to = WriteTimestamp(v, to);
      *to = 'Z';
      return to + (utc_ ? 1 : 0);
    });
  }

 private:
  const Place place_;
  const bool utc_;
};

class TimeEncoder final : public FixedEncoder<int64_t> {
 public:
  explicit TimeEncoder(Place place) : place_(place) {}
  char* Write(int64_t row, char* at, LineSink* sink) override {
    const int64_t micros = Value(row);
    if (micros >= kMicrosPerDay && place_ == Place::kColumn)
      return Fault(sink, "a TIME is before the end of the day");
    return Quoted(micros, at, WriteTime);
  }

 private:
  const Place place_;
};

class DecimalEncoder final : public FixedEncoder<Decimal> {
 public:
  DecimalEncoder(Place place, int scale) : place_(place), scale_(scale) {}
  char* Write(int64_t row, char* at, LineSink*) override {
    const Decimal value = Value(row);
    // Beyond 63 bits a JSON number may pass through a double on its way.
    const bool short_integer = scale_ == 0 && value.high == static_cast<int64_t>(value.low) >> 63;
    if (short_integer && place_ == Place::kColumn) return WriteDecimal(value, 0, at);
    return Quoted(value, at, [this](Decimal v, char* to) { return WriteDecimal(v, scale_, to); });
  }

 private:
  const Place place_;
  const int scale_;
};

struct IntervalParts {
  int32_t months, days;
  int64_t nanoseconds;
};

class IntervalEncoder final : public FixedEncoder<IntervalParts> {
 public:
  char* Write(int64_t row, char* at, LineSink*) override {
    return Quoted(Value(row), at, [](const IntervalParts& v, char* to) {
      return WriteInterval(v.months, v.days, v.nanoseconds, to);
    });
  }
};

struct UuidBytes {
  uint8_t bytes[16];
};

class UuidEncoder final : public FixedEncoder<UuidBytes> {
 public:
  char* Write(int64_t row, char* at, LineSink*) override {
    return Quoted(Value(row), at,
                  [](const UuidBytes& v, char* to) { return WriteUuid(v.bytes, to); });
  }
};

// Values of any size, as offsets and bytes.
class BytesEncoder : public ValueEncoder {
 public:
  void Bind(const arrow::ArrayData& data) override {
    ValueEncoder::Bind(data);
    offsets_ = data.GetValues<int32_t>(1);
    bytes_ = data.buffers[2] == nullptr ? nullptr
                                        : reinterpret_cast<const char*>(data.buffers[2]->data());
  }

 protected:
  std::string_view Value(int64_t row) const {
    const int32_t begin = offsets_[row];
    return {bytes_ + begin, static_cast<size_t>(offsets_[row + 1] - begin)};
  }

 private:
  const int32_t* offsets_ = nullptr;
  const char* bytes_ = nullptr;
};

class TextEncoder final : public BytesEncoder {
 public:
  char* Write(int64_t row, char* at, LineSink* sink) override {
    const std::string_view text = Value(row);
    if (text.size() > kVarcharBytesMax) [[unlikely]]
      return Fault(sink, "a VARCHAR has at most 134217728 bytes");
    return WriteQuoted(text, at, sink->margin, sink->out);
  }
};

class BinaryEncoder final : public BytesEncoder {
 public:
  char* Write(int64_t row, char* at, LineSink* sink) override {
    const std::string_view bytes = Value(row);
    if (bytes.size() > kBinaryBytesMax) [[unlikely]]
      return Fault(sink, "a BINARY has at most 67108864 bytes");
    at = sink->out->ReserveAt(at, Base64Size(bytes.size()) + 2 + sink->margin);
    return Quoted(bytes, at, WriteBase64);
  }
};

// One element of a list or field of a struct, NULL or not.
char* WriteElement(ValueEncoder* encoder, int64_t row, char* at, LineSink* sink) {
  at = sink->out->ReserveAt(at, ValueEncoder::kFixedMax + sink->margin);
  return encoder->IsNull(row) ? WriteLiteral("null", at) : encoder->Write(row, at, sink);
}

// Lists and structs. What is a column of its own has a limit on its size.
class NestedEncoder : public ValueEncoder {
 public:
  explicit NestedEncoder(Place place) : place_(place) {}
  char* Write(int64_t row, char* at, LineSink* sink) final {
    const auto begin = at - sink->out->data();
    at = WriteAll(row, at, sink);
    if (at == nullptr || place_ == Place::kNested) return at;
    if (static_cast<size_t>(at - sink->out->data() - begin) > kVariantBytesMax)
      return Fault(sink, "a VARIANT has at most 134217728 bytes");
    return sink->out->ReserveAt(at, sink->margin);
  }

 protected:
  virtual char* WriteAll(int64_t row, char* at, LineSink* sink) = 0;

 private:
  const Place place_;
};

class ListEncoder final : public NestedEncoder {
 public:
  ListEncoder(Place place, std::unique_ptr<ValueEncoder> element)
      : NestedEncoder(place), element_(std::move(element)) {}
  void Bind(const arrow::ArrayData& data) override {
    ValueEncoder::Bind(data);
    offsets_ = data.GetValues<int32_t>(1);
    element_->Bind(*data.child_data[0]);
  }

 protected:
  char* WriteAll(int64_t row, char* at, LineSink* sink) override {
    const int32_t begin = offsets_[row];
    *at++ = '[';
    for (int32_t i = begin; i < offsets_[row + 1]; ++i) {
      at = sink->out->ReserveAt(at, 1);
      if (i > begin) *at++ = ',';
      at = WriteElement(element_.get(), i, at, sink);
      if (at == nullptr) return nullptr;
    }
    at = sink->out->ReserveAt(at, 1);
    *at++ = ']';
    return at;
  }

 private:
  std::unique_ptr<ValueEncoder> element_;
  const int32_t* offsets_ = nullptr;
};

struct FieldEncoder {
  std::string key;  // `"name":`, after a comma or the brace
  std::unique_ptr<ValueEncoder> value;
};

class StructEncoder final : public NestedEncoder {
 public:
  StructEncoder(Place place, std::vector<FieldEncoder> fields)
      : NestedEncoder(place), fields_(std::move(fields)) {}
  void Bind(const arrow::ArrayData& data) override {
    ValueEncoder::Bind(data);
    offset_ = data.offset;
    for (size_t i = 0; i < fields_.size(); ++i) fields_[i].value->Bind(*data.child_data[i]);
  }

 protected:
  char* WriteAll(int64_t row, char* at, LineSink* sink) override {
    for (const FieldEncoder& field : fields_) {
      at = sink->out->ReserveAt(at, field.key.size());
      at = WriteElement(field.value.get(), offset_ + row, WriteLiteral(field.key, at), sink);
      if (at == nullptr) return nullptr;
    }
    at = sink->out->ReserveAt(at, 3);
    return WriteLiteral(fields_.empty() ? "{}" : "}", at);
  }

 private:
  std::vector<FieldEncoder> fields_;
  int64_t offset_ = 0;
};

Result<std::unique_ptr<ValueEncoder>> MakeStruct(const arrow::DataType& type, Place place) {
  std::vector<FieldEncoder> fields;
  for (const auto& field : type.fields()) {
    ETL_ASSIGN_OR_RETURN(auto value, MakeEncoder(*field->type(), Place::kNested));
    fields.push_back(
        {(fields.empty() ? "{" : ",") + JsonString(field->name()) + ":", std::move(value)});
  }
  return std::make_unique<StructEncoder>(place, std::move(fields));
}

Result<std::unique_ptr<ValueEncoder>> MakeTimestamp(const arrow::DataType& type, Place place) {
  const auto& timestamp = static_cast<const arrow::TimestampType&>(type);
  if (timestamp.unit() != arrow::TimeUnit::MICRO)
    return MakeError(ErrorKind::kInternal, "ETL-D146", "no column has the type " + type.ToString());
  return std::make_unique<TimestampEncoder>(place, !timestamp.timezone().empty());
}

Result<std::unique_ptr<ValueEncoder>> MakeEncoder(const arrow::DataType& type, Place place) {
  switch (type.id()) {
    case arrow::Type::BOOL: return std::make_unique<BoolEncoder>();
    case arrow::Type::INT16: return std::make_unique<IntegerEncoder<int16_t>>();
    case arrow::Type::INT32: return std::make_unique<IntegerEncoder<int32_t>>();
    case arrow::Type::INT64: return std::make_unique<IntegerEncoder<int64_t>>();
    case arrow::Type::UINT32: return std::make_unique<IntegerEncoder<uint32_t>>();
    case arrow::Type::FLOAT: return std::make_unique<FloatEncoder<float>>();
    case arrow::Type::DOUBLE: return std::make_unique<FloatEncoder<double>>();
    case arrow::Type::DECIMAL128:
      return std::make_unique<DecimalEncoder>(
          place, static_cast<const arrow::Decimal128Type&>(type).scale());
    case arrow::Type::STRING: return std::make_unique<TextEncoder>();
    case arrow::Type::BINARY: return std::make_unique<BinaryEncoder>();
    case arrow::Type::DATE32: return std::make_unique<DateEncoder>(place);
    case arrow::Type::TIMESTAMP: return MakeTimestamp(type, place);
    case arrow::Type::TIME64: return std::make_unique<TimeEncoder>(place);
    case arrow::Type::INTERVAL_MONTH_DAY_NANO: return std::make_unique<IntervalEncoder>();
    case arrow::Type::FIXED_SIZE_BINARY:
      if (static_cast<const arrow::FixedSizeBinaryType&>(type).byte_width() == 16)
        return std::make_unique<UuidEncoder>();
      break;
    case arrow::Type::LIST: {
      ETL_ASSIGN_OR_RETURN(auto element, MakeEncoder(*type.field(0)->type(), Place::kNested));
      return std::make_unique<ListEncoder>(place, std::move(element));
    }
    case arrow::Type::STRUCT: return MakeStruct(type, place);
    default: break;
  }
  return MakeError(ErrorKind::kInternal, "ETL-D146", "no column has the type " + type.ToString());
}

}  // namespace

Result<std::unique_ptr<ValueEncoder>> ValueEncoder::Make(const arrow::DataType& type) {
  return MakeEncoder(type, Place::kColumn);
}

}  // namespace etl
