#pragma once

namespace etl {

/// Named points at which a test may kill, fail or hold the process. Set by the environment variable
/// `ETL_FAILPOINTS="name=exit[:nth];other=pause:ms"`: `exit` ends the process at once as kill -9
/// would (status 137), on the nth passage (default the first). Without the variable a passage costs
/// one load of a flag.
void FailpointHit(const char* name);
extern const bool g_failpoints_armed;

}  // namespace etl

#ifdef ETL_FAILPOINTS
#define ETL_FAILPOINT(name) (::etl::g_failpoints_armed ? ::etl::FailpointHit(name) : void(0))
#else
#define ETL_FAILPOINT(name) void(0)
#endif
