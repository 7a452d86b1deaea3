#pragma once

#include <memory>
#include <string>
#include <vector>

#include "postgres/preflight.h"
#include "postgres/source_setup.h"

namespace etl {

/// One run of RunSourcePreflight, which alone uses it: in preflight.cc the server, the role and the
/// slots, in preflight_tables.cc the publication and what it holds.
class Preflight {
 public:
  Preflight(const SourceOptions& source, const PreflightOptions& options, Instant deadline,
            const Clock& clock)
      : source_(source), options_(options), deadline_(deadline), clock_(clock) {}

  std::vector<PreflightFinding> Run() {
    if (Status status = Look(); !status.ok()) Fail("S06", status);
    return std::move(findings_);
  }

 private:
  using Severity = PreflightFinding::Severity;
  struct Sql {
    std::vector<std::string> statements;
  };

  Status Look();
  bool Connect();
  Status CheckServer();
  Status CheckRole();
  Status CheckSlots();
  Status CheckOtherSlots();
  Status CheckClock();
  Status CheckSenderTimeout();
  Status CheckFailover();
  Status CheckDecodingMemory();
  Status CheckForeign(const std::vector<CandidateTable>& selected);
  Status CheckPublication();
  Status CheckRightToPublish(const std::vector<CandidateTable>& selected);
  Status CheckTables();
  void CheckTable(const TableFacts& table);
  void CheckIdentity(const TableFacts& table);
  void CheckSchema(const TableFacts& table);
  std::string UsableIndex(const TableFacts& table);

  void Add(Severity severity, std::string id, std::string what, std::string why = {},
           std::string remedy = {}) {
    findings_.push_back(
        {severity, std::move(id), std::move(what), std::move(why), std::move(remedy), {}});
  }
  /// With statements that cure it.
  void Add(Severity severity, std::string id, std::string what, std::string why, Sql sql,
           const std::string& note = {}) {
    findings_.push_back(WithSql({severity, std::move(id), std::move(what), std::move(why), {}, {}},
                                std::move(sql.statements), note));
  }
  void Ok(std::string id, std::string what) { Add(Severity::kOk, std::move(id), std::move(what)); }
  void Fail(std::string id, const Status& status) {
    ErrorParts parts = PartsOf(status);
    const bool sql = parts.remedy.ends_with(';');
    if (!sql) return Add(Severity::kFail, std::move(id), parts.what, parts.why, parts.remedy);
    Add(Severity::kFail, std::move(id), parts.what, parts.why,
        Sql{{parts.remedy.substr(0, parts.remedy.size() - 1)}});
  }
  Result<PgResult> Ask(const std::string& sql) { return connection_->Query(sql, deadline_); }
  Result<std::string> Setting(const std::string& name) {
    ETL_ASSIGN_OR_RETURN(const PgResult row,
                         Ask("SELECT setting FROM pg_settings WHERE name = " + QuoteLiteral(name)));
    return row.rows() == 0 ? std::string() : row.String(0, 0);
  }

  const SourceOptions& source_;
  const PreflightOptions& options_;
  const Instant deadline_;
  const Clock& clock_;
  std::vector<PreflightFinding> findings_;
  std::unique_ptr<PgConnection> connection_;
  std::unique_ptr<SourceSetup> setup_;
  bool slot_exists_ = false;
  bool publication_exists_ = false;
  std::vector<TableId> unpublished_;  ///< tables that the publication would be made of
};

}  // namespace etl
