#include "model/checkpoint.h"

namespace etl {

std::string_view TablePhaseName(TablePhase phase) {
  switch (phase) {
    case TablePhase::kWaiting: return "waiting";
    case TablePhase::kCopying: return "copying";
    case TablePhase::kLive: return "live";
    case TablePhase::kStopped: return "stopped";
  }
  return "waiting";
}

}  // namespace etl
