// `verify`: what was changed in the file by hand is found.
#include <gmock/gmock.h>

#include "support/e2e_fixture.h"

namespace etl {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class VerifyMirror : public E2eTest {
 protected:
  json Verify(int exit_code) {
    const Ended verify = space_.Run({"verify", "p", "--json"});
    EXPECT_EQ(verify.exit_code, exit_code) << verify.Describe();
    json report = json::parse(verify.out, nullptr, false);
    EXPECT_FALSE(report.is_discarded()) << verify.Describe();
    return report;
  }
  static json Table(const json& report, const std::string& name) {
    for (const json& table : report.value("tables", json::array()))
      if (table.at("name") == name) return table;
    return json{{"equal", "no such table"}, {"keys", json::array()}, {"note", ""}};
  }
  static std::vector<std::string> Keys(const json& table) { return table.at("keys"); }
  void Damage(const std::string& sql) {
    const etl::Status done = ExecuteDuckDb(space_.duckdb(), sql);
    ASSERT_TRUE(done.ok()) << ErrorLine(done);
  }
};

class VerifyAppend : public VerifyMirror {
 protected:
  void SetUp() override {
    E2eTest::SetUp();
    config_.pipeline.push_back("mode: append");
    space_.Write(config_);
    // Stored out of line, so that an update of another column does not send it.
    ASSERT_TRUE(
        Sql("CREATE TABLE public.a (id int PRIMARY KEY, v text, big text); ALTER TABLE public.a "
            "ALTER big SET STORAGE EXTERNAL; INSERT INTO public.a SELECT i, 'v' || i, "
            "repeat(md5(i::text), 200) FROM generate_series(1, 1200) i; CREATE TABLE public.b "
            "(part text, id int, v numeric, PRIMARY KEY (id, part)); INSERT INTO public.b SELECT "
            "'p', i, i / 3.0 FROM generate_series(1, 30) i; CREATE TABLE public.c (v text); "
            "INSERT INTO public.c VALUES ('one'), ('one')"));
  }
  void Change() {
    ASSERT_TRUE(
        Sql("UPDATE public.a SET v = 'changed' WHERE id <= 100; UPDATE public.a SET id = id + "
            "5000 WHERE id BETWEEN 50 AND 60; DELETE FROM public.a WHERE id BETWEEN 200 AND 210; "
            "INSERT INTO public.a VALUES (200, 'again', 'small'), (55, 'taken', NULL); UPDATE "
            "public.a SET v = 'twice' WHERE id > 5000; TRUNCATE public.b; INSERT INTO public.b "
            "VALUES ('p', 1, 1.5), ('q', 1, NULL); INSERT INTO public.c VALUES ('two')"));
  }
};

TEST_F(VerifyMirror, DifferencesMadeByHandAreFoundAndTheirKeysNamed) {
  ASSERT_TRUE(
      Sql("CREATE TABLE public.a (id int PRIMARY KEY, v text, w text); INSERT INTO public.a SELECT "
          "i, 'v' || i, 'w' FROM generate_series(1, 1200) i; CREATE TABLE public.b (v text); "
          "ALTER TABLE public.b REPLICA IDENTITY FULL; INSERT INTO public.b VALUES ('one')"));
  ASSERT_EQ(space_.Sync().exit_code, 0);
  EXPECT_EQ(Verify(0).at("equal"), true);
  Damage(
      "UPDATE copy.public.a SET v = 'by hand' WHERE id = 700; DELETE FROM copy.public.a WHERE id "
      "= 800; INSERT INTO copy.public.a VALUES (5000, 'by hand', 'w'); UPDATE copy.public.b SET v "
      "= 'two'");
  const json report = Verify(1);
  EXPECT_EQ(report.at("equal"), false);
  EXPECT_THAT(Keys(Table(report, "public.a")),
              testing::UnorderedElementsAre("700 (different)", "800 (missing)", "5000 (extra)"));
  EXPECT_THAT(Table(report, "public.a").at("note").dump(), HasSubstr("v")) << report;
  EXPECT_EQ(Table(report, "public.b").at("equal"), false) << report;
  EXPECT_THAT(Table(report, "public.b").at("note").dump(), HasSubstr("no key")) << report;
}

TEST_F(VerifyAppend, TheLatestRowsAreTheSourcesTables) {
  ASSERT_EQ(space_.Sync().exit_code, 0);
  Change();
  const json report = Verify(0);
  EXPECT_EQ(report.at("equal"), true) << report;
  EXPECT_EQ(Table(report, "public.a").at("equal"), true) << report;
  EXPECT_EQ(Table(report, "public.a").at("source_rows"), 1191) << report;
  EXPECT_EQ(Table(report, "public.a").at("destination_rows"), 1191) << report;
  EXPECT_EQ(Table(report, "public.b").at("equal"), true) << report;
  EXPECT_EQ(Table(report, "public.b").at("source_rows"), 2) << report;
  EXPECT_EQ(Table(report, "public.c").at("equal"), nullptr) << report;
  EXPECT_THAT(Table(report, "public.c").at("note").dump(), HasSubstr("key")) << report;
}

TEST_F(VerifyAppend, DifferencesMadeByHandAreFoundAndTheirKeysNamed) {
  ASSERT_EQ(space_.Sync().exit_code, 0);
  Change();
  ASSERT_EQ(space_.Sync().exit_code, 0);
  Damage(
      "UPDATE copy.public.a SET v = 'by hand' WHERE id = 700; UPDATE copy.public.a SET big = "
      "'by hand' WHERE id = 52 AND _etl_op = 'r'; DELETE FROM copy.public.a WHERE id = 800; "
      "INSERT INTO copy.public.b(part, id, v, _etl_op, _etl_lsn, _etl_seq) VALUES ('z', 7, 1, "
      "'i', 18446744073709551615, 0)");
  const json report = Verify(1);
  EXPECT_EQ(report.at("equal"), false);
  EXPECT_THAT(Keys(Table(report, "public.a")),
              testing::UnorderedElementsAre("700 (different)", "5052 (different)", "800 (missing)"))
      << report;
  EXPECT_THAT(Table(report, "public.a").at("note").dump(), HasSubstr("big")) << report;
  EXPECT_THAT(Table(report, "public.b").at("keys").dump(), HasSubstr("z")) << report;
  EXPECT_EQ(Table(report, "public.c").at("equal"), nullptr);
}

TEST_F(VerifyAppend, TheServiceThatRunsThePipelineCompares) {
  Running service = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }));
  Change();
  EXPECT_EQ(Verify(0).at("equal"), true);
  ASSERT_TRUE(Sql("INSERT INTO public.a VALUES (9000, 'goes on', NULL)"));
  EXPECT_EQ(Table(Verify(0), "public.a").at("source_rows"), 1192);
  service.Signal(SIGTERM);
  EXPECT_EQ(service.Wait(std::chrono::seconds(10)).exit_code, 0);
}

