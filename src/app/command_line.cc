#include "app/command_line.h"

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "config/nearest.h"

namespace etl {
namespace {

constexpr int kUsageExit = 2;

// The grammar. `line` receives what is parsed and must outlive the App.
void Declare(CLI::App& app, CommandLine& line) {
  app.name("etl-stream");
  app.description("Copies PostgreSQL into DuckDB, exactly, by logical replication.");
  app.footer("etl-stream help COMMAND explains a command, etl-stream help ETL-S203 an error.");
  app.require_subcommand(0, 1);
  app.fallthrough();
  app.set_help_flag("-h,--help", "print this help");
  app.add_option("--config", line.config,
                 "configuration file (default: $ETL_STREAM_CONFIG, else etl-stream.yaml)")
      ->option_text("FILE");
  app.add_option_function<std::string>(
         "--log-level",
         [&line](const std::string& text) {
           if (!ParseLogLevel(text, &line.log_level)) {
             throw CLI::ValidationError("--log-level", "must be debug, info, warn or error");
           }
         },
         "debug, info, warn or error")
      ->option_text("LEVEL");
  app.add_option_function<std::string>(
         "--log-format",
         [&line](const std::string& text) {
           if (text != "text" && text != "json")
             throw CLI::ValidationError("--log-format", "must be text or json");
           line.log_format = text == "json" ? LogFormat::kJson : LogFormat::kText;
         },
         "text or json")
      ->option_text("FORMAT");
  app.add_flag("--allow-plaintext-secrets", line.allow_plaintext,
               "accept secrets that stand in the configuration in clear");
  app.add_flag_callback(
      "--version", [&line] { line.command = "version"; }, "the same as the command version");

  const auto command = [&](const char* name, const char* description) {
    CLI::App* sub = app.add_subcommand(name, description);
    sub->set_help_flag("-h,--help", "print this help");
    sub->parse_complete_callback([&line, name] { line.command = name; });
    return sub;
  };
  const auto json = [&](CLI::App* sub) { sub->add_flag("--json", line.json, "print JSON"); };
  const auto many = [&](CLI::App* sub) {
    sub->add_option("PIPELINE", line.pipelines, "pipelines (default: every enabled one)")
        ->option_text("...");
  };
  const auto one = [&](CLI::App* sub) {
    sub->add_option("PIPELINE", line.pipeline, "a pipeline of the configuration")
        ->required()
        ->option_text(" ");
  };

  CLI::App* init =
      command("init", "write a commented starter configuration, never over an existing file");
  init->add_option("--from", line.from, "PostgreSQL, as a URL")->option_text("URL");
  init->add_option("--to", line.to, "destination, as duckdb:FILE")->option_text("duckdb:FILE");
  CLI::App* check = command(
      "check", "validate the configuration, then look at source and destination; change nothing");
  many(check);
  check->add_flag("--fix-sql", line.fix_sql, "print the SQL that a DBA must run, and nothing else");
  json(check);
  command(
      "run",
      "run every enabled pipeline until SIGINT or SIGTERM; SIGHUP reads the configuration again");
  many(command("sync", "bring destinations up to where the source stands now, then exit"));
  CLI::App* status = command("status", "phase, rows and lag of pipelines and tables, as last seen");
  many(status);
  json(status);
  one(command("tap", "print changes from now on, one JSON object a line; leaves nothing behind"));
  CLI::App* verify =
      command("verify", "compare source and destination at one position, table by table");
  one(verify);
  verify->add_option("--table", line.table, "only this table")->option_text("SCHEMA.TABLE");
  verify->add_flag("--repair", line.repair, "not carried out by this version");
  json(verify);
  CLI::App* query =
      command("query", "read-only SQL on the copy, while no other process holds the file");
  one(query);
  query->add_option("SQL", line.sql, "one statement")->required()->option_text(" ");
  json(query);
  CLI::App* pipeline = command("pipeline", "start, pause, resync or drop a pipeline");
  pipeline->add_option("ACTION", line.action, "start, pause, resync or drop")
      ->required()
      ->option_text(" ")
      ->check(CLI::IsMember({"start", "pause", "resync", "drop"}));
  one(pipeline);
  pipeline->add_option("--table", line.table, "only this table (start, resync)")
      ->option_text("SCHEMA.TABLE");
  pipeline->add_flag("--yes", line.yes, "do not ask");
  json(pipeline);
  CLI::App* key = command("key", "make a Snowflake key pair, or change to a new one");
  key->add_option("ACTION", line.action,
                  "generate: write a key and print the SQL that registers it; rotate: change to a "
                  "new one without a pause")
      ->required()
      ->option_text(" ")
      ->check(CLI::IsMember({"generate", "rotate"}));
  key->add_option("DESTINATION", line.destination,
                  "a destination of the configuration (default: the only one)")
      ->option_text(" ");
  key->add_option("--out", line.out, "generate: this file, without a configuration")
      ->option_text("FILE");
  key->add_option("--user", line.user, "generate: whose key it is (for the SQL)")
      ->option_text("USER");
  key->add_option("--passphrase-env", line.passphrase_env,
                  "generate with --out: encrypt with what this variable holds")
      ->option_text("NAME");
  key->add_option("--bits", line.bits, "generate: 2048, 3072 or 4096")
      ->option_text("N")
      ->check(CLI::IsMember({2048, 3072, 4096}));
  key->add_option("--role", line.role, "rotate: a role that may alter the user")
      ->option_text("ROLE");
  key->add_flag("--replace-other", line.replace_other,
                "rotate: even if another key is in the user's second slot");
  key->add_flag("--yes", line.yes, "rotate: do not ask");
  CLI::App* version = command("version", "the version of this program");
  json(version);
  CLI::App* help = command("help", "explain a command or an error code");
  help->add_option("TOPIC", line.topic, "COMMAND or ERROR-CODE")->option_text(" ");
  help->add_option("ACTION", line.action, "of the commands pipeline and key")->option_text(" ");
  command("completion", "print the completion script of a shell")
      ->add_option("SHELL", line.shell, "bash, zsh or fish")
      ->required()
      ->option_text(" ")
      ->check(CLI::IsMember({"bash", "zsh", "fish", "names"}));
}

std::string UsageError(const std::string& what, const std::string& remedy) {
  return fmt::format("error ETL-U001: {}\n  do     {}\n", EscapeControl(what),
                     EscapeControl(remedy));
}

// The first word that is neither an option nor an option's value: what the person took for a
// command.
std::string FirstWord(int argc, const char* const* argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--config" || word == "--log-level" || word == "--log-format") {
      ++i;
    } else if (!word.starts_with("-")) {
      return std::string(word);
    }
  }
  return {};
}

