#include <fstream>

#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/load.h"

namespace etl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::string_view kFull = R"(version: 1
server: {listen: off, token: {env: ETL_TOKEN}}
catalog: state/etl.db
limits: {memory: 256MiB, spill: 1GiB, spill_dir: /var/tmp/etl, shutdown: 4s}
sources:
  shop:
    type: postgres
    url: postgres://etl@db.internal:5432/shop
    password: {env: SHOP_PASSWORD}
destinations:
  lake: {type: duckdb, path: shop.duckdb, release: 2s}
pipelines:
  shop:
    source: shop
    destination: lake
    mode: append
    tables: ["public.*", "!public.audit_*"]
    publication: shop_pub
    slot: shop_slot
    snapshot: {enabled: false, parallelism: 3, chunk_rows: 5000}
    batch: {max_rows: 1000, max_bytes: 1MiB, max_delay: 250ms}
    retry: {max_delay: 30s, give_up: 1m}
    wal_budget: off
    columns:
      public.users: {exclude: [password_hash], hash: [email]}
    hash_key: {file: keys/hash}
    on_unrepresentable: null
    enabled: false
)";

constexpr std::string_view kSmall =
    R"(sources: {s: {type: postgres, url: "host=localhost dbname=x"}}
destinations: {d: {type: duckdb, path: x.duckdb}}
pipelines: {p: {source: s, destination: d}}
)";

LoadedConfig Load(std::string_view text, bool allow_plaintext = false) {
  LoadOptions options;
  options.allow_plaintext = allow_plaintext;
  options.env = [](const std::string& name) -> std::optional<std::string> {
    if (name == "ROWS") return "77";
    if (name == "EMPTY") return "";
    if (name == "DATABASE_URL") return "postgres://u:pw%20x@h/db";
    return std::nullopt;
  };
  return LoadConfigText(text, "conf/etl.yaml", options);
}

// `kSmall` with one more line in the pipeline, in block style.
std::string WithPipelineLine(std::string_view line) {
  return "sources: {s: {type: postgres, url: postgres://h/x}}\n"
         "destinations: {d: {type: duckdb, path: x.duckdb}}\n"
         "pipelines:\n"
         "  p:\n"
         "    source: s\n"
         "    destination: d\n"
         "    " +
         std::string(line) + "\n";
}

std::string OnlyCode(const LoadedConfig& loaded) {
  return loaded.problems.size() == 1
             ? loaded.problems[0].code
             : std::to_string(loaded.problems.size()) + " problems:\n" + loaded.Describe();
}

TEST(Config, EveryKeyOfTheContractReachesItsField) {
  const LoadedConfig loaded = Load(kFull);
  ASSERT_NE(loaded.config, nullptr) << loaded.Describe();
  const Config& config = *loaded.config;
  EXPECT_EQ(config.catalog, "conf/state/etl.db");
  EXPECT_EQ(config.limits.memory, 256 << 20);
  EXPECT_EQ(config.limits.spill, 1 << 30);
  EXPECT_EQ(config.limits.spill_dir, "/var/tmp/etl");
  EXPECT_EQ(config.limits.shutdown, std::chrono::seconds(4));
  EXPECT_EQ(config.sources.at("shop").url, "postgres://etl@db.internal:5432/shop");
  EXPECT_EQ(config.sources.at("shop").password, SecretRef::Env("SHOP_PASSWORD"));
  EXPECT_EQ(config.destinations.at("lake").path, "conf/shop.duckdb");
  EXPECT_EQ(config.destinations.at("lake").release, std::chrono::seconds(2));
  const PipelineConfig& pipeline = config.pipelines.at("shop");
  EXPECT_EQ(pipeline.mode, PipelineMode::kAppend);
  EXPECT_TRUE(pipeline.tables.Selects("public", "orders"));
  EXPECT_FALSE(pipeline.tables.Selects("public", "audit_2024"));
  EXPECT_EQ(pipeline.publication, "shop_pub");
  EXPECT_TRUE(pipeline.publication_named);
  EXPECT_EQ(pipeline.slot, "shop_slot");
  EXPECT_FALSE(pipeline.snapshot_enabled);
  EXPECT_EQ(pipeline.snapshot_parallelism, 3);
  EXPECT_EQ(pipeline.snapshot_chunk_rows, 5000);
  EXPECT_EQ(pipeline.batch_max_rows, 1000);
  EXPECT_EQ(pipeline.batch_max_bytes, 1 << 20);
  EXPECT_EQ(pipeline.batch_max_delay, std::chrono::milliseconds(250));
  EXPECT_EQ(pipeline.retry_max_delay, std::chrono::seconds(30));
  EXPECT_EQ(pipeline.retry_give_up, std::chrono::minutes(1));
  EXPECT_EQ(pipeline.columns.at("public.users").exclude, std::vector<std::string>{"password_hash"});
  EXPECT_EQ(pipeline.columns.at("public.users").hash, std::vector<std::string>{"email"});
  EXPECT_EQ(pipeline.hash_key, SecretRef::File("conf/keys/hash"));
  EXPECT_EQ(pipeline.on_unrepresentable, UnrepresentablePolicy::kNull);
  EXPECT_FALSE(pipeline.enabled);
}

