#include "config/conninfo.h"

#include <algorithm>

namespace etl {
namespace {

std::optional<int> HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return std::nullopt;
}

std::string PercentDecoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      const std::optional<int> high = HexDigit(text[i + 1]);
      const std::optional<int> low = HexDigit(text[i + 2]);
      if (high.has_value() && low.has_value()) {
        out += static_cast<char>(*high * 16 + *low);
        i += 2;
        continue;
      }
    }
    out += text[i];
  }
  return out;
}

SplitConninfo SplitUrl(std::string_view url) {
  SplitConninfo out;
  const size_t authority = url.find("://") + 3;
  const size_t authority_end = std::min(url.find_first_of("/?", authority), url.size());
  out.conninfo = url.substr(0, authority);
  const std::string_view hosts = url.substr(authority, authority_end - authority);
  size_t at = hosts.find('@');
  size_t colon = hosts.substr(0, at).find(':');
  if (at != std::string_view::npos && colon != std::string_view::npos) {
    if (colon + 1 < at) out.password = PercentDecoded(hosts.substr(colon + 1, at - colon - 1));
    out.conninfo += hosts.substr(0, colon);
    out.conninfo += hosts.substr(at);
  } else {
    out.conninfo += hosts;
  }
  const size_t query = std::min(url.find('?', authority_end), url.size());
  out.conninfo += url.substr(authority_end, query - authority_end);
  char separator = '?';
  for (size_t begin = query + 1; begin < url.size();) {
    const size_t end = std::min(url.find('&', begin), url.size());
    const std::string_view parameter = url.substr(begin, end - begin);
    if (parameter.starts_with("password=")) {
      out.password = PercentDecoded(parameter.substr(9));
    } else {
      out.conninfo += separator;
      out.conninfo += parameter;
      separator = '&';
    }
    begin = end + 1;
  }
  return out;
}

bool IsSpace(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

// One `key = value` of a keyword string, as libpq's conninfo_parse reads it.
SplitConninfo SplitKeywords(std::string_view text) {
  SplitConninfo out;
  size_t at = 0;
  while (true) {
    while (at < text.size() && IsSpace(text[at])) ++at;
    if (at == text.size()) break;
    const size_t begin = at;
    while (at < text.size() && text[at] != '=' && !IsSpace(text[at])) ++at;
    const std::string_view key = text.substr(begin, at - begin);
    while (at < text.size() && IsSpace(text[at])) ++at;
    if (key.empty() || at == text.size() || text[at] != '=') {
      out.error = "a connection string is postgres://user@host/database or keyword=value pairs";
      return out;
    }
    ++at;
    while (at < text.size() && IsSpace(text[at])) ++at;
    std::string value;
    const bool quoted = at < text.size() && text[at] == '\'';
    if (quoted) ++at;
    while (at < text.size() && (quoted ? text[at] != '\'' : !IsSpace(text[at]))) {
      if (text[at] == '\\' && at + 1 < text.size()) ++at;
      value += text[at++];
    }
    if (quoted) {
      if (at == text.size()) {
        out.error = "a quoted value of the connection string does not end";
        return out;
      }
      ++at;
    }
    if (key == "password") {
      if (!value.empty()) out.password = std::move(value);
      continue;
    }
    if (!out.conninfo.empty()) out.conninfo += ' ';
    out.conninfo += text.substr(begin, at - begin);
  }
  return out;
}

}  // namespace

SplitConninfo SplitPassword(std::string_view conninfo) {
  if (conninfo.starts_with("postgres://") || conninfo.starts_with("postgresql://"))
    return SplitUrl(conninfo);
  if (conninfo.find('=') == std::string_view::npos || conninfo.find("://") < conninfo.find('=')) {
    SplitConninfo out;
    out.error = "a connection string is postgres://user@host/database or keyword=value pairs";
    return out;
  }
  return SplitKeywords(conninfo);
}

}  // namespace etl
