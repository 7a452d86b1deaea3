// Secrets stay where they were put: they are looked for in everything the program writes, and in
// its memory.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include <gmock/gmock.h>

#include "net/base64.h"
#include "net/key_testing.h"
#include "support/snowflake_fixture.h"

namespace etl {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// What to look for, by what it is.
using Needles = std::map<std::string, std::string>;

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string Decoded(std::string line) {
  std::replace(line.begin(), line.end(), '+', '-');
  std::replace(line.begin(), line.end(), '/', '_');
  return DecodeBase64Url(line).value();
}

void LookFor(const Needles& needles, std::string_view text, const std::string& where,
             std::vector<std::string>* found) {
  for (const auto& [name, needle] : needles) {
    if (text.find(needle) != std::string_view::npos) found->push_back(name + " in " + where);
  }
}

/// AddressSanitizer keeps what was freed, with what OpenSSL had read there, from being used again.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kKeepsFreed = true;
#else
constexpr bool kKeepsFreed = false;
#endif

/// In all memory of a process that can be written.
std::vector<std::string> FoundInMemory(const Needles& needles, pid_t pid) {
  const std::string proc = "/proc/" + std::to_string(pid);
  std::vector<std::string> found;
  const int memory = open((proc + "/mem").c_str(), O_RDONLY | O_CLOEXEC);
  if (memory < 0) return {"the memory cannot be read"};
  std::ifstream maps(proc + "/maps");
  constexpr size_t kPiece = size_t{1} << 22;
  constexpr size_t kOverlap = 256;
  std::string piece(kPiece, '\0');
  for (std::string line; std::getline(maps, line);) {
    unsigned long from = 0;
    unsigned long to = 0;
    char rights[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &from, &to, rights) != 3 || rights[1] != 'w')
      continue;
    // AddressSanitizer's notes about all addresses: terabytes, and no bytes of the program.
    if (to - from > 1UL << 40) continue;
    for (unsigned long at = from; at < to; at += kPiece - kOverlap) {
      const ssize_t got =
          pread(memory, piece.data(), std::min<size_t>(kPiece, to - at), static_cast<off_t>(at));
      if (got <= 0) continue;
      LookFor(needles, {piece.data(), static_cast<size_t>(got)}, line, &found);
    }
  }
  close(memory);
  return found;
}

class Canary : public SnowflakeE2eTest {
 protected:
  static constexpr const char* kPassphrase =
      "Canary-Wren-7f31c0 sings in the hedge behind the long barn until Canary-Owl-e81d5b";
  static constexpr const char* kPassword = "Canary-Finch-92be4d";

