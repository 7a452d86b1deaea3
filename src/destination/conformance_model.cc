#include "destination/conformance_model.h"

#include <algorithm>

#include <arrow/api.h>
#include <arrow/json/from_string.h>

#include "base/check.h"

namespace etl {

ColumnTypePtr ModelType(TypeKind kind) {
  ColumnType type;
  type.kind = kind;
  if (kind == TypeKind::kDecimal) {
    type.precision = 12;
    type.scale = 2;
  }
  return std::make_shared<ColumnType>(type);
}

ColumnTypePtr ModelListOf(ColumnTypePtr element, uint8_t dimensions) {
  ColumnType type;
  type.kind = TypeKind::kList;
  type.dimensions = dimensions;
  type.element = std::move(element);
  return std::make_shared<ColumnType>(type);
}

std::shared_ptr<arrow::RecordBatch> ModelBatch(const TableSchema& schema,
                                               const std::vector<ModelRow>& rows) {
  const auto arrow_schema = schema.ArrowSchema();
  arrow::ArrayVector columns;
  for (int c = 0; c < arrow_schema->num_fields(); ++c) {
    std::string json = "[";
    for (const ModelRow& row : rows)
      json += (json.size() > 1 ? "," : "") + row[static_cast<size_t>(c)];
    json += "]";
    auto array = arrow::json::ArrayFromJSONString(arrow_schema->field(c)->type(), json);
    ETL_CHECK(array.ok());
    columns.push_back(*array);
  }
  return arrow::RecordBatch::Make(arrow_schema, static_cast<int64_t>(rows.size()),
                                  std::move(columns));
}

std::vector<std::string> ModelTexts(const std::vector<std::shared_ptr<arrow::RecordBatch>>& rows) {
  std::vector<std::string> texts;
  for (const auto& batch : rows) {
    for (int64_t i = 0; i < batch->num_rows(); ++i) {
      std::string text;
      for (const auto& column : batch->columns()) {
        const auto scalar = *column->GetScalar(i);
        text += scalar->is_valid ? "[" + scalar->ToString() + "]" : "NULL";
        text += "|";
      }
      texts.push_back(std::move(text));
    }
  }
  std::sort(texts.begin(), texts.end());
  return texts;
}

ModelTable::ModelTable(const Options& options) : options_(options), random_(options.seed) {
  auto schema = std::make_shared<TableSchema>();
  schema->id = {options.oid};
  schema->schema = "public";
  schema->name = options.name;
  schema->identity = options.identity;
  schema->columns = {{1, "id", ModelType(TypeKind::kInt4)},
                     {2, "Tag \"x\"", ModelType(TypeKind::kText)},
                     {3, "v", ModelType(TypeKind::kInt8)},
                     {4, "big", ModelType(TypeKind::kText)},
                     {5, "list", ModelListOf(ModelType(TypeKind::kText))},
                     {6, "f", ModelType(TypeKind::kFloat8)}};
  if (options.identity == Identity::kKey) schema->key = {0, 1};
  next_attnum_ = 7;
  schema_ = std::move(schema);
}

std::string ModelTable::RandomCell(size_t column) {
  const Column& definition = schema_->columns[column];
  if (definition.attnum == 1)
    return std::to_string(random_.Below(static_cast<uint64_t>((options_.keys + 1) / 2)));
  if (definition.attnum == 2) return random_.OneIn(2) ? "\"a\"" : "\"B b\"";
  if (random_.OneIn(5)) return "null";
  const std::string number =
      std::to_string(random_.Below(options_.identity == Identity::kKey ? 100000 : 2));
  switch (definition.type->kind) {
    case TypeKind::kText: return "\"text of some length " + number + "\"";
    case TypeKind::kList: return "[\"e" + number + "\", null]";
    case TypeKind::kFloat8: return random_.OneIn(2) ? "-0.0" : "0.5";
    default: return number;
  }
}

ModelRow ModelTable::RandomRow() {
  ModelRow row;
  for (size_t c = 0; c < schema_->columns.size(); ++c) row.push_back(RandomCell(c));
  return row;
}

std::string ModelTable::KeyOf(const ModelRow& row) const {
  std::string key;
  if (schema_->identity == Identity::kKey) {
    for (const int c : schema_->key) key += row[static_cast<size_t>(c)] + "|";
    return key;
  }
  for (const std::string& cell : row) key += cell + "|";
  return key;
}

void ModelTable::Fill(int rows) {
  for (int i = 0; i < rows; ++i) {
    ModelRow row = RandomRow();
    std::string key = KeyOf(row);
    if (schema_->identity == Identity::kKey && rows_.contains(key)) continue;
    rows_.emplace(std::move(key), Stored{std::move(row), static_cast<int>(random_.Below(kBlocks))});
  }
}

std::vector<std::string> ModelTable::Texts() const { return ModelTexts({All()}); }

std::shared_ptr<arrow::RecordBatch> ModelTable::All() const {
  std::vector<ModelRow> rows;
  for (const auto& [key, stored] : rows_) rows.push_back(stored.cells);
  return ModelBatch(*schema_, rows);
}

std::shared_ptr<arrow::RecordBatch> ModelTable::Block(int block) const {
  std::vector<ModelRow> rows;
  for (const auto& [key, stored] : rows_) {
    if (stored.block == block) rows.push_back(stored.cells);
  }
  return ModelBatch(*schema_, rows);
}

std::shared_ptr<arrow::RecordBatch> ModelTable::Lookup(const arrow::RecordBatch& keys) const {
  const std::vector<std::shared_ptr<arrow::Array>> wanted = keys.columns();
  std::set<std::string> texts;
  for (int64_t i = 0; i < keys.num_rows(); ++i) {
    std::string text;
    for (const auto& column : wanted) text += (*column->GetScalar(i))->ToString() + "|";
    texts.insert(std::move(text));
  }
  std::vector<ModelRow> rows;
  for (const auto& [key, stored] : rows_) {
    const auto one = ModelBatch(*schema_, {stored.cells});
    std::string text;
    for (const int c : schema_->key) text += (*one->column(c)->GetScalar(0))->ToString() + "|";
    if (texts.contains(text)) rows.push_back(stored.cells);
  }
  return ModelBatch(*schema_, rows);
}

void ModelTable::Add(Op op, ModelRow row, uint64_t ordinal, std::set<int> unsent) {
  for (const int c : unsent) row[static_cast<size_t>(c)] = "null";
  pending_.rows.push_back(std::move(row));
  pending_.ops.push_back(op);
  pending_.ordinals.push_back(ordinal);
  pending_.unsent.push_back(std::move(unsent));
}

std::set<int> ModelTable::Unsent(const ModelRow& before, ModelRow* after) {
  std::set<int> unsent;
  for (size_t c = 0; c < before.size(); ++c) {
    const TypeKind kind = schema_->columns[c].type->kind;
    if (schema_->columns[c].attnum <= 2 || (kind != TypeKind::kText && kind != TypeKind::kList))
      continue;
    if (random_.OneIn(2)) (*after)[c] = before[c];
    if ((*after)[c] == before[c] && before[c] != "null" && !random_.OneIn(4))
      unsent.insert(static_cast<int>(c));
  }
  return unsent;
}

void ModelTable::Step(uint64_t* next) {
  const uint64_t ordinal = 2 * (*next)++;
  ModelRow row = RandomRow();
  const std::string key = KeyOf(row);
  const auto found = rows_.find(key);
  const int block = static_cast<int>(random_.Below(kBlocks));
  if (found == rows_.end()) {
    if (!rows_.empty() && random_.OneIn(3)) {  // A key change onto a free key.
      auto other = rows_.begin();
      std::advance(other, static_cast<ptrdiff_t>(random_.Below(rows_.size())));
      const ModelRow before = other->second.cells;
      ModelRow old_key(before.size(), "null");
      for (const int c : schema_->key)
        old_key[static_cast<size_t>(c)] = before[static_cast<size_t>(c)];
      std::set<int> unsent = Unsent(before, &row);
      rows_.erase(other);
      rows_.emplace(key, Stored{row, block});
      Add(Op::kDelete, std::move(old_key), ordinal, {});
      Add(Op::kMove, std::move(row), ordinal + 1, std::move(unsent));
      return;
    }
    rows_.emplace(key, Stored{row, block});
    Add(Op::kInsert, std::move(row), ordinal, {});
  } else if (random_.OneIn(3)) {
    ModelRow old_key(row.size(), "null");
    for (const int c : schema_->key) old_key[static_cast<size_t>(c)] = row[static_cast<size_t>(c)];
    rows_.erase(found);
    Add(Op::kDelete, std::move(old_key), ordinal, {});
  } else {
    std::set<int> unsent = Unsent(found->second.cells, &row);
    found->second = Stored{row, random_.OneIn(2) ? block : found->second.block};
    Add(Op::kUpdate, std::move(row), ordinal, std::move(unsent));
  }
}

void ModelTable::StepFullRow(uint64_t* next) {
  const uint64_t ordinal = 2 * (*next)++;
  const uint64_t choice =
      schema_->identity == Identity::kNone || rows_.empty() ? 0 : random_.Below(3);
  if (choice > 0) {
    auto other = rows_.begin();
    std::advance(other, static_cast<ptrdiff_t>(random_.Below(rows_.size())));
    Add(Op::kDelete, other->second.cells, ordinal, {});
    rows_.erase(other);
    if (choice == 1) return;
  }
  ModelRow row = RandomRow();
  rows_.emplace(KeyOf(row), Stored{row, static_cast<int>(random_.Below(kBlocks))});
  Add(Op::kInsert, std::move(row), ordinal + (choice == 2 ? 1 : 0), {});
}

int64_t ModelTable::Transaction(Lsn commit, uint32_t xid, int changes,
                                std::vector<SegmentPart>* parts) {
  uint64_t next = 0;
  int64_t rows = 0;
  for (int i = 0; i < changes; ++i) {
    if (schema_->identity == Identity::kKey) {
      Step(&next);
    } else {
      StepFullRow(&next);
    }
    rows = static_cast<int64_t>(pending_.rows.size());
    // Now and then a batch ends inside a transaction.
    if (random_.OneIn(20)) Seal(commit, xid, parts);
  }
  Seal(commit, xid, parts);
  return rows;
}

void ModelTable::Seal(Lsn commit, uint32_t xid, std::vector<SegmentPart>* parts) {
  if (pending_.rows.empty()) return;
  ChangeBatch batch;
  batch.schema = schema_;
  batch.rows = ModelBatch(*schema_, pending_.rows);
  batch.ops = std::move(pending_.ops);
  batch.ordinals = std::move(pending_.ordinals);
  batch.transactions = {{commit, 1'700'000'000'000'000, xid, batch.size()}};
  batch.unsent_words = 1;
  bool any = false;
  for (const auto& unsent : pending_.unsent) {
    uint64_t bits = 0;
    for (const int c : unsent) bits |= uint64_t{1} << c;
    any = any || bits != 0;
    batch.unsent.push_back(bits);
  }
  if (!any) {
    batch.unsent.clear();
    batch.unsent_words = 0;
  }
  pending_ = {};
  parts->push_back(std::move(batch));
}

void ModelTable::Truncate(Lsn commit, uint32_t xid, std::vector<SegmentPart>* parts) {
  rows_.clear();
  parts->push_back(TruncateChange{schema_, {commit, 0}, 1'700'000'000'000'000, xid});
}

void ModelTable::ChangeSchema(std::vector<SegmentPart>* parts) {
  auto next = std::make_shared<TableSchema>(*schema_);
  SchemaChange change{.from = schema_};
  ++next->version;
  // Two names are swapped, or a column goes, or one comes, with or without a value for the rows
  // that are there.
  const size_t last = next->columns.size() - 1;
  if (next->columns.size() > 4 && random_.OneIn(2)) {
    const size_t column = 2 + random_.Below(next->columns.size() - 2);
    if (random_.OneIn(2) && column != last) {
      std::swap(next->columns[column].name, next->columns[last].name);
    } else {
      next->columns.erase(next->columns.begin() + static_cast<ptrdiff_t>(column));
      for (auto& [key, stored] : rows_)
        stored.cells.erase(stored.cells.begin() + static_cast<ptrdiff_t>(column));
    }
  } else {
    const TypeKind kind = random_.OneIn(2) ? TypeKind::kText : TypeKind::kInt8;
    Column column{next_attnum_++, "added " + std::to_string(next_attnum_), ModelType(kind)};
    std::string cell = "null";
    if (random_.OneIn(2)) {
      cell = kind == TypeKind::kText ? "\"it's\"" : "-7";
      change.fill[column.attnum] =
          *arrow::json::ArrayFromJSONString(ArrowTypeOf(*column.type), "[" + cell + "]");
    }
    next->columns.push_back(std::move(column));
    for (auto& [key, stored] : rows_) stored.cells.push_back(cell);
  }
  if (schema_->identity != Identity::kKey) {
    std::multimap<std::string, Stored> renamed;
    for (auto& [key, stored] : rows_) {
      std::string name = KeyOf(stored.cells);
      renamed.emplace(std::move(name), std::move(stored));
    }
    rows_ = std::move(renamed);
  }
  change.to = next;
  schema_ = std::move(next);
  parts->push_back(std::move(change));
}

}  // namespace etl
