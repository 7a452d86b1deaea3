#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

namespace etl {

/// How values of a column are parsed and stored; one kind, one column builder (contract, table of
/// types).
enum class TypeKind : uint8_t {
  kBool,
  kInt2,
  kInt4,
  kInt8,
  kOid,
  kFloat4,
  kFloat8,
  kDecimal,      ///< numeric(p,s), p <= 38, 0 <= s <= p
  kNumericText,  ///< any other numeric: utf8, as PostgreSQL prints it
  kText,         ///< binary form equals text form: text, varchar, bpchar, name, citext, xml, enum
  kChar,         ///< "char": one byte in binary, possibly an octal escape in text
  kBytea,
  kUuid,
  kJson,
  kJsonb,
  kDate,
  kTimestamp,
  kTimestampTz,
  kTime,
  kTimeTz,
  kInterval,
  kList,        ///< an array with `dimensions` declared dimensions: list nested that deep
  kStruct,      ///< a composite
  kServerText,  ///< every other type: utf8, only the server's own text form is understood
};

/// A source type, resolved through domains: the leaf of decisions made once a table, read by every
/// builder. Immutable.
struct ColumnType {
  TypeKind kind = TypeKind::kServerText;
  uint32_t oid = 0;                           ///< of the base type, domains resolved
  int32_t typmod = -1;                        ///< the column's, or the domain's
  uint8_t precision = 0;                      ///< kDecimal
  uint8_t scale = 0;                          ///< kDecimal
  uint8_t dimensions = 0;                     ///< kList
  char delimiter = ',';                       ///< kList: between elements in text form
  std::shared_ptr<const ColumnType> element;  ///< kList: the scalar (or composite) element
  struct Field;
  std::vector<Field> fields;  ///< kStruct, in attribute order, dropped ones left out
  std::string name;           ///< as a person writes it: numeric(12,2), text[]
};

struct ColumnType::Field {
  std::string name;
  std::shared_ptr<const ColumnType> type;
};

using ColumnTypePtr = std::shared_ptr<const ColumnType>;

/// The Arrow type of the contract's table. uuid and json carry Arrow's canonical extension names in
/// field metadata
/// (`ARROW:extension:name`), nested ones too; the storage types are fixed_size_binary(16) and utf8.
std::shared_ptr<arrow::DataType> ArrowTypeOf(const ColumnType& type);
std::shared_ptr<arrow::Field> ArrowFieldOf(const std::string& name, const ColumnType& type);

/// Whether our own code makes the canonical value from the server's binary form, recursively
/// (rule 8.1). One column for which this is false puts the whole stream into text.
bool BinaryUnderstood(const ColumnType& type);

}  // namespace etl
