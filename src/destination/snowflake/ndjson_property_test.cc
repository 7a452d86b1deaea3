#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>

#include <arrow/api.h>
#include <arrow/util/decimal.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "decode/datetime.h"
#include "decode/scalar.h"
#include "destination/snowflake/ndjson_testing.h"

// Generator values, written as NDJSON, parsed by another JSON library, and read back as a server
// would read them: every one must be the value it was.

namespace etl {
namespace {

using nlohmann::json;
using Generator = std::mt19937_64;

template <typename T>
T Bits(Generator* random) {
  const uint64_t bits[2] = {(*random)(), (*random)()};
  T value;
  std::memcpy(&value, bits, sizeof(T));
  return value;
}

std::string RandomText(Generator* random) {
  std::string text;
  const size_t size = (*random)() % ((*random)() % 16 == 0 ? 3000 : 40);
  for (size_t i = 0; i < size; ++i) {
    const auto pick = (*random)() % 10;
    uint32_t c = pick < 6   ? 32 + static_cast<uint32_t>((*random)() % 95)
                 : pick < 8 ? 1 + static_cast<uint32_t>((*random)() % 0x9f)
                            : static_cast<uint32_t>((*random)() % 0x110000);
    if (c == 0 || (c >= 0xd800 && c < 0xe000)) c = 0xfffd;
    if (c < 0x80) {
      text += static_cast<char>(c);
    } else if (c < 0x800) {
      text += {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
    } else if (c < 0x10000) {
      text += {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
               static_cast<char>(0x80 | (c & 63))};
    } else {
      text += {static_cast<char>(0xf0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 63)),
               static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
    }
  }
  return text;
}

int32_t RandomDay(Generator* random, bool nested) {
  const int64_t span = nested ? int64_t{1} << 31 : 2'932'897 + 719'162;
  const auto day = static_cast<int64_t>((*random)() % static_cast<uint64_t>(span));
  return static_cast<int32_t>(nested ? day - 2'451'545 : day - 719'162);
}

// A random value of the type as a scalar; in a column, one that a column can hold.
std::shared_ptr<arrow::Scalar> RandomScalar(const arrow::DataType& type, bool nested,
                                            Generator* random);

std::shared_ptr<arrow::Array> ArrayOf(const std::shared_ptr<arrow::DataType>& type, bool nested,
                                      int64_t length, Generator* random) {
  auto builder = arrow::MakeBuilder(type).ValueOrDie();
  for (int64_t i = 0; i < length; ++i) {
    const bool null = (*random)() % 5 == 0;
    EXPECT_TRUE(
        (null ? builder->AppendNull() : builder->AppendScalar(*RandomScalar(*type, nested, random)))
            .ok());
  }
  return builder->Finish().ValueOrDie();
}

std::shared_ptr<arrow::Scalar> RandomScalar(const arrow::DataType& type, bool nested,
                                            Generator* random) {
  const auto shared = type.GetSharedPtr();
  switch (type.id()) {
    case arrow::Type::BOOL: return arrow::MakeScalar((*random)() % 2 == 0);
    case arrow::Type::INT16: return arrow::MakeScalar(Bits<int16_t>(random));
    case arrow::Type::INT32: return arrow::MakeScalar(Bits<int32_t>(random));
    case arrow::Type::INT64: return arrow::MakeScalar(Bits<int64_t>(random));
    case arrow::Type::UINT32: return arrow::MakeScalar(Bits<uint32_t>(random));
    case arrow::Type::FLOAT: return arrow::MakeScalar(Bits<float>(random));
    case arrow::Type::DOUBLE: return arrow::MakeScalar(Bits<double>(random));
    case arrow::Type::DECIMAL128: {
      const auto precision = static_cast<const arrow::Decimal128Type&>(type).precision();
      std::string digits((*random)() % static_cast<uint64_t>(precision) + 1, '0');
      for (char& c : digits) c = static_cast<char>('0' + (*random)() % 10);
      if ((*random)() % 2 == 0) digits.insert(0, "-");
      return std::make_shared<arrow::Decimal128Scalar>(
          arrow::Decimal128::FromString(digits).ValueOrDie(), shared);
    }
    case arrow::Type::STRING: return arrow::MakeScalar(RandomText(random));
    case arrow::Type::BINARY:
      return std::make_shared<arrow::BinaryScalar>(RandomText(random) + Bits<char>(random));
    case arrow::Type::FIXED_SIZE_BINARY: {
      std::string bytes(16, '\0');
      for (char& c : bytes) c = Bits<char>(random);
      return std::make_shared<arrow::FixedSizeBinaryScalar>(std::move(bytes));
    }
    case arrow::Type::DATE32:
      return std::make_shared<arrow::Date32Scalar>(RandomDay(random, nested));
    case arrow::Type::TIMESTAMP:
      return std::make_shared<arrow::TimestampScalar>(
          int64_t{RandomDay(random, false) - (nested ? 1'000'000 : 0)} * 86'400'000'000 +
              static_cast<int64_t>((*random)() % 86'400'000'000),
          shared);
    case arrow::Type::TIME64:
      return std::make_shared<arrow::Time64Scalar>(
          static_cast<int64_t>((*random)() % 86'400'000'000), shared);
    case arrow::Type::INTERVAL_MONTH_DAY_NANO:
      return std::make_shared<arrow::MonthDayNanoIntervalScalar>(
          arrow::MonthDayNanoIntervalType::MonthDayNanos{
              Bits<int32_t>(random), Bits<int32_t>(random), Bits<int64_t>(random) / 1000 * 1000});
    case arrow::Type::LIST:
      return std::make_shared<arrow::ListScalar>(
          ArrayOf(type.field(0)->type(), true, static_cast<int64_t>((*random)() % 4), random));
    case arrow::Type::STRUCT: {
      arrow::ScalarVector fields;
      for (const auto& field : type.fields())
        fields.push_back(ArrayOf(field->type(), true, 1, random)->GetScalar(0).ValueOrDie());
      return std::make_shared<arrow::StructScalar>(fields, shared);
    }
    default: break;
  }
  ADD_FAILURE() << type.ToString();
  return arrow::MakeNullScalar(shared);
}

std::string FromBase64(const std::string& text) {
  static const std::string kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<uint32_t>(kDigits.find(c));
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count & 255);
  }
  EXPECT_EQ(text.size() % 4, 0u);
  return bytes;
}

// `P1Y2M-3DT4H5M6.789S`.
arrow::MonthDayNanoIntervalType::MonthDayNanos FromIso(const std::string& text) {
  arrow::MonthDayNanoIntervalType::MonthDayNanos value{0, 0, 0};
  constexpr int64_t kSecond = 1'000'000'000;
  bool time = false;
  for (size_t at = 1; at < text.size();) {
    if (text[at] == 'T') {
      time = true;
      ++at;
      continue;
    }
    const size_t end = text.find_first_of("YMDHS", at);
    const bool negative = text[at] == '-';
    const std::string number = text.substr(at, end - at);
    const int64_t whole = std::stoll(number);
    switch (text[end]) {
      case 'Y': value.months += static_cast<int32_t>(whole * 12); break;
      case 'M':
        if (time) {
          value.nanoseconds += whole * 60 * kSecond;
        } else {
          value.months += static_cast<int32_t>(whole);
        }
        break;
      case 'D': value.days = static_cast<int32_t>(whole); break;
      case 'H': value.nanoseconds += whole * 3600 * kSecond; break;
      default: {
        value.nanoseconds += whole * kSecond;
        const size_t point = number.find('.');
        if (point == std::string::npos) break;
        std::string fraction = number.substr(point + 1);
        fraction.resize(9, '0');
        value.nanoseconds += (negative ? -1 : 1) * std::stoll(fraction);
      }
    }
    at = end + 1;
  }
  return value;
}

template <typename T>
bool SameFloat(const json& read, T value) {
  if (std::isnan(value)) return read == "NaN";
  if (std::isinf(value)) return read == (value > 0 ? "Inf" : "-Inf");
  // FLOAT has 64 bits; a float4 is what it was when it is read into one again.
  const T back = static_cast<T>(read.get<double>());
  return read.is_number() && back == value && std::signbit(back) == std::signbit(value);
}

std::string SpacedTimestamp(std::string text) {
  if (text.size() > 10 && text[10] == 'T') text[10] = ' ';
  if (text.ends_with('Z')) text.replace(text.size() - 1, 1, "+00");
  return text;
}

bool Same(const json& read, const arrow::Scalar& value, bool nested);

bool SameList(const json& read, const arrow::Array& array) {
  if (!read.is_array() || static_cast<int64_t>(read.size()) != array.length()) return false;
  for (int64_t i = 0; i < array.length(); ++i) {
    if (!Same(read[static_cast<size_t>(i)], *array.GetScalar(i).ValueOrDie(), true)) return false;
  }
  return true;
}

bool SameStruct(const json& read, const arrow::StructScalar& value) {
  const auto& fields = value.type->fields();
  if (!read.is_object() || read.size() != fields.size()) return false;
  for (size_t i = 0; i < fields.size(); ++i) {
    const auto found = read.find(fields[i]->name());
    if (found == read.end() || !Same(*found, *value.value[i], true)) return false;
  }
  return true;
}

bool Same(const json& read, const arrow::Scalar& value, bool nested) {
  if (!value.is_valid) return read.is_null();
  switch (value.type->id()) {
    case arrow::Type::BOOL: return read == static_cast<const arrow::BooleanScalar&>(value).value;
    case arrow::Type::INT16:
    case arrow::Type::INT32:
    case arrow::Type::INT64:
    case arrow::Type::UINT32: return read.is_number_integer() && read.dump() == value.ToString();
    case arrow::Type::FLOAT:
      return SameFloat(read, static_cast<const arrow::FloatScalar&>(value).value);
    case arrow::Type::DOUBLE:
      return SameFloat(read, static_cast<const arrow::DoubleScalar&>(value).value);
    case arrow::Type::DECIMAL128: {
      if (nested && !read.is_string()) return false;
      const auto scale = static_cast<const arrow::Decimal128Type&>(*value.type).scale();
      const std::string text = read.is_string() ? read.get<std::string>() : read.dump();
      arrow::Decimal128 back;
      int32_t precision = 0;
      int32_t back_scale = 0;
      return arrow::Decimal128::FromString(text, &back, &precision, &back_scale).ok() &&
             back_scale == scale && (read.is_string() || scale == 0) &&
             back == static_cast<const arrow::Decimal128Scalar&>(value).value;
    }
    case arrow::Type::STRING:
      return read == static_cast<const arrow::StringScalar&>(value).value->ToString();
    case arrow::Type::BINARY:
      return FromBase64(read.get<std::string>()) ==
             static_cast<const arrow::BinaryScalar&>(value).value->ToString();
    case arrow::Type::FIXED_SIZE_BINARY: {
      uint8_t bytes[16];
      return ParseUuidText(read.get<std::string>(), bytes) == CellResult::kOk &&
             std::memcmp(bytes,
                         static_cast<const arrow::FixedSizeBinaryScalar&>(value).value->data(),
                         16) == 0;
    }
    case arrow::Type::DATE32: {
      int32_t back = 0;
      const auto text = read.get<std::string>();
      return ParseDateText(text, &back) == CellResult::kOk && (nested || text.size() == 10) &&
             back == static_cast<const arrow::Date32Scalar&>(value).value;
    }
    case arrow::Type::TIMESTAMP: {
      int64_t back = 0;
      const bool utc = !static_cast<const arrow::TimestampType&>(*value.type).timezone().empty();
      const auto text = read.get<std::string>();
      if (!nested && text.size() != (utc ? 27u : 26u)) return false;
      const std::string spaced = SpacedTimestamp(text);
      const auto parsed =
          utc ? ParseTimestampTzText(spaced, &back) : ParseTimestampText(spaced, &back);
      return parsed == CellResult::kOk &&
             back == static_cast<const arrow::TimestampScalar&>(value).value;
    }
    case arrow::Type::TIME64: {
      int64_t back = 0;
      return ParseTimeText(read.get<std::string>(), &back) == CellResult::kOk &&
             back == static_cast<const arrow::Time64Scalar&>(value).value;
    }
    case arrow::Type::INTERVAL_MONTH_DAY_NANO:
      return FromIso(read.get<std::string>()) ==
             static_cast<const arrow::MonthDayNanoIntervalScalar&>(value).value;
    case arrow::Type::LIST:
      return SameList(read, *static_cast<const arrow::ListScalar&>(value).value);
    case arrow::Type::STRUCT:
      return SameStruct(read, static_cast<const arrow::StructScalar&>(value));
    default: return false;
  }
}

TEST(NdjsonProperty, EveryLineReadsBackAsTheValuesItWasMadeOf) {
  using enum TypeKind;
  std::vector<TestColumn> columns{{"ID", TypeOf(kInt8)}};
  const auto add = [&columns](ColumnTypePtr type) {
    columns.push_back({"C" + std::to_string(columns.size()), type});
    columns.push_back({"C" + std::to_string(columns.size()), ListOf(type, 2)});
    columns.push_back({"C" + std::to_string(columns.size()),
                       StructOf({{"x", type}, {"\"y\n", ListOf(StructOf({{"z", type}}))}})});
  };
  for (const TypeKind kind : {kBool, kInt2, kInt4, kInt8, kOid, kFloat4, kFloat8, kText, kBytea,
                              kUuid, kJsonb, kDate, kTimestamp, kTimestampTz, kTime, kInterval}) {
    add(TypeOf(kind));
  }
  for (const auto& [precision, scale] :
       {std::pair{12, 2}, {18, 18}, {19, 0}, {38, 0}, {38, 19}, {38, 37}, {5, 0}})
    add(TypeOf(kDecimal, precision, scale));

  Generator random(20'260'102);
  const auto schema = SchemaOf(columns);
  const auto encoder =
      NdjsonEncoder::Make(schema, NamesOf(*schema), OnUnrepresentable::kError).ValueOrDie();
  constexpr int64_t kRows = 200;
  ChangeBatch batch = BatchOf(schema, {});
  arrow::ArrayVector arrays;
  const auto arrow_schema = schema->ArrowSchema();
  for (const auto& field : arrow_schema->fields())
    arrays.push_back(ArrayOf(field->type(), false, kRows, &random));
  batch.rows = arrow::RecordBatch::Make(arrow_schema, kRows, arrays);
  for (int64_t row = 0; row < kRows; ++row) {
    batch.ops.push_back(Op::kInsert);
    batch.ordinals.push_back(static_cast<uint64_t>(row));
  }
  batch.transactions[0].end_row = kRows;
  ASSERT_TRUE(encoder->Bind(batch).ok());
  for (int64_t row = 0; row < kRows; ++row) {
    TextBuffer out;
    ASSERT_TRUE(encoder->AppendRow(row, &out).ok());
    const json line = json::parse(out.view());
    size_t keys = 3;
    for (size_t i = 0; i < columns.size(); ++i) {
      const auto value = arrays[i]->GetScalar(row).ValueOrDie();
      const auto found = line.find(columns[i].name);
      ASSERT_EQ(found != line.end(), value->is_valid);
      if (!value->is_valid) continue;
      ++keys;
      ASSERT_TRUE(Same(*found, *value, false))
          << value->type->ToString() << " " << value->ToString() << " " << found->dump();
    }
    ASSERT_EQ(line.size(), keys);
  }
}

}  // namespace
}  // namespace etl
