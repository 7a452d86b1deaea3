// Values of every type, printed by a real server in both forms of COPY: what lands must be the
// same, and nothing of it may be refused that the types can hold. Random, by seed: ETL_TYPES_SEED
// repeats one.
#include <cstdlib>
#include <functional>
#include <sstream>

#include <arrow/array.h>
#include <arrow/compare.h>
#include <arrow/record_batch.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>

#include "base/random.h"
#include "batch/table_batcher.h"
#include "support/pg_server.h"

namespace etl {
namespace {

constexpr int kRows = 400;

ColumnTypePtr Scalar(TypeKind kind, uint8_t precision = 0, uint8_t scale = 0) {
  auto type = std::make_shared<ColumnType>();
  type->kind = kind;
  type->precision = precision;
  type->scale = scale;
  return type;
}

ColumnTypePtr List(ColumnTypePtr element, uint8_t dimensions) {
  auto type = std::make_shared<ColumnType>();
  type->kind = TypeKind::kList;
  type->element = std::move(element);
  type->dimensions = dimensions;
  return type;
}

struct TypeCase {
  std::string sql;  ///< the column's type
  ColumnTypePtr type;
  std::function<std::string(Random&)> literal;  ///< of the SQL type, without quotes and cast
};

std::string Digits(Random& random, uint64_t count) {
  std::string digits;
  for (uint64_t i = 0; i < count; ++i) digits.push_back(static_cast<char>('0' + random.Below(10)));
  return digits.empty() ? "0" : digits;
}

std::string Pick(Random& random, std::initializer_list<const char*> values) {
  return values.begin()[random.Below(values.size())];
}

std::string Integer(Random& random, int bits) {
  const auto value = static_cast<int64_t>(random.Next()) >> (64 - bits) >>
                     random.Below(static_cast<uint64_t>(bits));
  return std::to_string(value);
}

std::string AnyText(Random& random) {
  static const char* const kPieces[] = {"a",
                                        "B ",
                                        "\"",
                                        "\\",
                                        ",",
                                        "{",
                                        "}",
                                        "(",
                                        ")",
                                        "NULL",
                                        "\t",
                                        "\n",
                                        "\r",
                                        "\b",
                                        "\f",
                                        "\v",
                                        "'",
                                        "\xc3\xa4",
                                        "\xe2\x82\xac",
                                        "\xf0\x9f\x98\x80",
                                        "\\N",
                                        ";",
                                        "[1:2]=",
                                        " "};
  std::string text;
  for (uint64_t i = random.Below(8); i > 0; --i) text += kPieces[random.Below(std::size(kPieces))];
  return text;
}

std::string NumberText(Random& random, uint64_t before, uint64_t after) {
  std::string text = random.OneIn(2) ? "-" : "";
  text += Digits(random, random.Below(before + 1));
  if (after > 0) text += "." + Digits(random, 1 + random.Below(after));
  return text;
}

std::string Clock(Random& random) {
  char text[32];
  std::snprintf(text, sizeof(text), "%02d:%02d:%02d", static_cast<int>(random.Below(24)),
                static_cast<int>(random.Below(60)), static_cast<int>(random.Below(60)));
  return random.OneIn(2) ? text : std::string(text) + "." + Digits(random, 1 + random.Below(6));
}

// A day of any era; the last years only where `year_max` allows.
std::string Day(Random& random, uint64_t year_max) {
  const bool bc = random.OneIn(8);
  const uint64_t year = 1 + random.Below(bc ? 4700 : random.OneIn(2) ? 9999 : year_max);
  char text[48];
  std::snprintf(text, sizeof(text), "%04llu-%02d-%02d", static_cast<unsigned long long>(year),
                1 + static_cast<int>(random.Below(12)), 1 + static_cast<int>(random.Below(28)));
  return std::string(text) + (bc ? " BC" : "");
}

std::string Moment(Random& random) {
  if (random.OneIn(20)) return random.OneIn(2) ? "infinity" : "-infinity";
  if (random.OneIn(20)) return "294247-01-10 04:00:54.775806";
  const std::string day = Day(random, 294246);
  const size_t bc = day.find(" BC");
  return bc == std::string::npos ? day + " " + Clock(random)
                                 : day.substr(0, bc) + " " + Clock(random) + " BC";
}

std::string Interval(Random& random) {
  std::string text;
  if (random.OneIn(2))
    text += std::to_string(static_cast<int64_t>(random.Below(4000)) - 2000) + " months ";
  if (random.OneIn(2))
    text += std::to_string(static_cast<int64_t>(random.Below(4000)) - 2000) + " days ";
  if (random.OneIn(2) || text.empty())
    text += (random.OneIn(2) ? "-" : "") + std::to_string(random.Below(100000)) + ":" +
            Clock(random).substr(3);
  return text;
}

std::string HexText(Random& random, uint64_t bytes) {
  std::string text;
  for (uint64_t i = 0; i < 2 * bytes; ++i) text.push_back("0123456789abcdef"[random.Below(16)]);
  return text;
}

std::string JsonText(Random& random) {
  return Pick(random,
              {"{}", "{\"a\": [1, 2.50, null], \"b\": \"x\\ny\"}", "[\"\\u00e4\", \"tab\\t\"]",
               "1e400", "\"q\\\"\\\\\"", "{\"b\":1,  \"a\":2}", "true", "-0.00"});
}

std::string ArrayLiteral(Random& random, const std::function<std::string(Random&)>& element,
                         int depth) {
  const auto quoted = [&]() -> std::string {
    if (random.OneIn(6)) return "NULL";
    std::string out = "\"";
    for (const char c : element(random))
      out += c == '"' || c == '\\' ? std::string{'\\', c} : std::string(1, c);
    return out + "\"";
  };
  const uint64_t outer = random.Below(4);
  if (outer == 0) return "{}";
  const uint64_t inner = 1 + random.Below(3);
  std::string out = "{";
  for (uint64_t i = 0; i < outer; ++i) {
    if (i != 0) out += ",";
    if (depth == 1) {
      out += quoted();
      continue;
    }
    out += "{";
    for (uint64_t k = 0; k < inner; ++k) out += (k == 0 ? "" : ",") + quoted();
    out += "}";
  }
  return out + "}";
}

std::string CompositeLiteral(Random& random) {
  const auto quoted = [](const std::string& text) {
    std::string out = "\"";
    for (const char c : text)
      out += c == '"' || c == '\\' ? std::string{'\\', c} : std::string(1, c);
    return out + "\"";
  };
  std::string out = "(";
  if (!random.OneIn(4)) out += Integer(random, 32);
  out += ",";
  if (!random.OneIn(4)) out += quoted(AnyText(random));
  out += ",";
  if (!random.OneIn(4)) out += quoted(ArrayLiteral(random, AnyText, 1));
  return out + ")";
}

std::vector<TypeCase> Cases() {
  auto composite = std::make_shared<ColumnType>();
  composite->kind = TypeKind::kStruct;
  composite->fields = {{"a", Scalar(TypeKind::kInt4)},
                       {"b", Scalar(TypeKind::kText)},
                       {"c", List(Scalar(TypeKind::kText), 1)}};
  const auto floating = [](Random& random) {
    return random.OneIn(5)
               ? Pick(random, {"NaN", "Infinity", "-Infinity", "-0", "1e-300", "5e-324"})
               : NumberText(random, 10, 10) + "e" + std::to_string(random.Below(30));
  };
  const auto small_floating = [](Random& random) {
    return random.OneIn(5) ? Pick(random, {"NaN", "Infinity", "-Infinity", "-0", "1e-45"})
                           : NumberText(random, 8, 8);
  };
  return {
      {"bool", Scalar(TypeKind::kBool),
       [](Random& r) {
         return Pick(r, {"t", "f"});
       }},
      {"int2", Scalar(TypeKind::kInt2), [](Random& r) { return Integer(r, 16); }},
      {"int4", Scalar(TypeKind::kInt4), [](Random& r) { return Integer(r, 32); }},
      {"int8", Scalar(TypeKind::kInt8), [](Random& r) { return Integer(r, 64); }},
      {"oid", Scalar(TypeKind::kOid), [](Random& r) { return std::to_string(r.Next() >> 32); }},
      {"float4", Scalar(TypeKind::kFloat4), small_floating},
      {"float8", Scalar(TypeKind::kFloat8), floating},
      {"numeric(12,2)", Scalar(TypeKind::kDecimal, 12, 2),
       [](Random& r) { return NumberText(r, 9, 2); }},
      {"numeric(38,19)", Scalar(TypeKind::kDecimal, 38, 19),
       [](Random& r) { return NumberText(r, 18, 18); }},
      {"numeric(38,0)", Scalar(TypeKind::kDecimal, 38, 0),
       [](Random& r) { return NumberText(r, 38, 0); }},
      {"numeric(5,5)", Scalar(TypeKind::kDecimal, 5, 5),
       [](Random& r) { return "0." + Digits(r, 5); }},
      {"numeric", Scalar(TypeKind::kNumericText),
       [](Random& r) {
         return r.OneIn(9) ? Pick(r, {"NaN", "Infinity", "-Infinity", "1e-50", "1e50"})
                           : NumberText(r, 60, 60);
       }},
      {"text", Scalar(TypeKind::kText), AnyText},
      {"char(9)", Scalar(TypeKind::kText), [](Random& r) { return Digits(r, r.Below(8)); }},
      {"name", Scalar(TypeKind::kText), AnyText},
      {"\"char\"", Scalar(TypeKind::kChar),
       [](Random& r) {
         return Pick(r, {"a", "\\", "", " ", "\""});
       }},
      {"bytea", Scalar(TypeKind::kBytea),
       [](Random& r) { return "\\x" + HexText(r, r.Below(12)); }},
      {"uuid", Scalar(TypeKind::kUuid), [](Random& r) { return HexText(r, 16); }},
      {"json", Scalar(TypeKind::kJson), JsonText},
      {"jsonb", Scalar(TypeKind::kJsonb), JsonText},
      {"date", Scalar(TypeKind::kDate),
       [](Random& r) {
         return r.OneIn(20) ? Pick(r, {"infinity", "-infinity", "5874897-12-31"}) : Day(r, 5874896);
       }},
      {"timestamp", Scalar(TypeKind::kTimestamp), Moment},
      {"timestamptz", Scalar(TypeKind::kTimestampTz), Moment},
      {"time", Scalar(TypeKind::kTime),
       [](Random& r) { return r.OneIn(20) ? "24:00:00" : Clock(r); }},
      {"timetz", Scalar(TypeKind::kTimeTz),
       [](Random& r) {
         return Clock(r) + Pick(r, {"+00", "-08", "+05:30", "+05:53:28", "-15:59:59", "+14"});
       }},
      {"interval", Scalar(TypeKind::kInterval), Interval},
      {"int4[]", List(Scalar(TypeKind::kInt4), 1),
       [](Random& r) {
         return ArrayLiteral(
             r, [](Random& e) { return Integer(e, 32); }, 1);
       }},
      {"text[][]", List(Scalar(TypeKind::kText), 2),
       [](Random& r) { return ArrayLiteral(r, AnyText, 2); }},
      {"timestamptz[]", List(Scalar(TypeKind::kTimestampTz), 1),
       [](Random& r) { return ArrayLiteral(r, Moment, 1); }},
      {"numeric(12,2)[]", List(Scalar(TypeKind::kDecimal, 12, 2), 1),
       [](Random& r) {
         return ArrayLiteral(
             r, [](Random& e) { return NumberText(e, 9, 2); }, 1);
       }},
      {"composite", composite, CompositeLiteral},
      {"composite[]", List(composite, 1),
       [](Random& r) { return ArrayLiteral(r, CompositeLiteral, 1); }},
  };
}

class Connection {
 public:
  explicit Connection(const std::string& conninfo) : conn_(PQconnectdb(conninfo.c_str())) {
    Run("SET TimeZone='UTC'; SET DateStyle='ISO'; SET IntervalStyle='postgres'; SET "
        "bytea_output='hex'; "
        "SET extra_float_digits=1; SET client_encoding='UTF8'");
  }
  ~Connection() { PQfinish(conn_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void Run(const std::string& sql) {
    PGresult* result = PQexec(conn_, sql.c_str());
    EXPECT_LT(PQresultStatus(result), PGRES_BAD_RESPONSE) << PQerrorMessage(conn_) << sql;
    PQclear(result);
  }
  std::string Quote(const std::string& text) {
    char* quoted = PQescapeLiteral(conn_, text.data(), text.size());
    std::string out = quoted;
    PQfreemem(quoted);
    return out;
  }
  // The column as record batch, from COPY in this form.
  Result<std::shared_ptr<arrow::RecordBatch>> Copy(const std::string& query,
                                                   const TableSchemaPtr& schema, bool binary) {
    const BatchOptions options;
    ETL_ASSIGN_OR_RETURN(auto batcher, CopyBatcher::Make(schema, binary, &options));
    PQclear(PQexec(
        conn_, ("COPY (" + query + ") TO STDOUT" + (binary ? " (FORMAT binary)" : "")).c_str()));
    char* data = nullptr;
    int size = 0;
    Status status;
    while ((size = PQgetCopyData(conn_, &data, 0)) > 0) {
      if (status.ok()) status = batcher->Append({data, static_cast<size_t>(size)});
      PQfreemem(data);
    }
    while (PGresult* result = PQgetResult(conn_)) PQclear(result);
    ETL_RETURN_IF_ERROR(status);
    ETL_RETURN_IF_ERROR(batcher->Finish());
    return batcher->Seal();
  }

 private:
  PGconn* conn_;
};

TableSchemaPtr SchemaOf(const TypeCase& one) {
  auto schema = std::make_shared<TableSchema>();
  schema->schema = "public";
  schema->name = "values";
  WireColumn wire;
  wire.type = one.type;
  wire.output = 0;
  schema->wire = {wire};
  schema->columns = {Column{1, "v", one.type, false}};
  return schema;
}

// For the types that are stored as the server's text, the server's own text is the measure.
void ExpectServersText(Connection& connection, const TypeCase& one,
                       const arrow::RecordBatch& batch) {
  if (batch.column(0)->type_id() != arrow::Type::STRING) return;
  TypeCase as_text = one;
  as_text.type = Scalar(TypeKind::kServerText);
  const auto printed = connection.Copy("SELECT v FROM t ORDER BY i", SchemaOf(as_text), false);
  ASSERT_TRUE(printed.ok());
  EXPECT_TRUE((*printed)->column(0)->Equals(*batch.column(0))) << one.sql;
}

TEST(Types, TextAndBinaryOfEveryTypeGiveTheSameValues) {
  const char* given = std::getenv("ETL_TYPES_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : 20261123;
  Random random(seed);
  auto server = PgServer::Start();
  ASSERT_TRUE(server.ok()) << ErrorLine(server.status());
  Connection connection((*server)->ConnInfo());
  connection.Run("CREATE TYPE composite AS (a int4, b text, c text[])");
  for (const TypeCase& one : Cases()) {
    SCOPED_TRACE(one.sql + ", seed " + std::to_string(seed));
    connection.Run("DROP TABLE IF EXISTS t; CREATE TABLE t (i serial, v " + one.sql + ")");
    std::string sql = "INSERT INTO t(v) VALUES (NULL)";
    for (int row = 1; row < kRows; ++row) sql += ",(" + connection.Quote(one.literal(random)) + ")";
    connection.Run(sql);
    const auto text = connection.Copy("SELECT v FROM t ORDER BY i", SchemaOf(one), false);
    ASSERT_TRUE(text.ok()) << ErrorLine(text.status());
    const auto binary = connection.Copy("SELECT v FROM t ORDER BY i", SchemaOf(one), true);
    ASSERT_TRUE(binary.ok()) << ErrorLine(binary.status());
    ASSERT_EQ((*text)->num_rows(), kRows);
    if (one.type->kind != TypeKind::kTime) {  // Arrow itself holds that 24:00:00 is no time of day
      ASSERT_TRUE((*text)->ValidateFull().ok());
      ASSERT_TRUE((*binary)->ValidateFull().ok());
    }
    std::stringstream difference;
    const auto options =
        arrow::EqualOptions::Defaults().nans_equal(true).signed_zeros_equal(false).diff_sink(
            &difference);
    EXPECT_TRUE((*text)->column(0)->Equals((*binary)->column(0), options)) << difference.str();
    ExpectServersText(connection, one, **binary);
  }
}

// What the server makes of a stored number must be what was stored: the parsers agree with each
// other and with the server.
TEST(Types, NumbersOfDaysAndMicrosecondsAreTheServers) {
  auto server = PgServer::Start();
  ASSERT_TRUE(server.ok()) << ErrorLine(server.status());
  Connection connection((*server)->ConnInfo());
  Random random(7);
  connection.Run("CREATE TABLE t (i serial, v date)");
  std::string sql = "INSERT INTO t(v) VALUES ('0001-01-01')";
  for (int row = 1; row < kRows; ++row) sql += ",(" + connection.Quote(Day(random, 5874896)) + ")";
  connection.Run(sql);
  const TypeCase days{"date", Scalar(TypeKind::kDate), nullptr};
  const TypeCase count{"int4", Scalar(TypeKind::kInt4), nullptr};
  const auto parsed = connection.Copy("SELECT v FROM t ORDER BY i", SchemaOf(days), false);
  const auto counted =
      connection.Copy("SELECT v - date '1970-01-01' FROM t ORDER BY i", SchemaOf(count), false);
  ASSERT_TRUE(parsed.ok() && counted.ok());
  for (int64_t row = 0; row < kRows; ++row) {
    EXPECT_EQ(static_cast<const arrow::Date32Array&>(*(*parsed)->column(0)).Value(row),
              static_cast<const arrow::Int32Array&>(*(*counted)->column(0)).Value(row));
  }
}

}  // namespace
}  // namespace etl
