#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>
#include <libpq-fe.h>

#include "postgres/preflight_run.h"
#include "postgres/table_pattern.h"
#include "postgres/table_query.h"
#include "postgres/type_resolver.h"

namespace etl {
namespace {

std::vector<CandidateTable> Published(const std::vector<CandidateTable>& all,
                                      const std::optional<PublicationFacts>& publication) {
  if (!publication) return {};
  const std::set<TableName> held(publication->tables.begin(), publication->tables.end());
  std::vector<CandidateTable> out;
  for (const CandidateTable& table : all) {
    if (held.contains(table.name)) out.push_back(table);
  }
  return out;
}

/// A table that another pipeline's engine made: replicating it feeds a copy to itself.
bool IsOurs(const TableFacts& table) {
  return FoldCase(table.schema) == "_etl" || FoldCase(table.name).starts_with("_etl_");
}

}  // namespace

Status Preflight::CheckForeign(const std::vector<CandidateTable>& selected) {
  ETL_ASSIGN_OR_RETURN(
      const PgResult rows,
      Ask("SELECT n.nspname, c.relname, c.relispartition, (SELECT root::text FROM "
          "pg_partition_root(c.oid) root), pg_partition_root(c.oid)::oid FROM pg_class c JOIN "
          "pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'f' ORDER BY 1, 2"));
  for (int i = 0; i < rows.rows(); ++i) {
    const std::string name = rows.String(i, 0) + "." + rows.String(i, 1);
    const bool partition = rows.Bool(i, 2);
    const bool wanted =
        partition ? std::any_of(
                        selected.begin(), selected.end(),
                        [&](const CandidateTable& table) { return table.id.oid == rows.Oid(i, 4); })
                  : !options_.tables.empty() &&
                        MatchesTablePatterns(options_.tables, rows.Text(i, 0), rows.Text(i, 1));
    if (!wanted) continue;
    if (partition) {
      Add(Severity::kFail, "S19",
          fmt::format("{}, a partition of {}, is a foreign table", name, rows.Text(i, 3)),
          "its rows and changes are in another server: the copy would lack them",
          "exclude the table in `tables`, or detach the partition and replicate it from its "
          "server");
    } else {
      Add(Severity::kWarn, "S19", name + " is a foreign table and never in the stream",
          "it will be left out", "replicate it from its own server");
    }
  }
  return Status::OK();
}

Status Preflight::CheckRightToPublish(const std::vector<CandidateTable>& selected) {
  std::string names;
  for (const CandidateTable& table : selected) {
    unpublished_.push_back(table.id);
    names += (names.empty() ? "" : ", ") + QuoteTable(table.name.schema, table.name.name);
  }
  ETL_ASSIGN_OR_RETURN(const PgResult right,
                       Ask("SELECT has_database_privilege(current_database(), 'CREATE')"));
  ETL_ASSIGN_OR_RETURN(const PgResult owned,
                       Ask(fmt::format("SELECT count(*) FROM pg_class c WHERE NOT "
                                       "pg_has_role(c.relowner, 'USAGE') AND c.oid IN ({})",
                                       [&] {
                                         std::string oids = "0";
                                         for (TableId id : unpublished_)
                                           oids += fmt::format(", {}", id.oid);
                                         return oids;
                                       }())));
  if (right.Bool(0, 0) && owned.Int(0, 0) == 0 && !setup_->system().in_recovery) {
    Ok("S11", fmt::format("publication \"{}\" will be created for {} tables", options_.publication,
                          selected.size()));
    return Status::OK();
  }
  Add(Severity::kFail, "S11",
      fmt::format("publication \"{}\" does not exist, and this role cannot create it",
                  options_.publication),
      "that needs CREATE on the database and ownership of the tables",
      Sql{{fmt::format(
          "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)",
          QuoteIdentifier(options_.publication), names)}});
  return Status::OK();
}

Status Preflight::CheckPublication() {
  ETL_ASSIGN_OR_RETURN(const std::vector<CandidateTable> all,
                       setup_->ListCandidateTables(deadline_));
  ETL_ASSIGN_OR_RETURN(const std::optional<PublicationFacts> found,
                       setup_->FindPublication(options_.publication, deadline_));
  publication_exists_ = found.has_value();
  std::vector<CandidateTable> selected;
  for (const CandidateTable& table : all) {
    if (!MatchesTablePatterns(options_.tables, table.name.schema, table.name.name)) continue;
    if (table.persistence == 'u') {
      Add(Severity::kWarn, "S19",
          fmt::format("{}.{} is unlogged and never in the stream", table.name.schema,
                      table.name.name),
          "it will be left out",
          Sql{{"ALTER TABLE " + QuoteTable(table.name.schema, table.name.name) + " SET LOGGED"}});
      continue;
    }
    selected.push_back(table);
  }
  ETL_RETURN_IF_ERROR(CheckForeign(options_.tables.empty() ? Published(all, found) : selected));
  if (!options_.tables.empty() && selected.empty()) {
    Add(Severity::kFail, "S12", "`tables` selects no table of the source",
        fmt::format("there are {} tables to choose from", all.size()),
        "correct the patterns in `tables`");
  }
  if (!found) {
    if (!selected.empty()) return CheckRightToPublish(selected);
    if (options_.tables.empty()) {
      Add(Severity::kFail, "S11",
          fmt::format("publication \"{}\" does not exist", options_.publication),
          "and `tables` does not say what to publish",
          "list tables in the pipeline's `tables`, or create the publication");
    }
    return Status::OK();
  }
  const std::string quoted = QuoteIdentifier(options_.publication);
  if (found->tables.empty()) {
    Add(Severity::kFail, "S11", fmt::format("publication \"{}\" is empty", options_.publication),
        {}, "ALTER PUBLICATION " + quoted + " ADD TABLE …");
  } else if (!(found->inserts && found->updates && found->deletes && found->truncates)) {
    Add(Severity::kFail, "S11",
        fmt::format("publication \"{}\" does not publish all operations", options_.publication),
        "the copy would differ from the source",
        Sql{{"ALTER PUBLICATION " + quoted +
             " SET (publish = 'insert, update, delete, truncate')"}});
  } else {
    Ok("S11", fmt::format("publication \"{}\" holds {} tables", options_.publication,
                          found->tables.size()));
  }
  const std::set<TableName> held(found->tables.begin(), found->tables.end());
  bool complete = true;
  for (const CandidateTable& table : selected) {
    if (held.contains(table.name)) continue;
    const std::string name = QuoteTable(table.name.schema, table.name.name);
    if (table.kind == 'p' && !found->via_root) {
      Add(Severity::kFail, "S19",
          fmt::format("{}.{} is published partition by partition", table.name.schema,
                      table.name.name),
          "publish_via_partition_root is off",
          Sql{{"ALTER PUBLICATION " + quoted + " SET (publish_via_partition_root = true)"}});
    } else if (!found->ours) {
      Add(Severity::kFail, "S12",
          fmt::format("{}.{} is not published", table.name.schema, table.name.name),
          "etl-stream does not change a publication that it did not create",
          Sql{{"ALTER PUBLICATION " + quoted + " ADD TABLE " + name}});
    } else {
      unpublished_.push_back(table.id);
      continue;
    }
    complete = false;
  }
  if (complete && !selected.empty()) Ok("S12", fmt::format("{} selected tables", selected.size()));
  return Status::OK();
}

Status Preflight::CheckTables() {
  std::vector<TableFacts> tables;
  if (publication_exists_) {
    ETL_ASSIGN_OR_RETURN(TablesAnswer answer,
                         LoadTables(*connection_, options_.publication, deadline_));
    tables = std::move(answer.tables);
  }
  if (!unpublished_.empty()) {
    ETL_ASSIGN_OR_RETURN(TablesAnswer answer, LoadTables(*connection_, unpublished_, deadline_));
    for (TableFacts& table : answer.tables) tables.push_back(std::move(table));
  }
  std::map<std::string, std::string> names;
  for (const TableFacts& table : tables) {
    if (!options_.tables.empty() &&
        !MatchesTablePatterns(options_.tables, table.schema, table.name))
      continue;
    const auto [it, fresh] = names.emplace(FoldCase(table.QualifiedName()), table.QualifiedName());
    if (!fresh && options_.names_ignore_case) {
      Add(Severity::kFail, "S26",
          fmt::format("{} and {} differ only in case", it->second, table.QualifiedName()),
          "the destination does not tell them apart",
          "exclude one of them in `tables`, or rename it");
    }
    CheckTable(table);
  }
  return Status::OK();
}

void Preflight::CheckTable(const TableFacts& table) {
  const size_t before = findings_.size();
  if (IsOurs(table)) {
    Add(Severity::kWarn, "S22", table.QualifiedName() + " looks like a table of an engine's own",
        "bookkeeping and tables under copy bear such names; whoever writes them is not to be "
        "replicated",
        fmt::format("add \"!{}\" to the pipeline's `tables`", table.QualifiedName()));
  }
  CheckIdentity(table);
  CheckSchema(table);
  const std::string quoted = QuoteTable(table.schema, table.name);
  const std::string role = QuoteIdentifier(PQuser(connection_->handle()));
  if (table.row_security) {
    Add(Severity::kFail, "S17",
        table.QualifiedName() + ": row-level security would hide rows from the copy",
        "the stream sends them all", Sql{{"ALTER ROLE " + role + " BYPASSRLS"}});
  }
  if (!table.can_select) {
    Add(Severity::kFail, "S18", table.QualifiedName() + ": the role may not read it",
        "the copy needs SELECT",
        Sql{{"GRANT USAGE ON SCHEMA " + QuoteIdentifier(table.schema) + " TO " + role,
             "GRANT SELECT ON " + quoted + " TO " + role}},
        table.kind == 'p' ? "and on its partitions" : "");
  }
  if (table.persistence == 'u') {
    Add(Severity::kFail, "S19", table.QualifiedName() + " is unlogged and never in the stream", {},
        Sql{{"ALTER TABLE " + quoted + " SET LOGGED"}});
  }
  if (findings_.size() == before) Ok("S13", table.QualifiedName() + " can be copied and followed");
}

void Preflight::CheckIdentity(const TableFacts& table) {
  const std::string quoted = QuoteTable(table.schema, table.name);
  if (!table.key.empty() && table.replica_identity != 'n') return;
  if (table.replica_identity == 'f') {
    if (options_.append) return;
    Add(Severity::kWarn, "S13", table.QualifiedName() + " has no key and REPLICA IDENTITY FULL",
        "every update and delete compares whole rows, and the copy starts again if it is "
        "interrupted",
        "ALTER TABLE " + quoted + " ADD PRIMARY KEY (…)");
    return;
  }
  const std::string index = table.replica_identity == 'n' ? std::string() : UsableIndex(table);
  std::string remedy = "ALTER TABLE " + quoted + " REPLICA IDENTITY ";
  std::string note;
  if (table.replica_identity == 'n') {
    remedy += "DEFAULT";
  } else if (index.empty()) {
    remedy += "FULL";
    note = "or add a primary key";
  } else {
    remedy += "USING INDEX " + QuoteIdentifier(index);
  }
  Add(Severity::kFail, "S13",
      table.QualifiedName() + ": updates and deletes cannot be matched to rows",
      table.replica_identity == 'n'
          ? "its REPLICA IDENTITY is NOTHING"
          : "it has no usable primary key, and PostgreSQL refuses its updates once published",
      Sql{{remedy}}, note);
}

std::string Preflight::UsableIndex(const TableFacts& table) {
  const auto row =
      Ask(fmt::format("SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
                      "WHERE i.indrelid = {} AND i.indisunique "
                      "AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS "
                      "NULL AND NOT EXISTS (SELECT FROM "
                      "pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY "
                      "(i.indkey::int2[]) AND NOT a.attnotnull) LIMIT 1",
                      table.id.oid));
  return row.ok() && row->rows() == 1 ? row->String(0, 0) : std::string();
}

void Preflight::CheckSchema(const TableFacts& table) {
  const auto rules = options_.columns.find(table.QualifiedName());
  const auto schema =
      MakeTableSchema(table, rules == options_.columns.end() ? ColumnRules{} : rules->second, 1);
  if (!schema.ok()) {
    const std::string code = PartsOf(schema.status()).code;
    Fail(code == "ETL-S111"                         ? "S14"
         : code == "ETL-S112" || code == "ETL-S113" ? "S16"
                                                    : "S26",
         schema.status());
    return;
  }
  std::string as_text;
  for (const WireColumn& column : (*schema)->wire) {
    if (column.output >= 0 && !BinaryUnderstood(*column.type)) {
      as_text += (as_text.empty() ? "" : ", ") + column.name + " (" + column.type->name + ")";
    }
  }
  if (!as_text.empty())
    Ok("S16", table.QualifiedName() + ": kept as PostgreSQL's text: " + as_text);
  for (const AttributeFacts& column : table.columns) {
    if (column.published) continue;
    Add(Severity::kWarn, "S15",
        table.QualifiedName() + ": column \"" + column.name + "\" is not published",
        "generated, or not in the publication's column list; the copy does not have it");
  }
  // A row that comes to match a filter arrives as an insert without its out-of-line values.
  const bool large =
      std::any_of(table.columns.begin(), table.columns.end(), [](const AttributeFacts& column) {
        return column.published &&
               (column.type->kind == TypeKind::kText || column.type->kind == TypeKind::kBytea ||
                column.type->kind == TypeKind::kJsonb || column.type->kind == TypeKind::kJson ||
                column.type->kind == TypeKind::kList || column.type->kind == TypeKind::kStruct ||
                column.type->kind == TypeKind::kServerText ||
                column.type->kind == TypeKind::kNumericText);
      });
  if (!table.row_filter.empty() && large && table.replica_identity != 'f') {
    Add(Severity::kFail, "S13",
        table.QualifiedName() + ": a row filter needs REPLICA IDENTITY FULL here",
        "rows that come to match the filter arrive without their out-of-line values",
        Sql{{"ALTER TABLE " + QuoteTable(table.schema, table.name) + " REPLICA IDENTITY FULL"}});
  }
}

}  // namespace etl
