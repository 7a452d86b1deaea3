#include <fmt/format.h>

#include "app/commands.h"

#ifndef ETL_VERSION
#define ETL_VERSION "0.0.0"
#endif

namespace etl {

Result<int> VersionCommand(Session& session) {
  Print(session.line().json
            ? fmt::format("{{\"name\":\"etl-stream\",\"version\":\"{}\"}}\n", ETL_VERSION)
            : fmt::format("etl-stream {}\n", ETL_VERSION));
  return 0;
}

}  // namespace etl
