#include "differential_workload.h"

#include <chrono>

#include <libpq-fe.h>

#include "support/compare.h"

namespace etl {
namespace {

using Random = std::mt19937_64;

int Below(Random& random, int end) {
  return static_cast<int>(random() % static_cast<uint64_t>(end));
}
bool Chance(Random& random, int percent) { return Below(random, 100) < percent; }

std::string N(int64_t number) { return std::to_string(number); }

std::string TypeOf(const ColumnModel& column) {
  switch (column.kind) {
    case ColumnKind::kBool: return "boolean";
    case ColumnKind::kInt2: return "smallint";
    case ColumnKind::kInt4: return "integer";
    case ColumnKind::kInt8: return "bigint";
    case ColumnKind::kFloat4: return "real";
    case ColumnKind::kFloat8: return "double precision";
    case ColumnKind::kNumeric: return "numeric(" + N(column.size) + ",3)";
    case ColumnKind::kBareNumeric: return "numeric";
    case ColumnKind::kText:
    case ColumnKind::kToast: return "text";
    case ColumnKind::kVarchar: return "varchar(" + N(column.size) + ")";
    case ColumnKind::kBytea: return "bytea";
    case ColumnKind::kUuid: return "uuid";
    case ColumnKind::kJson: return "json";
    case ColumnKind::kJsonb: return "jsonb";
    case ColumnKind::kDate: return "date";
    case ColumnKind::kTimestamp: return "timestamp";
    case ColumnKind::kTimestamptz: return "timestamptz";
    case ColumnKind::kTime: return "time";
    case ColumnKind::kInterval: return "interval";
    case ColumnKind::kEnum: return "public.mood";
    case ColumnKind::kIntArray: return "integer[]";
    case ColumnKind::kTextArray: return "text[]";
    case ColumnKind::kComposite: return "public.pair";
    case ColumnKind::kInet: return "inet";
    case ColumnKind::kChar: return "character(6)";
  }
  return "text";
}

std::string One(Random& random, std::initializer_list<const char*> values) {
  return *(values.begin() + Below(random, static_cast<int>(values.size())));
}

// One value, as SQL. `row`: something that differs from row to row inside a statement, or nothing.
std::string ValueOf(Random& random, const ColumnModel& column, const std::string& row = "") {
  if (Chance(random, 12)) return "NULL";
  const std::string seed =
      row.empty() ? N(Below(random, 1000)) : "(" + row + "+" + N(Below(random, 1000)) + ")";
  switch (column.kind) {
    case ColumnKind::kBool: return "(" + seed + " % 2 = 0)";
    case ColumnKind::kInt2:
      return Chance(random, 20) ? One(random, {"32767", "(-32768)::smallint"})
                                : "(" + seed + " % 30000)::smallint";
    case ColumnKind::kInt4: return Chance(random, 10) ? "2147483647" : seed;
    case ColumnKind::kInt8:
      return Chance(random, 10) ? "(-9223372036854775807 - 1)" : seed + "::bigint * 1000003";
    case ColumnKind::kFloat4:
      return Chance(random, 20)
                 ? One(random, {"'NaN'::real", "'-Infinity'::real", "'-0'::real", "1e-38::real"})
                 : "(" + seed + " / 7.0)::real";
    case ColumnKind::kFloat8:
      return Chance(random, 20)
                 ? One(random, {"'NaN'::float8", "'Infinity'::float8", "'-0'::float8",
                                "5e-324::float8", "1.7976931348623157e308::float8"})
                 : "(" + seed + " / 7.0)::float8";
    case ColumnKind::kNumeric: return "(" + seed + " / 8.0)::numeric(10,3)";
    case ColumnKind::kBareNumeric:
      return Chance(random, 25) ? One(random, {"'NaN'::numeric", "1e40::numeric", "0.00::numeric",
                                               "-12345678901234567890.000010::numeric"})
                                : "(" + seed + " / 3.0)";
    case ColumnKind::kText:
      if (Chance(random, 30))
        return One(random, {"''", "'NULL'", "E'tab\\there\\nnew \\\\ line'", "'it''s \"quoted\"'",
                            "'Grüße 🦆 日本'", "' padded '", "'\\N'", "repeat('x', 3000)"});
      return "md5((" + seed + ")::text)";
    case ColumnKind::kVarchar:
      return "substr(md5((" + seed + ")::text), 1, " + N(std::min(column.size, 30)) + ")";
    case ColumnKind::kToast:
      // Beyond a page, stored out of line and not compressed.
      return Chance(random, 25)
                 ? "'short'"
                 : "repeat(md5((" + seed + ")::text), " + N(80 + Below(random, 200)) + ")";
    case ColumnKind::kBytea:
      return Chance(random, 20) ? One(random, {"''::bytea", "'\\x00ff00'::bytea"})
                                : "decode(md5((" + seed + ")::text), 'hex')";
    case ColumnKind::kUuid: return "md5((" + seed + ")::text)::uuid";
    case ColumnKind::kJson:
      return "('{\"b\" : ' || (" + seed + ") || ', \"a\":[1, null,\"é\"]}')::json";
    case ColumnKind::kJsonb:
      return "jsonb_build_object('n', " + seed + ", 'list', '[1,2.50,{\"z\":null}]'::jsonb)";
    case ColumnKind::kDate:
      return Chance(random, 15) ? One(random, {"'infinity'::date", "'-infinity'::date",
                                               "'0044-03-15 BC'::date", "'9999-12-31'::date"})
                                : "(date '2020-01-01' + (" + seed + ")::int)";
    case ColumnKind::kTimestamp:
      return Chance(random, 15) ? One(random, {"'infinity'::timestamp", "'-infinity'::timestamp",
                                               "'0001-01-01 00:00:00.000001'::timestamp"})
                                : "(timestamp '2021-03-04 05:06:07.123456' + (" + seed +
                                      ") * interval '1.000001 second')";
    case ColumnKind::kTimestamptz:
      return Chance(random, 15) ? One(random, {"'infinity'::timestamptz",
                                               "'1999-12-31 23:59:59.999999-11'::timestamptz"})
                                : "(timestamptz '2021-03-04 05:06:07.123456+02' + (" + seed +
                                      ") * interval '1 hour')";
    case ColumnKind::kTime:
      return Chance(random, 15) ? "'24:00:00'::time"
                                : "(time '00:00:01.5' + (" + seed + ") * interval '1 second')";
    case ColumnKind::kInterval:
      return Chance(random, 30) ? One(random, {"'-1 year 2 mons -3 days 04:05:06.7'::interval",
                                               "'0'::interval", "'-00:00:00.000001'::interval"})
                                : "((" + seed + ") * interval '1 mon 2 days 3 seconds')";
    case ColumnKind::kEnum:
      return "(ARRAY['sad','ok','very happy']::public.mood[])[1 + (" + seed + ")::int % 3]";
    case ColumnKind::kIntArray:
      return Chance(random, 25) ? One(random, {"'{}'::int[]", "'{NULL,1,NULL}'::int[]"})
                                : "ARRAY[" + seed + ", 2, NULL]::int[]";
    case ColumnKind::kTextArray:
      return Chance(random, 30) ? One(random, {"'{}'::text[]", "ARRAY['a,b','\"','','NULL',NULL]"})
                                : "ARRAY['x', (" + seed + ")::text]";
    case ColumnKind::kComposite:
      return Chance(random, 15) ? "ROW(NULL, NULL)::public.pair"
                                : "ROW(" + seed + ", 'a \"b\", (c)')::public.pair";
    case ColumnKind::kInet: return "('10.0.0.0'::inet + (" + seed + "))";
    case ColumnKind::kChar: return One(random, {"'ab'", "'abcdef'", "''"});
  }
  return "NULL";
}

constexpr int kKinds = static_cast<int>(ColumnKind::kChar) + 1;

}  // namespace

std::string TableModel::Sql() const { return Quote(schema) + "." + Quote(name); }

class Workload::Session {
 public:
  explicit Session(const std::string& conninfo)
      : connection_(PQconnectdb((conninfo +
                                 " options='-c client_min_messages=error -c lock_timeout=1500 -c "
                                 "deadlock_timeout=100'")
                                    .c_str())) {}
  ~Session() { PQfinish(connection_); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  bool Do(const std::string& sql) {
    PGresult* result = PQexec(connection_, sql.c_str());
    const ExecStatusType state = PQresultStatus(result);
    const bool good = state == PGRES_COMMAND_OK || state == PGRES_TUPLES_OK;
    if (!good) error_ = sql + ": " + PQerrorMessage(connection_);
    PQclear(result);
    if (PQstatus(connection_) != CONNECTION_OK) PQreset(connection_);
    return good;
  }
  const std::string& error() const { return error_; }

 private:
  PGconn* connection_;
  std::string error_;
};

Workload::Workload(std::string conninfo, uint64_t seed)
    : conninfo_(std::move(conninfo)), seed_(seed) {}

Workload::~Workload() { Stop(); }

ColumnModel Workload::MakeColumn(Random& random) {
  static const char* const kNames[] = {"value",       "Mixed Case", "select", "quo\"te",
                                       "emoji 🦆",    "ümlaut",     "rowid",  "semi;colon",
                                       "back\\slash", "it's"};
  const std::string number = N(next_name_++);
  const std::string name =
      Chance(random, 40) ? kNames[Below(random, 10)] + std::string(" ") + number : "c" + number;
  ColumnModel column{.name = name, .kind = static_cast<ColumnKind>(Below(random, kKinds))};
  if (column.kind == ColumnKind::kVarchar) column.size = 10 + Below(random, 5);
  if (column.kind == ColumnKind::kNumeric) column.size = 10 + Below(random, 8);
  return column;
}

TableModel Workload::MakeTable(Random& random, const std::string& name) {
  TableModel table;
  table.schema = Chance(random, 25) ? "Odd Schéma" : "public";
  table.name = name;
  table.key = static_cast<KeyForm>(Below(random, 6));
  table.identity_full = table.key == KeyForm::kNone || Chance(random, 25);
  table.identity_index = !table.identity_full && Chance(random, 25);
  table.partitioned = table.key != KeyForm::kNone && !table.identity_index &&
                      !table.identity_full && Chance(random, 20);
  if (table.key == KeyForm::kComposite)
    table.keys = {"k1", "K 2"};
  else if (table.key != KeyForm::kNone)
    table.keys = {"id"};
  const int columns = 2 + Below(random, 6);
  for (int i = 0; i < columns; ++i) table.columns.push_back(MakeColumn(random));
  if (table.key == KeyForm::kNone) {
    // No json: it has no equality, and the workload picks rows by ctid only.
    table.columns.push_back({.name = "n", .kind = ColumnKind::kInt4});
  } else {
    table.columns.push_back({.name = "out of line", .kind = ColumnKind::kToast});
  }
  return table;
}

std::string Workload::CreateSql(const TableModel& table) const {
  std::string columns;
  const auto add = [&](const std::string& text) {
    columns += (columns.empty() ? "" : ", ") + text;
  };
  switch (table.key) {
    case KeyForm::kInt: add("id integer NOT NULL"); break;
    case KeyForm::kBigInt: add("id bigint NOT NULL"); break;
    case KeyForm::kText: add("id text NOT NULL"); break;
    case KeyForm::kUuid: add("id uuid NOT NULL"); break;
    case KeyForm::kComposite: add("k1 integer NOT NULL, \"K 2\" text NOT NULL"); break;
    case KeyForm::kNone: break;
  }
  for (const ColumnModel& column : table.columns) add(Quote(column.name) + " " + TypeOf(column));
  std::string keys;
  for (const std::string& key : table.keys) keys += (keys.empty() ? "" : ", ") + Quote(key);
  if (!keys.empty() && !table.identity_index) add("PRIMARY KEY (" + keys + ")");
  std::string sql = "CREATE TABLE " + table.Sql() + " (" + columns + ")";
  if (table.partitioned) {
    const std::string first = Quote(table.keys[0]);
    sql += " PARTITION BY HASH (" + first + ")";
    for (int i = 0; i < 2; ++i)
      sql += "; CREATE TABLE " + Quote(table.schema) + "." + Quote(table.name + " leaf " + N(i)) +
             " PARTITION OF " + table.Sql() + " FOR VALUES WITH (MODULUS 2, REMAINDER " + N(i) +
             ")";
  }
  for (const ColumnModel& column : table.columns)
    if (column.kind == ColumnKind::kToast)
      sql +=
          "; ALTER TABLE " + table.Sql() + " ALTER " + Quote(column.name) + " SET STORAGE EXTERNAL";
  if (table.identity_index)
    sql += "; CREATE UNIQUE INDEX " + Quote(table.name + " key") + " ON " + table.Sql() + " (" +
           keys + "); ALTER TABLE " + table.Sql() + " REPLICA IDENTITY USING INDEX " +
           Quote(table.name + " key");
  if (table.identity_full) sql += "; ALTER TABLE " + table.Sql() + " REPLICA IDENTITY FULL";
  return sql;
}

namespace {

std::string KeyValue(const TableModel& table, const std::string& number) {
  switch (table.key) {
    case KeyForm::kInt: return number;
    case KeyForm::kBigInt: return number + "::bigint * 10000000019";
    case KeyForm::kText: return "'key ' || (" + number + ")::text";
    case KeyForm::kUuid: return "md5((" + number + ")::text)::uuid";
    case KeyForm::kComposite: return "(" + number + ") % 7, 'k' || (" + number + ")::text";
    case KeyForm::kNone: return "";
  }
  return "";
}

std::string KeyList(const TableModel& table) {
  std::string keys;
  for (const std::string& key : table.keys) keys += (keys.empty() ? "" : ", ") + Quote(key);
  return keys;
}

std::string InsertSql(Random& random, const TableModel& table, const std::string& from,
                      const std::string& to) {
  std::string names = KeyList(table);
  std::string values = KeyValue(table, "i");
  for (const ColumnModel& column : table.columns) {
    names += (names.empty() ? "" : ", ") + Quote(column.name);
    values += (values.empty() ? "" : ", ") +
              ValueOf(random, column, table.key == KeyForm::kNone ? "i % 3" : "i");
  }
  return "INSERT INTO " + table.Sql() + " (" + names + ") SELECT " + values +
         " FROM generate_series(" + from + ", " + to + ") i" +
         (table.key == KeyForm::kNone ? "" : " ON CONFLICT DO NOTHING");
}

// Some rows; `count` of them at most.
std::string Where(Random& random, const TableModel& table, int count) {
  if (table.key == KeyForm::kNone)
    return " WHERE ctid = ANY (ARRAY(SELECT ctid FROM " + table.Sql() +
           " ORDER BY random() LIMIT " + N(count) + "))";
  if (Chance(random, 50) || count > 20)
    return " WHERE (" + KeyList(table) + ") IN (SELECT " + KeyList(table) + " FROM " + table.Sql() +
           " ORDER BY random() LIMIT " + N(count) + ")";
  return " WHERE (" + KeyList(table) + ") = (" + KeyValue(table, N(Below(random, 300))) + ")";
}

}  // namespace

std::string Workload::Prepare() {
  Session session(conninfo_);
  Random random(seed_);
  if (!session.Do(
          "CREATE SCHEMA \"Odd Schéma\"; CREATE TYPE public.mood AS ENUM ('sad', 'ok', 'very "
          "happy'); CREATE TYPE public.pair AS (a integer, b text)"))
    return session.error();
  static const char* const kNames[] = {"plain", "Mixed \"Table\"", "emoji 🐘", "select"};
  const int count = 1 + Below(random, 3);
  for (int i = 0; i < count; ++i) {
    TableModel table =
        MakeTable(random, kNames[(Below(random, 2) + 2 * i) % 4] + std::string(" ") + N(i));
    if (!session.Do(CreateSql(table))) return session.error();
    if (!session.Do(InsertSql(random, table, "0", N(Below(random, 1500))))) return session.error();
    history_ += CreateSql(table) + ";\n";
    tables_.push_back(std::move(table));
  }
  return "";
}

TableModel Workload::Pick(Random& random) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return tables_[static_cast<size_t>(Below(random, static_cast<int>(tables_.size())))];
}

std::string Workload::History() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return history_;
}

