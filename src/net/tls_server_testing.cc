#include "net/tls_server_testing.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fmt/format.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/check.h"

namespace etl {
namespace {

X509* MakeX509(EVP_PKEY* key, const char* name, EVP_PKEY* signer, X509* issuer, int serial,
               const std::string& alternative) {
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
  X509_set_pubkey(certificate, key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
  X509_set_issuer_name(certificate,
                       X509_get_subject_name(issuer == nullptr ? certificate : issuer));
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer == nullptr ? certificate : issuer, certificate, nullptr, nullptr,
                 0);
  const auto extend = [&](int id, const char* value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, id, value);
    ETL_CHECK(extension != nullptr);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  };
  extend(NID_basic_constraints, issuer == nullptr ? "critical,CA:TRUE" : "CA:FALSE");
  if (!alternative.empty()) extend(NID_subject_alt_name, alternative.c_str());
  ETL_CHECK(X509_sign(certificate, signer, EVP_sha256()) != 0);
  return certificate;
}

// One side of a connection, over TLS or not.
struct Pipe {
  int socket;
  SSL* ssl;
  int Read(char* data, int size) const {
    return ssl != nullptr ? SSL_read(ssl, data, size)
                          : static_cast<int>(recv(socket, data, static_cast<size_t>(size), 0));
  }
  bool Write(const std::string& text) const {
    for (size_t done = 0; done < text.size();) {
      const auto left = static_cast<int>(text.size() - done);
      const int wrote = ssl != nullptr
                            ? SSL_write(ssl, text.data() + done, left)
                            : static_cast<int>(send(socket, text.data() + done,
                                                    static_cast<size_t>(left), MSG_NOSIGNAL));
      if (wrote <= 0) return false;
      done += static_cast<size_t>(wrote);
    }
    return true;
  }
};

size_t ContentLength(const std::string& head) {
  const size_t at = head.find("Content-Length: ");
  return at == std::string::npos ? 0 : std::stoul(head.substr(at + 16));
}

bool ReadRequest(const Pipe& pipe, std::string& buffer, ServedRequest& request) {
  char block[16384];
  size_t end = 0;
  while ((end = buffer.find("\r\n\r\n")) == std::string::npos ||
         buffer.size() < end + 4 + ContentLength(buffer.substr(0, end))) {
    const int got = pipe.Read(block, sizeof block);
    if (got <= 0) return false;
    buffer.append(block, static_cast<size_t>(got));
  }
  request.head = buffer.substr(0, end + 2);
  const size_t length = ContentLength(request.head);
  request.body = buffer.substr(end + 4, length);
  buffer.erase(0, end + 4 + length);
  return true;
}

}  // namespace

TestServer::TestServer(Options options, Handler handler)
    : options_(std::move(options)), handler_(std::move(handler)) {
  // A client that has gone away is told by the write, not by a signal.
  signal(SIGPIPE, SIG_IGN);
  if (options_.tls) MakeCertificate();
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ETL_CHECK(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  ETL_CHECK(listen(listener_, 16) == 0);
  getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { Accept(); });
}

TestServer::~TestServer() {
  stopping_ = true;
  shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  {
    const std::lock_guard lock(mutex_);
    for (int socket : sockets_) shutdown(socket, SHUT_RDWR);
  }
  for (std::thread& thread : threads_) thread.join();
  for (int socket : sockets_) close(socket);
  close(listener_);
  SSL_CTX_free(context_);
}

std::string TestServer::url() const {
  return fmt::format("{}://127.0.0.1:{}", options_.tls ? "https" : "http", port_);
}

std::string TestServer::offered() const {
  const std::lock_guard lock(mutex_);
  return offered_;
}

std::string TestServer::Answer(int code, const std::string& body, const std::string& headers) {
  return fmt::format("HTTP/1.1 {} X\r\nContent-Length: {}\r\n{}\r\n{}", code, body.size(), headers,
                     body);
}

void TestServer::MakeCertificate() {
  EVP_PKEY* ca_key = EVP_RSA_gen(2048);
  EVP_PKEY* key = EVP_RSA_gen(2048);
  X509* ca = MakeX509(ca_key, "etl-stream test authority", ca_key, nullptr, 1, "");
  X509* leaf = MakeX509(key, "etl-stream test server", ca_key, ca, 2, options_.host);
  context_ = SSL_CTX_new(TLS_server_method());
  if (options_.max_tls != 0) {
    SSL_CTX_set_security_level(context_, 0);
    SSL_CTX_set_min_proto_version(context_, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(context_, options_.max_tls);
  }
  ETL_CHECK(SSL_CTX_use_certificate(context_, leaf) == 1);
  ETL_CHECK(SSL_CTX_use_PrivateKey(context_, key) == 1);
  SSL_CTX_set_alpn_select_cb(context_, &TestServer::ChooseAlpn, this);
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(bio, ca);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio, &text);
  ca_pem_.assign(text, static_cast<size_t>(size));
  BIO_free(bio);
  X509_free(ca);
  X509_free(leaf);
  EVP_PKEY_free(ca_key);
  EVP_PKEY_free(key);
}

int TestServer::ChooseAlpn(SSL*, const unsigned char** out, unsigned char* size,
                           const unsigned char* in, unsigned int in_size, void* self) {
  auto* server = static_cast<TestServer*>(self);
  std::string offered;
  for (unsigned int at = 0; at < in_size; at += in[at] + 1u) {
    const std::string name(reinterpret_cast<const char*>(in) + at + 1, in[at]);
    offered += (offered.empty() ? "" : ",") + name;
    if (name != "http/1.1") continue;
    *out = in + at + 1;
    *size = in[at];
  }
  const std::lock_guard lock(server->mutex_);
  server->offered_ = offered;
  return *size == 0 ? SSL_TLSEXT_ERR_NOACK : SSL_TLSEXT_ERR_OK;
}

void TestServer::Accept() {
  while (!stopping_) {
    const int socket = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) continue;
    ++connections_;
    const std::lock_guard lock(mutex_);
    sockets_.push_back(socket);
    threads_.emplace_back([this, socket] { Serve(socket); });
  }
}

void TestServer::Serve(int socket) {
  Pipe pipe{.socket = socket, .ssl = nullptr};
  if (options_.tls) {
    pipe.ssl = SSL_new(context_);
    SSL_set_fd(pipe.ssl, socket);
    if (SSL_accept(pipe.ssl) != 1) {
      SSL_free(pipe.ssl);
      shutdown(socket, SHUT_RDWR);
      return;
    }
  }
  std::string buffer;
  ServedRequest request;
  while (!stopping_ && ReadRequest(pipe, buffer, request)) {
    const std::string answer = handler_(request);
    if (answer.empty() || !pipe.Write(answer)) break;
  }
  SSL_free(pipe.ssl);
  shutdown(socket, SHUT_RDWR);
}

}  // namespace etl
