#include "decode/datetime.h"

#include <cstring>

#include "base/byte_reader.h"

namespace etl {
namespace {

constexpr int64_t kEpochDays =
    10957;  // 1970-01-01 to 2000-01-01, where PostgreSQL's calendar begins
constexpr int64_t kDayMicros = 86'400'000'000;
static_assert(kPostgresEpochMicros == kEpochDays * kDayMicros);
constexpr int64_t kIntervalMicrosMax = 9'223'372'036'854'775;  // more overflows nanoseconds

// Reads text from the front; the first thing that does not match makes it bad.
class TextReader {
 public:
  explicit TextReader(std::string_view text) : at_(text.data()), end_(at_ + text.size()) {}

  bool empty() const { return at_ == end_; }
  char Peek() const { return at_ == end_ ? '\0' : *at_; }
  bool Skip(char c) {
    if (Peek() != c || empty()) return false;
    ++at_;
    return true;
  }
  bool Skip(std::string_view word) {
    if (static_cast<size_t>(end_ - at_) < word.size() ||
        std::memcmp(at_, word.data(), word.size()) != 0)
      return false;
    at_ += word.size();
    return true;
  }
  // Exactly two digits.
  int Two() {
    if (end_ - at_ < 2) return Bad();
    const unsigned tens = static_cast<unsigned char>(at_[0]) - unsigned{'0'};
    const unsigned ones = static_cast<unsigned char>(at_[1]) - unsigned{'0'};
    if (tens > 9 || ones > 9) return Bad();
    at_ += 2;
    return static_cast<int>(tens * 10 + ones);
  }
  // One to `digits_max` digits.
  int64_t Number(int digits_min, int digits_max) {
    int64_t value = 0;
    int digits = 0;
    while (at_ != end_ && static_cast<unsigned char>(*at_ - '0') <= 9) {
      if (++digits > digits_max) return Bad();
      value = value * 10 + (*at_++ - '0');
    }
    return digits < digits_min ? Bad() : value;
  }
  // `.ffffff` as microseconds; nothing is zero.
  int64_t Fraction() {
    if (!Skip('.')) return 0;
    int64_t value = 0;
    int digits = 0;
    for (; at_ != end_ && static_cast<unsigned char>(*at_ - '0') <= 9; ++digits)
      value = value * 10 + (*at_++ - '0');
    if (digits < 1 || digits > 6) return Bad();
    for (; digits < 6; ++digits) value *= 10;
    return value;
  }
  int Bad() {
    bad_ = true;
    at_ = end_;
    return 0;
  }
  bool bad() const { return bad_; }

