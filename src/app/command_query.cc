#include <fmt/format.h>

#include "app/commands.h"

namespace etl {

Result<int> QueryCommand(Session& session) {
  ETL_RETURN_IF_ERROR(session.LoadConfig());
  ETL_RETURN_IF_ERROR(session.Choose({session.line().pipeline}).status());
  return MakeError(ErrorKind::kInternal, "ETL-X010", "query is not part of this build");
}

}  // namespace etl
