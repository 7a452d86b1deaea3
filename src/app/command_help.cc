#include <fmt/format.h>

#include "app/commands.h"
#include "app/error_pages.h"

namespace etl {
namespace {

// The help of a command explains its actions.
bool TakesAction(const std::string& command, const std::string& action) {
  if (command == "pipeline")
    return action.empty() || action == "start" || action == "pause" || action == "resync" ||
           action == "drop";
  if (command == "key") return action.empty() || action == "generate" || action == "rotate";
  return action.empty();
}

}  // namespace

Result<int> HelpCommand(Session& session) {
  const std::string& topic = session.line().topic;
  if (const std::string& action = session.line().action; !TakesAction(topic, action)) {
    return MakeError(ErrorKind::kUsage, "ETL-U001",
                     fmt::format("there is no help on \"{} {}\"", topic, action),
                     "etl-stream help " + topic);
  }
  if (const std::string help = CommandHelp(topic); !help.empty()) {
    Print(help);
    return 0;
  }
  if (const ErrorPage* page = FindErrorPage(topic)) {
    Print(fmt::format("{}  {}\n\n{}\n", page->code, page->title, page->text));
    return 0;
  }
  return MakeError(ErrorKind::kUsage, "ETL-U001", fmt::format("there is no help on \"{}\"", topic),
                   "etl-stream help");
}

}  // namespace etl
