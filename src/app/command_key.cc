#include <optional>

#include <fmt/format.h>

#include "app/commands.h"
#include "app/terminal.h"
#include "base/log.h"
#include "destination/snowflake/blocking_sql.h"
#include "destination/snowflake/key.h"
#include "destination/snowflake/key_rotation.h"
#include "destination/snowflake/user_keys.h"

namespace etl {
namespace {

// Where a key goes and whose it is.
struct KeyPlan {
  std::string file;
  std::string user;
  SecretRef passphrase;
};

Status Usage(std::string what, std::string remedy) {
  return MakeError(ErrorKind::kUsage, "ETL-U001", std::move(what), std::move(remedy));
}

// The destination that the command names, or the only one there is.
Result<const DestinationConfig*> ChooseSnowflake(const Session& session) {
  const std::string& wanted = session.line().destination;
  const DestinationConfig* found = nullptr;
  std::string names;
  for (const auto& [name, destination] : session.config().destinations) {
    if (!destination.snowflake.has_value()) continue;
    names += (names.empty() ? "" : ", ") + name;
    if (name == wanted) return &destination;
    found = &destination;
  }
  if (names.empty())
    return Usage("the configuration has no destination of type snowflake", "add one");
  if (!wanted.empty())
    return Usage(fmt::format("there is no Snowflake destination \"{}\"", wanted),
                 fmt::format("name one of: {}", names));
  if (names.find(',') != std::string::npos)
    return Usage("the configuration has several Snowflake destinations",
                 fmt::format("name one of: {}", names));
  return found;
}

Result<KeyPlan> PlanOf(const DestinationConfig& destination) {
  const SnowflakeConfig& config = *destination.snowflake;
  if (config.private_key.kind() != SecretRef::Kind::kFile) {
    return Usage(fmt::format("destinations.{}.private_key is not a file", destination.name),
                 "write private_key: {file: PATH}, or use --out");
  }
  return KeyPlan{.file = config.private_key.name(),
                 .user = config.user,
                 .passphrase = config.private_key_passphrase};
}

Result<KeyPlan> PlanOfLine(Session& session) {
  const CommandLine& line = session.line();
  if (!line.out.empty()) {
    KeyPlan plan{.file = line.out, .user = line.user.empty() ? "ETL_USER" : line.user};
    if (!line.passphrase_env.empty()) plan.passphrase = SecretRef::Env(line.passphrase_env);
    return plan;
  }
  ETL_RETURN_IF_ERROR(session.LoadConfig());
  ETL_ASSIGN_OR_RETURN(const DestinationConfig* destination, ChooseSnowflake(session));
  ETL_ASSIGN_OR_RETURN(KeyPlan plan, PlanOf(*destination));
  if (!line.user.empty()) plan.user = line.user;
  return plan;
}

Result<int> Generate(Session& session) {
  ETL_ASSIGN_OR_RETURN(const KeyPlan plan, PlanOfLine(session));
  ETL_ASSIGN_OR_RETURN(const Secret passphrase, plan.passphrase.Resolve());
  ETL_ASSIGN_OR_RETURN(const auto key, PrivateKey::Generate(session.line().bits));
  ETL_RETURN_IF_ERROR(key->WriteFile(plan.file, passphrase));
  PrintError(fmt::format("{} was written: RSA {} bits, {}, {}\n", EscapeControl(plan.file),
                         key->bits(), passphrase.empty() ? "not encrypted" : "encrypted",
                         key->fingerprint()));
  PrintError("Somebody who may alter the user registers it with:\n");
  Print(SetKeySql(plan.user, KeySlot::kFirst, key->public_key()) + ";\n");
  return 0;
}

Status ConfirmRotation(const Session& session, const KeyPlan& plan) {
  PrintError(
      fmt::format("User {} gets a new key in its free slot; {} is replaced once Snowflake "
                  "accepts it, and the old key is removed then.\n",
                  EscapeControl(plan.user), EscapeControl(plan.file)));
  if (session.line().yes) return Status::OK();
  if (!StdinIsTerminal()) {
    return MakeError(ErrorKind::kUsage, "ETL-U003",
                     "key rotate asks before it acts, and there is no terminal to ask on",
                     "add --yes");
  }
  if (Ask("Go on?")) return Status::OK();
  return MakeError(ErrorKind::kNegative, "ETL-U003", "nothing was changed");
}

Result<int> Rotate(Session& session) {
  ETL_RETURN_IF_ERROR(session.LoadConfig());
  ETL_ASSIGN_OR_RETURN(const DestinationConfig* destination, ChooseSnowflake(session));
  ETL_ASSIGN_OR_RETURN(const KeyPlan plan, PlanOf(*destination));
  ETL_RETURN_IF_ERROR(ConfirmRotation(session, plan));
  const SnowflakeConfig& config = *destination->snowflake;
  const std::string& role = session.line().role;
  const auto connect = [&](const std::string& file) -> Result<StatementRunner> {
    KeyOrigin origin = KeyFromConfig(SecretRef::File(file), config.private_key_passphrase);
    ETL_ASSIGN_OR_RETURN(std::shared_ptr<BlockingSql> sql,
                         BlockingSql::Make(config, std::move(origin), role));
    return StatementRunner([sql](SqlRequest request) { return sql->Run(std::move(request)); });
  };
  ETL_RETURN_IF_ERROR(
      RotateKey({.user = config.user,
                 .key_file = plan.file,
                 .passphrase = [&plan] { return plan.passphrase.Resolve(); },
                 .overwrite_other = session.line().replace_other,
                 .connect = connect,
                 .say = [](const std::string& line) { PrintError(EscapeControl(line) + "\n"); }}));
  Print(fmt::format("the key of {} was changed\n", EscapeControl(config.user)));
  return 0;
}

}  // namespace

Result<int> KeyCommand(Session& session) {
  return session.line().action == "generate" ? Generate(session) : Rotate(session);
}

}  // namespace etl
