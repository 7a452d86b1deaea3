#include "app/starter_config.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "base/http_url.h"
#include "base/secret.h"
#include "config/conninfo.h"
#include "config/values.h"

namespace etl {
namespace {

// Arguments: name, url, password line, file.
constexpr const char* kTemplate = R"(# etl-stream copies PostgreSQL into DuckDB, exactly.
#   etl-stream check     looks at both ends and changes nothing
#   etl-stream sync      brings the copy up to date, then exits
#   etl-stream run       keeps it up to date
# Every key, with its default, is in docs/configuration.md. Unknown keys are errors.
version: 1

sources:
  {0}:
    type: postgres
    # The role needs LOGIN, REPLICATION, and SELECT on the tables. TLS is checked fully unless the host is loopback or sslmode says otherwise.
    url: {1}
{2}
destinations:
  {0}_copy:
    type: duckdb
    path: {3}          # relative to this file
    # release: 1s      # without changes for so long, the file is closed for others to open; off keeps it open

pipelines:
  {0}:
    source: {0}
    destination: {0}_copy
    tables: ["public.*"]          # schema.table; * is anything, ! excludes, the last match wins
    # mode: mirror                # mirror: the source's rows; append: every change, with its metadata
    # publication: etl_{0}        # made if it does not exist
    # slot: etl_{0}               # made if it does not exist
    # snapshot: {{parallelism: 2, chunk_rows: 100000}}
    # batch: {{max_rows: 100000, max_bytes: 16MiB, max_delay: 1s}}
    # retry: {{max_delay: 1m, give_up: 2m}}
    # columns:
    #   public.users: {{exclude: [password_hash], hash: [email]}}
    # hash_key: {{env: HASH_KEY}}
    # on_unrepresentable: error   # error | null

# catalog: etl-stream.db
# limits: {{memory: 512MiB, spill: 10GiB, spill_dir: /var/tmp, shutdown: 5s}}
)";

// In double quotes nothing of YAML is special but these; a dollar would begin a variable.
std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
    if (c == '$') out += '$';
  }
  return out + "\"";
}

// The database's name where it can be seen, made into a name of ours.
std::string NameFor(const std::string& conninfo) {
  std::string database;
  if (const size_t scheme = conninfo.find("://"); scheme != std::string::npos) {
    const size_t slash = conninfo.find('/', scheme + 3);
    if (slash != std::string::npos)
      database = conninfo.substr(slash + 1, conninfo.find('?', slash) - slash - 1);
  } else if (const size_t at = conninfo.find("dbname="); at != std::string::npos) {
    database = conninfo.substr(at + 7, conninfo.find(' ', at) - at - 7);
  }
  std::string name;
  for (char c : database) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    const bool letter = c >= 'a' && c <= 'z';
    if (letter || (!name.empty() && ((c >= '0' && c <= '9') || c == '_'))) name += c;
    if (c == '-' && !name.empty()) name += '_';
  }
  name = name.substr(0, 40);
  return name.empty() ? "shop" : name;
}

std::string Upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  return text;
}

// What stands after `key` up to one of `ends`, without quotes.
std::optional<std::string> ValueAfter(const std::string& text, const std::string& key,
                                      const char* ends) {
  const size_t at = text.find(key);
  if (at == std::string::npos) return std::nullopt;
  const size_t begin = at + key.size();
  std::string value = text.substr(begin, text.find_first_of(ends, begin) - begin);
  std::erase(value, '\'');
  return value;
}

// The hosts, by commas, with their ports; empty: a socket of this machine.
std::string HostsOf(const std::string& conninfo) {
  const size_t scheme = conninfo.find("://");
  for (const char* key : {"hostaddr=", "host="}) {
    if (auto hosts = ValueAfter(conninfo, key, scheme == std::string::npos ? " " : "&"))
      return *hosts;
  }
  if (scheme == std::string::npos) return "";
  const std::string authority = *ValueAfter(conninfo, "://", "/?");
  return authority.substr(authority.find('@') + 1);  // npos + 1 is the beginning
}

bool IsHere(std::string host) {
  if (host.starts_with("[")) {
    host = host.substr(1, host.find(']') - 1);
  } else {
    host = host.substr(0, host.find(':'));
  }
  return host.empty() || host.starts_with("/") || host.starts_with("%2") || IsLoopbackHost(host);
}

bool AllHere(const std::string& conninfo) {
  const std::string hosts = HostsOf(conninfo);
  for (size_t at = 0; at <= hosts.size();) {
    const size_t end = std::min(hosts.find(',', at), hosts.size());
    if (!IsHere(hosts.substr(at, end - at))) return false;
    at = end + 1;
  }
  return true;
}

bool HasControl(const std::string& text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace

Result<StarterConfig> MakeStarterConfig(const std::string& from, const std::string& to) {
  SplitConninfo source = SplitPassword(from.empty() ? "postgres://etl@localhost:5432/shop" : from);
  if (!source.error.empty() || HasControl(from)) {
    return MakeError(
        ErrorKind::kUsage, "ETL-U001",
        fmt::format("--from: {}", source.error.empty() ? "control characters" : source.error),
        "etl-stream init --from postgres://user@host:5432/database");
  }
  if (!to.empty() && (!to.starts_with("duckdb:") || to.size() == 7 || HasControl(to))) {
    return MakeError(ErrorKind::kUsage, "ETL-U001",
                     fmt::format("--to {}: this version writes to duckdb:FILE", to),
                     "etl-stream init --to duckdb:copy.duckdb");
  }
  const std::string name = NameFor(source.conninfo);
  const std::string path = to.empty() ? name + ".duckdb" : to.substr(7);
  const std::string variable = Upper(name) + "_PASSWORD";
  StarterConfig starter;
  std::string password = fmt::format("    # password: {{env: {}}}\n", variable);
  if (source.password.has_value()) {
    WipeString(*source.password);
    password = fmt::format("    password: {{env: {}}}\n", variable);
    starter.hint = fmt::format(
        "the password was not written down: export {}=… before the next command", variable);
  } else if (!AllHere(source.conninfo)) {
    starter.hint = fmt::format(
        "if the role has a password: uncomment `password: {{env: {0}}}` in the file, and export "
        "{0}=… before the next command",
        variable);
  }
  starter.text =
      fmt::format(fmt::runtime(kTemplate), name, Quoted(source.conninfo), password, Quoted(path));
  return starter;
}

}  // namespace etl
