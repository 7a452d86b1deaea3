// The conformance suite against the emulator, which runs as a program of its own.
#include <cstdlib>
#include <thread>

#include <poll.h>

#include "destination/conformance.h"
#include "destination/snowflake/emulator_testing.h"
#include "destination/snowflake/snowflake_destination.h"

namespace etl {
namespace {

EmulatorProcess& Emulator() {
  static EmulatorProcess emulator;
  return emulator;
}

/// A destination that is ready and told what is durable only when nothing is on its way any more,
/// as the suite expects it: Advance goes on until then.
class Patient : public Destination {
 public:
  explicit Patient(std::unique_ptr<SnowflakeDestination> inner) : inner_(std::move(inner)) {}

  Result<Checkpoint> Start(const StartOptions& options) override { return inner_->Start(options); }
  Status BeginHistory(const NewHistory& history) override { return inner_->BeginHistory(history); }
  Status AbandonCopies(const std::vector<TableId>& tables) override {
    return inner_->AbandonCopies(tables);
  }
  Status SetTimeline(uint32_t timeline) override { return inner_->SetTimeline(timeline); }
  bool Ready(Instant) const override { return ready_; }
  Status Accept(Delivery delivery) override {
    // Contradictions are found by a merge.
    if (auto* segment = std::get_if<Segment>(&delivery); segment != nullptr && segment->complete)
      segment->awaited = true;
    while (!inner_->Ready(SystemClock().Now())) {
      ETL_ASSIGN_OR_RETURN(Progress progress, Once());
      Keep(std::move(progress));
    }
    ready_ = false;
    return inner_->Accept(std::move(delivery));
  }
  Result<Progress> Advance(Instant) override {
    ready_ = true;
    const Instant give_up = SystemClock().Now() + std::chrono::seconds(60);
    for (bool done = false; !done;) {
      ETL_ASSIGN_OR_RETURN(Progress progress, Once());
      // A boundary inside a piece of a transaction is not stored before the whole of it.
      done = !progress.worked && inner_->at_rest() && progress.applied >= progress.durable;
      Keep(std::move(progress));
      if (SystemClock().Now() > give_up)
        return MakeError(ErrorKind::kInternal, "ETL-TEST", "the destination does not come to rest");
    }
    return std::exchange(kept_, Progress{.worked = true, .durable = kept_.durable});
  }
  Status Read(const ReadOptions& options) override { return inner_->Read(options); }
  Status Forget() override { return inner_->Forget(); }
  Status Shutdown(Instant deadline) override { return inner_->Shutdown(deadline); }

 private:
  Result<Progress> Once() {
    ETL_ASSIGN_OR_RETURN(Progress progress, inner_->Advance(SystemClock().Now()));
    if (progress.worked) return progress;
    std::vector<pollfd> fds;
    inner_->AddPollFds(fds);
    poll(fds.data(), fds.size(), 2);
    return progress;
  }
  void Keep(Progress progress) {
    const auto append = [](auto& to, auto& from) {
      std::move(from.begin(), from.end(), std::back_inserter(to));
    };
    append(kept_.chunks, progress.chunks);
    append(kept_.folds, progress.folds);
    append(kept_.stopped, progress.stopped);
    kept_.durable = progress.durable;
  }

  std::unique_ptr<SnowflakeDestination> inner_;
  Progress kept_;
  bool ready_ = true;
};

/// A schema and a landing schema of the one emulator.
class SnowflakePlace : public ConformancePlace {
 public:
  explicit SnowflakePlace(bool faults) : faults_(faults) {
    static int number = 0;
    const std::string suffix = std::to_string(++number);
    Emulator().Control("setup", EmulatorProcess::Json{
                                    {"schemas", {{"DB", "S" + suffix}, {"DB", "ETL" + suffix}}}});
    config_ = Emulator().Config();
    config_.schema = "S" + suffix;
    config_.landing_schema = "ETL" + suffix;
    config_.merge_every = std::chrono::milliseconds(20);
    Emulator().ClearFaults();
  }
  ~SnowflakePlace() override { Emulator().ClearFaults(); }

  std::unique_ptr<Destination> Open() override {
    if (faults_) Emulator().Control("faults", Faults());
    return std::make_unique<Patient>(std::make_unique<SnowflakeDestination>(
        SnowflakeOptions{.config = config_,
                         .key = [this]() -> Result<KeyOrigin> { return TestOrigin(&key_); },
                         .forward_every = std::chrono::milliseconds(10)},
        SystemClock()));
  }

 private:
  // Answers that are lost after the request was carried out, an overloaded service, a channel that
  // somebody else opened, tokens that end.
  static EmulatorProcess::Json Faults() {
    using Json = EmulatorProcess::Json;
    Json faults = Json::array();
    const auto add = [&](const char* method, const char* path, int skip, Json what) {
      what["match"] = {{"method", method}, {"path", path}};
      what["skip"] = skip;
      faults.push_back(std::move(what));
    };
    add("POST", "/rows$", 1, {{"when", "after"}, {"drop", true}});
    add("POST", "/rows$", 3, {{"answer", {{"status", 503}, {"shape", "html"}}}});
    add("POST", "/rows$", 5, {{"channel", "take_over"}});
    add("POST", "/api/v2/statements$", 4, {{"answer", {{"status", 429}, {"shape", "code"}}}});
    add("POST", "/api/v2/statements$", 7, {{"when", "after"}, {"drop", true}});
    add("POST", "bulk-channel-status$", 2, {{"revoke_tokens", true}});
    return {{"faults", faults}};
  }

  const bool faults_;
  SnowflakeConfig config_;
  int key_ = 0;
};

ConformanceSubject Subject(const char* name, bool faults) {
  return {.name = name,
          .make = [faults] { return std::make_unique<SnowflakePlace>(faults); },
          .signed_zeros = false,
          .seeds = 1};
}

INSTANTIATE_TEST_SUITE_P(Snowflake, Conformance, testing::Values(Subject("emulator", false)));
INSTANTIATE_TEST_SUITE_P(SnowflakeFaults, Conformance, testing::Values(Subject("faults", true)));

}  // namespace
}  // namespace etl
