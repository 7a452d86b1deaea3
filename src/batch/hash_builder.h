#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "batch/column_builder.h"
#include "model/column_type.h"

namespace etl {

/// A builder of utf8 that stores the lower-case hex HMAC-SHA-256, under `key`, of the text form of
/// values of `type`. From binary it knows the text of the simple types; kNeedsText for the others.
Result<std::unique_ptr<ColumnBuilder>> MakeHashBuilder(ColumnTypePtr type, std::string_view key);

/// Tells one key from another without giving it away: a MAC of a fixed text under it.
Result<std::string> HashKeyDigest(std::string_view key);

/// Whether MakeHashBuilder's builder takes the binary form of `type`.
bool HashUnderstoodInBinary(const ColumnType& type);

}  // namespace etl
