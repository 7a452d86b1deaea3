#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace etl {

/// A WAL position (PostgreSQL's pg_lsn). Compared as a number, never as text.
struct Lsn {
  uint64_t value = 0;
  friend constexpr auto operator<=>(Lsn, Lsn) = default;
  constexpr bool valid() const { return value != 0; }
};

/// `0/16B3748`.
std::string FormatLsn(Lsn lsn);
std::optional<Lsn> ParseLsn(std::string_view text);

/// The place of one change: a total order, the same on every delivery (correctness rule 1.1).
/// `commit` is the start of the commit record; `ordinal` is 2·i for the i-th row message of the
/// transaction and 2·i+1 for the insert half of a key change.
struct Position {
  Lsn commit;
  uint64_t ordinal = 0;
  friend constexpr auto operator<=>(const Position&, const Position&) = default;
};

/// `0/16B3748:12`.
std::string FormatPosition(const Position& position);

/// A table, by the oid it has in the source's system catalog.
struct TableId {
  uint32_t oid = 0;
  friend constexpr auto operator<=>(TableId, TableId) = default;
};

/// Which history a position belongs to (rule 1.4). LSNs of different identities do not compare.
struct SourceIdentity {
  uint64_t system_id = 0;
  uint32_t database_oid = 0;
  std::string slot;
  friend bool operator==(const SourceIdentity&, const SourceIdentity&) = default;
};

}  // namespace etl

template <>
struct std::hash<etl::TableId> {
  size_t operator()(etl::TableId id) const noexcept { return std::hash<uint32_t>()(id.oid); }
};