std::string UnknownCommand(const std::string& word) {
  if (word == "top")
    return UsageError(fmt::format("this version does not have the command {} yet", word),
                      "etl-stream help");
  const std::optional<std::string> nearest = NearestName(word, CommandNames());
  return UsageError(
      fmt::format("there is no command \"{}\"", word),
      nearest.has_value() ? fmt::format("etl-stream {}", *nearest) : "etl-stream help");
}

}  // namespace

const std::vector<std::string>& CommandNames() {
  static const std::vector<std::string> names = {
      "init",  "check",    "run", "sync",    "status", "tap",       "verify",
      "query", "pipeline", "key", "version", "help",   "completion"};
  return names;
}

ParsedCommandLine ParseCommandLine(int argc, const char* const* argv) {
  ParsedCommandLine out;
  if (const char* config = std::getenv("ETL_STREAM_CONFIG"); config != nullptr && *config != '\0')
    out.line.config = config;
  const std::string word = FirstWord(argc, argv);
  const bool known =
      std::find(CommandNames().begin(), CommandNames().end(), word) != CommandNames().end();
  // CLI11 reports by exceptions; they end here.
  CLI::App app;
  try {
    Declare(app, out.line);
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    out.finished = true;
    out.text = CommandHelp(known ? word : "");
    return out;
  } catch (const CLI::ParseError& error) {
    out.finished = true;
    out.exit_code = kUsageExit;
    out.text = !word.empty() && !known ? UnknownCommand(word)
                                       : UsageError(error.what(), known ? "etl-stream help " + word
                                                                        : "etl-stream help");
    return out;
  }
  if (out.line.command.empty()) {
    out.finished = true;
    out.exit_code = kUsageExit;
    out.text = CommandHelp("");
  }
  return out;
}

std::string CommandHelp(const std::string& command) {
  CommandLine line;
  CLI::App app;
  Declare(app, line);
  if (command.empty()) return app.help();
  for (const CLI::App* sub :
       app.get_subcommands([&](CLI::App* candidate) { return candidate->get_name() == command; })) {
    return sub->help("etl-stream");
  }
  return {};
}

}  // namespace etl
