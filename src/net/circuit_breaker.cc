#include "net/circuit_breaker.h"

namespace etl {

CircuitBreaker::State CircuitBreaker::state(Instant now) const {
  if (closed_) return State::kClosed;
  return now - opened_at_ < options_.open ? State::kOpen : State::kHalfOpen;
}

std::optional<CircuitBreaker::Ticket> CircuitBreaker::Admit(Instant now) {
  switch (state(now)) {
    case State::kClosed: return era_;
    case State::kOpen: return std::nullopt;
    case State::kHalfOpen: break;
  }
  if (trial_out_) return std::nullopt;
  trial_out_ = true;
  return era_;
}

void CircuitBreaker::Succeeded(Ticket ticket) {
  if (ticket != era_ || closed_) return;
  trial_out_ = false;
  if (++successes_ >= options_.successes) Enter(true);
}

void CircuitBreaker::Failed(Ticket ticket, Instant now) {
  if (ticket != era_) return;
  if (closed_) {
    failures_.push_back(now);
    while (now - failures_.front() > options_.within) failures_.pop_front();
    if (static_cast<int>(failures_.size()) < options_.failures) return;
  }
  opened_at_ = now;
  Enter(false);
}

void CircuitBreaker::Dropped(Ticket ticket) {
  if (ticket == era_) trial_out_ = false;
}

void CircuitBreaker::Enter(bool closed) {
  closed_ = closed;
  ++era_;
  failures_.clear();
  trial_out_ = false;
  successes_ = 0;
}

Instant CircuitBreaker::admits_at(Instant now) const {
  switch (state(now)) {
    case State::kClosed: return now;
    case State::kOpen: return opened_at_ + options_.open;
    case State::kHalfOpen: break;
  }
  return trial_out_ ? kNever : now;
}

}  // namespace etl
