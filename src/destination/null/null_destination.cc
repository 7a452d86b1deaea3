#include "destination/null/null_destination.h"

#include "base/check.h"

namespace etl {

Result<Checkpoint> NullDestination::Start(const StartOptions&) { return Checkpoint{}; }

Status NullDestination::BeginHistory(const NewHistory& history) {
  position_ = history.position;
  return Status::OK();
}

Status NullDestination::SetTimeline(uint32_t) { return Status::OK(); }

bool NullDestination::Ready(Instant) const { return !delivery_.has_value(); }

Status NullDestination::Accept(Delivery delivery) {
  ETL_CHECK(!delivery_.has_value());
  if (const auto* segment = std::get_if<Segment>(&delivery); segment != nullptr && on_segment_)
    on_segment_(*segment);
  delivery_ = std::move(delivery);
  return Status::OK();
}

Result<Progress> NullDestination::Advance(Instant) {
  Progress progress;
  if (delivery_.has_value()) {
    progress.worked = true;
    if (const auto* segment = std::get_if<Segment>(&*delivery_)) {
      rows_ += segment->rows;
      if (segment->complete) position_ = segment->end;
    } else if (const auto* chunk = std::get_if<ChunkRows>(&*delivery_)) {
      if (chunk->done.has_value()) {
        copied_[chunk->table.oid] += chunk->done->rows;
        progress.chunks.push_back({chunk->table, chunk->generation, chunk->chunk});
      }
    } else if (const auto* fold = std::get_if<FoldRequest>(&*delivery_)) {
      FoldResult result{.table = fold->table, .generation = fold->generation, .folded = true};
      result.at = position_;
      result.rows = copied_[fold->table.oid];
      copied_.erase(fold->table.oid);
      progress.folds.push_back(std::move(result));
    }
    delivery_.reset();
  }
  progress.durable = position_;
  return progress;
}

Status NullDestination::Read(const ReadOptions&) {
  return MakeError(ErrorKind::kSchema, "ETL-D140", "the null destination keeps no rows");
}

Status NullDestination::Shutdown(Instant) {
  delivery_.reset();
  return Status::OK();
}

}  // namespace etl
