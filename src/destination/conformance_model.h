#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/random.h"
#include "model/segment.h"

namespace etl {

/// A row as JSON cells, one a column, as Arrow's JSON reader takes them.
using ModelRow = std::vector<std::string>;

ColumnTypePtr ModelType(TypeKind kind);
ColumnTypePtr ModelListOf(ColumnTypePtr element, uint8_t dimensions = 1);

/// A batch of `schema`'s columns from JSON cells. Aborts on cells that do not fit: only for tests.
std::shared_ptr<arrow::RecordBatch> ModelBatch(const TableSchema& schema,
                                               const std::vector<ModelRow>& rows);

/// Rows as sorted texts that are equal exactly when the rows are.
std::vector<std::string> ModelTexts(const std::vector<std::shared_ptr<arrow::RecordBatch>>& rows);

/// A source table in memory for tests of destinations: makes random changes and knows what the
/// table then holds. Rows lie in blocks, as PostgreSQL's do, and an update may move a row to
/// another block: chunks read at different moments see what they would see there.
class ModelTable {
 public:
  struct Options {
    Identity identity = Identity::kKey;
    uint64_t seed = 1;
    uint32_t oid = 1000;
    int keys = 12;  ///< distinct keys that the changes play with
    std::string name = "t";
  };
  explicit ModelTable(const Options& options);

  const TableSchemaPtr& schema() const { return schema_; }
  /// What the table holds, as texts.
  std::vector<std::string> Texts() const;
  size_t size() const { return rows_.size(); }

  /// One transaction of up to `changes` changes; parts are appended to `parts`. Returns the number
  /// of rows.
  int64_t Transaction(Lsn commit, uint32_t xid, int changes, std::vector<SegmentPart>* parts);
  /// A truncate, or a change of the columns.
  void Truncate(Lsn commit, uint32_t xid, std::vector<SegmentPart>* parts);
  void ChangeSchema(std::vector<SegmentPart>* parts);
  /// Rows before the first segment.
  void Fill(int rows);

  static constexpr int kBlocks = 6;
  /// What a chunk over one block shows now.
  std::shared_ptr<arrow::RecordBatch> Block(int block) const;
  std::shared_ptr<arrow::RecordBatch> All() const;
  /// The rows of some keys now, for settling.
  std::shared_ptr<arrow::RecordBatch> Lookup(const arrow::RecordBatch& keys) const;

 private:
  struct Stored {
    ModelRow cells;
    int block = 0;
  };
  struct Pending {
    std::vector<ModelRow> rows;
    std::vector<Op> ops;
    std::vector<uint64_t> ordinals;
    std::vector<std::set<int>> unsent;
    std::vector<TransactionRun> transactions;
  };
  std::string RandomCell(size_t column);
  ModelRow RandomRow();
  std::string KeyOf(const ModelRow& row) const;
  void Add(Op op, ModelRow row, uint64_t ordinal, std::set<int> unsent);
  void Step(uint64_t* next);
  void StepFullRow(uint64_t* next);
  std::set<int> Unsent(const ModelRow& before, ModelRow* after);
  void Seal(Lsn commit, uint32_t xid, std::vector<SegmentPart>* parts);

  const Options options_;
  Random random_;
  TableSchemaPtr schema_;
  std::multimap<std::string, Stored> rows_;  // By key (or whole row).
  Pending pending_;
  int16_t next_attnum_ = 0;
};

}  // namespace etl
