#include "postgres/table_query.h"

#include <algorithm>
#include <charconv>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "postgres/type_resolver.h"
#include "postgres/wal_position.h"

namespace etl {
namespace {

// Which result is which.
enum ResultNumber : size_t {
  kBegin,
  kTables,
  kColumns,
  kTypes,
  kAttributes,
  kLabels,
  kKeys,
  kLeaves,
  kEnd,
  kCommit
};

/// `p`: relid, list of published attributes (NULL: all that are not generated), filter.
std::string PublishedSql(const std::string& publication, int server_version) {
  const std::string name = QuoteLiteral(publication);
  if (server_version >= 150000) {
    return "SELECT g.relid, string_to_array(g.attrs::text, ' ')::int2[] AS attrs, "
           "pg_get_expr(g.qual, g.relid) AS filter "
           "FROM pg_get_publication_tables(" +
           name + ") g";
  }
  return "SELECT g.relid, NULL::int2[] AS attrs, NULL::text AS filter FROM "
         "pg_get_publication_tables(" +
         name + ") g";
}

// True arrays only: a fixed type such as point has an element type, too, but is nobody's array
// type.
constexpr std::string_view kTypeTree =
    "types(oid) AS (SELECT a.atttypid FROM p JOIN pg_attribute a ON a.attrelid = p.relid "
    "WHERE a.attnum > 0 AND NOT a.attisdropped UNION SELECT x.oid FROM types t "
    "JOIN pg_type y ON y.oid = t.oid LEFT JOIN pg_type e ON e.oid = y.typelem AND e.typarray = "
    "y.oid "
    "CROSS JOIN LATERAL (SELECT e.oid WHERE e.oid IS NOT NULL UNION ALL "
    "SELECT y.typbasetype WHERE y.typbasetype <> 0 UNION ALL "
    "SELECT ca.atttypid FROM pg_attribute ca WHERE y.typtype = 'c' AND ca.attrelid = y.typrelid "
    "AND ca.attnum > 0 AND NOT ca.attisdropped) x(oid))";

// What makes a table published: itself, its schema, or that all tables are; a partition is
// published with any table above it, too. Schemas are published since server 15.
std::string EntriesSql(bool schemas) {
  std::string sql =
      "ARRAY(SELECT r.oid FROM pg_publication_rel r JOIN above ON r.prrelid = above.oid "
      "WHERE r.prpubid = b.oid UNION ALL SELECT b.oid WHERE b.puballtables";
  if (schemas) {
    sql +=
        " UNION ALL SELECT s.oid FROM pg_publication_namespace s JOIN pg_class k ON "
        "k.relnamespace = s.pnnspid JOIN above ON k.oid = above.oid WHERE s.pnpubid = b.oid";
  }
  return "(WITH above(oid) AS (SELECT c.oid UNION SELECT pg_partition_ancestors(c.oid)::oid) "
         "SELECT " +
         sql + ")::text)";
}

template <typename Number>
std::vector<Number> ParseNumbers(std::string_view text) {
  std::vector<Number> numbers;
  const char* at = text.data();
  const char* end = at + text.size();
  while (at < end) {
    Number number = 0;
    const auto [next, error] = std::from_chars(at, end, number);
    if (error != std::errc()) {
      ++at;
      continue;
    }
    numbers.push_back(number);
    at = next;
  }
  return numbers;
}

TypeRows ReadTypes(const PgResult& types, const PgResult& attributes, const PgResult& labels) {
  TypeRows rows;
  for (int i = 0; i < types.rows(); ++i) {
    TypeRow row{.oid = types.Oid(i, 0),
                .name = types.String(i, 1),
                .display = types.String(i, 2),
                .kind = types.Text(i, 3)[0],
                .category = types.Text(i, 4)[0],
                .element = types.Oid(i, 5),
                .base = types.Oid(i, 6),
                .base_typmod = static_cast<int32_t>(types.Int(i, 7)),
                .base_dimensions = static_cast<int16_t>(types.Int(i, 8)),
                .delimiter = types.Text(i, 9)[0],
                .attributes = {},
                .labels = {}};
    rows[row.oid] = std::move(row);
  }
  for (int i = 0; i < attributes.rows(); ++i) {
    const auto it = rows.find(attributes.Oid(i, 0));
    if (it == rows.end()) continue;
    it->second.attributes.push_back({.attnum = static_cast<int16_t>(attributes.Int(i, 5)),
                                     .name = attributes.String(i, 1),
                                     .type = attributes.Oid(i, 2),
                                     .typmod = static_cast<int32_t>(attributes.Int(i, 3)),
                                     .dimensions = static_cast<int16_t>(attributes.Int(i, 4)),
                                     .row_xmin = attributes.Oid(i, 6)});
  }
  for (int i = 0; i < labels.rows(); ++i) {
    const auto it = rows.find(labels.Oid(i, 0));
    if (it == rows.end()) continue;
    it->second.labels.push_back(
        {.oid = labels.Oid(i, 1), .text = labels.String(i, 2), .row_xmin = labels.Oid(i, 3)});
  }
  return rows;
}

// The enums and composites that values of a type consist of.
void AddTypeParts(const TypeRows& rows, uint32_t oid,
                  std::map<uint32_t, std::vector<TypePart>>& parts) {
  const auto found = rows.find(oid);
  if (found == rows.end() || parts.contains(oid)) return;
  const TypeRow& row = found->second;
  if (row.element != 0) AddTypeParts(rows, row.element, parts);
  if (row.base != 0) AddTypeParts(rows, row.base, parts);
  if (row.kind != 'e' && row.kind != 'c') return;
  std::vector<TypePart>& mine = parts[oid];
  for (const TypeRow::Label& label : row.labels)
    mine.push_back({.id = label.oid, .name = label.text, .row_xmin = label.row_xmin});
  for (const TypeRow::Attribute& attribute : row.attributes) {
    mine.push_back({.id = static_cast<uint32_t>(attribute.attnum),
                    .name = attribute.name,
                    .type = attribute.type,
                    .typmod = attribute.typmod,
                    .row_xmin = attribute.row_xmin});
  }
  for (const TypeRow::Attribute& attribute : row.attributes)
    AddTypeParts(rows, attribute.type, parts);
}

AttributeFacts ReadColumn(const PgResult& rows, int i, const TypeRows& types) {
  AttributeFacts column{.attnum = static_cast<int16_t>(rows.Int(i, 1)),
                        .name = rows.String(i, 2),
                        .type_oid = rows.Oid(i, 3),
                        .typmod = static_cast<int32_t>(rows.Int(i, 4)),
                        .dimensions = static_cast<int16_t>(rows.Int(i, 5)),
                        .type = nullptr,
                        .not_null = rows.Bool(i, 6),
                        .published = rows.Bool(i, 7),
                        .has_missing = rows.Bool(i, 8),
                        .missing_text = std::nullopt,
                        .missing_differs = rows.Bool(i, 12),
                        .row_xmin = rows.Oid(i, 10),
                        .collation = rows.Oid(i, 11)};
  if (!rows.Null(i, 9)) column.missing_text = rows.String(i, 9);
  column.type = ResolveType(types, column.type_oid, column.typmod, column.dimensions);
  return column;
}

LeafFacts ReadLeaf(const PgResult& rows, int i) {
  LeafFacts leaf{.id = {rows.Oid(i, 1)},
                 .schema = rows.String(i, 2),
                 .name = rows.String(i, 3),
                 .file_node = rows.Oid(i, 4),
                 .bound = rows.String(i, 5),
                 .blocks = rows.Int(i, 6),
                 .rows_estimate = rows.Double(i, 7),
                 .heap = rows.Bool(i, 8)};
  // Never analysed: a row of about 100 bytes.
  if (leaf.rows_estimate < 0) leaf.rows_estimate = static_cast<double>(leaf.blocks) * 80;
  return leaf;
}

// The missing values of a partitioned table's columns: it has none itself, its leaves have
// (rule 7.2). `held`: of how many leaves, `low` and `high` are equal if all values are.
constexpr std::string_view kLeafMissing =
    ", tree(root, relid) AS (SELECT p.relid, p.relid FROM p JOIN pg_class c ON c.oid = p.relid AND "
    "c.relkind = 'p' UNION ALL SELECT t.root, h.inhrelid FROM tree t JOIN pg_inherits h ON "
    "h.inhparent = t.relid), "
    "leaf(root, relid) AS (SELECT t.root, t.relid FROM tree t JOIN pg_class c ON c.oid = t.relid "
    "AND c.relkind = 'r'), "
    "m(root, name, held, low, high) AS (SELECT l.root, a.attname, count(*), "
    "min(a.attmissingval::text), max(a.attmissingval::text) FROM leaf l JOIN pg_attribute a ON "
    "a.attrelid = l.relid AND a.attnum > 0 AND a.atthasmissing AND NOT a.attisdropped GROUP BY 1, "
    "2), "
    "leaves(root, number) AS (SELECT root, count(*) FROM leaf GROUP BY 1)";

/// `published` makes the relation `p`: see PublishedSql.
std::string FactsSql(const std::string& published, const std::string& publication,
                     int server_version) {
  const std::string with = "WITH RECURSIVE p AS (" + published + ")";
  std::string sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;";
  sql += with +
         " SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relreplident, " +
         EntriesSql(!publication.empty() && server_version >= 150000) +
         ", p.filter, "
         "has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'), "
         "row_security_active(c.oid), coalesce(b.xmin::text::bigint, 0), c.relnatts "
         "FROM p JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace "
         "LEFT JOIN pg_publication b ON b.pubname = " +
         QuoteLiteral(publication) + " WHERE c.relkind IN ('r', 'p') ORDER BY c.oid;";
  // attmissingval is an array of one value; box is the one type whose array separates by
  // semicolons.
  sql +=
      with + std::string(kLeafMissing) +
      " SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attndims, a.attnotnull, "
      "CASE WHEN p.attrs IS NULL THEN a.attgenerated = '' ELSE a.attnum = ANY (p.attrs) END, "
      "a.atthasmissing OR m.held IS NOT NULL, "
      "CASE WHEN a.atttypid = 603 THEN trim(BOTH '{}' FROM v.missing) "
      "ELSE (v.missing::text[])[1] END, a.xmin, a.attcollation, "
      "m.held IS NOT NULL AND (m.held < l.number OR m.low <> m.high) "
      "FROM p JOIN pg_attribute a ON a.attrelid = p.relid AND a.attnum > 0 AND NOT a.attisdropped "
      "LEFT JOIN leaves l ON l.root = a.attrelid "
      "LEFT JOIN m ON m.root = a.attrelid AND m.name = a.attname "
      "CROSS JOIN LATERAL (SELECT coalesce(a.attmissingval::text, m.low) AS missing) v "
      "ORDER BY 1, 2;";
  sql += with + ", " + std::string(kTypeTree) +
         " SELECT y.oid, y.typname, format_type(y.oid, NULL), y.typtype, y.typcategory, "
         "coalesce(e.oid, 0), "
         "y.typbasetype, y.typtypmod, y.typndims, y.typdelim FROM pg_type y "
         "LEFT JOIN pg_type e ON e.oid = y.typelem AND e.typarray = y.oid WHERE y.oid IN (SELECT "
         "oid FROM types);";
  sql += with + ", " + std::string(kTypeTree) +
         " SELECT y.oid, a.attname, a.atttypid, a.atttypmod, a.attndims, a.attnum, a.xmin FROM "
         "pg_type y JOIN pg_attribute a "
         "ON a.attrelid = y.typrelid WHERE y.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped "
         "AND y.oid IN (SELECT oid FROM types) ORDER BY y.oid, a.attnum;";
  sql += with + ", " + std::string(kTypeTree) +
         " SELECT e.enumtypid, e.oid, e.enumlabel, e.xmin FROM pg_enum e WHERE e.enumtypid IN "
         "(SELECT oid FROM types) ORDER BY e.enumtypid, e.oid;";
  // Indexes that find exactly one row: unique, immediate, whole, of plain columns that are not
  // null.
  sql += with +
         " SELECT i.indrelid, i.indkey::text, i.indnkeyatts, i.indisprimary, i.indisreplident "
         "FROM p JOIN pg_index i ON i.indrelid = p.relid WHERE i.indisunique AND i.indimmediate "
         "AND i.indisvalid "
         "AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (SELECT FROM pg_attribute a "
         "WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - "
         "1]) AND NOT a.attnotnull) "
         "ORDER BY i.indrelid, i.indisprimary DESC, i.indexrelid;";
  sql += with +
         ", tree(root, relid) AS (SELECT relid, relid FROM p UNION ALL SELECT t.root, h.inhrelid "
         "FROM tree t "
         "JOIN pg_class c ON c.oid = t.relid AND c.relkind = 'p' JOIN pg_inherits h ON h.inhparent "
         "= t.relid) "
         "SELECT t.root, c.oid, n.nspname, c.relname, c.relfilenode, pg_get_expr(c.relpartbound, "
         "c.oid), c.relpages, "
         "c.reltuples, coalesce(m.amname = 'heap', false) "
         "FROM tree t JOIN pg_class c ON c.oid = t.relid AND c.relkind = 'r' "
         "JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am m ON m.oid = c.relam ORDER "
         "BY t.root, c.oid;";
  sql += "SELECT " + std::string(kInsertPositionSql) + ", " + std::string(kSegmentSizeSql) +
         ", coalesce((SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM "
         "pg_publication WHERE pubname = " +
         QuoteLiteral(publication) + "), true);";
  return sql + "COMMIT";
}

Result<TablesAnswer> AskAndWait(PgConnection& connection, const std::string& sql,
                                Instant deadline) {
  ETL_RETURN_IF_ERROR(connection.Send(sql));
  std::vector<PgResult> results;
  while (connection.busy()) {
    ETL_ASSIGN_OR_RETURN(std::optional<PgResult> result, connection.Poll());
    if (result) {
      results.push_back(std::move(*result));
      continue;
    }
    if (!connection.busy()) break;
    if (SystemClock().Now() >= deadline) {
      return MakeError(ErrorKind::kTransient, "ETL-S204",
                       "the source's system catalog did not answer in time");
    }
    std::vector<pollfd> fds;
    connection.AddPollFds(fds);
    WaitFor(fds, deadline);
  }
  Result<TablesAnswer> answer = ReadTables(results);
  // What failed leaves its transaction open.
  if (!answer.ok()) (void)connection.Query("ROLLBACK", deadline);
  return answer;
}

}  // namespace

std::string LeavesFileNodeSql(TableId root) {
  return fmt::format(
      "(WITH RECURSIVE tree(relid) AS (SELECT {}::oid UNION ALL SELECT h.inhrelid FROM tree t JOIN "
      "pg_inherits h ON h.inhparent = t.relid) SELECT hashtext(string_agg(c.oid || ':' || "
      "c.relfilenode, ',' ORDER BY c.oid))::bigint & 4294967295 FROM tree t JOIN pg_class c ON "
      "c.oid = t.relid AND c.relkind = 'r')",
      root.oid);
}

std::string TablesSql(const std::string& publication, int server_version) {
  return FactsSql(PublishedSql(publication, server_version), publication, server_version);
}

std::string TablesSql(const std::vector<TableId>& tables) {
  std::vector<uint32_t> oids;
  for (TableId table : tables) oids.push_back(table.oid);
  return FactsSql(fmt::format("SELECT u.relid, NULL::int2[] AS attrs, NULL::text AS filter "
                              "FROM unnest(ARRAY[{}]::oid[]) AS u(relid)",
                              fmt::join(oids, ",")),
                  "", 0);
}

Result<TablesAnswer> ReadTables(const std::vector<PgResult>& results) {
  for (const PgResult& result : results) {
    ETL_RETURN_IF_ERROR(StatementStatus(result, "read the source's system catalog"));
  }
  if (results.size() != kCommit + 1) {
    return MakeError(ErrorKind::kInternal, "ETL-S199",
                     "the source's system catalog answered in part only");
  }
  const TypeRows types = ReadTypes(results[kTypes], results[kAttributes], results[kLabels]);
  std::map<uint32_t, TableFacts> tables;
  const PgResult& rows = results[kTables];
  for (int i = 0; i < rows.rows(); ++i) {
    tables[rows.Oid(i, 0)] =
        TableFacts{.id = {rows.Oid(i, 0)},
                   .schema = rows.String(i, 1),
                   .name = rows.String(i, 2),
                   .kind = rows.Text(i, 3)[0],
                   .persistence = rows.Text(i, 4)[0],
                   .replica_identity = rows.Text(i, 5)[0],
                   .publication_entries = ParseNumbers<uint32_t>(rows.Text(i, 6)),
                   .publication_row = rows.Oid(i, 10),
                   .row_filter = rows.String(i, 7),
                   .can_select = rows.Bool(i, 8),
                   .row_security = rows.Bool(i, 9),
                   .columns = {},
                   .attributes = static_cast<int16_t>(rows.Int(i, 11)),
                   .types = {},
                   .key = {},
                   .leaves = {}};
  }
  const auto find = [&](uint32_t oid) -> TableFacts* {
    const auto it = tables.find(oid);
    return it == tables.end() ? nullptr : &it->second;
  };
  for (int i = 0; i < results[kColumns].rows(); ++i) {
    TableFacts* table = find(results[kColumns].Oid(i, 0));
    if (table == nullptr) continue;
    table->columns.push_back(ReadColumn(results[kColumns], i, types));
    const AttributeFacts& column = table->columns.back();
    if (column.published) AddTypeParts(types, column.type_oid, table->types);
  }
  for (int i = 0; i < results[kKeys].rows(); ++i) {
    const PgResult& keys = results[kKeys];
    TableFacts* table = find(keys.Oid(i, 0));
    if (table == nullptr || !table->key.empty()) continue;
    // Old rows carry the columns of the replica identity: another index finds nothing by them.
    const char identity = table->replica_identity;
    const bool usable = identity == 'f' || (identity == 'd' && keys.Bool(i, 3)) ||
                        (identity == 'i' && keys.Bool(i, 4));
    if (!usable) continue;
    table->key = ParseNumbers<int16_t>(keys.Text(i, 1));
    table->key.resize(std::min(table->key.size(), static_cast<size_t>(keys.Int(i, 2))));
  }
  for (int i = 0; i < results[kLeaves].rows(); ++i) {
    TableFacts* table = find(results[kLeaves].Oid(i, 0));
    if (table == nullptr) continue;
    table->leaves.push_back(ReadLeaf(results[kLeaves], i));
  }
  TablesAnswer answer;
  answer.wal_insert =
      NormaliseInsertLsn(results[kEnd].LsnAt(0, 0), static_cast<uint64_t>(results[kEnd].Int(0, 1)));
  answer.all_operations = results[kEnd].Bool(0, 2);
  for (auto& [oid, table] : tables) answer.tables.push_back(std::move(table));
  return answer;
}

Result<TablesAnswer> LoadTables(PgConnection& connection, const std::string& publication,
                                Instant deadline) {
  return AskAndWait(connection, TablesSql(publication, connection.server_version()), deadline);
}

Result<TablesAnswer> LoadTables(PgConnection& connection, const std::vector<TableId>& tables,
                                Instant deadline) {
  return AskAndWait(connection, TablesSql(tables), deadline);
}

}  // namespace etl
