#pragma once

#include <memory>
#include <string>

#include "net/http_client.h"

namespace etl {

struct CurlOptions {
  std::string ca_file;  ///< PEM; empty: the system's authorities
  std::string user_agent = "etl-stream";
  Duration connect = std::chrono::seconds(10);   ///< name, TCP and TLS
  int64_t answer_bytes_max = int64_t{64} << 20;  ///< of one answer's body
  long connections_per_host_max = 8;
  bool http2 = true;            ///< offer HTTP/2 by ALPN
  bool multiplex = true;        ///< share an HTTP/2 connection, waiting for it to be set up
  bool trust_proxy_env = true;  ///< https_proxy and no_proxy; never for loopback addresses
};

/// libcurl's multi interface on the caller's thread. TLS 1.2 or later with certificate and name
/// checked, always; http:// to loopback addresses only; connections are kept and reused.
///
/// Time-outs are ours, counted by the `now` passed in, so that a stalled upload and a stalled
/// answer look the same. Names are resolved on a thread of libcurl's.
class CurlHttpClient : public HttpClient {
 public:
  explicit CurlHttpClient(CurlOptions options);
  ~CurlHttpClient() override;
  HttpRequestId Submit(HttpRequest request, Instant now) override;
  void Poll(Instant now, std::vector<HttpResponse>& finished) override;
  void Cancel(HttpRequestId id) override;
  void AddPollFds(std::vector<pollfd>& fds) override;
  Instant next_deadline() const override;
  size_t in_flight() const override;
  void Interrupt() override;

 private:
  class Multi;
  std::unique_ptr<Multi> multi_;
};

/// The authorities that the environment names for OpenSSL's programs (SSL_CERT_FILE), or nothing.
std::string CaFileOfEnvironment();

}  // namespace etl
