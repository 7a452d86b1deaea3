#include "net/key_origin.h"

#include <sys/stat.h>

#include <tuple>
#include <utility>

namespace etl {
namespace {

using FileMark = std::tuple<dev_t, ino_t, off_t, time_t, long>;

FileMark MarkOf(const std::string& path) {
  struct stat facts = {};
  if (lstat(path.c_str(), &facts) != 0) return {};
  return {facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec};
}

}  // namespace

KeyOrigin KeyFromFile(std::string path, SecretReader passphrase) {
  auto last = std::make_shared<FileMark>();
  auto file = std::make_shared<const std::string>(std::move(path));
  return {.read = [file, last, passphrase = std::move(passphrase)]() -> Result<PrivateKeyPtr> {
            // Before reading: a change in between is found by the next look.
            *last = MarkOf(*file);
            ETL_ASSIGN_OR_RETURN(const Secret words, passphrase());
            ETL_ASSIGN_OR_RETURN(auto key, PrivateKey::ReadFile(*file, words));
            return PrivateKeyPtr(std::move(key));
          },
          .changed = [file, last] { return MarkOf(*file) != *last; }};
}

KeyOrigin KeyFromText(std::string name, SecretReader pem, SecretReader passphrase) {
  return {.read = [name = std::move(name), pem = std::move(pem),
                   passphrase = std::move(passphrase)]() -> Result<PrivateKeyPtr> {
            ETL_ASSIGN_OR_RETURN(const Secret text, pem());
            ETL_ASSIGN_OR_RETURN(const Secret words, passphrase());
            ETL_ASSIGN_OR_RETURN(auto key, PrivateKey::FromPem(text.Reveal(), words, name));
            return PrivateKeyPtr(std::move(key));
          },
          .changed = [] { return false; }};
}

}  // namespace etl
