#include "net/curl_transfer.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/check.h"
#include "base/http_url.h"

namespace etl {
namespace {

constexpr size_t kHeaderBytesMax = 256 * 1024;

HttpFailure FailureOf(CURLcode code, bool connected) {
  switch (code) {
    case CURLE_OK: return HttpFailure::kNone;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT: return HttpFailure::kInvalid;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT: return HttpFailure::kUnreachable;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS: return HttpFailure::kTls;
    // Also a connection that was cut during the handshake, which may pass.
    case CURLE_SSL_CONNECT_ERROR: return HttpFailure::kUnreachable;
    case CURLE_OPERATION_TIMEDOUT:
      return connected ? HttpFailure::kTimedOut : HttpFailure::kUnreachable;
    default: return HttpFailure::kBroken;
  }
}

bool IsHeaderText(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return c == '\r' || c == '\n' || c == '\0'; });
}

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == '\r' || text.back() == '\n' || text.back() == ' '))
    text.remove_suffix(1);
  return text;
}

// ParseHttpUrl takes no query; what it checks is what stands before it.
Result<HttpUrl> CheckedUrl(const std::string& url) {
  return ParseHttpUrl(std::string_view(url).substr(0, url.find('?')));
}

}  // namespace

CurlTransfer::CurlTransfer(HttpRequestId id, HttpRequest request, Instant now)
    : request_(std::move(request)),
      easy_(curl_easy_init()),
      total_by_(now + request_.total),
      moved_at_(now) {
  response_.id = id;
  ETL_CHECK(easy_ != nullptr);
}

CurlTransfer::~CurlTransfer() {
  curl_easy_cleanup(easy_);
  for (curl_slist* at = headers_; at != nullptr; at = at->next)
    explicit_bzero(at->data, std::strlen(at->data));
  curl_slist_free_all(headers_);
}

std::unique_ptr<CurlTransfer> CurlTransfer::Make(HttpRequestId id, HttpRequest request,
                                                 const CurlOptions& options, Instant now,
                                                 HttpResponse* refused) {
  refused->failure = HttpFailure::kInvalid;
  const Result<HttpUrl> url = CheckedUrl(request.url);
  if (!url.ok()) {
    refused->why = PartsOf(url.status()).what;
    return nullptr;
  }
  std::unique_ptr<CurlTransfer> transfer(new CurlTransfer(id, std::move(request), now));
  if (!transfer->Configure(options, IsLoopbackHost(url->host)) || !transfer->AddHeaders(options)) {
    refused->why = "a header or option cannot be sent";
    return nullptr;
  }
  return transfer;
}

bool CurlTransfer::Configure(const CurlOptions& options, bool loopback) {
  answer_bytes_max_ = options.answer_bytes_max;
  const auto connect = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::min(options.connect, request_.total));
  bool ok = true;
  const auto set = [&](CURLoption option, auto value) {
    ok = ok && curl_easy_setopt(easy_, option, value) == CURLE_OK;
  };
  set(CURLOPT_URL, request_.url.c_str());
  set(CURLOPT_PROTOCOLS_STR, loopback ? "http,https" : "https");
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_ERRORBUFFER, words_);
  set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  set(CURLOPT_SSL_VERIFYPEER, 1L);
  set(CURLOPT_SSL_VERIFYHOST, 2L);
  if (!options.ca_file.empty()) {
    set(CURLOPT_CAINFO, options.ca_file.c_str());
    set(CURLOPT_CAPATH, static_cast<const char*>(nullptr));
  }
  set(CURLOPT_HTTP_VERSION,
      static_cast<long>(options.http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
  set(CURLOPT_PIPEWAIT, options.http2 && options.multiplex ? 1L : 0L);
  if (loopback || !options.trust_proxy_env) set(CURLOPT_PROXY, "");
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(std::max<int64_t>(connect.count(), 1)));
  set(CURLOPT_TCP_KEEPALIVE, 1L);
  set(CURLOPT_TCP_NODELAY, 1L);
  set(CURLOPT_ACCEPT_ENCODING, "gzip");
  set(CURLOPT_WRITEFUNCTION, &CurlTransfer::OnBody);
  set(CURLOPT_WRITEDATA, this);
  set(CURLOPT_HEADERFUNCTION, &CurlTransfer::OnHeader);
  set(CURLOPT_HEADERDATA, this);
  SetBody();
  return ok;
}

void CurlTransfer::SetBody() {
  if (request_.method == HttpMethod::kGet) return;
  if (request_.method == HttpMethod::kDelete && request_.body.bytes.empty()) {
    curl_easy_setopt(easy_, CURLOPT_CUSTOMREQUEST, "DELETE");
    return;
  }
  // Not copied by libcurl; `request_` holds it for as long as the handle lives.
  curl_easy_setopt(easy_, CURLOPT_POST, 1L);
  curl_easy_setopt(easy_, CURLOPT_POSTFIELDSIZE_LARGE,
                   static_cast<curl_off_t>(request_.body.bytes.size()));
  curl_easy_setopt(easy_, CURLOPT_POSTFIELDS,
                   request_.body.bytes.empty() ? "" : request_.body.bytes.data());
  if (request_.method != HttpMethod::kPost) {
    curl_easy_setopt(easy_, CURLOPT_CUSTOMREQUEST,
                     std::string(HttpMethodName(request_.method)).c_str());
  }
}

