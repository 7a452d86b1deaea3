#include "support/pg_server.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace etl {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

Status Failed(std::string what, std::string why = {}) {
  return MakeError(ErrorKind::kInternal,
                   ErrorParts{.code = "ETL-TEST", .what = std::move(what), .why = std::move(why)});
}

std::string FindBinDirectory() {
  if (const char* chosen = std::getenv("ETL_PG_BINDIR")) return chosen;
  std::string best;
  int best_version = 0;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/usr/lib/postgresql", ignored)) {
    const int version = std::atoi(entry.path().filename().c_str());
    if (version > best_version && fs::exists(entry.path() / "bin/postgres", ignored)) {
      best_version = version;
      best = entry.path() / "bin";
    }
  }
  return best;
}

int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  int port = 0;
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    port = ntohs(address.sin_port);
  }
  close(fd);
  return port;
}

/// PostgreSQL refuses to run as root; as root the server runs as this user.
const passwd* ServerUser() { return geteuid() == 0 ? getpwnam("postgres") : nullptr; }

}  // namespace

Result<std::unique_ptr<PgServer>> PgServer::Start(const PgServerOptions& options) {
  std::unique_ptr<PgServer> server(new PgServer());
  server->settings_ = options.settings;
  server->bin_ = FindBinDirectory();
  if (server->bin_.empty()) return Failed("no PostgreSQL server programs found; set ETL_PG_BINDIR");
  char path[] = "/tmp/etl-pg-XXXXXX";
  if (mkdtemp(path) == nullptr) return Failed("mkdtemp failed", std::strerror(errno));
  server->directory_ = path;
  if (const passwd* user = ServerUser()) {
    if (chown(path, user->pw_uid, user->pw_gid) != 0)
      return Failed("chown failed", std::strerror(errno));
  }
  std::vector<std::string> initdb = {server->bin_ + "/initdb",
                                     "-D",
                                     server->directory_ + "/data",
                                     "-U",
                                     "postgres",
                                     "--no-sync",
                                     "--auth-local=trust",
                                     "--auth-host=scram-sha-256",
                                     "--pwfile=" + server->directory_ + "/password"};
  std::ofstream(server->directory_ + "/password") << kPassword << "\n";
  if (options.initdb_arguments.empty()) {
    initdb.insert(initdb.end(), {"--encoding=UTF8", "--locale=C.UTF-8"});
  } else {
    initdb.insert(initdb.end(), options.initdb_arguments.begin(), options.initdb_arguments.end());
  }
  ETL_RETURN_IF_ERROR(server->RunTool(initdb));
  Status started;
  for (int attempt = 0; attempt < 3; ++attempt) {
    // Somebody else may take the port between the question and the server's start.
    server->port_ = FreePort();
    started = server->Launch();
    if (started.ok()) return server;
  }
  return started;
}

PgServer::~PgServer() {
  CloseAdmin();
  if (pid_ > 0) (void)End(SIGQUIT);
  std::error_code ignored;
  if (!directory_.empty()) fs::remove_all(directory_, ignored);
}

std::string PgServer::ConnInfo(const std::string& database) const {
  return fmt::format("host={} port={} user=postgres dbname={}", directory_, port_, database);
}

std::string PgServer::TcpConnInfo(const std::string& database) const {
  return fmt::format("host=127.0.0.1 port={} user=postgres dbname={}", port_, database);
}

Status PgServer::Launch() {
  std::vector<std::string> command = {bin_ + "/postgres", "-D", directory_ + "/data"};
  std::vector<std::string> all = {fmt::format("port={}", port_),
                                  "listen_addresses=127.0.0.1",
                                  "unix_socket_directories=" + directory_,
                                  "wal_level=logical",
                                  "max_wal_senders=20",
                                  "max_replication_slots=20",
                                  "max_connections=60",
                                  "fsync=off",
                                  "shared_buffers=32MB",
                                  "max_prepared_transactions=5",
                                  "log_min_messages=warning",
                                  "autovacuum=off"};
  all.insert(all.end(), settings_.begin(), settings_.end());
  for (const std::string& setting : all) {
    command.push_back("-c");
    command.push_back(setting);
  }
  pid_ = Spawn(command);
  if (pid_ < 0) return Failed("fork failed", std::strerror(errno));
  return WaitReady();
}

Status PgServer::WaitReady() {
  const auto deadline = steady_clock::now() + std::chrono::seconds(60);
  while (steady_clock::now() < deadline) {
    int outcome = 0;
    if (waitpid(pid_, &outcome, WNOHANG) == pid_) {
      pid_ = -1;
      return Failed("PostgreSQL ended while it was starting", LogTail());
    }
    if (PQping((ConnInfo() + " connect_timeout=5").c_str()) == PQPING_OK) {
      ETL_ASSIGN_OR_RETURN(const PgRows rows, Query("SHOW server_version_num"));
      version_num_ = std::atoi(rows[0][0].value_or("0").c_str());
      return Status::OK();
    }
    std::this_thread::sleep_for(milliseconds(10));
  }
  (void)End(SIGKILL);
  return Failed("PostgreSQL did not get ready within 60 s", LogTail());
}

