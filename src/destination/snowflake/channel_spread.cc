#include "destination/snowflake/channel_spread.h"

#include <algorithm>
#include <cstring>

#include <arrow/array/data.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

namespace etl {
namespace {

constexpr uint64_t kNull = 0x2545f4914f6cdd1d;

// The finalizer of splitmix64 over what was mixed before and eight more bytes.
uint64_t Mix(uint64_t hash, uint64_t word) {
  uint64_t z = hash * 0x9e3779b97f4a7c15u + word;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

uint64_t MixBytes(uint64_t hash, const uint8_t* at, size_t size) {
  hash = Mix(hash, size);
  for (; size >= 8; at += 8, size -= 8) {
    uint64_t word = 0;
    std::memcpy(&word, at, 8);
    hash = Mix(hash, word);
  }
  uint64_t word = 0;
  std::memcpy(&word, at, size);
  return size == 0 ? hash : Mix(hash, word);
}

bool Bit(const uint8_t* bits, int64_t at) { return (bits[at / 8] >> (at % 8) & 1) != 0; }

}  // namespace

uint32_t ChannelsAt(const std::vector<ChannelSpread>& spreads, Lsn commit) {
  uint32_t channels = 1;
  for (const ChannelSpread& spread : spreads) {
    if (spread.from <= commit) channels = spread.channels;
  }
  return channels;
}

void RowSpreader::Bind(const ChangeBatch& batch) {
  batch_ = &batch;
  key_.clear();
  if (batch.schema->identity != Identity::kKey) return;
  for (const int index : batch.schema->key) {
    const arrow::ArrayData& data = *batch.rows->column_data(index);
    Column column{.data = &data};
    const arrow::Type::type type = data.type->id();
    if (type == arrow::Type::STRING || type == arrow::Type::BINARY) {
      column.width = -1;
    } else if (const auto* fixed = dynamic_cast<const arrow::FixedWidthType*>(data.type.get())) {
      column.width = fixed->bit_width() / 8;
    } else {
      continue;
    }
    key_.push_back(column);
  }
}

uint32_t RowSpreader::Channel(int64_t row, Lsn commit, uint32_t channels) const {
  if (channels <= 1) return 0;
  uint64_t hash = 0;
  // The old key of a key change, and its new one, are two rows.
  if (key_.empty()) hash = Mix(commit.value, batch_->ordinals[static_cast<size_t>(row)]);
  for (const Column& column : key_) {
    const int64_t at = column.data->offset + row;
    const auto& buffers = column.data->buffers;
    if (buffers[0] != nullptr && !Bit(buffers[0]->data(), at)) {
      hash = Mix(hash, kNull);
    } else if (column.width < 0) {
      const auto* ends = reinterpret_cast<const int32_t*>(buffers[1]->data()) + at;
      const auto size = static_cast<size_t>(ends[1] - ends[0]);
      hash = size == 0 ? Mix(hash, 0) : MixBytes(hash, buffers[2]->data() + ends[0], size);
    } else if (column.width == 0) {
      hash = Mix(hash, Bit(buffers[1]->data(), at) ? 1 : 0);
    } else {
      hash =
          MixBytes(hash, buffers[1]->data() + at * column.width, static_cast<size_t>(column.width));
    }
  }
  return static_cast<uint32_t>(hash % channels);
}

std::optional<SpreadMeter::Advice> SpreadMeter::Look(Instant now, const SpreadOptions& options,
                                                     uint32_t channels, const Taken& taken) {
  const auto bytes = static_cast<double>(given_ + taken.held - counted_);
  const auto limit = static_cast<double>(options.bytes_per_second);
  const bool first = since_ == Instant{};
  const bool early = !first && now - since_ < options.every;
  // What comes at once and is too much for a second is not waited for: the channels would be full.
  if (early && bytes <= 0.6 * limit * channels) return std::nullopt;
  const double rate = bytes / std::chrono::duration<double>(now - since_).count() / channels;
  // Behind for no longer than one look may be a single large transaction.
  looks_behind_ = taken.behind && proved_ ? looks_behind_ + 1 : 0;
  const uint64_t came = taken.position.value - std::min(taken.position, position_).value;
  since_ = bytes > 0 ? now : Instant{};
  position_ = taken.position;
  counted_ = given_ + taken.held;
  proved_ = false;
  if (first || channels >= options.channels_max) return std::nullopt;
  if (rate <= 0.6 * limit && looks_behind_ < 2) return std::nullopt;
  looks_behind_ = 0;
  // Half of what it may take leaves room for what comes in bursts.
  const auto enough = static_cast<uint32_t>(rate * channels / (0.5 * limit)) + 1;
  return Advice{.channels = std::min(std::max(2 * channels, enough), options.channels_max),
                .from = Lsn{taken.position.value + (early ? came / 4 : 2 * came)}};
}

}  // namespace etl