TEST(Config, AbsentKeysTakeTheContractsDefaults) {
  const LoadedConfig loaded = Load(kSmall);
  ASSERT_NE(loaded.config, nullptr) << loaded.Describe();
  const PipelineConfig& pipeline = loaded.config->pipelines.at("p");
  EXPECT_EQ(pipeline.mode, PipelineMode::kMirror);
  EXPECT_TRUE(pipeline.tables.empty());
  EXPECT_EQ(pipeline.publication, "etl_p");
  EXPECT_FALSE(pipeline.publication_named);
  EXPECT_EQ(pipeline.slot, "etl_p");
  EXPECT_TRUE(pipeline.snapshot_enabled);
  EXPECT_EQ(pipeline.batch_max_bytes, 16 << 20);
  EXPECT_EQ(pipeline.retry_give_up, std::chrono::minutes(2));
  EXPECT_EQ(loaded.config->catalog, "conf/etl-stream.db");
  EXPECT_EQ(loaded.config->limits.memory, 512 << 20);
  EXPECT_EQ(loaded.config->destinations.at("d").release, std::chrono::seconds(1));
}

TEST(Config, JsonIsAccepted) {
  const LoadedConfig loaded = Load(
      R"({"sources":{"s":{"type":"postgres","url":"postgres://h/x"}},"destinations":{"d":{"type":"duckdb","path":"x"}},
          "pipelines":{"p":{"source":"s","destination":"d","batch":{"max_rows":10}}}})");
  ASSERT_NE(loaded.config, nullptr) << loaded.Describe();
  EXPECT_EQ(loaded.config->pipelines.at("p").batch_max_rows, 10);
}

TEST(Config, UnknownFieldIsShownWithPlaceCaretAndNearestName) {
  const LoadedConfig loaded = Load(WithPipelineLine("bacth: { max_rows: 50000 }"));
  EXPECT_EQ(loaded.Describe(),
            "error ETL-C011: unknown field \"bacth\"\n"
            "  --> conf/etl.yaml:7:5\n"
            "7 |     bacth: { max_rows: 50000 }\n"
            "  |     ^^^^^ did you mean \"batch\"?\n"
            "  allowed here: batch, columns, destination, enabled, hash_key, mode, "
            "on_unrepresentable, publication, retry, "
            "slot, snapshot, source, tables, wal_budget\n");
  EXPECT_EQ(KindOf(loaded.status()), ErrorKind::kConfig);
  EXPECT_EQ(PartsOf(loaded.status()).code, "ETL-C011");
}

TEST(Config, DuplicateKeyNamesTheFirstOne) {
  const LoadedConfig loaded = Load(WithPipelineLine("source: s"));
  EXPECT_EQ(OnlyCode(loaded), "ETL-C010");
  EXPECT_THAT(loaded.Describe(), HasSubstr("already given in line 5"));
}

