#include "batch/hash_builder.h"

#include <string>
#include <utility>

#include <arrow/array/array_binary.h>
#include <arrow/array/data.h>
#include <fmt/format.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "decode/datetime.h"
#include "decode/numeric.h"
#include "decode/scalar.h"

namespace etl {
namespace {

constexpr size_t kMacSize = 32;

struct MacFree {
  void operator()(EVP_MAC* mac) const { EVP_MAC_free(mac); }
  void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }
};

template <typename Int>
CellResult IntText(std::string_view bytes, std::string* out) {
  Int value = 0;
  const CellResult result = ParseIntBinary(bytes, &value);
  if (result == CellResult::kOk) fmt::format_to(std::back_inserter(*out), "{}", value);
  return result;
}

CellResult NumericText(std::string_view bytes, std::string* out) {
  NumericView view;
  const CellResult result = ParseNumericBinary(bytes, &view);
  if (result != CellResult::kOk) return result;
  out->resize(NumericTextBound(view));
  out->resize(static_cast<size_t>(WriteNumericText(view, out->data()) - out->data()));
  return result;
}

CellResult UuidText(std::string_view bytes, std::string* out) {
  if (bytes.size() != 16) return CellResult::kMalformed;
  out->resize(32);
  WriteHex(bytes, out->data());
  for (const size_t dash : {8, 13, 18, 23}) out->insert(dash, 1, '-');
  return CellResult::kOk;
}

CellResult ByteaText(std::string_view bytes, std::string* out) {
  out->resize(2 + 2 * bytes.size());
  (*out)[0] = '\\';
  (*out)[1] = 'x';
  WriteHex(bytes, out->data() + 2);
  return CellResult::kOk;
}

template <typename Write>
CellResult ShortText(Write write, std::string_view bytes, std::string* out) {
  out->resize(kTimeTzTextMax);
  size_t size = 0;
  const CellResult result = write(bytes, out->data(), &size);
  out->resize(size);
  return result;
}

// The server's text of a binary value; `*text` may point into `scratch`, which is kept from call to
// call.
CellResult TextOfBinary(const ColumnType& type, std::string_view bytes, std::string* scratch,
                        std::string_view* text) {
  CellResult result = CellResult::kNeedsText;
  scratch->clear();
  switch (type.kind) {
    case TypeKind::kText:
    case TypeKind::kJson: *text = bytes; return CellResult::kOk;
    case TypeKind::kJsonb: return ParseJsonbBinary(bytes, text);
    case TypeKind::kBool: {
      bool value = false;
      result = ParseBoolBinary(bytes, &value);
      scratch->assign(value ? "t" : "f");
      break;
    }
    case TypeKind::kInt2: result = IntText<int16_t>(bytes, scratch); break;
    case TypeKind::kInt4: result = IntText<int32_t>(bytes, scratch); break;
    case TypeKind::kInt8: result = IntText<int64_t>(bytes, scratch); break;
    case TypeKind::kOid: result = IntText<uint32_t>(bytes, scratch); break;
    case TypeKind::kDecimal:
    case TypeKind::kNumericText: result = NumericText(bytes, scratch); break;
    case TypeKind::kUuid: result = UuidText(bytes, scratch); break;
    case TypeKind::kBytea: result = ByteaText(bytes, scratch); break;
    case TypeKind::kChar: result = ShortText(ParseCharBinary, bytes, scratch); break;
    case TypeKind::kTimeTz: result = ShortText(WriteTimeTzText, bytes, scratch); break;
    default: break;
  }
  *text = *scratch;
  return result;
}

class HashBuilder final : public ColumnBuilder {
 public:
  HashBuilder(ColumnTypePtr type, EVP_MAC_CTX* context, std::unique_ptr<ColumnBuilder> hex)
      : ColumnBuilder(nullptr), source_(std::move(type)), context_(context), hex_(std::move(hex)) {}

  CellResult AppendText(std::string_view text) override {
    unsigned char mac[kMacSize];
    size_t size = 0;
    // Without a key the context starts anew with the one it has.
    if (EVP_MAC_init(context_.get(), nullptr, 0, nullptr) != 1 ||
        EVP_MAC_update(context_.get(), reinterpret_cast<const unsigned char*>(text.data()),
                       text.size()) != 1 ||
        EVP_MAC_final(context_.get(), mac, &size, sizeof(mac)) != 1 || size != kMacSize) {
      return CellResult::kNoMemory;
    }
    char hex[2 * kMacSize];
    WriteHex({reinterpret_cast<const char*>(mac), kMacSize}, hex);
    return hex_->AppendText({hex, sizeof(hex)});
  }
  CellResult AppendBinary(std::string_view bytes) override {
    std::string_view text;
    const CellResult result = TextOfBinary(*source_, bytes, &scratch_, &text);
    return result == CellResult::kOk ? AppendText(text) : result;
  }
  CellResult AppendNull() override { return hex_->AppendNull(); }
  void Truncate(int64_t length) override { hex_->Truncate(length); }
  std::shared_ptr<arrow::ArrayData> Finish() override { return hex_->Finish(); }
  int64_t bytes() const override { return hex_->bytes(); }

 private:
  ColumnTypePtr source_;
  std::unique_ptr<EVP_MAC_CTX, MacFree> context_;
  std::unique_ptr<ColumnBuilder> hex_;
  std::string scratch_;
};

}  // namespace

bool HashUnderstoodInBinary(const ColumnType& type) {
  std::string scratch;
  std::string_view text;
  return TextOfBinary(type, {}, &scratch, &text) != CellResult::kNeedsText;
}

Result<std::string> HashKeyDigest(std::string_view key) {
  auto text = std::make_shared<ColumnType>();
  text->kind = TypeKind::kText;
  ETL_ASSIGN_OR_RETURN(const std::unique_ptr<ColumnBuilder> builder, MakeHashBuilder(text, key));
  if (builder->AppendText("etl-stream: which key columns are hashed with") != CellResult::kOk)
    return MakeError(ErrorKind::kInternal, "ETL-D144", "the key of hashed columns cannot be used");
  const arrow::StringArray digest(builder->Finish());
  return digest.GetString(0);
}

Result<std::unique_ptr<ColumnBuilder>> MakeHashBuilder(ColumnTypePtr type, std::string_view key) {
  const std::unique_ptr<EVP_MAC, MacFree> mac(EVP_MAC_fetch(nullptr, "HMAC", nullptr));
  std::unique_ptr<EVP_MAC_CTX, MacFree> context(mac == nullptr ? nullptr
                                                               : EVP_MAC_CTX_new(mac.get()));
  char digest[] = "SHA256";
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                               OSSL_PARAM_construct_end()};
  if (context == nullptr ||
      EVP_MAC_init(context.get(), reinterpret_cast<const unsigned char*>(key.data()), key.size(),
                   params) != 1) {
    return MakeError(ErrorKind::kInternal, "ETL-D143",
                     "HMAC-SHA-256 is not available in the OpenSSL library");
  }
  ColumnType hex;
  hex.kind = TypeKind::kText;
  std::unique_ptr<ColumnBuilder> made =
      std::make_unique<HashBuilder>(std::move(type), context.release(), ColumnBuilder::Make(hex));
  return made;
}

}  // namespace etl
