#include "pipeline/writer.h"

#include <iterator>
#include <utility>

namespace etl {
namespace {

bool HasNews(const Progress& progress) {
  return !progress.merged.empty() || !progress.chunks.empty() || !progress.folds.empty() ||
         !progress.stopped.empty();
}

template <typename T>
void Append(std::vector<T>& to, std::vector<T>&& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

Writer::Writer(Destination* destination, DeliveryChannel* deliveries, ReplyChannel* replies,
               LatencyHistogram* stored, const Clock& clock)
    : destination_(destination),
      deliveries_(deliveries),
      replies_(replies),
      stored_(stored),
      clock_(clock) {}

Result<Wake> Writer::Step(Instant now) {
  deliveries_->ClearConsumer();
  replies_->ClearProducer();
  Wake wake;
  if (destination_->Ready(now)) {
    if (std::optional<Delivery> delivery = deliveries_->TryPop()) {
      if (const auto* segment = std::get_if<Segment>(&*delivery);
          segment != nullptr && segment->complete && segment->rows > 0) {
        received_.emplace_back(segment->end, segment->received);
      }
      ETL_RETURN_IF_ERROR(destination_->Accept(std::move(*delivery)));
      ++accepted_;
      wake.worked = true;
    }
  }
  ETL_ASSIGN_OR_RETURN(Progress progress, destination_->Advance(now));
  wake.worked = wake.worked || progress.worked;
  wake.by = progress.by;
  while (!received_.empty() && received_.front().first <= progress.durable) {
    if (stored_ != nullptr) stored_->Record(clock_.Now() - received_.front().second);
    received_.pop_front();
  }
  // A delivery counts as taken once the destination would accept another one: until then commits
  // gather at the reader.
  const uint64_t taken =
      destination_->Ready(now) ? accepted_ : accepted_ - (accepted_ > reported_ ? 1 : 0);
  const Lsn applied = progress.applied.valid() ? progress.applied : progress.durable;
  const bool shown = std::exchange(applied_, applied) != applied;
  const bool news = taken > reported_ || HasNews(progress) || progress.worked || shown;
  if (news) {
    if (!unsent_) unsent_.emplace();
    unsent_->taken = std::max(taken, reported_);
    reported_ = unsent_->taken;
    unsent_->progress.durable = std::max(unsent_->progress.durable, progress.durable);
    unsent_->progress.applied = applied;
    unsent_->progress.used = progress.used;
    Append(unsent_->progress.merged, std::move(progress.merged));
    Append(unsent_->progress.chunks, std::move(progress.chunks));
    Append(unsent_->progress.folds, std::move(progress.folds));
    Append(unsent_->progress.stopped, std::move(progress.stopped));
  }
  if (Reply()) wake.worked = true;
  return wake;
}

bool Writer::Reply() {
  if (!unsent_ || !replies_->TryPush(*unsent_)) return false;
  unsent_.reset();
  return true;
}

void Writer::AddPollFds(std::vector<pollfd>& fds) {
  fds.push_back({.fd = deliveries_->consumer_fd(), .events = POLLIN, .revents = 0});
  if (unsent_) fds.push_back({.fd = replies_->producer_fd(), .events = POLLIN, .revents = 0});
  destination_->AddPollFds(fds);
}

}  // namespace etl