// One statement of a transaction; false: it failed.
bool Workload::Change(Session& session, Random& random, const TableModel& table) {
  const int what = Below(random, 100);
  const int some = 1 + (Chance(random, 20) ? Below(random, 60) : Below(random, 3));
  if (what < 25) {
    const int from = Below(random, 400);
    return session.Do(InsertSql(random, table, N(from), N(from + some)));
  }
  if (what < 55) {
    std::string sets;
    for (const ColumnModel& column : table.columns) {
      // Out-of-line values mostly stay unchanged: they are not sent then.
      if (Chance(random, column.kind == ColumnKind::kToast ? 80 : 50)) continue;
      sets += (sets.empty() ? "" : ", ") + Quote(column.name) + " = " + ValueOf(random, column);
    }
    if (sets.empty()) sets = Quote(table.columns[0].name) + " = " + Quote(table.columns[0].name);
    return session.Do("UPDATE " + table.Sql() + " SET " + sets + Where(random, table, some));
  }
  if (what < 60) {
    const std::string name = Quote(table.columns.back().name);
    return session.Do("UPDATE " + table.Sql() + " SET " + name + " = " + name +
                      Where(random, table, some));
  }
  if (what < 73 && table.key != KeyForm::kNone) {
    const std::string target = KeyValue(table, N(Below(random, 400)));
    if (Chance(random, 40)) {
      // Onto a key that is freed in the same transaction.
      session.Do("DELETE FROM " + table.Sql() + " WHERE (" + KeyList(table) + ") = (" + target +
                 ")");
    }
    if (table.key == KeyForm::kInt && Chance(random, 15))
      return session.Do("UPDATE " + table.Sql() + " SET id = id + 5000 WHERE id BETWEEN 10 AND 60");
    return session.Do("UPDATE " + table.Sql() + " SET (" + KeyList(table) + ") = ROW(" + target +
                      ")" + Where(random, table, 1));
  }
  if (what < 85) return session.Do("DELETE FROM " + table.Sql() + Where(random, table, some));
  if (what < 92) {
    const int key = Below(random, 300);
    return session.Do("DELETE FROM " + table.Sql() +
                      (table.key == KeyForm::kNone ? Where(random, table, 1)
                                                   : " WHERE (" + KeyList(table) + ") = (" +
                                                         KeyValue(table, N(key)) + ")")) &&
           session.Do(InsertSql(random, table, N(key), N(key)));
  }
  if (what < 94) return session.Do("TRUNCATE " + table.Sql());
  if (what < 97) return session.Do(InsertSql(random, table, "1000", N(1500 + Below(random, 1500))));
  return session.Do("UPDATE " + table.Sql() + " SET " + Quote(table.columns[0].name) + " = " +
                    ValueOf(random, table.columns[0]));
}

