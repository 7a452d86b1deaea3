#pragma once

#include <string>
#include <vector>

#include "base/log.h"

namespace etl {

/// Everything the command line can say. Each command reads the fields that belong to it.
struct CommandLine {
  // Global options.
  std::string config = "etl-stream.yaml";
  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kText;
  bool allow_plaintext = false;

  std::string command;                 ///< empty: none was given
  std::vector<std::string> pipelines;  ///< check, sync, status
  std::string pipeline;                ///< tap, verify, query, pipeline
  std::string action;                  ///< pipeline: start, pause, resync, drop; key; help
  std::string table;                   ///< verify, pipeline
  std::string sql;                     ///< query
  std::string topic;                   ///< help
  std::string shell;                   ///< completion
  std::string from;                    ///< init
  std::string to;                      ///< init
  std::string destination;             ///< key
  std::string out;                     ///< key generate
  std::string user;                    ///< key generate
  std::string passphrase_env;          ///< key generate
  std::string role;                    ///< key rotate
  int bits = 2048;                     ///< key generate
  bool replace_other = false;          ///< key rotate
  bool json = false;
  bool yes = false;
  bool fix_sql = false;
  bool repair = false;
};

/// What came of parsing: a command to carry out, or text to print and an exit code.
struct ParsedCommandLine {
  CommandLine line;
  bool finished = false;  ///< nothing is left to do but to print `text`
  int exit_code = 0;
  std::string text;  ///< for stdout if exit_code is 0, else for stderr
};

ParsedCommandLine ParseCommandLine(int argc, const char* const* argv);
/// The help of one command, or of the program (empty name); empty if there is no such command.
std::string CommandHelp(const std::string& command);
const std::vector<std::string>& CommandNames();

}  // namespace etl
