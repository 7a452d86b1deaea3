#include "destination/snowflake/value_reader.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

#include <arrow/api.h>
#include <nlohmann/json.hpp>

#include "decode/datetime.h"
#include "decode/numeric.h"
#include "decode/scalar.h"
#include "net/base64.h"

namespace etl {
namespace {

using Json = nlohmann::json;

// Where a value stands: as a column of its own type, or inside a VARIANT.
enum class Depth : uint8_t { kColumn, kNested };

template <typename Builder>
Builder& As(arrow::ArrayBuilder* builder) {
  return static_cast<Builder&>(*builder);
}

bool Is(CellResult result) { return result == CellResult::kOk; }

template <typename T>
bool Whole(std::string_view text, T* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size();
}

template <typename Builder, typename T>
bool AppendInteger(std::string_view text, arrow::ArrayBuilder* builder) {
  T value = 0;
  return Whole(text, &value) && As<Builder>(builder).Append(value).ok();
}

bool AppendBool(std::string_view text, arrow::ArrayBuilder* builder) {
  const bool yes = text == "true" || text == "TRUE" || text == "1";
  const bool no = text == "false" || text == "FALSE" || text == "0";
  return (yes || no) && As<arrow::BooleanBuilder>(builder).Append(yes).ok();
}

// A float4 is kept in 64 bits: it is the nearest one to what is stored.
bool AppendFloat(double value, arrow::ArrayBuilder* builder) {
  if (builder->type()->id() == arrow::Type::FLOAT)
    return As<arrow::FloatBuilder>(builder).Append(static_cast<float>(value)).ok();
  return As<arrow::DoubleBuilder>(builder).Append(value).ok();
}

bool AppendFloat(std::string_view text, arrow::ArrayBuilder* builder) {
  double value = 0;
  return Whole(text, &value) && AppendFloat(value, builder);
}

bool AppendDecimal(std::string_view text, arrow::ArrayBuilder* builder) {
  const auto& type = static_cast<const arrow::Decimal128Type&>(*builder->type());
  Int128 value = 0;
  if (!Is(DecimalFromText(text, type.precision(), type.scale(), &value))) return false;
  const arrow::Decimal128 decimal(static_cast<int64_t>(value >> 64), static_cast<uint64_t>(value));
  return As<arrow::Decimal128Builder>(builder).Append(decimal).ok();
}

int Nibble(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

std::optional<std::string> FromHex(std::string_view text) {
  if (text.size() % 2 != 0) return std::nullopt;
  std::string bytes(text.size() / 2, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    const int high = Nibble(text[2 * i]), low = Nibble(text[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    bytes[i] = static_cast<char>(high << 4 | low);
  }
  return bytes;
}

std::optional<std::string> FromBase64(std::string_view text) {
  std::string url(text);
  std::replace(url.begin(), url.end(), '+', '-');
  std::replace(url.begin(), url.end(), '/', '_');
  return DecodeBase64Url(url);
}

bool AppendBytes(std::string_view text, Depth depth, arrow::ArrayBuilder* builder) {
  const auto bytes = depth == Depth::kColumn ? FromHex(text) : FromBase64(text);
  return bytes.has_value() && As<arrow::BinaryBuilder>(builder).Append(*bytes).ok();
}

bool AppendUuid(std::string_view text, arrow::ArrayBuilder* builder) {
  uint8_t bytes[16];
  return Is(ParseUuidText(text, bytes)) &&
         As<arrow::FixedSizeBinaryBuilder>(builder).Append(bytes).ok();
}

bool AppendDate(std::string_view text, Depth depth, arrow::ArrayBuilder* builder) {
  int32_t days = 0;
  const bool read = depth == Depth::kColumn ? Whole(text, &days) : Is(ParseDateText(text, &days));
  return read && As<arrow::Date32Builder>(builder).Append(days).ok();
}

bool AppendTime(std::string_view text, Depth depth, arrow::ArrayBuilder* builder) {
  int64_t micros = 0;
  if (depth == Depth::kNested) {
    if (!Is(ParseTimeText(text, &micros))) return false;
  } else {
    const std::optional<int64_t> read = ParseSeconds(text);
    if (!read.has_value()) return false;
    micros = *read;
  }
  return As<arrow::Time64Builder>(builder).Append(micros).ok();
}

// Inside a VARIANT: `2024-01-02T03:04:05.000006Z`, or a form that PostgreSQL reads.
bool ParseNestedTimestamp(std::string_view text, bool zoned, int64_t* micros) {
  std::string own(text);
  if (own.size() > 10 && own[10] == 'T') {
    own[10] = ' ';
    if (zoned && own.ends_with('Z')) own.replace(own.size() - 1, 1, "+00");
  }
  return Is(zoned ? ParseTimestampTzText(own, micros) : ParseTimestampText(own, micros));
}

bool AppendTimestamp(std::string_view text, Depth depth, arrow::ArrayBuilder* builder) {
  const bool zoned = !static_cast<const arrow::TimestampType&>(*builder->type()).timezone().empty();
  int64_t micros = 0;
  if (depth == Depth::kNested) {
    if (!ParseNestedTimestamp(text, zoned, &micros)) return false;
  } else {
    // The instant stands before the offset, which changes nothing about it.
    if (zoned) text = text.substr(0, text.find(' '));
    const std::optional<int64_t> read = ParseSeconds(text);
    if (!read.has_value()) return false;
    micros = *read;
  }
  return As<arrow::TimestampBuilder>(builder).Append(micros).ok();
}

bool AppendInterval(std::string_view text, arrow::ArrayBuilder* builder) {
  const std::optional<IsoInterval> value = ParseIsoInterval(text);
  if (!value.has_value()) return false;
  return As<arrow::MonthDayNanoIntervalBuilder>(builder)
      .Append({value->months, value->days, value->nanoseconds})
      .ok();
}

bool AppendText(std::string_view text, Depth depth, arrow::ArrayBuilder* builder) {
  switch (builder->type()->id()) {
    case arrow::Type::BOOL: return AppendBool(text, builder);
    case arrow::Type::INT16: return AppendInteger<arrow::Int16Builder, int16_t>(text, builder);
    case arrow::Type::INT32: return AppendInteger<arrow::Int32Builder, int32_t>(text, builder);
    case arrow::Type::INT64: return AppendInteger<arrow::Int64Builder, int64_t>(text, builder);
    case arrow::Type::UINT32: return AppendInteger<arrow::UInt32Builder, uint32_t>(text, builder);
    case arrow::Type::FLOAT:
    case arrow::Type::DOUBLE: return AppendFloat(text, builder);
    case arrow::Type::DECIMAL128: return AppendDecimal(text, builder);
    case arrow::Type::STRING: return As<arrow::StringBuilder>(builder).Append(text).ok();
    case arrow::Type::BINARY: return AppendBytes(text, depth, builder);
    case arrow::Type::FIXED_SIZE_BINARY: return AppendUuid(text, builder);
    case arrow::Type::DATE32: return AppendDate(text, depth, builder);
    case arrow::Type::TIME64: return AppendTime(text, depth, builder);
    case arrow::Type::TIMESTAMP: return AppendTimestamp(text, depth, builder);
    case arrow::Type::INTERVAL_MONTH_DAY_NANO: return AppendInterval(text, builder);
    default: return false;
  }
}

bool AppendNested(const Json& value, arrow::ArrayBuilder* builder);

bool AppendList(const Json& value, arrow::ArrayBuilder* builder) {
  auto& list = As<arrow::ListBuilder>(builder);
  if (!value.is_array() || !list.Append().ok()) return false;
  return std::all_of(value.begin(), value.end(), [&](const Json& element) {
    return AppendNested(element, list.value_builder());
  });
}

// By name: an OBJECT has no order of its own.
bool AppendStruct(const Json& value, arrow::ArrayBuilder* builder) {
  auto& fields = As<arrow::StructBuilder>(builder);
  if (!value.is_object() || !fields.Append().ok()) return false;
  for (int i = 0; i < fields.num_fields(); ++i) {
    const auto at = value.find(fields.type()->field(i)->name());
    if (!AppendNested(at == value.end() ? Json() : *at, fields.field_builder(i))) return false;
  }
  return true;
}

bool AppendNested(const Json& value, arrow::ArrayBuilder* builder) {
  if (value.is_null()) return builder->AppendNull().ok();
  switch (builder->type()->id()) {
    case arrow::Type::LIST: return AppendList(value, builder);
    case arrow::Type::STRUCT: return AppendStruct(value, builder);
    case arrow::Type::BOOL:
      return value.is_boolean() &&
             As<arrow::BooleanBuilder>(builder).Append(value.get<bool>()).ok();
    case arrow::Type::FLOAT:
    case arrow::Type::DOUBLE:
      if (value.is_number()) return AppendFloat(value.get<double>(), builder);
      break;
    case arrow::Type::INT16:
    case arrow::Type::INT32:
    case arrow::Type::INT64:
    case arrow::Type::UINT32:
      return value.is_number_integer() && AppendText(value.dump(), Depth::kNested, builder);
    default: break;
  }
  return value.is_string() &&
         AppendText(value.get_ref<const std::string&>(), Depth::kNested, builder);
}

// A sign, digits and a letter: `-3D`.
struct Part {
  int64_t whole = 0;
  int64_t nanoseconds = 0;  ///< of the fraction, with the sign
  char unit = 0;
};

std::optional<Part> TakePart(std::string_view* text) {
  const size_t end = text->find_first_not_of("+-0123456789.");
  if (end == std::string_view::npos || end == 0) return std::nullopt;
  const std::string_view number = text->substr(0, end);
  Part part;
  part.unit = (*text)[end];
  text->remove_prefix(end + 1);
  const size_t point = number.find('.');
  const std::string_view before = number.substr(0, point);
  const bool negative = before.starts_with('-');
  if (before != "-" && !before.empty() && !Whole(before, &part.whole)) return std::nullopt;
  if (point == std::string_view::npos) return part;
  std::string digits(number.substr(point + 1));
  if (part.unit != 'S' || digits.empty() || digits.size() > 9) return std::nullopt;
  digits.resize(9, '0');
  if (!Whole(std::string_view(digits), &part.nanoseconds)) return std::nullopt;
  if (negative) part.nanoseconds = -part.nanoseconds;
  return part;
}

}  // namespace

std::optional<IsoInterval> ParseIsoInterval(std::string_view text) {
  constexpr int64_t kSecond = 1'000'000'000;
  if (!text.starts_with('P') || text.size() < 2) return std::nullopt;
  text.remove_prefix(1);
  int64_t months = 0, days = 0;
  IsoInterval out;
  bool time = false;
  while (!text.empty()) {
    if (!time && text.starts_with('T')) {
      time = true;
      text.remove_prefix(1);
      continue;
    }
    const std::optional<Part> part = TakePart(&text);
    if (!part.has_value()) return std::nullopt;
    if (!time && part->unit == 'Y') {
      months += 12 * part->whole;
    } else if (!time && part->unit == 'M') {
      months += part->whole;
    } else if (!time && part->unit == 'D') {
      days += part->whole;
    } else if (time && part->unit == 'H') {
      out.nanoseconds += part->whole * 3600 * kSecond;
    } else if (time && part->unit == 'M') {
      out.nanoseconds += part->whole * 60 * kSecond;
    } else if (time && part->unit == 'S') {
      out.nanoseconds += part->whole * kSecond + part->nanoseconds;
    } else {
      return std::nullopt;
    }
  }
  out.months = static_cast<int32_t>(months);
  out.days = static_cast<int32_t>(days);
  if (out.months != months || out.days != days) return std::nullopt;
  return out;
}

std::optional<int64_t> ParseSeconds(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  const size_t point = text.find('.');
  int64_t seconds = 0, micros = 0;
  if (!Whole(text.substr(0, point), &seconds) || seconds < 0) return std::nullopt;
  if (point != std::string_view::npos) {
    std::string fraction(text.substr(point + 1));
    while (fraction.size() > 6 && fraction.back() == '0') fraction.pop_back();
    if (fraction.size() > 6) return std::nullopt;
    fraction.resize(6, '0');
    if (!Whole(std::string_view(fraction), &micros) || micros < 0) return std::nullopt;
  }
  const int64_t all = seconds * 1'000'000 + micros;
  return negative ? -all : all;
}

bool AppendStored(const std::optional<std::string>& text, arrow::ArrayBuilder* builder) {
  if (!text.has_value()) return builder->AppendNull().ok();
  const arrow::Type::type type = builder->type()->id();
  if (type != arrow::Type::LIST && type != arrow::Type::STRUCT)
    return AppendText(*text, Depth::kColumn, builder);
  const Json value = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  return !value.is_discarded() && !value.is_null() && AppendNested(value, builder);
}

}  // namespace etl
