#include "destination/duckdb/final_rows.h"

#include <bit>
#include <cstring>
#include <functional>

#include <arrow/api.h>

#include "base/check.h"

namespace etl {
namespace {

/// Appends one value's bytes so that different values, and only they, give different bytes.
void AppendValue(const arrow::Array& array, int64_t row, std::vector<char>* out);

void AppendSized(const void* data, size_t size, std::vector<char>* out) {
  const auto length = static_cast<uint32_t>(size);
  const char* header = reinterpret_cast<const char*>(&length);
  out->insert(out->end(), header, header + sizeof(length));
  const char* bytes = static_cast<const char*>(data);
  out->insert(out->end(), bytes, bytes + size);
}

void AppendFixed(const arrow::Array& array, int64_t row, int width, std::vector<char>* out) {
  const uint8_t* data = array.data()->buffers[1]->data() + (array.offset() + row) * width;
  out->insert(out->end(), data, data + width);
}

void AppendValue(const arrow::Array& array, int64_t row, std::vector<char>* out) {
  if (array.IsNull(row)) {
    out->push_back(0);
    return;
  }
  out->push_back(1);
  switch (array.type_id()) {
    case arrow::Type::BOOL:
      out->push_back(static_cast<const arrow::BooleanArray&>(array).Value(row) ? 1 : 0);
      return;
    case arrow::Type::STRING:
    case arrow::Type::BINARY: {
      const std::string_view view = static_cast<const arrow::BinaryArray&>(array).GetView(row);
      AppendSized(view.data(), view.size(), out);
      return;
    }
    case arrow::Type::LIST: {
      const auto& list = static_cast<const arrow::ListArray&>(array);
      const int32_t length = list.value_length(row);
      const char* header = reinterpret_cast<const char*>(&length);
      out->insert(out->end(), header, header + sizeof(length));
      for (int32_t i = 0; i < length; ++i)
        AppendValue(*list.values(), list.value_offset(row) + i, out);
      return;
    }
    case arrow::Type::STRUCT: {
      const auto& structs = static_cast<const arrow::StructArray&>(array);
      for (int i = 0; i < structs.num_fields(); ++i) AppendValue(*structs.field(i), row, out);
      return;
    }
    default: break;
  }
  AppendFixed(array, row, array.type()->byte_width(), out);
}

}  // namespace

Result<RowBytes> RowBytes::Make(const arrow::RecordBatch& rows, const std::vector<int>& columns) {
  RowBytes result;
  const auto size = static_cast<size_t>(rows.num_rows());
  result.offsets_.reserve(size + 1);
  result.offsets_.push_back(0);
  result.bytes_.reserve(size * columns.size() * 9);
  std::vector<std::shared_ptr<arrow::Array>> arrays;
  for (const int column : columns) arrays.push_back(rows.column(column));
  for (int64_t row = 0; row < rows.num_rows(); ++row) {
    for (const auto& array : arrays) AppendValue(*array, row, &result.bytes_);
    result.offsets_.push_back(result.bytes_.size());
  }
  return result;
}

std::vector<int32_t> GroupRows(const RowBytes& bytes, int64_t rows, std::vector<int64_t>* first) {
  const size_t capacity = std::bit_ceil(static_cast<size_t>(rows) * 2 + 1);
  struct Entry {
    size_t hash;
    int32_t group;
  };
  std::vector<Entry> table(capacity, Entry{0, -1});
  std::vector<int32_t> groups;
  groups.reserve(static_cast<size_t>(rows));
  for (int64_t row = 0; row < rows; ++row) {
    const std::string_view key = bytes.At(row);
    const size_t hash = std::hash<std::string_view>()(key);
    size_t slot = hash & (capacity - 1);
    while (table[slot].group >= 0 &&
           (table[slot].hash != hash ||
            bytes.At((*first)[static_cast<size_t>(table[slot].group)]) != key))
      slot = (slot + 1) & (capacity - 1);
    if (table[slot].group < 0) {
      table[slot] = {hash, static_cast<int32_t>(first->size())};
      first->push_back(row);
    }
    groups.push_back(table[slot].group);
  }
  return groups;
}

namespace {

/// Follows the unsent values of a batch back to where they were sent.
class UnsentChains {
 public:
  explicit UnsentChains(const ChangeBatch& batch)
      : batch_(batch), columns_(static_cast<int>(batch.schema->columns.size())) {
    if (!batch.unsent.empty()) chain_of_.assign(batch.ops.size(), -1);
  }

