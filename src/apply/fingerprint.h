#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "postgres/table_facts.h"

namespace etl {

/// What of a table's system catalog entries tells whether its rows may have changed without events
/// (correctness, 7.5–7.8). A value; kept at the destination as text between runs.
struct Fingerprint {
  std::map<uint32_t, uint32_t> file_nodes;     ///< leaf oid → file node
  std::map<uint32_t, std::string> bounds;      ///< leaf oid → partition bound
  std::map<int16_t, uint32_t> attribute_rows;  ///< attnum → xmin of the pg_attribute row
  std::vector<uint32_t> publication_entries;
  uint32_t publication_row = 0;  ///< 0: not known
  std::string row_filter;
  char persistence = 'p';
  int16_t attributes = 0;  ///< attnums given so far; no reason to copy, but see StepForRelation
  std::string hash_key;    ///< HashKeyDigest of what its columns are hashed with; empty: none are
  bool partitioned = false;
  std::map<uint32_t, std::vector<TypePart>> types;  ///< TableFacts::types

  friend bool operator==(const Fingerprint&, const Fingerprint&) = default;
};

Fingerprint FingerprintOf(const TableFacts& facts);
std::string FingerprintToText(const Fingerprint& fingerprint);
/// An empty text is an empty fingerprint, with which everything agrees.
Result<Fingerprint> FingerprintFromText(std::string_view text);

/// Whether stored values of a type would be sent in another form now: a label or attribute was
/// renamed, an attribute came or went (7.10). A new label changes no value.
bool TypesChanged(const std::map<uint32_t, std::vector<TypePart>>& before,
                  const std::map<uint32_t, std::vector<TypePart>>& now);

/// Why the table must be copied again, or empty: it was rewritten (7.5), re-entered the publication
/// or changed its filter (7.8), gained, lost or truncated partitions (7.6), or uses a type that
/// changed (7.10).
std::string ReasonToCopyAgain(const Fingerprint& before, const Fingerprint& now);

}  // namespace etl
