// `tap`: changes from now on, through a temporary slot of its own.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "control/commands.h"
#include "control/pipeline_factory.h"
#include "control/tap_change.h"
#include "decode/pgoutput.h"
#include "postgres/libpq_wal_stream.h"
#include "postgres/table_query.h"

namespace etl {
namespace {

constexpr auto kAskTime = std::chrono::seconds(30);
// A slot is created once the transactions that write at that moment have ended.
constexpr auto kSlotTime = std::chrono::seconds(60);
constexpr auto kReportEvery = std::chrono::seconds(5);

class Tap {
 public:
  Tap(ControlContext& context, const std::string& pipeline,
      const std::function<bool(std::string_view)>& print)
      : context_(context),
        print_(print),
        definition_(context.config->pipelines.at(pipeline)),
        slot_(fmt::format("etl_tap_{}_{}", getpid(), context.clock.WallNow() % 1000000)) {}

  Status Run() {
    const Status outcome = Begin();
    // Asked to end before the first change: that is no failure.
    if (!outcome.ok() && !context_.interrupt.stopping()) return outcome;
    if (!outcome.ok()) return Status::OK();
    const Status ended = Listen();
    stream_->Close(received_, received_, In(std::chrono::seconds(2)));
    stream_.reset();
    WaitUntilGone();
    return ended;
  }

 private:
  Status Begin() {
    ETL_ASSIGN_OR_RETURN(source_, MakeSourceOptions(*context_.config, definition_));
    source_.stop = &context_.interrupt.stop_flag();
    if (!definition_.hash_key.empty()) {
      ETL_ASSIGN_OR_RETURN(const Secret key, definition_.hash_key.Resolve());
      hash_key_ = std::string(key.Reveal());
    }
    ETL_ASSIGN_OR_RETURN(catalog_,
                         PgConnection::Connect(source_, PgConnection::Mode::kNormal, In(kAskTime)));
    ETL_RETURN_IF_ERROR(CheckPublication());
    ETL_RETURN_IF_ERROR(LoadFacts());
    ETL_RETURN_IF_ERROR(RememberTables());
    StreamOptions options;
    options.slot = slot_;
    options.temporary = true;
    options.publications = {definition_.publication};
    ETL_ASSIGN_OR_RETURN(stream_, LibpqWalStream::Make(source_, options, In(kSlotTime)));
    LogInfo("changes are printed from now on",
            {{"pipeline", definition_.name}, {"publication", definition_.publication}});
    return Status::OK();
  }

  Instant In(Duration time) const { return context_.clock.Now() + time; }

  Status CheckPublication() {
    ETL_ASSIGN_OR_RETURN(const PgResult found,
                         catalog_->Query("SELECT pubname FROM pg_publication", In(kAskTime)));
    for (int row = 0; row < found.rows(); ++row) {
      if (found.Text(row, 0) == definition_.publication) return Status::OK();
    }
    return MakeError(
        ErrorKind::kSchema, "ETL-S120",
        fmt::format("tap: there is no publication \"{}\" yet", definition_.publication),
        "etl-stream sync " + definition_.name);
  }

  Status LoadFacts() {
    ETL_ASSIGN_OR_RETURN(TablesAnswer answer,
                         LoadTables(*catalog_, definition_.publication, In(kAskTime)));
    facts_ = std::move(answer.tables);
    return Status::OK();
  }

  // `columns` names tables, and the pipeline follows each by its oid: one that had rules and is
  // renamed keeps them. Which names it knows its tables by is in its status; of a table that it
  // does not know yet the present name counts.
  Status RememberTables() {
    ETL_ASSIGN_OR_RETURN(const std::optional<PipelineStatus> seen,
                         context_.catalog.GetStatus(definition_.name));
    std::set<std::string> names;
    if (seen) {
      for (const TableStatus& table : seen->tables) {
        if (table.id.oid == 0) continue;
        known_[table.id] = {.name = table.name, .rules = table.rules || HasRules(table.name)};
        names.insert(table.name);
      }
    }
    for (const TableFacts& facts : facts_) names.insert(facts.QualifiedName());
    for (const auto& [name, rules] : definition_.columns) {
      if (HasRules(name) && !names.contains(name)) nobodys_rules_.push_back(name);
    }
    for (const TableFacts& facts : facts_) {
      // Any of these may be the table that had the rules of a name that is gone.
      if (!nobodys_rules_.empty() && !definition_.columns.contains(facts.QualifiedName())) continue;
      known_.try_emplace(
          facts.id, Known{.name = facts.QualifiedName(), .rules = HasRules(facts.QualifiedName())});
    }
    return Status::OK();
  }