  /// `row` is the newest state of its key; `previous` is the batch row it takes unsent values from,
  /// or -1 for the target row of key `origin`.
  void Link(int64_t row, int64_t previous, int64_t origin) {
    if (!AnyUnsent(row)) return;
    chain_of_[static_cast<size_t>(row)] = static_cast<int64_t>(chains_.size());
    for (int c = 0; c < columns_; ++c) {
      int64_t source = row;
      if (batch_.Unsent(row, c)) source = previous >= 0 ? Source(previous, c) : -(origin + 1);
      chains_.push_back(source);
    }
  }

  int64_t Source(int64_t row, int column) const {
    const int64_t chain = chain_of_.empty() ? -1 : chain_of_[static_cast<size_t>(row)];
    return chain < 0 ? row : chains_[static_cast<size_t>(chain + column)];
  }
  bool Linked(int64_t row) const {
    return !chain_of_.empty() && chain_of_[static_cast<size_t>(row)] >= 0;
  }

 private:
  bool AnyUnsent(int64_t row) const {
    if (batch_.unsent.empty()) return false;
    for (int w = 0; w < batch_.unsent_words; ++w) {
      if (batch_.unsent[static_cast<size_t>(row * batch_.unsent_words + w)] != 0) return true;
    }
    return false;
  }

  const ChangeBatch& batch_;
  const int columns_;
  std::vector<int64_t> chain_of_;
  std::vector<int64_t> chains_;
};

constexpr int64_t kUntouched = -2;
constexpr int64_t kGone = -1;

/// Turns "which row is last" into index lists.
void Collect(const ChangeBatch& batch, const UnsentChains& chains,
             const std::vector<int64_t>& current, FinalRows* result) {
  bool linked = false;
  for (const int64_t row : current) {
    if (row < 0) continue;
    result->rows.push_back(row);
    linked = linked || chains.Linked(row);
  }
  if (!linked) return;
  std::vector<bool> wanted(result->key_rows.size(), false);
  result->sources.resize(batch.schema->columns.size());
  for (size_t c = 0; c < result->sources.size(); ++c) {
    std::vector<int64_t> sources;
    bool differs = false;
    for (const int64_t row : result->rows) {
      const int64_t source = chains.Source(row, static_cast<int>(c));
      differs = differs || source != row;
      sources.push_back(source);
      if (source < 0) wanted[static_cast<size_t>(-source - 1)] = true;
    }
    if (differs) result->sources[c] = std::move(sources);
  }
  for (size_t key = 0; key < wanted.size(); ++key) {
    if (wanted[key]) result->wanted.push_back(static_cast<int64_t>(key));
  }
}

}  // namespace

Result<FinalRows> ComputeFinalRows(const ChangeBatch& batch) {
  ETL_CHECK(batch.schema->identity == Identity::kKey && !batch.schema->key.empty());
  ETL_ASSIGN_OR_RETURN(const RowBytes bytes, RowBytes::Make(*batch.rows, batch.schema->key));
  FinalRows result;
  const std::vector<int32_t> groups = GroupRows(bytes, batch.size(), &result.key_rows);
  std::vector<int64_t> current(result.key_rows.size(), kUntouched);
  UnsentChains chains(batch);
  result.only_inserts = true;
  int64_t moved_from = kGone;  // The newest batch row of the key that the row before deleted.
  for (int64_t row = 0; row < batch.size(); ++row) {
    const auto group = static_cast<size_t>(groups[static_cast<size_t>(row)]);
    int64_t& state = current[group];
    const Op op = batch.ops[static_cast<size_t>(row)];
    if (op != Op::kInsert) result.only_inserts = false;
    const bool creates = op == Op::kInsert || op == Op::kMove;
    if (state == kUntouched) {
      if (!creates) ++result.existing;
    } else if (creates != (state == kGone)) {
      result.contradiction = true;
    }
    switch (op) {
      case Op::kDelete:
        moved_from = state;
        state = kGone;
        break;
      case Op::kMove: {
        ETL_CHECK(row > 0);
        const int64_t origin = groups[static_cast<size_t>(row - 1)];
        chains.Link(row, moved_from >= 0 ? moved_from : -1, origin);
        state = row;
        break;
      }
      case Op::kInsert:
      case Op::kSnapshot: state = row; break;
      case Op::kUpdate:
        chains.Link(row, state >= 0 ? state : -1, static_cast<int64_t>(group));
        state = row;
        break;
    }
  }
  Collect(batch, chains, current, &result);
  return result;
}

}  // namespace etl
