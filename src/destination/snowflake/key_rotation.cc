#include "destination/snowflake/key_rotation.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

#include "destination/snowflake/user_keys.h"

namespace etl {
namespace {

class Rotation {
 public:
  explicit Rotation(const KeyRotation& plan) : plan_(plan), new_file_(plan.key_file + ".new") {}

  Status Run() {
    ETL_ASSIGN_OR_RETURN(const Secret passphrase, plan_.passphrase());
    ETL_ASSIGN_OR_RETURN(const auto old_key, PrivateKey::ReadFile(plan_.key_file, passphrase));
    ETL_ASSIGN_OR_RETURN(const StatementRunner with_old, plan_.connect(plan_.key_file));
    ETL_ASSIGN_OR_RETURN(const UserKeys before, Keys(with_old));
    ETL_ASSIGN_OR_RETURN(const KeySlot old_slot, SlotOf(before, old_key->fingerprint()));
    const KeySlot new_slot = OtherSlot(old_slot);
    plan_.say(
        fmt::format("the key in use, {}, is in {}", old_key->fingerprint(), KeySlotName(old_slot)));
    ETL_ASSIGN_OR_RETURN(const auto new_key, NewKey(passphrase, old_key->bits()));
    ETL_RETURN_IF_ERROR(Register(with_old, before, new_slot, *new_key));
    ETL_ASSIGN_OR_RETURN(const StatementRunner with_new, plan_.connect(new_file_));
    ETL_RETURN_IF_ERROR(
        Ask(with_new, "sign in with the new key", "SELECT CURRENT_USER()").status());
    plan_.say("the new key is accepted");
    ETL_RETURN_IF_ERROR(ReplaceFile());
    plan_.say(fmt::format("{} holds the new key; a running service takes it up within seconds",
                          plan_.key_file));
    return RemoveOld(with_new, old_slot, old_key->fingerprint());
  }

 private:
  Result<SqlRows> Ask(const StatementRunner& runner, std::string what, std::string sql) const {
    SqlOutcome outcome = runner({.what = std::move(what), .text = std::move(sql)});
    ETL_RETURN_IF_ERROR(outcome.status);
    return outcome.results.empty() ? SqlRows() : std::move(outcome.results[0]);
  }

  Result<UserKeys> Keys(const StatementRunner& runner) const {
    ETL_ASSIGN_OR_RETURN(const SqlRows rows,
                         Ask(runner, "look at the user's keys", DescribeUserSql(plan_.user)));
    return ReadUserKeys(rows);
  }

  Result<KeySlot> SlotOf(const UserKeys& keys, const std::string& fingerprint) const {
    if (keys.first == fingerprint) return KeySlot::kFirst;
    if (keys.second == fingerprint) return KeySlot::kSecond;
    return MakeError(
        ErrorKind::kAuth, "ETL-D103",
        fmt::format("snowflake: neither key of user {} is {}", plan_.user, fingerprint),
        "etl-stream key generate prints how to register one");
  }

  // One that an earlier attempt left is taken: it may be registered already.
  Result<std::unique_ptr<PrivateKey>> NewKey(const Secret& passphrase, int bits) const {
    std::error_code error;
    if (std::filesystem::exists(new_file_, error)) {
      plan_.say(fmt::format("{} of an earlier attempt is used", new_file_));
      return PrivateKey::ReadFile(new_file_, passphrase);
    }
    ETL_ASSIGN_OR_RETURN(auto key, PrivateKey::Generate(bits));
    ETL_RETURN_IF_ERROR(key->WriteFile(new_file_, passphrase));
    plan_.say(fmt::format("a new key, {}, was written to {}", key->fingerprint(), new_file_));
    return key;
  }

  Status Register(const StatementRunner& runner, const UserKeys& before, KeySlot slot,
                  const PrivateKey& key) const {
    const std::string& there = before.of(slot);
    if (there == key.fingerprint()) return Status::OK();
    if (!there.empty() && !plan_.overwrite_other) {
      return MakeError(
          ErrorKind::kUsage, "ETL-U005",
          fmt::format("{} of user {} holds another key, {}", KeySlotName(slot), plan_.user, there),
          fmt::format(
              "if nobody uses it (an earlier rotation may have left it): {}; or --replace-other",
              UnsetKeySql(plan_.user, slot)));
    }
    const std::string sql = SetKeySql(plan_.user, slot, key.public_key());
    const Status set = Ask(runner, "register the new key", sql).status();
    if (!set.ok() && PartsOf(set).code == "ETL-D104") {
      ErrorParts parts = PartsOf(set);
      parts.remedy = fmt::format(
          "let somebody who may alter the user run this, then key rotate again (or use --role): "
          "{};",
          sql);
      return MakeError(KindOf(set), std::move(parts));
    }
    ETL_RETURN_IF_ERROR(set);
    ETL_ASSIGN_OR_RETURN(const UserKeys after, Keys(runner));
    if (after.of(slot) != key.fingerprint()) {
      return MakeError(ErrorKind::kTransient, "ETL-D113",
                       fmt::format("snowflake: {} does not show the new key", KeySlotName(slot)));
    }
    plan_.say(fmt::format("it is registered as {}", KeySlotName(slot)));
    return Status::OK();
  }

  Status ReplaceFile() const {
    if (std::rename(new_file_.c_str(), plan_.key_file.c_str()) != 0) {
      return MakeError(
          ErrorKind::kUsage, "ETL-U004",
          fmt::format("{} cannot be replaced: {}", plan_.key_file, std::strerror(errno)),
          "nothing has changed yet; both keys are valid");
    }
    std::string folder = std::filesystem::path(plan_.key_file).parent_path().string();
    const int fd = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
      fsync(fd);
      close(fd);
    }
    return Status::OK();
  }

  Status RemoveOld(const StatementRunner& runner, KeySlot slot,
                   const std::string& fingerprint) const {
    const std::string sql = UnsetKeySql(plan_.user, slot);
    if (const Status unset = Ask(runner, "remove the old key", sql).status(); !unset.ok()) {
      ErrorParts parts = PartsOf(unset);
      parts.safe = "the new key is in use; the old one is still valid";
      parts.remedy = fmt::format("run: {};", sql);
      return MakeError(KindOf(unset), std::move(parts));
    }
    ETL_ASSIGN_OR_RETURN(const UserKeys after, Keys(runner));
    if (after.of(slot) == fingerprint) {
      return MakeError(ErrorKind::kTransient, "ETL-D113",
                       fmt::format("snowflake: {} still shows the old key", KeySlotName(slot)),
                       fmt::format("run: {};", sql));
    }
    plan_.say(fmt::format("the old key was removed from {}", KeySlotName(slot)));
    return Status::OK();
  }

  const KeyRotation& plan_;
  const std::string new_file_;
};

}  // namespace

Status RotateKey(const KeyRotation& rotation) { return Rotation(rotation).Run(); }

}  // namespace etl
