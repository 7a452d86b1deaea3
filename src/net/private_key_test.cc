#include "net/private_key.h"

#include <cstdlib>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/base64.h"
#include "net/key_testing.h"
#include "net/process_secrets.h"

namespace etl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const Secret kNoPassphrase;

Secret Passphrase() { return Secret(std::string("canary-passphrase-91x")); }

// Runs the openssl program, for its own opinion.
std::string OpenSsl(const std::string& arguments) {
  FILE* pipe = popen(("openssl " + arguments + " 2>/dev/null").c_str(), "r");
  std::string out;
  char buffer[4096];
  for (size_t got; (got = fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.append(buffer, got);
  pclose(pipe);
  return out;
}

TEST(PrivateKey, WrittenFilesAreReadBackPlainAndEncrypted) {
  const ScratchFolder folder;
  ASSERT_TRUE(TestKey()->WriteFile(folder / "plain.p8", kNoPassphrase).ok());
  ASSERT_TRUE(TestKey()->WriteFile(folder / "sealed.p8", Passphrase()).ok());
  EXPECT_THAT(ReadText(folder / "plain.p8"), StartsWith("-----BEGIN PRIVATE KEY-----\n"));
  EXPECT_THAT(ReadText(folder / "sealed.p8"),
              StartsWith("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
  struct stat facts = {};
  ASSERT_EQ(stat((folder / "plain.p8").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777U, 0600U);
  for (const char* name : {"plain.p8", "sealed.p8"}) {
    const auto key = PrivateKey::ReadFile(folder / name, Passphrase());
    ASSERT_TRUE(key.ok()) << ErrorLine(key.status());
    EXPECT_EQ((*key)->fingerprint(), TestKey()->fingerprint());
    EXPECT_EQ((*key)->bits(), 2048);
  }
}

TEST(PrivateKey, OpenSslAgreesAboutEveryForm) {
  const ScratchFolder folder;
  const std::string in = folder / "a.p8";
  ASSERT_TRUE(TestKey()->WriteFile(in, kNoPassphrase).ok());
  EXPECT_EQ(TestKey()->public_key(), Base64(OpenSsl("pkey -in " + in + " -pubout -outform DER")));
  EXPECT_EQ(TestKey()->fingerprint(),
            "SHA256:" + Base64(OpenSsl("pkey -in " + in +
                                       " -pubout -outform DER | openssl dgst -sha256 -binary")));
  OpenSsl("rsa -traditional -in " + in + " -out " + (folder / "pkcs1.pem"));
  OpenSsl("rsa -traditional -aes256 -passout pass:canary-passphrase-91x -in " + in + " -out " +
          (folder / "pkcs1-sealed.pem"));
  OpenSsl("pkcs8 -topk8 -v2 aes-256-cbc -passout pass:canary-passphrase-91x -in " + in + " -out " +
          (folder / "sealed.p8"));
  OpenSsl("pkcs8 -topk8 -scrypt -passout pass:canary-passphrase-91x -in " + in + " -out " +
          (folder / "scrypt.p8"));
  for (const char* name : {"pkcs1.pem", "pkcs1-sealed.pem", "sealed.p8", "scrypt.p8"}) {
    chmod((folder / name).c_str(), 0600);
    const auto key = PrivateKey::ReadFile(folder / name, Passphrase());
    ASSERT_TRUE(key.ok()) << name << ErrorLine(key.status());
    EXPECT_EQ((*key)->fingerprint(), TestKey()->fingerprint());
  }
}

TEST(PrivateKey, SignaturesVerifyWithThePublicHalf) {
  const ScratchFolder folder;
  ASSERT_TRUE(TestKey()->WriteFile(folder / "a.p8", kNoPassphrase).ok());
  WriteText(folder / "text", "to be signed");
  WriteText(folder / "sig", TestKey()->Sign("to be signed").ValueOrDie());
  OpenSsl("pkey -in " + (folder / "a.p8") + " -pubout -out " + (folder / "pub"));
  EXPECT_THAT(OpenSsl("dgst -sha256 -verify " + (folder / "pub") + " -signature " +
                      (folder / "sig") + " " + (folder / "text")),
              HasSubstr("Verified OK"));
}

TEST(PrivateKey, AnExistingFileIsLeftAlone) {
  const ScratchFolder folder;
  WriteText(folder / "a.p8", "mine");
  const Status status = TestKey()->WriteFile(folder / "a.p8", kNoPassphrase);
  EXPECT_EQ(PartsOf(status).code, "ETL-U004");
  EXPECT_EQ(ReadText(folder / "a.p8"), "mine");
}

TEST(PrivateKey, FilesThatOthersCouldReadOrReplaceAreRefused) {
  const ScratchFolder folder;
  ASSERT_TRUE(TestKey()->WriteFile(folder / "a.p8", kNoPassphrase).ok());
  ASSERT_EQ(symlink((folder / "a.p8").c_str(), (folder / "link").c_str()), 0);
  ASSERT_EQ(mkfifo((folder / "fifo").c_str(), 0600), 0);
  const auto why = [&](const char* name) {
    const Status status = PrivateKey::ReadFile(folder / name, kNoPassphrase).status();
    EXPECT_EQ(KindOf(status), ErrorKind::kConfig);
    EXPECT_EQ(PartsOf(status).code, "ETL-C022");
    return PartsOf(status).why;
  };
  EXPECT_THAT(why("link"), HasSubstr("symbolic link"));
  EXPECT_THAT(why("fifo"), HasSubstr("not a regular file"));
  EXPECT_THAT(why("none"), HasSubstr("No such file"));
  chmod((folder / "a.p8").c_str(), 0640);
  EXPECT_THAT(why("a.p8"), HasSubstr("0640"));
  if (geteuid() == 0) {
    chmod((folder / "a.p8").c_str(), 0600);
    ASSERT_EQ(chown((folder / "a.p8").c_str(), 65534, 65534), 0);
    EXPECT_THAT(why("a.p8"), HasSubstr("another user"));
  }
}

TEST(PrivateKey, WrongKeysAreToldApart) {
  const ScratchFolder folder;
  ASSERT_TRUE(TestKey()->WriteFile(folder / "sealed.p8", Passphrase()).ok());
  OpenSsl("genrsa -traditional -out " + (folder / "short.pem") + " 1024");
  OpenSsl("ecparam -name prime256v1 -genkey -noout -out " + (folder / "ec.pem"));
  OpenSsl("genpkey -algorithm ed25519 -out " + (folder / "ed.pem"));
  WriteText(folder / "text", "hello");
  WriteText(folder / "broken", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
  const auto why = [&](const char* name, const Secret& passphrase) {
    chmod((folder / name).c_str(), 0600);
    const Status status = PrivateKey::ReadFile(folder / name, passphrase).status();
    EXPECT_EQ(PartsOf(status).code, "ETL-C024") << name;
    return PartsOf(status).why;
  };
  EXPECT_THAT(why("sealed.p8", kNoPassphrase), HasSubstr("no passphrase is given"));
  EXPECT_THAT(why("sealed.p8", Secret(std::string("other"))), HasSubstr("does not open it"));
  EXPECT_THAT(why("short.pem", kNoPassphrase), HasSubstr("1024 bits"));
  EXPECT_THAT(why("ec.pem", kNoPassphrase), HasSubstr("not an RSA key"));
  EXPECT_THAT(why("ed.pem", kNoPassphrase), HasSubstr("not an RSA key"));
  EXPECT_THAT(why("text", kNoPassphrase), HasSubstr("no private key in PEM form"));
  EXPECT_THAT(why("broken", kNoPassphrase), HasSubstr("cannot be read"));
}

TEST(PrivateKey, ErrorsHoldNeitherKeyNorPassphrase) {
  const ScratchFolder folder;
  ASSERT_TRUE(TestKey()->WriteFile(folder / "a.p8", Passphrase()).ok());
  std::string text = ReadText(folder / "a.p8");
  const std::string line = text.substr(text.find('\n') + 1, 64);
  text.resize(text.size() / 2);
  WriteText(folder / "half", text);
  WriteText(folder / "swapped", ReadText(folder / "a.p8").replace(400, 4, "!!!!"));
  for (const char* name : {"half", "swapped"}) {
    const std::string error = ErrorLine(PrivateKey::ReadFile(folder / name, Passphrase()).status());
    EXPECT_THAT(error, Not(HasSubstr(line)));
    EXPECT_THAT(error, Not(HasSubstr("canary")));
  }
}

// In a child, for it changes the process: the memory of one that has read a key from a file holds
// the file's text nowhere. What is looked for is kept in another form.
TEST(ProcessSecrets, TheKeysTextStaysNowhereInMemory) {
  const ScratchFolder folder;
  const std::string path = folder / "a.p8";
  OpenSsl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out " + path);
  chmod(path.c_str(), 0600);
  std::string masked;
  {
    // Past every buffer of the library, which would keep what is looked for.
    char text[832] = {};
    const int file = open(path.c_str(), O_RDONLY);
    ASSERT_EQ(read(file, text, sizeof text), static_cast<ssize_t>(sizeof text));
    close(file);
    for (size_t i = 800; i < sizeof text; ++i) masked += static_cast<char>(text[i] ^ 0x5a);
    OPENSSL_cleanse(text, sizeof text);
  }
  const pid_t child = fork();
  if (child == 0) {
    if (!ProtectProcessSecrets({.dumpable = true})) _exit(2);
    const auto key = PrivateKey::ReadFile(path, kNoPassphrase);
    if (!key.ok() || !(*key)->Sign("x").ok()) _exit(3);
    FILE* maps = fopen("/proc/self/maps", "r");
    const int memory = open("/proc/self/mem", O_RDONLY);
    std::vector<char> block;
    char entry[512];
    int found = 0;
    while (fgets(entry, sizeof entry, maps) != nullptr) {
      unsigned long from = 0;
      unsigned long to = 0;
      char rights[8];
      if (sscanf(entry, "%lx-%lx %7s", &from, &to, rights) != 3 || rights[1] != 'w') continue;
      // Only the shadow of a sanitizer is as large.
      if (to - from > (size_t{1} << 30)) continue;
      block.resize(to - from);
      const ssize_t got = pread(memory, block.data(), block.size(), static_cast<off_t>(from));
      for (ssize_t i = 0; i + 32 <= got; ++i) {
        size_t same = 0;
        while (same < 32 && (block[static_cast<size_t>(i) + same] ^ 0x5a) == masked[same]) ++same;
        found += same == 32 ? 1 : 0;
      }
      // The copy in `block` must not be found in its turn.
      std::fill(block.begin(), block.end(), '\0');
    }
    _exit(found == 0 ? 0 : 4);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(ProcessSecrets, TheProcessDumpsNoCoreAndKeysLiveInTheSecureHeap) {
  const pid_t child = fork();
  if (child == 0) {
    if (!ProtectProcessSecrets({})) _exit(2);
    struct rlimit cores = {};
    getrlimit(RLIMIT_CORE, &cores);
    if (cores.rlim_max != 0 || prctl(PR_GET_DUMPABLE) != 0) _exit(3);
    const size_t before = CRYPTO_secure_used();
    const auto key = PrivateKey::Generate(2048);
    _exit(key.ok() && CRYPTO_secure_used() > before ? 0 : 4);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace etl
