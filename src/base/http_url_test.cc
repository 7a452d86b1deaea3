#include "base/http_url.h"

#include <gtest/gtest.h>

namespace etl {
namespace {

TEST(HttpUrl, IsTakenApart) {
  const HttpUrl url = ParseHttpUrl("HTTPS://MyOrg-Acct.Example.com:8443/base/").ValueOrDie();
  EXPECT_EQ(url.host, "myorg-acct.example.com");
  EXPECT_EQ(url.port, 8443);
  EXPECT_EQ(url.path, "/base");
  EXPECT_EQ(url.Origin(), "https://myorg-acct.example.com:8443");
  EXPECT_EQ(ParseHttpUrl("https://a.b").ValueOrDie().Origin(), "https://a.b");
}

TEST(HttpUrl, PlainHttpIsForLoopbackOnly) {
  for (const char* good : {"http://127.0.0.1:1", "http://127.1.2.3", "http://[::1]:80",
                           "http://localhost:9/x", "http://LOCALHOST"}) {
    EXPECT_TRUE(ParseHttpUrl(good).ok()) << good;
  }
  for (const char* bad :
       {"http://example.com", "http://128.0.0.1", "http://127.0.0.1.example.com", "http://127.1",
        "http://0.0.0.0", "http://[::2]", "http://localhost.example.com", "http://127.0.0.1@x.com",
        "http://0127.0.0.1", "http://127.0.0.1:80@x.com"}) {
    EXPECT_EQ(KindOf(ParseHttpUrl(bad).status()), ErrorKind::kConfig) << bad;
  }
}

TEST(HttpUrl, WhatCouldBeMisreadIsRefused) {
  for (const char* bad :
       {"", "example.com", "ftp://a", "https://", "https://u:p@a", "https://a?b", "https://a#b",
        "https://a b", "https://a\r\nX: y", "https://a:0", "https://a:65536", "https://a:x",
        "https://[::1", "https://[::1]x", "https://a\\b", "https://%61"}) {
    EXPECT_FALSE(ParseHttpUrl(bad).ok()) << bad;
  }
}

TEST(HttpUrl, ErrorsDoNotRepeatThePassword) {
  const Status status = ParseHttpUrl("https://user:hunter2@host/").status();
  EXPECT_EQ(ErrorLine(status).find("hunter2"), std::string::npos);
}

TEST(PercentEncode, LeavesOnlyUnreservedBytes) {
  EXPECT_EQ(PercentEncode("My Schema"), "My%20Schema");
  EXPECT_EQ(PercentEncode("p/q:\xC3\xA9"), "p%2Fq%3A%C3%A9");
  EXPECT_EQ(PercentEncode("T-STREAMING_1.~"), "T-STREAMING_1.~");
}

}  // namespace
}  // namespace etl