  void SetUp() override {
    SnowflakeE2eTest::SetUp();
    ASSERT_TRUE(
        Sql("CREATE TABLE public.a (id int PRIMARY KEY, v text); INSERT INTO public.a "
            "SELECT i, 'v' FROM generate_series(1, 100) i"));
    ASSERT_TRUE(Sql("DROP ROLE IF EXISTS canary"));
    ASSERT_TRUE(
        Sql(std::string("CREATE ROLE canary SUPERUSER LOGIN PASSWORD '") + kPassword + "'"));
    SecretFile("passphrase", kPassphrase);
    SecretFile("password", kPassword);
    config_.url = "host=127.0.0.1 port=" + std::to_string(server_->port()) +
                  " user=canary dbname=" + database_;
    config_.source = ", password: {file: password}";
    fs::remove(space_.path("etl.p8"));
  }
  void SecretFile(const std::string& name, const std::string& text) {
    fs::remove(space_.path(name));
    space_.WriteFile(name, text + "\n");
    fs::permissions(space_.path(name), fs::perms::owner_read | fs::perms::owner_write);
  }
  void Configure(const std::string& key) {
    std::string line = Destination(emulator_->tls_url());
    const std::string before = "private_key: {file: etl.p8}";
    line.replace(line.find(before), before.size(), key);
    config_.destinations = line;
    space_.Write(config_);
  }
  std::string PlainKey() {
    EXPECT_TRUE(TestKey()->WriteFile(space_.path("plain.p8"), Secret()).ok());
    std::string text = ReadText(space_.path("plain.p8"));
    fs::remove(space_.path("plain.p8"));
    return text;
  }
  /// Of a key: some lines of its text, and some of the bytes the text stands for.
  static Needles OfKey(const std::string& pem) {
    const std::vector<std::string> lines = Lines(pem);
    Needles needles;
    // The first lines of a private key hold its public half too.
    for (size_t i = 8; i + 2 < lines.size(); i += 4) {
      needles["line " + std::to_string(i) + " of the key"] = lines[i];
      needles["line " + std::to_string(i) + " of the key, decoded"] =
          Decoded(lines[i]).substr(0, 32);
    }
    EXPECT_GE(needles.size(), 6u);
    return needles;
  }
  static Needles Everything(const std::string& pem) {
    Needles needles = OfKey(pem);
    needles["passphrase"] = kPassphrase;
    needles["password"] = kPassword;
    // As every signed token begins: {" in base64.
    needles["token"] = "eyJ";
    needles["header"] = "Bearer ";
    return needles;
  }
  /// In all that was written, but the files made to hold it. The output of the program is there
  /// too.
  std::vector<std::string> FoundInFiles(const Needles& needles) const {
    std::vector<std::string> found;
    int files = 0;
    for (const auto& entry : fs::recursive_directory_iterator(space_.path())) {
      const std::string name = entry.path().filename().string();
      if (!entry.is_regular_file() || name == "etl.p8" || name == "passphrase" ||
          name == "password")
        continue;
      ++files;
      LookFor(needles, ReadText(entry.path().string()), name, &found);
    }
    EXPECT_GE(files, 3);
    return found;
  }
  /// A service ends by a fault when it has its key, with all leave to dump its memory that can be
  /// given. The core file, if there is one.
  std::string Fault(const Environment& environment, bool* dumped) {
    Running run = space_.Start({"run"}, environment);
    EXPECT_TRUE(Eventually([&] {
      return run.err_so_far().find("the streaming host was found") != std::string::npos;
    })) << run.err_so_far();
    const rlimit all = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    (void)prlimit(run.pid(), RLIMIT_CORE, &all, nullptr);  // Not everybody may.
    run.Signal(SIGABRT);
    const Ended ended = run.Wait(seconds(60));
    EXPECT_EQ(ended.signal, SIGABRT) << ended.Describe();
    *dumped = ended.dumped;
    for (const auto& entry : fs::directory_iterator(space_.path())) {
      if (entry.path().filename().string().starts_with("core")) return entry.path().string();
    }
    return "";
  }
  /// The life of a service, seen from outside.
  void Live(const Needles& needles, const Needles& of_memory, const Environment& environment) {
    // Lets the user who runs this read the memory.
    Environment variables = environment;
    variables["ETL_STREAM_DUMPABLE"] = "1";
    Running run = space_.Start({"run", "--log-level", "debug", "--log-format", "json"}, variables);
    ASSERT_TRUE(Eventually([&] { return Phase() == "running"; })) << run.err_so_far();
    ASSERT_TRUE(Eventually([&] { return RowsOf(Target(), "A").size() == 100; }));
    const std::string proc = "/proc/" + std::to_string(run.pid());
    std::vector<std::string> found;
    LookFor(needles, ReadText(proc + "/cmdline"), "command line", &found);
    EXPECT_THAT(ReadText(proc + "/cmdline"), HasSubstr("debug"));
    EXPECT_THAT(found, IsEmpty());
    EXPECT_THAT(FoundInMemory({{"slot", slot_}}, run.pid()), testing::Not(IsEmpty()));
    if (!kKeepsFreed) {
      EXPECT_THAT(FoundInMemory(of_memory, run.pid()), IsEmpty());
    }
    for (const char* command : {"status", "check"}) {
      (void)space_.Run({command, "--json"}, environment);
      (void)space_.Run({command}, environment);
    }
    run.Signal(SIGTERM);
    const Ended ended = run.Wait(seconds(15));
    EXPECT_EQ(ended.exit_code, 0) << ended.Describe();
    EXPECT_THAT(FoundInFiles(needles), IsEmpty());
  }
};

