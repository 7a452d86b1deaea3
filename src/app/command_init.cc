#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

#include "app/commands.h"
#include "app/starter_config.h"
#include "base/log.h"

namespace etl {
namespace {

// Makes the file anew, or fails if anything is there already.
Status WriteNewFile(const std::string& path, std::string_view text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0 && errno == EEXIST) {
    return MakeError(ErrorKind::kUsage, "ETL-U004", fmt::format("{} exists already", path),
                     "remove it, or name another file: etl-stream --config FILE init");
  }
  if (fd < 0)
    return MakeError(ErrorKind::kUsage, "ETL-U004",
                     fmt::format("{} cannot be written: {}", path, std::strerror(errno)));
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t wrote = write(fd, text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) break;
    done += static_cast<size_t>(wrote);
  }
  const int reason = errno;
  if (close(fd) == 0 && done == text.size()) return Status::OK();
  unlink(path.c_str());
  return MakeError(ErrorKind::kInternal, "ETL-U004",
                   fmt::format("{} cannot be written: {}", path, std::strerror(reason)));
}

// A relative FILE means the working directory, a relative path in the configuration the folder of
// the configuration.
std::string DestinationFor(const std::string& to, const std::string& config) {
  if (!to.starts_with("duckdb:") || to.size() == 7) return to;
  const std::filesystem::path folder = std::filesystem::path(config).parent_path();
  const std::filesystem::path file = to.substr(7);
  if (folder.empty() || file.is_absolute()) return to;
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(file, error);
  return error ? to : "duckdb:" + absolute.lexically_normal().string();
}

}  // namespace

Result<int> InitCommand(Session& session) {
  const CommandLine& line = session.line();
  ETL_ASSIGN_OR_RETURN(const StarterConfig starter,
                       MakeStarterConfig(line.from, DestinationFor(line.to, line.config)));
  ETL_RETURN_IF_ERROR(WriteNewFile(line.config, starter.text));
  Print(fmt::format("{} was written\n", EscapeControl(line.config)));
  if (!starter.hint.empty()) Print(starter.hint + "\n");
  const std::string option = line.config == "etl-stream.yaml"
                                 ? ""
                                 : fmt::format("--config {} ", EscapeControl(line.config));
  if (line.from.empty()) Print("edit its url, then\n");
  Print(
      fmt::format("Next   etl-stream {0}check     look at both ends\n       etl-stream {0}sync     "
                  " make the copy\n",
                  option));
  return 0;
}

}  // namespace etl
