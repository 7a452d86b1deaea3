#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include <stdlib.h>

#include "base/check.h"
#include "net/key_origin.h"

namespace etl {

/// A folder of one test, removed with it.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "etl-XXXXXX").string();
    ETL_CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~ScratchFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

/// One key a process: making them is slow.
inline PrivateKeyPtr TestKey(int which = 0) {
  static const PrivateKeyPtr keys[] = {PrivateKey::Generate(2048).ValueOrDie(),
                                       PrivateKey::Generate(2048).ValueOrDie()};
  return keys[which];
}

/// Gives the key that `which` points at, and says changed when told to.
inline KeyOrigin TestOrigin(const int* which, const bool* changed = nullptr) {
  return {.read = [which]() -> Result<PrivateKeyPtr> { return TestKey(*which); },
          .changed = [changed] { return changed != nullptr && *changed; }};
}

inline std::string ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void WriteText(const std::string& path, const std::string& text, int mode = 0600) {
  std::ofstream(path, std::ios::binary) << text;
  std::filesystem::permissions(path, static_cast<std::filesystem::perms>(mode));
}

}  // namespace etl
