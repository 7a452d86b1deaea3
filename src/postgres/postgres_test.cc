#include <arrow/api.h>
#include <gtest/gtest.h>

#include "postgres/connection.h"
#include "postgres/key_literal.h"
#include "postgres/libpq_system_catalog.h"
#include "postgres/preflight_server.h"
#include "postgres/server_error.h"
#include "postgres/source_setup.h"
#include "postgres/table_facts.h"
#include "postgres/table_pattern.h"
#include "postgres/type_resolver.h"
#include "postgres/wal_position.h"

namespace etl {
namespace {

constexpr uint64_t kSegment = 16 * 1024 * 1024;

TEST(InsertPosition, BehindAPageHeaderIsTheStartOfThePage) {
  EXPECT_EQ(NormaliseInsertLsn(Lsn{8192 * 3 + 24}, kSegment), Lsn{8192 * 3});
  EXPECT_EQ(NormaliseInsertLsn(Lsn{8192 * 3 + 40}, kSegment), Lsn{8192 * 3 + 40});
  EXPECT_EQ(NormaliseInsertLsn(Lsn{kSegment * 2 + 40}, kSegment), Lsn{kSegment * 2});
  EXPECT_EQ(NormaliseInsertLsn(Lsn{kSegment * 2 + 24}, kSegment), Lsn{kSegment * 2 + 24});
  EXPECT_EQ(NormaliseInsertLsn(Lsn{8192 * 3}, kSegment), Lsn{8192 * 3});
}

TEST(TablePatterns, ALaterPatternWins) {
  const std::vector<std::string> patterns = {"public.*", "!public.audit_*", "public.audit_keep"};
  EXPECT_TRUE(MatchesTablePatterns(patterns, "public", "orders"));
  EXPECT_FALSE(MatchesTablePatterns(patterns, "public", "audit_log"));
  EXPECT_TRUE(MatchesTablePatterns(patterns, "public", "audit_keep"));
  EXPECT_FALSE(MatchesTablePatterns(patterns, "other", "orders"));
  EXPECT_FALSE(MatchesTablePatterns({}, "public", "orders"));
  EXPECT_FALSE(MatchesTablePatterns({"!public.a"}, "public", "b"));
}

TEST(TablePatterns, AStarStandsForAnyRun) {
  EXPECT_TRUE(MatchesTablePatterns({"*"}, "a", "b"));
  EXPECT_TRUE(MatchesTablePatterns({"*.*_x*y"}, "a", "__x_xyy"));
  EXPECT_FALSE(MatchesTablePatterns({"*.*_x*z"}, "a", "__x_xyy"));
  EXPECT_TRUE(MatchesTablePatterns({"a.b*"}, "a", "b"));
  EXPECT_FALSE(MatchesTablePatterns({"A.b"}, "a", "b"));
}

TEST(Quoting, KeepsEveryByte) {
  EXPECT_EQ(QuoteIdentifier("a\"b"), "\"a\"\"b\"");
  EXPECT_EQ(QuoteLiteral("it's"), "'it''s'");
  EXPECT_EQ(QuoteLiteral("a\\'b"), " E'a\\\\''b'");
}

TypeRow Scalar(uint32_t oid, const std::string& name) {
  return TypeRow{.oid = oid, .name = name, .display = name};
}

TypeRows SomeTypes() {
  TypeRows rows;
  for (const auto& [oid, name] :
       std::vector<std::pair<uint32_t, std::string>>{{23, "integer"},
                                                     {25, "text"},
                                                     {1700, "numeric"},
                                                     {1043, "character varying"},
                                                     {869, "inet"}}) {
    rows[oid] = Scalar(oid, name);
  }
  return rows;
}

TEST(TypeResolver, NumericFollowsItsModifier) {
  const TypeRows rows = SomeTypes();
  const auto numeric = [&](int32_t typmod) { return ResolveType(rows, 1700, typmod, 0); };
  EXPECT_EQ(numeric(-1)->kind, TypeKind::kNumericText);
  const ColumnTypePtr money = numeric(((12 << 16) | 2) + 4);
  EXPECT_EQ(money->kind, TypeKind::kDecimal);
  EXPECT_EQ(money->precision, 12);
  EXPECT_EQ(money->scale, 2);
  EXPECT_EQ(money->name, "numeric(12,2)");
  EXPECT_EQ(numeric(329730)->kind, TypeKind::kNumericText) << "numeric(5,-2)";
  EXPECT_EQ(numeric(196617)->kind, TypeKind::kNumericText) << "numeric(3,5)";
  EXPECT_EQ(numeric(((39 << 16) | 2) + 4)->kind, TypeKind::kNumericText);
  EXPECT_EQ(numeric(((38 << 16) | 38) + 4)->kind, TypeKind::kDecimal);
}

TEST(TypeResolver, DomainsBringTheirModifierAlsoIntoArrays) {
  TypeRows rows = SomeTypes();
  rows[20000] = TypeRow{.oid = 20000,
                        .name = "price",
                        .display = "public.price",
                        .kind = 'd',
                        .base = 1700,
                        .base_typmod = ((10 << 16) | 3) + 4};
  rows[20001] = TypeRow{.oid = 20001,
                        .name = "_price",
                        .display = "public.price[]",
                        .category = 'A',
                        .element = 20000};
  EXPECT_EQ(ResolveType(rows, 20000, -1, 0)->scale, 3);
  const ColumnTypePtr list = ResolveType(rows, 20001, -1, 2);
  ASSERT_EQ(list->kind, TypeKind::kList);
  EXPECT_EQ(list->dimensions, 2);
  EXPECT_EQ(list->element->scale, 3);
  EXPECT_EQ(list->name, "numeric(10,3)[][]");
}

TEST(TypeResolver, CompositesThatNoStructCanHoldAreServerText) {
  TypeRows rows = SomeTypes();
  rows[1] = TypeRow{.oid = 1,
                    .name = "pair",
                    .display = "pair",
                    .kind = 'c',
                    .attributes = {{.name = "a", .type = 23}, {.name = "b", .type = 869}}};
  rows[2] = TypeRow{.oid = 2,
                    .name = "twice",
                    .display = "twice",
                    .kind = 'c',
                    .attributes = {{.name = "a", .type = 23}, {.name = "A", .type = 25}}};
  rows[3] = TypeRow{.oid = 3, .name = "nothing", .display = "nothing", .kind = 'c'};
  const ColumnTypePtr pair = ResolveType(rows, 1, -1, 0);
  ASSERT_EQ(pair->kind, TypeKind::kStruct);
  EXPECT_EQ(pair->fields[1].type->kind, TypeKind::kServerText);
  EXPECT_FALSE(BinaryUnderstood(*pair));
  EXPECT_EQ(ResolveType(rows, 2, -1, 0)->kind, TypeKind::kServerText);
  EXPECT_EQ(ResolveType(rows, 3, -1, 0)->kind, TypeKind::kServerText);
  EXPECT_EQ(ResolveType(rows, 4711, -1, 0)->kind, TypeKind::kServerText);
}

TableFacts Users() {
  const TypeRows rows = SomeTypes();
  TableFacts facts{.id = {16400}, .schema = "public", .name = "users"};
  int16_t attnum = 0;
  for (const char* name : {"id", "email", "note"}) {
    facts.columns.push_back(
        {.attnum = ++attnum, .name = name, .type_oid = 25, .type = ResolveType(rows, 25, -1, 0)});
  }
  facts.key = {1};
  return facts;
}

TEST(MakeTableSchema, AppliesTheRulesOfConfiguration) {
  const auto made = MakeTableSchema(Users(), {.exclude = {"email"}, .hash = {"note"}}, 3);
  ASSERT_TRUE(made.ok()) << ErrorLine(made.status());
  const TableSchema& schema = **made;
  EXPECT_EQ(schema.version, 3u);
  EXPECT_EQ(schema.identity, Identity::kKey);
  ASSERT_EQ(schema.columns.size(), 2u);
  EXPECT_TRUE(schema.columns[1].hashed);
  ASSERT_EQ(schema.wire.size(), 3u);
  EXPECT_EQ(schema.wire[1].output, -1);
  EXPECT_EQ(schema.wire[2].output, 1);
}

TEST(MakeTableSchema, RefusesRulesThatCannotHold) {
  const auto code = [](const TableFacts& facts, const ColumnRules& rules) {
    return PartsOf(MakeTableSchema(facts, rules, 1).status()).code;
  };
  EXPECT_EQ(code(Users(), {.exclude = {"nobody"}}), "ETL-S112");
  EXPECT_EQ(code(Users(), {.hash = {"id"}}), "ETL-S113");
  TableFacts facts = Users();
  facts.columns[2].name = "EMAIL";
  EXPECT_EQ(code(facts, {}), "ETL-S118");
  facts = Users();
  facts.schema = "_etl";
  EXPECT_EQ(code(facts, {}), "ETL-S119");
  facts = Users();
  facts.columns[0].published = false;
  EXPECT_EQ(code(facts, {}), "ETL-S111");
  facts.columns[1].published = facts.columns[2].published = false;
  EXPECT_EQ(code(facts, {}), "ETL-S115");
}

TEST(MakeTableSchema, IdentityFollowsReplicaIdentity) {
  TableFacts facts = Users();
  facts.key.clear();
  EXPECT_EQ((*MakeTableSchema(facts, {}, 1))->identity, Identity::kNone);
  facts.replica_identity = 'f';
  EXPECT_EQ((*MakeTableSchema(facts, {}, 1))->identity, Identity::kFullRow);
  facts = Users();
  facts.replica_identity = 'n';
  EXPECT_EQ((*MakeTableSchema(facts, {}, 1))->identity, Identity::kNone);
}

TEST(ServerErrors, BecomeKindAndCode) {
  const auto map = [](const std::string& state, const std::string& message) {
    const Status status = MapServerError({.sqlstate = state, .message = message}, "stream");
    return PartsOf(status).code + " " + std::string(ErrorKindName(KindOf(status)));
  };
  EXPECT_EQ(map("55006", "replication slot \"s\" is active for PID 7"), "ETL-S202 busy");
  EXPECT_EQ(map("42704", "replication slot \"s\" does not exist"), "ETL-S201 lost");
  EXPECT_EQ(map("42704", "publication \"p\" does not exist"), "ETL-S120 lost");
  EXPECT_EQ(map("55000", "can no longer access replication slot \"s\""), "ETL-S203 lost");
  EXPECT_EQ(map("55000", "logical decoding requires wal_level >= logical"), "ETL-S108 config");
  EXPECT_EQ(map("57P01", "terminating connection"), "ETL-S204 transient");
  EXPECT_EQ(map("0A000", "logical decoding cannot be used while in recovery"),
            "ETL-S204 transient");
  EXPECT_EQ(map("55000", "recovery is in progress"), "ETL-S204 transient");
  EXPECT_EQ(map("25006", "cannot execute CREATE PUBLICATION during recovery"),
            "ETL-S204 transient");
  EXPECT_EQ(map("0A000", "something unsupported"), "ETL-S199 internal");
  EXPECT_EQ(map("42501", "permission denied for table t"), "ETL-S103 auth");
  EXPECT_EQ(map("XX000", "something odd"), "ETL-S199 internal");
  EXPECT_EQ(map("XX000", "could not map filenode \"base/5/16464\" to relation OID"),
            "ETL-S207 lost");
  EXPECT_EQ(map("XX000", "could not map filenumber \"base/5/16464\" to relation OID"),
            "ETL-S207 lost");
  EXPECT_EQ(map("42710", "replication slot \"s\" already exists"), "ETL-S202 busy");
}

TEST(ServerErrors, OfAConnectionAreReadFromVerboseText) {
  const auto map = [](std::string_view text) { return MapConnectError(text, "connect"); };
  const Status auth =
      map("connection to server at \"127.0.0.1\", port 5 failed: FATAL:  28P01: password "
          "authentication failed\n"
          "LOCATION:  auth_failed, auth.c:330\n");
  EXPECT_EQ(KindOf(auth), ErrorKind::kAuth);
  EXPECT_EQ(PartsOf(auth).why.find("LOCATION"), std::string::npos);
  EXPECT_EQ(PartsOf(map("FATAL:  08P01: unsupported startup parameter: replication")).code,
            "ETL-S104");
  EXPECT_EQ(PartsOf(map("could not connect to server: Connection refused")).code, "ETL-S101");
  EXPECT_EQ(PartsOf(map("SSL error: certificate verify failed")).code, "ETL-S102");
}

TEST(Connection, NeverRepeatsAConnectionStringItCannotParse) {
  SourceOptions options;
  options.conninfo = "postgres://u:hunter2@h:notaport:1/db?bad%zz=1";
  const auto connection =
      PgConnection::Connect(options, PgConnection::Mode::kNormal, SystemClock().Now());
  ASSERT_FALSE(connection.ok());
  EXPECT_EQ(KindOf(connection.status()), ErrorKind::kConfig);
  EXPECT_EQ(ErrorLine(connection.status()).find("hunter2"), std::string::npos);
}

TEST(ServerVersion, TellsWhetherPublishedChangesMayBeLost) {
  for (const int mended : {140018, 150013, 160009, 170005, 180000, 190001})
    EXPECT_FALSE(LosesPublishedChanges(mended)) << mended;
  for (const int old : {130020, 140017, 150000, 150012, 160008, 170004})
    EXPECT_TRUE(LosesPublishedChanges(old)) << old;
}

TEST(ChunkPlan, RangesMeetAndTheLastIsOpen) {
  const auto chunks = PlanChunks({{.id = {7}, .blocks = 1000, .rows_per_block = 10}}, 1000);
  ASSERT_EQ(chunks.size(), 10u);
  for (size_t i = 0; i < chunks.size(); ++i) {
    EXPECT_EQ(chunks[i].number, i);
    EXPECT_EQ(chunks[i].first_block, i * 100);
    EXPECT_EQ(chunks[i].end_block.has_value(), i + 1 < chunks.size());
    EXPECT_EQ(chunks[i].end_block.value_or(0),
              i + 1 < chunks.size() ? chunks[i + 1].first_block : 0);
  }
}

TEST(ChunkPlan, EveryLeafHasAtLeastOneChunk) {
  const auto chunks =
      PlanChunks({{.id = {7}, .blocks = 0, .rows_per_block = 80},
                  {.id = {8}, .blocks = 50, .rows_per_block = 0},
                  {.id = {9}, .blocks = 90000, .rows_per_block = 1, .ranges = false}},
                 100);
  ASSERT_EQ(chunks.size(), 3u);
  for (const Chunk& chunk : chunks) {
    EXPECT_EQ(chunk.first_block, 0u);
    EXPECT_FALSE(chunk.end_block.has_value());
  }
}

TEST(ChunkPlan, LargeRowsDoNotMakeARangeTooLongToRead) {
  const auto chunks = PlanChunks({{.id = {7}, .blocks = 100000, .rows_per_block = 0.5}}, 1000000);
  EXPECT_GT(chunks.size(), 2u);
}

TEST(ChunkPlan, ValuesThatAreKeptApartCount) {
  // 13 rows of 100 KB a block: 1,000 blocks hold 1.3 GB.
  const std::vector<LeafSize> leaves = {
      {.id = {7}, .blocks = 1000, .rows_per_block = 13, .bytes = int64_t{1300} << 20}};
  EXPECT_EQ(PlanChunks(leaves, 100000, 64 << 20).size(), 21u);
  EXPECT_EQ(PlanChunks(leaves, 100000, 1).size(), 1000u) << "never less than a block";
}

TEST(ChunkPlan, RangesOverARootHoldTheRowsOfEveryLeafThatReachesThere) {
  const LeafSize root{.id = {1}, .schema = "s", .name = "root", .file_node = 77};
  const auto chunks = PlanRootChunks(root,
                                     {{.id = {7}, .blocks = 100, .rows_per_block = 10},
                                      {.id = {8}, .blocks = 40, .rows_per_block = 10},
                                      {.id = {9}, .blocks = 0, .rows_per_block = 10}},
                                     100, 64 << 20);
  ASSERT_GT(chunks.size(), 2u);
  int64_t rows = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    EXPECT_EQ(chunks[i].leaf.oid, 1u);
    EXPECT_EQ(chunks[i].leaf_name, "root");
    EXPECT_EQ(chunks[i].file_node, 77u);
    EXPECT_EQ(chunks[i].first_block, i == 0 ? 0 : chunks[i - 1].end_block.value_or(0));
    EXPECT_EQ(chunks[i].end_block.has_value(), i + 1 < chunks.size());
    EXPECT_LE(chunks[i].rows_estimate, 130);
    rows += chunks[i].rows_estimate;
  }
  EXPECT_EQ(chunks.front().end_block, 5u) << "two leaves reach there";
  EXPECT_GE(rows, 1400);
  const auto whole = PlanRootChunks(
      root, {{.id = {7}, .blocks = 100}, {.id = {8}, .blocks = 9, .ranges = false}}, 100, 64 << 20);
  ASSERT_EQ(whole.size(), 1u);
  EXPECT_FALSE(whole[0].end_block.has_value());
  EXPECT_EQ(PlanRootChunks(root, {}, 100, 64 << 20).size(), 1u);
}

TEST(TimelineHistory, TellsWhereATimelineEnded) {
  const std::string history =
      "1\t0/114215E0\tno recovery target specified\n\n2\t0/2000000\tno reason\n";
  EXPECT_EQ(TimelineEnd(history, 1), Lsn{0x114215E0});
  EXPECT_EQ(TimelineEnd(history, 2), Lsn{0x2000000});
  EXPECT_EQ(TimelineEnd(history, 3), std::nullopt);
  EXPECT_EQ(TimelineEnd("", 1), std::nullopt);
}

template <typename Builder, typename Value>
std::string Key(Builder builder, Value value) {
  EXPECT_TRUE(builder.Append(value).ok());
  return *KeyText(**builder.Finish(), 0);
}

TEST(KeyText, IsWhatPostgresReads) {
  arrow::MemoryPool* pool = arrow::default_memory_pool();
  EXPECT_EQ(Key(arrow::Int64Builder(), INT64_MIN), "-9223372036854775808");
  EXPECT_EQ(Key(arrow::UInt32Builder(), 4000000000u), "4000000000");
  EXPECT_EQ(Key(arrow::DoubleBuilder(), 0.1), "0.1");
  EXPECT_EQ(Key(arrow::BinaryBuilder(), "a\xff"), "\\x61ff");
  EXPECT_EQ(Key(arrow::Decimal128Builder(arrow::decimal128(10, 2)), arrow::Decimal128(-150)),
            "-1.50");
  EXPECT_EQ(Key(arrow::Date32Builder(), 0), "1970-01-01");
  EXPECT_EQ(Key(arrow::Date32Builder(), -719528), "0001-01-01 BC");
  EXPECT_EQ(Key(arrow::Date32Builder(), INT32_MAX), "infinity");
  EXPECT_EQ(Key(arrow::Date32Builder(), -INT32_MAX), "-infinity");
  const auto when = [&](int64_t micros) {
    return Key(arrow::TimestampBuilder(arrow::timestamp(arrow::TimeUnit::MICRO), pool), micros);
  };
  EXPECT_EQ(when(-1), "1969-12-31 23:59:59.999999");
  EXPECT_EQ(when(253402300800000000), "10000-01-01 00:00:00.000000");
  EXPECT_EQ(when(-INT64_MAX), "-infinity");
  EXPECT_EQ(
      Key(arrow::Time64Builder(arrow::time64(arrow::TimeUnit::MICRO), pool), int64_t{86400000000}),
      "24:00:00.000000");
  const auto texts = std::make_shared<arrow::StringBuilder>();
  const auto pairs = std::make_shared<arrow::StructBuilder>(
      arrow::struct_({arrow::field("a", arrow::utf8()), arrow::field("b", arrow::utf8())}), pool,
      std::vector<std::shared_ptr<arrow::ArrayBuilder>>{texts,
                                                        std::make_shared<arrow::StringBuilder>()});
  arrow::ListBuilder list(pool, pairs);
  ASSERT_TRUE(list.Append().ok() && list.Append().ok() && pairs->Append().ok() &&
              texts->Append("a\"\\,").ok() && pairs->field_builder(1)->AppendNull().ok() &&
              pairs->AppendNull().ok());
  const auto lists = *list.Finish();
  EXPECT_EQ(*KeyText(*lists, 0), "{}");
  EXPECT_EQ(*KeyText(*lists, 1), "{\"(\\\"a\\\\\\\"\\\\\\\\,\\\",)\",NULL}");
}

using Severity = PreflightFinding::Severity;

TEST(JudgeFailover, ASlotOutlivesAFailoverOnlyIfItIsCopiedAndItsReaderWaits) {
  EXPECT_EQ(JudgeFailover({.standbys = 0, .slot = false}, "s").severity, Severity::kOk);
  EXPECT_EQ(JudgeFailover({.standbys = 1, .slot = true, .reader_waits = true}, "s").severity,
            Severity::kOk);
  const PreflightFinding hurried = JudgeFailover({.standbys = 1, .slot = true}, "s");
  EXPECT_EQ(hurried.severity, Severity::kWarn);
  EXPECT_TRUE(hurried.what.starts_with("synchronized_standby_slots"));
  const PreflightFinding alone = JudgeFailover({.standbys = 1, .slot = false}, "s");
  EXPECT_EQ(alone.severity, Severity::kWarn);
  EXPECT_TRUE(alone.sql.empty()) << "a replication command is no SQL";
  EXPECT_NE(alone.remedy.find("ALTER_REPLICATION_SLOT \"s\" (FAILOVER true)"), std::string::npos);
  EXPECT_EQ(JudgeFailover({.standbys = 1}, "s").sql,
            (std::vector<std::string>{
                "SELECT pg_create_logical_replication_slot('s', 'pgoutput', false, false, true)"}));
}

TEST(JudgeClock, OnlyWhatLiesOutsideTheTwoLooksCounts) {
  EXPECT_EQ(JudgeClock(0, 20'000'000, 30'000'000).severity, Severity::kOk) << "a slow answer";
  EXPECT_EQ(JudgeClock(0, 34'900'000, 30'000'000).severity, Severity::kOk);
  EXPECT_EQ(JudgeClock(0, 35'000'000, 30'000'000).what, "its clock is 5.0 s ahead of ours");
  EXPECT_EQ(JudgeClock(0, -60'000'000, 30'000'000).what, "its clock is 60.0 s behind ours");
}

TEST(JudgeSenderTimeout, FailsWhereTheSessionCannotRaiseIt) {
  EXPECT_EQ(JudgeSenderTimeout(0, 0).severity, Severity::kOk);
  EXPECT_EQ(JudgeSenderTimeout(60000, 60000).severity, Severity::kOk);
  EXPECT_EQ(JudgeSenderTimeout(5000, 60000).severity, Severity::kWarn);
  EXPECT_EQ(JudgeSenderTimeout(10000, 10000).severity, Severity::kFail);
}

TEST(JudgeDecodingMemory, ProposesRoomForTwiceWhatWasSpilled) {
  DecodingFacts facts{.work_mem = int64_t{64} << 20};
  EXPECT_EQ(JudgeDecodingMemory(facts, "r").severity, Severity::kOk);
  facts.streamed = 2;
  facts.streamed_bytes = int64_t{300} << 20;
  EXPECT_EQ(JudgeDecodingMemory(facts, "r").severity, Severity::kOk);
  facts.spilled = 3;
  facts.spilled_bytes = int64_t{300} << 20;
  EXPECT_EQ(JudgeDecodingMemory(facts, "r").remedy,
            "ALTER ROLE \"r\" SET logical_decoding_work_mem = '256MB'; -- read when the stream "
            "begins");
  facts.spilled_bytes = int64_t{30} << 40;
  EXPECT_NE(JudgeDecodingMemory(facts, "r").remedy.find("'1024MB'"), std::string::npos);
}

}  // namespace
}  // namespace etl
