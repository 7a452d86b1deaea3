#include "batch/column_builder.h"

#include <limits>

#include <arrow/compare.h>

#include "base/random.h"
#include "batch/value_testing.h"

namespace etl {
namespace {

const std::string kBad = "! the bytes are no value of this type";

// Both forms give this value.
void ExpectBoth(const ColumnType& type, std::string_view text, std::string_view hex,
                std::string_view shown) {
  EXPECT_EQ(FromText(type, text), shown) << text;
  EXPECT_EQ(FromBinary(type, Hex(hex)), shown) << text;
}

TEST(ColumnBuilder, BoolsAndIntegers) {
  ExpectBoth(Scalar(TypeKind::kBool), "t", "01", "true");
  ExpectBoth(Scalar(TypeKind::kBool), "f", "00", "false");
  ExpectBoth(Scalar(TypeKind::kInt2), "-32768", "8000", "-32768");
  ExpectBoth(Scalar(TypeKind::kInt4), "-2", "fffffffe", "-2");
  ExpectBoth(Scalar(TypeKind::kInt8), "-9223372036854775808", "8000000000000000",
             "-9223372036854775808");
  ExpectBoth(Scalar(TypeKind::kInt8), "9223372036854775807", "7fffffffffffffff",
             "9223372036854775807");
  ExpectBoth(Scalar(TypeKind::kOid), "4294967295", "ffffffff", "4294967295");
  for (const char* bad : {"", "-", "1x", "32768", "-32769", "99999999999999999999", "+1", " 1"}) {
    EXPECT_EQ(FromText(Scalar(TypeKind::kInt2), bad), kBad) << bad;
  }
  EXPECT_EQ(FromText(Scalar(TypeKind::kOid), "-1"), kBad);
  EXPECT_EQ(FromText(Scalar(TypeKind::kInt8), "9223372036854775808"), kBad);
  EXPECT_EQ(FromBinary(Scalar(TypeKind::kInt4), "\1\2\3"), kBad);
  EXPECT_EQ(FromBinary(Scalar(TypeKind::kBool), "\2"), kBad);
  EXPECT_EQ(FromText(Scalar(TypeKind::kBool), "true"), kBad);
}

TEST(ColumnBuilder, Floats) {
  ExpectBoth(Scalar(TypeKind::kFloat4), "1.5", "3fc00000", "1.5");
  ExpectBoth(Scalar(TypeKind::kFloat8), "NaN", "7ff8000000000000", "nan");
  ExpectBoth(Scalar(TypeKind::kFloat8), "-Infinity", "fff0000000000000", "-inf");
  ExpectBoth(Scalar(TypeKind::kFloat8), "-0", "8000000000000000", "-0");
  ExpectBoth(Scalar(TypeKind::kFloat8), "5e-324", "0000000000000001", "5e-324");
  ExpectBoth(Scalar(TypeKind::kFloat8), "1.7976931348623157e+308", "7fefffffffffffff",
             "1.7976931348623157e+308");
  ExpectBoth(Scalar(TypeKind::kFloat4), "1e-45", "00000001", "1e-45");
  EXPECT_EQ(FromBinary(Scalar(TypeKind::kFloat4), Hex("7fc12345")), "nan");
  for (const char* bad : {"", "nan", "inf", "1e", "1x", "Infinit", "1 "}) {
    EXPECT_EQ(FromText(Scalar(TypeKind::kFloat8), bad), kBad) << bad;
  }
}

TEST(ColumnBuilder, AnyPayloadOfNaNIsStoredAlike) {
  const auto builder = ColumnBuilder::Make(Scalar(TypeKind::kFloat8));
  ASSERT_EQ(builder->AppendText("NaN"), CellResult::kOk);
  ASSERT_EQ(builder->AppendBinary(Hex("fff8000000000123")), CellResult::kOk);
  const auto data = builder->Finish();
  EXPECT_EQ(data->GetValues<uint64_t>(1)[0], data->GetValues<uint64_t>(1)[1]);
}

TEST(ColumnBuilder, Decimals) {
  const ColumnType money = Scalar(TypeKind::kDecimal, 12, 4);
  ExpectBoth(money, "12345.6780", "0003000100000004 0001 0929 1a7c", "12345.6780");
  ExpectBoth(money, "-12345.6780", "0003000140000004 0001 0929 1a7c", "-12345.6780");
  ExpectBoth(money, "0.0000", "0000000000000004", "0.0000");
  ExpectBoth(Scalar(TypeKind::kDecimal, 6, 2), "1.50", "0002000000000002 0001 1388", "1.50");
  ExpectBoth(Scalar(TypeKind::kDecimal, 5, 5), "0.00001", "0001fffe00000005 03e8", "0.00001");
  ExpectBoth(Scalar(TypeKind::kDecimal, 38, 0), "12300000", "0001000100000000 04ce", "12300000");
  ExpectBoth(Scalar(TypeKind::kDecimal, 38, 0), "99999999999999999999999999999999999999",
             "000a0009000000000063270f270f270f270f270f270f270f270f270f",
             "99999999999999999999999999999999999999");
  ExpectBoth(Scalar(TypeKind::kDecimal, 38, 38), "0.99999999999999999999999999999999999999",
             "000affff00000026 270f270f270f270f270f270f270f270f270f26ac",
             "0.99999999999999999999999999999999999999");
  EXPECT_EQ(FromText(money, "1.5"), "1.5000");
}

TEST(ColumnBuilder, DecimalsKeepEveryDigitOrSaySo) {
  const ColumnType small = Scalar(TypeKind::kDecimal, 4, 2);
  const std::string digits = "! it has more digits than the decimal holds";
  EXPECT_EQ(FromText(small, "100.00"), digits);
  EXPECT_EQ(FromText(small, "1.001"), digits);
  EXPECT_EQ(FromText(small, "1.000"), "1.00");
  EXPECT_EQ(FromBinary(small, Hex("0001000000000002 0064")), digits);
  EXPECT_EQ(FromBinary(small, Hex("0002000000000003 0001 000a")), digits);
  EXPECT_EQ(FromBinary(small, Hex("0001 7fff 0000 0000 03e8")), digits);
  EXPECT_EQ(FromBinary(small, Hex("0001 8000 0000 3fff 03e8")), digits);
  EXPECT_EQ(FromBinary(small, Hex("0006 0002 0000 0000 0001 0001 0001 0001 0001 0001")), digits);
  EXPECT_EQ(FromText(small, std::string(200000, '9')), digits);
  ExpectBoth(small, "NaN", "00000000c0000000", "! NaN has no place in a decimal");
  const std::string infinite = "! an infinite value has no place in the column's type";
  ExpectBoth(small, "Infinity", "00000000d0000020", infinite);
  ExpectBoth(small, "-Infinity", "00000000f0000020", infinite);
  for (const char* bad : {"", "-", ".", "1.", "1.2.3", "1e5", "x", "--1", "Infinit"}) {
    EXPECT_EQ(FromText(small, bad), kBad) << bad;
  }
  for (const char* bad : {"", "0001000000000002", "0001000000000002 2710", "0000000012340000",
                          "0000000000004000", "0001000000000002 0001 00"}) {
    EXPECT_EQ(FromBinary(small, Hex(bad)), kBad) << bad;
  }
}

TEST(ColumnBuilder, NumericTextIsAsTheServerPrintsIt) {
  const ColumnType type = Scalar(TypeKind::kNumericText);
  ExpectBoth(type, "0", "0000000000000000", "0");
  ExpectBoth(type, "1", "0001000000000000 0001", "1");
  ExpectBoth(type, "10000", "0001000100000000 0001", "10000");
  ExpectBoth(type, "0.0001", "0001ffff00000004 0001", "0.0001");
  ExpectBoth(type, "0.00001", "0001fffe00000005 03e8", "0.00001");
  ExpectBoth(type, "-12345.678", "0003000140000003 0001 0929 1a7c", "-12345.678");
  ExpectBoth(type, "0.00", "0000000000000002", "0.00");
  ExpectBoth(type, "0.00000000000000000001", "0001fffb00000014 0001", "0.00000000000000000001");
  ExpectBoth(type, "12300000", "0001000100000000 04ce", "12300000");
  ExpectBoth(type, "NaN", "00000000c0000000", "NaN");
  ExpectBoth(type, "Infinity", "00000000d0000020", "Infinity");
  ExpectBoth(type, "-Infinity", "00000000f0000020", "-Infinity");
  const std::string large = "1" + std::string(131071, '0');
  EXPECT_EQ(FromBinary(type, Hex("0001 7fff 0000 0000 03e8")), large);
}

TEST(ColumnBuilder, Texts) {
  ExpectBoth(Scalar(TypeKind::kText), "ab  ", "61622020", "ab  ");
  ExpectBoth(Scalar(TypeKind::kText), "", "", "");
  ExpectBoth(Scalar(TypeKind::kText), "\xc3\xa4\xf0\x9f\x98\x80", "c3a4 f09f9880",
             "\xc3\xa4\xf0\x9f\x98\x80");
  ExpectBoth(Scalar(TypeKind::kJson), "{\"a\": 1}", "7b2261223a20317d", "{\"a\": 1}");
  ExpectBoth(Scalar(TypeKind::kJsonb), "{\"a\": 1}", "017b2261223a20317d", "{\"a\": 1}");
  EXPECT_EQ(FromBinary(Scalar(TypeKind::kJsonb), Hex("027b7d")), kBad);
  EXPECT_EQ(FromBinary(Scalar(TypeKind::kJsonb), ""), kBad);
  EXPECT_EQ(FromText(Scalar(TypeKind::kServerText), "$1.00"), "$1.00");
  EXPECT_EQ(FromBinary(Scalar(TypeKind::kServerText), "x"), kBad);
  const std::string invalid = "! the bytes are not UTF-8";
  for (const char* bad : {"ff", "c3", "c0 80", "ed a0 80", "f4 90 80 80", "6161616161616161 80",
                          "61616161616161 80 61"}) {
    EXPECT_EQ(FromText(Scalar(TypeKind::kText), Hex(bad)), invalid) << bad;
    EXPECT_EQ(FromBinary(Scalar(TypeKind::kText), Hex(bad)), invalid) << bad;
  }
}

TEST(ColumnBuilder, CharIsAsNewerServersPrintIt) {
  const ColumnType type = Scalar(TypeKind::kChar);
  ExpectBoth(type, "a", "61", "a");
  ExpectBoth(type, "", "00", "");
  ExpectBoth(type, "\\377", "ff", "\\377");
  ExpectBoth(type, "\\", "5c", "\\");
  EXPECT_EQ(FromText(type, "\x80"), "\\200");
  EXPECT_EQ(FromText(type, "ab"), kBad);
  EXPECT_EQ(FromText(type, "\\477"), kBad);
  EXPECT_EQ(FromBinary(type, "ab"), kBad);
}

TEST(ColumnBuilder, ByteaAndUuid) {
  EXPECT_EQ(FromText(Scalar(TypeKind::kBytea), "\\x00ff"),
            FromBinary(Scalar(TypeKind::kBytea), Hex("00ff")));
  EXPECT_EQ(FromText(Scalar(TypeKind::kBytea), "\\x"), FromBinary(Scalar(TypeKind::kBytea), ""));
  for (const char* bad : {"", "x", "\\x0", "\\x0g", "00", "\\001"}) {
    EXPECT_EQ(FromText(Scalar(TypeKind::kBytea), bad), kBad) << bad;
  }
  const ColumnType uuid = Scalar(TypeKind::kUuid);
  EXPECT_EQ(FromText(uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            FromBinary(uuid, Hex("a0eebc999c0b4ef8bb6d6bb9bd380a11")));
  EXPECT_EQ(FromText(uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1"), kBad);
  EXPECT_EQ(FromText(uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g"), kBad);
  EXPECT_EQ(FromBinary(uuid, "short"), kBad);
}

// The stored number of a value in either form.
template <typename T>
std::string Stored(TypeKind kind, std::string_view bytes, bool binary) {
  const auto builder = ColumnBuilder::Make(Scalar(kind));
  const CellResult result = binary ? builder->AppendBinary(bytes) : builder->AppendText(bytes);
  if (result != CellResult::kOk) return "! " + std::string(ReasonOf(result));
  return std::to_string(builder->Finish()->template GetValues<T>(1)[0]);
}

TEST(ColumnBuilder, DatesOfAllTimes) {
  const auto expect = [](std::string_view text, std::string_view hex, int32_t days) {
    EXPECT_EQ(Stored<int32_t>(TypeKind::kDate, text, false), std::to_string(days)) << text;
    EXPECT_EQ(Stored<int32_t>(TypeKind::kDate, Hex(hex), true), std::to_string(days)) << text;
  };
  expect("2000-01-01", "00000000", 10957);
  expect("1999-12-31", "ffffffff", 10956);
  expect("1970-01-01", "ffffd533", 0);
  expect("2024-02-29", "00002279", 19782);
  expect("infinity", "7fffffff", std::numeric_limits<int32_t>::max());
  expect("-infinity", "80000000", -std::numeric_limits<int32_t>::max());
  expect("5874897-12-31", "7fda970c", 0x7fda970c + 10957);
  expect("4714-11-24 BC", "ffda97a7", static_cast<int32_t>(0xffda97a7u) + 10957);
  expect("0001-12-31 BC", "fff4dbf8", -719163);
  for (const char* bad :
       {"", "2024-13-01", "2024-02-30", "2023-02-29", "2024-1-1", "0000-01-01", "24-01-01",
        "2024-01-01 AD", "2024-01-01 BC ", "inf", "01/02/2024", "99999999-01-01"}) {
    EXPECT_EQ(FromText(Scalar(TypeKind::kDate), bad), kBad) << bad;
  }
}

TEST(ColumnBuilder, TimestampsOfAllTimes) {
  const auto expect = [](std::string_view text, std::string_view hex, int64_t micros) {
    EXPECT_EQ(Stored<int64_t>(TypeKind::kTimestamp, text, false), std::to_string(micros)) << text;
    EXPECT_EQ(Stored<int64_t>(TypeKind::kTimestampTz, std::string(text), false).substr(0, 1), "!")
        << text;
    EXPECT_EQ(Stored<int64_t>(TypeKind::kTimestamp, Hex(hex), true), std::to_string(micros))
        << text;
    EXPECT_EQ(Stored<int64_t>(TypeKind::kTimestampTz, Hex(hex), true), std::to_string(micros))
        << text;
  };
  expect("2000-01-01 00:00:00", "0000000000000000", 946684800000000);
  expect("2000-01-01 00:00:00.000001", "0000000000000001", 946684800000001);
  expect("1999-12-31 23:59:59.5", "fffffffffff85ee0", 946684799500000);
  expect("4714-11-24 00:00:00 BC", "fd0f7cc1411fa000", -210866803200000000);
  expect("294247-01-10 04:00:54.775806", "7ffca2fec4c81ffe",
         std::numeric_limits<int64_t>::max() - 1);
  const std::string range = "! timestamps end at 294247-01-10 04:00:54.775806";
  for (const char* late :
       {"294247-01-10 04:00:54.775807", "294247-01-10 04:00:55", "294276-12-31 23:59:59.999999"}) {
    EXPECT_EQ(FromText(Scalar(TypeKind::kTimestamp), late), range) << late;
    EXPECT_EQ(FromText(Scalar(TypeKind::kTimestampTz), std::string(late) + "+00"), range) << late;
  }
  for (const char* late : {"7ffca2fec4c81fff", "7fffff5bb3b29fff", "7ffffffffffffffe"}) {
    EXPECT_EQ(FromBinary(Scalar(TypeKind::kTimestamp), Hex(late)), range) << late;
  }
  EXPECT_EQ(Stored<int64_t>(TypeKind::kTimestamp, "infinity", false), "9223372036854775807");
  EXPECT_EQ(Stored<int64_t>(TypeKind::kTimestampTz, "-infinity", false), "-9223372036854775807");
  EXPECT_EQ(Stored<int64_t>(TypeKind::kTimestamp, Hex("7fffffffffffffff"), true),
            "9223372036854775807");
  EXPECT_EQ(Stored<int64_t>(TypeKind::kTimestamp, Hex("8000000000000000"), true),
            "-9223372036854775807");
  for (const char* bad :
       {"", "2024-02-01", "2024-02-01 25:00:00", "2024-02-01 00:60:00", "2024-02-01 00:00:60",
        "2024-02-01 00:00:00.", "2024-02-01 00:00:00.1234567", "2024-02-01T00:00:00",
        "2024-02-01 00:00:00 ", "2024-02-30 00:00:00", "2024-02-01 00:00:00+00"}) {
    EXPECT_EQ(FromText(Scalar(TypeKind::kTimestamp), bad), kBad) << bad;
  }
}

TEST(ColumnBuilder, OffsetsOfTimestampsAreTakenOff) {
  const auto zoned = [](std::string_view text) {
    return Stored<int64_t>(TypeKind::kTimestampTz, text, false);
  };
  const std::string noon = zoned("2024-02-01 12:00:00+00");
  EXPECT_EQ(noon, "1706788800000000");
  EXPECT_EQ(zoned("2024-02-01 17:30:00+05:30"), noon);
  EXPECT_EQ(zoned("2024-02-01 17:53:28+05:53:28"), noon);
  EXPECT_EQ(zoned("2024-02-01 04:00:00-08"), noon);
  EXPECT_EQ(zoned("0044-03-15 00:00:00+00 BC"),
            Stored<int64_t>(TypeKind::kTimestamp, "0044-03-15 00:00:00 BC", false));
}

TEST(ColumnBuilder, TimesOfDay) {
  EXPECT_EQ(Stored<int64_t>(TypeKind::kTime, "24:00:00", false), "86400000000");
  EXPECT_EQ(Stored<int64_t>(TypeKind::kTime, Hex("000000141dd76000"), true), "86400000000");
  EXPECT_EQ(Stored<int64_t>(TypeKind::kTime, "00:00:01.000020", false), "1000020");
  EXPECT_EQ(FromText(Scalar(TypeKind::kTime), "24:00:00.000001"), kBad);
  EXPECT_EQ(FromBinary(Scalar(TypeKind::kTime), Hex("000000141dd76001")), kBad);
  const ColumnType timetz = Scalar(TypeKind::kTimeTz);
  ExpectBoth(timetz, "12:00:00+05:30", "0000000a0eebb000 ffffb2a8", "12:00:00+05:30");
  ExpectBoth(timetz, "24:00:00+00", "000000141dd76000 00000000", "24:00:00+00");
  ExpectBoth(timetz, "12:00:00.5-08", "0000000a0ef35120 00007080", "12:00:00.5-08");
  ExpectBoth(timetz, "12:00:00-00:00:01", "0000000a0eebb000 00000001", "12:00:00-00:00:01");
  EXPECT_EQ(FromText(timetz, "12:00:00"), kBad);
  EXPECT_EQ(FromBinary(timetz, Hex("0000000a0eebb000 7fffffff")), kBad);
  EXPECT_EQ(FromBinary(timetz, Hex("0000000a0eebb000")), kBad);
}

TEST(ColumnBuilder, Intervals) {
  const ColumnType type = Scalar(TypeKind::kInterval);
  ExpectBoth(type, "1 year 2 mons 3 days 04:05:06.789", "000000036c97ca88 00000003 0000000e",
             "14M3d14706789000000ns");
  ExpectBoth(type, "00:00:00", "0000000000000000 00000000 00000000", "0M0d0ns");
  ExpectBoth(type, "-1 years -2 mons +3 days -04:05:06.789", "fffffffc93683578 00000003 fffffff2",
             "-14M3d-14706789000000ns");
  ExpectBoth(type, "1 day", "0000000000000000 00000001 00000000", "0M1d0ns");
  ExpectBoth(type, "2562047:47:16.854775", "0020c49ba5e353f7 00000000 00000000",
             "0M0d9223372036854775000ns");
  const std::string range = "! the time part of an interval ends at 9223372036854775 microseconds";
  ExpectBoth(type, "2562047:47:16.854776", "0020c49ba5e353f8 00000000 00000000", range);
  ExpectBoth(type, "-2562047788:00:54.775808", "8000000000000000 00000000 00000000", range);
  const std::string infinite = "! an infinite value has no place in the column's type";
  ExpectBoth(type, "infinity", "7fffffffffffffff 7fffffff 7fffffff", infinite);
  ExpectBoth(type, "-infinity", "8000000000000000 80000000 80000000", infinite);
  for (const char* bad : {"", "1", "1 hour", "1 year ", "P1Y", "1 year2 mons", "04:05", "04:60:00",
                          "1 days 04:05:06 1 mon"}) {
    EXPECT_EQ(FromText(type, bad), kBad) << bad;
  }
}

TEST(ColumnBuilder, ListsInBothForms) {
  const ColumnType ints = List(Scalar(TypeKind::kInt4));
  EXPECT_EQ(
      FromText(ints, "{1,NULL,3}"),
      FromBinary(
          ints,
          Hex("00000001 00000001 00000017 00000003 00000001 00000004 00000001 ffffffff 00000004 "
              "00000003")));
  EXPECT_EQ(FromText(ints, "{1,NULL,3}"), "list<item: int32>[1, null, 3]");
  ExpectBoth(ints, "{}", "00000000 00000000 00000017", "list<item: int32>[]");
  ExpectBoth(ints, "[5:6]={1,2}",
             "00000001 00000000 00000017 00000002 00000005 00000004 00000001 00000004 00000002",
             "! a lower bound of the array is not 1");
  const std::string dimensions =
      "! the array has another number of dimensions than the column declares";
  EXPECT_EQ(FromText(ints, "{{1,2},{3,4}}"), dimensions);
  const ColumnType texts = List(Scalar(TypeKind::kText));
  EXPECT_EQ(FromText(texts, R"({a,"b,c",NULL,"NULL","q\"x","","\\"})"),
            "list<item: string>[a, b,c, null, NULL, q\"x, , \\]");
  EXPECT_EQ(FromText(List(Scalar(TypeKind::kServerText), 1, ';'), "{(1,2),(0,0);(3,4),(1,1)}"),
            "list<item: string>[(1,2),(0,0), (3,4),(1,1)]");
  EXPECT_EQ(FromText(texts, Hex("7b ff 7d")), "! the bytes are not UTF-8");
  for (const char* bad : {"",          "{",          "}",           "{1",
                          "{1,}",      "{,1}",       "{1}}",        "{1}x",
                          "{{1},2}",   "{1,{2}}",    "{{1,2},{3}}", "{{}}",
                          "[1:2]={1}", "[1:2={1,2}", "[1:2]{1,2}",  "{\"1}",
                          "{\"1\\",    "{1\"2\"}",   "{1 2}",       "{{{{{{{1}}}}}}}",
                          "[2:1]={}",  "[1:1]={}"}) {
    EXPECT_EQ(FromText(ints, bad), kBad) << bad;
  }
  for (const char* bad :
       {"", "00000001", "00000001 00000000 00000017 00000001 00000001",
        "00000000 00000000 00000017 00", "00000001 00000000 00000017 7fffffff 00000001 ffffffff",
        "00000007 00000000 00000017", "ffffffff 00000000 00000017",
        "00000001 00000000 00000017 00000001 00000001 fffffffe",
        "00000001 00000000 00000017 00000001 00000001 00000004 000001"}) {
    EXPECT_EQ(FromBinary(ints, Hex(bad)), kBad) << bad;
  }
}

TEST(ColumnBuilder, ListsOfManyDimensions) {
  const ColumnType cube = List(Scalar(TypeKind::kInt2), 3);
  const std::string text = "{{{1,2},{3,4},{5,NULL}}}";
  const std::string binary =
      FromBinary(cube, Hex("00000003 00000001 00000015 00000001 00000001 00000003 00000001 "
                           "00000002 00000001 00000002 0001 00000002 0002 "
                           "00000002 0003 00000002 0004 00000002 0005 ffffffff"));
  EXPECT_EQ(FromText(cube, text), binary);
  EXPECT_NE(binary.find("[1, 2]"), std::string::npos) << binary;
  const auto builder = ColumnBuilder::Make(cube);
  for (const char* value : {"{}", "{{{1}}}", "{{{1,2}},{{3,4}}}", "{}", "{{{7},{8}},{{9},{10}}}"}) {
    ASSERT_EQ(builder->AppendText(value), CellResult::kOk);
    ASSERT_EQ(builder->AppendNull(), CellResult::kOk);
    ASSERT_EQ(builder->AppendText("{1,2}"), CellResult::kDimensions);
    ASSERT_EQ(builder->AppendText("{{{1,2}},{{3,x}}}"), CellResult::kMalformed);
  }
  const auto array = FinishArray(*builder);
  ASSERT_EQ(array->length(), 10);
  EXPECT_EQ(array->null_count(), 5);
  EXPECT_TRUE(array->GetScalar(0).ValueOrDie()->ToString().ends_with("[]"));
  const std::string last = array->GetScalar(8).ValueOrDie()->ToString();
  EXPECT_NE(last.find("[7], list<item: int16>[8]"), std::string::npos) << last;
}

TEST(ColumnBuilder, CompositesInBothForms) {
  const ColumnType type =
      Struct({Scalar(TypeKind::kInt4), Scalar(TypeKind::kText), Scalar(TypeKind::kText)});
  const std::string shown = FromText(type, "(1,t,b)");
  EXPECT_NE(shown.find("1"), std::string::npos);
  EXPECT_EQ(
      shown,
      FromBinary(
          type,
          Hex("00000003 00000017 00000004 00000001 00000019 00000001 74 000049b1 00000001 62")));
  EXPECT_EQ(FromText(type, R"~((,"a ""b"" \\ c",""))~"),
            FromBinary(type, Hex("00000003 00000017 ffffffff 00000019 00000009 6120226222205c2063 "
                                 "00000019 00000000")));
  const std::string attributes = "! the composite has other attributes than the table showed";
  EXPECT_EQ(FromText(type, "(1,t)"), attributes);
  EXPECT_EQ(FromText(type, "(1,t,b,)"), attributes);
  EXPECT_EQ(FromBinary(type, Hex("00000000")), attributes);
  EXPECT_EQ(FromText(Struct({Scalar(TypeKind::kInt4)}), "()").substr(0, 1), "{");
  for (const char* bad : {"", "(", ")", "1,2,3", "(1,t,b", "(1,t,b)x", "(1,\"t,b)", "(1,\"t\"x,b)",
                          "(1,t\"x\",b)", "(x,t,b)", "(1,(t),b)", "(1,\"t\\"}) {
    EXPECT_EQ(FromText(type, bad), kBad) << bad;
  }
  for (const char* bad :
       {"", "ffffffff", "00000003 00000017 00000004 00000001",
        "00000003 00000017 00000004 00000001 00000019 00000001 74 000049b1 00000001 62 00"}) {
    EXPECT_EQ(FromBinary(type, Hex(bad)), kBad) << bad;
  }
}

TEST(ColumnBuilder, NestingOfEveryKindRollsBackWhole) {
  const ColumnType inner =
      Struct({Scalar(TypeKind::kInt4), List(Scalar(TypeKind::kDecimal, 4, 2))});
  const ColumnType type = List(inner);
  const auto builder = ColumnBuilder::Make(type);
  const std::string good = R"~({"(1,\"{1.50,NULL}\")","(2,{})",NULL})~";
  ASSERT_EQ(builder->AppendText(good), CellResult::kOk);
  ASSERT_EQ(builder->AppendText(R"~({"(1,{1.5})","(2,{NaN})"})~"), CellResult::kNotANumber);
  ASSERT_EQ(builder->AppendText(R"~({"(1,{1.5})","(2)"})~"), CellResult::kAttributes);
  ASSERT_EQ(builder->AppendNull(), CellResult::kOk);
  ASSERT_EQ(builder->AppendText(good), CellResult::kOk);
  const auto array = FinishArray(*builder);
  ASSERT_EQ(array->length(), 3);
  EXPECT_TRUE(array->GetScalar(0).ValueOrDie()->Equals(*array->GetScalar(2).ValueOrDie()));
  EXPECT_TRUE(array->IsNull(1));
  EXPECT_TRUE(array->type()->Equals(ArrowTypeOf(type)));
}

TEST(ColumnBuilder, NullsAndTruncationOfEveryKind) {
  const ColumnType types[] = {Scalar(TypeKind::kBool),           Scalar(TypeKind::kInt4),
                              Scalar(TypeKind::kDecimal, 10, 0), Scalar(TypeKind::kText),
                              Scalar(TypeKind::kNumericText),    List(Scalar(TypeKind::kInt4)),
                              Struct({Scalar(TypeKind::kText)})};
  const char* const values[] = {"t", "7", "7", "7", "7", "{7}", "(7)"};
  for (size_t kind = 0; kind < std::size(types); ++kind) {
    Random random(kind + 1);
    const auto builder = ColumnBuilder::Make(types[kind]);
    std::vector<bool> valid;
    for (int step = 0; step < 2000; ++step) {
      if (random.OneIn(50)) {
        valid.resize(random.Below(valid.size() + 1));
        builder->Truncate(static_cast<int64_t>(valid.size()));
        continue;
      }
      valid.push_back(!random.OneIn(3));
      ASSERT_EQ(valid.back() ? builder->AppendText(values[kind]) : builder->AppendNull(),
                CellResult::kOk);
    }
    const auto array = FinishArray(*builder);
    ASSERT_EQ(array->length(), static_cast<int64_t>(valid.size()));
    for (size_t i = 0; i < valid.size(); ++i)
      ASSERT_EQ(array->IsValid(static_cast<int64_t>(i)), valid[i]);
    ASSERT_EQ(builder->AppendText(values[kind]), CellResult::kOk);  // empty and usable again
    EXPECT_EQ(FinishArray(*builder)->null_count(), 0);
  }
}

}  // namespace
}  // namespace etl
