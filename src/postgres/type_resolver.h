#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/column_type.h"

namespace etl {

/// One row of pg_type, as the type closure query shows it.
struct TypeRow {
  uint32_t oid = 0;
  std::string name;     ///< typname
  std::string display;  ///< format_type(oid, NULL)
  char kind = 'b';      ///< typtype
  char category = 'U';
  uint32_t element = 0;  ///< typelem of a true array (typarray of the element is this type), else 0
  uint32_t base = 0;     ///< typbasetype of a domain
  int32_t base_typmod = -1;
  int16_t base_dimensions = 0;  ///< typndims of a domain
  char delimiter = ',';
  struct Attribute {
    int16_t attnum = 0;
    std::string name;
    uint32_t type = 0;
    int32_t typmod = -1;
    int16_t dimensions = 0;
    uint32_t row_xmin = 0;  ///< xmin of the pg_attribute row
  };
  std::vector<Attribute> attributes;  ///< of a composite, in order, dropped ones left out
  struct Label {
    uint32_t oid = 0;
    std::string text;
    uint32_t row_xmin = 0;  ///< xmin of the pg_enum row
  };
  std::vector<Label> labels;  ///< of an enum
};

using TypeRows = std::map<uint32_t, TypeRow>;

/// The type of a column or attribute of type `oid`, resolved recursively. Types that are not in
/// `rows` become kServerText.
ColumnTypePtr ResolveType(const TypeRows& rows, uint32_t oid, int32_t typmod, int16_t dimensions);

/// Lower case of ASCII letters; the way names are compared where case does not count.
std::string FoldCase(std::string_view name);

}  // namespace etl
