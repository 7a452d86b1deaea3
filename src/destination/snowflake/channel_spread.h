#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/clock.h"
#include "model/change_batch.h"

namespace etl {

/// From this commit on the changes of a table are spread over so many channels.
struct ChannelSpread {
  Lsn from;
  uint32_t channels = 1;
  friend bool operator==(const ChannelSpread&, const ChannelSpread&) = default;
};

/// In force at `commit`: 1 before the first. `spreads` grow in both members.
uint32_t ChannelsAt(const std::vector<ChannelSpread>& spreads, Lsn commit);

/// Which of a table's channels a row belongs to: by its key, so that the changes of a key stay in
/// one channel, in order; by its position where there is no key.
///
/// What a channel's committed token proves rests on the answer: a change that is sent again must be
/// given the same one by every version of this program (correctness, rule 6.3). It depends on
/// nothing but the row. One owner, one thread.
class RowSpreader {
 public:
  /// The next rows are those of `batch`, which outlives them.
  void Bind(const ChangeBatch& batch);
  uint32_t Channel(int64_t row, Lsn commit, uint32_t channels) const;

 private:
  // Values of one key column.
  struct Column {
    const arrow::ArrayData* data = nullptr;
    int width = 0;  // bytes of a value; 0: a bit, -1: text or bytes
  };
  const ChangeBatch* batch_ = nullptr;
  std::vector<Column> key_;
};

struct SpreadOptions {
  Duration every = std::chrono::milliseconds(500);  ///< tables are looked at so often
  int64_t bytes_per_second = 20'000'000;            ///< what a channel may take, uncompressed
  uint32_t channels_max = 16;                       ///< of one table
};

/// Measures what one table sends, and tells when it needs more channels: when they take much of
/// what they may, or when they take less than comes though the service goes on answering. Pure;
/// time is passed in.
class SpreadMeter {
 public:
  void Gave(int64_t uncompressed) { given_ += uncompressed; }
  void Proved() { proved_ = true; }

  struct Advice {
    uint32_t channels = 0;
    /// About two looks ahead, so that the spread is stored when the changes reach it; or as little
    /// as the channels still take at once.
    Lsn from;
  };
  struct Taken {
    Lsn position;         ///< of what came last
    int64_t held = 0;     ///< bytes that were not given yet
    bool behind = false;  ///< a whole request waits behind the one that is on its way
  };
  /// The table has so many channels. None: they are enough, or less than options.every has passed
  /// since the last look and not much has come.
  std::optional<Advice> Look(Instant now, const SpreadOptions& options, uint32_t channels,
                             const Taken& taken);

 private:
  Instant since_{};  ///< zero: nothing came between the two last looks
  Lsn position_;
  int64_t given_ = 0;
  int64_t counted_ = 0;
  bool proved_ = false;
  int looks_behind_ = 0;
};

}  // namespace etl
