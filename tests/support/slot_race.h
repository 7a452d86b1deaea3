#pragma once

#include <functional>
#include <string>

#include "base/status.h"

namespace etl {

/// Brings the server into the state in which the creation of a logical slot overlooks a schema
/// change: the change is committed while the server still waits for transactions that were open
/// when the creation began, and there is no moment without an open transaction until it ends.
struct SlotRace {
  std::string conninfo;
  std::string schema_change;     ///< what is overlooked
  std::string change;            ///< on what the schema change made, just before the end
  std::function<void()> create;  ///< creates the slot; runs on a thread of its own
};

/// Returns when `create` has; makes the table public.slot_race.
Status RunSlotRace(const SlotRace& race);

}  // namespace etl