TEST(Config, AllProblemsComeAtOnceInTheOrderOfTheFile) {
  const LoadedConfig loaded = Load(
      "version: 2\nlimits: {memory: 12, spil: 1GiB}\nsources: {S: {type: mysql}}\n"
      "pipelines: {p: {source: nope, destination: d, enabled: yes}}\n");
  std::vector<std::string> codes;
  for (const ConfigProblem& problem : loaded.problems) codes.push_back(problem.code);
  EXPECT_EQ(codes,
            (std::vector<std::string>{"ETL-C013", "ETL-C012", "ETL-C011", "ETL-C013", "ETL-C014",
                                      "ETL-C013", "ETL-C030", "ETL-C030", "ETL-C012"}))
      << loaded.Describe();
}

TEST(Config, AtMostTwentyProblemsArePrinted) {
  std::string text;
  for (int i = 0; i < 30; ++i) text += "unknown_" + std::to_string(i) + ": 1\n";
  const LoadedConfig loaded = Load(text);
  EXPECT_EQ(loaded.problems.size(), 30u);
  EXPECT_THAT(loaded.Describe(), HasSubstr("unknown_19"));
  EXPECT_THAT(loaded.Describe(), Not(HasSubstr("unknown_20")));
  EXPECT_THAT(loaded.Describe(), HasSubstr("and 10 more errors"));
}

TEST(Config, WhatYamlOffersBeyondPlainDataIsRefused) {
  const std::vector<std::string> texts = {
      "a: &x 1\n",
      "limits: &l {memory: 64MiB}\n",
      "version: !!int 1\n",
      "limits: !custom {memory: 64MiB}\n",
      "? [a, b]\n: 1\n",
      "limits:\n  <<: {memory: 64MiB}\n",
      "version: 1\n---\nversion: 1\n",
      "version: [1\n",
      ",",
      "version: 1\n]\n",
      "version: 1\n\tlimits: 2\n",
      "version: \xff\n",
      std::string("version: 1\0\n", 12),
  };
  for (const std::string& text : texts) {
    const LoadedConfig loaded = Load(text);
    EXPECT_EQ(loaded.config, nullptr) << text;
    bool refused = false;
    for (const ConfigProblem& problem : loaded.problems)
      refused = refused || problem.code == "ETL-C001";
    EXPECT_TRUE(refused) << text << loaded.Describe();
  }
}

TEST(Config, AliasesAreRefusedAtTheirPlace) {
  const LoadedConfig loaded = Load("limits: &l {memory: 64MiB}\nserver: *l\n");
  ASSERT_GE(loaded.problems.size(), 2u);
  EXPECT_EQ(loaded.problems[0].code, "ETL-C001");
  EXPECT_EQ(loaded.problems[1].code, "ETL-C001");
  EXPECT_EQ(loaded.problems[1].span.line, 2);
}

TEST(Config, DepthAndSizeAreBounded) {
  const LoadedConfig deep = Load("tables: " + std::string(40, '[') + std::string(40, ']'));
  EXPECT_THAT(deep.Describe(), HasSubstr("more than 32 levels"));
  const LoadedConfig very_deep = Load("tables: " + std::string(2000, '[') + std::string(2000, ']'));
  EXPECT_EQ(very_deep.config, nullptr);
  const LoadedConfig large = Load("# " + std::string(1 << 20, 'x'));
  EXPECT_THAT(large.Describe(), HasSubstr("larger than"));
}

TEST(Config, EmptyAndMisshapenFilesAreRefused) {
  EXPECT_EQ(OnlyCode(Load("")), "ETL-C012");
  EXPECT_EQ(OnlyCode(Load("# only a comment\n")), "ETL-C012");
  EXPECT_EQ(OnlyCode(Load("just text")), "ETL-C012");
  EXPECT_EQ(OnlyCode(Load("[1, 2]")), "ETL-C012");
  EXPECT_EQ(OnlyCode(Load("pipelines: [p]")), "ETL-C012");
  EXPECT_EQ(OnlyCode(Load("pipelines:\n")), "ETL-C012");
}

