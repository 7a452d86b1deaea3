#include "postgres/type_resolver.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

namespace etl {
namespace {

// Deeper than any sane type; keeps a damaged catalog from ending the stack.
constexpr int kMaxDepth = 32;

struct BuiltIn {
  uint32_t oid;
  TypeKind kind;
};

constexpr BuiltIn kBuiltIns[] = {
    {16, TypeKind::kBool},          {17, TypeKind::kBytea},      {18, TypeKind::kChar},
    {19, TypeKind::kText},          {20, TypeKind::kInt8},       {21, TypeKind::kInt2},
    {23, TypeKind::kInt4},          {25, TypeKind::kText},       {26, TypeKind::kOid},
    {114, TypeKind::kJson},         {142, TypeKind::kText},      {700, TypeKind::kFloat4},
    {701, TypeKind::kFloat8},       {1042, TypeKind::kText},     {1043, TypeKind::kText},
    {1082, TypeKind::kDate},        {1083, TypeKind::kTime},     {1114, TypeKind::kTimestamp},
    {1184, TypeKind::kTimestampTz}, {1186, TypeKind::kInterval}, {1266, TypeKind::kTimeTz},
    {2950, TypeKind::kUuid},        {3802, TypeKind::kJsonb},
};
constexpr uint32_t kNumeric = 1700;

void ResolveNumeric(ColumnType& type) {
  type.kind = TypeKind::kNumericText;
  if (type.typmod < 4) return;
  const int32_t t = type.typmod - 4;
  const int32_t precision = (t >> 16) & 0xffff;
  const int32_t scale = ((t & 0x7ff) ^ 1024) - 1024;
  type.name = fmt::format("numeric({},{})", precision, scale);
  if (precision > 38 || scale < 0 || scale > precision) return;
  type.kind = TypeKind::kDecimal;
  type.precision = static_cast<uint8_t>(precision);
  type.scale = static_cast<uint8_t>(scale);
}

ColumnTypePtr Resolve(const TypeRows& rows, uint32_t oid, int32_t typmod, int16_t dimensions,
                      int depth);

/// Names equal but for case cannot be fields of one struct, and a struct needs a field.
bool FitsStruct(const TypeRow& row) {
  std::set<std::string> names;
  for (const TypeRow::Attribute& attribute : row.attributes) {
    if (!names.insert(FoldCase(attribute.name)).second) return false;
  }
  return !names.empty();
}

void ResolveArray(const TypeRows& rows, const TypeRow& row, int16_t dimensions, int depth,
                  ColumnType& type) {
  ColumnTypePtr element = Resolve(rows, row.element, type.typmod, 0, depth + 1);
  // An array whose element is a domain over an array: only the server prints it.
  if (element->kind == TypeKind::kList) return;
  type.kind = TypeKind::kList;
  type.dimensions = static_cast<uint8_t>(std::clamp<int>(dimensions, 1, 6));
  const auto it = rows.find(row.element);
  type.delimiter = it == rows.end() ? ',' : it->second.delimiter;
  type.name = element->name;
  for (int i = 0; i < type.dimensions; ++i) type.name += "[]";
  type.element = std::move(element);
}

ColumnTypePtr Resolve(const TypeRows& rows, uint32_t oid, int32_t typmod, int16_t dimensions,
                      int depth) {
  auto type = std::make_shared<ColumnType>();
  type->oid = oid;
  type->typmod = typmod;
  const auto it = rows.find(oid);
  if (it == rows.end() || depth > kMaxDepth) {
    type->name = fmt::format("type {}", oid);
    return type;
  }
  const TypeRow& row = it->second;
  type->name = row.display;
  if (row.kind == 'd')
    return Resolve(rows, row.base, row.base_typmod, row.base_dimensions, depth + 1);
  if (oid == kNumeric) {
    ResolveNumeric(*type);
    return type;
  }
  for (const BuiltIn& known : kBuiltIns) {
    if (known.oid != oid) continue;
    type->kind = known.kind;
    if ((oid == 1042 || oid == 1043) && typmod >= 4) type->name += fmt::format("({})", typmod - 4);
    return type;
  }
  if (row.kind == 'e' || (row.kind == 'b' && row.name == "citext")) {
    type->kind = TypeKind::kText;
  } else if (row.element != 0) {
    ResolveArray(rows, row, dimensions, depth, *type);
  } else if (row.kind == 'c' && FitsStruct(row)) {
    type->kind = TypeKind::kStruct;
    for (const TypeRow::Attribute& attribute : row.attributes) {
      type->fields.push_back({attribute.name, Resolve(rows, attribute.type, attribute.typmod,
                                                      attribute.dimensions, depth + 1)});
    }
  }
  return type;
}

}  // namespace

ColumnTypePtr ResolveType(const TypeRows& rows, uint32_t oid, int32_t typmod, int16_t dimensions) {
  return Resolve(rows, oid, typmod, dimensions, 0);
}

std::string FoldCase(std::string_view name) {
  std::string folded(name);
  for (char& c : folded) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return folded;
}

}  // namespace etl
