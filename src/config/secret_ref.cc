#include "config/secret_ref.h"

#include <fmt/format.h>

#include "base/secret_file.h"

namespace etl {
namespace {

Result<Secret> ReadFrom(const std::string& path) {
  std::string text(kSecretFileBytesMax + 1, '\0');
  const Result<size_t> size = ReadSecretFile(path, text);
  if (!size.ok()) {
    WipeString(text);
    return size.status();
  }
  text.resize(*size);
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  if (text.empty()) return SecretFileError(path, "it is empty", "write the secret into it");
  return Secret(std::move(text));
}

}  // namespace

SecretRef SecretRef::Literal(Secret text) {
  SecretRef ref(Kind::kLiteral, {});
  ref.literal_ = std::make_shared<const Secret>(std::move(text));
  return ref;
}

std::string SecretRef::Describe() const {
  switch (kind_) {
    case Kind::kNone: return {};
    case Kind::kEnv: return fmt::format("{{env: {}}}", name_);
    case Kind::kFile: return fmt::format("{{file: {}}}", name_);
    case Kind::kLiteral: return "***";
  }
  return {};
}

Result<Secret> SecretRef::Resolve(const EnvReader& env) const {
  switch (kind_) {
    case Kind::kNone: return Secret();
    case Kind::kLiteral: return literal_->Clone();
    case Kind::kFile: return ReadFrom(name_);
    case Kind::kEnv: break;
  }
  std::optional<std::string> value = env(name_);
  if (!value.has_value() || value->empty()) {
    return MakeError(
        ErrorKind::kConfig, "ETL-C020",
        fmt::format("the environment variable {} that holds a secret is not set", name_),
        fmt::format("export {}=…", name_));
  }
  return Secret(std::move(*value));
}

bool operator==(const SecretRef& a, const SecretRef& b) {
  if (a.kind_ != b.kind_ || a.name_ != b.name_) return false;
  if (a.kind_ != SecretRef::Kind::kLiteral) return true;
  return a.literal_->Reveal() == b.literal_->Reveal();
}

}  // namespace etl
