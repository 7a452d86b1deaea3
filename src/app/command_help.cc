#include <fmt/format.h>

#include "app/commands.h"
#include "app/error_pages.h"

namespace etl {

Result<int> HelpCommand(Session& session) {
  const std::string& topic = session.line().topic;
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
