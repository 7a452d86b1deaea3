#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace etl {

/// What a column holds; each kind has its SQL type and its values.
enum class ColumnKind {
  kBool,
  kInt2,
  kInt4,
  kInt8,
  kFloat4,
  kFloat8,
  kNumeric,
  kBareNumeric,
  kText,
  kVarchar,
  kToast,
  kBytea,
  kUuid,
  kJson,
  kJsonb,
  kDate,
  kTimestamp,
  kTimestamptz,
  kTime,
  kInterval,
  kEnum,
  kIntArray,
  kTextArray,
  kComposite,
  kInet,
  kChar,
};

struct ColumnModel {
  std::string name;
  ColumnKind kind;
  int size = 0;  ///< varchar and numeric
};

enum class KeyForm { kInt, kBigInt, kText, kUuid, kComposite, kNone };

struct TableModel {
  std::string schema = "public";
  std::string name;
  KeyForm key = KeyForm::kInt;
  bool identity_full = false;
  bool identity_index = false;  ///< no primary key, a unique index instead
  bool partitioned = false;
  bool renamed = false;
  bool created_again = false;        ///< dropped, and another one created under its name
  std::vector<std::string> keys;     ///< names of the key columns
  std::vector<ColumnModel> columns;  ///< besides the key
  std::string Sql() const;           ///< schema and name, quoted
};

/// A random schema, and random transactions on it from several connections at once. Everything is
/// drawn from the seed, but connections run at their own speed: a seed gives the same kind of
/// trouble again, not the same order.
class Workload {
 public:
  Workload(std::string conninfo, uint64_t seed);
  ~Workload();

  /// Makes types, tables and first rows. Returns an error's text, or nothing.
  std::string Prepare();
  void Start(int connections);
  void Stop();
  /// "ddl" off: only rows change.
  void set_ddl(bool on) { ddl_ = on; }
  int64_t transactions() const { return transactions_; }
  int64_t ddl_done() const { return ddl_done_; }
  /// Every DDL statement that was committed, for the report of a failure.
  std::string History();

 private:
  class Session;
  using Random = std::mt19937_64;
  void Work(uint64_t seed);
  bool Transaction(Session& session, Random& random);
  bool Change(Session& session, Random& random, const TableModel& table);
  bool SchemaChange(Session& session, Random& random);
  TableModel Pick(Random& random);
  std::string CreateSql(const TableModel& table) const;
  TableModel MakeTable(Random& random, const std::string& name);
  ColumnModel MakeColumn(Random& random);

  const std::string conninfo_;
  const uint64_t seed_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> ddl_{true};
  std::atomic<int64_t> transactions_{0};
  std::atomic<int64_t> ddl_done_{0};
  std::vector<std::thread> threads_;
  std::mutex mutex_;  // guards what follows
  std::vector<TableModel> tables_;
  std::string history_;
  int next_name_ = 0;
};

}  // namespace etl
