#include "ops/check_host.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/ca_file.h"
#include "base/clock.h"
#include "postgres/connection.h"

namespace etl {
namespace {

using Severity = CheckFinding::Severity;
namespace fs = std::filesystem;

constexpr rlim_t kDescriptorsWanted = 1024;
constexpr int kSyncs = 5;
constexpr auto kSlowSync = std::chrono::milliseconds(50);
// Code, libraries and slack come on top of limits.memory.
constexpr int64_t kBesideMemory = int64_t{150} << 20;

CheckFinding Ok(std::string id, std::string what) {
  return {Severity::kOk, std::move(id), std::move(what), "", "", ""};
}

CheckFinding CheckOpenFiles() {
  struct rlimit files = {};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= kDescriptorsWanted)
    return Ok("H01", "enough files may be open at once");
  return {Severity::kWarn,
          "H01",
          fmt::format("only {} files may be open at once", files.rlim_cur),
          "",
          fmt::format("ulimit -n {}", kDescriptorsWanted),
          ""};
}

CheckFinding CheckSpill(const LimitsConfig& limits) {
  struct statvfs disk = {};
  const bool usable = access(limits.spill_dir.c_str(), W_OK | X_OK) == 0;
  if (!usable || statvfs(limits.spill_dir.c_str(), &disk) != 0) {
    return {Severity::kFail,
            "H03",
            fmt::format("limits.spill_dir {} cannot be written to", limits.spill_dir),
            "large transactions are set aside there",
            "let limits.spill_dir name a folder that may be written to",
            ""};
  }
  const auto free_bytes = static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize);
  if (free_bytes >= limits.spill) return Ok("H03", "enough room to set large transactions aside");
  return {Severity::kWarn,
          "H03",
          fmt::format("{} has {} MiB free, limits.spill allows {}", limits.spill_dir,
                      free_bytes >> 20, FormatSize(limits.spill)),
          "a very large transaction could fill the disk",
          "lower limits.spill, or free some space",
          ""};
}

// Writes a page and makes it last, a few times; the quickest tells what the disk can do. The file
// has no name once it is open.
Result<Duration> TimeSync(const std::string& folder) {
  std::string name = folder + "/.etl-check-XXXXXX";
  const int fd = mkostemp(name.data(), O_CLOEXEC);
  const auto failed = [&](int reason) {
    return MakeError(ErrorKind::kConfig, "ETL-C051", fmt::format("{} cannot be written to", folder),
                     std::strerror(reason));
  };
  if (fd < 0) return failed(errno);
  unlink(name.c_str());
  Duration best = Duration::max();
  int error = 0;
  const std::array<char, 4096> page{};
  for (int i = 0; i < kSyncs && error == 0; ++i) {
    const Instant start = SystemClock().Now();
    if (pwrite(fd, page.data(), page.size(), i * 4096) != 4096 || fsync(fd) != 0) error = errno;
    best = std::min<Duration>(best, SystemClock().Now() - start);
  }
  close(fd);
  if (error != 0) return failed(error);
  return best;
}

std::optional<int64_t> NumberIn(const std::string& file) {
  std::ifstream stream(file);
  int64_t value = 0;
  if (!(stream >> value)) return std::nullopt;
  return value;
}

int64_t MachineMemory() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  return pages <= 0 ? 0 : static_cast<int64_t>(pages) * sysconf(_SC_PAGESIZE);
}

// Where each secret of the configuration is, by file.
std::map<std::string, std::string> SecretFiles(const Config& config) {
  std::map<std::string, std::string> files;
  const auto add = [&](const SecretRef& secret, const std::string& where) {
    if (secret.kind() == SecretRef::Kind::kFile) files.emplace(secret.name(), where);
  };
  for (const auto& [name, source] : config.sources)
    add(source.password, "sources." + name + ".password");
  for (const auto& [name, destination] : config.destinations) {
    if (!destination.snowflake.has_value()) continue;
    add(destination.snowflake->private_key, "destinations." + name + ".private_key");
    add(destination.snowflake->private_key_passphrase,
        "destinations." + name + ".private_key_passphrase");
  }
  for (const auto& [name, pipeline] : config.pipelines)
    add(pipeline.hash_key, "pipelines." + name + ".hash_key");
  return files;
}