 private:
  const char* at_;
  const char* end_;
  bool bad_ = false;
};

// Days since 1970-01-01 in the proleptic Gregorian calendar; year 0 is 1 BC. After Howard Hinnant's
// chrono algorithms: eras of 400 years, years beginning in March.
int64_t DaysOf(int64_t year, int month, int day) {
  year -= month <= 2 ? 1 : 0;
  const int64_t era = (year >= 0 ? year : year - 399) / 400;
  const int64_t year_of_era = year - era * 400;
  const int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
         719468;
}

bool IsDay(int64_t year, int month, int day) {
  static constexpr int kLengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (month < 1 || month > 12 || day < 1) return false;
  if (day <= 28) return true;
  const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  return day <= kLengths[month - 1] + (month == 2 && leap ? 1 : 0);
}

struct CivilDate {
  int64_t year = 0;
  int month = 0;
  int day = 0;
};

CivilDate ReadDate(TextReader& in) {
  CivilDate date;
  date.year = in.Number(4, 7);
  if (!in.Skip('-')) in.Bad();
  date.month = in.Two();
  if (!in.Skip('-')) in.Bad();
  date.day = in.Two();
  return date;
}

// hh:mm:ss[.ffffff] with 24:00:00 as the latest; microseconds.
int64_t ReadClock(TextReader& in) {
  const int64_t hours = in.Two();
  if (!in.Skip(':')) in.Bad();
  const int64_t minutes = in.Two();
  if (!in.Skip(':')) in.Bad();
  const int64_t seconds = in.Two();
  const int64_t micros = ((hours * 60 + minutes) * 60 + seconds) * 1'000'000 + in.Fraction();
  if (minutes > 59 || seconds > 59 || micros > kDayMicros) in.Bad();
  return micros;
}

// +hh[:mm[:ss]] as seconds east.
int64_t ReadOffset(TextReader& in) {
  const bool west = in.Peek() == '-';
  if (!in.Skip('-') && !in.Skip('+')) return in.Bad();
  int64_t seconds = in.Two() * int64_t{3600};
  if (in.Skip(':')) {
    seconds += in.Two() * int64_t{60};
    if (in.Skip(':')) seconds += in.Two();
  }
  return west ? -seconds : seconds;
}

// The era at the end; false if the day does not exist.
bool ReadEra(TextReader& in, CivilDate* date) {
  if (in.Skip(std::string_view(" BC"))) {
    if (date->year < 1) return false;
    date->year = 1 - date->year;
  } else if (date->year < 1) {
    return false;
  }
  return !in.bad() && in.empty() && IsDay(date->year, date->month, date->day);
}

template <bool kWithZone>
CellResult TimestampFromText(std::string_view text, int64_t* out) {
  TextReader in(text);
  if (in.Peek() == 'i' || in.Peek() == '-') {
    if (text == "infinity") {
      *out = kTimestampInfinity;
    } else if (text == "-infinity") {
      *out = -kTimestampInfinity;
    } else {
      return CellResult::kMalformed;
    }
    return CellResult::kOk;
  }
  CivilDate date = ReadDate(in);
  if (!in.Skip(' ')) return CellResult::kMalformed;
  int64_t micros = ReadClock(in);
  if constexpr (kWithZone) micros -= ReadOffset(in) * 1'000'000;
  if (!ReadEra(in, &date)) return CellResult::kMalformed;
  int64_t value = 0;
  if (__builtin_mul_overflow(DaysOf(date.year, date.month, date.day), kDayMicros, &value) ||
      __builtin_add_overflow(value, micros, &value) || value == kTimestampInfinity) {
    return CellResult::kTimestampRange;
  }
  *out = value;
  return CellResult::kOk;
}

char* PutTwo(char* out, int64_t value) {
  out[0] = static_cast<char>('0' + value / 10);
  out[1] = static_cast<char>('0' + value % 10);
  return out + 2;
}

// hh:mm:ss and the fraction without its trailing zeros.
char* PutClock(char* out, int64_t micros) {
  const int64_t seconds = micros / 1'000'000;
  out = PutTwo(out, seconds / 3600);
  *out++ = ':';
  out = PutTwo(out, seconds / 60 % 60);
  *out++ = ':';
  out = PutTwo(out, seconds % 60);
  int64_t fraction = micros % 1'000'000;
  if (fraction == 0) return out;
  *out++ = '.';
  for (int64_t unit = 100'000; fraction != 0; unit /= 10) {
    *out++ = static_cast<char>('0' + fraction / unit);
    fraction %= unit;
  }
  return out;
}

char* PutOffset(char* out, int64_t seconds_west) {
  *out++ = seconds_west <= 0 ? '+' : '-';
  const int64_t seconds = seconds_west < 0 ? -seconds_west : seconds_west;
  out = PutTwo(out, seconds / 3600);
  if (seconds % 3600 == 0) return out;
  *out++ = ':';
  out = PutTwo(out, seconds / 60 % 60);
  if (seconds % 60 == 0) return out;
  *out++ = ':';
  return PutTwo(out, seconds % 60);
}

CellResult MakeInterval(int64_t months, int64_t days, int64_t micros, IntervalValue* out) {
  if (micros > kIntervalMicrosMax || micros < -kIntervalMicrosMax)
    return CellResult::kIntervalRange;
  out->months = static_cast<int32_t>(months);
  out->days = static_cast<int32_t>(days);
  out->nanoseconds = micros * 1000;
  return CellResult::kOk;
}

bool IsInt32(int64_t value) { return value == static_cast<int32_t>(value); }

// hh:mm:ss[.ffffff] of an interval, hours of any size; microseconds, or bad. The server's largest
// is below 2^63.
CellResult ReadIntervalClock(TextReader& in, int64_t hours, bool negative, int64_t* out) {
  const int64_t minutes = in.Two();
  if (!in.Skip(':')) in.Bad();
  const int64_t seconds = in.Two();
  const int64_t fraction = in.Fraction();
  if (in.bad() || !in.empty() || minutes > 59 || seconds > 59) return CellResult::kMalformed;
  int64_t micros = 0;
  if (__builtin_mul_overflow(hours, int64_t{3'600'000'000}, &micros) ||
      __builtin_add_overflow(micros, (minutes * 60 + seconds) * 1'000'000 + fraction, &micros)) {
    return CellResult::kIntervalRange;
  }
  *out = negative ? -micros : micros;
  return CellResult::kOk;
}

}  // namespace

CellResult ParseDateText(std::string_view text, int32_t* out) {
  TextReader in(text);
  if (in.Peek() == 'i' || in.Peek() == '-') {
    if (text != "infinity" && text != "-infinity") return CellResult::kMalformed;
    *out = text[0] == '-' ? -kDateInfinity : kDateInfinity;
    return CellResult::kOk;
  }
  CivilDate date = ReadDate(in);
  if (!ReadEra(in, &date)) return CellResult::kMalformed;
  const int64_t days = DaysOf(date.year, date.month, date.day);
  if (!IsInt32(days)) return CellResult::kMalformed;
  *out = static_cast<int32_t>(days);
  return CellResult::kOk;
}

CellResult ParseDateBinary(std::string_view bytes, int32_t* out) {
  ByteReader in(bytes);
  const int32_t days = in.I32();
  if (!in.Finished()) return CellResult::kMalformed;
  if (days == std::numeric_limits<int32_t>::max()) {
    *out = kDateInfinity;
  } else if (days == std::numeric_limits<int32_t>::min()) {
    *out = -kDateInfinity;
  } else {
    const int64_t shifted = days + kEpochDays;
    if (shifted >= kDateInfinity) return CellResult::kMalformed;  // the calendar ends in 5874897
    *out = static_cast<int32_t>(shifted);
  }
  return CellResult::kOk;
}

CellResult ParseTimestampText(std::string_view text, int64_t* out) {
  return TimestampFromText<false>(text, out);
}
CellResult ParseTimestampTzText(std::string_view text, int64_t* out) {
  return TimestampFromText<true>(text, out);
}

CellResult ParseTimestampBinary(std::string_view bytes, int64_t* out) {
  ByteReader in(bytes);
  const int64_t micros = in.I64();
  if (!in.Finished()) return CellResult::kMalformed;
  if (micros == std::numeric_limits<int64_t>::max()) {
    *out = kTimestampInfinity;
  } else if (micros == std::numeric_limits<int64_t>::min()) {
    *out = -kTimestampInfinity;
  } else {
    if (micros >= kTimestampInfinity - kPostgresEpochMicros) return CellResult::kTimestampRange;
    *out = micros + kPostgresEpochMicros;
  }
  return CellResult::kOk;
}

CellResult ParseTimeText(std::string_view text, int64_t* out) {
  TextReader in(text);
  const int64_t micros = ReadClock(in);
  if (in.bad() || !in.empty()) return CellResult::kMalformed;
  *out = micros;
  return CellResult::kOk;
}

CellResult ParseTimeBinary(std::string_view bytes, int64_t* out) {
  ByteReader in(bytes);
  const int64_t micros = in.I64();
  if (!in.Finished() || micros < 0 || micros > kDayMicros) return CellResult::kMalformed;
  *out = micros;
  return CellResult::kOk;
}

CellResult WriteTimeTzText(std::string_view bytes, char* out, size_t* size) {
  ByteReader in(bytes);
  const int64_t micros = in.I64();
  const int32_t west = in.I32();
  constexpr int32_t kOffsetMax = 16 * 3600;  // exclusive, the server's own limit
  if (!in.Finished() || micros < 0 || micros > kDayMicros || west <= -kOffsetMax ||
      west >= kOffsetMax) {
    return CellResult::kMalformed;
  }
  *size = static_cast<size_t>(PutOffset(PutClock(out, micros), west) - out);
  return CellResult::kOk;
}

CellResult CheckTimeTzText(std::string_view text) {
  TextReader in(text);
  ReadClock(in);
  ReadOffset(in);
  return in.bad() || !in.empty() ? CellResult::kMalformed : CellResult::kOk;
}

CellResult ParseIntervalText(std::string_view text, IntervalValue* out) {
  if (text == "infinity" || text == "-infinity") return CellResult::kInfinite;
  TextReader in(text);
  int64_t months = 0;
  int64_t days = 0;
  int64_t micros = 0;
  bool any = false;
  while (!in.empty()) {
    if (any && !in.Skip(' ')) return CellResult::kMalformed;
    any = true;
    const bool negative = in.Peek() == '-';
    if (negative || in.Peek() == '+') in.Skip(in.Peek());
    const int64_t number = in.Number(1, 12);
    if (in.Skip(':')) {
      const CellResult result = ReadIntervalClock(in, number, negative, &micros);
      if (result != CellResult::kOk) return result;
      continue;
    }
    const int64_t value = negative ? -number : number;
    if (in.Skip(std::string_view(" year"))) {
      months += value * 12;
    } else if (in.Skip(std::string_view(" mon"))) {
      months += value;
    } else if (in.Skip(std::string_view(" day"))) {
      days += value;
    } else {
      return CellResult::kMalformed;
    }
    in.Skip('s');
  }
  if (!any || in.bad() || !IsInt32(months) || !IsInt32(days)) return CellResult::kMalformed;
  return MakeInterval(months, days, micros, out);
}

CellResult ParseIntervalBinary(std::string_view bytes, IntervalValue* out) {
  ByteReader in(bytes);
  const int64_t micros = in.I64();
  const int32_t days = in.I32();
  const int32_t months = in.I32();
  if (!in.Finished()) return CellResult::kMalformed;
  constexpr int32_t kMax = std::numeric_limits<int32_t>::max();
  constexpr int32_t kMin = std::numeric_limits<int32_t>::min();
  if ((micros == std::numeric_limits<int64_t>::max() && days == kMax && months == kMax) ||
      (micros == std::numeric_limits<int64_t>::min() && days == kMin && months == kMin)) {
    return CellResult::kInfinite;
  }
  return MakeInterval(months, days, micros, out);
}

}  // namespace etl