TEST_F(VerifyAppend, AColumnThatComesAndOneThatIsRenamedDoNotMakeADifference) {
  ASSERT_EQ(space_.Sync().exit_code, 0);
  Change();
  ASSERT_EQ(space_.Sync().exit_code, 0);
  ASSERT_TRUE(
      Sql("ALTER TABLE public.a ADD n int DEFAULT 7; ALTER TABLE public.a RENAME big TO large; "
          "UPDATE public.a SET n = 8 WHERE id = 5052; INSERT INTO public.a VALUES (9000, 'x', "
          "'y', 9)"));
  const json report = Verify(0);
  EXPECT_EQ(report.at("equal"), true) << report;
}

TEST_F(VerifyAppend, AfterAResyncEarlierChangesDoNotCount) {
  ASSERT_EQ(space_.Sync().exit_code, 0);
  ASSERT_TRUE(Sql("SELECT pg_drop_replication_slot('" + slot_ + "')"));
  // Nobody will ever see this delete.
  ASSERT_TRUE(Sql("DELETE FROM public.a WHERE id = 5"));
  ASSERT_EQ(space_.Run({"pipeline", "resync", "p", "--yes"}).exit_code, 0);
  ASSERT_EQ(space_.Sync().exit_code, 0);
  const json report = Verify(0);
  EXPECT_EQ(Table(report, "public.a").at("destination_rows"), 1199) << report;
}

TEST_F(VerifyAppend, WithoutASnapshotNothingIsCompared) {
  config_.pipeline[1] = "snapshot: {enabled: false}";
  space_.Write(config_);
  ASSERT_EQ(space_.Sync().exit_code, 0);
  Change();
  const json report = Verify(0);
  EXPECT_EQ(Table(report, "public.a").at("equal"), nullptr) << report;
  EXPECT_THAT(Table(report, "public.a").at("note").dump(), HasSubstr("snapshot")) << report;
}

}  // namespace
}  // namespace etl