  bool HasRules(const std::string& name) const {
    const auto found = definition_.columns.find(name);
    return found != definition_.columns.end() &&
           !(found->second.exclude.empty() && found->second.hash.empty());
  }

  // Why nothing of the table may be printed under the rules of its present name; empty: it may.
  std::string WhyLeftOut(const std::string& name) {
    if (definition_.columns.contains(name)) {
      known_[message_.table] = {.name = name, .rules = HasRules(name)};
      return {};
    }
    const auto known = known_.find(message_.table);
    if (known == known_.end()) {
      if (nobodys_rules_.empty()) return {};
      return "no table is called " + nobodys_rules_.front() +
             ", of which `columns` speaks; it may be this one";
    }
    if (known->second.name == name || !known->second.rules) return {};
    return "it was called " + known->second.name + ", and had rules";
  }

  const TableFacts* FactsOf(const DecodedMessage& relation) const {
    for (const TableFacts& facts : facts_) {
      if (facts.id != relation.table) continue;
      const bool same = std::all_of(
          relation.columns.begin(), relation.columns.end(), [&](const RelationColumn& column) {
            return std::any_of(
                facts.columns.begin(), facts.columns.end(), [&](const AttributeFacts& attribute) {
                  return attribute.name == column.name && attribute.type_oid == column.type_oid;
                });
          });
      return same ? &facts : nullptr;
    }
    return nullptr;
  }

  Status Listen() {
    Instant next_report{};
    while (!context_.interrupt.stopping() && !reader_gone_) {
      const Instant now = context_.clock.Now();
      ETL_ASSIGN_OR_RETURN(const std::optional<std::string_view> frame, stream_->Next(now));
      if (frame) ETL_RETURN_IF_ERROR(OnFrame(*frame));
      if (reply_wanted_ || now >= next_report) {
        ETL_RETURN_IF_ERROR(stream_->SendStatus(received_, received_, false));
        reply_wanted_ = false;
        next_report = now + kReportEvery;
      }
      if (!frame) Wait(now, next_report);
    }
    return Status::OK();
  }

  void Wait(Instant now, Instant next_report) {
    std::vector<pollfd> fds = {
        {.fd = context_.interrupt.changed().fd(), .events = POLLIN, .revents = 0}};
    const Instant until = std::min(stream_->LookAgainBy(now), next_report);
    stream_->AddPollFds(fds);
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(until - now).count();
    poll(fds.data(), fds.size(), static_cast<int>(std::clamp<int64_t>(wait, 0, 5000)));
    if ((fds[0].revents & POLLIN) != 0) context_.interrupt.changed().Clear();
  }

  Status OnFrame(std::string_view bytes) {
    ETL_ASSIGN_OR_RETURN(const ReplicationFrame frame, ParseReplicationFrame(bytes));
    if (!frame.keepalive) return OnMessage(frame.payload);
    if (frame.reply_requested) reply_wanted_ = true;
    if (!in_transaction_) received_ = std::max(received_, frame.wal_end);
    return Status::OK();
  }

  Status OnMessage(std::string_view payload) {
    ETL_RETURN_IF_ERROR(DecodeMessage(payload, /*in_stream_block=*/false, &message_));
    switch (message_.type) {
      case MessageType::kBegin:
        in_transaction_ = true;
        commit_ = message_.lsn;
        commit_time_ = message_.time;
        xid_ = message_.xid;
        next_ordinal_ = 0;
        return Status::OK();
      case MessageType::kCommit:
        in_transaction_ = false;
        received_ = std::max(received_, message_.end_lsn);
        return Status::OK();
      case MessageType::kRelation: return OnRelation();
      case MessageType::kInsert:
      case MessageType::kUpdate:
      case MessageType::kDelete: return OnChange({&message_.table, 1});
      case MessageType::kTruncate: return OnChange(message_.tables);
      default: return Status::OK();
    }
  }

