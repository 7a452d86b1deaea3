#include "support/slot_race.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include <libpq-fe.h>

namespace etl {
namespace {

class Session {
 public:
  explicit Session(const std::string& conninfo)
      : connection_(PQconnectdb(conninfo.c_str()), &PQfinish) {}

  // First column of the first row.
  std::string Do(const std::string& sql) {
    std::unique_ptr<PGresult, decltype(&PQclear)> result(PQexec(connection_.get(), sql.c_str()),
                                                         &PQclear);
    const ExecStatusType state = PQresultStatus(result.get());
    if (state != PGRES_COMMAND_OK && state != PGRES_TUPLES_OK)
      error_ = sql + ": " + PQerrorMessage(connection_.get());
    return PQntuples(result.get()) > 0 ? PQgetvalue(result.get(), 0, 0) : "";
  }
  // Opens a transaction that writes; returns its number.
  std::string Open() {
    Do("BEGIN");
    Do("INSERT INTO public.slot_race VALUES (1)");
    return Do("SELECT pg_current_xact_id()::xid");
  }
  const std::string& error() const { return error_; }

 private:
  std::unique_ptr<PGconn, decltype(&PQfinish)> connection_;
  std::string error_;
};

// Until somebody waits for the end of transaction `xid`, or `done`.
bool WaitForWaiter(Session& observer, const std::string& xid, const std::atomic<bool>& done) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!done && std::chrono::steady_clock::now() < until) {
    if (observer.Do("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = "
                    "'transactionid' AND transactionid = '" +
                    xid + "'") != "0")
      return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

}  // namespace

Status RunSlotRace(const SlotRace& race) {
  Session first(race.conninfo), second(race.conninfo), third(race.conninfo), other(race.conninfo);
  other.Do("CREATE TABLE IF NOT EXISTS public.slot_race (n int)");
  const std::string first_xid = first.Open();
  std::atomic<bool> done{false};
  std::thread creator([&] {
    race.create();
    done = true;
  });
  bool reached = WaitForWaiter(other, first_xid, done);
  const std::string second_xid = second.Open();
  other.Do(race.schema_change);
  first.Do("COMMIT");
  reached = WaitForWaiter(other, second_xid, done) && reached;
  // Decoded with what the server knew of the schema before the change.
  const std::string third_xid = third.Open();
  second.Do("COMMIT");
  // A creation that begins once more waits again.
  (void)WaitForWaiter(other, third_xid, done);
  third.Do(race.change);
  third.Do("COMMIT");
  creator.join();
  std::string error = reached ? "" : "the creation of the slot did not wait";
  for (const Session* session : {&first, &second, &third, &other})
    if (!session->error().empty()) error = session->error();
  if (error.empty()) return Status::OK();
  return MakeError(ErrorKind::kInternal, "ETL-TEST", error);
}

}  // namespace etl