bool Workload::Transaction(Session& session, Random& random) {
  session.Do("BEGIN");
  const int changes = 1 + Below(random, 6);
  for (int i = 0; i < changes && !stop_; ++i) {
    const TableModel table = Pick(random);
    session.Do("SAVEPOINT s");
    const bool good = Change(session, random, table);
    if (!good || Chance(random, 10)) session.Do("ROLLBACK TO s");
    if (Chance(random, 50)) session.Do("RELEASE s");
  }
  return session.Do(Chance(random, 8) ? "ROLLBACK" : "COMMIT");
}

bool Workload::SchemaChange(Session& session, Random& random) {
  // One at a time, so that the model follows.
  const std::lock_guard<std::mutex> lock(mutex_);
  const size_t index = static_cast<size_t>(Below(random, static_cast<int>(tables_.size())));
  TableModel table = tables_[index];
  const size_t at = static_cast<size_t>(Below(random, static_cast<int>(table.columns.size())));
  const std::string alter = "ALTER TABLE " + table.Sql() + " ";
  std::string sql;
  switch (Below(random, 9)) {
    case 0:
    case 1: {
      const ColumnModel column = MakeColumn(random);
      sql = alter + "ADD " + Quote(column.name) + " " + TypeOf(column);
      table.columns.push_back(column);
      break;
    }
    case 2: {
      ColumnModel column = MakeColumn(random);
      sql = alter + "ADD " + Quote(column.name) + " " + TypeOf(column) + " DEFAULT " +
            ValueOf(random, column);
      table.columns.push_back(column);
      break;
    }
    case 3: {
      // A default that differs from row to row: the table is rewritten.
      ColumnModel column = MakeColumn(random);
      column.kind = ColumnKind::kFloat8;
      sql = alter + "ADD " + Quote(column.name) + " double precision DEFAULT random()";
      table.columns.push_back(column);
      break;
    }
    case 4:
      if (table.columns.size() < 3) return false;
      sql = alter + "DROP " + Quote(table.columns[at].name);
      table.columns.erase(table.columns.begin() + static_cast<std::ptrdiff_t>(at));
      break;
    case 5: {
      const std::string name = "renamed " + N(next_name_++);
      sql = alter + "RENAME " + Quote(table.columns[at].name) + " TO " + Quote(name);
      table.columns[at].name = name;
      break;
    }
    case 6: {
      ColumnModel& column = table.columns[at];
      const std::string type = alter + "ALTER " + Quote(column.name) + " TYPE ";
      if (column.kind == ColumnKind::kVarchar) {
        column.size += 10;
      } else if (column.kind == ColumnKind::kNumeric) {
        column.size += 2;
      } else if (column.kind == ColumnKind::kInt2) {
        column.kind = ColumnKind::kInt4;
      } else if (column.kind == ColumnKind::kInt4) {
        column.kind = ColumnKind::kInt8;
      } else if (column.kind == ColumnKind::kFloat4) {
        column.kind = ColumnKind::kFloat8;
      } else {
        return false;
      }
      sql = type + TypeOf(column);
      break;
    }
    // A table is renamed or created again, never both: seen only afterwards, by a run that was not
    // there meanwhile, the old table is gone and no other has its name. Then it is left behind, by
    // design, with its copy as it was (ETL-S121).
    case 7: {
      if (table.partitioned || table.created_again || !Chance(random, 50)) return false;
      const std::string name = "moved " + N(next_name_++);
      sql = alter + "RENAME TO " + Quote(name);
      table.name = name;
      table.renamed = true;
      break;
    }
    default: {
      if (table.partitioned || table.key == KeyForm::kNone || table.renamed || !Chance(random, 50))
        return false;
      // The same name, another table.
      TableModel fresh = MakeTable(random, table.name);
      fresh.schema = table.schema;
      fresh.partitioned = false;
      fresh.created_again = true;
      sql = "BEGIN; DROP TABLE " + table.Sql() + "; " + CreateSql(fresh) +
            "; ALTER PUBLICATION etl_p ADD TABLE " + fresh.Sql() + "; " +
            InsertSql(random, fresh, "0", N(Below(random, 300))) + "; COMMIT";
      if (!session.Do(sql)) {
        session.Do("ROLLBACK");
        return false;
      }
      history_ += sql + ";\n";
      tables_[index] = fresh;
      ++ddl_done_;
      return true;
    }
  }
  if (!session.Do(sql)) return false;
  history_ += sql + ";\n";
  tables_[index] = table;
  ++ddl_done_;
  return true;
}

void Workload::Work(uint64_t seed) {
  Session session(conninfo_);
  Random random(seed);
  auto next_schema_change =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(500 + Below(random, 3000));
  while (!stop_) {
    if (ddl_ && std::chrono::steady_clock::now() > next_schema_change) {
      SchemaChange(session, random);
      next_schema_change =
          std::chrono::steady_clock::now() + std::chrono::milliseconds(300 + Below(random, 3000));
    }
    Transaction(session, random);
    ++transactions_;
    if (Chance(random, 30))
      std::this_thread::sleep_for(std::chrono::milliseconds(Below(random, 40)));
  }
}

void Workload::Start(int connections) {
  for (int i = 0; i < connections; ++i)
    threads_.emplace_back([this, i] { Work(seed_ * 1000 + static_cast<uint64_t>(i)); });
}

void Workload::Stop() {
  stop_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace etl
