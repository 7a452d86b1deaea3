#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "app/command_line.h"
#include "app/commands.h"
#include "app/error_printer.h"
#include "app/exit_code.h"
#include "app/session.h"
#include "net/process_secrets.h"

namespace etl {
namespace {

using CommandFunction = Result<int> (*)(Session&);

CommandFunction FindCommand(const std::string& name) {
  constexpr std::pair<std::string_view, CommandFunction> kCommands[] = {
      {"check", CheckCommand},     {"completion", CompletionCommand},
      {"help", HelpCommand},       {"init", InitCommand},
      {"key", KeyCommand},         {"pipeline", PipelineCommand},
      {"query", QueryCommand},     {"run", RunCommand},
      {"status", StatusCommand},   {"sync", SyncCommand},
      {"tap", TapCommand},         {"verify", VerifyCommand},
      {"version", VersionCommand},
  };
  for (const auto& [command, function] : kCommands) {
    if (command == name) return function;
  }
  return nullptr;
}

int Main(int argc, char** argv) {
  ParsedCommandLine parsed = ParseCommandLine(argc, argv);
  if (parsed.finished) {
    if (parsed.exit_code == kExitDone) {
      Print(parsed.text);
    } else {
      PrintError(parsed.text);
    }
    return parsed.exit_code;
  }
  ConfigureLog(parsed.line.log_level, parsed.line.log_format);
  // Before the first secret is read, and before other threads are made. Developers may look inside.
  ProtectProcessSecrets({.dumpable = std::getenv("ETL_STREAM_DUMPABLE") != nullptr});
  const CommandFunction command = FindCommand(parsed.line.command);
  Session session(std::move(parsed.line));
  const Result<int> outcome = command(session);
  if (outcome.ok()) {
    // Results that could not be written were not delivered.
    if (std::fflush(stdout) != 0 && *outcome == kExitDone) return kExitInternal;
    return *outcome;
  }
  if (!session.printed()) PrintError(FormatError(outcome.status()));
  return ExitCodeOf(outcome.status());
}

}  // namespace
}  // namespace etl

int main(int argc, char** argv) {
  // A file that may not grow (ulimit -f) is an error of the write, as a full disk is.
  signal(SIGXFSZ, SIG_IGN);
  return etl::Main(argc, argv);
}
