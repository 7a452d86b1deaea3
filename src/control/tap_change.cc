#include "control/tap_change.h"

#include <algorithm>

#include <arrow/array/array_binary.h>
#include <arrow/array/util.h>
#include <fmt/format.h>

#include "batch/hash_builder.h"
#include "control/json_value.h"

namespace etl {
namespace {

bool Names(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool HasValue(const Cell& cell) { return cell.kind == 't' || cell.kind == 'b'; }

// A column that the catalog no longer, or not yet, shows like this is told as text.
ColumnTypePtr TypeOf(const RelationColumn& column, const TableFacts* facts) {
  if (facts != nullptr) {
    for (const AttributeFacts& attribute : facts->columns) {
      if (attribute.name == column.name && attribute.type_oid == column.type_oid)
        return attribute.type;
    }
  }
  static const ColumnTypePtr text = std::make_shared<const ColumnType>();
  return text;
}

std::vector<std::string> KeyOf(const DecodedMessage& relation, const TableFacts* facts) {
  std::vector<std::string> key;
  if (facts != nullptr) {
    for (const AttributeFacts& attribute : facts->columns) {
      if (std::find(facts->key.begin(), facts->key.end(), attribute.attnum) != facts->key.end())
        key.push_back(attribute.name);
    }
    return key;
  }
  // With FULL every column is marked, which makes none of them a key.
  if (relation.replica_identity == 'f') return key;
  for (const RelationColumn& column : relation.columns) {
    if (column.key) key.emplace_back(column.name);
  }
  return key;
}

}  // namespace

Result<std::unique_ptr<TapTable>> TapTable::Make(const DecodedMessage& relation,
                                                 const TableFacts* facts, const Options& options) {
  std::unique_ptr<TapTable> table(new TapTable());
  table->name_ =
      fmt::format("{}.{}", relation.schema.empty() ? "pg_catalog" : relation.schema, relation.name);
  const std::vector<std::string> key = KeyOf(relation, facts);
  for (const RelationColumn& from : relation.columns) {
    Column& column = table->columns_.emplace_back();
    column.name = from.name;
    column.type = TypeOf(from, facts);
    column.excluded = Names(options.rules.exclude, from.name);
    column.key = Names(key, from.name);
    if (!column.excluded && Names(options.rules.hash, from.name)) {
      ETL_ASSIGN_OR_RETURN(column.hash, MakeHashBuilder(column.type, options.hash_key));
    }
  }
  return table;
}

void TapTable::Begin(Lsn commit, UnixMicros commit_time, uint32_t xid) {
  commit_ = commit;
  commit_time_ = commit_time;
  xid_ = xid;
}

Status TapTable::AppendValue(Column& column, std::string_view text, std::string* out) {
  if (column.hash == nullptr) {
    const Status status = AppendJsonValue(*column.type, text, out);
    return status.ok() ? status
                       : WithContext(status, fmt::format("{}, column {}", name_, column.name));
  }
  if (column.hash->AppendText(text) != CellResult::kOk)
    return MakeError(ErrorKind::kInternal, "ETL-D144", "a value could not be hashed");
  const arrow::StringArray hashed(column.hash->Finish());
  AppendJsonString(hashed.GetView(0), out);
  return Status::OK();
}

Result<std::string> TapTable::Object(std::span<const Cell> cells, Which which) {
  std::string out = "{";
  for (size_t i = 0; i < cells.size(); ++i) {
    Column& column = columns_[i];
    if (column.excluded || cells[i].kind == 'u' || (which == Which::kKey && !column.key)) continue;
    if (out.size() > 1) out += ',';
    AppendJsonString(column.name, &out);
    out += ':';
    if (HasValue(cells[i])) {
      ETL_RETURN_IF_ERROR(AppendValue(column, cells[i].bytes, &out));
    } else {
      out += "null";
    }
  }
  return out + "}";
}

bool TapTable::HasKey() const {
  return std::any_of(columns_.begin(), columns_.end(), [](const Column& c) { return c.key; });
}

// An out-of-line key comes with its old value though it is unchanged; then the new row does not
// send it, or sends the same bytes.
bool TapTable::KeyChanges(std::span<const Cell> old_row, std::span<const Cell> row) const {
  for (size_t i = 0; i < columns_.size(); ++i) {
    if (!columns_[i].key || row[i].kind == 'u') continue;
    if (row[i].kind != old_row[i].kind || row[i].bytes != old_row[i].bytes) return true;
  }
  return false;
}

Result<std::string> TapTable::Line(char op, uint64_t ordinal, std::span<const Cell> key_row,
                                   char old_kind, std::span<const Cell> old_row,
                                   std::span<const Cell> row) {
  std::string key = "null";
  std::string old = "null";
  std::string fresh = "null";
  std::string unchanged;
  if (HasKey() && !key_row.empty()) {
    ETL_ASSIGN_OR_RETURN(key, Object(key_row, Which::kKey));
  }
  if (old_kind != 0) {
    ETL_ASSIGN_OR_RETURN(old, Object(old_row, old_kind == 'O' ? Which::kAll : Which::kKey));
  }
  if (!row.empty()) {
    ETL_ASSIGN_OR_RETURN(fresh, Object(row, Which::kAll));
  }
  for (size_t i = 0; i < row.size(); ++i) {
    if (row[i].kind != 'u' || columns_[i].excluded) continue;
    if (!unchanged.empty()) unchanged += ',';
    AppendJsonString(columns_[i].name, &unchanged);
  }
  std::string table;
  AppendJsonString(name_, &table);
  return fmt::format(
      R"({{"table":{},"op":"{}","position":"{}","commit_ts":"{}","xid":{},"key":{},"old":{},"new":{},"unchanged":[{}]}})",
      table, op, FormatPosition({commit_, ordinal}), FormatUtc(commit_time_), xid_, key, old, fresh,
      unchanged);
}

Result<std::vector<std::string>> TapTable::Changes(const DecodedMessage& message,
                                                   uint64_t ordinal) {
  std::vector<std::string> lines;
  const auto add = [&](Result<std::string> line) -> Status {
    ETL_RETURN_IF_ERROR(line.status());
    lines.push_back(std::move(*line));
    return Status::OK();
  };
  if (message.type == MessageType::kTruncate) {
    ETL_RETURN_IF_ERROR(add(Line('t', ordinal, {}, 0, {}, {})));
    return lines;
  }
  // A message is reused: only what belongs to its type has a meaning.
  const char kind = message.type == MessageType::kInsert ? '\0' : message.old_kind;
  const bool has_row = message.type != MessageType::kDelete;
  if ((has_row && message.cells.size() != columns_.size()) ||
      (kind != 0 && message.old_cells.size() != columns_.size())) {
    return MakeError(ErrorKind::kInternal, "ETL-D142",
                     name_ + ": a row does not have the table's columns");
  }
  if (message.type == MessageType::kInsert) {
    ETL_RETURN_IF_ERROR(add(Line('i', ordinal, message.cells, 0, {}, message.cells)));
  } else if (message.type == MessageType::kDelete) {
    ETL_RETURN_IF_ERROR(add(Line('d', ordinal, message.old_cells, kind, message.old_cells, {})));
  } else {
    // What was not sent again is taken from the old row where that is known.
    std::vector<Cell> row(message.cells);
    for (size_t i = 0; kind != 0 && i < row.size(); ++i) {
      const bool known = kind == 'O' || columns_[i].key;
      if (row[i].kind == 'u' && known && HasValue(message.old_cells[i]))
        row[i] = message.old_cells[i];
    }
    const bool moves =
        kind != 0 && (HasKey() ? KeyChanges(message.old_cells, message.cells) : kind == 'O');
    if (moves) {
      ETL_RETURN_IF_ERROR(add(Line('d', ordinal, message.old_cells, kind, message.old_cells, {})));
      ETL_RETURN_IF_ERROR(add(Line('i', ordinal + 1, row, 0, {}, row)));
    } else {
      ETL_RETURN_IF_ERROR(add(Line('u', ordinal, row, kind, message.old_cells, row)));
    }
  }
  return lines;
}

}  // namespace etl
