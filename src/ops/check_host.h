#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "ops/check.h"

namespace etl {

/// Looks at the machine: H01 open files, H02 the catalog's folder, H03 room for spilling, H04
/// memory, H05 files of secrets, H06 certificate authorities. Leaves nothing behind.
CheckPart CheckHost(const Config& config);

// Its parts, for tests.

/// H02 of a file at `path`, which need not exist.
CheckFinding CheckCatalogFile(const std::string& path);
/// What a write that must last costs.
CheckFinding JudgeSync(Duration one_sync);

/// The least memory limit of the control groups that the process is in, bytes; none: unlimited.
/// `root`: /sys/fs/cgroup; `groups`: the text of /proc/self/cgroup.
std::optional<int64_t> CgroupMemory(const std::string& root, const std::string& groups);
/// H04: the budget against what the machine gives, and against what the pipelines want of it.
std::vector<CheckFinding> JudgeMemory(const Config& config, std::optional<int64_t> cgroup,
                                      int64_t machine);

/// H05 of every file of a secret that the configuration names.
std::vector<CheckFinding> CheckSecretFiles(const Config& config);
/// H06 for everything that is reached with a certificate to verify.
std::vector<CheckFinding> CheckAuthorities(const Config& config);

}  // namespace etl