struct BadLine {
  std::string line;
  std::string code;
};
class PipelineLine : public testing::TestWithParam<BadLine> {};
TEST_P(PipelineLine, IsRefused) {
  const LoadedConfig loaded = Load(WithPipelineLine(GetParam().line));
  EXPECT_EQ(OnlyCode(loaded), GetParam().code) << GetParam().line;
  EXPECT_EQ(loaded.config, nullptr);
}
INSTANTIATE_TEST_SUITE_P(
    Config, PipelineLine,
    testing::Values(
        BadLine{"enabled: yes", "ETL-C012"}, BadLine{"enabled: True", "ETL-C012"},
        BadLine{"enabled: \"true\"", "ETL-C012"}, BadLine{"enabled:", "ETL-C012"},
        BadLine{"enabled: {a: b}", "ETL-C012"}, BadLine{"batch: {max_rows: 0}", "ETL-C013"},
        BadLine{"batch: {max_rows: -1}", "ETL-C013"}, BadLine{"batch: {max_rows: 1e3}", "ETL-C012"},
        BadLine{"batch: {max_rows: 99999999999999999999}", "ETL-C013"},
        BadLine{"batch: {max_rows: \"10\"}", "ETL-C012"},
        BadLine{"batch: {max_bytes: 16MB}", "ETL-C012"},
        BadLine{"batch: {max_bytes: 16}", "ETL-C012"}, BadLine{"batch: {max_delay: 5}", "ETL-C012"},
        BadLine{"batch: {max_delay: [5s]}", "ETL-C012"},
        BadLine{"batch: {max_delay: 2d}", "ETL-C013"}, BadLine{"batch: 5", "ETL-C012"},
        BadLine{"mode: mirrored", "ETL-C013"}, BadLine{"on_unrepresentable: ignore", "ETL-C013"},
        BadLine{"tables: public.orders", "ETL-C012"}, BadLine{"tables: []", "ETL-C013"},
        BadLine{"tables: [orders]", "ETL-C013"}, BadLine{"tables: [\"!public.x\"]", "ETL-C013"},
        BadLine{"tables: [\"a.b\", \"a.b\"]", "ETL-C013"}, BadLine{"tables: [[a.b]]", "ETL-C012"},
        BadLine{"tables: [\".\"]", "ETL-C013"}, BadLine{"tables: [\"a.\"]", "ETL-C013"},
        BadLine{"tables: [\"a.b.c\"]", "ETL-C013"}, BadLine{"tables: [\"*\", \"!.x\"]", "ETL-C013"},
        BadLine{"slot: Shop", "ETL-C013"}, BadLine{"slot: \"\"", "ETL-C013"},
        BadLine{"snapshot: {enabled: false}", "ETL-C013"},
        BadLine{"snapshot: {parallelism: 0}", "ETL-C013"}, BadLine{"wal_budget: 10GiB", "ETL-C040"},
        BadLine{"columns: {users: {exclude: [a]}}", "ETL-C013"},
        BadLine{"columns: {public.users: {excluded: [a]}}", "ETL-C011"},
        BadLine{"columns: {public.users: {hash: [a]}}", "ETL-C014"},
        BadLine{"hash_key: hunter2", "ETL-C021"}, BadLine{"hash_key: {}", "ETL-C012"},
        BadLine{"hash_key: {env: A, file: b}", "ETL-C012"},
        BadLine{"hash_key: {env: \"a b\"}", "ETL-C013"},
        BadLine{"publication: ${NOT_SET}", "ETL-C020"}, BadLine{"publication: a${B", "ETL-C020"}));

TEST(Config, BothExcludedAndHashedIsRefused) {
  EXPECT_EQ(OnlyCode(Load(WithPipelineLine(
                "hash_key: {env: K}\n    columns: {public.users: {exclude: [a], hash: [a]}}"))),
            "ETL-C013");
}

TEST(Config, WhatThisVersionDoesNotCarryOutIsRefusedWithThatReason) {
  const std::vector<std::string> texts = {
      "server: {listen: 127.0.0.1:9000}\n",
      "server: {token: {env: T}}\n",
      "alerts: {lag: 10m}\n",
      "catalog: postgres://db/catalog\n",
      "destinations: {hook: {type: http, url: https://x}}\n",
  };
  for (const std::string& text : texts) {
    const LoadedConfig loaded = Load(text);
    EXPECT_EQ(OnlyCode(loaded), "ETL-C040") << text;
    EXPECT_THAT(loaded.Describe(), HasSubstr("does not carry out"));
  }
}

