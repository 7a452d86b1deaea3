#include "control/json_value.h"

#include <vector>

#include <fmt/format.h>

#include "decode/container.h"
#include "decode/scalar.h"

namespace etl {
namespace {

Status Malformed(const ColumnType& type, CellResult result) {
  const bool data = IsUnrepresentable(result);
  return MakeError(
      data ? ErrorKind::kData : ErrorKind::kInternal, data ? "ETL-D140" : "ETL-P310",
      fmt::format("a value of type {} cannot be read: {}", type.name, ReasonOf(result)));
}

// NaN and the infinities are no JSON numbers.
bool IsNumber(std::string_view text) {
  const size_t first = text.starts_with('-') ? 1 : 0;
  return first < text.size() && text[first] >= '0' && text[first] <= '9';
}

// ISO 8601 as to_json has it: a T before the time, and minutes in the offset.
std::string IsoTime(std::string_view text, bool with_zone) {
  const size_t space = text.find(' ');
  // An infinite one has no time.
  if (space == std::string_view::npos) return std::string(text);
  std::string out = fmt::format("{}T", text.substr(0, space));
  std::string_view time = text.substr(space + 1);
  std::string_view era;
  if (time.ends_with(" BC")) {
    era = " BC";
    time.remove_suffix(era.size());
  }
  out += time;
  if (with_zone) {
    const size_t sign = time.find_first_of("+-");
    if (sign != std::string_view::npos && time.find(':', sign) == std::string_view::npos)
      out += ":00";
  }
  return out.append(era);
}

// Line ends stand in a json only between its parts; inside its strings they are escaped.
void AppendRaw(std::string_view json, std::string* out) {
  for (char c : json) out->push_back(c == '\n' || c == '\r' ? ' ' : c);
}

void Nest(const std::vector<std::string>& items, const ArrayShape& shape, int depth, size_t* at,
          std::string* out) {
  *out += '[';
  for (int i = 0; i < shape.sizes[static_cast<size_t>(depth)]; ++i) {
    if (i > 0) *out += ',';
    if (depth + 1 < shape.dimensions) {
      Nest(items, shape, depth + 1, at, out);
    } else if (*at < items.size()) {
      *out += items[(*at)++];
    }
  }
  *out += ']';
}

Status AppendArray(const ColumnType& type, std::string_view text, std::string* out) {
  std::string scratch;
  ArrayTextReader reader(text, type.delimiter, &scratch);
  std::vector<std::string> items;
  ContainerItem item;
  while (reader.Next(&item)) {
    std::string& value = items.emplace_back();
    if (item.null) {
      value = "null";
    } else {
      ETL_RETURN_IF_ERROR(AppendJsonValue(*type.element, item.bytes, &value));
    }
  }
  if (reader.result() != CellResult::kOk) return Malformed(type, reader.result());
  size_t at = 0;
  if (reader.shape().dimensions == 0) {
    *out += "[]";
  } else {
    Nest(items, reader.shape(), 0, &at, out);
  }
  return Status::OK();
}

Status AppendComposite(const ColumnType& type, std::string_view text, std::string* out) {
  std::string scratch;
  CompositeTextReader reader(text, &scratch);
  ContainerItem item;
  size_t count = 0;
  *out += '{';
  for (; reader.Next(&item); ++count) {
    if (count >= type.fields.size()) return Malformed(type, CellResult::kAttributes);
    const ColumnType::Field& field = type.fields[count];
    if (count > 0) *out += ',';
    AppendJsonString(field.name, out);
    *out += ':';
    if (item.null) {
      *out += "null";
    } else {
      ETL_RETURN_IF_ERROR(AppendJsonValue(*field.type, item.bytes, out));
    }
  }
  if (reader.result() != CellResult::kOk) return Malformed(type, reader.result());
  if (count != type.fields.size()) return Malformed(type, CellResult::kAttributes);
  *out += '}';
  return Status::OK();
}

}  // namespace

void AppendJsonString(std::string_view text, std::string* out) {
  *out += '"';
  for (char c : text) {
    switch (c) {
      case '\b': *out += "\\b"; break;
      case '\f': *out += "\\f"; break;
      case '\n': *out += "\\n"; break;
      case '\r': *out += "\\r"; break;
      case '\t': *out += "\\t"; break;
      case '"': *out += "\\\""; break;
      case '\\': *out += "\\\\"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          *out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        } else {
          out->push_back(c);
        }
    }
  }
  *out += '"';
}

Status AppendJsonValue(const ColumnType& type, std::string_view text, std::string* out) {
  // Bytes of a database without an encoding have no place in JSON.
  if (!IsUtf8(text)) return Malformed(type, CellResult::kNotUtf8);
  switch (type.kind) {
    case TypeKind::kBool: *out += text == "t" ? "true" : "false"; return Status::OK();
    case TypeKind::kInt2:
    case TypeKind::kInt4:
    case TypeKind::kInt8:
    case TypeKind::kFloat4:
    case TypeKind::kFloat8:
    case TypeKind::kDecimal:
    case TypeKind::kNumericText:
      if (IsNumber(text)) {
        *out += text;
      } else {
        AppendJsonString(text, out);
      }
      return Status::OK();
    case TypeKind::kJson:
    case TypeKind::kJsonb: AppendRaw(text, out); return Status::OK();
    case TypeKind::kTimestamp: AppendJsonString(IsoTime(text, false), out); return Status::OK();
    case TypeKind::kTimestampTz: AppendJsonString(IsoTime(text, true), out); return Status::OK();
    case TypeKind::kList: return AppendArray(type, text, out);
    case TypeKind::kStruct: return AppendComposite(type, text, out);
    default: AppendJsonString(text, out); return Status::OK();
  }
}

}  // namespace etl
