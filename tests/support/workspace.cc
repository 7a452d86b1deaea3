#include "support/workspace.h"

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <utility>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace etl {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string Program() {
  if (const char* build = std::getenv("ETL_BUILD_DIR"))
    return std::string(build) + "/bin/etl-stream";
  return ETL_STREAM_BINARY;
}

std::string Tail(const std::string& text) {
  constexpr size_t kMost = 6000;
  return text.size() > kMost ? "…" + text.substr(text.size() - kMost) : text;
}

}  // namespace

std::string Ended::Describe() const {
  std::ostringstream text;
  if (timed_out) text << "still running after " << seconds << " s; ";
  text << (signal != 0 ? "signal " : "exit code ") << (signal != 0 ? signal : exit_code)
       << "\n--- stdout\n"
       << Tail(out) << "\n--- stderr\n"
       << Tail(err);
  return text.str();
}

Running::Running(pid_t pid, std::string out, std::string err)
    : pid_(pid), out_(std::move(out)), err_(std::move(err)), started_(steady_clock::now()) {}

Running::~Running() {
  if (pid_ > 0 && !ended_) (void)Kill();
}

Running::Running(Running&& other) noexcept { *this = std::move(other); }

Running& Running::operator=(Running&& other) noexcept {
  if (this == &other) return *this;
  if (pid_ > 0 && !ended_) (void)Kill();
  pid_ = std::exchange(other.pid_, -1);
  ended_ = other.ended_;
  status_ = other.status_;
  out_ = std::move(other.out_);
  err_ = std::move(other.err_);
  started_ = other.started_;
  return *this;
}

bool Running::Reap(bool block) {
  if (ended_ || pid_ <= 0) return true;
  pid_t got = 0;
  do {
    got = waitpid(pid_, &status_, block ? 0 : WNOHANG);
  } while (got < 0 && errno == EINTR);
  ended_ = got != 0;
  return ended_;
}

bool Running::alive() { return pid_ > 0 && !Reap(false); }

void Running::Signal(int number) const {
  if (pid_ > 0 && !ended_) kill(pid_, number);
}

Ended Running::Wait(milliseconds patience) {
  Ended ended;
  const auto until = steady_clock::now() + patience;
  while (!Reap(false)) {
    if (steady_clock::now() >= until) {
      ended.timed_out = true;
      Signal(SIGKILL);
      Reap(true);
      break;
    }
    timespec pause{.tv_sec = 0, .tv_nsec = 5'000'000};
    nanosleep(&pause, nullptr);
  }
  ended.seconds = std::chrono::duration<double>(steady_clock::now() - started_).count();
  if (WIFEXITED(status_)) ended.exit_code = WEXITSTATUS(status_);
  if (WIFSIGNALED(status_)) {
    ended.signal = WTERMSIG(status_);
    ended.dumped = WCOREDUMP(status_);
  }
  ended.out = Slurp(out_);
  ended.err = Slurp(err_);
  return ended;
}

Ended Running::Kill() {
  Signal(SIGKILL);
  return Wait(std::chrono::seconds(30));
}

void Running::LiftFileSize() const {
  rlimit limit = {};
  if (pid_ <= 0 || prlimit(pid_, RLIMIT_FSIZE, nullptr, &limit) != 0) std::abort();
  limit.rlim_cur = limit.rlim_max;
  if (prlimit(pid_, RLIMIT_FSIZE, &limit, nullptr) != 0) std::abort();
}

std::string Running::out_so_far() const { return Slurp(out_); }
std::string Running::err_so_far() const { return Slurp(err_); }

Workspace::Workspace() {
  std::string pattern = (std::filesystem::temp_directory_path() / "etl-proof-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) std::abort();
  folder_ = pattern;
}

Workspace::~Workspace() {
  if (std::getenv("ETL_KEEP") != nullptr) {
    std::cerr << "kept: " << folder_ << "\n";
    return;
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void Workspace::WriteFile(const std::string& name, const std::string& text) const {
  std::ofstream(path(name), std::ios::binary) << text;
}

void Workspace::Write(const Config& config) const {
  std::ostringstream text;
  text << "version: 1\nserver: {listen: off}\ncatalog: " << config.catalog << "\n";
  for (const std::string& line : config.top) text << line << "\n";
  text << "sources:\n  s: {type: postgres, url: \"" << config.url << "\"" << config.source
       << "}\ndestinations:\n";
  if (config.destinations.empty()) {
    text << "  d: {type: duckdb, path: " << config.path << config.destination << "}\n";
  } else {
    text << "  " << config.destinations << "\n";
  }
  text << "pipelines:\n  p:\n    source: s\n    destination: d\n    tables: " << config.tables
       << "\n";
  for (const std::string& line : config.pipeline) text << "    " << line << "\n";
  WriteFile("etl-stream.yaml", text.str());
}

void Workspace::RemoveCopy() const {
  std::error_code ignored;
  for (const char* name :
       {"copy.duckdb", "copy.duckdb.wal", "catalog.db", "catalog.db-wal", "catalog.db-shm"}) {
    std::filesystem::remove(path(name), ignored);
  }
}

Running Workspace::Start(const std::vector<std::string>& words,
                         const Environment& environment) const {
  const std::string out = path(".out" + std::to_string(runs_));
  const std::string err = path(".err" + std::to_string(runs_));
  ++runs_;
  // Everything that allocates happens before the fork: the test may have threads.
  const std::string program = Program();
  std::vector<std::string> variables;
  for (char** each = environ; *each != nullptr; ++each) {
    const std::string variable = *each;
    const std::string name = variable.substr(0, variable.find('='));
    if (name == "ETL_STREAM_CONFIG" || name == "ETL_FAILPOINTS" || environment.contains(name))
      continue;
    variables.push_back(variable);
  }
  for (const auto& [name, value] : environment) variables.push_back(name + "=" + value);
  std::vector<char*> argv{const_cast<char*>("etl-stream")};
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  std::vector<char*> envp;
  for (const std::string& variable : variables) envp.push_back(const_cast<char*>(variable.c_str()));
  envp.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || chdir(folder_.c_str()) != 0) _exit(126);
    const int input = open("/dev/null", O_RDONLY);
    const int output = open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int errors = open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(input, 0);
    dup2(output, 1);
    dup2(errors, 2);
    for (int fd = 3; fd < 1024; ++fd) close(fd);
    if (file_size_ > 0) {
      // The soft limit alone: it can be lifted again without privileges.
      rlimit limit = {};
      if (getrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(126);
      limit.rlim_cur = static_cast<rlim_t>(file_size_);
      if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(126);
    }
    execve(program.c_str(), argv.data(), envp.data());
    _exit(127);
  }
  return Running(pid, out, err);
}

Ended Workspace::Run(const std::vector<std::string>& words, const Environment& environment,
                     milliseconds patience) const {
  return Start(words, environment).Wait(patience);
}

bool ShortTests() {
  const char* value = std::getenv("ETL_TEST_SHORT");
  return value != nullptr && std::strcmp(value, "0") != 0 && *value != '\0';
}

}  // namespace etl
