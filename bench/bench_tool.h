#pragma once

#include <sys/resource.h>
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <libpq-fe.h>

// What the benchmark programs share: arguments of the form name=value, clocks, and libpq without
// ceremony. A failure ends the program with a message.

namespace etl::bench {

class Arguments {
 public:
  Arguments(int count, char** values) {
    for (int i = 1; i < count; ++i) {
      const std::string_view argument = values[i];
      const size_t equals = argument.find('=');
      if (equals == std::string_view::npos) {
        words_.emplace_back(argument);
      } else {
        named_.emplace(argument.substr(0, equals), argument.substr(equals + 1));
      }
    }
  }
  std::string Word() const { return words_.empty() ? std::string() : words_[0]; }
  std::string Text(const std::string& name, const std::string& otherwise = {}) const {
    const auto found = named_.find(name);
    return found == named_.end() ? otherwise : found->second;
  }
  int64_t Number(const std::string& name, int64_t otherwise) const {
    const auto found = named_.find(name);
    return found == named_.end() ? otherwise : std::atoll(found->second.c_str());
  }

 private:
  std::vector<std::string> words_;
  std::map<std::string, std::string> named_;
};

inline double SecondsOf(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}
inline double WallSeconds() { return SecondsOf(CLOCK_MONOTONIC); }
/// Of all threads of this process.
inline double ProcessCpuSeconds() { return SecondsOf(CLOCK_PROCESS_CPUTIME_ID); }
inline double ThreadCpuSeconds() { return SecondsOf(CLOCK_THREAD_CPUTIME_ID); }

/// The most memory this process ever held, in MiB.
inline double PeakMemoryMiB() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

[[noreturn]] inline void Die(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  std::exit(1);
}

inline uint64_t ParseLsn(const std::string& text) {
  unsigned high = 0;
  unsigned low = 0;
  if (std::sscanf(text.c_str(), "%X/%X", &high, &low) != 2) Die("not a position: " + text);
  return static_cast<uint64_t>(high) << 32 | low;
}

struct FinishConnection {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
struct ClearResult {
  void operator()(PGresult* result) const { PQclear(result); }
};
using ConnectionPtr = std::unique_ptr<PGconn, FinishConnection>;
using ResultPtr = std::unique_ptr<PGresult, ClearResult>;

inline ConnectionPtr Connect(const std::string& url, bool replication) {
  const char* names[] = {"dbname", "replication", nullptr};
  const char* values[] = {url.c_str(), replication ? "database" : nullptr, nullptr};
  ConnectionPtr connection(PQconnectdbParams(names, values, /*expand_dbname=*/1));
  if (PQstatus(connection.get()) != CONNECTION_OK) Die(PQerrorMessage(connection.get()));
  return connection;
}

inline ResultPtr Execute(PGconn* connection, const std::string& sql, ExecStatusType wanted) {
  ResultPtr result(PQexec(connection, sql.c_str()));
  if (PQresultStatus(result.get()) != wanted) Die(PQerrorMessage(connection));
  return result;
}

}  // namespace etl::bench
