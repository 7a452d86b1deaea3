#pragma once

#include <memory>
#include <string>

#include "base/secret.h"
#include "base/status.h"
#include "config/values.h"

namespace etl {

/// Where a secret is to be found: `{env: NAME}`, `{file: PATH}`, or (only with
/// --allow-plaintext-secrets) the text itself. Copyable and comparable; the secret itself is read
/// when somebody asks for it, so a changed file counts at the next start.
class SecretRef {
 public:
  enum class Kind { kNone, kEnv, kFile, kLiteral };

  SecretRef() = default;
  static SecretRef Env(std::string name) { return SecretRef(Kind::kEnv, std::move(name)); }
  static SecretRef File(std::string path) { return SecretRef(Kind::kFile, std::move(path)); }
  static SecretRef Literal(Secret text);

  Kind kind() const { return kind_; }
  bool empty() const { return kind_ == Kind::kNone; }
  /// The variable or path; empty for the others.
  const std::string& name() const { return name_; }
  /// What may be shown: `{env: NAME}`, `{file: PATH}`, `***`, or nothing.
  std::string Describe() const;

  /// The secret; an empty one for kNone. Errors are kConfig: ETL-C020 (variable not set), ETL-C022
  /// (file missing, unreadable, a symbolic link, or readable by others). One newline at the end of
  /// a file is left out.
  Result<Secret> Resolve(const EnvReader& env = ReadProcessEnv) const;

  friend bool operator==(const SecretRef& a, const SecretRef& b);

 private:
  SecretRef(Kind kind, std::string name) : kind_(kind), name_(std::move(name)) {}

  Kind kind_ = Kind::kNone;
  std::string name_;
  std::shared_ptr<const Secret> literal_;
};

}  // namespace etl
