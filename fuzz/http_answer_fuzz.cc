// What a service of Snowflake's answers: any bytes are read or refused, and what is read is within
// its bounds. The first byte chooses the reader.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "destination/snowflake/account.h"
#include "destination/snowflake/sql_error.h"
#include "destination/snowflake/streaming_answer.h"
#include "net/jwt.h"
#include "net/private_key.h"
#include "net/retry.h"
#include "net/token_source.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 8) {
    case 0: {
      const auto answer = etl::ParseSqlAnswer(text);
      if (!answer.has_value()) return 0;
      ETL_CHECK(answer->partitions >= 1);
      (void)etl::SqlError("x", {.http = 422, .code = answer->code, .message = answer->message});
      return 0;
    }
    case 1: (void)etl::ParseOpenAnswer(text); return 0;
    case 2: {
      etl::StreamingError error;
      const auto token = etl::ParseAppendAnswer(text, error);
      ETL_CHECK(!token.has_value() || !token->empty());
      return 0;
    }
    case 3: (void)etl::ParseStatusAnswer(text); return 0;
    case 4: {
      const etl::StreamingError error = etl::ParseStreamingError(400, text);
      (void)etl::ActionFor(error);
      for (char c : error.Words()) ETL_CHECK(static_cast<unsigned char>(c) >= ' ');
      return 0;
    }
    case 5: {
      const auto account = etl::MakeSnowflakeAccount("a-b", "");
      const auto host = etl::ParseIngestHost(*account, text);
      ETL_CHECK(!host.ok() || host->scope.ends_with(".snowflakecomputing.com"));
      return 0;
    }
    case 6: {
      const auto pause = etl::ParseRetryAfter(text, 1'700'000'000'000'000);
      ETL_CHECK(!pause.has_value() || (pause->count() >= 0 && *pause <= std::chrono::hours(24)));
      const auto times = etl::ReadJwtTimes(text);
      ETL_CHECK(!times.has_value() || times->expires_at >= 0);
      for (char c : etl::TokenOfAnswer(text).Reveal()) (void)c;
      return 0;
    }
    default: {
      static const etl::Secret passphrase(std::string("x"));
      (void)etl::PrivateKey::FromPem(text, passphrase, "fuzz");
      return 0;
    }
  }
}