std::string Snowflake(const std::string& more, const std::string& without = {}) {
  std::string text = "destinations:\n  sf:\n    type: snowflake\n";
  for (const char* line : {"account: MYORG-MYACCOUNT", "user: ETL_USER", "role: ETL_ROLE",
                           "warehouse: ETL_WH", "database: ANALYTICS", "schema: SHOP",
                           "landing_schema: ETL_SCHEMA", "private_key: {file: keys/etl.p8}"}) {
    if (without.empty() || !std::string_view(line).starts_with(without + ":"))
      text += fmt::format("    {}\n", line);
  }
  return text + (more.empty() ? "" : "    " + more + "\n");
}

TEST(Config, SnowflakeHasItsDefaults) {
  const LoadedConfig loaded = Load(Snowflake(""));
  ASSERT_NE(loaded.config, nullptr) << loaded.Describe();
  const SnowflakeConfig& sf = *loaded.config->destinations.at("sf").snowflake;
  EXPECT_EQ(sf.account, "MYORG-MYACCOUNT");
  EXPECT_EQ(sf.landing_schema, "ETL_SCHEMA");
  EXPECT_THAT(sf.private_key.Describe(), HasSubstr("keys/etl.p8}"));
  EXPECT_TRUE(sf.private_key_passphrase.empty());
  EXPECT_EQ(sf.merge_by, MergeBy::kEngine);
  EXPECT_EQ(sf.merge_every, std::chrono::seconds(60));
  EXPECT_EQ(sf.breaker, BreakerConfig());
  EXPECT_EQ(sf.identifiers, IdentifierCase::kUpper);
}

TEST(Config, SnowflakeTakesEveryKey) {
  const LoadedConfig loaded =
      Load(Snowflake("url: http://127.0.0.1:8085\n    private_key_passphrase: {env: P}\n"
                     "    merge: {by: task, every: 5m}\n    identifiers: preserve\n"
                     "    breaker: {failures: 3, within: 10s, open: 1s, successes: 1}"));
  ASSERT_NE(loaded.config, nullptr) << loaded.Describe();
  const SnowflakeConfig& sf = *loaded.config->destinations.at("sf").snowflake;
  EXPECT_EQ(sf.url, "http://127.0.0.1:8085");
  EXPECT_EQ(sf.private_key_passphrase.Describe(), "{env: P}");
  EXPECT_EQ(sf.merge_by, MergeBy::kTask);
  EXPECT_EQ(sf.merge_every, std::chrono::minutes(5));
  EXPECT_EQ(sf.breaker.failures, 3);
  EXPECT_EQ(sf.breaker.open, std::chrono::seconds(1));
  EXPECT_EQ(sf.identifiers, IdentifierCase::kPreserve);
}

TEST(Config, SnowflakeMistakesAreToldApart) {
  const std::string pipeline =
      "sources: {s: {type: postgres, url: postgres://h/d}}\n"
      "pipelines: {p: {source: s, destination: sf, tables: [\"*\"], snapshot: {parallelism: ";
  EXPECT_NE(Load(Snowflake("") + pipeline + "16}}}\n").config, nullptr);
  EXPECT_EQ(OnlyCode(Load(Snowflake("") + pipeline + "17}}}\n")), "ETL-C013");
  for (const char* key : {"account", "user", "role", "warehouse", "database", "schema",
                          "landing_schema", "private_key"}) {
    EXPECT_EQ(OnlyCode(Load(Snowflake("", key))), "ETL-C014") << key;
  }
  EXPECT_EQ(OnlyCode(Load(Snowflake("url: http://example.com"))), "ETL-C013");
  EXPECT_EQ(OnlyCode(Load(Snowflake("schema: \"a{b}\"", "schema"))), "ETL-C013");
  EXPECT_EQ(OnlyCode(Load(Snowflake("account: a/b", "account"))), "ETL-C013");
  EXPECT_EQ(OnlyCode(Load(Snowflake("merge: {by: nobody}"))), "ETL-C013");
  EXPECT_EQ(OnlyCode(Load(Snowflake("path: x"))), "ETL-C011");
  EXPECT_EQ(OnlyCode(Load(Snowflake("private_key: clear", "private_key"))), "ETL-C021");
}

TEST(Config, ListenOffIsAlwaysValid) { EXPECT_NE(Load("server: {listen: off}\n").config, nullptr); }