  Status OnRelation() {
    tables_.erase(message_.table);
    if (!definition_.tables.Selects(message_.schema, message_.name)) return Status::OK();
    const TableFacts* facts = FactsOf(message_);
    if (facts == nullptr) {
      ETL_RETURN_IF_ERROR(LoadFacts());
      facts = FactsOf(message_);
    }
    const std::string name = fmt::format("{}.{}", message_.schema, message_.name);
    if (const std::string why = WhyLeftOut(name); !why.empty()) {
      LogWarn("changes of a table are left out",
              {{"table", name},
               {"because", why},
               {"do", "name " + name + " under `columns` (with {} to print it whole)"}});
      return Status::OK();
    }
    TapTable::Options options{.rules = {}, .hash_key = hash_key_};
    if (const auto rules = definition_.columns.find(name); rules != definition_.columns.end())
      options.rules = {.exclude = rules->second.exclude, .hash = rules->second.hash};
    if (facts != nullptr) {
      // What the pipeline would set aside is not printed either: a rule that does not fit must not
      // let a value through.
      const Status usable = MakeTableSchema(*facts, options.rules, 1).status();
      if (!usable.ok()) {
        LogWarn("changes of a table are left out", {{"table", name}, {"error", ErrorLine(usable)}});
        return Status::OK();
      }
    } else if (!NamesOwnColumns(options.rules)) {
      LogWarn("changes of a table are left out",
              {{"table", name}, {"because", "a column that `columns` names has another name"}});
      return Status::OK();
    }
    ETL_ASSIGN_OR_RETURN(tables_[message_.table], TapTable::Make(message_, facts, options));
    return Status::OK();
  }

  // Columns may be renamed faster than the catalog can be looked at.
  bool NamesOwnColumns(const ColumnRules& rules) const {
    const auto there = [&](const std::string& name) {
      return std::any_of(message_.columns.begin(), message_.columns.end(),
                         [&](const RelationColumn& column) { return column.name == name; });
    };
    return std::all_of(rules.exclude.begin(), rules.exclude.end(), there) &&
           std::all_of(rules.hash.begin(), rules.hash.end(), there);
  }

  Status OnChange(std::span<const TableId> ids) {
    const uint64_t ordinal = std::exchange(next_ordinal_, next_ordinal_ + 2);
    for (const TableId id : ids) {
      const auto table = tables_.find(id);
      if (table == tables_.end()) continue;
      table->second->Begin(commit_, commit_time_, xid_);
      ETL_ASSIGN_OR_RETURN(const std::vector<std::string> lines,
                           table->second->Changes(message_, ordinal));
      for (const std::string& line : lines) reader_gone_ = reader_gone_ || !print_(line);
    }
    return Status::OK();
  }

  // The server drops the slot when its session has ended; nothing is left behind once that is seen.
  void WaitUntilGone() {
    // The connection at hand answers no more once an end was asked for.
    source_.stop = nullptr;
    const Instant deadline = In(std::chrono::seconds(3));
    const auto observer = PgConnection::Connect(source_, PgConnection::Mode::kNormal, deadline);
    while (observer.ok() && context_.clock.Now() < deadline) {
      const Result<PgResult> found = (*observer)->Query(
          "SELECT 1 FROM pg_replication_slots WHERE slot_name = '" + slot_ + "'", deadline);
      if (!found.ok() || found->rows() == 0) return;
      poll(nullptr, 0, 20);
    }
  }

  ControlContext& context_;
  const std::function<bool(std::string_view)>& print_;
  const PipelineConfig& definition_;
  const std::string slot_;
  SourceOptions source_;
  std::string hash_key_;
  std::unique_ptr<PgConnection> catalog_;
  std::unique_ptr<LibpqWalStream> stream_;
  std::vector<TableFacts> facts_;
  struct Known {
    std::string name;
    bool rules = false;
  };
  std::map<TableId, Known> known_;          ///< as the pipeline, or this, last knew the table
  std::vector<std::string> nobodys_rules_;  ///< names under `columns` that no table has or had
  std::map<TableId, std::unique_ptr<TapTable>> tables_;
  DecodedMessage message_;
  Lsn received_;
  Lsn commit_;
  UnixMicros commit_time_ = 0;
  uint32_t xid_ = 0;
  uint64_t next_ordinal_ = 0;
  bool in_transaction_ = false;
  bool reply_wanted_ = false;
  bool reader_gone_ = false;
};

}  // namespace

Status RunTap(ControlContext& context, const std::string& pipeline,
              const std::function<bool(std::string_view)>& print) {
  return Tap(context, pipeline, print).Run();
}

}  // namespace etl
