#include <gtest/gtest.h>

#include "base/byte_reader.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/status.h"

namespace etl {
namespace {

TEST(Status, KeepsKindAndCodeUnderContext) {
  const Status born = MakeError(ErrorKind::kLost, "ETL-S203", "slot was invalidated", "resync");
  const Status seen = WithContext(born, "pipeline shop");
  EXPECT_EQ(KindOf(seen), ErrorKind::kLost);
  EXPECT_EQ(PartsOf(seen).code, "ETL-S203");
  EXPECT_EQ(PartsOf(seen).what, "pipeline shop: slot was invalidated");
}

TEST(Status, ForeignErrorsAreInternal) {
  EXPECT_EQ(KindOf(Status::Invalid("x")), ErrorKind::kInternal);
}

TEST(ByteReader, ReadsBigEndianAndFailsPastTheEnd) {
  ByteReader reader(
      std::string_view("\x01\x02\x00\x00\x00\x07"
                       "ab\0c",
                       10));
  EXPECT_EQ(reader.U16(), 0x0102);
  EXPECT_EQ(reader.U32(), 7u);
  EXPECT_EQ(reader.CString(), "ab");
  EXPECT_FALSE(reader.Finished());
  EXPECT_EQ(reader.U16(), 0);
  EXPECT_TRUE(reader.failed());
}

TEST(Clock, PrintsUtc) {
  EXPECT_EQ(FormatUtc(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(FormatUtc(1795456154250000), "2026-11-23T17:49:14.25Z");
}

TEST(Log, EscapesControlBytes) { EXPECT_EQ(EscapeControl("a\n\x1b[2J"), "a\\n\\x1b[2J"); }

TEST(Secret, IsEmptyAfterMove) {
  std::string text = "hunter2";
  Secret first(std::move(text));
  Secret second(std::move(first));
  EXPECT_TRUE(first.empty());  // NOLINT(bugprone-use-after-move): the claim of this test
  EXPECT_EQ(second.Reveal(), "hunter2");
}

}  // namespace
}  // namespace etl
