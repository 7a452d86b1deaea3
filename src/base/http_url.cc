#include "base/http_url.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace etl {
namespace {

bool IsAlnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// The text itself is not repeated: a careless one may hold a password.
Status Invalid(std::string_view why) {
  return MakeError(ErrorKind::kConfig, "ETL-C013", fmt::format("a URL is not valid: {}", why),
                   "write https://host or https://host:port");
}

bool ParseOctet(std::string_view text, int* out) {
  if (text.empty() || text.size() > 3) return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && *out <= 255;
}

bool IsLoopbackIpv4(std::string_view host) {
  int octets[4];
  for (int i = 0; i < 4; ++i) {
    const size_t dot = host.find('.');
    if ((i < 3) != (dot != std::string_view::npos)) return false;
    if (!ParseOctet(host.substr(0, dot), &octets[i])) return false;
    host = i < 3 ? host.substr(dot + 1) : std::string_view();
  }
  return octets[0] == 127;
}

bool IsHostName(std::string_view host) {
  return !host.empty() && std::all_of(host.begin(), host.end(), [](char c) {
    return IsAlnum(c) || c == '.' || c == '-' || c == '_';
  });
}

bool IsIpv6(std::string_view host) {
  return !host.empty() && std::all_of(host.begin(), host.end(),
                                      [](char c) { return IsAlnum(c) || c == ':' || c == '.'; });
}

}  // namespace

std::string HttpUrl::Origin() const {
  const bool brackets = host.find(':') != std::string::npos;
  std::string out =
      fmt::format("{}://{}{}{}", scheme, brackets ? "[" : "", host, brackets ? "]" : "");
  if (port != 0) out += fmt::format(":{}", port);
  return out;
}

Result<HttpUrl> ParseHttpUrl(std::string_view text) {
  HttpUrl url;
  if (std::any_of(text.begin(), text.end(), [](char c) {
        return static_cast<unsigned char>(c) <= ' ' || c == '\x7f' || c == '\\';
      })) {
    return Invalid("it holds blanks or control bytes");
  }
  const size_t separator = text.find("://");
  if (separator == std::string_view::npos) return Invalid("it does not begin with https://");
  for (char c : text.substr(0, separator)) url.scheme += static_cast<char>(IsAlnum(c) ? c | 32 : c);
  if (url.scheme != "https" && url.scheme != "http")
    return Invalid("it does not begin with https://");
  text.remove_prefix(separator + 3);
  if (text.find_first_of("?#") != std::string_view::npos)
    return Invalid("it has a query or a fragment");
  const size_t slash = std::min(text.find('/'), text.size());
  std::string_view authority = text.substr(0, slash);
  url.path = text.substr(slash);
  while (url.path.ends_with('/')) url.path.pop_back();
  if (authority.find('@') != std::string_view::npos) return Invalid("it names a user");
  std::string_view port;
  std::string_view host = authority;
  if (authority.starts_with('[')) {
    const size_t end = authority.find(']');
    if (end == std::string_view::npos || !IsIpv6(authority.substr(1, end - 1)))
      return Invalid("the address in brackets is not one");
    host = authority.substr(1, end - 1);
    port = authority.substr(end + 1);
    if (!port.empty() && port.front() != ':') return Invalid("something stands after the brackets");
  } else {
    host = authority.substr(0, authority.find(':'));
    port = authority.substr(host.size());
    if (!IsHostName(host)) return Invalid("the host is not a name or address");
  }
  for (char c : host) url.host += static_cast<char>(c >= 'A' && c <= 'Z' ? c | 32 : c);
  if (!port.empty()) {
    port.remove_prefix(1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), url.port);
    if (error != std::errc() || end != port.data() + port.size() || url.port == 0)
      return Invalid("the port is not a number from 1 to 65535");
  }
  if (url.scheme == "http" && !IsLoopbackHost(url.host))
    return Invalid("http:// is accepted for loopback addresses only");
  return url;
}

bool IsLoopbackHost(std::string_view host) {
  return host == "localhost" || host == "::1" || IsLoopbackIpv4(host);
}

std::string PercentEncode(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (char c : text) {
    if (IsAlnum(c) || c == '-' || c == '.' || c == '_' || c == '~') {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
  return out;
}

}  // namespace etl
