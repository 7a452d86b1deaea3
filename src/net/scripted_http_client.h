#pragma once

#include <deque>
#include <functional>
#include <map>

#include "net/http_client.h"

namespace etl {

/// An HttpClient for tests: a handler answers each request, now, later, or never. Time is what is
/// passed in.
class ScriptedHttpClient : public HttpClient {
 public:
  struct Reply {
    HttpResponse response;
    Duration after{};    ///< when it arrives
    bool never = false;  ///< it does not: the request's own `total` ends it
  };
  using Handler = std::function<Reply(const HttpRequest& request)>;

  explicit ScriptedHttpClient(Handler handler) : handler_(std::move(handler)) {}

  static Reply Answer(int code, std::string body, std::vector<HttpHeader> headers = {}) {
    HttpResponse response;
    response.code = code;
    response.body = std::move(body);
    response.headers = std::move(headers);
    return {.response = std::move(response)};
  }
  static Reply Fail(HttpFailure failure) {
    HttpResponse response;
    response.failure = failure;
    response.why = "scripted";
    return {.response = std::move(response)};
  }
  static Reply Never() { return {.response = {}, .after = {}, .never = true}; }

  HttpRequestId Submit(HttpRequest request, Instant now) override {
    const HttpRequestId id = ++last_id_;
    Reply reply = handler_(request);
    if (reply.never) {
      reply = Fail(HttpFailure::kTimedOut);
      reply.after = request.total;
    }
    reply.response.id = id;
    coming_.emplace(id, std::pair(now + reply.after, std::move(reply.response)));
    return id;
  }
  void Poll(Instant now, std::vector<HttpResponse>& finished) override {
    for (auto at = coming_.begin(); at != coming_.end();) {
      if (interrupted_) {
        const HttpRequestId id = at->first;
        at->second.second = Fail(HttpFailure::kInterrupted).response;
        at->second.second.id = id;
      }
      if (!interrupted_ && at->second.first > now) {
        ++at;
        continue;
      }
      finished.push_back(std::move(at->second.second));
      at = coming_.erase(at);
    }
  }
  void Cancel(HttpRequestId id) override { coming_.erase(id); }
  void AddPollFds(std::vector<pollfd>&) override {}
  Instant next_deadline() const override {
    Instant by = kNever;
    for (const auto& [id, reply] : coming_) by = std::min(by, reply.first);
    return by;
  }
  size_t in_flight() const override { return coming_.size(); }
  void Interrupt() override { interrupted_ = true; }

 private:
  Handler handler_;
  std::map<HttpRequestId, std::pair<Instant, HttpResponse>> coming_;
  HttpRequestId last_id_ = 0;
  bool interrupted_ = false;
};

}  // namespace etl
