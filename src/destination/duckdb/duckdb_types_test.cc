// Every type of the contract's table goes into DuckDB as that table says, and comes out the same.

#include <limits>

#include <arrow/api.h>
#include <arrow/json/from_string.h>
#include <gtest/gtest.h>

#include "destination/conformance_model.h"
#include "destination/duckdb/duckdb_file.h"
#include "destination/duckdb/duckdb_test_support.h"

namespace etl {
namespace {

struct TypeCase {
  ColumnTypePtr type;
  std::string duckdb_type;
  std::shared_ptr<arrow::Array> values;
};

ColumnTypePtr Decimal(uint8_t precision, uint8_t scale) {
  ColumnType type;
  type.kind = TypeKind::kDecimal;
  type.precision = precision;
  type.scale = scale;
  return std::make_shared<ColumnType>(type);
}

ColumnTypePtr StructOf(std::vector<ColumnType::Field> fields) {
  ColumnType type;
  type.kind = TypeKind::kStruct;
  type.fields = std::move(fields);
  return std::make_shared<ColumnType>(type);
}

std::shared_ptr<arrow::Array> Json(const ColumnTypePtr& type, const std::string& json) {
  auto array = arrow::json::ArrayFromJSONString(ArrowTypeOf(*type), json);
  EXPECT_TRUE(array.ok()) << array.status().ToString();
  return *array;
}

std::shared_ptr<arrow::Array> Uuids() {
  arrow::FixedSizeBinaryBuilder builder(arrow::fixed_size_binary(16));
  EXPECT_TRUE(builder.Append(std::string(16, '\xff')).ok());
  EXPECT_TRUE(builder.Append(std::string(16, '\0')).ok());
  EXPECT_TRUE(builder
                  .Append(std::string("\x7f\x80\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b"
                                      "\x0c\x0d\x0e"))
                  .ok());
  return *builder.Finish();
}

std::shared_ptr<arrow::Array> Bytes() {
  arrow::BinaryBuilder builder;
  EXPECT_TRUE(builder.Append(std::string(3, '\0')).ok());
  EXPECT_TRUE(builder.Append("\xff\xfe").ok());
  EXPECT_TRUE(builder.Append("").ok());
  EXPECT_TRUE(builder.Append(std::string(70000, 'x')).ok());
  return *builder.Finish();
}

template <typename T>
std::string Limits() {
  return "[" + std::to_string(std::numeric_limits<T>::min()) + "," +
         std::to_string(std::numeric_limits<T>::max()) + ",0]";
}

std::vector<TypeCase> Cases() {
  auto of = [](TypeKind kind) { return ModelType(kind); };
  const std::string nines(38, '9');
  std::vector<TypeCase> cases{
      {of(TypeKind::kBool), "BOOLEAN", nullptr},
      {of(TypeKind::kInt2), "SMALLINT", nullptr},
      {of(TypeKind::kInt4), "INTEGER", nullptr},
      {of(TypeKind::kInt8), "BIGINT", nullptr},
      {of(TypeKind::kOid), "UINTEGER", nullptr},
      {of(TypeKind::kFloat4), "FLOAT", nullptr},
      {of(TypeKind::kFloat8), "DOUBLE", nullptr},
      {Decimal(4, 2), "DECIMAL(4,2)", nullptr},
      {Decimal(9, 0), "DECIMAL(9,0)", nullptr},
      {Decimal(18, 18), "DECIMAL(18,18)", nullptr},
      {Decimal(38, 0), "DECIMAL(38,0)", nullptr},
      {of(TypeKind::kNumericText), "VARCHAR", nullptr},
      {of(TypeKind::kText), "VARCHAR", nullptr},
      {of(TypeKind::kBytea), "BLOB", Bytes()},
      {of(TypeKind::kUuid), "UUID", Uuids()},
      {of(TypeKind::kJson), "JSON", nullptr},
      {of(TypeKind::kJsonb), "JSON", nullptr},
      {of(TypeKind::kDate), "DATE", nullptr},
      {of(TypeKind::kTimestamp), "TIMESTAMP", nullptr},
      {of(TypeKind::kTimestampTz), "TIMESTAMP WITH TIME ZONE", nullptr},
      {of(TypeKind::kTime), "TIME", nullptr},
      {of(TypeKind::kTimeTz), "VARCHAR", nullptr},
      {of(TypeKind::kInterval), "INTERVAL", nullptr},
      {ModelListOf(of(TypeKind::kInt4)), "INTEGER[]", nullptr},
      {ModelListOf(of(TypeKind::kBool), 2), "BOOLEAN[][]", nullptr},
      {ModelListOf(of(TypeKind::kJson)), "JSON[]", nullptr},
      {StructOf({{"a", of(TypeKind::kBool)}, {"B \"c\"", ModelListOf(of(TypeKind::kText))}}),
       "STRUCT(a BOOLEAN, \"B \"\"c\"\"\" VARCHAR[])", nullptr},
      {ModelListOf(StructOf({{"x", Decimal(38, 3)}, {"t", of(TypeKind::kTimestampTz)}})),
       "STRUCT(x DECIMAL(38,3), t TIMESTAMP WITH TIME ZONE)[]", nullptr}};
  const std::vector<std::string> texts{
      "[true,false]", Limits<int16_t>(), Limits<int32_t>(), Limits<int64_t>(), Limits<uint32_t>(),
      "[NaN,Inf,-Inf,1e-45,3.4028235e38]", "[NaN,Inf,-Inf,5e-324,1.7976931348623157e308,0.1]",
      R"(["99.99","-99.99","0.01"])", R"(["999999999","-999999999"])",
      R"(["0.999999999999999999","-0.000000000000000001"])",
      "[\"" + nines + "\",\"-" + nines + "\"]", R"(["NaN","1e1000","0.10"])",
      R"(["","a\u0000b","snowman \u2603","padded   "])", "", "",
      R"(["{\"b\":1,  \"a\":2}","null"])", R"(["[1.00]"])",
      // Days of 4714-11-24 BC, 5874897-12-31, and what DuckDB shows as infinity (8.3).
      "[-2440588,2145042903,-2147483647,2147483647]",
      "[-211813488000000000,9223371331199999999,-9223372036854775807,9223372036854775807,0]",
      "[-211813488000000000,9223371331199999999,-9223372036854775807,9223372036854775807,0]",
      "[0,86399999999,86400000000]", R"(["12:00:00+05:30"])",
      "[[1200,-31,9223372036854775000],[-2147483648,2147483647,-9223372036854775000],[0,0,1000]]",
      "[[],[1,null,2],[null]]", "[[[true,null],[]],[]]", R"([["{}",null],[]])",
      R"([[true,["x",null]],[null,[]],[false,null]])", R"([[["1.001",0],[null,null]],[]])"};
  EXPECT_EQ(cases.size(), texts.size());
  for (size_t i = 0; i < cases.size(); ++i) {
    if (cases[i].values == nullptr) cases[i].values = Json(cases[i].type, texts[i]);
  }
  return cases;
}

/// The values again and again, with NULLs between them, over several of DuckDB's vectors.
std::shared_ptr<arrow::Array> Repeated(const std::shared_ptr<arrow::Array>& values, int64_t rows) {
  const auto null = *arrow::MakeArrayOfNull(values->type(), 1);
  arrow::ArrayVector parts;
  int64_t size = 0;
  while (size < rows) {
    parts.push_back(values);
    parts.push_back(null);
    size += values->length() + 1;
  }
  return (*arrow::Concatenate(parts))->Slice(0, rows);
}

TEST(DuckDbTypes, EveryTypeIsStoredAsTheContractSaysAndComesBackTheSame) {
  TemporaryFile temporary;
  constexpr int64_t kRows = 5000;
  auto schema = std::make_shared<TableSchema>();
  arrow::ArrayVector columns;
  const std::vector<TypeCase> cases = Cases();
  for (const TypeCase& one : cases) {
    const std::string name = "column " + std::to_string(schema->columns.size());
    schema->columns.push_back({static_cast<int16_t>(schema->columns.size() + 1), name, one.type});
    columns.push_back(Repeated(one.values, kRows));
  }
  // The file keeps no order of rows: they are numbered.
  schema->columns.push_back({32000, "number", ModelType(TypeKind::kInt8)});
  arrow::Int64Builder numbers;
  for (int64_t i = 0; i < kRows; ++i) ASSERT_TRUE(numbers.Append(i).ok());
  columns.push_back(*numbers.Finish());
  const auto rows = arrow::RecordBatch::Make(schema->ArrowSchema(), kRows, columns);
  for (int reopened = 0; reopened < 2; ++reopened) {
    auto file = std::make_shared<DuckDbFile>(DuckDbOptions{.path = temporary.path()});
    auto lease = *DuckDbFile::Acquire(file);
    auto opened = DuckDbConnection::Open(lease->database());
    ASSERT_TRUE(opened.ok()) << ErrorLine(opened.status());
    DuckDbConnection& connection = **opened;
    EXPECT_EQ(connection.catalog(), "my-file");
    const DuckDbTable table = connection.Table("main", "t");
    if (reopened == 0) {
      const auto made = connection.Execute("CREATE TABLE " + table.Sql() + "(" +
                                           ColumnDefinitions(*schema) + ")");
      ASSERT_TRUE(made.ok()) << ErrorLine(made.status());
      const Status appended = connection.Append(table, *rows);
      ASSERT_TRUE(appended.ok()) << ErrorLine(appended);
      // A slice that begins in the middle of the buffers.
      ASSERT_TRUE(connection.Execute("CREATE TABLE part AS FROM t LIMIT 0").ok());
      ASSERT_TRUE(connection.Append(connection.Table("main", "part"), *rows->Slice(1003, 77)).ok());
      const auto part = connection.QueryBatch("SELECT * FROM part", schema->ArrowSchema());
      ASSERT_TRUE(part.ok()) << ErrorLine(part.status());
      EXPECT_EQ(ModelTexts({*part}), ModelTexts({rows->Slice(1003, 77)}));
    }
    const auto types = connection.Rows("SELECT column_type FROM (DESCRIBE t)");
    ASSERT_TRUE(types.ok()) << ErrorLine(types.status());
    for (size_t i = 0; i < cases.size(); ++i)
      EXPECT_EQ((*types)[i][0].value(), cases[i].duckdb_type) << i;
    const auto stored =
        connection.QueryBatch("SELECT * FROM t ORDER BY number", schema->ArrowSchema());
    ASSERT_TRUE(stored.ok()) << ErrorLine(stored.status());
    for (int c = 0; c < rows->num_columns(); ++c) {
      EXPECT_TRUE((*stored)->column(c)->Validate().ok()) << c;
      const auto equal = arrow::EqualOptions::Defaults().nans_equal(true);
      EXPECT_TRUE((*stored)->column(c)->Equals(*rows->column(c), equal))
          << schema->columns[static_cast<size_t>(c)].name;
    }
  }
}

TEST(DuckDbTypes, InfinityIsInfinity) {
  TemporaryFile temporary;
  auto file = std::make_shared<DuckDbFile>(DuckDbOptions{.path = temporary.path()});
  auto lease = *DuckDbFile::Acquire(file);
  auto connection = *DuckDbConnection::Open(lease->database());
  TableSchema schema;
  schema.columns = {{1, "d", ModelType(TypeKind::kDate)},
                    {2, "t", ModelType(TypeKind::kTimestamp)}};
  ASSERT_TRUE(connection->Execute("CREATE TABLE t(" + ColumnDefinitions(schema) + ")").ok());
  ASSERT_TRUE(connection
                  ->Append(connection->Table("main", "t"),
                           *ModelBatch(schema, {{"-2147483647", "-9223372036854775807"},
                                                {"2147483647", "9223372036854775807"}}))
                  .ok());
  const auto rows = connection->Rows("SELECT d::VARCHAR, t::VARCHAR FROM t ORDER BY d");
  ASSERT_TRUE(rows.ok());
  EXPECT_EQ((*rows)[0][0].value(), "-infinity");
  EXPECT_EQ((*rows)[0][1].value(), "-infinity");
  EXPECT_EQ((*rows)[1][0].value(), "infinity");
  EXPECT_EQ((*rows)[1][1].value(), "infinity");
}

}  // namespace
}  // namespace etl
