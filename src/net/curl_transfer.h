#pragma once

#include <memory>
#include <string>

#include <curl/curl.h>

#include "net/curl_http_client.h"

namespace etl {

/// One request as a libcurl easy handle, with the answer as it comes in. Owned by CurlHttpClient
/// and taken out of its multi handle before it is destroyed. The bearer is wiped where we hold it.
class CurlTransfer {
 public:
  /// Null if the request may not be sent; `refused` says why then.
  static std::unique_ptr<CurlTransfer> Make(HttpRequestId id, HttpRequest request,
                                            const CurlOptions& options, Instant now,
                                            HttpResponse* refused);
  ~CurlTransfer();
  CurlTransfer(const CurlTransfer&) = delete;
  CurlTransfer& operator=(const CurlTransfer&) = delete;

  CURL* easy() const { return easy_; }
  /// The answer of a transfer that libcurl has finished.
  HttpResponse Finish(CURLcode code);
  /// The answer of one that we end.
  HttpResponse End(HttpFailure failure, std::string why);
  bool IsLate(Instant now);
  std::string LateBecause(Instant now) const;
  Instant deadline() const;

 private:
  CurlTransfer(HttpRequestId id, HttpRequest request, Instant now);
  bool Configure(const CurlOptions& options, bool loopback);
  bool AddHeaders(const CurlOptions& options);
  bool AddHeader(std::string_view name, std::string_view value);
  void SetBody();
  static size_t OnBody(char* data, size_t size, size_t count, void* self);
  static size_t OnHeader(char* data, size_t size, size_t count, void* self);

  HttpRequest request_;
  HttpResponse response_;
  CURL* const easy_;
  curl_slist* headers_ = nullptr;
  char words_[CURL_ERROR_SIZE] = {};
  int64_t answer_bytes_max_ = 0;
  bool too_large_ = false;
  const Instant total_by_;
  Instant moved_at_;      ///< bytes were last seen to move
  curl_off_t moved_ = 0;  ///< how many had, in both directions
  size_t header_bytes_ = 0;
};

}  // namespace etl
