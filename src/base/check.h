#pragma once

namespace etl {
/// Prints where an invariant of ours broke and aborts. Never used for input from outside.
[[noreturn]] void CheckFailed(const char* expression, const char* file, int line);
}  // namespace etl

/// Our own invariants; stays on in release.
#define ETL_CHECK(condition) \
  (static_cast<bool>(condition) ? void(0) : ::etl::CheckFailed(#condition, __FILE__, __LINE__))
#ifdef NDEBUG
#define ETL_DCHECK(condition) void(0)
#else
#define ETL_DCHECK(condition) ETL_CHECK(condition)
#endif