TEST(Config, DanglingReferenceNamesTheNearest) {
  const LoadedConfig loaded = Load(
      "sources: {shop: {type: postgres, url: postgres://h/x}}\ndestinations: {lake: {type: duckdb, "
      "path: x}}\n"
      "pipelines: {p: {source: shpo, destination: lake}}\n");
  EXPECT_EQ(OnlyCode(loaded), "ETL-C030");
  EXPECT_THAT(loaded.Describe(), HasSubstr("did you mean \"shop\"?"));
}

TEST(Config, TwoPipelinesMayNotShareASlotNorTwoDestinationsAFile) {
  const LoadedConfig loaded = Load(
      "sources: {s: {type: postgres, url: postgres://h/x}}\n"
      "destinations: {d: {type: duckdb, path: x}, e: {type: duckdb, path: ./x}}\n"
      "pipelines:\n  p: {source: s, destination: d}\n  q: {source: s, destination: d, slot: "
      "etl_p}\n");
  ASSERT_EQ(loaded.problems.size(), 2u) << loaded.Describe();
  EXPECT_THAT(loaded.Describe(), HasSubstr("same file"));
  EXPECT_THAT(loaded.Describe(), HasSubstr("same slot"));
}

TEST(Config, NamesFollowThePattern) {
  for (const char* bad :
       {"Shop", "1shop", "_x", "a-b", "ä", "a234567890123456789012345678901234567890123456789"}) {
    const LoadedConfig loaded =
        Load(std::string("destinations: {\"") + bad + "\": {type: duckdb, path: x}}\n");
    EXPECT_EQ(OnlyCode(loaded), "ETL-C013") << bad;
  }
  EXPECT_NE(Load("destinations: {a23456789012345678901234567890123456789012345678: {type: duckdb, "
                 "path: x}}\n")
                .config,
            nullptr);
}

TEST(Config, VariablesAreReplacedPerValueAndNeverInKeys) {
  const LoadedConfig number = Load(WithPipelineLine("batch:\n      max_rows: ${ROWS}"));
  ASSERT_NE(number.config, nullptr) << number.Describe();
  EXPECT_EQ(number.config->pipelines.at("p").batch_max_rows, 77);
  const LoadedConfig text =
      Load(WithPipelineLine("publication: a$$b_${ROWS}_${NO:-d}_${EMPTY:-e}$"));
  ASSERT_NE(text.config, nullptr) << text.Describe();
  EXPECT_EQ(text.config->pipelines.at("p").publication, "a$b_77_d_e$");
  EXPECT_EQ(OnlyCode(Load(WithPipelineLine("${ROWS}: 1"))), "ETL-C011");
}

TEST(Config, PasswordInsideAUrlIsRefusedAndNeverShown) {
  for (const char* url :
       {"postgres://u:hunter2@h/x", "postgresql://u@h/x?sslmode=require&password=hunter2",
        "host=h password=hunter2 dbname=x", "\"host=h password = 'hunter2'\"",
        "postgres://u:${X:-hunter2}@h/x"}) {
    const LoadedConfig loaded =
        Load(std::string("sources:\n  s:\n    type: postgres\n    url: ") + url + "\n");
    EXPECT_EQ(OnlyCode(loaded), "ETL-C021") << url;
    EXPECT_THAT(loaded.Describe(), Not(HasSubstr("hunter2"))) << loaded.Describe();
  }
}

TEST(Config, SecretsNeverShowInExcerptsOfOtherErrors) {
  for (const char* line :
       {"pasword: hunter2", "hash_key: hunter2", "hashkey: 'hunter2'", "\"passwd\": \"hunter2\"",
        "url: postgres://u:hunter2@h/x", "dsn: \"host=h password=hunter2\"", "api_token: hunter2",
        "x: {password: hunter2}"}) {
    const LoadedConfig loaded = Load(WithPipelineLine(line));
    EXPECT_EQ(loaded.config, nullptr);
    EXPECT_THAT(loaded.Describe(), Not(HasSubstr("hunter2"))) << loaded.Describe();
  }
}