Status PgServer::Stop() { return End(SIGINT); }
Status PgServer::Crash() { return End(SIGQUIT); }

Status PgServer::Restart() {
  if (pid_ > 0) ETL_RETURN_IF_ERROR(Stop());
  return Launch();
}

Status PgServer::End(int signal_number) {
  CloseAdmin();
  if (pid_ <= 0) return Status::OK();
  kill(pid_, signal_number);
  const auto started = steady_clock::now();
  bool insisted = false;
  while (true) {
    int outcome = 0;
    const pid_t ended = waitpid(pid_, &outcome, WNOHANG);
    if (ended == pid_ || (ended < 0 && errno == ECHILD)) break;
    if (!insisted && steady_clock::now() - started > std::chrono::seconds(20)) {
      insisted = true;
      kill(pid_, SIGQUIT);
    }
    if (steady_clock::now() - started > std::chrono::seconds(40)) kill(pid_, SIGKILL);
    std::this_thread::sleep_for(milliseconds(5));
  }
  pid_ = -1;
  return Status::OK();
}

Status PgServer::RunTool(const std::vector<std::string>& command) {
  const pid_t pid = Spawn(command);
  if (pid < 0) return Failed("fork failed", std::strerror(errno));
  int outcome = 0;
  while (waitpid(pid, &outcome, 0) < 0 && errno == EINTR) {
  }
  if (outcome != 0) return Failed(command[0] + " failed", LogTail());
  return Status::OK();
}

pid_t PgServer::Spawn(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const std::string& argument : command)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const std::string log = directory_ + "/log";
  const passwd* user = ServerUser();
  const uid_t uid = user != nullptr ? user->pw_uid : 0;
  const gid_t gid = user != nullptr ? user->pw_gid : 0;
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid != 0) return pid;
  // Only calls that are safe after fork in a process with threads.
  if (user != nullptr && (setgroups(0, nullptr) != 0 || setgid(gid) != 0 || setuid(uid) != 0))
    _exit(126);
  // After setuid, which would clear it: the server ends at once when the test ends, also by an
  // abort.
  prctl(PR_SET_PDEATHSIG, SIGQUIT);
  if (getppid() != parent) _exit(126);
  if (chdir(directory_.c_str()) != 0) _exit(126);
  const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  const int in = open("/dev/null", O_RDONLY);
  dup2(in, 0);
  dup2(out, 1);
  dup2(out, 2);
  for (int fd = 3; fd < 1024; ++fd) close(fd);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execv(arguments[0], arguments.data());
  _exit(127);
}

pg_conn* PgServer::Admin() {
  if (admin_ != nullptr && PQstatus(admin_) != CONNECTION_OK) CloseAdmin();
  if (admin_ == nullptr)
    admin_ = PQconnectdb(
        (ConnInfo() + " client_encoding=UTF8 options='-c client_min_messages=error'").c_str());
  return admin_;
}

void PgServer::CloseAdmin() {
  if (admin_ != nullptr) PQfinish(admin_);
  admin_ = nullptr;
}

Status PgServer::Exec(const std::string& sql) { return Query(sql).status(); }

Result<PgRows> PgServer::Query(const std::string& sql) {
  pg_conn* connection = Admin();
  std::unique_ptr<PGresult, decltype(&PQclear)> result(PQexec(connection, sql.c_str()), &PQclear);
  const ExecStatusType state = PQresultStatus(result.get());
  if (state != PGRES_COMMAND_OK && state != PGRES_TUPLES_OK)
    return Failed(sql, PQerrorMessage(connection));
  PgRows rows;
  for (int r = 0; r < PQntuples(result.get()); ++r) {
    auto& row = rows.emplace_back();
    for (int c = 0; c < PQnfields(result.get()); ++c) {
      if (PQgetisnull(result.get(), r, c)) {
        row.emplace_back(std::nullopt);
      } else {
        row.emplace_back(PQgetvalue(result.get(), r, c));
      }
    }
  }
  return rows;
}

std::string PgServer::Value(const std::string& sql) {
  const Result<PgRows> rows = Query(sql);
  if (!rows.ok()) return ErrorLine(rows.status());
  if (rows->empty() || rows->front().empty()) return "no row";
  return rows->front().front().value_or("NULL");
}

std::string PgServer::LogTail() const {
  std::ifstream file(directory_ + "/log");
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return text.size() > 2000 ? text.substr(text.size() - 2000) : text;
}

}  // namespace etl
