#pragma once

#include <string>
#include <string_view>

#include <fmt/format.h>

namespace etl {

enum class LogLevel { kDebug, kInfo, kWarn, kError };
enum class LogFormat { kText, kJson };

/// One key and its value, already as text. Never a row value, an SQL parameter, a token or a
/// header.
struct LogField {
  template <typename T>
  LogField(std::string_view k, const T& v) : key(k), value(fmt::format("{}", v)) {}
  std::string_view key;
  std::string value;
};

/// Sets level and format of the process's log (stderr). Called once by `main`.
void ConfigureLog(LogLevel level, LogFormat format);
bool ParseLogLevel(std::string_view text, LogLevel* level);
/// Writes one line: time, level, message, key=value… Safe from any thread. Control bytes are
/// escaped.
void Log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields = {});

inline void LogDebug(std::string_view m, std::initializer_list<LogField> f = {}) {
  Log(LogLevel::kDebug, m, f);
}
inline void LogInfo(std::string_view m, std::initializer_list<LogField> f = {}) {
  Log(LogLevel::kInfo, m, f);
}
inline void LogWarn(std::string_view m, std::initializer_list<LogField> f = {}) {
  Log(LogLevel::kWarn, m, f);
}
inline void LogError(std::string_view m, std::initializer_list<LogField> f = {}) {
  Log(LogLevel::kError, m, f);
}

/// `text` with control bytes escaped (\n, \x1b …), so that data cannot forge lines or drive a
/// terminal.
std::string EscapeControl(std::string_view text);
/// `text` as a JSON string literal with its quotes.
std::string JsonQuote(std::string_view text);

}  // namespace etl
