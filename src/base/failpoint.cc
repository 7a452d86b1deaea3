#include "base/failpoint.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>

namespace etl {
namespace {

struct Point {
  bool pause = false;
  long argument = 1;
  std::atomic<long> passages{0};
};

std::map<std::string, Point, std::less<>>& Points() {
  static std::map<std::string, Point, std::less<>> points = [] {
    std::map<std::string, Point, std::less<>> parsed;
    const char* text = std::getenv("ETL_FAILPOINTS");
    std::string_view rest = text == nullptr ? "" : text;
    while (!rest.empty()) {
      const std::string_view entry = rest.substr(0, rest.find(';'));
      rest.remove_prefix(entry.size() < rest.size() ? entry.size() + 1 : entry.size());
      const size_t equals = entry.find('=');
      if (equals == std::string_view::npos) continue;
      std::string_view action = entry.substr(equals + 1);
      Point& point = parsed[std::string(entry.substr(0, equals))];
      if (const size_t colon = action.find(':'); colon != std::string_view::npos) {
        const std::string_view number = action.substr(colon + 1);
        std::from_chars(number.data(), number.data() + number.size(), point.argument);
        action = action.substr(0, colon);
      }
      point.pause = action == "pause";
    }
    return parsed;
  }();
  return points;
}

}  // namespace

const bool g_failpoints_armed = std::getenv("ETL_FAILPOINTS") != nullptr;

void FailpointHit(const char* name) {
  auto found = Points().find(std::string_view(name));
  if (found == Points().end()) return;
  Point& point = found->second;
  if (point.pause) {
    const timespec pause{.tv_sec = point.argument / 1000,
                         .tv_nsec = point.argument % 1000 * 1000000};
    nanosleep(&pause, nullptr);
    return;
  }
  if (++point.passages == point.argument) kill(getpid(), SIGKILL);
}

}  // namespace etl
