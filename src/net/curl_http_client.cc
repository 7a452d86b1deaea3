#include "net/curl_http_client.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include <curl/curl.h>
#include <fmt/format.h>

#include "base/check.h"
#include "base/http_url.h"
#include "net/curl_transfer.h"
#include "runtime/event_fd.h"

namespace etl {

namespace {

// Once a process, whoever comes first; libcurl is never unloaded.
bool InitializeCurl() {
  static const CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
  return code == CURLE_OK;
}

}  // namespace

std::string CaFileOfEnvironment() {
  const char* file = std::getenv("SSL_CERT_FILE");
  return file == nullptr ? "" : file;
}

class CurlHttpClient::Multi {
 public:
  explicit Multi(CurlOptions options)
      : options_(std::move(options)), multi_(InitializeCurl() ? curl_multi_init() : nullptr) {
    ETL_CHECK(multi_ != nullptr);
    curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &Multi::OnSocket);
    curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &Multi::OnTimer);
    curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
    curl_multi_setopt(multi_, CURLMOPT_PIPELINING,
                      options_.multiplex ? CURLPIPE_MULTIPLEX : CURLPIPE_NOTHING);
    curl_multi_setopt(multi_, CURLMOPT_MAX_HOST_CONNECTIONS, options_.connections_per_host_max);
  }
  ~Multi() {
    for (auto& [id, transfer] : transfers_) curl_multi_remove_handle(multi_, transfer->easy());
    transfers_.clear();
    curl_multi_cleanup(multi_);
  }
  Multi(const Multi&) = delete;
  Multi& operator=(const Multi&) = delete;

  HttpRequestId Submit(HttpRequest request, Instant now) {
    now_ = now;
    const HttpRequestId id = ++last_id_;
    HttpResponse refused{.id = id};
    auto transfer = CurlTransfer::Make(id, std::move(request), options_, now, &refused);
    if (transfer == nullptr) {
      finished_.push_back(std::move(refused));
      return id;
    }
    if (curl_multi_add_handle(multi_, transfer->easy()) != CURLM_OK) {
      refused.failure = HttpFailure::kInvalid;
      refused.why = "the request was not accepted";
      finished_.push_back(std::move(refused));
      return id;
    }
    transfers_.emplace(id, std::move(transfer));
    return id;
  }

  void Poll(Instant now, std::vector<HttpResponse>& finished) {
    now_ = now;
    wake_.Clear();
    if (interrupted_.load(std::memory_order_acquire)) EndAll(HttpFailure::kInterrupted);
    Perform();
    CollectFinished();
    EndLate(now);
    for (HttpResponse& response : finished_) finished.push_back(std::move(response));
    finished_.clear();
  }

  void Cancel(HttpRequestId id) {
    std::erase_if(finished_, [id](const HttpResponse& response) { return response.id == id; });
    if (const auto at = transfers_.find(id); at != transfers_.end()) Remove(at);
  }

  void AddPollFds(std::vector<pollfd>& fds) const {
    fds.push_back({.fd = wake_.fd(), .events = POLLIN, .revents = 0});
    for (const auto& [socket, events] : sockets_)
      fds.push_back({.fd = socket, .events = events, .revents = 0});
  }

  Instant next_deadline() const {
    if (!finished_.empty()) return now_;
    Instant by = timer_;
    for (const auto& [id, transfer] : transfers_) by = std::min(by, transfer->deadline());
    return by;
  }

  size_t in_flight() const { return transfers_.size() + finished_.size(); }

  void Interrupt() {
    interrupted_.store(true, std::memory_order_release);
    wake_.Notify();
  }

 private:
  using Transfers = std::map<HttpRequestId, std::unique_ptr<CurlTransfer>>;

  static int OnSocket(CURL*, curl_socket_t socket, int what, void* self, void*) {
    auto& sockets = static_cast<Multi*>(self)->sockets_;
    if (what == CURL_POLL_REMOVE) {
      sockets.erase(socket);
      return 0;
    }
    short events = 0;
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT) events |= POLLIN;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT) events |= POLLOUT;
    sockets[socket] = events;
    return 0;
  }

  static int OnTimer(CURLM*, long milliseconds, void* self) {
    auto* multi = static_cast<Multi*>(self);
    multi->timer_ =
        milliseconds < 0 ? kNever : multi->now_ + std::chrono::milliseconds(milliseconds);
    return 0;
  }

  // The caller's poll has told it that something is ready, not what: looked up here, in one call.
  void Perform() {
    int running = 0;
    if (timer_ <= now_) {
      timer_ = kNever;
      curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    ready_.clear();
    for (const auto& [socket, events] : sockets_)
      ready_.push_back({.fd = socket, .events = events, .revents = 0});
    if (ready_.empty() || poll(ready_.data(), ready_.size(), 0) <= 0) return;
    for (const pollfd& at : ready_) {
      int mask = 0;
      if ((at.revents & POLLIN) != 0) mask |= CURL_CSELECT_IN;
      if ((at.revents & POLLOUT) != 0) mask |= CURL_CSELECT_OUT;
      if ((at.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0)
        mask |= CURL_CSELECT_ERR | CURL_CSELECT_IN;
      if (mask != 0) curl_multi_socket_action(multi_, at.fd, mask, &running);
    }
  }

  void CollectFinished() {
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      const CURLcode code = message->data.result;
      const auto at = std::find_if(transfers_.begin(), transfers_.end(), [&](const auto& entry) {
        return entry.second->easy() == message->easy_handle;
      });
      ETL_CHECK(at != transfers_.end());
      finished_.push_back(at->second->Finish(code));
      Remove(at);
    }
  }

  void EndLate(Instant now) {
    for (auto at = transfers_.begin(); at != transfers_.end();) {
      const auto next = std::next(at);
      if (at->second->IsLate(now)) {
        finished_.push_back(at->second->End(HttpFailure::kTimedOut, at->second->LateBecause(now)));
        Remove(at);
      }
      at = next;
    }
  }

  void EndAll(HttpFailure failure) {
    for (auto& [id, transfer] : transfers_) {
      finished_.push_back(transfer->End(failure, "interrupted"));
      curl_multi_remove_handle(multi_, transfer->easy());
    }
    transfers_.clear();
  }

  void Remove(Transfers::iterator at) {
    curl_multi_remove_handle(multi_, at->second->easy());
    transfers_.erase(at);
  }

  const CurlOptions options_;
  CURLM* const multi_;
  Transfers transfers_;
  std::map<curl_socket_t, short> sockets_;
  std::vector<pollfd> ready_;
  std::vector<HttpResponse> finished_;
  Instant now_{};
  Instant timer_ = kNever;
  HttpRequestId last_id_ = 0;
  EventFd wake_;
  std::atomic<bool> interrupted_{false};
};

CurlHttpClient::CurlHttpClient(CurlOptions options)
    : multi_(std::make_unique<Multi>(std::move(options))) {}
CurlHttpClient::~CurlHttpClient() = default;
HttpRequestId CurlHttpClient::Submit(HttpRequest request, Instant now) {
  return multi_->Submit(std::move(request), now);
}
void CurlHttpClient::Poll(Instant now, std::vector<HttpResponse>& finished) {
  multi_->Poll(now, finished);
}
void CurlHttpClient::Cancel(HttpRequestId id) { multi_->Cancel(id); }
void CurlHttpClient::AddPollFds(std::vector<pollfd>& fds) { multi_->AddPollFds(fds); }
Instant CurlHttpClient::next_deadline() const { return multi_->next_deadline(); }
size_t CurlHttpClient::in_flight() const { return multi_->in_flight(); }
void CurlHttpClient::Interrupt() { multi_->Interrupt(); }

}  // namespace etl
