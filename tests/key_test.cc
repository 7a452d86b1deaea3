// The commands `key generate` and `key rotate`, through the program itself, against a small
// Snowflake on loopback that checks who signs.

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "net/base64.h"
#include "net/key_testing.h"
#include "net/tls_server_testing.h"

namespace etl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kPassphrase = "canary-passphrase-7f3";

struct Ran {
  int code = 0;
  std::string out;
  std::string err;
};

class KeyTest : public ::testing::Test {
 protected:
  KeyTest() : server_({}, [this](const ServedRequest& request) { return Answer(request); }) {
    WriteText(folder_ / "ca.pem", server_.ca_pem());
    WriteText(folder_ / "etl-stream.yaml",
              fmt::format("destinations:\n"
                          "  sf:\n"
                          "    type: snowflake\n"
                          "    account: MYORG-ACCT\n"
                          "    url: {}\n"
                          "    user: ETL_USER\n"
                          "    role: ETL_ROLE\n"
                          "    warehouse: WH\n"
                          "    database: D\n"
                          "    schema: S\n"
                          "    landing_schema: L\n"
                          "    private_key: {{file: etl.p8}}\n"
                          "    private_key_passphrase: {{env: KEY_PASSPHRASE}}\n",
                          server_.url()));
  }

  Ran Run(const std::string& arguments) {
    const std::string command =
        fmt::format("cd {} && KEY_PASSPHRASE={} SSL_CERT_FILE={} {} {} >out 2>err </dev/null",
                    folder_ / "", kPassphrase, folder_ / "ca.pem", ETL_STREAM_BINARY, arguments);
    const int status = std::system(command.c_str());
    return {.code = WEXITSTATUS(status),
            .out = ReadText(folder_ / "out"),
            .err = ReadText(folder_ / "err")};
  }

  // SQL of one user with two slots for keys; whoever signs with a key of neither is refused.
  std::string Answer(const ServedRequest& request) {
    const size_t bearer = request.head.find("Authorization: Bearer ") + 22;
    const std::string token = request.head.substr(bearer, request.head.find('\r', bearer) - bearer);
    tokens_.push_back(token);
    const size_t dot = token.find('.');
    const auto claims = nlohmann::json::parse(
        DecodeBase64Url(token.substr(dot + 1, token.rfind('.') - dot - 1)).value_or("{}"));
    const std::string issuer = claims.value("iss", "");
    const std::string prefix = "MYORG-ACCT.ETL_USER.";
    const std::string signer = issuer.substr(std::min(prefix.size(), issuer.size()));
    if (!issuer.starts_with(prefix) ||
        (signer != slots_["RSA_PUBLIC_KEY"] && signer != slots_["RSA_PUBLIC_KEY_2"])) {
      return TestServer::Answer(401, R"({"code":"390144","message":"JWT token is invalid."})");
    }
    const auto body = nlohmann::json::parse(request.body);
    const std::string sql = body["statement"];
    roles_.push_back(body["role"]);
    statements_.push_back(sql);
    nlohmann::json rows = nlohmann::json::array();
    if (sql.starts_with("DESC USER")) {
      for (const char* slot : {"RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2"})
        rows.push_back({fmt::format("{}_FP", slot), slots_[slot].empty() ? "null" : slots_[slot]});
    } else if (sql.find(" UNSET ") != std::string::npos) {
      slots_[sql.substr(sql.rfind(' ') + 1)].clear();
    } else if (const size_t set = sql.find(" SET "); set != std::string::npos) {
      const size_t equals = sql.find('=', set);
      const std::string key = sql.substr(equals + 2, sql.size() - equals - 3);
      slots_[sql.substr(set + 5, equals - set - 5)] = FingerprintOf(key);
    }
    return TestServer::Answer(
        200, nlohmann::json{{"code", "090001"}, {"statementHandle", "h"}, {"data", rows}}.dump());
  }

  // By the openssl program, not by the engine's own code.
  std::string FingerprintOf(const std::string& public_key) {
    WriteText(folder_ / "pub", public_key);
    FILE* pipe = popen(
        fmt::format("base64 -d {} | openssl dgst -sha256 -binary | base64 -w0", folder_ / "pub")
            .c_str(),
        "r");
    char text[128] = {};
    const size_t size = fread(text, 1, sizeof text, pipe);
    pclose(pipe);
    return "SHA256:" + std::string(text, size);
  }

  // The key that ALTER USER was printed for.
  static std::string PrintedKey(const std::string& out) {
    const size_t from = out.find('\'') + 1;
    return out.substr(from, out.find('\'', from) - from);
  }

