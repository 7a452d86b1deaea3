#include "net/curl_http_client.h"

#include <set>
#include <thread>

#include <poll.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "net/key_testing.h"
#include "net/tls_server_testing.h"

namespace etl {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::Not;

class CurlTest : public ::testing::Test {
 protected:
  CurlOptions Trusting(const TestServer& server) {
    WriteText(folder_ / "ca.pem", server.ca_pem());
    return {.ca_file = folder_ / "ca.pem"};
  }
  // As a stage does: poll until something is finished.
  static std::vector<HttpResponse> Wait(CurlHttpClient& client, size_t count = 1) {
    std::vector<HttpResponse> finished;
    const Instant end = SystemClock().Now() + seconds(20);
    while (finished.size() < count && SystemClock().Now() < end) {
      client.Poll(SystemClock().Now(), finished);
      if (finished.size() >= count) break;
      std::vector<pollfd> fds;
      client.AddPollFds(fds);
      const auto wait = std::chrono::duration_cast<milliseconds>(
          std::min(client.next_deadline(), end) - SystemClock().Now());
      poll(fds.data(), fds.size(), static_cast<int>(std::clamp<int64_t>(wait.count(), 0, 1000)));
    }
    EXPECT_EQ(finished.size(), count);
    finished.resize(count);
    return finished;
  }
  static HttpResponse Get(CurlHttpClient& client, HttpRequest request) {
    client.Submit(std::move(request), SystemClock().Now());
    return Wait(client)[0];
  }

  const ScratchFolder folder_;
};

TEST_F(CurlTest, SendsWhatItIsGivenAndReturnsTheAnswer) {
  ServedRequest seen;
  TestServer server({}, [&](const ServedRequest& request) {
    seen = request;
    return TestServer::Answer(201, "hello", "Retry-After: 7\r\nX-Snowflake-Session:  abc \r\n");
  });
  CurlHttpClient client(Trusting(server));
  std::string bytes(3'000'000, 'x');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31);
  const HttpBody body = HttpBody::Of(bytes);
  const HttpResponse response =
      Get(client, {.method = HttpMethod::kPut,
                   .url = server.url() + "/a%20b?c=d",
                   .headers = {{"Content-Type", "application/x-ndjson"}},
                   .bearer = std::make_shared<const Secret>(std::string("tok.en")),
                   .body = body});
  ASSERT_TRUE(response.answered()) << response.why;
  EXPECT_EQ(response.code, 201);
  EXPECT_EQ(response.body, "hello");
  EXPECT_EQ(response.Header("retry-after"), "7");
  EXPECT_EQ(response.Header("x-snowflake-session"), "abc");
  EXPECT_EQ(seen.Line(), "PUT /a%20b?c=d HTTP/1.1");
  EXPECT_THAT(seen.head, HasSubstr("\r\nAuthorization: Bearer tok.en\r\n"));
  EXPECT_THAT(seen.head, HasSubstr("\r\nContent-Type: application/x-ndjson\r\n"));
  EXPECT_THAT(seen.head, HasSubstr("\r\nUser-Agent: etl-stream\r\n"));
  EXPECT_THAT(seen.head, Not(HasSubstr("Expect")));
  EXPECT_EQ(seen.body, bytes);
  EXPECT_EQ(server.offered(), "h2,http/1.1");
}