// Empty: it is as it should be. The file is not opened.
std::pair<std::string, std::string> WrongWithSecret(const std::string& path) {
  struct stat facts = {};
  if (lstat(path.c_str(), &facts) != 0) return {std::strerror(errno), "ls -l " + path};
  if (S_ISLNK(facts.st_mode)) return {"it is a symbolic link", "name the file itself"};
  if (!S_ISREG(facts.st_mode)) return {"it is not a regular file", "name a file"};
  if (facts.st_uid != geteuid() && facts.st_uid != 0)
    return {"it belongs to another user", fmt::format("chown {} {}", geteuid(), path)};
  if ((facts.st_mode & 077U) != 0)
    return {fmt::format("others may read it (mode {:04o})", facts.st_mode & 07777U),
            "chmod 600 " + path};
  if (access(path.c_str(), R_OK) != 0) return {"it cannot be read", "chmod 600 " + path};
  return {};
}

CheckFinding JudgeAuthorities(const std::string& of, const std::string& file,
                              const std::string& key) {
  if (file == "system") return Ok("H06", of + ": the system's certificate authorities");
  if (!file.empty() && access(file.c_str(), R_OK) == 0)
    return Ok("H06", fmt::format("{}: certificate authorities of {}", of, file));
  return {Severity::kFail,
          "H06",
          file.empty() ? of + ": no certificate authorities were found on this machine"
                       : fmt::format("{}: {} cannot be read", of, file),
          "the other side's certificate cannot be verified",
          file.empty() ? "apt-get install ca-certificates, or name a bundle in " + key
                       : "correct " + key,
          ""};
}

}  // namespace

CheckFinding JudgeSync(Duration one_sync) {
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(one_sync).count();
  const std::string what =
      fmt::format("the catalog's folder is writable, a lasting write takes {:.2f} ms",
                  static_cast<double>(micros) / 1000);
  if (one_sync < kSlowSync) return Ok("H02", what);
  return {Severity::kWarn,
          "H02",
          what,
          "every commit of a local file waits for one",
          "use a local disk instead of a network one",
          ""};
}

CheckFinding CheckCatalogFile(const std::string& path) {
  const fs::path folder = fs::path(path).parent_path();
  std::error_code ignored;
  const bool exists = fs::exists(path, ignored);
  if (exists && (fs::is_directory(path, ignored) || access(path.c_str(), R_OK | W_OK) != 0)) {
    return {Severity::kFail,
            "H02",
            fmt::format("the catalog {} cannot be written to", path),
            "",
            "let `catalog` name a file that this user may write to",
            ""};
  }
  const Result<Duration> sync = TimeSync(folder.empty() ? "." : folder.string());
  if (sync.ok()) return JudgeSync(*sync);
  const ErrorParts parts = PartsOf(sync.status());
  return {Severity::kFail,
          "H02",
          "the catalog's folder: " + parts.what,
          parts.remedy,
          "let `catalog` name a file in a folder that exists and may be written to",
          ""};
}

std::optional<int64_t> CgroupMemory(const std::string& root, const std::string& groups) {
  std::optional<int64_t> least;
  std::istringstream lines(groups);
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool unified = controllers.empty();
    if (!unified && controllers != "memory") continue;
    // Each group above may limit it, too. In a container the path is often not to be seen from
    // inside, and the root is the container's own group.
    const fs::path mount = unified ? fs::path(root) : fs::path(root) / "memory";
    for (fs::path group = line.substr(second + 1);; group = group.parent_path()) {
      const fs::path place = mount / group.relative_path();
      const std::optional<int64_t> limit =
          NumberIn(place / (unified ? "memory.max" : "memory.limit_in_bytes"));
      // Version 1 writes a number near 2^63 for no limit.
      if (limit.has_value() && *limit < int64_t{1} << 60)
        least = std::min(least.value_or(*limit), *limit);
      if (group.relative_path().empty()) break;
    }
  }
  return least;
}

