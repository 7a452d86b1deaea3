#include "net/retry.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

#include <time.h>

namespace etl {
namespace {

constexpr auto kLongest = std::chrono::hours(24);

std::optional<Duration> ParseSeconds(std::string_view text) {
  int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (end != text.data() + text.size() || text.front() == '-') return std::nullopt;
  if (error == std::errc::result_out_of_range) return kLongest;
  if (error != std::errc()) return std::nullopt;
  return std::min<Duration>(std::chrono::seconds(std::min<int64_t>(seconds, 86400)), kLongest);
}

}  // namespace

std::optional<Instant> RetrySchedule::Next(Instant now, std::optional<Duration> retry_after) {
  const double full =
      std::min(static_cast<double>(options_.initial.count()) * std::pow(options_.factor, failed_),
               static_cast<double>(options_.cap.count()));
  ++failed_;
  const double share = 1 - options_.jitter * random_.Unit();
  Duration pause(static_cast<int64_t>(full * share));
  if (retry_after.has_value()) pause = std::max(pause, *retry_after);
  if (deadline_ - now <= pause) return std::nullopt;
  return now + pause;
}

std::optional<Duration> ParseRetryAfter(std::string_view value, UnixMicros wall_now) {
  while (value.ends_with(' ')) value.remove_suffix(1);
  while (value.starts_with(' ')) value.remove_prefix(1);
  if (value.empty() || value.size() > 64) return std::nullopt;
  if (const std::optional<Duration> seconds = ParseSeconds(value)) return seconds;
  const std::optional<int64_t> date = ParseHttpDate(value);
  if (!date.has_value()) return std::nullopt;
  const int64_t micros = std::clamp<int64_t>(*date, 0, int64_t{1} << 42) * 1'000'000 - wall_now;
  return std::clamp<Duration>(std::chrono::microseconds(std::clamp<int64_t>(
                                  micros, 0, std::chrono::microseconds(kLongest).count())),
                              Duration::zero(), kLongest);
}

std::optional<int64_t> ParseHttpDate(std::string_view value) {
  if (value.size() > 64) return std::nullopt;
  const std::string text(value);
  // Day names are read and not checked. The C locale's names are meant; the program sets no other.
  for (const char* form :
       {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"}) {
    struct tm parts = {};
    const char* end = strptime(text.c_str(), form, &parts);
    if (end != nullptr && *end == '\0') return static_cast<int64_t>(timegm(&parts));
  }
  return std::nullopt;
}

}  // namespace etl