TEST_F(CurlTest, MethodsAndBodiesAreWhatTheyShouldBe) {
  std::vector<std::string> lines;
  std::vector<std::string> bodies;
  TestServer server({.tls = false}, [&](const ServedRequest& request) {
    lines.push_back(request.Line());
    bodies.push_back(request.body);
    return TestServer::Answer(200, "");
  });
  CurlHttpClient client({});
  Get(client, {.method = HttpMethod::kGet, .url = server.url() + "/1"});
  Get(client, {.method = HttpMethod::kPost, .url = server.url() + "/2"});
  Get(client, {.method = HttpMethod::kDelete, .url = server.url() + "/3"});
  Get(client,
      {.method = HttpMethod::kDelete, .url = server.url() + "/4", .body = HttpBody::Of("{}")});
  EXPECT_THAT(lines, ::testing::ElementsAre("GET /1 HTTP/1.1", "POST /2 HTTP/1.1",
                                            "DELETE /3 HTTP/1.1", "DELETE /4 HTTP/1.1"));
  EXPECT_THAT(bodies, ::testing::ElementsAre("", "", "", "{}"));
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(CurlTest, ManyRequestsAtOnceShareFewConnections) {
  TestServer server(
      {}, [&](const ServedRequest& request) { return TestServer::Answer(200, request.Line()); });
  CurlOptions options = Trusting(server);
  options.connections_per_host_max = 3;
  CurlHttpClient client(options);
  for (int i = 0; i < 50; ++i)
    client.Submit({.url = server.url() + "/" + std::to_string(i)}, SystemClock().Now());
  EXPECT_EQ(client.in_flight(), 50u);
  std::set<std::string> bodies;
  for (const HttpResponse& response : Wait(client, 50)) bodies.insert(response.body);
  EXPECT_EQ(bodies.size(), 50u);
  EXPECT_LE(server.connections(), 3);
  EXPECT_EQ(client.in_flight(), 0u);
}

TEST_F(CurlTest, AnUnknownAuthorityAWrongNameAndOldTlsAreRefused) {
  const auto handler = [](const ServedRequest&) { return TestServer::Answer(200, ""); };
  const auto fails = [&](TestServer& server, const CurlOptions& options) {
    CurlHttpClient client(options);
    return Get(client, {.url = server.url()}).failure;
  };
  TestServer good({}, handler);
  EXPECT_EQ(fails(good, {}), HttpFailure::kTls);
  EXPECT_EQ(fails(good, Trusting(good)), HttpFailure::kNone);
  TestServer other_name({.host = "DNS:example.com"}, handler);
  EXPECT_EQ(fails(other_name, Trusting(other_name)), HttpFailure::kTls);
  TestServer old({.max_tls = TLS1_1_VERSION}, handler);
  EXPECT_NE(fails(old, Trusting(old)), HttpFailure::kNone);
}

TEST_F(CurlTest, PlainHttpLeavesNoLoopbackAndUrlsHoldNoPassword) {
  CurlHttpClient client({});
  for (const char* url : {"http://192.0.2.1/", "http://user:hunter2@127.0.0.1/", "ftp://127.0.0.1/",
                          "file:///etc/passwd", "https://a b/"}) {
    const HttpResponse response = Get(client, {.url = url});
    EXPECT_EQ(response.failure, HttpFailure::kInvalid) << url;
    EXPECT_THAT(response.why, Not(HasSubstr("hunter2")));
  }
  const HttpResponse split =
      Get(client, {.url = "http://127.0.0.1:1/", .headers = {{"A", "b\r\nEvil: yes"}}});
  EXPECT_EQ(split.failure, HttpFailure::kInvalid);
}

TEST_F(CurlTest, RedirectsAreAnswersAndNotFollowed) {
  TestServer server({.tls = false}, [&](const ServedRequest&) {
    return TestServer::Answer(302, "", "Location: http://127.0.0.1:1/\r\n");
  });
  CurlHttpClient client({});
  EXPECT_EQ(Get(client, {.url = server.url()}).code, 302);
}

TEST_F(CurlTest, FailuresTellWhatMayHaveBeenDone) {
  TestServer server({.tls = false}, [](const ServedRequest&) { return std::string(); });
  CurlHttpClient client({});
  EXPECT_EQ(Get(client, {.method = HttpMethod::kPost, .url = server.url()}).failure,
            HttpFailure::kBroken);
  EXPECT_EQ(Get(client, {.url = "http://127.0.0.1:1/"}).failure, HttpFailure::kUnreachable);
  EXPECT_EQ(Get(client, {.url = "https://no-such-host.invalid/"}).failure,
            HttpFailure::kUnreachable);
}

TEST_F(CurlTest, AStalledAnswerAndALateOneEndByTheTimePassedIn) {
  TestServer server({.tls = false}, [](const ServedRequest& request) {
    if (request.Line().find("/half") != std::string::npos)
      return std::string("HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\nhalf");
    poll(nullptr, 0, 400);
    return TestServer::Answer(200, "");
  });
  CurlHttpClient client({});
  HttpResponse response = Get(client, {.url = server.url() + "/half", .stall = milliseconds(150)});
  EXPECT_EQ(response.failure, HttpFailure::kTimedOut);
  EXPECT_THAT(response.why, HasSubstr("nothing was sent or received"));
  response = Get(client, {.url = server.url() + "/late", .total = milliseconds(150)});
  EXPECT_EQ(response.failure, HttpFailure::kTimedOut);
  EXPECT_THAT(response.why, HasSubstr("no complete answer"));
}

TEST_F(CurlTest, AHugeAnswerIsCutOff) {
  TestServer server({.tls = false}, [](const ServedRequest&) {
    return TestServer::Answer(200, std::string(100'000, 'x'));
  });
  CurlHttpClient client({.answer_bytes_max = 50'000});
  EXPECT_EQ(Get(client, {.url = server.url()}).failure, HttpFailure::kTooLarge);
}

TEST_F(CurlTest, CancelAndInterruptEndWhatIsInFlight) {
  TestServer server({.tls = false}, [](const ServedRequest&) {
    poll(nullptr, 0, 200);
    return TestServer::Answer(200, "");
  });
  CurlHttpClient client({});
  const HttpRequestId cancelled = client.Submit({.url = server.url()}, SystemClock().Now());
  const HttpRequestId kept = client.Submit({.url = server.url()}, SystemClock().Now());
  client.Cancel(cancelled);
  EXPECT_EQ(client.in_flight(), 1u);
  EXPECT_EQ(Wait(client)[0].id, kept);
  client.Submit({.url = server.url()}, SystemClock().Now());
  std::thread other([&] { client.Interrupt(); });
  EXPECT_EQ(Wait(client)[0].failure, HttpFailure::kInterrupted);
  other.join();
}

}  // namespace
}  // namespace etl