std::vector<CheckFinding> JudgeMemory(const Config& config, std::optional<int64_t> cgroup,
                                      int64_t machine) {
  std::vector<CheckFinding> findings;
  const int64_t memory = config.limits.memory;
  const int64_t needed = memory + kBesideMemory;
  if (cgroup.has_value() && *cgroup < needed) {
    findings.push_back(
        {Severity::kFail, "H04",
         fmt::format("limits.memory {} and what comes on top ({}) are more than the control "
                     "group's limit, {}",
                     FormatSize(memory), FormatSize(kBesideMemory), FormatSize(*cgroup)),
         "the kernel kills the process under load",
         fmt::format("raise the limit to {}, or lower limits.memory", FormatSize(needed)), ""});
  } else if (machine > 0 && machine < needed) {
    findings.push_back(
        {Severity::kWarn, "H04",
         fmt::format("limits.memory {} and what comes on top ({}) are more than this machine "
                     "has, {} MiB",
                     FormatSize(memory), FormatSize(kBesideMemory), machine >> 20),
         "the kernel kills the process under load", "lower limits.memory", ""});
  }
  // One batch is filled while another is written.
  int64_t wanted = 0;
  int pipelines = 0;
  bool duckdb = false;
  for (const auto& [name, pipeline] : config.pipelines) {
    if (!pipeline.enabled) continue;
    ++pipelines;
    wanted += 2 * pipeline.batch_max_bytes;
    const auto destination = config.destinations.find(pipeline.destination);
    duckdb = duckdb || destination == config.destinations.end() ||
             !destination->second.snowflake.has_value();
  }
  // DuckDB has a half of it for itself.
  const int64_t batches = duckdb ? memory / 2 : memory;
  if (pipelines > 1 && wanted > batches) {
    findings.push_back(
        {Severity::kWarn, "H04",
         fmt::format("{} pipelines want {} for their batches, and share {}", pipelines,
                     FormatSize(wanted), FormatSize(batches)),
         "batches become smaller than batch.max_bytes, and pipelines wait for one another",
         "raise limits.memory, or lower batch.max_bytes", ""});
  }
  if (findings.empty())
    findings.push_back(Ok("H04", fmt::format("memory for {}", FormatSize(memory))));
  return findings;
}

std::vector<CheckFinding> CheckSecretFiles(const Config& config) {
  std::vector<CheckFinding> findings;
  const std::map<std::string, std::string> files = SecretFiles(config);
  for (const auto& [path, where] : files) {
    const auto [why, remedy] = WrongWithSecret(path);
    if (why.empty()) continue;
    findings.push_back({Severity::kFail, "H05",
                        fmt::format("{} of {} is not safe to use", path, where), why, remedy, ""});
  }
  if (findings.empty() && !files.empty())
    findings.push_back(Ok(
        "H05", fmt::format("{} files of secrets are readable by this user alone", files.size())));
  return findings;
}

std::vector<CheckFinding> CheckAuthorities(const Config& config) {
  std::vector<CheckFinding> findings;
  for (const auto& [name, source] : config.sources) {
    SourceOptions options;
    options.conninfo = source.url;
    const SourceTrust trust = TrustOf(options);
    if (trust.verifies)
      findings.push_back(JudgeAuthorities("source " + name, trust.file, "sslrootcert of its url"));
  }
  for (const auto& [name, destination] : config.destinations) {
    if (!destination.snowflake.has_value() || destination.snowflake->url.starts_with("http://"))
      continue;
    const char* given = std::getenv("SSL_CERT_FILE");
    findings.push_back(JudgeAuthorities("destination " + name,
                                        given == nullptr ? SystemCaFile() : given,
                                        "the variable SSL_CERT_FILE"));
  }
  return findings;
}

CheckPart CheckHost(const Config& config) {
  CheckPart part{.name = "host", .pipeline = {}, .description = {}, .findings = {}};
  part.findings.push_back(CheckOpenFiles());
  part.findings.push_back(CheckCatalogFile(config.catalog));
  part.findings.push_back(CheckSpill(config.limits));
  std::ifstream groups("/proc/self/cgroup");
  const std::string text((std::istreambuf_iterator<char>(groups)), {});
  for (auto& findings : {JudgeMemory(config, CgroupMemory("/sys/fs/cgroup", text), MachineMemory()),
                         CheckSecretFiles(config), CheckAuthorities(config)}) {
    part.findings.insert(part.findings.end(), findings.begin(), findings.end());
  }
  return part;
}

}  // namespace etl