TEST(Config, PlaintextSecretsAreAllowedOnlyOnRequestAndWarnedAbout) {
  const std::string text =
      "sources:\n  s:\n    type: postgres\n    url: postgres://u:hunter2@h/x\n";
  const LoadedConfig loaded = Load(text, /*allow_plaintext=*/true);
  ASSERT_NE(loaded.config, nullptr) << loaded.Describe();
  EXPECT_EQ(loaded.warnings.size(), 1u);
  EXPECT_EQ(loaded.config->sources.at("s").url, "postgres://u@h/x");
  EXPECT_EQ(loaded.config->sources.at("s").password.Resolve().ValueOrDie().Reveal(), "hunter2");
}

TEST(Config, UrlThatComesWholeFromTheEnvironmentGivesUpItsPassword) {
  const LoadedConfig loaded = Load("sources: {s: {type: postgres, url: \"${DATABASE_URL}\"}}\n");
  ASSERT_NE(loaded.config, nullptr) << loaded.Describe();
  EXPECT_EQ(loaded.config->sources.at("s").url, "postgres://u@h/db");
  EXPECT_EQ(loaded.config->sources.at("s").password.Resolve().ValueOrDie().Reveal(), "pw x");
}

TEST(Config, UrlMustBeAUrlOrKeywords) {
  for (const char* url : {"mysql://h/x", "localhost", "host='x", "=x"}) {
    EXPECT_EQ(OnlyCode(Load(std::string("sources: {s: {type: postgres, url: \"") + url + "\"}}\n")),
              "ETL-C012")
        << url;
  }
}

TEST(Config, MissingFileSaysHowToMakeOne) {
  const LoadedConfig loaded = LoadConfigFile("/nonexistent/etl-stream.yaml");
  EXPECT_EQ(OnlyCode(loaded), "ETL-C002");
  EXPECT_THAT(loaded.Describe(), HasSubstr("etl-stream init"));
  EXPECT_EQ(KindOf(loaded.status()), ErrorKind::kConfig);
}

class SecretFile : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "secret_file_" + std::to_string(getpid());
    mkdir(folder_.c_str(), 0700);
  }
  std::string Write(const std::string& name, const std::string& text, mode_t mode) {
    const std::string path = folder_ + "/" + name;
    unlink(path.c_str());
    std::ofstream(path) << text;
    chmod(path.c_str(), mode);
    return path;
  }
  static std::string CodeOf(const std::string& path) {
    return PartsOf(SecretRef::File(path).Resolve().status()).code;
  }
  std::string folder_;
};

TEST_F(SecretFile, IsReadWithoutItsLastNewline) {
  const std::string path = Write("good", "pass word\n", 0600);
  EXPECT_EQ(SecretRef::File(path).Resolve().ValueOrDie().Reveal(), "pass word");
}

TEST_F(SecretFile, MustBeOursAloneAndARealFile) {
  EXPECT_EQ(CodeOf(Write("open", "x", 0644)), "ETL-C022");
  EXPECT_EQ(CodeOf(Write("empty", "", 0600)), "ETL-C022");
  EXPECT_EQ(CodeOf(folder_ + "/absent"), "ETL-C022");
  EXPECT_EQ(CodeOf(folder_), "ETL-C022");
  const std::string link = folder_ + "/link";
  unlink(link.c_str());
  ASSERT_EQ(symlink(Write("target", "x", 0600).c_str(), link.c_str()), 0);
  EXPECT_EQ(CodeOf(link), "ETL-C022");
  if (geteuid() != 0) return;
  const std::string owned = Write("owned", "x", 0600);
  EXPECT_TRUE(SecretRef::File(owned).Resolve().ok());
  ASSERT_EQ(chown(owned.c_str(), 65534, 65534), 0);
  EXPECT_EQ(CodeOf(owned), "ETL-C022");
}

TEST(SecretRef, UnsetVariableIsAConfigurationErrorThatNamesIt) {
  const auto none = [](const std::string&) { return std::optional<std::string>(); };
  const Status status = SecretRef::Env("NO_SUCH").Resolve(none).status();
  EXPECT_EQ(KindOf(status), ErrorKind::kConfig);
  EXPECT_EQ(PartsOf(status).code, "ETL-C020");
  EXPECT_THAT(PartsOf(status).what, HasSubstr("NO_SUCH"));
}

}  // namespace
}  // namespace etl