bool CurlTransfer::AddHeader(std::string_view name, std::string_view value) {
  if (name.empty() || !IsHeaderText(name) || !IsHeaderText(value)) return false;
  std::string line = fmt::format("{}: {}", name, value);
  curl_slist* longer = curl_slist_append(headers_, line.c_str());
  WipeString(line);
  if (longer == nullptr) return false;
  headers_ = longer;
  return true;
}

bool CurlTransfer::AddHeaders(const CurlOptions& options) {
  bool agent = false;
  for (const HttpHeader& header : request_.headers) {
    if (!AddHeader(header.name, header.value)) return false;
    agent = agent || header.name == "User-Agent";
  }
  if (!agent && !AddHeader("User-Agent", options.user_agent)) return false;
  if (request_.bearer != nullptr) {
    std::string value = fmt::format("Bearer {}", request_.bearer->Reveal());
    const bool added = AddHeader("Authorization", value);
    WipeString(value);
    if (!added) return false;
  }
  // No round trip to be asked to go on.
  headers_ = curl_slist_append(headers_, "Expect:");
  return curl_easy_setopt(easy_, CURLOPT_HTTPHEADER, headers_) == CURLE_OK;
}

size_t CurlTransfer::OnBody(char* data, size_t size, size_t count, void* self) {
  auto* transfer = static_cast<CurlTransfer*>(self);
  const size_t bytes = size * count;
  if (transfer->response_.body.size() + bytes > static_cast<size_t>(transfer->answer_bytes_max_)) {
    transfer->too_large_ = true;
    return 0;
  }
  transfer->response_.body.append(data, bytes);
  return bytes;
}

size_t CurlTransfer::OnHeader(char* data, size_t size, size_t count, void* self) {
  auto* transfer = static_cast<CurlTransfer*>(self);
  const size_t bytes = size * count;
  transfer->header_bytes_ += bytes;
  if (transfer->header_bytes_ > kHeaderBytesMax) {
    transfer->too_large_ = true;
    return 0;
  }
  const std::string_view line(data, bytes);
  // A status line begins anew: what came before belonged to an interim answer.
  if (line.starts_with("HTTP/")) transfer->response_.headers.clear();
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || line.starts_with("HTTP/")) return bytes;
  HttpHeader header;
  for (char c : Trimmed(line.substr(0, colon))) header.name += Lower(c);
  header.value = std::string(Trimmed(line.substr(colon + 1)));
  transfer->response_.headers.push_back(std::move(header));
  return bytes;
}

HttpResponse CurlTransfer::Finish(CURLcode code) {
  curl_off_t app_connect = 0;
  curl_off_t connect = 0;
  curl_easy_getinfo(easy_, CURLINFO_APPCONNECT_TIME_T, &app_connect);
  curl_easy_getinfo(easy_, CURLINFO_CONNECT_TIME_T, &connect);
  const bool https = request_.url.starts_with("https");
  const bool connected = https ? app_connect > 0 : connect > 0;
  long answer = 0;
  curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &answer);
  const HttpFailure failure = too_large_ ? HttpFailure::kTooLarge : FailureOf(code, connected);
  if (failure != HttpFailure::kNone)
    return End(failure, words_[0] != '\0' ? words_ : curl_easy_strerror(code));
  response_.code = static_cast<int>(answer);
  return std::move(response_);
}

HttpResponse CurlTransfer::End(HttpFailure failure, std::string why) {
  HttpResponse response;
  response.id = response_.id;
  response.failure = failure;
  response.why = failure == HttpFailure::kTooLarge ? "the answer is too large" : std::move(why);
  return response;
}

bool CurlTransfer::IsLate(Instant now) {
  curl_off_t up = 0;
  curl_off_t down = 0;
  curl_easy_getinfo(easy_, CURLINFO_SIZE_UPLOAD_T, &up);
  curl_easy_getinfo(easy_, CURLINFO_SIZE_DOWNLOAD_T, &down);
  const curl_off_t moved = up + down + static_cast<curl_off_t>(header_bytes_);
  if (moved != moved_) {
    moved_ = moved;
    moved_at_ = now;
  }
  return now >= deadline();
}

std::string CurlTransfer::LateBecause(Instant now) const {
  return now >= total_by_ ? "no complete answer in time"
                          : "nothing was sent or received for too long";
}

Instant CurlTransfer::deadline() const {
  return request_.stall >= request_.total ? total_by_
                                          : std::min(total_by_, moved_at_ + request_.stall);
}

}  // namespace etl