TEST_F(Canary, AnEncryptedKeyFromAFile) {
  const std::string pem = PlainKey();
  ASSERT_TRUE(TestKey()->WriteFile(space_.path("etl.p8"), Secret(std::string(kPassphrase))).ok());
  Configure("private_key: {file: etl.p8}, private_key_passphrase: {file: passphrase}");
  Needles memory = OfKey(pem);
  // A freed text loses its beginning to the allocator.
  memory["passphrase"] = std::string(kPassphrase).substr(40);
  Live(Everything(pem), memory, {});
}

TEST_F(Canary, AKeyInClearFromAFile) {
  const std::string pem = PlainKey();
  ASSERT_TRUE(TestKey()->WriteFile(space_.path("etl.p8"), Secret()).ok());
  Configure("private_key: {file: etl.p8}");
  Live(Everything(pem), OfKey(pem), {});

  bool dumped = true;
  EXPECT_EQ(Fault({}, &dumped), "");
  EXPECT_FALSE(dumped);
  if (kKeepsFreed) return;
  // A developer's. Where the system writes cores to another place, or none, there is none to see.
  const std::string core = Fault({{"ETL_STREAM_DUMPABLE", "1"}}, &dumped);
  if (!dumped || core.empty()) return;
  std::vector<std::string> found;
  LookFor({{"slot", slot_}}, ReadText(core), "a core dump", &found);
  EXPECT_THAT(found, testing::Not(IsEmpty()));
  found.clear();
  LookFor(OfKey(pem), ReadText(core), "a core dump", &found);
  EXPECT_THAT(found, IsEmpty());
}

// The environment of a process is in its memory; nothing else is.
TEST_F(Canary, FromTheEnvironment) {
  const std::string pem = PlainKey();
  Configure("private_key: {env: CANARY_KEY}");
  config_.source = ", password: {env: CANARY_PASSWORD}";
  space_.Write(config_);
  Needles memory;
  for (const auto& [name, needle] : OfKey(pem))
    if (name.ends_with("decoded")) memory[name] = needle;
  Live(Everything(pem), memory, {{"CANARY_KEY", pem}, {"CANARY_PASSWORD", kPassword}});
}

TEST_F(Canary, MistakesAreToldWithoutTheirSecrets) {
  const std::string pem = PlainKey();
  const std::string wrong = "Canary-Heron-55aa10";
  Needles needles = Everything(pem);
  needles["wrong one"] = wrong;
  const auto expect = [&](int code) {
    for (const char* level : {"debug", "error"}) {
      const Ended sync = space_.Run({"sync", "--log-level", level});
      EXPECT_EQ(sync.exit_code, code) << sync.Describe();
      EXPECT_FALSE(sync.err.empty());
    }
    (void)space_.Run({"check", "--json"});
    EXPECT_THAT(FoundInFiles(needles), IsEmpty());
  };
  {
    SCOPED_TRACE("a wrong passphrase");
    ASSERT_TRUE(TestKey()->WriteFile(space_.path("etl.p8"), Secret(std::string(kPassphrase))).ok());
    SecretFile("passphrase", wrong);
    Configure("private_key: {file: etl.p8}, private_key_passphrase: {file: passphrase}");
    expect(78);
  }
  {
    SCOPED_TRACE("a key that is cut off");
    SecretFile("etl.p8", pem.substr(0, pem.size() / 2));
    Configure("private_key: {file: etl.p8}");
    expect(78);
  }
  {
    SCOPED_TRACE("a key that the user does not have");
    fs::remove(space_.path("etl.p8"));
    ASSERT_TRUE(TestKey(1)->WriteFile(space_.path("etl.p8"), Secret()).ok());
    for (const auto& [name, needle] : OfKey(ReadText(space_.path("etl.p8"))))
      needles["other " + name] = needle;
    expect(77);
  }
  {
    SCOPED_TRACE("a wrong password");
    SecretFile("password", wrong);
    expect(77);
  }
  {
    SCOPED_TRACE("a password in clear");
    config_.source = ", password: " + wrong;
    space_.Write(config_);
    needles.erase("wrong one");
    const Ended sync = space_.Run({"sync"});
    EXPECT_EQ(sync.exit_code, 78) << sync.Describe();
    EXPECT_EQ((sync.out + sync.err).find(wrong), std::string::npos) << sync.Describe();
  }
}

}  // namespace
}  // namespace etl
