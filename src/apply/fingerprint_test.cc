#include "apply/fingerprint.h"

#include <gtest/gtest.h>

namespace etl {
namespace {

Fingerprint Plain() {
  Fingerprint fingerprint;
  fingerprint.file_nodes = {{100, 1}};
  fingerprint.bounds = {{100, ""}};
  fingerprint.attribute_rows = {{1, 7}, {2, 7}};
  fingerprint.publication_entries = {50};
  fingerprint.publication_row = 9;
  fingerprint.types = {{200, {{.id = 1, .name = "sad", .row_xmin = 3}}},
                       {300, {{.id = 1, .name = "x", .type = 23, .row_xmin = 3}}}};
  return fingerprint;
}

TEST(Fingerprint, SurvivesItsText) {
  Fingerprint fingerprint = Plain();
  fingerprint.partitioned = true;
  fingerprint.hash_key = "abc";
  const Result<Fingerprint> read = FingerprintFromText(FingerprintToText(fingerprint));
  ASSERT_TRUE(read.ok()) << ErrorLine(read.status());
  EXPECT_TRUE(*read == fingerprint);
}

TEST(Fingerprint, OfAnEarlierVersionAgreesInWhatItDoesNotTell) {
  const Result<Fingerprint> read = FingerprintFromText(
      R"({"entry":0,"filter":"","persistence":"p","leaves":[[100,1,""]],"attributes":[[1,7],[2,7]]})");
  ASSERT_TRUE(read.ok()) << ErrorLine(read.status());
  EXPECT_EQ(ReasonToCopyAgain(*read, Plain()), "");
  const Result<Fingerprint> entry = FingerprintFromText(
      R"({"entry":51,"filter":"","persistence":"p","leaves":[],"attributes":[[1,7]]})");
  ASSERT_TRUE(entry.ok()) << ErrorLine(entry.status());
  EXPECT_NE(ReasonToCopyAgain(*entry, Plain()), "") << "it was published by another entry";
}

TEST(Fingerprint, ANewFileNodeAloneCountsForPartitionsOnly) {
  Fingerprint now = Plain();
  now.file_nodes[100] = 2;
  EXPECT_EQ(ReasonToCopyAgain(Plain(), now), "") << "a truncate is in the stream";
  now.partitioned = true;
  EXPECT_NE(ReasonToCopyAgain(Plain(), now), "");
  now = Plain();
  now.file_nodes[100] = 2;
  now.attribute_rows[2] = 8;
  EXPECT_NE(ReasonToCopyAgain(Plain(), now), "") << "rewritten";
}

TEST(Fingerprint, OneEntryThatStaysIsEnough) {
  Fingerprint now = Plain();
  now.publication_entries = {50, 60};
  EXPECT_EQ(ReasonToCopyAgain(Plain(), now), "");
  now.publication_entries = {60};
  EXPECT_NE(ReasonToCopyAgain(Plain(), now), "");
  now = Plain();
  now.publication_row = 10;
  EXPECT_NE(ReasonToCopyAgain(Plain(), now), "") << "its options changed";
}

TEST(Fingerprint, ANewLabelIsHarmlessAndANewAttributeIsNot) {
  Fingerprint now = Plain();
  now.types[200].push_back({.id = 2, .name = "ok", .row_xmin = 4});
  now.types[400] = {};
  EXPECT_EQ(ReasonToCopyAgain(Plain(), now), "");
  now.types[200][0].name = "blue";
  EXPECT_NE(ReasonToCopyAgain(Plain(), now), "");
  now = Plain();
  now.types[200][0].row_xmin = 4;
  EXPECT_NE(ReasonToCopyAgain(Plain(), now), "") << "renamed to and fro";
  now = Plain();
  now.types[300].push_back({.id = 2, .name = "y", .type = 25, .row_xmin = 4});
  EXPECT_NE(ReasonToCopyAgain(Plain(), now), "");
  now = Plain();
  now.types.clear();
  EXPECT_EQ(ReasonToCopyAgain(Plain(), now), "") << "no column uses them any more";
}

}  // namespace
}  // namespace etl
