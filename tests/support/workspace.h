#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include <sys/types.h>

namespace etl {

/// How a run of the program ended.
struct Ended {
  bool timed_out = false;  ///< it had to be killed by the test
  int exit_code = -1;      ///< -1: ended by a signal
  int signal = 0;
  bool dumped = false;  ///< its memory, into a core file
  std::string out;
  std::string err;
  double seconds = 0;
  /// Everything that helps to understand a failure.
  std::string Describe() const;
};

using Environment = std::map<std::string, std::string>;

/// The program, running. It is killed with the object, and with the test process.
class Running {
 public:
  Running() = default;
  Running(pid_t pid, std::string out, std::string err);
  ~Running();
  Running(Running&& other) noexcept;
  Running& operator=(Running&& other) noexcept;

  bool alive();
  pid_t pid() const { return pid_; }
  void Signal(int number) const;
  /// Waits; after `patience` the process is killed.
  Ended Wait(std::chrono::milliseconds patience);
  /// kill -9, and waits for the end.
  Ended Kill();
  /// Undoes Workspace::LimitFileSize for the program as it runs.
  void LiftFileSize() const;
  std::string out_so_far() const;
  std::string err_so_far() const;

 private:
  bool Reap(bool block);
  pid_t pid_ = -1;
  bool ended_ = false;
  int status_ = 0;
  std::string out_;
  std::string err_;
  std::chrono::steady_clock::time_point started_{};
};

/// A folder with a configuration, a catalog and a DuckDB file, in which the real program is run.
/// The folder is removed at the end unless ETL_KEEP is set.
class Workspace {
 public:
  Workspace();
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  /// Configuration of one pipeline `p` from a libpq connection string into `copy.duckdb`;
  /// `pipeline` are further lines of the pipeline, such as "batch: {max_rows: 5}". `top` are
  /// further lines of the file, `destination` and `source` further keys of theirs (", release:
  /// off"). `destinations`: instead of the DuckDB file, the line of destination `d`.
  struct Config {
    std::string url;
    std::string tables = "[\"*.*\"]";
    std::vector<std::string> pipeline;
    std::vector<std::string> top;
    std::string source;
    std::string destination;
    std::string path = "copy.duckdb";
    std::string catalog = "catalog.db";
    std::string destinations;
  };
  void Write(const Config& config) const;
  void WriteFile(const std::string& name, const std::string& text) const;

  /// A disk that is full, without a disk: programs started from now on cannot make a file larger
  /// than this. 0: no limit.
  void LimitFileSize(int64_t bytes) { file_size_ = bytes; }

  /// As if the pipeline had never run, but for what it left at the source.
  void RemoveCopy() const;

  Running Start(const std::vector<std::string>& words, const Environment& environment = {}) const;
  Ended Run(const std::vector<std::string>& words, const Environment& environment = {},
            std::chrono::milliseconds patience = std::chrono::seconds(60)) const;
  Ended Sync() const { return Run({"sync"}); }

  std::string path(const std::string& name = "") const { return folder_ + "/" + name; }
  std::string duckdb() const { return path("copy.duckdb"); }

 private:
  std::string folder_;
  int64_t file_size_ = 0;
  mutable int runs_ = 0;
};

/// Polls until `condition` holds; false after `patience`.
template <typename Condition>
bool Eventually(Condition condition,
                std::chrono::milliseconds patience = std::chrono::seconds(20)) {
  const auto until = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= until) return false;
    timespec pause{.tv_sec = 0, .tv_nsec = 20'000'000};
    nanosleep(&pause, nullptr);
  }
  return true;
}

/// ETL_TEST_SHORT=1: as little as still means something.
bool ShortTests();

}  // namespace etl
