#pragma once

#include <cstdio>
#include <map>
#include <string>

#include "base/clock.h"
#include "model/status.h"

namespace etl {

/// Shows how pipelines get on: on a terminal one line that is drawn again, elsewhere a line every
/// few seconds. Called from one thread at a time.
class Progress {
 public:
  /// `terminal`: whether `out` is one; `width`: its columns.
  Progress(FILE* out, bool terminal, int width, const Clock& clock)
      : out_(out), terminal_(terminal), width_(width), clock_(clock) {}
  void Update(const PipelineStatus& status);
  /// Leaves the last state on the terminal; the last call.
  void Finish();

 private:
  struct Seen {
    PipelineStatus status;
    Instant printed{};
    bool any = false;
    Instant rate_at{};
    int64_t rate_base = 0;
    double rate = 0;  ///< rows and changes a second
  };
  void Measure(Seen& seen, const PipelineStatus& status, Instant now);
  void Draw();

  FILE* const out_;
  const bool terminal_;
  const int width_;
  const Clock& clock_;
  std::map<std::string, Seen> pipelines_;
  Instant drawn_{};
};

/// "copying  63%  12,100,000 of 19,200,000 rows  1,200,000/s  eta 6s" or "running  lag 0.8 s 41,200
/// changes/s".
std::string ProgressText(const PipelineStatus& status, double rate);
/// A bar of `width` columns.
std::string ProgressBar(double fraction, int width);
/// Share of the rows that are copied, of those known; 1 when nothing is left to copy.
double CopiedShare(const PipelineStatus& status);

}  // namespace etl