  void ExpectNoSecretIn(const Ran& ran) {
    std::vector<std::string> secrets = tokens_;
    secrets.emplace_back(kPassphrase);
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / "")) {
      if (entry.path().string().find(".p8") == std::string::npos) continue;
      const std::string pem = ReadText(entry.path().string());
      secrets.push_back(pem.substr(pem.find('\n') + 1, 64));
    }
    for (const std::string& secret : secrets) {
      EXPECT_THAT(ran.out, Not(HasSubstr(secret)));
      EXPECT_THAT(ran.err, Not(HasSubstr(secret)));
    }
  }

  const ScratchFolder folder_;
  std::map<std::string, std::string> slots_;
  std::vector<std::string> statements_;
  std::vector<std::string> roles_;
  std::vector<std::string> tokens_;
  TestServer server_;
};

TEST_F(KeyTest, GenerateWritesAnEncryptedKeyAndPrintsTheSql) {
  const Ran ran = Run("key generate");
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, ::testing::MatchesRegex(
                           "ALTER USER \"ETL_USER\" SET RSA_PUBLIC_KEY='MII[A-Za-z0-9+/=]+';\n"));
  EXPECT_THAT(ran.err, HasSubstr(FingerprintOf(PrintedKey(ran.out))));
  EXPECT_THAT(ReadText(folder_ / "etl.p8"), HasSubstr("BEGIN ENCRYPTED PRIVATE KEY"));
  struct stat facts = {};
  ASSERT_EQ(stat((folder_ / "etl.p8").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777U, 0600U);
  ExpectNoSecretIn(ran);
  const Ran again = Run("key generate");
  EXPECT_EQ(again.code, 2);
  EXPECT_THAT(again.err, HasSubstr("ETL-U004"));
}

TEST_F(KeyTest, GenerateNeedsNoConfiguration) {
  std::filesystem::remove(folder_ / "etl-stream.yaml");
  const Ran ran = Run("key generate --out own.p8 --user me --bits 4096");
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("ALTER USER \"ME\" SET"));
  EXPECT_THAT(ran.err, HasSubstr("4096 bits, not encrypted"));
  EXPECT_THAT(ReadText(folder_ / "own.p8"), HasSubstr("BEGIN PRIVATE KEY"));
}

TEST_F(KeyTest, RotateMovesToTheOtherSlotAndBack) {
  slots_["RSA_PUBLIC_KEY"] = FingerprintOf(PrintedKey(Run("key generate").out));
  const std::string first = slots_["RSA_PUBLIC_KEY"];
  Ran ran = Run("key rotate --yes --role SECURITYADMIN");
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(slots_["RSA_PUBLIC_KEY"], "");
  EXPECT_THAT(slots_["RSA_PUBLIC_KEY_2"], HasSubstr("SHA256:"));
  EXPECT_NE(slots_["RSA_PUBLIC_KEY_2"], first);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "etl.p8.new"));
  EXPECT_EQ(roles_.front(), "SECURITYADMIN");
  ExpectNoSecretIn(ran);
  ran = Run("key rotate --yes");
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(slots_["RSA_PUBLIC_KEY_2"], "");
  EXPECT_THAT(slots_["RSA_PUBLIC_KEY"], HasSubstr("SHA256:"));
  EXPECT_EQ(roles_.back(), "ETL_ROLE");
}

TEST_F(KeyTest, RotateAsksFirstAndLeavesAnUnknownKeyAlone) {
  ASSERT_EQ(Run("key generate").code, 0);
  EXPECT_EQ(Run("key rotate").code, 2);
  EXPECT_TRUE(tokens_.empty());
  const std::string before = ReadText(folder_ / "etl.p8");
  const Ran ran = Run("key rotate --yes");
  EXPECT_EQ(ran.code, 77) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("ETL-D103"));
  EXPECT_EQ(ReadText(folder_ / "etl.p8"), before);
  ExpectNoSecretIn(ran);
}

TEST_F(KeyTest, AnUntrustedServerAndAnOpenFileAreRefused) {
  ASSERT_EQ(Run("key generate").code, 0);
  WriteText(folder_ / "ca.pem", "");
  Ran ran = Run("key rotate --yes");
  EXPECT_EQ(ran.code, 78) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("ETL-D102"));
  EXPECT_TRUE(tokens_.empty());
  chmod((folder_ / "etl.p8").c_str(), 0644);
  ran = Run("key rotate --yes");
  EXPECT_EQ(ran.code, 78);
  EXPECT_THAT(ran.err, HasSubstr("ETL-C022"));
  ExpectNoSecretIn(ran);
}

}  // namespace
}  // namespace etl
