#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace etl {

/// An http or https URL without user, query and fragment: what a person may write as the address of
/// a service.
struct HttpUrl {
  std::string scheme;  ///< http or https
  std::string host;    ///< lower case; an IPv6 address without its brackets
  uint16_t port = 0;   ///< 0: the scheme's own
  std::string path;    ///< empty, or begins with /; without a / at its end

  /// scheme://host[:port], the host in brackets where it needs them.
  std::string Origin() const;
};

/// Takes `text` apart. Refuses (kConfig, ETL-C013) any other scheme, a user or password, a query, a
/// fragment, control bytes, and http:// to anything but a loopback address: what is sent holds
/// tokens.
Result<HttpUrl> ParseHttpUrl(std::string_view text);

/// 127.0.0.0/8, ::1 or localhost, as HttpUrl::host gives it.
bool IsLoopbackHost(std::string_view host);

/// `text` with everything but letters, digits and -._~ as %XX: one segment of a path, or one value
/// of a query or form.
std::string PercentEncode(std::string_view text);

}  // namespace etl
