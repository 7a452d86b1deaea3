#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <poll.h>

#include "base/clock.h"
#include "base/secret.h"
#include "base/status.h"

namespace etl {

enum class HttpMethod : uint8_t { kGet, kPost, kPut, kDelete };
std::string_view HttpMethodName(HttpMethod method);

struct HttpHeader {
  std::string name;
  std::string value;
};

/// The bytes of a request, kept alive by `owner` for as long as they may be sent, and never copied
/// on the way to the socket's buffer. The same body may be sent many times.
struct HttpBody {
  std::shared_ptr<const void> owner;
  std::string_view bytes;

  static HttpBody Of(std::string text) {
    auto owner = std::make_shared<const std::string>(std::move(text));
    const std::string_view bytes = *owner;
    return {std::move(owner), bytes};
  }
};

struct HttpRequest {
  HttpMethod method = HttpMethod::kGet;
  std::string url;
  std::vector<HttpHeader> headers;       ///< without Authorization
  std::shared_ptr<const Secret> bearer;  ///< sent as `Authorization: Bearer …`; null: none
  HttpBody body;
  Duration total = std::chrono::seconds(60);  ///< from Submit to the last byte of the answer
  Duration stall = std::chrono::seconds(30);  ///< without a byte in either direction
};

/// Why there is no answer.
enum class HttpFailure : uint8_t {
  kNone,         ///< there is one
  kInvalid,      ///< the request may not be sent: its URL or a header
  kUnreachable,  ///< no connection: nothing was sent
  kTls,          ///< the other side could not prove who it is: nothing was sent
  kBroken,       ///< the connection ended early: the outcome is unknown
  kTimedOut,     ///< `total` or `stall` went by: the outcome is unknown
  kTooLarge,     ///< the answer is larger than allowed
  kInterrupted,  ///< Interrupt was called: the outcome is unknown
};

using HttpRequestId = uint64_t;

struct HttpResponse {
  HttpRequestId id = 0;
  HttpFailure failure = HttpFailure::kNone;
  std::string why;                  ///< the library's words about a failure; no URL, no header
  int code = 0;                     ///< 200 …; 0 without an answer
  std::vector<HttpHeader> headers;  ///< names in lower case
  std::string body;                 ///< with its content encoding undone

  bool answered() const { return failure == HttpFailure::kNone; }
  /// The value of a header, by its name in lower case; empty if there is none.
  std::string_view Header(std::string_view name) const;
};

/// Sends HTTP requests and collects their answers without ever waiting: for stages (architecture,
/// decision 5). Redirects are answers like any other and never followed.
///
/// Owned and called by one thread. Each id that Submit gives comes out of Poll exactly once, unless
/// it was cancelled. Destroying the client abandons what is in flight.
class HttpClient {
 public:
  virtual ~HttpClient() = default;
  virtual HttpRequestId Submit(HttpRequest request, Instant now) = 0;
  /// Does what can be done now; appends finished requests.
  virtual void Poll(Instant now, std::vector<HttpResponse>& finished) = 0;
  /// Forgets a request; it may have been carried out all the same. An id that is not in flight is
  /// ignored.
  virtual void Cancel(HttpRequestId id) = 0;
  /// What to wait for between two calls of Poll. Appends.
  virtual void AddPollFds(std::vector<pollfd>& fds) = 0;
  /// Poll must be called by then.
  virtual Instant next_deadline() const = 0;
  virtual size_t in_flight() const = 0;
  /// Any thread: everything in flight, and whatever is submitted later, ends as kInterrupted at the
  /// next Poll. For a shutdown that must not wait.
  virtual void Interrupt() = 0;
};

}  // namespace etl
