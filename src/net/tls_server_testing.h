#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <openssl/ssl.h>

namespace etl {

/// What a test server got.
struct ServedRequest {
  std::string head;  ///< request line and headers
  std::string body;
  std::string Line() const { return head.substr(0, head.find("\r\n")); }
};

/// A small HTTP/1.1 server on a loopback port, over TLS or plain, one thread a connection: what a
/// real socket does that a scripted client cannot show. Keeps connections alive.
class TestServer {
 public:
  struct Options {
    bool tls = true;
    std::string host = "IP:127.0.0.1";  ///< subject alternative name of the certificate
    int max_tls = 0;                    ///< TLS1_1_VERSION …; 0: any
  };
  /// The bytes of the whole answer; an empty one closes the connection.
  using Handler = std::function<std::string(const ServedRequest& request)>;

  TestServer(Options options, Handler handler);
  ~TestServer();
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;

  std::string url() const;
  /// The authority that signed the certificate, as PEM.
  const std::string& ca_pem() const { return ca_pem_; }
  int connections() const { return connections_; }
  /// The protocols that the last client offered by ALPN, with commas.
  std::string offered() const;

  /// A complete answer with a Content-Length.
  static std::string Answer(int code, const std::string& body, const std::string& headers = {});

 private:
  void MakeCertificate();
  void Accept();
  void Serve(int socket);
  static int ChooseAlpn(SSL*, const unsigned char** out, unsigned char* size,
                        const unsigned char* in, unsigned int in_size, void* self);

  const Options options_;
  const Handler handler_;
  std::string ca_pem_;
  SSL_CTX* context_ = nullptr;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stopping_{false};
  std::atomic<int> connections_{0};
  mutable std::mutex mutex_;
  std::string offered_;
  std::vector<std::thread> threads_;
  std::vector<int> sockets_;
  std::thread acceptor_;
};

}  // namespace etl
