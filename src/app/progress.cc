#include "app/progress.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "app/table_printer.h"

namespace etl {
namespace {

constexpr auto kLineEvery = std::chrono::seconds(3);
constexpr auto kDrawEvery = std::chrono::milliseconds(100);
constexpr auto kRateEvery = std::chrono::milliseconds(500);
constexpr int kBarColumns = 24;

struct CopySums {
  int64_t rows = 0;
  int64_t total = 0;
  int tables = 0;
  int left = 0;
};

CopySums Sums(const PipelineStatus& status) {
  CopySums sums;
  for (const TableStatus& table : status.tables) {
    ++sums.tables;
    if (table.phase == TablePhase::kCopying || table.phase == TablePhase::kWaiting) ++sums.left;
    if (table.phase == TablePhase::kStopped) continue;
    sums.rows += table.rows;
    // An estimate may be too small, and there is none once a table is live.
    sums.total +=
        std::max(table.rows, table.phase == TablePhase::kLive ? table.rows : table.rows_total);
  }
  return sums;
}

// Which tables there are is not known yet.
bool Starting(const PipelineStatus& status) {
  return status.phase == PipelinePhase::kCopying && status.tables.empty();
}

std::string Eta(double seconds) {
  const auto whole = static_cast<int64_t>(std::ceil(seconds));
  if (whole >= 3600) return fmt::format("{}h{:02}m", whole / 3600, whole % 3600 / 60);
  if (whole >= 60) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  return fmt::format("{}s", whole);
}

}  // namespace

double CopiedShare(const PipelineStatus& status) {
  const CopySums sums = Sums(status);
  if (sums.left == 0) return 1;
  if (sums.total <= 0) return 0;
  // Not full before it is done.
  return std::min(0.99, static_cast<double>(sums.rows) / static_cast<double>(sums.total));
}

std::string ProgressBar(double fraction, int width) {
  const int full = static_cast<int>(std::lround(std::clamp(fraction, 0.0, 1.0) * width));
  return "[" + std::string(static_cast<size_t>(full), '#') +
         std::string(static_cast<size_t>(width - full), '.') + "]";
}

std::string ProgressText(const PipelineStatus& status, double rate) {
  std::string text = std::string(PipelinePhaseName(status.phase));
  const CopySums sums = Sums(status);
  if (Starting(status)) {
    text = "starting";
  } else if (status.phase == PipelinePhase::kCopying) {
    text += fmt::format("  {:.0f}%  {} of about {} rows, {} of {} tables left",
                        CopiedShare(status) * 100, Grouped(sums.rows), Grouped(sums.total),
                        sums.left, sums.tables);
    if (rate >= 1) {
      text += fmt::format("  {}/s", Grouped(static_cast<int64_t>(rate)));
      if (sums.total > sums.rows)
        text += fmt::format("  eta {}", Eta(static_cast<double>(sums.total - sums.rows) / rate));
    }
  } else {
    if (status.lag_seconds.has_value()) text += fmt::format("  lag {:.1f} s", *status.lag_seconds);
    if (status.lag_bytes > 0) text += fmt::format("  {} behind", HumanBytes(status.lag_bytes));
    text += fmt::format("  {} changes", Grouped(status.changes));
    if (rate >= 1) text += fmt::format("  {}/s", Grouped(static_cast<int64_t>(rate)));
  }
  const auto stopped =
      std::count_if(status.tables.begin(), status.tables.end(),
                    [](const TableStatus& table) { return table.phase == TablePhase::kStopped; });
  if (stopped > 0) text += fmt::format("  {} tables stopped", stopped);
  if (!status.error.empty()) text += "  " + Printable(status.error);
  return text;
}

void Progress::Measure(Seen& seen, const PipelineStatus& status, Instant now) {
  int64_t done = status.changes;
  if (status.phase == PipelinePhase::kCopying) done = Sums(status).rows;
  const bool fresh = !seen.any || seen.status.phase != status.phase || done < seen.rate_base;
  if (fresh) {
    seen.rate = 0;
  } else if (now - seen.rate_at < kRateEvery) {
    return;
  } else {
    const double seconds = std::chrono::duration<double>(now - seen.rate_at).count();
    const double recent = static_cast<double>(done - seen.rate_base) / seconds;
    seen.rate = seen.rate == 0 ? recent : 0.7 * seen.rate + 0.3 * recent;
  }
  seen.rate_at = now;
  seen.rate_base = done;
}

void Progress::Update(const PipelineStatus& status) {
  const Instant now = clock_.Now();
  Seen& seen = pipelines_[status.name];
  Measure(seen, status, now);
  const bool news =
      !seen.any || seen.status.phase != status.phase || seen.status.error != status.error;
  seen.status = status;
  if (terminal_) {
    seen.any = true;
    if (!news && now - drawn_ < kDrawEvery) return;
    drawn_ = now;
    return Draw();
  }
  if (!news && now - seen.printed < kLineEvery) return;
  seen.any = true;
  seen.printed = now;
  fmt::print(out_, "{}  {}\n", status.name, ProgressText(status, seen.rate));
  std::fflush(out_);
}

void Progress::Draw() {
  std::string line;
  for (const auto& [name, seen] : pipelines_) {
    if (!seen.any) continue;
    if (!line.empty()) line += "   ";
    line += name + "  ";
    if (seen.status.phase == PipelinePhase::kCopying && !Starting(seen.status))
      line += ProgressBar(CopiedShare(seen.status), kBarColumns) + " ";
    line += ProgressText(seen.status, seen.rate);
  }
  // A line that wraps could not be drawn over.
  fmt::print(out_, "\r\x1b[K{}", Fitted(line, std::max(10, width_ - 1)));
  std::fflush(out_);
}

void Progress::Finish() {
  if (terminal_ && !pipelines_.empty()) {
    Draw();
    fmt::print(out_, "\n");
  }
  std::fflush(out_);
  pipelines_.clear();
}

}  // namespace etl
