#include <map>
#include <set>

#include <arrow/api.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>

#include "decode/pgoutput.h"
#include "postgres/libpq_chunk_reader.h"
#include "postgres/libpq_system_catalog.h"
#include "postgres/libpq_wal_stream.h"
#include "postgres/preflight.h"
#include "postgres/source_setup.h"
#include "postgres/table_query.h"
#include "support/live_postgres.h"
#include "support/slot_race.h"

namespace etl {
namespace {

/// Asks the catalog and waits for the answer.
template <typename Answer>
Result<Answer> AskAndWait(LibpqSystemCatalog& catalog, CatalogQuery query) {
  catalog.Ask(std::move(query));
  for (const Instant deadline = Soon(); SystemClock().Now() < deadline;) {
    ETL_ASSIGN_OR_RETURN(std::optional<CatalogAnswer> answer, catalog.Poll(SystemClock().Now()));
    if (answer) return std::get<Answer>(std::move(*answer));
    std::vector<pollfd> fds;
    catalog.AddPollFds(fds);
    WaitFor(fds, deadline);
  }
  return MakeError(ErrorKind::kTransient, "ETL-TEST", "no answer");
}

struct ReadBack {
  ReadEvent::Kind kind = ReadEvent::Kind::kNothing;
  std::string data;
  Lsn high;
};

Result<ReadBack> ReadAll(LibpqChunkReader& reader, const ReadSpec& spec) {
  ETL_RETURN_IF_ERROR(reader.Begin(spec));
  ReadBack back;
  for (const Instant deadline = Soon(); SystemClock().Now() < deadline;) {
    ETL_ASSIGN_OR_RETURN(const ReadEvent event, reader.Next(SystemClock().Now()));
    if (event.kind == ReadEvent::Kind::kData) {
      back.data += event.data;
    } else if (event.kind != ReadEvent::Kind::kNothing) {
      back.kind = event.kind;
      back.high = event.high;
      return back;
    } else {
      std::vector<pollfd> fds;
      const Instant by = reader.LookAgainBy(SystemClock().Now());
      reader.AddPollFds(fds);
      WaitFor(fds, std::min(by, deadline));
    }
  }
  return MakeError(ErrorKind::kTransient, "ETL-TEST", "the chunk did not end");
}

/// Messages of the stream up to and including the `commits`-th commit, as one string of their
/// types; the numbers of columns in its R messages go to `columns`.
Result<std::string> ReadCommits(LibpqWalStream& stream, int commits,
                                std::vector<size_t>* columns = nullptr) {
  std::string types;
  DecodedMessage message;
  for (const Instant deadline = Soon(); SystemClock().Now() < deadline;) {
    const Instant now = SystemClock().Now();
    ETL_ASSIGN_OR_RETURN(const auto frame, stream.Next(now));
    if (!frame) {
      std::vector<pollfd> fds;
      const Instant by = std::min(stream.LookAgainBy(now), deadline);
      stream.AddPollFds(fds);
      WaitFor(fds, by);
      continue;
    }
    // It has not run dry: no nap yet.
    EXPECT_EQ(stream.LookAgainBy(now), now);
    ETL_ASSIGN_OR_RETURN(const ReplicationFrame parsed, ParseReplicationFrame(*frame));
    if (parsed.keepalive) continue;
    ETL_RETURN_IF_ERROR(DecodeMessage(parsed.payload, false, &message));
    types += static_cast<char>(message.type);
    if (columns != nullptr && message.type == MessageType::kRelation)
      columns->push_back(message.columns.size());
    if (message.type == MessageType::kCommit && --commits == 0) return types;
  }
  return MakeError(ErrorKind::kTransient, "ETL-TEST", "no more commits after " + types);
}

TEST_F(Postgres, StreamsATransactionAfterSetup) {
  Run("CREATE TABLE t(id int PRIMARY KEY, v text)");
  auto setup = Prepare();
  auto publication = setup->EnsurePublication("pub", {{"public", "t"}}, Soon());
  ASSERT_OK(publication.status());
  EXPECT_TRUE(publication->ours);
  EXPECT_TRUE(publication->via_root);
  auto slot = setup->EnsureSlot("stream_" + database_, false, Soon());
  ASSERT_OK(slot.status());
  EXPECT_TRUE(slot->created);
  ASSERT_TRUE(slot->confirmed_flush.valid());
  auto stream = LibpqWalStream::Make(source_,
                                     {.slot = "stream_" + database_,
                                      .publications = {"pub"},
                                      .start = slot->confirmed_flush,
                                      .binary = true},
                                     Soon());
  ASSERT_OK(stream.status());
  EXPECT_EQ((*stream)->protocol(), server_->version_num() >= 160000   ? 4
                                   : server_->version_num() >= 150000 ? 3
                                                                      : 2);
  Run("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 2) i");
  Run("UPDATE t SET v = 'y' WHERE id = 1; DELETE FROM t WHERE id = 2");
  const auto types = ReadCommits(**stream, 2);
  ASSERT_OK(types.status());
  EXPECT_EQ(*types, "BRIICBUDC");

  // A second reader of the slot is refused by name of the reason.
  const auto second = LibpqWalStream::Make(
      source_,
      {.slot = "stream_" + database_, .publications = {"pub"}, .start = slot->confirmed_flush},
      Soon());
  EXPECT_EQ(CodeOf(second.status()), "ETL-S202");
  EXPECT_EQ(KindOf(second.status()), ErrorKind::kBusy);

  // What was stored is reported at the end, and the slot can be dropped at once.
  const Lsn stored = *ParseLsn(Value("SELECT pg_current_wal_flush_lsn()"));
  (*stream)->Close(stored, stored, Soon(2));
  auto found = setup->FindSlot("stream_" + database_, Soon());
  ASSERT_OK(found.status());
  EXPECT_EQ((*found)->confirmed_flush, stored);
  ASSERT_OK(setup->DropSlot("stream_" + database_, Soon()));
  ASSERT_OK(setup->DropSlot("stream_" + database_, Soon()));
  ASSERT_OK(setup->DropPublication("pub", Soon()));
  EXPECT_EQ(Value("SELECT count(*) FROM pg_publication"), "0");
}

TEST_F(Postgres, StreamTellsThatASlotIsMissing) {
  const auto stream = LibpqWalStream::Make(
      source_, {.slot = "nowhere", .publications = {"pub"}, .start = Lsn{1}}, Soon());
  EXPECT_EQ(CodeOf(stream.status()), "ETL-S201");
  EXPECT_EQ(KindOf(stream.status()), ErrorKind::kLost);
}

TEST_F(Postgres, StreamEndsWithATransientErrorWhenTheServerGoes) {
  Run("CREATE TABLE t(id int PRIMARY KEY)");
  auto setup = Prepare();
  ASSERT_OK(setup->EnsurePublication("pub", {{"public", "t"}}, Soon()).status());
  auto slot = setup->EnsureSlot("gone_" + database_, true, Soon());
  ASSERT_OK(slot.status());
  ASSERT_OK(setup->EnsureSlot("kill_" + database_, false, Soon()).status());
  auto stream = LibpqWalStream::Make(
      source_,
      {.slot = "kill_" + database_, .publications = {"pub"}, .start = slot->confirmed_flush},
      Soon());
  ASSERT_OK(stream.status());
  Run("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'kill_" +
      database_ + "'");
  const auto types = ReadCommits(**stream, 1);
  EXPECT_EQ(KindOf(types.status()), ErrorKind::kTransient) << ErrorLine(types.status());
  ASSERT_OK(setup->DropSlot("kill_" + database_, Soon()));
}

TEST_F(Postgres, AForeignPublicationIsNotChanged) {
  Run("CREATE TABLE a(id int); CREATE TABLE b(id int); CREATE PUBLICATION pub FOR TABLE a");
  auto setup = Prepare();
  const auto refused = setup->EnsurePublication("pub", {{"public", "a"}, {"public", "b"}}, Soon());
  EXPECT_EQ(CodeOf(refused.status()), "ETL-S121");
  EXPECT_EQ(PartsOf(refused.status()).remedy,
            "ALTER PUBLICATION \"pub\" ADD TABLE \"public\".\"b\";");
  ASSERT_OK(setup->EnsurePublication("pub", {{"public", "a"}}, Soon()).status());
  ASSERT_OK(setup->DropPublication("pub", Soon()));
  EXPECT_EQ(Value("SELECT count(*) FROM pg_publication"), "1");
  EXPECT_EQ(CodeOf(setup->EnsurePublication("other", {}, Soon()).status()), "ETL-S120");
}

TEST_F(Postgres, AnOwnPublicationGetsTheTablesThatAreMissing) {
  Run("CREATE TABLE a(id int); CREATE TABLE b(id int)");
  auto setup = Prepare();
  ASSERT_OK(setup->EnsurePublication("pub", {{"public", "a"}}, Soon()).status());
  const auto both = setup->EnsurePublication("pub", {{"public", "b"}}, Soon());
  ASSERT_OK(both.status());
  EXPECT_EQ(both->tables.size(), 2u);
}

TEST_F(Postgres, SlotCreationNamesTheTransactionItWaitsForAndLeavesNothing) {
  auto writer = Session();
  ASSERT_OK(writer->Query("BEGIN; CREATE TABLE held(id int)", Soon()).status());
  auto setup = Prepare();
  const auto slot = setup->EnsureSlot("held_" + database_, false, Soon(3));
  EXPECT_EQ(CodeOf(slot.status()), "ETL-S204");
  const std::string pid = writer->Query("SELECT pg_backend_pid()", Soon())->String(0, 0);
  EXPECT_NE(PartsOf(slot.status()).why.find("pid " + pid), std::string::npos)
      << ErrorLine(slot.status());
  EXPECT_EQ(
      Value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'held_" + database_ + "'"),
      "0");
}

// PostgreSQL forgets schema changes that are committed while it waits for older transactions before
// a slot can be created, and decodes what follows with the schema as it was.
TEST_F(Postgres, ASlotThatOverlooksASchemaChangeIsCreatedAgain) {
  Run("CREATE TABLE rewritten(id int PRIMARY KEY); CREATE TABLE wider(id int PRIMARY KEY);"
      "CREATE PUBLICATION pub FOR TABLE rewritten, wider");
  auto setup = Prepare();
  const std::string name = "race_" + database_;
  Result<SlotFacts> slot = SlotFacts{};
  ASSERT_OK(RunSlotRace({.conninfo = server_->ConnInfo(database_),
                         .schema_change = "TRUNCATE public.rewritten; ALTER TABLE public.wider ADD "
                                          "v text",
                         .change = "INSERT INTO public.rewritten VALUES (1)",
                         .create = [&] { slot = setup->EnsureSlot(name, false, Soon()); }}));
  ASSERT_OK(slot.status());
  auto stream = LibpqWalStream::Make(
      source_, {.slot = name, .publications = {"pub"}, .start = slot->confirmed_flush}, Soon());
  ASSERT_OK(stream.status());
  Run("BEGIN; INSERT INTO public.rewritten VALUES (2); INSERT INTO public.wider VALUES (2, 'v'); "
      "COMMIT");
  std::vector<size_t> columns;
  const auto types = ReadCommits(**stream, 1, &columns);
  ASSERT_OK(types.status());
  EXPECT_EQ(*types, "BRIRIC");
  EXPECT_EQ(columns, (std::vector<size_t>{1, 2})) << "the column added meanwhile is there";
  EXPECT_EQ(Value("SELECT string_agg(slot_name, ',') FROM pg_replication_slots"), name);
}

TEST_F(Postgres, ASlotIsLeftByNobodyWhoDiedWhileItWasCreated) {
  const std::string name = "dead_" + database_;
  auto writer = Session();
  ASSERT_OK(writer->Query("BEGIN; CREATE TABLE held(id int)", Soon()).status());
  const pid_t child = fork();
  if (child == 0) {
    auto setup = SourceSetup::Connect(source_, Soon());
    if (setup.ok()) (void)(*setup)->EnsureSlot(name, false, Soon());
    _exit(0);
  }
  const std::string waiting =
      "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender' AND datname = '" +
      database_ + "' AND wait_event_type = 'Lock'";
  for (const Instant until = Soon(); Value(waiting) == "0" && SystemClock().Now() < until;) {
    std::vector<pollfd> none;
    WaitFor(none, SystemClock().Now() + std::chrono::milliseconds(20));
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  // Its session at the server goes on, and may not be disturbed.
  auto setup = Prepare();
  const Status busy = setup->EnsureSlot(name, false, Soon()).status();
  EXPECT_EQ(CodeOf(busy), "ETL-S202") << ErrorLine(busy);
  EXPECT_EQ(KindOf(busy), ErrorKind::kBusy);
  ASSERT_OK(writer->Query("COMMIT", Soon()).status());
  const std::string slots =
      "SELECT count(*) FROM pg_replication_slots WHERE database = '" + database_ + "'";
  for (const Instant until = Soon(); Value(slots) != "0" && SystemClock().Now() < until;) {
    std::vector<pollfd> none;
    WaitFor(none, SystemClock().Now() + std::chrono::milliseconds(20));
  }
  EXPECT_EQ(Value(slots), "0");
  ASSERT_OK(setup->EnsureSlot(name, false, Soon()).status());
}

TEST_F(Postgres, ResumeIsRefusedWhereChangesWouldBeMissing) {
  auto setup = Prepare();
  const std::string name = "resume_" + database_;
  auto slot = setup->EnsureSlot(name, false, Soon());
  ASSERT_OK(slot.status());
  const SystemFacts system = setup->system();
  ResumePoint point{.identity = {system.system_id, system.database_oid, name},
                    .timeline = system.timeline,
                    .position = slot->confirmed_flush};
  const auto ask = [&] { return Prepare()->CheckResume(point, Soon()).status(); };
  ASSERT_OK(ask());

  ResumePoint good = point;
  point.identity.system_id += 1;
  EXPECT_EQ(CodeOf(ask()), "ETL-S205");
  point = good;
  point.identity.database_oid += 1;
  EXPECT_EQ(CodeOf(ask()), "ETL-S205");
  point = good;
  point.identity.slot = "missing";
  EXPECT_EQ(CodeOf(ask()), "ETL-S201");
  point = good;
  point.position = Lsn{good.position.value + (uint64_t{1} << 40)};
  EXPECT_EQ(CodeOf(ask()), "ETL-S205") << "a source restored from a backup";
  point = good;
  point.timeline += 1;
  EXPECT_EQ(CodeOf(ask()), "ETL-S205");
  point = good;
  Run("CREATE TABLE moved(id int)");
  Run("SELECT pg_replication_slot_advance('" + name + "', pg_current_wal_lsn())");
  EXPECT_EQ(CodeOf(ask()), "ETL-S206");
  EXPECT_EQ(KindOf(ask()), ErrorKind::kLost);
  ASSERT_OK(setup->DropSlot(name, Soon()));
}

TEST_F(Postgres, ReadsTypesThroughDomainsArraysAndComposites) {
  Run("CREATE DOMAIN price AS numeric(10,3); CREATE TYPE mood AS ENUM ('a'); CREATE DOMAIN matrix "
      "AS int[][]; "
      "CREATE TYPE place AS (town text, spot price, tags mood[]); CREATE TYPE bare AS (); "
      "CREATE TYPE twice AS (a int, \"A\" int); "
      "CREATE TABLE t(id int PRIMARY KEY, p price, ps price[], m mood, ms mood[], pl place, pls "
      "place[][], b bare, "
      "tw twice, mx matrix, iv int2vector, pt point, bx box[], v varchar(7), n numeric, c "
      "\"char\", g inet, big numeric(50,2))");
  Run("ALTER TABLE t ADD COLUMN dflt int[] DEFAULT '{1,2}', ADD COLUMN txt text DEFAULT 'a,\"b', "
      "ADD COLUMN corner box DEFAULT '(1,2),(0,0)', DROP COLUMN g");
  Run("CREATE PUBLICATION pub FOR TABLE t");
  const TableFacts table = Facts()["t"];
  std::map<std::string, AttributeFacts> columns;
  for (const AttributeFacts& column : table.columns) columns[column.name] = column;
  const auto type = [&](const std::string& name) -> const ColumnType& {
    return *columns.at(name).type;
  };
  EXPECT_EQ(type("p").kind, TypeKind::kDecimal);
  EXPECT_EQ(type("p").scale, 3);
  EXPECT_EQ(type("ps").kind, TypeKind::kList);
  EXPECT_EQ(type("ps").element->scale, 3);
  EXPECT_EQ(type("m").kind, TypeKind::kText);
  EXPECT_EQ(type("ms").element->kind, TypeKind::kText);
  ASSERT_EQ(type("pl").kind, TypeKind::kStruct);
  ASSERT_EQ(type("pl").fields.size(), 3u);
  EXPECT_EQ(type("pl").fields[1].type->kind, TypeKind::kDecimal);
  EXPECT_EQ(type("pl").fields[2].type->kind, TypeKind::kList);
  EXPECT_EQ(type("pls").dimensions, 2);
  EXPECT_EQ(type("pls").element->kind, TypeKind::kStruct);
  EXPECT_EQ(type("b").kind, TypeKind::kServerText);
  EXPECT_EQ(type("tw").kind, TypeKind::kServerText);
  EXPECT_EQ(type("mx").kind, TypeKind::kList);
  EXPECT_EQ(type("mx").dimensions, 2);
  EXPECT_EQ(type("iv").kind, TypeKind::kServerText) << "prints without braces";
  EXPECT_EQ(type("pt").kind, TypeKind::kServerText);
  EXPECT_EQ(type("bx").kind, TypeKind::kList);
  EXPECT_EQ(type("bx").delimiter, ';');
  EXPECT_EQ(type("v").name, "character varying(7)");
  EXPECT_EQ(type("n").kind, TypeKind::kNumericText);
  EXPECT_EQ(type("big").kind, TypeKind::kNumericText);
  EXPECT_EQ(type("c").kind, TypeKind::kChar);
  EXPECT_FALSE(columns.contains("g"));
  EXPECT_EQ(table.attributes, columns.at("corner").attnum);
  EXPECT_EQ(columns.at("dflt").missing_text, "{1,2}");
  EXPECT_EQ(columns.at("txt").missing_text, "a,\"b");
  EXPECT_EQ(columns.at("corner").missing_text, "(1,2),(0,0)");
  EXPECT_TRUE(columns.at("dflt").has_missing);
  EXPECT_FALSE(columns.at("p").has_missing);
  EXPECT_NE(columns.at("dflt").row_xmin, 0u);
  EXPECT_EQ(table.key, std::vector<int16_t>{1});
  ASSERT_EQ(table.leaves.size(), 1u);
  EXPECT_NE(table.leaves[0].file_node, 0u);
  EXPECT_TRUE(table.can_select);
}

TEST_F(Postgres, FindsTheUsableKey) {
  Run("CREATE TABLE deferred(id int PRIMARY KEY DEFERRABLE); "
      "CREATE TABLE indexed(a int, b int NOT NULL, c int NOT NULL); CREATE UNIQUE INDEX i ON "
      "indexed(c, b) INCLUDE (a); "
      "ALTER TABLE indexed REPLICA IDENTITY USING INDEX i; "
      "CREATE TABLE whole(a int, b int PRIMARY KEY); ALTER TABLE whole REPLICA IDENTITY FULL; "
      "CREATE TABLE loose(a int UNIQUE); ALTER TABLE loose REPLICA IDENTITY FULL; "
      "CREATE TABLE nothing(a int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING; "
      "CREATE PUBLICATION pub FOR ALL TABLES");
  auto facts = Facts();
  EXPECT_TRUE(facts["deferred"].key.empty());
  EXPECT_EQ(facts["indexed"].key, (std::vector<int16_t>{3, 2}));
  EXPECT_EQ(facts["whole"].key, std::vector<int16_t>{2});
  EXPECT_TRUE(facts["loose"].key.empty()) << "the column may be NULL";
  EXPECT_TRUE(facts["nothing"].key.empty());
  EXPECT_EQ(facts["whole"].publication_entries.size(), 1u);
}

TEST_F(Postgres, SeesPartitionsFiltersAndColumnLists) {
  Run("CREATE TABLE p(id int PRIMARY KEY, v text) PARTITION BY RANGE (id); "
      "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); "
      "CREATE TABLE p2(v text, id int NOT NULL); ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM "
      "(10) TO (20); "
      "CREATE TABLE q(id int PRIMARY KEY, secret text, gen int GENERATED ALWAYS AS (id + 1) "
      "STORED)");
  const bool lists = server_->version_num() >= 150000;
  Run(lists ? "CREATE PUBLICATION pub FOR TABLE p, q (id) WHERE (id > 5) WITH "
              "(publish_via_partition_root = true)"
            : "CREATE PUBLICATION pub FOR TABLE p, q WITH (publish_via_partition_root = true)");
  auto facts = Facts();
  ASSERT_EQ(facts.size(), 2u);
  EXPECT_EQ(facts["p"].kind, 'p');
  ASSERT_EQ(facts["p"].leaves.size(), 2u);
  EXPECT_EQ(facts["p"].leaves[0].bound, "FOR VALUES FROM (0) TO (10)");
  EXPECT_EQ(facts["p"].key, std::vector<int16_t>{1});
  EXPECT_EQ(facts["q"].publication_entries.size(), 1u);
  EXPECT_EQ(facts["q"].row_filter, lists ? "(id > 5)" : "");
  EXPECT_TRUE(facts["q"].columns[0].published);
  EXPECT_EQ(facts["q"].columns[1].published, !lists);
  EXPECT_FALSE(facts["q"].columns[2].published);
}

TEST_F(Postgres, ChunksCoverATableExactlyOnce) {
  Run("CREATE TABLE t(id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat('x', 90) FROM "
      "generate_series(1, 5000) i; "
      "CREATE PUBLICATION pub FOR TABLE t; ANALYZE t");
  const auto schema = MakeTableSchema(Facts()["t"], {}, 1);
  ASSERT_OK(schema.status());
  auto catalog = LibpqSystemCatalog::Make(source_, {.publication = "pub", .slot = ""});
  const auto plan = AskAndWait<ChunkPlanAnswer>(
      **catalog, ChunkPlanQuery{.table = (*schema)->id, .chunk_rows = 1000});
  ASSERT_OK(plan.status());
  EXPECT_GE(plan->chunks.size(), 4u);
  EXPECT_FALSE(plan->chunks.back().end_block.has_value());
  auto reader = LibpqChunkReader::Make(source_);
  size_t bytes = 0;
  for (const Chunk& chunk : plan->chunks) {
    const auto back = ReadAll(**reader, {.schema = *schema, .chunk = chunk});
    ASSERT_OK(back.status());
    EXPECT_EQ(back->kind, ReadEvent::Kind::kDone);
    EXPECT_TRUE((*reader)->binary());
    EXPECT_TRUE(back->data.starts_with("PGCOPY\n"));
    EXPECT_LE(back->high, *ParseLsn(Value("SELECT pg_current_wal_flush_lsn()")));
    bytes += back->data.size() - 19 - 2;
  }
  // A row is 2 (count) + 4 + 4 (int) + 4 + 90 (text) bytes.
  EXPECT_EQ(bytes, 5000u * 104);
}

TEST_F(Postgres, ATableOfLargeValuesHasMoreChunks) {
  Run("CREATE TABLE t(id int PRIMARY KEY, v text) WITH (fillfactor = 10); ALTER TABLE t ALTER v "
      "SET "
      "STORAGE EXTERNAL; INSERT INTO t SELECT i, repeat('x', 100000) FROM generate_series(1, 200) "
      "i; "
      "CREATE PUBLICATION pub FOR TABLE t; ANALYZE t");
  auto catalog = LibpqSystemCatalog::Make(source_, {.publication = "pub", .slot = ""});
  const auto plan = AskAndWait<ChunkPlanAnswer>(
      **catalog, ChunkPlanQuery{.table = Facts()["t"].id, .chunk_bytes = 4 << 20});
  ASSERT_OK(plan.status());
  EXPECT_GE(plan->chunks.size(), 4u) << "20 MB";
  EXPECT_LE(plan->chunks.size(), 10u);
}

TEST_F(Postgres, AChunkOfAnOlderSchemaFindsColumnsByNumber) {
  Run("CREATE TABLE t(id int PRIMARY KEY, old text, gone inet, kept text); "
      "INSERT INTO t VALUES (1, 'a', '1.2.3.4', 'k'); CREATE PUBLICATION pub FOR TABLE t");
  const TableFacts facts = Facts()["t"];
  const auto schema = MakeTableSchema(facts, {}, 1);
  Chunk chunk{.leaf = facts.id,
              .leaf_schema = "public",
              .leaf_name = "t",
              .file_node = facts.leaves[0].file_node};
  Run("ALTER TABLE t RENAME old TO \"new name\"; ALTER TABLE t DROP COLUMN gone; ALTER TABLE t ADD "
      "COLUMN extra int; "
      "ALTER TABLE t RENAME TO renamed");
  auto reader = LibpqChunkReader::Make(source_);
  auto back = ReadAll(**reader, {.schema = *schema, .chunk = chunk});
  ASSERT_OK(back.status());
  EXPECT_FALSE((*reader)->binary());
  EXPECT_EQ(back->data, "1\ta\t\\N\tk\n");
  // The reader knows its name by now, which says nothing any more.
  for (const std::string& other :
       std::vector<std::string>{"TABLE renamed(id int)", "SEQUENCE renamed", ""}) {
    Run("ALTER TABLE renamed RENAME TO elsewhere");
    if (!other.empty()) Run("CREATE " + other);
    back = ReadAll(**reader, {.schema = *schema, .chunk = chunk});
    ASSERT_OK(back.status());
    EXPECT_EQ(back->kind, ReadEvent::Kind::kDone);
    EXPECT_EQ(back->data, "1\ta\t\\N\tk\n");
    if (!other.empty()) Run("DROP " + other.substr(0, other.find('(')));
    Run("ALTER TABLE elsewhere RENAME TO renamed");
    back = ReadAll(**reader, {.schema = *schema, .chunk = chunk});
    ASSERT_OK(back.status());
  }
  // A rewrite or another type is another table to read from.
  Run("ALTER TABLE renamed ALTER COLUMN id TYPE bigint");
  back = ReadAll(**reader, {.schema = *schema, .chunk = chunk});
  ASSERT_OK(back.status());
  EXPECT_EQ(back->kind, ReadEvent::Kind::kMoved);
  EXPECT_TRUE(back->high.valid());
  Run("DROP TABLE renamed");
  back = ReadAll(**reader, {.schema = *schema, .chunk = chunk});
  ASSERT_OK(back.status());
  EXPECT_EQ(back->kind, ReadEvent::Kind::kMoved);
}

TEST_F(Postgres, AChunkTakesFilterAndPartitionColumnOrder) {
  Run("CREATE TABLE p(id int, v inet) PARTITION BY RANGE (id); CREATE TABLE leaf(v inet, id int); "
      "ALTER TABLE p ATTACH PARTITION leaf FOR VALUES FROM (0) TO (100); "
      "INSERT INTO p SELECT i, '10.0.0.1' FROM generate_series(1, 4) i; "
      "CREATE PUBLICATION pub FOR TABLE p WITH (publish_via_partition_root = true)");
  const TableFacts facts = Facts()["p"];
  const auto schema = MakeTableSchema(facts, {}, 1);
  const LeafFacts& leaf = facts.leaves.at(0);
  auto reader = LibpqChunkReader::Make(source_);
  auto back = ReadAll(**reader, {.schema = *schema,
                                 .chunk = {.leaf = leaf.id, .file_node = leaf.file_node},
                                 .row_filter = "(id > 2)"});
  ASSERT_OK(back.status());
  EXPECT_EQ(back->data, "3\t10.0.0.1\n4\t10.0.0.1\n");
}

TEST_F(Postgres, ReadsRowsAgainByKey) {
  Run("CREATE TABLE t(a text, b timestamptz, v inet, l text[], PRIMARY KEY (b, a, l)); "
      "INSERT INTO t VALUES ('it''s \\', '2024-02-01 10:00:00.5+00', '1.1.1.1', ARRAY['a\"\\,', "
      "NULL]), ('x', '0044-03-15 00:00:00+00 BC', '2.2.2.2', '{}'), "
      "('x', 'infinity', '3.3.3.3', '{}'); CREATE PUBLICATION pub FOR TABLE t");
  const auto schema = MakeTableSchema(Facts()["t"], {}, 1);
  ASSERT_EQ((*schema)->key, (std::vector<int>{1, 0, 3}));
  arrow::TimestampBuilder when(arrow::timestamp(arrow::TimeUnit::MICRO, "UTC"),
                               arrow::default_memory_pool());
  arrow::StringBuilder name;
  // 2024-02-01 10:00:00.5; 44-03-15 BC is 735160 days before 1970; infinity.
  ASSERT_OK(when.AppendValues({1706781600500000, -735160 * 86400000000, INT64_MAX, 0}));
  ASSERT_OK(name.AppendValues({"it's \\", "x", "x", "absent"}));
  const auto texts = std::make_shared<arrow::StringBuilder>();
  arrow::ListBuilder list(arrow::default_memory_pool(), texts);
  ASSERT_OK(list.Append());
  ASSERT_OK(texts->Append("a\"\\,"));
  ASSERT_OK(texts->AppendNull());
  for (int i = 0; i < 3; ++i) ASSERT_OK(list.Append());
  const auto keys = arrow::RecordBatch::Make(
      arrow::schema({arrow::field("b", arrow::timestamp(arrow::TimeUnit::MICRO, "UTC")),
                     arrow::field("a", arrow::utf8()),
                     arrow::field("l", arrow::list(arrow::utf8()))}),
      4, {*when.Finish(), *name.Finish(), *list.Finish()});
  auto reader = LibpqChunkReader::Make(source_);
  const auto back = ReadAll(**reader, {.schema = *schema, .keys = keys});
  ASSERT_OK(back.status());
  EXPECT_EQ(back->kind, ReadEvent::Kind::kDone);
  EXPECT_NE(back->data.find("it's \\\\\t2024-02-01 10:00:00.5+00\t1.1.1.1\t"), std::string::npos)
      << back->data;
  EXPECT_NE(back->data.find("x\t0044-03-15 00:00:00+00 BC\t2.2.2.2\t{}\n"), std::string::npos)
      << back->data;
  EXPECT_NE(back->data.find("x\tinfinity\t3.3.3.3\t{}\n"), std::string::npos) << back->data;
  EXPECT_EQ(std::count(back->data.begin(), back->data.end(), '\n'), 3);
}

TEST_F(Postgres, ReadsAWholeTableUnderTheSnapshotOfASlot) {
  Run("CREATE TABLE t(v text); INSERT INTO t SELECT 'same' FROM generate_series(1, 3); "
      "ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION pub FOR TABLE t");
  const auto schema = MakeTableSchema(Facts()["t"], {}, 1);
  EXPECT_EQ((*schema)->identity, Identity::kFullRow);
  const Lsn before = *ParseLsn(Value("SELECT pg_current_wal_insert_lsn()"));
  auto reader = LibpqChunkReader::Make(source_);
  const auto back = ReadAll(**reader, {.schema = *schema, .under_slot = true});
  ASSERT_OK(back.status());
  EXPECT_EQ(back->kind, ReadEvent::Kind::kDone);
  EXPECT_GE(back->high, before);
  EXPECT_EQ(back->data.size(), 19u + 3 * (2 + 4 + 4) + 2);
  // The slot ends with the connection that it belonged to.
  for (const Instant deadline = Soon(); SystemClock().Now() < deadline;) {
    if (Value("SELECT count(*) FROM pg_replication_slots WHERE temporary") == "0") break;
  }
  EXPECT_EQ(Value("SELECT count(*) FROM pg_replication_slots WHERE temporary"), "0");
}

TEST_F(Postgres, WaitsUntilTheSourceHasFlushedPastTheSnapshot) {
  Run("CREATE TABLE t(id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t");
  const TableFacts facts = Facts()["t"];
  const auto schema = MakeTableSchema(facts, {}, 1);
  // An open transaction's unflushed record: on a quiet server nobody flushes it for up to 15 s.
  auto writer = Session();
  ASSERT_OK(writer->Query("BEGIN; INSERT INTO t VALUES (1)", Soon()).status());
  auto reader = LibpqChunkReader::Make(source_, {.polls_before_nudge = 2});
  const auto back = ReadAll(
      **reader,
      {.schema = *schema, .chunk = {.leaf = facts.id, .file_node = facts.leaves[0].file_node}});
  ASSERT_OK(back.status());
  EXPECT_LE(back->high, *ParseLsn(Value("SELECT pg_current_wal_flush_lsn()")));
}

TEST_F(Postgres, ListsThoseWhoHoldWriteLocksOnATableOrItsLeaves) {
  Run("CREATE TABLE p(id int) PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF p FOR VALUES "
      "FROM (0) TO (9); "
      "CREATE PUBLICATION pub FOR TABLE p WITH (publish_via_partition_root = true)");
  const TableId table = Facts()["p"].id;
  auto catalog = LibpqSystemCatalog::Make(source_, {.publication = "pub", .slot = ""});
  auto holders = [&] {
    return AskAndWait<LockHoldersAnswer>(**catalog, LockHoldersQuery{.tables = {table}});
  };
  EXPECT_TRUE(holders()->holders.empty());
  auto reader = Session();
  auto writer = Session();
  ASSERT_OK(reader->Query("BEGIN; SELECT * FROM p", Soon()).status());
  ASSERT_OK(writer->Query("BEGIN; INSERT INTO leaf VALUES (1)", Soon()).status());
  const std::string pid = writer->Query("SELECT pg_backend_pid()", Soon())->String(0, 0);
  const std::string xid =
      writer->Query("SELECT txid_current() % (2^32)::bigint", Soon())->String(0, 0);
  auto held = holders();
  ASSERT_OK(held.status());
  ASSERT_EQ(held->holders.size(), 1u);
  EXPECT_TRUE(held->holders[0].id.starts_with(pid + " ")) << held->holders[0].id;
  EXPECT_NE(held->holders[0].description.find("pid " + pid + " (etl-stream"), std::string::npos);
  const uint32_t running = static_cast<uint32_t>(std::stoul(xid));
  auto xids = AskAndWait<RunningXidsAnswer>(**catalog, RunningXidsQuery{.xids = {running, 3}});
  ASSERT_OK(xids.status());
  EXPECT_EQ(xids->running, std::vector<uint32_t>{running});
  // A prepared transaction holds its locks without a process.
  ASSERT_OK(writer->Query("PREPARE TRANSACTION 'left'", Soon()).status());
  held = holders();
  ASSERT_EQ(held->holders.size(), 1u);
  EXPECT_TRUE(held->holders[0].id.starts_with("prepared "));
  ASSERT_OK(writer->Query("ROLLBACK PREPARED 'left'", Soon()).status());
  EXPECT_TRUE(holders()->holders.empty());
}

TEST_F(Postgres, CatalogAnswersInOrder) {
  Run("CREATE TABLE a(id int); CREATE TABLE b(id int); CREATE PUBLICATION pub FOR TABLE a");
  auto setup = Prepare();
  ASSERT_OK(setup->EnsureSlot("order_" + database_, false, Soon()).status());
  auto catalog =
      LibpqSystemCatalog::Make(source_, {.publication = "pub", .slot = "order_" + database_});
  (*catalog)->Ask(TablesQuery{});
  (*catalog)->Ask(PublishQuery{.tables = {{"public", "b"}}});
  (*catalog)->Ask(PublishQuery{.tables = {{"public", "b"}}});
  (*catalog)->Ask(EmitMessageQuery{.transactional = true});
  std::vector<size_t> seen;
  for (const Instant deadline = Soon(); seen.size() < 4 && SystemClock().Now() < deadline;) {
    auto answer = (*catalog)->Poll(SystemClock().Now());
    ASSERT_OK(answer.status());
    if (*answer) {
      seen.push_back((*answer)->index());
      const auto* emit = std::get_if<EmitMessageAnswer>(&**answer);
      EXPECT_TRUE(emit == nullptr || emit->allowed);
      continue;
    }
    std::vector<pollfd> fds;
    (*catalog)->AddPollFds(fds);
    WaitFor(fds, deadline);
  }
  EXPECT_EQ(seen, (std::vector<size_t>{0, 4, 4, 5}));
  const auto positions = AskAndWait<PositionsAnswer>(**catalog, PositionsQuery{});
  ASSERT_OK(positions.status());
  EXPECT_TRUE(positions->insert.valid());
  EXPECT_GE(positions->retained_bytes, 0);
  const auto tables = AskAndWait<TablesAnswer>(**catalog, TablesQuery{});
  ASSERT_OK(tables.status());
  EXPECT_EQ(tables->tables.size(), 2u);
  ASSERT_OK(setup->DropSlot("order_" + database_, Soon()));
}

TEST_F(Postgres, SessionsPinTheTextOfValuesWhateverRoleAndDatabaseSay) {
  Run("ALTER DATABASE " + database_ + " SET datestyle = 'German'");
  Run("ALTER DATABASE " + database_ + " SET statement_timeout = '1ms'");
  auto session = PgConnection::Connect(source_, PgConnection::Mode::kNormal, Soon());
  ASSERT_OK(session.status());
  EXPECT_TRUE((*session)->Query("SHOW datestyle", Soon())->Text(0, 0).starts_with("ISO"));
  EXPECT_EQ((*session)->Query("SHOW statement_timeout", Soon())->String(0, 0), "0");
  EXPECT_EQ((*session)->Query("SHOW search_path", Soon())->String(0, 0), "pg_catalog");
}

TEST_F(Postgres, AWrongPasswordIsNotRepeated) {
  SourceOptions options;
  options.conninfo = server_->TcpConnInfo(database_);
  options.password = Secret(std::string("not-the-password"));
  const auto refused = PgConnection::Connect(options, PgConnection::Mode::kNormal, Soon());
  EXPECT_EQ(CodeOf(refused.status()), "ETL-S103");
  EXPECT_EQ(KindOf(refused.status()), ErrorKind::kAuth);
  EXPECT_EQ(ErrorLine(refused.status()).find("not-the-password"), std::string::npos);
  options.password = Secret(std::string(PgServer::kPassword));
  ASSERT_OK(PgConnection::Connect(options, PgConnection::Mode::kReplication, Soon()).status());
  options.conninfo = server_->TcpConnInfo("nowhere");
  EXPECT_EQ(CodeOf(PgConnection::Connect(options, PgConnection::Mode::kNormal, Soon()).status()),
            "ETL-S105");
}

TEST_F(Postgres, NobodyListeningIsTransient) {
  SourceOptions options;
  options.conninfo = "host=127.0.0.1 port=1 dbname=x user=y";
  const auto refused = PgConnection::Connect(options, PgConnection::Mode::kNormal, Soon());
  EXPECT_EQ(CodeOf(refused.status()), "ETL-S101");
  EXPECT_EQ(KindOf(refused.status()), ErrorKind::kTransient);
}

TEST_F(Postgres, ARoleWithoutReplicationIsTold) {
  Run("DO $$ BEGIN CREATE ROLE plain LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
  SourceOptions options;
  options.conninfo = server_->ConnInfo(database_) + " user=plain";
  const auto refused = SourceSetup::Connect(options, Soon());
  EXPECT_EQ(KindOf(refused.status()), ErrorKind::kAuth) << ErrorLine(refused.status());
  EXPECT_NE(PartsOf(refused.status()).remedy.find("REPLICATION"), std::string::npos);
}

TEST_F(Postgres, AQueryPastItsDeadlineIsCancelled) {
  const auto slow =
      sql_->Query("SELECT pg_sleep(60)", SystemClock().Now() + std::chrono::milliseconds(200));
  EXPECT_EQ(KindOf(slow.status()), ErrorKind::kTransient);
  EXPECT_EQ(Value("SELECT 1"), "1") << "the session is still of use";
}

TEST(PostgresWalLevel, TooLowIsAConfigurationError) {
  auto server = PgServer::Start({.settings = {"wal_level=replica"}});
  ASSERT_OK(server.status());
  SourceOptions source;
  source.conninfo = (*server)->ConnInfo();
  auto setup = SourceSetup::Connect(source, Soon());
  ASSERT_OK(setup.status());
  const auto slot = (*setup)->EnsureSlot("s", false, Soon());
  EXPECT_EQ(CodeOf(slot.status()), "ETL-S108");
  EXPECT_EQ(KindOf(slot.status()), ErrorKind::kConfig);
}

}  // namespace
}  // namespace etl
